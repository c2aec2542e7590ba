"""The report's figures, each a function from values to the bytes of an SVG."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ich_ray.comparison import Metric
from ich_ray.reporting.contents import ModelResult, NamedDifference, PseudoLabels
from ich_ray.reporting.headline import SHORT, verdict

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

LEAST_ODDS = 1e-4
"""Probabilities within this of 0 or 1 share the outermost bins of the histogram."""


def roc_curves(models: Sequence[ModelResult]) -> bytes:
    """Sensitivity against 1 - specificity; AUC and interval in the legend."""
    with _figure(4.8, 5.4) as (figure, axes, buffer):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, dashes=(1, 3))
        lines, labels = [], []
        for model, style in _styled([m for m in models if m.roc is not None]):
            assert model.roc is not None
            lines += axes.plot(model.roc.fpr, model.roc.tpr, **style)
            labels.append(f"{model.title}   {_with_interval(model)}")
        axes.set(xlabel=f"1 {MINUS} specificity", ylabel="Sensitivity", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.grid(visible=True)
        if lines:
            legend = figure.legend(lines, labels, loc="outside lower left", alignment="left")
            legend.set_title("Exam AUC [95 % interval]")
    return buffer.getvalue()


def forest(titles: Sequence[str], differences: Sequence[NamedDifference]) -> bytes:
    """Differences with their intervals; filled where they are told from zero at 95 %."""
    rows: list[tuple[str, Metric | None, Any]] = []
    for title, pair in zip(titles, differences, strict=True):
        rows.append((title, None, None))
        for metric, difference in pair.metrics().items():
            if verdict(difference) != "not measured":
                rows.append((SHORT[metric], metric, difference))
    with _figure(7.2, 0.7 + 0.24 * len(rows)) as (_, axes, buffer):
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


def pseudo_label_scores(labels: PseudoLabels) -> bytes:
    """Histogram of the teacher's probabilities, on a scale of odds, on both sides of the cut."""
    p = labels.p[np.isfinite(labels.p)]
    cut = float(_log_odds(np.array([labels.cut]))[0])
    limit = float(_log_odds(np.array([1.0]))[0])
    below = np.linspace(-limit, cut, max(2, round(30 * (cut + limit) / limit) + 1))
    above = np.linspace(cut, limit, max(2, round(30 * (limit - cut) / limit) + 1))
    with _figure(7.2, 3.2) as (_, axes, buffer):
        sides = ((p < labels.cut, below, COLOURS[0]), (p >= labels.cut, above, COLOURS[1]))
        for members, edges, colour in sides:
            if edges[-1] > edges[0]:
                axes.hist(
                    _log_odds(p[members]), edges.tolist(), color=colour, log=True, rwidth=0.92
                )
        axes.axvline(cut, color=INK, linewidth=1.2, dashes=(4, 2))
        share = labels.num_positive / max(labels.num_slices, 1)
        axes.set_title(
            f"{labels.num_positive:,} of {labels.num_slices:,} slices ({100 * share:.1f} %) became "
            f"positive; cut at p = {labels.cut:.3g}",
            fontsize=9,
            loc="left",
        )
        ticks = np.array([LEAST_ODDS, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - LEAST_ODDS])
        names = [f"{tick:g}" for tick in ticks]
        names[0], names[-1] = f"≤ {names[0]}", f"≥ {names[-1]}"
        axes.set_xticks(_log_odds(ticks), names)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="Teacher's probability of hemorrhage (scale of odds)")
        axes.set(ylabel="Slices (log scale)")
        axes.set_ylim(bottom=0.6)
        axes.grid(visible=True, axis="y")
    return buffer.getvalue()


def learning_curves(training: Mapping[str, Sequence[tuple[int, float]]]) -> bytes:
    """Loss along the steps of each training: as it was, and smoothed."""
    with _figure(7.2, 3.2) as (figure, axes, buffer):
        lines, labels = [], []
        for i, (name, curve) in enumerate(training.items()):
            steps, loss = np.array(curve, np.float64).reshape(-1, 2).T
            colour, dashes = COLOURS[i % len(COLOURS)], (None, None) if i == 0 else (5, 1 + i)
            axes.plot(steps, loss, color=colour, linewidth=0.7, alpha=0.3)
            lines += axes.plot(*_smoothed(steps, loss), color=colour, linewidth=1.7, dashes=dashes)
            labels.append(name)
        axes.set(xlabel="Step", ylabel="Training loss")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        axes.grid(visible=True)
        if lines:
            figure.legend(lines, labels, loc="outside right upper")
    return buffer.getvalue()


@contextmanager
def empty_figure(width: float, height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """Give a figure to draw on, in inches, and a buffer that holds its SVG afterwards."""
    with matplotlib.rc_context(STYLE):
        figure, buffer = Figure(figsize=(width, height), layout="constrained"), io.BytesIO()
        yield figure, buffer
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Axes, io.BytesIO]]:
    """Give a figure of one panel."""
    with empty_figure(width, height) as (figure, buffer):
        yield figure, figure.add_subplot(), buffer


def _styled(models: Sequence[ModelResult]) -> Iterator[tuple[ModelResult, dict[str, Any]]]:
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


def _with_interval(model: ModelResult) -> str:
    found = model.exam_auc
    if found is None:
        return ""
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _log_odds(p: Float[np.ndarray, " slice"]) -> Float64[np.ndarray, " slice"]:
    inside = np.clip(p.astype(np.float64), LEAST_ODDS, 1 - LEAST_ODDS)
    return np.asarray(np.log(inside / (1 - inside)))


def _smoothed(
    steps: Float64[np.ndarray, " point"], loss: Float64[np.ndarray, " point"]
) -> tuple[Float64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]:
    """Return the running mean over a twentieth of the curve."""
    width = max(1, len(loss) // 20)
    mean = np.ones(width) / width
    return np.convolve(steps, mean, "valid"), np.convolve(loss, mean, "valid")
