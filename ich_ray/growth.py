"""What of a corpus is planned anew when its source has grown: whole exams, within whole parts.

A slice's row names its neighbours, so an exam with anything new is planned again from all of its
objects. Parts are replaced as a whole, and hold whole patients: the part of an affected patient
goes, and the rows of the other exams in it are taken over as they are, without being read again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ich_ray.ingest_plan import Entry, Planned


@dataclass(frozen=True, slots=True)
class Growth:
    """What new and changed objects do to a corpus."""

    exams: frozenset[str]
    """Planned anew."""

    parts: frozenset[str]
    """Replaced."""

    again: Sequence[Entry]
    """Objects of the exams, unchanged and still in the source: they are read again."""

    kept: Sequence[Entry]
    """Objects of the parts whose rows are taken over: of other exams, or gone from the source."""

    taken: frozenset[tuple[str, str | None]]
    """(role, slice) of what other exams hold, or hold rejected: copies of it are duplicates."""


def growth_of(
    held: Collection[Entry],
    placed: Iterable[Planned],
    *,
    changed: Collection[str],
    here: Collection[str],
    anew: Collection[str] = (),
) -> Growth:
    """Return what is planned anew.

    Args:
        held: The ledger.
        placed: The new and the changed objects, as far as they have a place.
        changed: `source` of those that the ledger held before, with other content.
        here: `source` of all objects of the listing.
        anew: Exams of which something else is new: their labels.
    """
    new = list(placed)
    exams = {item.exam for item in new}.union(anew)
    if not held:
        return Growth(frozenset(exams), frozenset(), [], [], frozenset())
    exams |= _exams_of_copies(held, new, changed)
    patients = {item.patient for item in new}
    patients |= {row.patient for row in held if row.exam in exams and row.patient is not None}
    parts = {row.part for row in held if row.patient in patients and row.part is not None}
    again: list[Entry] = []
    kept: list[Entry] = []
    taken = set()
    for row in held:
        if row.exam not in exams:
            if row.outcome != "duplicate":
                taken.add((row.role, row.slice))
            if row.outcome == "accepted" and row.part in parts:
                kept.append(row)
        elif row.source not in changed:
            if row.source in here:
                again.append(row)
            elif row.outcome == "accepted":
                kept.append(row)
    return Growth(frozenset(exams), frozenset(parts), again, kept, frozenset(taken))


def _exams_of_copies(
    held: Collection[Entry], new: Iterable[Planned], changed: Collection[str]
) -> set[str]:
    """Return the exams of a ledger that hold what has changed, or a copy of a slice that is new.

    Copies of a slice may lie in several exams, and the first by key counts: all are asked again.
    """
    slices: set[tuple[str, str | None]] = {(item.role, item.slice) for item in new}
    slices |= {(row.role, row.slice) for row in held if row.source in changed}
    return {
        row.exam
        for row in held
        if row.exam is not None and (row.source in changed or (row.role, row.slice) in slices)
    }
