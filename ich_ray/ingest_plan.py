"""What becomes of the objects of a source: which count, and which are read together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ich_ray.errors import Reason
from ich_ray.identity import content_hash

Subtypes = tuple[bool, bool, bool, bool, bool]


class Truth(NamedTuple):
    """What a table of labels says of a slice."""

    label: bool | None = None
    subtypes: Subtypes | None = None


_NO_SLICES: Mapping[str, Truth] = MappingProxyType({})
"""Shared: there may be a million objects."""


class Planned(NamedTuple):
    """One object that a part will read; all but the key and the URL is pseudonymous.

    A tuple: a frozen dataclass takes four times as long to make, and there may be a million.
    """

    key: str
    url: str
    source: str
    etag: str
    size: int
    role: Literal["slice", "mask"]
    patient: str
    exam: str
    slice: str
    """Of a mask: the pseudonym of the mask object itself, or of its slice. Of a volume: its own."""

    series: str = ""
    """Empty where the key alone places the object: such layouts hold one series an exam."""

    truth: Truth = Truth()
    exam_truth: Truth = Truth()
    """What is said of the exam as a whole."""

    num_slices: int = 1
    """Of a volume, about."""

    slices: Mapping[str, Truth] = _NO_SLICES
    """Of a volume: the slices that the labels name, and what they say of each."""

    kept_in: str = ""
    """Part that holds its rows, where these are taken over; empty: the object is read."""

    gone: bool = False
    """Its rows are taken over into an exam that is planned anew, since its object is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A row of the ledger: what became of one object; `source` is the pseudonym of its key."""

    source: str
    etag: str
    size: int
    role: str
    outcome: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None
    patient: str | None = None
    exam: str | None = None
    slice: str | None = None
    part: str | None = None


def missing_slice(slice: str, exam: str | None = None) -> Entry:
    """Return the row of a label whose slice no object holds; an exam if one names the slice."""
    reason = Reason.MISSING.value
    return Entry(
        source=slice,
        etag="",
        size=0,
        role="slice",
        outcome="rejected",
        reason=reason,
        exam=exam,
        slice=None if exam is None else slice,
    )


def is_volume(key: str) -> bool:
    """Tell by its key whether an object holds many slices.

    >>> is_volume("ct_scans/049.nii"), is_volume("049.NII.GZ"), is_volume("049.dcm")
    (True, True, False)
    """
    return key.lower().endswith((".nii", ".nii.gz"))


def slices_about(key: str, size: int) -> int:
    """Return about how many slices of 512 x 512 an object of this size holds; at least 1.

    >>> slices_about("a.dcm", 10**7), slices_about("a.nii", 15_728_992)
    (1, 30)
    """
    if not is_volume(key):
        return 1
    # Head CT deflates to about a third.
    return max(1, size * (3 if key.lower().endswith(".gz") else 1) // 524_288)


def homes_of(slices: Iterable[tuple[str, str, str]]) -> dict[str, set[tuple[str, str]]]:
    """Return (patient, exam) of the slices below every folder, by the folder's key.

    Args:
        slices: (key, patient, exam) of each.
    """
    homes: dict[str, set[tuple[str, str]]] = {}
    # Each folder once: there may be a million slices in a thousand folders.
    for folder, patient, exam in {(key.rpartition("/")[0], *home) for key, *home in slices}:
        homes.setdefault(folder, set()).add((patient, exam))
        while folder:
            folder = folder.rpartition("/")[0]
            homes.setdefault(folder, set()).add((patient, exam))
    return homes


def nearest_exam(
    folder: str, homes: Mapping[str, set[tuple[str, str]]], *, climb: bool
) -> tuple[str, str] | None:
    """Return the one exam of a folder, or of the nearest folder above it that has any.

    Args:
        folder: Key of a folder, without a slash at its end.
        homes: Of the slices of a source.
        climb: Whether to look above the folder.

    Returns:
        Patient and exam; None where there is no exam, or more than one.
    """
    while climb and folder and folder not in homes:
        folder = folder.rpartition("/")[0]
    exams = homes.get(folder, set())
    return next(iter(exams)) if len(exams) == 1 else None


def first_by_key(
    objects: Iterable[Planned], *, known: Collection[tuple[str, str | None]]
) -> tuple[list[Planned], list[Planned]]:
    """Divide objects into those to read, in the order of their keys, and the duplicates.

    Args:
        objects: The new ones of a source, of any order.
        known: (role, slice) of what others hold: whatever repeats it is a duplicate.
    """
    seen = set(known)
    first: list[Planned] = []
    duplicates: list[Planned] = []
    for item in sorted(objects, key=lambda item: item.key):
        # A mask of CT-ICH has the name of its slice, a segmentation its own.
        place = (item.role, item.slice)
        (duplicates if place in seen else first).append(item)
        seen.add(place)
    return first, duplicates


def parts_by_patient(objects: Iterable[Planned], *, slices_per_part: int) -> list[list[Planned]]:
    """Divide objects into parts by patient, never a patient over two.

    A part holds at most `slices_per_part` slices, unless its only patient has more.
    """
    by_patient: dict[str, list[Planned]] = {}
    for item in objects:
        by_patient.setdefault(item.patient, []).append(item)
    parts: list[list[Planned]] = []
    room = 0
    for patient in sorted(by_patient):
        slices = sum(item.num_slices for item in by_patient[patient] if item.role == "slice")
        if not parts or slices > room:
            parts.append([])
            room = slices_per_part
        parts[-1].extend(by_patient[patient])
        room -= slices
    return parts


def part_name(  # noqa: PLR0913  (whatever decides its bytes)
    objects: Sequence[Planned],
    *,
    schema_version: str,
    layout: str,
    key_fingerprint: str,
    average_to_mm: float = 0.0,
    replaces: Collection[str] = (),
) -> str:
    """Return the name of a part: the hash of what decides its bytes, whatever the order.

    Args:
        objects: Of the part.
        schema_version: Of the corpus.
        layout: Of the source.
        key_fingerprint: Of the pseudonyms' key.
        average_to_mm: Of the corpus.
        replaces: Parts in whose place it comes: what was a part's name never names another file,
            not even where objects return to what they were.
    """
    content: dict[str, Any] = {
        "schema": schema_version,
        "layout": layout,
        "key": key_fingerprint,
        "average_to_mm": average_to_mm,
        "objects": sorted(
            [
                item.source,
                item.etag,
                *_said(item.truth),
                *_said(item.exam_truth),
                *_said_of_slices(item),
            ]
            for item in objects
        ),
    }
    if replaces:
        content["replaces"] = sorted(replaces)
    return content_hash(content)


def _said(truth: Truth) -> tuple[bool | None, Subtypes | tuple[()]]:
    return truth.label, truth.subtypes or ()


def _said_of_slices(volume: Planned) -> list[list[object]]:
    return [[name, *_said(volume.slices[name])] for name in sorted(volume.slices)]


def labels_without_object(
    expected_keys: Mapping[str, str], *, slices: Collection[str], keys: Collection[str]
) -> list[str]:
    """Return the keys of labelled slices that a source does not hold.

    Where no label at all finds its slice, none is missing: they are the labels of another
    folder, such as those of the training slices beside the test's.

    Args:
        expected_keys: Slice of a label -> the key that its object would have.
        slices: Those that were found.
        keys: Of all objects of the source.
    """
    absent = [key for name, key in expected_keys.items() if name not in slices and key not in keys]
    return [] if len(absent) == len(expected_keys) else absent


def truth_changed(now: Truth, *, label: bool | None, subtypes: Sequence[bool] | None) -> bool:
    """Tell whether a slice's row in the corpus disagrees with what the labels say now."""
    if now.label is None:
        # The corpus may know a label from a mask; a row that vanished from the labels is a change.
        return subtypes is not None
    there = None if subtypes is None else tuple(subtypes)
    return (label, there) != (now.label, now.subtypes)
