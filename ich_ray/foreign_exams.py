"""Exams as other software scored or labelled them: rows of a table -> what each exam is said to be.

The name of an exam may be its patient's: a message says in which row something is wrong, and never
what stands there.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ich_ray.errors import ConfigError
from ich_ray.foreign_cells import VALUE, Cell, Role, label_of, name_of, score_of


class Row(NamedTuple):
    """One row of a table; a column that the table lacks is None."""

    where: str
    """For messages, e.g. `data row 3`."""

    exam: Cell
    slice: Cell
    value: Cell
    """Score or label."""

    patient: Cell
    map: Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignExam:
    """What other software, or a reader, says of one exam. The names are as the file has them."""

    exam: str
    patient: str
    """The exam itself where nothing is said of its patient."""

    value: float | None
    """Score or label of the exam as a whole, 0 to 1; None: nothing is said but of its slices."""

    slices: Mapping[str, float]
    """Score or label by the name of the slice."""

    map: str | None
    """URL of the file of its pixels."""

    where: str
    """Its first row, e.g. `data row 3`: what a message may call it."""


@dataclass(slots=True)
class _Found:
    """An exam of which more rows may follow."""

    where: str
    own: str | None = None
    """Where its own row is, if it has one."""

    value: float | None = None
    slices: dict[str, float] = field(default_factory=dict)
    patient: str | None = None
    map: str | None = None


def exams_of(rows: Iterable[Row], role: Role) -> dict[str, ForeignExam]:
    """Return what the rows of a table say of each exam, by its name, in the order of the rows.

    A row without slice is of the exam as a whole. Where it stands beside rows of slices it may be
    one whose slice was forgotten: so all exams that have slices have such a row, or none has.

    Args:
        rows: Of the whole table.
        role: Whether its values are scores or labels.

    Raises:
        ConfigError: A value is missing or none, or rows contradict each other.

    >>> rows = [Row("data row 1", "a", "7", "0.25", None, None)]
    >>> exams_of(rows, "predictions")["a"].slices
    {'7': 0.25}
    """
    found: dict[str, _Found] = {}
    for row in rows:
        exam = name_of(row.exam)
        if exam is None:
            raise ConfigError(f"{row.where}, column exam: it is empty; name the exam in each row")
        _add(found.setdefault(exam, _Found(row.where)), row, role)
    if not found:
        raise ConfigError("it has no rows; write at least one exam below the header")
    _check_own_rows(found.values())
    return {
        exam: ForeignExam(
            exam=exam,
            patient=of_exam.patient or exam,
            value=of_exam.value,
            slices=of_exam.slices,
            map=of_exam.map,
            where=of_exam.where,
        )
        for exam, of_exam in found.items()
    }


def _add(found: _Found, row: Row, role: Role) -> None:
    """Add a row to what is known of its exam."""
    value = _value(row, role)
    path = name_of(row.map)
    found.patient = _same(found.patient, name_of(row.patient), row, "patient")
    found.map = _same(found.map, path, row, "map")
    name = name_of(row.slice)
    if name is None:
        if found.own is not None:
            raise ConfigError(
                f"{row.where}: its exam has a row without slice already, {found.own}; "
                "keep one of them, or name their slices"
            )
        if value is None and path is None:
            raise ConfigError(
                f"{row.where}, column {VALUE[role]}: it is empty; a row needs a {VALUE[role]}, "
                "a map, or both"
            )
        found.own, found.value = row.where, value
        return
    if name in found.slices:
        raise ConfigError(
            f"{row.where}, column slice: its exam has a row of this slice already; keep one"
        )
    if value is None:
        raise ConfigError(
            f"{row.where}, column {VALUE[role]}: it is empty; each row of a slice needs a "
            f"{VALUE[role]}, and a map is of the whole exam"
        )
    found.slices[name] = value


def _value(row: Row, role: Role) -> float | None:
    try:
        return score_of(row.value) if role == "predictions" else label_of(row.value)
    except ConfigError as error:
        raise ConfigError(f"{row.where}, column {VALUE[role]}: {error}") from None


def _same(before: str | None, now: str | None, row: Row, column: str) -> str | None:
    if before is not None and now is not None and before != now:
        raise ConfigError(
            f"{row.where}, column {column}: an earlier row of its exam names another {column}; "
            "write one an exam"
        )
    return now if before is None else before


def _check_own_rows(exams: Collection[_Found]) -> None:
    """Refuse what may be rows whose slice was forgotten: an exam's score would be one slice's."""
    with_slices = [exam for exam in exams if exam.slices]
    # A row that only names a map is not a slice's.
    own = [exam for exam in with_slices if exam.own is not None and exam.value is not None]
    if own and len(own) < len(with_slices):
        raise ConfigError(
            f"{own[0].own}, column slice: it is empty beside slices of the same exam, and "
            f"{len(with_slices) - len(own)} of {len(with_slices)} exams with slices have no row "
            "without one; name the slice if it was forgotten, or else give each of these exams a "
            "row of its own, or none"
        )
