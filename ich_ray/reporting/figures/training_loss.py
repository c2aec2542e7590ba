"""The losses of several trainings as a picture."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.ticker import FuncFormatter

from ich_ray.reporting.figures.style import COLOURS, one_panel


def training_losses(training: Mapping[str, Sequence[tuple[int, float]]]) -> bytes:
    """Loss along the steps of each training: as it was, and smoothed."""
    with one_panel(7.2, 3.2) as (figure, axes, buffer):
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


def _smoothed(
    steps: Float64[np.ndarray, " point"], loss: Float64[np.ndarray, " point"]
) -> tuple[Float64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]:
    """Return the running mean over a twentieth of the curve."""
    width = max(1, len(loss) // 20)
    mean = np.ones(width) / width
    return np.convolve(steps, mean, "valid"), np.convolve(loss, mean, "valid")
