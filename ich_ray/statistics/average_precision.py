"""Average precision (AP) of pixels, exact, from histograms by score level.

All pixels are pooled ("micro"): a slice without positive pixels adds only false positives. Without
any positive pixel AP is undefined: NaN, never 0 or 1.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Integer, Real

from ich_ray.statistics.overlap import share_of
from ich_ray.statistics.pixel_histograms import HistogramStack, PixelCounts
from ich_ray.statistics.score_levels import NUM_LEVELS

NO_PIXELS = np.finfo(np.float64).tiny  # as a divisor: precision before any pixel is called is 0

VALUES_AT_ONCE = 2**18
"""Counts in each temporary array of `weighted_average_precisions`: 2 MB, to stay in cache."""

LEAST_LEVELS = 128
"""At once, however many clusters there are: products of a few rows wait for memory."""


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
    stack: PixelCounts, weights: Real[np.ndarray, "resample cluster"]
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

    >>> from ich_ray.statistics.pixel_histograms import slice_histogram, stack
    >>> one = slice_histogram(np.array([[7, 8, 9]], np.uint16), np.array([[True, False, True]]))
    >>> weighted_average_precisions(stack([one]), np.array([[1], [5], [0]]))
    array([0.83333333, 0.83333333,        nan])
    """
    gained, tp = np.zeros((2, len(weights)))
    for block in _weighted_blocks(stack, weights):
        gained, tp = _gained(block, gained), block.tp[-1]
    return share_of(gained, tp)


def average_precisions_and_influences(
    stack: PixelCounts, weights: Real[np.ndarray, "resample cluster"]
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

    >>> from ich_ray.statistics.pixel_histograms import slice_histogram, stack
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
        for factors, counts in (
            (block.precision - won_above, block.pos_counts),
            (lost_above, block.neg_counts),
        ):
            held = _held(counts)
            influences[:, held] += factors.T @ counts[:, held]
        counted += block.pos_counts.sum(axis=0), block.neg_counts.sum(axis=0)
        won, lost = won + wins.sum(axis=0), lost + losses.sum(axis=0)
    found = share_of(gained, tp)
    influences += np.outer(won - found, counted[0]) - np.outer(lost, counted[1])
    return found, share_of(influences, np.broadcast_to(tp[:, None], influences.shape))


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
    stack: PixelCounts, weights: Real[np.ndarray, "resample cluster"]
) -> Iterator[_WeightedBlock]:
    weights_by_cluster = np.ascontiguousarray(weights.T, dtype=np.float64)
    tp, fp = np.zeros((2, len(weights)))
    for pos_counts, neg_counts in _blocks(stack, num_resamples=len(weights)):
        pos, neg = (
            counts[:, held] @ weights_by_cluster[held]
            for counts in (pos_counts, neg_counts)
            for held in (_held(counts),)
        )
        tp_here = np.cumsum(pos, axis=0) + tp
        fp_here = np.cumsum(neg, axis=0) + fp
        called = np.maximum(tp_here + fp_here, NO_PIXELS)
        yield _WeightedBlock(pos_counts, neg_counts, pos, tp_here, called, tp_here / called)
        tp, fp = tp_here[-1], fp_here[-1]


def _held(counts: Float64[np.ndarray, "level cluster"]) -> Int64[np.ndarray, " held"] | slice:
    """Return the clusters that have a pixel at these levels, where they are few; else all."""
    held = np.flatnonzero(counts.any(axis=0))
    return held if 2 * len(held) < counts.shape[1] else slice(None)


def _gained(
    block: _WeightedBlock, gained: Float64[np.ndarray, " resample"]
) -> Float64[np.ndarray, " resample"]:
    """Return what precision times gain in recall comes to with a block, times all positives."""
    gains = block.pos * block.precision
    gains[0] += gained
    # A running sum has one order; `np.sum` has several, and the blocks would show in it.
    return np.asarray(np.cumsum(gains, axis=0)[-1])


def _blocks(
    counts: PixelCounts, *, num_resamples: int
) -> Iterator[tuple[Float64[np.ndarray, "block cluster"], Float64[np.ndarray, "block cluster"]]]:
    """Dense counts of a few levels at a time, descending, of positive and negative pixels.

    Recall grows at levels with positive pixels alone, so only these have a row: the negatives of
    the levels above, down from the previous row, are counted in it, which leaves AP exactly as is.
    The blocks are the same however the counts are divided into shelves.
    """
    floors = counts.floors()
    row_of_level = np.searchsorted(-floors, -np.arange(NUM_LEVELS))
    at_once = max(LEAST_LEVELS, VALUES_AT_ONCE // max(counts.num_clusters, num_resamples))
    top, begun = 0, None
    for shelf in counts.shelves():
        end = len(shelf.level)
        while end and top < len(floors):
            rows = floors[top : top + at_once]
            start = int(np.searchsorted(shelf.level, np.uint16(rows[-1])))
            found = _dense(shelf, slice(start, end), row_of_level - top, num_rows=len(rows))
            begun = found if begun is None else (begun[0] + found[0], begun[1] + found[1])
            end = start
            if start:
                # Entries below: the block has all of its own.
                yield begun
                top, begun = top + at_once, None
    if begun is not None:
        yield begun


def _dense(
    shelf: HistogramStack,
    entries: slice,
    row_of_level: Integer[np.ndarray, " level"],
    *,
    num_rows: int,
) -> tuple[Float64[np.ndarray, "block cluster"], Float64[np.ndarray, "block cluster"]]:
    cell = row_of_level[shelf.level[entries]] * shelf.num_clusters + shelf.cluster[entries]
    size = num_rows * shelf.num_clusters
    pos = np.bincount(cell, shelf.pos[entries], minlength=size)
    neg = np.bincount(cell, shelf.neg[entries], minlength=size)
    return pos.reshape(num_rows, -1), neg.reshape(num_rows, -1)
