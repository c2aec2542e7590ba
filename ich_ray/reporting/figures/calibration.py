"""Reliability of the models' scores as a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.style import INK, empty_figure, styled
from ich_ray.statistics.calibration.calibration import (
    NUM_SCORE_PARTS,
    Calibration,
    ModelCalibration,
)

MARKERS = "osD^v"


def reliability_diagram(
    models: Sequence[ModelResult], calibrations: Sequence[ModelCalibration]
) -> bytes:
    """Share of positive exams against score, bin by bin, above the histogram of the scores.

    Args:
        models: In the order of the report; those without a calibration are left out.
        calibrations: On the test exams; drawn as they are, before a temperature.
    """
    found = {one.model: one.test for one in calibrations}
    with empty_figure(4.8, 6.9) as (figure, buffer):
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        above.plot([0, 1], [0, 1], color=INK, linewidth=0.9, dashes=(1, 3))
        lines, labels = [], []
        drawn = [model for model in models if model.name in found]
        for number, (model, style) in enumerate(styled(drawn)):
            marker = MARKERS[number % len(MARKERS)]
            lines.append(_draw_bins(above, found[model.name], {**style, "marker": marker}))
            labels.append(model.title)
            _draw_histogram(below, found[model.name], style)
        above.set(ylabel="Share of exams with hemorrhage", ylim=(-0.02, 1.02))
        below.set(xlabel="Score", ylabel="Exams", xlim=(-0.02, 1.02))
        below.margins(y=0.08)
        below.set_ylim(bottom=0)
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        for axes in (above, below):
            axes.grid(visible=True)
        if lines:
            figure.legend(lines, labels, loc="outside lower left", alignment="left")
    return buffer.getvalue()


def _draw_bins(axes: Axes, found: Calibration, style: dict[str, Any]) -> Any:
    said = [one.mean_score for one in found.bins]
    seen = [one.observed for one in found.bins]
    axes.vlines(
        said,
        [one.low for one in seen],
        [one.high for one in seen],
        color=style["color"],
        linewidth=1,
        alpha=0.6,
    )
    shares = [one.estimate for one in seen]
    return axes.plot(said, shares, **{**style, "linewidth": 1.2}, markersize=5)[0]


def _draw_histogram(axes: Axes, found: Calibration, style: dict[str, Any]) -> None:
    steps = axes.stairs(
        found.score_counts,
        np.linspace(0, 1, NUM_SCORE_PARTS + 1),
        color=style["color"],
        linewidth=0.8 * style["linewidth"],
    )
    if style["dashes"] != (None, None):
        steps.set_linestyle((0, style["dashes"]))
