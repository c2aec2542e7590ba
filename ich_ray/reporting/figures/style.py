"""How every picture looks: colours, letters, and a figure to draw on."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ich_ray.reporting.contents import ModelResult

MINUS = "\N{MINUS SIGN}"
INK, MUTED, RULE = "#1f2a33", "#5d6b78", "#d5dbe0"
COLOURS = ("#0072b2", "#d55e00", "#cc79a7", "#009e73", "#56b4e9")
"""Distinct for colour-blind readers. Source: Okabe and Ito 2008, less yellow and orange."""

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "ich_ray",  # random by default: the bytes would differ
    "text.parse_math": False,  # a title may hold a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def empty_figure(width: float, height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Give a figure to draw on, in inches, and a buffer that holds its SVG afterwards."""
    with matplotlib.rc_context(STYLE):
        figure, buffer = Figure(figsize=(width, height), layout="constrained"), io.BytesIO()
        yield figure, buffer
        _settle(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})


def _settle(figure: Figure) -> None:
    """Fix the places of the panels: the solver's last digits vary, and names in the SVG with them.

    Clipping paths are named by a hash of the rectangle, to the last digit.
    """
    figure.draw_without_rendering()
    places = [(axes, axes.get_position().bounds) for axes in figure.axes]
    figure.set_layout_engine("none")
    for axes, place in places:
        left, bottom, width, height = (round(float(value), 4) for value in place)
        axes.set_position((left, bottom, width, height))


@contextmanager
def one_panel(width: float, height: float) -> Iterator[tuple[Figure, Axes, io.BytesIO]]:
    """Give a figure of one panel."""
    with empty_figure(width, height) as (figure, buffer):
        yield figure, figure.add_subplot(), buffer


def styled(models: Sequence[ModelResult]) -> Iterator[tuple[ModelResult, dict[str, Any]]]:
    """Pair networks with a colour and rivals with grey; dashes tell them apart in print."""
    networks = rivals = 0
    for model in models:
        if model.kind == "network":
            dashes = (None, None) if networks == 0 else (6, 1 + networks)
            yield model, {"color": COLOURS[networks % 5], "linewidth": 1.8, "dashes": dashes}
            networks += 1
        else:
            yield model, {"color": MUTED, "linewidth": 1.1, "dashes": (2, 1 + rivals)}
            rivals += 1
