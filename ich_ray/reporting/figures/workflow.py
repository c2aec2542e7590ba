"""The loop of teacher and student with the numbers of a run: the paper's figure 1."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ich_ray.reporting.figures.style import COLOURS, INK, MUTED, one_panel

LABELLED, UNLABELLED, TEST = COLOURS[0], COLOURS[1], COLOURS[3]
WIDTH, HEIGHT = 2.3, 0.95


def workflow(
    corpora: Sequence[Mapping[str, Any]], pseudo_labels: Mapping[str, Any] | None
) -> bytes:
    """Draw the loop; return the bytes of an SVG.

    Args:
        corpora: As a report.json lists them: name, role, exams, slices.
        pseudo_labels: As a report.json has them; None where no model learned from any.
    """
    with one_panel(7.4, 2.6) as (_, axes, buffer):
        axes.set_axis_off()
        axes.set_xlim(0, 11.4)
        axes.set_ylim(1.3, 4.6)
        _box(axes, (0.0, 3.1), "labelled", _of(corpora, "labelled"), LABELLED)
        _box(axes, (3.0, 3.1), "teacher", "", MUTED)
        _box(axes, (3.0, 1.5), "unlabelled", _of(corpora, "unlabelled"), UNLABELLED)
        _box(axes, (6.0, 1.5), "ranker", _ranked(pseudo_labels), UNLABELLED)
        _box(axes, (6.0, 3.1), "student", "labelled and\npseudo-labelled slices", MUTED)
        _box(axes, (9.0, 3.1), "test", _of(corpora, "test"), TEST)
        for start, end in (
            ((WIDTH, 3.575), (3.0, 3.575)),
            ((4.15, 3.1), (4.15, 2.45)),
            ((3 + WIDTH, 1.975), (6.0, 1.975)),
            ((7.15, 2.45), (7.15, 3.1)),
            ((6 + WIDTH, 3.575), (9.0, 3.575)),
        ):
            _arrow(axes, start, end)
        # Labelled slices train the student too, above the teacher; the teacher is tested below it.
        _arrow(axes, (1.15, 3.1 + HEIGHT), (7.15, 3.1 + HEIGHT), bend=-0.09)
        _arrow(axes, (4.6, 3.1), (10.15, 3.1), bend=0.16)
    return buffer.getvalue()


def _of(corpora: Sequence[Mapping[str, Any]], role: str) -> str:
    """Return what the corpora of a role hold."""
    here = [one for one in corpora if one["role"] == role]
    exams, slices = (sum(int(one[of]) for one in here) for of in ("exams", "slices"))
    return f"{exams:,} exams\n{slices:,} slices" if here else "none"


def _ranked(pseudo_labels: Mapping[str, Any] | None) -> str:
    if pseudo_labels is None:
        return "none"
    top, positive = pseudo_labels["top_percent"], pseudo_labels["num_positive"]
    return f"top {top:g} %:\n{positive:,} slices positive"


def _box(axes: Axes, at: tuple[float, float], title: str, text: str, colour: str) -> None:
    shape = FancyBboxPatch(
        at, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", fc="white", ec=colour, lw=1.8
    )
    axes.add_patch(shape)
    x, y = at[0] + WIDTH / 2, at[1] + HEIGHT
    lift = 0.14 if text else HEIGHT / 2 - 0.1
    axes.text(x, y - lift, title, ha="center", va="top", weight="bold", color=INK, fontsize=9)
    axes.text(x, y - 0.4, text, ha="center", va="top", color=INK, fontsize=7.5)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], *, bend: float = 0.0
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color=MUTED,
            lw=1.2,
            shrinkA=2,
            shrinkB=2,
            connectionstyle=f"arc3,rad={bend}",
        )
    )
