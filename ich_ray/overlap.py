"""Overlap of predicted and true pixels, from histograms by score level.

Pixel scores are kept as 16-bit levels of the logit. How many positive and negative pixels a slice
has at each level is all that average precision (AP) and the Dice similarity coefficient (DSC) need:
pixels are counted once, where they lie, and every resample is a weighting of the counts.

Empty masks: AP and DSC pool all pixels ("micro"), so that a slice without positive pixels adds only
false positives. AP without any positive pixel, and DSC without any in reference or prediction, are
undefined: NaN, never 0 or 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Float32, Float64, Int64, Integer, Real, UInt16, UInt32

from ich_ray.errors import QualityError

LOGIT_GRID = "min(65535, rint(2048 * (clip(logit, -16, 16) + 16)))"
"""How a logit becomes a level, for the record; probability 0.5 is level 32768 exactly."""

NUM_LEVELS = 2**16
NO_PIXELS = np.finfo(np.float64).tiny  # as a divisor: precision before any pixel is called is 0
LEVELS_PER_LOGIT = 2048
LARGEST_LOGIT = 16

VALUES_AT_ONCE = 2**18
"""Counts in each temporary array of `weighted_average_precisions`: 2 MB, to stay in cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceHistogram:
    """Pixels by score level, of one slice or of several merged; only levels that occur."""

    level: UInt16[np.ndarray, " level"]
    """Ascending, without repeats."""

    pos: UInt32[np.ndarray, " level"]
    """Pixels at this level inside the reference mask."""

    neg: UInt32[np.ndarray, " level"]
    """Pixels at this level outside the reference mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HistogramStack:
    """The histograms of all clusters (slices, exams or patients): one entry per cluster and level.

    Sparse, 14 bytes an entry: 0.2 GB for 529 slices of 512 x 512 pixels of spread-out scores.
    """

    level: UInt16[np.ndarray, " entry"]
    """Ascending; a level repeats once per cluster that holds it."""

    cluster: Integer[np.ndarray, " entry"]
    """Index of the cluster."""

    pos: UInt32[np.ndarray, " entry"]
    """Positive pixels of this cluster at this level."""

    neg: UInt32[np.ndarray, " entry"]
    """Negative pixels of this cluster at this level."""

    num_clusters: int
    """Clusters in all, those without pixels included."""


class Overlap(NamedTuple):
    """Pixels of each cluster where prediction and reference agree or not, at one threshold."""

    tp: Int64[np.ndarray, " cluster"]
    fp: Int64[np.ndarray, " cluster"]
    fn: Int64[np.ndarray, " cluster"]


def quantise_logits(logits: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Logits to 16-bit levels on the fixed grid `LOGIT_GRID`; monotone.

    The error is at most 1/4096 of a logit within [-16, 16); beyond, logits share the last level.

    Raises:
        QualityError: A logit is NaN.

    >>> quantise_logits(np.array([-99.0, -0.001, 0.0, 99.0]))
    array([    0, 32766, 32768, 65535], dtype=uint16)
    """
    num_nan = int(np.count_nonzero(np.isnan(logits)))
    if num_nan > 0:
        raise QualityError(
            f"{num_nan} of {logits.size} logits are NaN; predict again, or leave the slice out"
        )
    # Clipped before the cast, since a large 64-bit logit would overflow in 32 bits.
    clipped = np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float32)
    levels = np.rint((clipped + LARGEST_LOGIT) * LEVELS_PER_LOGIT)
    return np.asarray(np.minimum(levels, NUM_LEVELS - 1), dtype=np.uint16)


