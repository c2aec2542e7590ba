"""The pictures of the diagnostics of pseudo-labels, each a function from values to an SVG."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ich_ray.label_diagnostics import (
    LOGIT_EDGES,
    VOLUME_EDGES_ML,
    HiddenLabels,
    PatientShares,
    Proportion,
    ScoreHistograms,
    Volumes,
    logits,
)
from ich_ray.label_drift import JOINT_EDGES, Drift
from ich_ray.reporting.figures.style import COLOURS, INK, MUTED, empty_figure
from ich_ray.reporting.html import DASH

TICKS = (1e-5, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.99999)
"""Probabilities that stand on an axis of logits."""

FEW_TICKS = (1e-3, 0.5, 0.999)
"""Those of a small panel."""

WIDTH = 7.2
"""Of a figure as wide as the page, inches."""


def patients_figure(found: PatientShares) -> bytes:
    """Patients by their positive slices; and how fast the patients with most hold them all."""
    with empty_figure(WIDTH, 2.9) as (figure, buffer):
        left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
        names = [str(low) if low == high else f"{low}{DASH}{high}" for low, high, _ in found.bins]
        _bars(left, names, [patients for _, _, patients in found.bins])
        left.set(xlabel="Positive slices of a patient", ylabel="Patients")
        percent = np.arange(101)
        right.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, dashes=(1, 3))
        right.plot(percent, 100 * np.array(found.cumulative), color=COLOURS[1], linewidth=1.8)
        right.set(xlabel="Patients with a positive, most first (%)", ylabel="Positives held (%)")
        right.set(xlim=(0, 100.5), ylim=(0, 101))
        right.grid(visible=True)
    return buffer.getvalue()


def volumes_figure(found: Volumes) -> bytes:
    """Exams with a positive slice by their predicted volume."""
    edges = [f"{edge:g}" for edge in VOLUME_EDGES_ML[:-1]]
    names = [f"{low}{DASH}{high}" for low, high in pairwise(edges)]
    names = ["no pixel", f"< {edges[1]}", *names[1:], f"> {edges[-1]}"]
    with empty_figure(WIDTH, 2.7) as (figure, buffer):
        axes = figure.add_subplot()
        _bars(axes, names, [found.empty, *found.bins])
        axes.patches[0].set_color(MUTED)
        axes.set(xlabel="Pixels above K, mL", ylabel="Exams")
    return buffer.getvalue()


def scores_figure(found: ScoreHistograms, cut: float | None) -> bytes:
    """Slices by the teacher's probability: all, positive, ignored.

    Args:
        found: Counts.
        cut: Probability at which the ranking was cut; None where the mode does not rank.
    """
    edges = np.array(LOGIT_EDGES)
    with empty_figure(WIDTH, 3.2) as (figure, buffer):
        axes = figure.add_subplot()
        layers: list[tuple[str, Int64[np.ndarray, " bin"], Any]] = [
            ("all slices", found.all, {"color": MUTED, "alpha": 0.3}),
            ("ignored", found.ignored, {"color": COLOURS[0], "alpha": 0.75}),
            ("positive", found.positive, {"color": COLOURS[1], "alpha": 0.85}),
        ]
        for name, counts, style in layers:
            if counts.any():
                label = f"{name}: {int(counts.sum()):,}"
                axes.stairs(counts, edges, fill=True, label=label, baseline=0.5, **style)
        if cut is not None:
            at = float(logits(np.array([cut]))[0])
            axes.axvline(at, color=INK, linewidth=1.2, dashes=(4, 2), label=f"cut: p = {cut:.3g}")
        axes.set(yscale="log", ylabel="Slices (log scale)", ylim=(0.5, None))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        _odds(axes, "x", TICKS)
        axes.set(
            xlim=_reach(found.all, edges),
            xlabel="Teacher\N{RIGHT SINGLE QUOTATION MARK}s probability (scale of odds)",
        )
        axes.grid(visible=True, axis="y")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return buffer.getvalue()


def joint_figure(joint: Int64[np.ndarray, "bin bin2"], names: tuple[str, str]) -> bytes:
    """Slices by both probabilities.

    Args:
        joint: Rows are of the first, columns of the second.
        names: Of the first, which runs to the right, and of the second.
    """
    with empty_figure(4.8, 4.2) as (figure, buffer):
        _draw_joint(figure.add_subplot(), joint, names)
    return buffer.getvalue()


def drift_figure(name: str, found: Drift) -> bytes:
    """Quantiles of the student's logits against the teacher's, and slices by both."""
    with empty_figure(WIDTH, 3.5) as (figure, buffer):
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
        both = np.concatenate([found.teacher_quantiles, found.student_quantiles])
        reach = (float(both.min()) - 0.5, float(both.max()) + 0.5)
        left.plot(reach, reach, color=MUTED, linewidth=0.8, dashes=(1, 3))
        left.plot(
            found.teacher_quantiles,
            found.student_quantiles,
            "o-",
            color=COLOURS[0],
            markersize=3,
            linewidth=1,
        )
        for axis in "xy":
            _odds(left, axis, FEW_TICKS)
        left.set(xlim=reach, ylim=reach, aspect="equal", xlabel="Teacher", ylabel=name)
        left.set_title("Quantiles, 0 to 100 %", fontsize=9, loc="left")
        left.grid(visible=True)
        _draw_joint(right, found.joint, ("Teacher", name))
        right.set_title("Slices by both", fontsize=9, loc="left")
    return buffer.getvalue()


def hidden_figure(found: HiddenLabels) -> bytes:
    """Precision and recall of the top C %, with Wilson's intervals."""
    at = [row.percent for row in found.percentiles]
    with empty_figure(WIDTH, 3.3) as (figure, buffer):
        axes = figure.add_subplot()
        _interval_curve(axes, at, [row.precision for row in found.percentiles], "precision", 0)
        _interval_curve(axes, at, [row.recall for row in found.percentiles], "recall", 1)
        prevalence = found.positive / found.slices
        label = f"prevalence: {100 * prevalence:.1f} %"
        axes.axhline(prevalence, color=MUTED, linewidth=1, dashes=(4, 2), label=label)
        axes.set(xscale="log", ylim=(-0.02, 1.02))
        axes.set_xticks(at, [f"{percent:g}" for percent in at])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)
        axes.set(xlabel="C: top per cent of the ranking", ylabel="By hidden labels")
        axes.grid(visible=True)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return buffer.getvalue()


