"""Overlap of predicted and true pixels at a threshold: the Dice similarity coefficient (DSC).

All pixels are pooled ("micro"): a slice without positive pixels adds only false positives. Without
any positive pixel in reference or prediction DSC is undefined: NaN, never 0 or 1.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int64, Integer, Real

from ich_ray.errors import QualityError
from ich_ray.statistics.pixel_histograms import HistogramStack
from ich_ray.statistics.score_levels import NUM_LEVELS


class Overlap(NamedTuple):
    """Pixels of each cluster where prediction and reference agree or not, at one threshold."""

    tp: Int64[np.ndarray, " cluster"]
    fp: Int64[np.ndarray, " cluster"]
    fn: Int64[np.ndarray, " cluster"]


def overlap_at(stack: HistogramStack, level: int) -> Overlap:
    """Count true and false positives and false negatives of each cluster at a threshold.

    Args:
        stack: Pixel counts of each cluster.
        level: Pixels at this level or above are called positive.

    >>> from ich_ray.statistics.pixel_histograms import slice_histogram, stack
    >>> one = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, False, True]]))
    >>> [counts.tolist() for counts in overlap_at(stack([one]), 8)]
    [[1], [1], [1]]
    """
    first = int(np.searchsorted(stack.level, np.uint16(level)))
    called, uncalled = slice(first, None), slice(0, first)
    return Overlap(
        tp=_by_cluster(stack, stack.pos, called),
        fp=_by_cluster(stack, stack.neg, called),
        fn=_by_cluster(stack, stack.pos, uncalled),
    )


def dice(
    tp: Real[np.ndarray, "*shape"] | int,
    fp: Real[np.ndarray, "*shape"] | int,
    fn: Real[np.ndarray, "*shape"] | int,
) -> Float64[np.ndarray, "*shape"]:
    """Dice similarity coefficient, 2 TP / (2 TP + FP + FN), element by element.

    Args:
        tp: Pixels positive in prediction and reference.
        fp: Pixels positive in the prediction alone.
        fn: Pixels positive in the reference alone.

    Returns:
        The coefficients; NaN where reference and prediction are both empty.

    Source: Dice 1945; Zijdenbos et al. 1994.

    >>> dice(np.array([3, 0, 0]), np.array([1, 1, 0]), np.array([1, 0, 0]))
    array([0.75, 0.  ,  nan])
    >>> float(dice(3, 1, 1))
    0.75
    """
    twice_tp = np.asarray(2.0 * np.asarray(tp))
    return share_of(twice_tp, np.asarray(twice_tp + fp + fn))


def weighted_dices(
    overlap: Overlap, weights: Real[np.ndarray, "resample cluster"]
) -> Float64[np.ndarray, " resample"]:
    """Micro DSC of every resample, all pixels pooled.

    Args:
        overlap: Pixel counts of each cluster at the threshold.
        weights: How often each resample holds each cluster, not negative.

    Returns:
        One DSC per resample; NaN where a resample has no positive pixel, true or predicted.

    >>> counts = Overlap(np.array([3, 0]), np.array([1, 0]), np.array([1, 0]))
    >>> weighted_dices(counts, np.array([[1, 1], [0, 2]]))
    array([0.75,  nan])
    """
    return dice(*(weights @ counts.astype(np.float64) for counts in overlap))


def dices_and_influences(
    overlap: Overlap, weights: Real[np.ndarray, "resample cluster"]
) -> tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, "resample cluster"]]:
    """Micro DSC of every resample, and its derivative by each cluster's weight.

    Args:
        overlap: Pixel counts of each cluster at the threshold.
        weights: How often each resample holds each cluster, not negative.

    Returns:
        As `weighted_dices`; and derivatives, also by clusters that a resample does not hold.
        Weighted and summed over the clusters of a resample they are 0. NaN where a resample has no
        positive pixel, true or predicted.

    >>> counts = Overlap(np.array([3, 0]), np.array([1, 0]), np.array([1, 2]))
    >>> dices_and_influences(counts, np.array([[1, 1]]))
    (array([0.6]), array([[ 0.12, -0.12]]))
    """
    pixels = 2.0 * overlap.tp + overlap.fp + overlap.fn
    found = weighted_dices(overlap, weights)
    influences = 2.0 * overlap.tp - np.outer(found, pixels)
    whole = np.asarray(weights @ pixels)
    return found, share_of(influences, np.broadcast_to(whole[:, None], influences.shape))


def best_dice_level(stack: HistogramStack) -> int:
    """The threshold of the largest micro DSC; of equals the highest.

    Choose it on the tuning corpus: chosen on the test corpus, it flatters the model.

    Raises:
        QualityError: No reference pixel is positive.

    >>> from ich_ray.statistics.pixel_histograms import slice_histogram, stack
    >>> one = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, False, True]]))
    >>> best_dice_level(stack([one]))
    7
    """
    num_positive = int(stack.pos.sum(dtype=np.int64))
    if num_positive == 0:
        raise QualityError(
            f"none of {stack.num_clusters} clusters has a positive reference pixel, so no "
            "threshold can be chosen; add exams with masks"
        )
    tp, fp = (
        np.cumsum(np.bincount(stack.level, counts, minlength=NUM_LEVELS)[::-1])
        for counts in (stack.pos, stack.neg)
    )
    return NUM_LEVELS - 1 - int(np.argmax(2 * tp / (tp + fp + num_positive)))


def _by_cluster(
    stack: HistogramStack, counts: Integer[np.ndarray, " entry"], entries: slice
) -> Int64[np.ndarray, " cluster"]:
    sums = np.bincount(stack.cluster[entries], counts[entries], minlength=stack.num_clusters)
    return sums.astype(np.int64)


def share_of(
    part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]
) -> Float64[np.ndarray, "*shape"]:
    """Part of the whole; NaN where the whole is nothing."""
    shares = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=shares, where=np.not_equal(whole, 0))
    return shares