def logit_of_level(level: UInt16[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The logit that a level stands for, exactly.

    >>> logit_of_level(np.array([0, 32768, 65535], dtype=np.uint16)).tolist()
    [-16.0, 0.0, 15.99951171875]
    """
    return level.astype(np.float32) / np.float32(LEVELS_PER_LOGIT) - np.float32(LARGEST_LOGIT)


def probability_of_level(level: UInt16[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """The probability that a level stands for, the logistic function of its logit.

    >>> probability_of_level(np.array([32768], dtype=np.uint16))
    array([0.5])
    """
    return 1 / (1 + np.exp(-logit_of_level(level).astype(np.float64)))


def slice_histogram(
    levels: UInt16[np.ndarray, "rows columns"],
    mask: Bool[np.ndarray, "rows columns"],
    *,
    valid: Bool[np.ndarray, "rows columns"] | None = None,
) -> SliceHistogram:
    """Count the positive and negative pixels of a slice at each score level.

    Args:
        levels: Score level of each pixel.
        mask: The reference, True where the pixel is positive.
        valid: False where the pixel is to be ignored; all pixels count if absent.

    >>> levels = np.array([[7, 7], [9, 9]], dtype=np.uint16)
    >>> found = slice_histogram(levels, np.array([[False, False], [False, True]]))
    >>> found.level.tolist(), found.pos.tolist(), found.neg.tolist()
    ([7, 9], [0, 1], [2, 1])
    """
    counted = levels.ravel() if valid is None else levels[valid]
    pos_levels = levels[mask] if valid is None else levels[mask & valid]
    both = np.bincount(counted, minlength=NUM_LEVELS)
    pos = np.bincount(pos_levels, minlength=NUM_LEVELS)
    return _sparse(pos=pos, neg=both - pos)


def merge(histograms: Sequence[SliceHistogram]) -> SliceHistogram:
    """Add histograms up, e.g. those of an exam's slices; exact, in any order.

    >>> one = slice_histogram(np.array([[7, 9]], np.uint16), np.array([[False, True]]))
    >>> merge([one, one]).neg.tolist()
    [2, 0]
    """
    pos, neg = np.zeros(NUM_LEVELS, np.int64), np.zeros(NUM_LEVELS, np.int64)
    for histogram in histograms:
        pos[histogram.level] += histogram.pos
        neg[histogram.level] += histogram.neg
    return _sparse(pos=pos, neg=neg)


def stack(histograms: Sequence[SliceHistogram]) -> HistogramStack:
    """Put one histogram per cluster together, in the order of the clusters.

    >>> one = slice_histogram(np.array([[7, 9]], np.uint16), np.array([[False, True]]))
    >>> stack([one, one]).level.tolist()
    [7, 7, 9, 9]
    """
    sizes = [len(histogram.level) for histogram in histograms]
    level = np.concatenate([np.empty(0, np.uint16), *(h.level for h in histograms)])
    # 16-bit keys are sorted in linear time; stable, so clusters ascend within a level.
    order = np.argsort(level, kind="stable")
    return HistogramStack(
        level=level[order],
        cluster=np.repeat(np.arange(len(histograms), dtype=np.int32), sizes)[order],
        pos=np.concatenate([np.empty(0, np.uint32), *(h.pos for h in histograms)])[order],
        neg=np.concatenate([np.empty(0, np.uint32), *(h.neg for h in histograms)])[order],
        num_clusters=len(histograms),
    )


def pixel_average_precision(
    pos: Real[np.ndarray, " level"], neg: Real[np.ndarray, " level"]
) -> float:
    """Average precision from pixel counts by level.

    Args:
        pos: Positive pixels at each level, levels ascending.
        neg: Negative pixels at each level.

    Returns:
        The sum over levels of precision times the gain in recall; NaN without positive pixels.

    Source: scikit-learn `average_precision_score`, equal to it on one score per pixel.

    >>> pixel_average_precision(np.array([0, 1, 1]), np.array([2, 1, 0]))
    0.8333333333333333
    """
    falling_pos, falling_neg = pos[::-1].astype(np.float64), neg[::-1].astype(np.float64)
    tp, fp = np.cumsum(falling_pos), np.cumsum(falling_neg)
    if len(pos) == 0 or tp[-1] == 0:
        return math.nan
    return float(np.sum(falling_pos * tp / np.maximum(tp + fp, NO_PIXELS)) / tp[-1])


def weighted_average_precisions(
    stack: HistogramStack, weights: Real[np.ndarray, "resample cluster"]
) -> Float64[np.ndarray, " resample"]:
    """Exact pixel average precision of every resample, all pixels pooled.

    With integer weights, counts are exact in float64, up to 9e15 pixels, and a resample's AP is the
    same to the last bit however the resamples are divided. The levels pass in blocks: memory is a
    float64 copy of `weights`, tens of megabytes, and at the very worst 24 bytes an entry.

    Args:
        stack: Pixel counts of each cluster.
        weights: How often each resample holds each cluster, not negative.

    Returns:
        One AP per resample; NaN where a resample holds no positive pixel.

    Source: `pixel_average_precision` of the weighted sum of the clusters' histograms.

    >>> one = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, False, True]]))
    >>> weighted_average_precisions(stack([one]), np.array([[1], [5], [0]]))
    array([0.83333333, 0.83333333,        nan])
    """
    gained, tp = np.zeros((2, len(weights)))
    for block in _weighted_blocks(stack, weights):
        gained, tp = _gained(block, gained), block.tp[-1]
    return _share(gained, tp)


def average_precisions_and_influences(
    stack: HistogramStack, weights: Real[np.ndarray, "resample cluster"]
) -> tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, "resample cluster"]]:
    """Pixel average precision of every resample, and its derivative by each cluster's weight.

    Args:
        stack: Pixel counts of each cluster.
        weights: How often each resample holds each cluster, not negative.

    Returns:
        As `weighted_average_precisions`; and derivatives, by the clusters that a resample holds:
        others have a value without a meaning. Weighted and summed over the clusters of a resample
        they are 0. NaN where a resample holds no positive pixel.

    Source: AP is the sum over levels of p T / (P C): p the positive pixels at a level, T and C the
    positive and all pixels at or above it, P all positive ones. With a = p / C and q = T / C, a
    cluster's weight changes P AP by the sum over levels of the cluster's p (q + A) - n B, where A
    and B are the sums of a (1 - q) and of a q over this level and all below, and P by its own.

    >>> one = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, False, True]]))
    >>> other = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, True, False]]))
    >>> ap, influence = average_precisions_and_influences(stack([one, other]), np.array([[1, 1]]))
    >>> ap.round(3), influence.round(3)
    (array([0.583]), array([[ 0.062, -0.062]]))
    """
    gained, tp, won, lost = np.zeros((4, len(weights)))
    influences = np.zeros((len(weights), stack.num_clusters))
    counted = np.zeros((2, stack.num_clusters))
    for block in _weighted_blocks(stack, weights):
        gained, tp = _gained(block, gained), block.tp[-1]
        of_called = block.pos / block.called
        wins, losses = of_called * (1 - block.precision), of_called * block.precision
        # From below, A and B are the sums over all levels less those above, which came before.
        won_above = np.cumsum(wins, axis=0) - wins + won
        lost_above = np.cumsum(losses, axis=0) - losses + lost
        influences += (block.precision - won_above).T @ block.pos_counts
        influences += lost_above.T @ block.neg_counts
        counted += block.pos_counts.sum(axis=0), block.neg_counts.sum(axis=0)
        won, lost = won + wins.sum(axis=0), lost + losses.sum(axis=0)
    found = _share(gained, tp)
    influences += np.outer(won - found, counted[0]) - np.outer(lost, counted[1])
    return found, _share(influences, np.broadcast_to(tp[:, None], influences.shape))


def overlap_at(stack: HistogramStack, level: int) -> Overlap:
    """Count true and false positives and false negatives of each cluster at a threshold.

    Args:
        stack: Pixel counts of each cluster.
        level: Pixels at this level or above are called positive.

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
    return _share(twice_tp, np.asarray(twice_tp + fp + fn))


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
    return found, _share(influences, np.broadcast_to(whole[:, None], influences.shape))


