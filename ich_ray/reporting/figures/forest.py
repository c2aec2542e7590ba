"""Differences of models and their intervals as a picture."""

from collections.abc import Sequence
from typing import Any

from ich_ray.reporting.contents import NamedDifference
from ich_ray.reporting.figures.style import COLOURS, INK, MUTED, one_panel
from ich_ray.reporting.headline import SHORT, verdict
from ich_ray.statistics.comparison import Metric


def forest(titles: Sequence[str], differences: Sequence[NamedDifference]) -> bytes:
    """Differences with their intervals; filled where they are told from zero at 95 %."""
    rows: list[tuple[str, Metric | None, Any]] = []
    for title, pair in zip(titles, differences, strict=True):
        rows.append((title, None, None))
        for metric, difference in pair.metrics().items():
            if verdict(difference) != "not measured":
                rows.append((SHORT[metric], metric, difference))
    with one_panel(7.2, 0.7 + 0.24 * len(rows)) as (_, axes, buffer):
        axes.axvline(0, color=INK, linewidth=0.9)
        for y, (_, of_metric, difference) in enumerate(rows):
            if of_metric is not None:
                known = verdict(difference) != "not distinguishable"
                style: dict[str, Any] = {"color": COLOURS[0] if known else MUTED}
                axes.plot([difference.low, difference.high], [y, y], linewidth=1.6, **style)
                face = style["color"] if known else "white"
                axes.plot(difference.estimate, y, "o", markersize=5, mfc=face, **style)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        for tick, (_, of_metric, _) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set(color=INK, fontweight="normal" if of_metric else "bold")
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(rows) - 0.5, -0.7), xlabel="Difference, with its 95 % interval")
        axes.spines.left.set_visible(False)
        axes.grid(visible=True, axis="x")
    return buffer.getvalue()
