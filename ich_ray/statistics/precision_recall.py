"""Precision and recall of pixels at every score level, from their histograms."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ich_ray.statistics.pixel_histograms import HistogramStack
from ich_ray.statistics.score_levels import NUM_LEVELS

POINTS = 400
"""Of a curve that is drawn; it holds its first and last."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PrecisionRecall:
    """One point a threshold, from the highest down."""

    recall: Float64[np.ndarray, " point"]
    """Ascending."""

    precision: Float64[np.ndarray, " point"]
    prevalence: float
    """Share of positive pixels: the precision of guessing."""


def precision_recall(stack: HistogramStack, *, points: int = POINTS) -> PrecisionRecall | None:
    """Return the curve of all pixels pooled, thinned evenly by recall.

    Args:
        stack: Of all clusters.
        points: At most so many are kept.

    Returns:
        None without a positive pixel.
    """
    pos, neg = (
        np.bincount(stack.level, counts, minlength=NUM_LEVELS)[::-1].cumsum()
        for counts in (stack.pos, stack.neg)
    )
    if not len(stack.level) or pos[-1] == 0:
        return None
    called = np.flatnonzero(np.diff(pos + neg, prepend=0.0))
    recall, precision = pos[called] / pos[-1], pos[called] / (pos + neg)[called]
    wanted = np.searchsorted(recall, np.linspace(recall[0], 1, points))
    kept = np.unique(np.concatenate([[0], wanted, [len(recall) - 1]]))
    return PrecisionRecall(
        recall=recall[kept],
        precision=precision[kept],
        prevalence=float(pos[-1] / (pos[-1] + neg[-1])),
    )
