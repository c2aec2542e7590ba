"""What corpora hold in common, and what one corpus holds twice: patients, slices and images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from ich_ray.exam_rules import EXAMPLES
from ich_ray.findings import Finding, Oddity

Keys = Shaped[np.ndarray, " slice"]
"""Pseudonyms, or fingerprints of images, as bytes of ASCII."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Members:
    """The slices of a corpus, or of a part of its patients, one row each."""

    corpus: str
    key_fingerprint: str
    """Of the key of the pseudonyms: those of different keys say nothing about each other."""

    exam: Keys
    slice: Keys
    patient: Keys
    image: Keys
    """See `slice_facts.image_fingerprint`."""

    blank: Bool[np.ndarray, " slice"]
    """Images that are alike without being copies."""

    def chosen(self, rows: Bool[np.ndarray, " slice"]) -> "Members":
        """Return some of the slices."""
        return Members(
            corpus=self.corpus,
            key_fingerprint=self.key_fingerprint,
            exam=self.exam[rows],
            slice=self.slice[rows],
            patient=self.patient[rows],
            image=self.image[rows],
            blank=self.blank[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedExam:
    """Two exams of two corpora that hold the same images."""

    a_exam: str
    b_exam: str
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What two corpora have in common."""

    a: str
    b: str
    patients: int | None
    """None where the corpora's pseudonyms have different keys, and cannot be compared."""

    slices: int | None
    images: int
    exams: tuple[SharedExam, ...]
    """Pairs of exams by images, most first."""

    def __bool__(self) -> bool:
        """Tell whether they have anything in common."""
        return bool(self.patients or self.slices or self.images)


def between(a: Members, b: Members) -> Shared:
    """Return what two corpora have in common."""
    joined = a.key_fingerprint == b.key_fingerprint
    ours, our_rows = np.unique(a.image[~a.blank], return_index=True)
    theirs, their_rows = np.unique(b.image[~b.blank], return_index=True)
    _, at_ours, at_theirs = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    a_exams = a.exam[~a.blank][our_rows[at_ours]].tolist()
    b_exams = b.exam[~b.blank][their_rows[at_theirs]].tolist()
    pairs = Counter(zip(a_exams, b_exams, strict=True))
    return Shared(
        a=a.corpus,
        b=b.corpus,
        patients=len(np.intersect1d(a.patient, b.patient)) if joined else None,
        slices=len(np.intersect1d(a.slice, b.slice)) if joined else None,
        images=len(at_ours),
        exams=tuple(
            SharedExam(a_exam=pair[0].decode(), b_exam=pair[1].decode(), images=images)
            for pair, images in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def leaked(test: Sequence[Members], training: Sequence[Members]) -> tuple[int, int]:
    """Return how many patients, and how many images, stand on both sides.

    An image tells of a leak that pseudonyms hide: one person under two names, or two keys.
    """
    patients: set[bytes] = set()
    images: set[bytes] = set()
    for ours in test:
        for theirs in training:
            if ours.key_fingerprint == theirs.key_fingerprint:
                patients |= set(np.intersect1d(ours.patient, theirs.patient).tolist())
            common = np.intersect1d(ours.image[~ours.blank], theirs.image[~theirs.blank])
            images |= set(common.tolist())
    return len(patients), len(images)


def within(members: Members) -> list[Finding]:
    """Return what one corpus holds more than once."""
    found = [
        _finding(members, Oddity.SLICE_TWICE, rows, "") for rows in _by_exam_of_repeated(members)
    ]
    # In the order of exams, a change of patient without one of exam is an exam of two.
    order = np.lexsort((members.patient, members.exam))
    exam, patient = members.exam[order], members.patient[order]
    torn = (exam[1:] == exam[:-1]) & (patient[1:] != patient[:-1])
    for name in np.unique(exam[1:][torn]):
        rows = np.flatnonzero(members.exam == name)
        said = f"{len(np.unique(members.patient[rows]))} patients"
        found.append(_finding(members, Oddity.EXAM_OF_TWO_PATIENTS, rows, said))
    return found + _copies(members)


def _copies(members: Members) -> list[Finding]:
    """Find the images that several slices hold, by exam, and the worst that it means."""
    rows_of: dict[tuple[Oddity, bytes], list[int]] = {}
    other: dict[tuple[Oddity, bytes], bytes] = {}
    shown = np.flatnonzero(~members.blank)
    for group in repeated(members.image[shown]):
        rows = shown[group].tolist()
        exams = list(dict.fromkeys(members.exam[rows].tolist()))
        if len(set(members.patient[rows].tolist())) > 1:
            oddity = Oddity.IMAGE_UNDER_TWO_PATIENTS
        elif len(exams) > 1:
            oddity = Oddity.IMAGE_IN_TWO_EXAMS
        else:
            oddity = Oddity.IMAGE_TWICE_IN_EXAM
        for row in rows:
            exam = members.exam[row].tobytes()
            rows_of.setdefault((oddity, exam), []).append(row)
            if len(exams) > 1:
                other.setdefault((oddity, exam), exams[exams[0] == exam])
    return [
        _finding(
            members,
            oddity,
            np.array(rows),
            f"also in exam {other[oddity, exam].decode()}" if (oddity, exam) in other else "",
        )
        for (oddity, exam), rows in rows_of.items()
    ]


def repeated(keys: Keys) -> Iterator[Integer[np.ndarray, " row"]]:
    """Yield the rows of each key that stands in more than one.

    >>> [rows.tolist() for rows in repeated(np.array([b"x", b"y", b"x"]))]
    [[0, 2]]
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.pad(ordered[1:] == ordered[:-1], 1)
    starts = np.flatnonzero(~same[:-1] & same[1:])
    ends = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, end in zip(starts, ends, strict=True):
        yield order[start:end]


def _by_exam_of_repeated(members: Members) -> Iterator[Integer[np.ndarray, " row"]]:
    twice = [row for rows in repeated(members.slice) for row in rows.tolist()]
    by_exam: dict[bytes, list[int]] = {}
    for row in twice:
        by_exam.setdefault(members.exam[row].tobytes(), []).append(row)
    return (np.array(rows) for rows in by_exam.values())


def _finding(
    members: Members, oddity: Oddity, rows: Sequence[int] | Integer[np.ndarray, " row"], said: str
) -> Finding:
    slices = sorted({key.decode() for key in members.slice[rows].tolist()})
    return Finding(
        oddity=oddity,
        corpus=members.corpus,
        exam=members.exam[rows[0]].decode(),
        count=len(rows),
        slices=tuple(slices[:EXAMPLES]),
        detail=said,
    )
