"""FROC curves as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ich_ray.reporting.contents import ModelResult
from ich_ray.reporting.figures.style import one_panel, styled
from ich_ray.statistics.masks.froc import RATES
from ich_ray.statistics.masks.lesion_detection import LesionDetection

EDGES = (RATES[0] / 2**0.5, RATES[-1] * 2**0.5)
"""False alarms an exam that the axis spans."""


def froc_curves(models: Sequence[ModelResult], lesions: Sequence[LesionDetection]) -> bytes:
    """Sensitivity of lesions against false alarms an exam, which double from tick to tick.

    Args:
        models: Those of the report, for titles and colours.
        lesions: What they find, in any order; models without any are left out.
    """
    found = {one.model: one for one in lesions if one.num_lesions}
    with one_panel(4.8, 5.0) as (figure, axes, buffer):
        lines, labels = [], []
        for model, style in styled([m for m in models if m.name in found]):
            of_model = found[model.name]
            # A stair, whose last step to be seen goes on to the edge.
            shown = of_model.curve.alarms <= EDGES[1]
            alarms = np.append(of_model.curve.alarms[shown], EDGES[1])
            sensitivity = of_model.curve.sensitivity[shown]
            sensitivity = np.append(sensitivity, sensitivity[-1])
            # Zero has no place on the axis.
            alarms = np.maximum(alarms, EDGES[0] / 2)
            lines += axes.step(alarms, sensitivity, where="post", **style)
            mean = of_model.mean_at_rates
            interval = f"{mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
            labels.append(f"{model.title}   {interval}")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(RATES))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: _fraction(rate)))
        axes.set(xlabel="False alarms per exam", ylabel="Sensitivity, of lesions")
        axes.set(xlim=EDGES, ylim=(-0.01, 1.01))
        axes.grid(visible=True)
        if lines:
            legend = figure.legend(lines, labels, loc="outside lower left", alignment="left")
            legend.set_title("Mean sensitivity at the seven rates [95 % interval]")
    return buffer.getvalue()


def _fraction(rate: float) -> str:
    return f"{rate:g}" if rate >= 1 else f"1/{1 / rate:g}"
