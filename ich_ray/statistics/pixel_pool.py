"""The pixels of any number of exams by score level: as large for a million exams as for one."""

import numpy as np
from jaxtyping import Int64

from ich_ray.statistics.pixel_histograms import HistogramStack, SliceHistogram
from ich_ray.statistics.score_levels import NUM_LEVELS


class PixelPool:
    """Sums of histograms, exact in any order.

    >>> from ich_ray.statistics.pixel_histograms import slice_histogram
    >>> pool = PixelPool()
    >>> for _ in range(2):
    ...     pool.add(slice_histogram(np.array([[7, 9]], np.uint16), np.array([[False, True]])))
    >>> pool.num_positive, pool.stack().level.tolist(), pool.stack().neg.tolist()
    (2, [7, 9], [2, 0])
    """

    def __init__(self) -> None:
        self.pos: Int64[np.ndarray, " level"] = np.zeros(NUM_LEVELS, np.int64)
        self.neg: Int64[np.ndarray, " level"] = np.zeros(NUM_LEVELS, np.int64)

    def add(self, histogram: SliceHistogram) -> None:
        """Add a histogram."""
        self.pos[histogram.level] += histogram.pos
        self.neg[histogram.level] += histogram.neg

    @property
    def num_positive(self) -> int:
        """Positive pixels."""
        return int(self.pos.sum())

    @property
    def num_pixels(self) -> int:
        """All pixels; 0 where no slice had a reference mask."""
        return self.num_positive + int(self.neg.sum())

    def floors(self) -> Int64[np.ndarray, " level"]:
        """Return the levels that hold a positive pixel, descending."""
        return np.flatnonzero(self.pos)[::-1].astype(np.int64)

    def histogram(self) -> SliceHistogram:
        """Return the sums as a histogram, which has room for 4e9 pixels a level."""
        one = self.stack()
        assert max(one.pos.max(initial=0), one.neg.max(initial=0)) < 2**32, "take it sooner"
        return SliceHistogram(
            level=one.level, pos=one.pos.astype(np.uint32), neg=one.neg.astype(np.uint32)
        )

    def stack(self) -> HistogramStack:
        """Return the sums as the histogram of a single cluster."""
        occurring = np.flatnonzero(self.pos + self.neg)
        return HistogramStack(
            level=occurring.astype(np.uint16),
            cluster=np.zeros(len(occurring), np.int32),
            pos=self.pos[occurring],
            neg=self.neg[occurring],
            num_clusters=1,
        )
