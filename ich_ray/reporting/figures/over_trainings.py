"""Differences of recipes over their trainings as a picture: joined, and by what varies."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from ich_ray.reporting.figures.style import COLOURS, INK, MINUS, MUTED, empty_figure
from ich_ray.reporting.headline import SHORT
from ich_ray.statistics.comparison import METRICS
from ich_ray.statistics.seeds.pooled import PooledDifference

JOINED, PATIENTS, SEEDS = INK, COLOURS[1], COLOURS[0]


def trainings_forest(
    differences: Sequence[PooledDifference], title_of: Callable[[str], str]
) -> bytes:
    """Each pair of recipes, a panel a metric; return the bytes of an SVG.

    Args:
        differences: Of all pairs and metrics; undefined ones are left out.
        title_of: Names a recipe for a person.
    """
    pairs = list(dict.fromkeys((one.a, one.b) for one in differences))
    with empty_figure(9.0, 1.4 + 0.6 * len(pairs)) as (figure, buffer):
        panels: list[Axes] = list(figure.subplots(1, len(METRICS), sharey=True, squeeze=False)[0])
        for axes, metric in zip(panels, METRICS, strict=True):
            axes.axvline(0, color=INK, linewidth=0.9)
            for one in differences:
                if one.metric == metric:
                    _draw(axes, pairs.index((one.a, one.b)), one)
            axes.set_title(SHORT[metric], fontsize=9, loc="left", color=INK)
            axes.grid(visible=True, axis="x")
            axes.locator_params(axis="x", nbins=4)
            axes.tick_params(axis="y", length=0)
        names = [f"{title_of(a)}\n{MINUS} {title_of(b)}" for a, b in pairs]
        panels[0].set_yticks(range(len(pairs)), names)
        panels[0].set_ylim(len(pairs) - 0.4, -0.6)
        for colour, label in (
            (JOINED, "over trainings and patients"),
            (PATIENTS, "patients alone"),
            (SEEDS, "trainings alone (dots: each)"),
        ):
            panels[0].plot([], [], color=colour, linewidth=1.8, label=label)
        figure.legend(loc="outside upper left", ncols=3)
        figure.supxlabel("Difference, with 95 % intervals", fontsize=9)
    return buffer.getvalue()


def _draw(axes: Axes, y: int, one: PooledDifference) -> None:
    """Draw the joined interval, and below it those of patients and trainings; NaN draws nothing."""
    for found, below, colour, width in (
        (one.joined, -0.16, JOINED, 2.2),
        (one.patients_alone, 0.04, PATIENTS, 1.6),
        (one.seeds_alone, 0.24, SEEDS, 1.6),
    ):
        axes.plot([found.low, found.high], [y + below] * 2, color=colour, linewidth=width)
    axes.plot(one.joined.estimate, y - 0.16, "o", markersize=5, color=JOINED)
    axes.plot(one.figures, [y + 0.24] * len(one.figures), "o", markersize=2.5, color=MUTED)
