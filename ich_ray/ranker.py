"""Slice probabilities to pseudo-labels: the top C % are positive, with ternary masks.

Source: Lin & Yuh, section 2.2 (ranker); method.md 1.1.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from ich_ray.errors import QualityError
from ich_ray.exam import IGNORED


class Ranking(NamedTuple):
    """The ranking of a whole corpus, in the order in which its slices were given."""

    rank: Int64[np.ndarray, " slice"]
    """0 is the most probable."""

    positive: Bool[np.ndarray, " slice"]
    cut: float
    """Probability of the last positive slice."""


def rank_slices(
    p: Float32[np.ndarray, " slice"], keys: np.ndarray, *, top_percent: float
) -> Ranking:
    """Rank every slice of the unlabelled corpora, high to low, and cut at the top C %.

    Args:
        p: Probability of hemorrhage, one a slice.
        keys: Pseudonyms of the slices; they order equal probabilities, so that the ranking
            depends neither on shards nor on the order of arrival.
        top_percent: C; at least one slice is positive, and at least one is not.

    Raises:
        QualityError: A probability is no number, or the teacher says the same for all.

    >>> rank_slices(np.array([0.1, 0.9, 0.5], np.float32), np.array(["a", "b", "c"]),
    ...             top_percent=34.0).positive
    array([False,  True, False])
    """
    if not np.isfinite(p).all():
        raise QualityError(
            f"{int((~np.isfinite(p)).sum())} of {len(p)} slice probabilities are no numbers; "
            "look at the teacher's loss curve, and train it again"
        )
    if len(p) < 2 or p.min() == p.max():
        raise QualityError(
            f"the teacher says the same for all {len(p)} unlabelled slices: a ranking would be "
            "chance; train the teacher longer, or look at its input window"
        )
    order = np.lexsort((keys, -p.astype(np.float64)))
    rank = np.empty(len(p), np.int64)
    rank[order] = np.arange(len(p))
    count = int(np.clip(round(len(p) * top_percent / 100), 1, len(p) - 1))
    return Ranking(rank, rank < count, float(p[order[count - 1]]))


def ternary_mask(
    p: Float[np.ndarray, "rows columns"], *, positive_above: float, negative_below: float
) -> UInt8[np.ndarray, "rows columns"]:
    """Return 1 above K, 0 below the lower threshold, IGNORED between the two.

    >>> ternary_mask(np.array([[0.1, 0.5, 0.8]]), positive_above=0.7, negative_below=0.3)
    array([[  0, 255,   1]], dtype=uint8)
    """
    mask = np.full(p.shape, IGNORED, np.uint8)
    mask[p > positive_above] = 1
    mask[p < negative_below] = 0
    return mask
