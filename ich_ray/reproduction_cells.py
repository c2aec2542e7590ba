"""A figure of ours over seeds beside a printed one, and tables of such figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ich_ray.statistics.paper.lin2022 import Printed
from ich_ray.sweep import OverSeeds, over_seeds

Told = Mapping[str, float | None]
"""A figure of a report: estimate, low, high; of a difference also p."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A figure of ours beside the printed one."""

    ours: OverSeeds | None
    """None where no seed has the figure."""

    low: float | None
    """Mean over the seeds of the lower bounds over patients."""

    high: float | None
    printed: Printed | None
    """None where the paper has no such figure."""

    p: tuple[float, ...] = ()
    """Of a difference: one a seed."""

    printed_p: float | None = None

    @property
    def less_printed(self) -> float | None:
        """Ours less the printed one."""
        if self.ours is None or self.printed is None:
            return None
        return self.ours.mean - self.printed.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table."""

    title: str
    cells: Mapping[str, Cell]
    """Column -> figure; a column may be missing."""

    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of the paper, made anew."""

    name: str
    """As the paper numbers it."""

    title: str
    columns: Mapping[str, str]
    """Key of a cell -> head."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def cell(
    told: Sequence[Told], printed: Printed | None = None, *, printed_p: float | None = None
) -> Cell:
    """Return a figure over seeds.

    Args:
        told: One a seed; those without an estimate are left out.
        printed: What the paper has.
        printed_p: Its p-value.

    >>> found = cell([{"estimate": 0.9, "low": 0.8, "high": 0.95}], Printed(0.939))
    >>> round(found.less_printed, 3), found.low
    (-0.039, 0.8)
    """
    known = [one for one in told if one["estimate"] is not None]
    return Cell(
        ours=over_seeds([_float(one["estimate"]) for one in known]) if known else None,
        low=mean_of([one.get("low") for one in known]),
        high=mean_of([one.get("high") for one in known]),
        printed=printed,
        p=tuple(_float(one["p"]) for one in known if one.get("p") is not None),
        printed_p=printed_p,
    )


def table_lines(table: Table) -> list[str]:
    """Return a table as text: ours, the printed figure, and ours less that."""
    lines = [f"{table.name}: {table.title}"]
    for row in table.rows:
        for key, head in table.columns.items():
            if key in row.cells and (row.cells[key].ours or row.cells[key].printed):
                of = f"{row.title}, {head}" if len(table.columns) > 1 else row.title
                lines.append(f"  {of}: {cell_text(row.cells[key])}")
    return [*lines, *(f"  {note}" for note in table.notes)]


def cell_text(one: Cell) -> str:
    """Return a figure as text.

    >>> cell_text(cell([{"estimate": 0.9, "low": 0.8, "high": 0.95}], Printed(0.939)))
    '0.900 [0.800, 0.950], printed 0.939, less it -0.039'
    """
    if one.ours is None:
        return f"not made, printed {one.printed}"
    text = f"{one.ours.mean:.3f}"
    if one.low is not None and one.high is not None:
        text += f" [{one.low:.3f}, {one.high:.3f}]"
    if one.less_printed is not None:
        text += f", printed {one.printed}, less it {one.less_printed:+.3f}"
    return text


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of values, None where one is missing."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _float(value: float | None) -> float:
    assert value is not None
    return float(value)
