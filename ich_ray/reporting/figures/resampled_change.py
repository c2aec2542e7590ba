"""A difference of exam AUCs over the resamples as a picture."""

import numpy as np

from ich_ray.reporting.figures.style import COLOURS, INK, one_panel
from ich_ray.statistics.bootstrap import Difference
from ich_ray.statistics.resampled_change import ResampledChange


def resampled_change_histogram(
    title: str, change: ResampledChange, difference: Difference | None
) -> bytes:
    """Resamples by difference; the line of zero, and above the interval that the report gives.

    Args:
        title: Of the difference, e.g. `Student - Teacher`.
        change: Counts.
        difference: With its interval by another method.
    """
    with one_panel(7.2, 2.7) as (_, axes, buffer):
        axes.stairs(change.counts.astype(np.float64), change.edges, fill=True, color=COLOURS[4])
        axes.axvline(0, color=INK, linewidth=1.2)
        top = float(change.counts.max()) * 1.12
        if difference is not None and np.isfinite([difference.low, difference.high]).all():
            axes.plot([difference.low, difference.high], [top, top], color=COLOURS[0], lw=1.8)
            axes.plot(difference.estimate, top, "o", markersize=5, color=COLOURS[0])
        axes.set(xlabel="Difference in exam AUC", ylabel="Resamples", ylim=(0, 1.08 * top))
        axes.set_title(title, fontsize=9, loc="left", color=INK)
        axes.grid(visible=True, axis="y")
    return buffer.getvalue()
