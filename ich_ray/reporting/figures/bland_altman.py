"""Volumes against the reference as a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.style import INK, MINUS, MUTED, empty_figure, styled
from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.masks.agreement import VolumeAgreement

A_ROW = 3
"""Panels side by side; more go below."""

LINEAR_ML = 1.0
"""Volumes up to here are drawn on an even scale, larger ones on that of their logarithm."""

DRAWN_ONE_BY_ONE = 1000
"""More points than these become pixels, or else the page would grow by 200 bytes a point."""


def bland_altman_panels(models: Sequence[ModelResult], volumes: Sequence[VolumeAgreement]) -> bytes:
    """Mean against difference of the volumes, a panel a model, on the same axes.

    Args:
        models: Those of the report, for titles and colours.
        volumes: Of these models, in any order; those without limits are left out.
    """
    found = {one.model: one for one in volumes if np.isfinite(one.differences.within)}
    drawn = list(styled([model for model in models if model.name in found]))
    columns = max(1, min(A_ROW, len(drawn)))
    rows = max(1, -(-len(drawn) // columns))
    with empty_figure(max(4.8, 2.6 * columns), 0.6 + 2.7 * rows) as (figure, buffer):
        figure.set_dpi(200)  # of what becomes pixels
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel in panels.flat[len(drawn) :]:
            panel.set_visible(False)
        for panel, (model, style) in zip(panels.flat, drawn, strict=False):
            _panel(panel, model.title, found[model.name], style["color"])
        figure.supxlabel("Mean of predicted and reference volume, ml", fontsize=9, color=INK)
        figure.supylabel(f"Predicted {MINUS} reference, ml", fontsize=9, color=INK)
    return buffer.getvalue()


def _panel(axes: Axes, title: str, volumes: VolumeAgreement, colour: Any) -> None:
    differences = volumes.predicted_ml - volumes.reference_ml
    means = (volumes.predicted_ml + volumes.reference_ml) / 2
    axes.set_xscale("symlog", linthresh=LINEAR_ML, linscale=0.6)
    axes.set_yscale("symlog", linthresh=LINEAR_ML, linscale=0.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=LINEAR_ML))
        axis.set_major_formatter(FuncFormatter(lambda ml, _: f"{ml:g}".replace("-", MINUS)))
    many = len(means) > DRAWN_ONE_BY_ONE
    axes.scatter(means, differences, s=9, color=colour, alpha=0.45, lw=0, rasterized=many)
    found = volumes.differences
    _line(axes, found.upper, above=True, dashes=(5, 2))
    _line(axes, found.lower, above=False, dashes=(5, 2))
    _line(axes, found.bias, above=found.bias.estimate >= 0, dashes=(None, None))
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    axes.tick_params(labelbottom=True)
    axes.grid(visible=True)


def _line(axes: Axes, figure: Interval, *, above: bool, dashes: tuple[Any, Any]) -> None:
    if np.isfinite(figure.low):
        axes.axhspan(figure.low, figure.high, color=MUTED, alpha=0.15, linewidth=0)
    axes.axhline(figure.estimate, color=INK, linewidth=1.1, dashes=dashes)
    axes.annotate(
        f"{figure.estimate:+.1f}".replace("-", MINUS),
        xy=(1, figure.estimate),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2 if above else -2),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=8,
        color=INK,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
    )
