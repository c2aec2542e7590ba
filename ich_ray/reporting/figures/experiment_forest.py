"""The differences of a family of variants as a picture: over seeds, and over patients."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ich_ray.experiment_table import METRICS, ArmRow, Comparison
from ich_ray.reporting.figures.style import COLOURS, INK, MUTED, empty_figure

BOTH, SEEDS, PATIENTS = INK, COLOURS[0], COLOURS[1]


def experiment_forest(rows: Sequence[ArmRow]) -> bytes:
    """Each variant less the baseline, a panel a metric; return the bytes of an SVG.

    The upper bar of a variant is the 95 % interval over seeds and patients at once, the middle one
    the t-interval over seeds, with a dot a seed; the lower one the mean of the seeds' intervals
    over patients.

    Args:
        rows: Of the table; those without a difference are left out.
    """
    shown = [row for row in rows if row.less_baseline]
    metrics = [key for key in METRICS if any(key in row.less_baseline for row in shown)]
    with empty_figure(3.2 * max(1, len(metrics)), 1.5 + 0.5 * len(shown)) as (figure, buffer):
        panels: list[Axes] = list(
            figure.subplots(1, max(1, len(metrics)), sharey=True, squeeze=False)[0]
        )
        for axes, key in zip(panels, metrics, strict=False):
            axes.axvline(0, color=INK, linewidth=0.9)
            for y, row in enumerate(shown):
                if key in row.less_baseline:
                    _draw(axes, y, row.less_baseline[key])
            axes.set_title(METRICS[key], fontsize=9, loc="left", color=INK)
            axes.grid(visible=True, axis="x")
            axes.locator_params(axis="x", nbins=5)
        panels[0].set_yticks(range(len(shown)), [row.name for row in shown])
        panels[0].set_ylim(len(shown) - 0.5, -0.6)
        for axes in panels:
            axes.tick_params(axis="y", length=0)
        figure.supxlabel("Less the baseline, with 95 % intervals", fontsize=9)
        for colour, label in (
            (BOTH, "over seeds and patients"),
            (SEEDS, "over seeds (dots: seeds)"),
            (PATIENTS, "over patients, mean of the seeds"),
        ):
            panels[0].plot([], [], color=colour, linewidth=1.8, label=label)
        figure.legend(loc="outside upper left", ncols=3)
    return buffer.getvalue()


def _draw(axes: Axes, y: int, less: Comparison) -> None:
    above, below = y, y + 0.2
    if less.both is not None:
        axes.plot([less.both.low, less.both.high], [y - 0.2, y - 0.2], color=BOTH, linewidth=2.2)
    if less.seeds.low is not None and less.seeds.high is not None:
        axes.plot([less.seeds.low, less.seeds.high], [above, above], color=SEEDS, linewidth=1.8)
    axes.plot(
        [one.estimate for one in less.each],
        [above] * len(less.each),
        "o",
        markersize=2.5,
        color=MUTED,
    )
    axes.plot(less.seeds.mean, above, "o", markersize=5, color=SEEDS)
    axes.plot([less.patients_low, less.patients_high], [below, below], color=PATIENTS, lw=1.8)
