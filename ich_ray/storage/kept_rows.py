"""Rows that a part takes over from a part that it replaces, without their objects."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from ich_ray.errors import SurroundingsError
from ich_ray.exam import Slice
from ich_ray.ingest_plan import Planned
from ich_ray.storage import corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import iterate_groups, part_path
from ich_ray.storage.urls import join


def kept_groups(store: Store, name: str, kept: Sequence[Planned]) -> Iterator[pa.Table]:
    """Yield whole exams as they are, one row group at a time.

    Args:
        store: Reaches the corpus.
        name: Of the corpus.
        kept: All objects of the exams.
    """
    for part, exams in _exams_by_part(kept).items():
        yield from iterate_groups(
            store, _url(store, name, part), where=("exam", exams.__contains__)
        )


def with_kept(
    store: Store,
    name: str,
    slices: Sequence[Slice],
    kept: Sequence[Planned],
    *,
    averages: bool,
) -> list[Slice]:
    """Return an exam's slices, those whose objects are gone from the source among them.

    A mask whose object is gone stays on its slices, unless an object that is there marks them.

    Args:
        store: Reaches the corpus.
        name: Of the corpus.
        slices: Of the objects that are there.
        kept: Slices and masks of the same exam that are gone.
        averages: Whether the corpus holds averages of slices.

    Raises:
        SurroundingsError: The corpus does not hold a row of its own for each kept slice.
    """
    if not kept:
        return list(slices)
    before = _slices(store, name, kept)
    gone = [item.slice for item in kept if item.role == "slice"]
    masks = {item.slice for item in kept if item.role == "mask"}
    there = {item.key for item in slices}
    lost = [key for key in gone if averages or key not in before]
    # A row of the mean of several slices, or of a volume, is none of theirs.
    unfit = [item for item in slices if masks and _unfit(item, before.get(item.key))]
    if lost or unfit or (masks and slices and (averages or there.isdisjoint(before))):
        raise SurroundingsError(
            f"{len(gone) + len(masks)} objects of exam {kept[0].exam} of corpus {name} are gone "
            "from the source, and their rows cannot be taken over; put the objects back, then run "
            "the same command again"
        )
    # A segmentation has a name of its own, and may mark any slice of the exam.
    masked = masks if masks <= there.union(gone) else there
    now = [
        _with_mask(item, before.get(item.key)) if item.key in masked else item for item in slices
    ]
    return now + [before[key] for key in gone]


def _with_mask(item: Slice, before: Slice | None) -> Slice:
    if before is None or before.mask is None or (item.mask is not None and item.mask.any()):
        return item
    # A table of labels says more than a mask.
    label = before.label if item.subtypes is None else item.label
    return replace(item, mask=before.mask, label=label)


def _unfit(item: Slice, before: Slice | None) -> bool:
    """Tell whether a slice that has changed has other pixels than its mask."""
    return before is not None and before.mask is not None and before.mask.shape != item.stored.shape


def _slices(store: Store, name: str, kept: Sequence[Planned]) -> Mapping[str, Slice]:
    found = {}
    patients = {item.patient for item in kept}
    for part, exams in _exams_by_part(kept).items():
        url = _url(store, name, part)
        for exam in corpus.read_exams(store, url, splits=patients.__contains__):
            if exam[0].exam in exams:
                found.update({item.key: item for item in exam})
    return found


def _exams_by_part(kept: Sequence[Planned]) -> Mapping[str, Collection[str]]:
    parts: dict[str, set[str]] = defaultdict(set)
    for item in kept:
        parts[item.kept_in].add(item.exam)
    return parts


def _url(store: Store, name: str, part: str) -> str:
    return join(corpus.slices_url(store, name), part_path(part))
