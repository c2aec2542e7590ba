"""The radiologist's look at a ranking: which slices around each percentile a reader is shown.

Source: Lin & Yuh, section 2.2, where C was chosen so; method.md 1.1. How many slices, in which
order, and that the reader does not see the percentile, are ours.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ich_ray.config import ReviewConfig
from ich_ray.identity import content_hash
from ich_ray.ranker import Ranking

NEIGHBOURHOOD_PERCENT = 0.5
"""Of all slices, on each side of a percentile: there a slice is neither clearly within the top C %
nor clearly outside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One value of C, and what it would do."""

    percent: float
    positive: int
    """Slices that it makes positive."""

    cut: float
    """Probability of the last of them."""

    first: int
    end: int
    """Ranks of the slices around it, `end` not among them; 0 is the most probable slice."""

    lowest: float
    highest: float
    """Their probabilities lie within."""

    above: int
    """Slices that are more probable than `highest`."""


@dataclass(frozen=True, slots=True)
class SampledSlice:
    """A slice that a reader is shown."""

    key: str
    exam: str
    percents: tuple[float, ...]
    """The percentiles that it was drawn for: several where the ranking is short."""


def choices(ranking: Ranking, config: ReviewConfig) -> list[Choice]:
    """Return what each percentile of the settings would do.

    Args:
        ranking: Of every unlabelled slice.
        config: Percentiles, and how many slices are to be seen around each.
    """
    return [_choice(ranking, percent, config) for percent in config.percentiles]


def _choice(ranking: Ranking, percent: float, config: ReviewConfig) -> Choice:
    fallen = ranking.ordered[::-1]
    positive = ranking.num_positive(percent)
    first, end = around(positive, of=len(ranking), wanted=config.slices_per_percentile)
    highest = fallen[first]
    return Choice(
        percent=percent,
        positive=positive,
        cut=float(fallen[positive - 1]),
        first=first,
        end=end,
        lowest=float(fallen[end - 1]),
        highest=float(highest),
        above=len(fallen) - int(np.searchsorted(ranking.ordered, highest, side="right")),
    )


def around(positive: int, *, of: int, wanted: int) -> tuple[int, int]:
    """Return first and end of the ranks around a cut after `positive` slices.

    At least `wanted`, the nearest ones, where the ranking has so many.

    >>> around(1000, of=10_000, wanted=20), around(3, of=64, wanted=20)
    ((950, 1050), (0, 20))
    """
    half = max(math.ceil(of * NEIGHBOURHOOD_PERCENT / 100), math.ceil(wanted / 2))
    return max(0, min(positive - half, of - wanted)), min(of, max(positive + half, wanted))


def near(p: Float32[np.ndarray, " slice"], found: Iterable[Choice]) -> Bool[np.ndarray, " slice"]:
    """Tell of each slice whether it may be around a percentile: of these alone keys are needed."""
    either = np.zeros(len(p), np.bool_)
    for choice in found:
        either |= (p >= np.float32(choice.lowest)) & (p <= np.float32(choice.highest))
    return either


def sample(
    p: Float32[np.ndarray, " slice"],
    keys: np.ndarray,
    exams: np.ndarray,
    found: Sequence[Choice],
    config: ReviewConfig,
) -> list[SampledSlice]:
    """Draw the slices to look at, in the order in which they are shown.

    A pure function of its arguments: neither shards nor the order of arrival decide. Around each
    percentile as many exams as possible are drawn from, so that the sample is not one exam's
    neighbouring slices. The order is shuffled over all percentiles: the reader is blind to them.

    Args:
        p: Probability of hemorrhage of all slices that are `near` a choice, or of more.
        keys: Pseudonyms of the slices; they order equal probabilities, ascending.
        exams: Pseudonyms of their exams.
        found: The choices.
        config: Slices around each, seed.
    """
    drawn: dict[int, tuple[float, ...]] = {}
    for choice in found:
        places = ranked(p, keys, choice).tolist()
        for place in _spread(places, keys, exams, config, choice.percent):
            drawn[place] = (*drawn.get(place, ()), choice.percent)
    shown = sorted(drawn, key=lambda place: _lot(config.seed, "shown", str(keys[place])))
    return [SampledSlice(str(keys[i]), str(exams[i]), drawn[i]) for i in shown]


def ranked(
    p: Float32[np.ndarray, " slice"], keys: np.ndarray, choice: Choice
) -> Int64[np.ndarray, " ranked"]:
    """Return the places of the slices around a choice, by (-p, key)."""
    tied = np.flatnonzero(near(p, [choice]))
    order = tied[np.lexsort((keys[tied], -p[tied].astype(np.float64)))]
    return np.asarray(order[choice.first - choice.above : choice.end - choice.above], np.int64)


def sample_identity(config: ReviewConfig) -> str:
    """Return the hash of all settings that decide which slices are drawn, and their order."""
    return content_hash(
        {
            "percentiles": list(config.percentiles),
            "slices_per_percentile": config.slices_per_percentile,
            "seed": config.seed,
            "rules": 1,
        }
    )


def _spread(
    near: Sequence[int], keys: np.ndarray, exams: np.ndarray, config: ReviewConfig, percent: float
) -> Iterable[int]:
    """Draw from as many exams as possible: the second slice of one after the first of all."""
    lots = sorted(near, key=lambda place: _lot(config.seed, f"{percent:g}", str(keys[place])))
    seen: Counter[str] = Counter()
    turns = []
    for place in lots:
        turns.append((seen[str(exams[place])], place))
        seen[str(exams[place])] += 1
    # Stable: within one turn the order of the lots stays.
    turns.sort(key=lambda turn: turn[0])
    return [place for _, place in turns[: config.slices_per_percentile]]


def _lot(seed: int, what: str, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{what}/{key}".encode()).digest()
