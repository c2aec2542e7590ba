"""A training's learning curves as a picture."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ich_ray.learning_curves import LEARNING_RATE, LOSS, TUNING, LearningCurves, Points
from ich_ray.reporting.figures.style import COLOURS, INK, MUTED, empty_figure
from ich_ray.reporting.headline import SHORT

LABELS = {f"{TUNING}{metric}": label for metric, label in SHORT.items()}
"""In the order of the legend; other metrics of the tuning corpus follow by their names."""


def learning_curves_figure(title: str, curves: LearningCurves, *, steps: int) -> bytes:
    """Loss, learning rate and the tuning corpus's metrics: a panel each, where there are points.

    What is not finite is left out, and counted in the label of its curve.

    Args:
        title: Of the figure, e.g. the model's.
        curves: As far as the training is.
        steps: Of the whole training: where the axis ends.
    """
    rate = curves.finite(LEARNING_RATE)
    tuning = [name for name in _in_order(curves) if curves.scalars.get(name)]
    heights = [2.4] + [0.6] * bool(rate) + [2.2] * bool(tuning)
    with empty_figure(7.2, 0.6 + sum(heights)) as (figure, buffer):
        rows = figure.subplots(
            len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        panels: list[Axes] = list(rows[:, 0])
        _draw_loss(panels[0], curves)
        if rate:
            _draw_rate(panels[1], rate)
        if tuning:
            _draw_tuning(panels[-1], curves, tuning)
            _mark_best_step(panels, curves.best_step)
            panels[-1].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderpad=0.2)
        for axes in panels:
            axes.grid(visible=True)
        panels[0].set_title(title, fontsize=9, loc="left", color=INK)
        panels[-1].set(xlabel="Step", xlim=(0, 1.01 * steps))
        panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        figure.align_ylabels(panels)
    return buffer.getvalue()


def _in_order(curves: LearningCurves) -> list[str]:
    others = sorted(name for name in curves.scalars if name.startswith(TUNING))
    return list(dict.fromkeys([*LABELS, *others]))


def _draw_loss(axes: Axes, curves: LearningCurves) -> None:
    loss, label = curves.finite(LOSS), _with_left_out("Training loss", curves, LOSS)
    axes.plot(*_columns(loss), color=COLOURS[0], linewidth=1.5, **_dot(loss))
    axes.set_ylabel(label)
    if not loss:
        axes.set_yticks([])
    elif all(value > 0 for _, value in loss):
        axes.set(yscale="log", ylabel=f"{label}\n(log scale)")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_rate(axes: Axes, rate: Points) -> None:
    axes.plot(*_columns(rate), color=MUTED, linewidth=1.2, **_dot(rate))
    highest = max(value for _, value in rate) or 1.0
    axes.set(ylabel="Learning\nrate", ylim=(0, 1.15 * highest))
    axes.set_yticks([0, highest], ["0", f"{highest:.2g}"])


def _draw_tuning(axes: Axes, curves: LearningCurves, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        axes.plot(
            *_columns(curves.finite(name)),
            color=COLOURS[i % len(COLOURS)],
            marker="osD^v"[i % 5],
            markersize=3.5,
            linewidth=1.3,
            dashes=(None, None) if i == 0 else (5, 1 + i),
            label=_with_left_out(LABELS.get(name, name.removeprefix(TUNING)), curves, name),
        )
    axes.set(ylabel="Tuning corpus", ylim=(-0.02, 1.02))


def _mark_best_step(panels: Sequence[Axes], step: int | None) -> None:
    if step is not None:
        for axes in panels:
            axes.axvline(step, color=INK, linewidth=1, dashes=(2, 2), label=f"best step: {step:,}")


def _with_left_out(label: str, curves: LearningCurves, name: str) -> str:
    left_out = len(curves.scalars.get(name, ())) - len(curves.finite(name))
    return f"{label} ({left_out} not defined)" if left_out else label


def _dot(points: Points) -> dict[str, Any]:
    """Show a single point, which makes no line."""
    return {"marker": "o", "markersize": 3.5} if len(points) == 1 else {}


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
