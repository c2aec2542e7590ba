"""ROC curves as a picture."""

from collections.abc import Mapping, Sequence

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.style import MINUS, MUTED, one_panel, styled
from ich_ray.statistics.operating_points import OperatingPoint
from ich_ray.statistics.roc_band import RocBand


def roc_curves(
    models: Sequence[ModelResult],
    bands: Mapping[str, RocBand],
    points: Sequence[OperatingPoint] = (),
) -> bytes:
    """Sensitivity against 1 - specificity; AUC and interval in the legend.

    Args:
        models: Those with a curve are drawn.
        bands: Model -> bounds of its curve.
        points: Drawn as dots on the curves.
    """
    with one_panel(4.8, 5.4) as (figure, axes, buffer):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, dashes=(1, 3))
        lines, labels = [], []
        for model, style in styled([m for m in models if m.roc is not None]):
            assert model.roc is not None
            if model.name in bands:
                band = bands[model.name]
                axes.fill_between(
                    band.fpr, band.low, band.high, color=style["color"], alpha=0.12, linewidth=0
                )
            lines += axes.plot(model.roc.fpr, model.roc.tpr, **style)
            for one in points:
                if one.model == model.name:
                    at = (1 - one.test.specificity.estimate, one.test.sensitivity.estimate)
                    axes.plot(*at, "o", markersize=4, mfc="white", color=style["color"])
            labels.append(f"{model.title}   {_with_interval(model)}")
        axes.set(xlabel=f"1 {MINUS} specificity", ylabel="Sensitivity", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.grid(visible=True)
        if lines:
            legend = figure.legend(lines, labels, loc="outside lower left", alignment="left")
            legend.set_title("Exam AUC [95 % interval]")
    return buffer.getvalue()


def _with_interval(model: ModelResult) -> str:
    found = model.exam_auc
    if found is None:
        return ""
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"