def _interval_curve(
    axes: Axes, at: Sequence[float], rows: Sequence[Proportion], name: str, number: int
) -> None:
    colour = COLOURS[number]
    # Two curves share their percentiles: a little apart, their intervals can be told apart.
    places = np.array(at) * (0.985, 1.015)[number]
    axes.vlines(places, [r.low for r in rows], [r.high for r in rows], color=colour, linewidth=1.2)
    axes.plot(
        places,
        [r.estimate for r in rows],
        marker="os"[number],
        color=colour,
        markersize=4,
        linewidth=1.3,
        label=name,
    )


def _draw_joint(axes: Axes, joint: Int64[np.ndarray, "bin bin2"], names: tuple[str, str]) -> None:
    edges = np.array(JOINT_EDGES)
    low = min(_reach(joint.sum(side), edges)[0] for side in (0, 1))
    high = max(_reach(joint.sum(side), edges)[1] for side in (0, 1))
    shown = np.ma.masked_equal(joint.T, 0)
    # A rasterised mesh would be a picture in the picture; 784 cells are few.
    mesh = axes.pcolormesh(
        edges, edges, shown, cmap="viridis_r", norm=LogNorm(1, max(10, int(joint.max())))
    )
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, dashes=(1, 3))
    for axis in "xy":
        _odds(axes, axis, FEW_TICKS)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.axvline(0, color=MUTED, linewidth=0.6)
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.85)
    bar.set_label("Slices (log scale)")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, names: Sequence[str], counts: Sequence[int]) -> None:
    bars = axes.bar(range(len(names)), list(counts), color=COLOURS[0], width=0.85)
    axes.bar_label(bars, [f"{count:,}" if count else "" for count in counts], fontsize=8)
    axes.set_xticks(range(len(names)), list(names), rotation=35 if len(names) > 10 else 0)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)


def _odds(axes: Axes, axis: str, ticks: Sequence[float]) -> None:
    """Write probabilities on an axis of logits."""
    names = [f"{tick:.6f}".rstrip("0") for tick in ticks]
    places = logits(np.array(ticks))
    if axis == "x":
        axes.set_xticks(places, names)
    else:
        axes.set_yticks(places, names)


def _reach(
    counts: Int64[np.ndarray, " bin"], edges: Float64[np.ndarray, " edge"]
) -> tuple[float, float]:
    """Return where the bins that hold anything begin and end, at least from 0.01 to 0.99."""
    held = np.flatnonzero(counts)
    if not len(held):
        return -5.0, 5.0
    return min(float(edges[held[0]]), -5.0), max(float(edges[held[-1] + 1]), 5.0)
