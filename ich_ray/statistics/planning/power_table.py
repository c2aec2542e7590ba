"""What corpora of several sizes can show, as a table for a person who plans a test."""

from collections.abc import Sequence
from dataclasses import dataclass

from ich_ray.errors import ConfigError
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.planning.power import Pilot, detectable, power, size_needed


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerRow:
    """A corpus of one size."""

    size: int
    """In the pilot's unit."""

    power: tuple[Interval, ...]
    """Of each difference of the table."""

    detectable_80: Interval
    """Smallest true difference that is shown with a power of 80 %."""

    detectable_90: Interval
    """The same of 90 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerTable:
    """What corpora of several sizes show of the difference of two models, in one metric."""

    pilot: Pilot
    differences: tuple[float, ...]
    """True differences that are asked about."""

    needed: tuple[Interval, ...]
    """Of each, the size that shows it with a power of 80 %."""

    rows: tuple[PowerRow, ...]
    """By size."""


def power_table(pilot: Pilot, *, sizes: Sequence[int], differences: Sequence[float]) -> PowerTable:
    """Return what corpora of these sizes show.

    Args:
        pilot: Tells how the difference varies.
        sizes: In the pilot's unit, in any order.
        differences: True differences, not 0; their sign does not matter.

    Raises:
        ConfigError: There is no size or no difference, a difference is 0, or a corpus is too small
            for a normal test.
    """
    if not sizes or not differences:
        raise ConfigError("a table of power needs at least one size and one difference")
    return PowerTable(
        pilot=pilot,
        differences=tuple(differences),
        needed=tuple(size_needed(pilot, one) for one in differences),
        rows=tuple(
            PowerRow(
                size=size,
                power=tuple(power(pilot, one, size=size) for one in differences),
                detectable_80=detectable(pilot, size=size),
                detectable_90=detectable(pilot, size=size, at=0.9),
            )
            for size in sorted(sizes)
        ),
    )


def table_lines(tables: Sequence[PowerTable]) -> list[str]:
    """Return tables as text, a block each, and what their columns mean."""
    lines = []
    for table in tables:
        lines += [*_block(table), ""]
    return lines + list(NOTES) if lines else []


NOTES = (
    "at 80 %, at 90 %: smallest true difference that so many show with this power, by a two-sided",
    "  test at 5 %. power of: how often so many show this difference; needed: so many show it with",
    "  a power of 80 %.",
    "In brackets (95 %) what the pilot leaves open: other patients would have told something else.",
    "  Whether the planned corpus is like the pilot, no figure knows.",
)


def _block(table: PowerTable) -> list[str]:
    pilot = table.pilot
    positive, negative = pilot.patients
    head = ["at 80 %", "at 90 %", *(f"power of {one:g}" for one in table.differences)]
    grid = [[pilot.unit, *head]]
    for row in table.rows:
        shown = [_text(one, "{:.4f}") for one in (row.detectable_80, row.detectable_90)]
        grid.append([f"{row.size:,}", *shown, *(_text(one, "{:.2f}") for one in row.power)])
    grid.append(["needed", "", "", *(_text(one, "{:,.0f}") for one in table.needed)])
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return [
        f"{pilot.metric}: {100 * pilot.prevalence:.3g} % positive; the pilot has {positive} "
        f"patients with and {negative} without",
        *(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in grid
        ),
    ]


def _text(value: Interval, number: str) -> str:
    low, estimate, high = (number.format(one) for one in (value.low, value.estimate, value.high))
    return f"{estimate} [{low}, {high}]"
