"""Precision and recall of pixels as a picture."""

from collections.abc import Mapping, Sequence

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.style import MUTED, one_panel, styled
from ich_ray.statistics.precision_recall import PrecisionRecall


def precision_recall_curves(
    models: Sequence[ModelResult], curves: Mapping[str, PrecisionRecall]
) -> bytes:
    """Precision against recall, one curve a model; the dotted line is guessing."""
    with one_panel(4.8, 5.2) as (figure, axes, buffer):
        lines, labels = [], []
        for model, style in styled([m for m in models if m.name in curves]):
            curve = curves[model.name]
            lines += axes.plot(curve.recall, curve.precision, **style)
            found = model.pixel_ap
            area = f"   {found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else ""
            labels.append(f"{model.title}{area}")
        if curves:
            guessing = next(iter(curves.values())).prevalence
            axes.plot([0, 1], [guessing, guessing], color=MUTED, linewidth=0.8, dashes=(1, 3))
        axes.set(xlabel="Recall of pixels", ylabel="Precision of pixels", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.grid(visible=True)
        if lines:
            legend = figure.legend(lines, labels, loc="outside lower left", alignment="left")
            legend.set_title("Pixel AP [95 % interval]")
    return buffer.getvalue()