def best_dice_level(stack: HistogramStack) -> int:
    """The threshold of the largest micro DSC; of equals the highest.

    Choose it on the tuning corpus: chosen on the test corpus, it flatters the model.

    Raises:
        QualityError: No reference pixel is positive.

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


def _sparse(
    *, pos: Int64[np.ndarray, " level"], neg: Int64[np.ndarray, " level"]
) -> SliceHistogram:
    both = pos + neg
    assert both.max() < 2**32, "more than 4e9 pixels at one level; merge fewer slices"
    occurring = np.flatnonzero(both)
    return SliceHistogram(
        level=occurring.astype(np.uint16),
        pos=pos[occurring].astype(np.uint32),
        neg=neg[occurring].astype(np.uint32),
    )


class _WeightedBlock(NamedTuple):
    """A few levels, descending, of all clusters and of every resample."""

    pos_counts: Float64[np.ndarray, "level cluster"]
    neg_counts: Float64[np.ndarray, "level cluster"]
    pos: Float64[np.ndarray, "level resample"]
    tp: Float64[np.ndarray, "level resample"]
    """Positive pixels at or above the level."""

    called: Float64[np.ndarray, "level resample"]
    """All pixels at or above it; never 0, to divide by."""

    precision: Float64[np.ndarray, "level resample"]


def _weighted_blocks(
    stack: HistogramStack, weights: Real[np.ndarray, "resample cluster"]
) -> Iterator[_WeightedBlock]:
    weights_by_cluster = np.ascontiguousarray(weights.T, dtype=np.float64)
    tp, fp = np.zeros((2, len(weights)))
    for pos_counts, neg_counts in _blocks(stack, num_resamples=len(weights)):
        pos = pos_counts @ weights_by_cluster
        tp_here = np.cumsum(pos, axis=0) + tp
        fp_here = np.cumsum(neg_counts @ weights_by_cluster, axis=0) + fp
        called = np.maximum(tp_here + fp_here, NO_PIXELS)
        yield _WeightedBlock(pos_counts, neg_counts, pos, tp_here, called, tp_here / called)
        tp, fp = tp_here[-1], fp_here[-1]


def _gained(
    block: _WeightedBlock, gained: Float64[np.ndarray, " resample"]
) -> Float64[np.ndarray, " resample"]:
    """Return what precision times gain in recall comes to with a block, times all positives."""
    gains = block.pos * block.precision
    gains[0] += gained
    # A running sum has one order; `np.sum` has several, and the blocks would show in it.
    return np.asarray(np.cumsum(gains, axis=0)[-1])


def _blocks(
    stack: HistogramStack, *, num_resamples: int
) -> Iterator[tuple[Float64[np.ndarray, "block cluster"], Float64[np.ndarray, "block cluster"]]]:
    """Dense counts of a few levels at a time, descending, of positive and negative pixels.

    Recall grows at levels with positive pixels alone, so only these have a row: the negatives of
    the levels above, down from the previous row, are counted in it, which leaves AP exactly as is.
    """
    has_positive = np.zeros(NUM_LEVELS, dtype=np.bool_)
    has_positive[stack.level[stack.pos > 0]] = True
    floors = np.flatnonzero(has_positive)[::-1]
    row_of_level = np.searchsorted(-floors, -np.arange(NUM_LEVELS))
    at_once = max(1, VALUES_AT_ONCE // max(stack.num_clusters, num_resamples))
    end = len(stack.level)
    for top in range(0, len(floors), at_once):
        rows = floors[top : top + at_once]
        start = int(np.searchsorted(stack.level, np.uint16(rows[-1])))
        cell = (row_of_level[stack.level[start:end]] - top) * stack.num_clusters
        cell += stack.cluster[start:end]
        size = len(rows) * stack.num_clusters
        pos = np.bincount(cell, stack.pos[start:end], minlength=size)
        neg = np.bincount(cell, stack.neg[start:end], minlength=size)
        yield pos.reshape(len(rows), -1), neg.reshape(len(rows), -1)
        end = start


def _by_cluster(
    stack: HistogramStack, counts: UInt32[np.ndarray, " entry"], entries: slice
) -> Int64[np.ndarray, " cluster"]:
    sums = np.bincount(stack.cluster[entries], counts[entries], minlength=stack.num_clusters)
    return sums.astype(np.int64)


def _share(
    part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]
) -> Float64[np.ndarray, "*shape"]:
    """Part of the whole; NaN where the whole is nothing."""
    shares = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=shares, where=np.not_equal(whole, 0))
    return shares
