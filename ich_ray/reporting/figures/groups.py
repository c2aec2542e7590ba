"""Exam AUC of models in groups of exams as a picture."""

from collections.abc import Sequence

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.style import INK, one_panel, styled
from ich_ray.statistics.breakdown import GroupFigures


def group_forest(groups: Sequence[GroupFigures], models: Sequence[ModelResult]) -> bytes:
    """A row a group, with a point and its interval a model; groups without an AUC are left out."""
    rows: list[tuple[str, GroupFigures | None]] = []
    kinds = dict.fromkeys(group.kind for group in groups if group.aucs)
    for kind in kinds:
        rows.append((kind, None))
        rows += [
            (f"{one.name}  ({one.positive} / {one.negative})", one)
            for one in groups
            if one.kind == kind and one.aucs
        ]
    shown = [(model, style) for model, style in styled(models) if model.kind == "network"]
    with one_panel(7.2, 0.9 + 0.27 * len(rows)) as (figure, axes, buffer):
        step = 0.5 / max(1, len(shown))
        for place, (model, style) in enumerate(shown):
            offset = step * (place - (len(shown) - 1) / 2)
            for y, (_, group) in enumerate(rows):
                found = group.aucs.get(model.name) if group else None
                if found is not None:
                    at = y + offset
                    axes.plot([found.low, found.high], [at, at], color=style["color"], lw=1.5)
                    axes.plot(
                        found.estimate,
                        at,
                        marker="osD^v"[place % 5],
                        markersize=4.5,
                        color=style["color"],
                    )
            axes.plot(
                [],
                [],
                marker="osD^v"[place % 5],
                markersize=4.5,
                color=style["color"],
                lw=1.5,
                label=model.title,
            )
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        for tick, (_, group) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set(color=INK, fontweight="normal" if group else "bold")
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(rows) - 0.5, -0.7), xlabel="Exam AUC, with its 95 % interval")
        axes.spines.left.set_visible(False)
        axes.grid(visible=True, axis="x")
        figure.legend(loc="outside upper left", ncols=3)
    return buffer.getvalue()
