"""Masks that say nothing of their exams: whose they are, by the slices that they lie beside."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from ich_ray.errors import Reason
from ich_ray.ingest_plan import Entry, Planned, homes_of, nearest_exam
from ich_ray.storage.corpora.layout import Beside, Place
from ich_ray.storage.source import Source


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks that say nothing of their exams, placed by the slices that they lie beside."""

    moved: Sequence[str]
    """`source` of those that are new, or belong to another exam than before."""

    placed: Mapping[str, Planned]
    """By `source`."""

    refused: Mapping[str, Entry]
    """Rows of those that belong to no exam, or to more than one."""


def masks_beside(source: Source, placed: Iterable[Planned]) -> Masks:
    """Place all masks of the listing that lie beside their slices, of whatever ingest.

    Args:
        source: Of the masks and the slices.
        placed: The new and the changed objects.
    """
    lying = []
    for item in source.listed:
        place = source.layout.place(item.key) if source.role(item) == "mask" else None
        if isinstance(place, Beside):
            lying.append((item, place))
    if not lying:
        return Masks([], {}, {})
    new = ((item.key, item.patient, item.exam) for item in placed if item.role == "slice")
    here, gone = _known_homes(source)
    homes = homes_of(itertools.chain(new, here))
    names = {source.names[item.key] for item, _ in lying}
    before = {row.source: row for row in source.ledger.where("source", names - source.changed)}
    found: dict[str, Planned] = {}
    refused: dict[str, Entry] = {}
    for item, place in lying:
        name = source.names[item.key]
        exam = nearest_exam(place.folder, homes, climb=place.climb)
        row = before.get(name)
        # Where slices of its exam lay that are gone, nobody knows: it stays with them.
        if row is not None and row.patient is not None and row.exam in gone:
            exam = (row.patient, row.exam)
        if exam is None:
            refused[name] = source.entry(item, "mask", Reason.MASK_WITHOUT_SLICE)
        else:
            hashed = source.placed(item, "mask", Place("", "", item.key))
            found[name] = hashed._replace(patient=exam[0], exam=exam[1])
    # Slices that came may be nearer, or leave the choice open.
    moved = [
        name
        for name in sorted(names)
        if name not in before or before[name].exam != (found[name].exam if name in found else None)
    ]
    return Masks(moved, found, refused)


def _known_homes(source: Source) -> tuple[list[tuple[str, str, str]], set[str]]:
    """Return what the ledger says of slices.

    Returns:
        (key, patient and exam of those that are as they were, exams of those that are gone).
    """
    keys = {name: key for key, name in source.names.items()}
    rows = source.ledger.rows.select(["source", "patient", "exam", "role"])
    rows = rows.filter(pc.and_(pc.equal(rows["role"], "slice"), pc.is_valid(rows["patient"])))
    columns = (rows[name].to_pylist() for name in ("source", "patient", "exam"))
    here: list[tuple[str, str, str]] = []
    gone: set[str] = set()
    for name, patient, exam in zip(*columns, strict=True):
        if name not in keys:
            gone.add(exam)
        elif name not in source.changed:
            here.append((keys[name], patient, exam))
    return here, gone
