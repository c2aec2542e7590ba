"""Differences of two models over the resamples of the published procedure, as a picture."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.stats import norm

from ich_ray.reporting.contents import NamedDifference
from ich_ray.reporting.figures.style import COLOURS, INK, MINUS, MUTED, empty_figure
from ich_ray.reporting.headline import SHORT
from ich_ray.statistics.bootstrap import Difference
from ich_ray.statistics.paper.figures import PaperDifference, PaperFigures

BINS = 40
ROOM = 1.3
"""Height of a panel, the tallest bar being 1: above the bars lies the default's interval."""


def resampled_differences(paper: PaperFigures, default: NamedDifference | None = None) -> bytes:
    """Histogram of each metric's differences with normal curve, percentiles and line of zero.

    A metric whose difference does not vary, or is defined in fewer than two resamples, has no
    panel.

    Args:
        paper: The published procedure, first model minus second.
        default: The same difference by our own methods, whose intervals lie above the histograms.
    """
    shown = {name: of.difference for name, of in paper.metrics.items() if of.difference.sd > 0}
    defaults = default.metrics() if default else {}
    with empty_figure(7.2, 3.3) as (figure, buffer):
        panels = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
        for axes, (name, difference) in zip(panels, shown.items(), strict=False):
            _draw_resamples(axes, difference)
            _draw_default(axes, defaults.get(name))
            axes.set_title(SHORT[name], fontsize=9, loc="left", color=INK, fontweight="bold")
        if shown:
            panels[0].set_ylabel("Resamples")
            named = {
                label: handle
                for axes in panels
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=3)
        else:
            panels[0].set_axis_off()
            panels[0].text(0, 0.5, "No difference varies over the resamples.")
    return buffer.getvalue()


def _draw_resamples(axes: Axes, difference: PaperDifference) -> None:
    values = difference.resampled[~np.isnan(difference.resampled)]
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    counts, *_ = axes.hist(
        values, edges.tolist(), color=COLOURS[4], histtype="stepfilled", label="resamples"
    )
    grid = np.linspace(*_reach(difference), 200)
    curve = norm.pdf(grid, difference.mean, difference.sd) * len(values) * (edges[1] - edges[0])
    axes.plot(grid, curve, color=COLOURS[0], linewidth=1.6, label="normal, as the paper takes them")
    top = max(float(np.max(counts)), float(curve.max()))
    style: dict[str, Any] = {"color": COLOURS[1], "linewidth": 1.2, "dashes": (4, 2)}
    for bound in (difference.found.low, difference.found.high):
        axes.axvline(bound, ymax=1 / ROOM, label="2.5th and 97.5th percentile", **style)
    axes.axvline(0, color=INK, linewidth=1.2, label="no difference")
    axes.set(ylim=(0, ROOM * top), xlabel="Difference")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", MINUS)))


def _reach(difference: PaperDifference) -> tuple[float, float]:
    """Where the normal curve is drawn: 3.5 deviations to both sides."""
    return difference.mean - 3.5 * difference.sd, difference.mean + 3.5 * difference.sd


def _draw_default(axes: Axes, default: Difference | None) -> None:
    if default is None or not np.isfinite([default.low, default.high]).all():
        return
    place = 0.92 * axes.get_ylim()[1]
    label = "95 % interval of the default"
    ends = [default.low, default.high]
    axes.plot(ends, [place] * 2, "-|", color=MUTED, linewidth=1.6, label=label)
    axes.plot(default.estimate, place, "o", markersize=5, color=MUTED)
