"""Differences that corpora of several sizes can show, as a picture."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from ich_ray.reporting.figures.style import COLOURS, one_panel
from ich_ray.statistics.planning.power_table import PowerTable


def detectable_differences(tables: Sequence[PowerTable]) -> bytes:
    """Smallest difference that is shown with a power of 80 %, against the size of the corpus.

    Args:
        tables: One a metric, at least one. The band of each is what its pilot leaves open; far up
            it is cut off.
    """
    with one_panel(7.2, 4.0) as (_, axes, buffer):
        for i, table in enumerate(tables):
            dashes = (None, None) if i == 0 else (5, 1 + i)
            style = {"color": COLOURS[i % len(COLOURS)], "dashes": dashes}
            _draw(axes, table, style, marker="osD^v"[i % 5])
        found = [row.detectable_80 for table in tables for row in table.rows]
        units = list(dict.fromkeys(table.pilot.unit for table in tables))
        axes.set(
            xscale="log",
            ylim=(0, 1.05 * max(min(one.high, 2 * one.estimate) for one in found)),
            xlabel=f"Size of the test corpus, in {' or '.join(units)} (log scale)",
            ylabel="Smallest difference shown\nwith a power of 80 %",
        )
        axes.set_xticks(sorted({row.size for table in tables for row in table.rows}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(visible=True)
        axes.legend(
            loc="upper right", title="Bands: what the pilot leaves open (95 %)", alignment="left"
        )
    return buffer.getvalue()


def _draw(axes: Axes, table: PowerTable, style: dict[str, Any], *, marker: str) -> None:
    sizes = [row.size for row in table.rows]
    found = [row.detectable_80 for row in table.rows]
    # No difference is above 1; an endless bound has no place on paper.
    ends = [one.low for one in found], [min(one.high, 1.0) for one in found]
    axes.fill_between(sizes, *ends, color=style["color"], alpha=0.12, linewidth=0)
    for end in ends:
        axes.plot(sizes, end, linewidth=0.7, **style)
    estimates = [one.estimate for one in found]
    label = _label(table)
    axes.plot(sizes, estimates, marker=marker, markersize=4, linewidth=1.8, label=label, **style)


def _label(table: PowerTable) -> str:
    pilot = table.pilot
    positive, negative = pilot.patients
    return (
        f"{pilot.metric}, by {pilot.unit}, {100 * pilot.prevalence:.3g} % of them positive\n"
        f"(pilot: {positive} patients with, {negative} without)"
    )
