"""Slice probabilities to pseudo-labels: the top C % are positive, with ternary masks.

The ranking is exact over the whole corpus and never in one place: of each shard the probabilities
are gathered, and of equal ones at a cut as many keys as it takes to tell them apart.

Source: Lin & Yuh, section 2.2 (ranker); method.md 1.1.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from ich_ray.errors import QualityError
from ich_ray.exam import IGNORED

HEAD = 4
"""Characters of a key by which equal probabilities are told apart at a time."""

GATHERED_KEYS = 1_000_000
"""Keys of equal probabilities that are few enough to be gathered whole."""


@runtime_checkable
class Shard(Protocol):
    """The slices of one part of the ranking, which is read when it is asked for."""

    def probabilities(self) -> Float32[np.ndarray, " slice"]:
        """Return the probability of hemorrhage of each slice."""

    def keys(self, rows: Int64[np.ndarray, " _"]) -> np.ndarray:
        """Return the pseudonyms of some of them."""


class Cut(NamedTuple):
    """The last slice of a share of the ranking: it and what comes before it are within."""

    p: float
    key: str
    """Of the slices with this very probability the last one; empty: all of them are within."""

    def within(
        self, p: Float32[np.ndarray, " slice"], keys: np.ndarray
    ) -> Bool[np.ndarray, " slice"]:
        """Tell of each slice whether it is within.

        >>> cut = Cut(0.5, "b")
        >>> cut.within(np.array([0.9, 0.5, 0.5], np.float32), np.array(["z", "b", "c"]))
        array([ True,  True, False])
        """
        tied = p == np.float32(self.p)
        if self.key:
            tied &= keys <= self.key
        return np.asarray((p > np.float32(self.p)) | tied, np.bool_)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The probabilities of a whole corpus, in order."""

    ordered: Float32[np.ndarray, " slice"]
    """From low to high."""

    @classmethod
    def of(cls, probabilities: Sequence[Float32[np.ndarray, " _"]]) -> "Ranking":
        """Put the probabilities of all shards in order.

        Raises:
            QualityError: One is no number, or the teacher says the same for all slices.
        """
        p = np.concatenate([np.empty(0, np.float32), *probabilities])
        # NaN and infinities come last or first, so the order finds them without a copy.
        p.sort()
        check_probabilities(p)
        return cls(p)

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self.ordered)

    def rank(self, p: Float32[np.ndarray, " slice"]) -> Int64[np.ndarray, " slice"]:
        """Return how many slices are more probable; equal ones share a rank.

        >>> Ranking.of([np.array([0.5, 0.9, 0.5, 0.1], np.float32)]).rank(np.float32([0.5, 0.1]))
        array([1, 3])
        """
        # Asked in order, each answer lies near the one before: ten times faster.
        order = np.argsort(p)
        above = np.empty(len(p), np.int64)
        above[order] = len(self) - np.searchsorted(self.ordered, p[order], side="right")
        return above

    def num_positive(self, top_percent: float) -> int:
        """Return how many slices the top C % are: at least one, and never all."""
        return int(np.clip(round(len(self) * top_percent / 100), 1, len(self) - 1))

    def cut(self, count: int, shards: Sequence[Shard]) -> Cut:
        """Return the cut after the first `count` slices.

        Args:
            count: 1 to the number of slices.
            shards: Whose probabilities these are. Keys order equal ones, so that the cut depends
                neither on shards nor on the order of arrival.
        """
        p = self.ordered[len(self) - count]
        first, end = (int(np.searchsorted(self.ordered, p, side)) for side in ("left", "right"))
        wanted = count - (len(self) - end)
        if wanted == end - first:
            return Cut(float(p), "")
        return Cut(float(p), _nth_key(shards, p, wanted, of=end - first))


@dataclass(frozen=True, slots=True)
class Cuts:
    """Which slices are positive, and which are ignored."""

    positive: Cut
    ignored: Cut | None = None
    """After the last slice that is ignored; None: none is."""

    def labels(
        self, p: Float32[np.ndarray, " slice"], keys: np.ndarray
    ) -> UInt8[np.ndarray, " slice"]:
        """Return 1, 0 or IGNORED for each slice.

        >>> Cuts(Cut(0.8, ""), Cut(0.4, "")).labels(
        ...     np.array([0.9, 0.5, 0.1], np.float32), np.array(["a", "b", "c"]))
        array([  1, 255,   0], dtype=uint8)
        """
        labels = np.zeros(len(p), np.uint8)
        if self.ignored is not None:
            labels[self.ignored.within(p, keys)] = IGNORED
        labels[self.positive.within(p, keys)] = 1
        return labels


def check_probabilities(ordered: Float32[np.ndarray, " slice"]) -> None:
    """Refuse what cannot be ranked.

    Raises:
        QualityError: A probability is no number, or the teacher says the same for all slices.
    """
    if len(ordered) and not np.isfinite(ordered[[0, -1]]).all():
        raise QualityError(
            f"{int((~np.isfinite(ordered)).sum())} of {len(ordered)} slice probabilities are no "
            "numbers; look at the teacher's loss curve, and train it again"
        )
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        raise QualityError(
            f"the teacher says the same for all {len(ordered)} unlabelled slices: a ranking would "
            "be chance; train the teacher longer, or look at its input window"
        )


def _nth_key(shards: Sequence[Shard], p: np.float32, nth: int, *, of: int) -> str:
    """Return the nth of the keys with probability `p` in their order, from 1.

    Keys that begin alike are counted first, so that of many equal ones few are in memory.
    """
    head = ""
    while of > GATHERED_KEYS:
        counts: Counter[str] = Counter()
        for shard in shards:
            found = _tied_keys(shard, p, head).astype(f"U{len(head) + HEAD}")
            counts.update(dict(zip(*_with_counts(found), strict=True)))
        for longer in sorted(counts):
            if nth <= counts[longer]:
                break
            nth -= counts[longer]
        if longer == head:
            raise QualityError(f"{of} slices have one key, {head}: ingest that corpus again")
        head, of = longer, counts[longer]
    keys = np.concatenate([_tied_keys(shard, p, head) for shard in shards])
    return str(np.partition(keys, nth - 1)[nth - 1])


def _with_counts(values: np.ndarray) -> tuple[list[str], list[int]]:
    unique, counts = np.unique(values, return_counts=True)
    return unique.tolist(), counts.tolist()


def _tied_keys(shard: Shard, p: np.float32, head: str) -> np.ndarray:
    tied = np.flatnonzero(shard.probabilities() == p)
    if not len(tied):
        return np.empty(0, "U1")
    keys = shard.keys(tied).astype(str)
    return np.asarray(keys[np.char.startswith(keys, head)] if head else keys)


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
