"""Pixels counted by score level and truth: all that average precision and overlap need of them.

Counted once, where the pixels lie; every resample is then a weighting of the counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt16, UInt32

from ich_ray.statistics.score_levels import NUM_LEVELS

MarkedLevels = tuple[
    UInt16[np.ndarray, "_ _"],
    Bool[np.ndarray, "_ _"],
    Bool[np.ndarray, "_ _"] | None,
]
"""Score levels, reference, and what counts of a slice; slices may differ in size."""


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
    """The histograms of all clusters (slices, exams or patients), one entry per cluster and level.

    Sparse, 14 bytes an entry: 0.2 GB for 529 slices of 512 x 512 pixels of spread-out scores. A
    cluster and level may stand in several entries, which add up.
    """

    level: UInt16[np.ndarray, " entry"]
    """Ascending; a level repeats once per cluster that holds it."""

    cluster: Integer[np.ndarray, " entry"]
    """Index of the cluster."""

    pos: Integer[np.ndarray, " entry"]
    """Positive pixels of this cluster at this level."""

    neg: Integer[np.ndarray, " entry"]
    """Negative pixels of this cluster at this level."""

    num_clusters: int
    """Clusters in all, those without pixels included."""

    def floors(self) -> Int64[np.ndarray, " level"]:
        """Return the levels that hold a positive pixel, descending."""
        has_positive = np.zeros(NUM_LEVELS, dtype=np.bool_)
        has_positive[self.level[self.pos > 0]] = True
        return np.flatnonzero(has_positive)[::-1].astype(np.int64)

    def shelves(self) -> Iterator["HistogramStack"]:
        """Yield it: all of its levels are in memory."""
        yield self


@runtime_checkable
class PixelCounts(Protocol):
    """The histograms of all clusters, of which a range of levels is looked at at a time."""

    @property
    def num_clusters(self) -> int:
        """Clusters in all, those without pixels included."""

    def floors(self) -> Int64[np.ndarray, " level"]:
        """Return the levels that hold a positive pixel, descending."""

    def shelves(self) -> Iterator[HistogramStack]:
        """Yield the entries by ranges of levels, the highest first.

        Levels without a positive pixel at or below them may be left out.
        """


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
    return slices_histogram([(levels, mask, valid)])


def slices_histogram(slices: Sequence[MarkedLevels]) -> SliceHistogram:
    """Count the pixels of several slices at once, as `merge` of the histogram of each would.

    Args:
        slices: Of each its score levels, its reference, and what counts of it, as above.
    """
    counted, positive = [np.empty(0, np.uint16)], [np.empty(0, np.uint16)]
    for levels, mask, valid in slices:
        counted.append(levels.ravel() if valid is None else levels[valid])
        positive.append(levels[mask] if valid is None else levels[mask & valid])
    both = np.bincount(np.concatenate(counted), minlength=NUM_LEVELS)
    pos = np.bincount(np.concatenate(positive), minlength=NUM_LEVELS)
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
    of_each = np.arange(len(histograms), dtype=np.int32)
    return stack_of(histograms, of_each, num_clusters=len(histograms))


def stack_of(
    histograms: Sequence[SliceHistogram],
    cluster: Integer[np.ndarray, " histogram"],
    *,
    num_clusters: int,
) -> HistogramStack:
    """Put histograms together, several of one cluster among them.

    Args:
        histograms: E.g. of exams.
        cluster: Of each, e.g. its patient.
        num_clusters: Clusters in all.
    """
    sizes = [len(histogram.level) for histogram in histograms]
    level = np.concatenate([np.empty(0, np.uint16), *(h.level for h in histograms)])
    # 16-bit keys are sorted in linear time; stable, so clusters ascend within a level.
    order = np.argsort(level, kind="stable")
    return HistogramStack(
        level=level[order],
        cluster=np.repeat(cluster.astype(np.int32), sizes)[order],
        pos=np.concatenate([np.empty(0, np.uint32), *(h.pos for h in histograms)])[order],
        neg=np.concatenate([np.empty(0, np.uint32), *(h.neg for h in histograms)])[order],
        num_clusters=num_clusters,
    )


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
