"""Which exams a report shows: the largest gains and losses, and some of all others."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

Why = Literal["gain", "loss", "bleed", "no bleed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownExam:
    """An exam of the gallery, and why it is shown."""

    exam: int
    """Its place among all."""

    why: Why


def shown_exams(
    labels: Bool[np.ndarray, " exam"],
    scores: Float64[np.ndarray, " exam"],
    gains: Float64[np.ndarray, " exam"],
    *,
    count: int,
) -> list[ShownExam]:
    """Choose exams: a third of them gains and losses, half of the rest bleeds, then no bleeds.

    Args:
        labels: True for a positive exam.
        scores: By one model: bleeds are chosen evenly over them, of others the highest.
        gains: DSC of the first model less that of the second; NaN where it is not known.
        count: How many at most; no exam is shown twice.

    >>> labels, gains = np.array([True, True, True, False]), np.array([0.2, -0.1, 0.0, np.nan])
    >>> found = shown_exams(labels, np.array([0.9, 0.8, 0.1, 0.3]), gains, count=4)
    >>> [(one.exam, one.why) for one in found]
    [(0, 'gain'), (1, 'loss'), (2, 'bleed'), (3, 'no bleed')]
    """
    by_gain = np.argsort(np.where(np.isnan(gains), 0.0, gains), kind="stable")
    each = max(1, count // 6)
    best = [int(i) for i in by_gain[::-1][:each] if gains[i] > 0]
    worst = [int(i) for i in by_gain[:each] if gains[i] < 0]
    chosen = [
        *(ShownExam(exam=i, why="gain") for i in best),
        *(ShownExam(exam=i, why="loss") for i in worst),
    ][:count]
    taken = {one.exam for one in chosen}
    order = [int(i) for i in np.argsort(-scores, kind="stable") if int(i) not in taken]
    positive = [i for i in order if labels[i]]
    negative = [i for i in order if not labels[i]]
    left = count - len(chosen)
    bleeds = min(len(positive), max(left - len(negative), -(-2 * left // 3)))
    chosen += [ShownExam(exam=positive[i], why="bleed") for i in _evenly(len(positive), bleeds)]
    return [*chosen, *(ShownExam(exam=i, why="no bleed") for i in negative[: left - bleeds])]


def _evenly(size: int, count: int) -> Int64[np.ndarray, " chosen"]:
    return np.linspace(0, size - 1, count).round().astype(np.int64)
