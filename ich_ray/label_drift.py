"""How labels and scores move: from one round of pseudo-labels to another, from teacher to student.

Both are diagnostics for a person, and read by nothing that ranks, labels or trains.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from scipy.stats import spearmanr

from ich_ray.exam import IGNORED
from ich_ray.label_diagnostics import logits

CLASSES = (1, IGNORED, 0)
"""Positive, ignored, negative: rows and columns of Agreement.transitions."""

JOINT_EDGES = tuple(float(edge) for edge in range(-14, 15))
"""Logits: of the joint histograms."""

QUANTILES = tuple(i / 100 for i in range(101))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Agreement:
    """Two tables of pseudo-labels on the slices that both label."""

    slices: int
    only_first: int
    """Slices that the first one alone labels."""

    only_second: int
    jaccard: float
    """Of the two sets of positive slices: common ones over all of either; NaN without any."""

    spearman: float
    """Rank correlation of the scores; NaN where one of them says the same of all slices."""

    transitions: Int64[np.ndarray, "3 3"]
    """Slices by their first label (row) and their second one (column), in the order of CLASSES."""

    joint: Int64[np.ndarray, "bin bin2"]
    """Slices by both logits, between each two of JOINT_EDGES; rows are of the first."""

    def share(self, first: int, second: int) -> float:
        """Return the share of the slices that went from one label to another; NaN of no slices."""
        moved = int(self.transitions[CLASSES.index(first), CLASSES.index(second)])
        return moved / self.slices if self.slices else math.nan

    @property
    def flipped(self) -> tuple[float, float]:
        """Shares of the slices that went from negative to positive, and back."""
        return self.share(0, 1), self.share(1, 0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drift:
    """What a student says of the unlabelled slices, beside its teacher."""

    slices: int
    mean_shift: float
    """Mean of student's logit - teacher's logit: above 0 the student is more suspicious."""

    shift_of_positive: float
    """The same of the slices with a positive pseudo-label; NaN without any ..."""

    shift_of_negative: float
    spread: float
    """Standard deviation of the differences."""

    up: float
    """Share of the slices whose probability crossed 0.5 upwards ..."""

    down: float
    spearman: float
    teacher_quantiles: Float64[np.ndarray, " quantile"]
    """Logits at QUANTILES; with the student's, a quantile-quantile plot."""

    student_quantiles: Float64[np.ndarray, " quantile"]
    joint: Int64[np.ndarray, "bin bin2"]
    """Slices by both logits, between each two of JOINT_EDGES; rows are the teacher's."""


def common(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the keys that both have, in the order of the keys.

    >>> [rows.tolist() for rows in common(np.array(["b", "a"]), np.array(["c", "b"]))]
    [[0], [1]]
    """
    _, of_first, of_second = np.intersect1d(first, second, return_indices=True)
    return of_first, of_second


def agreement(
    first: tuple[np.ndarray, UInt8[np.ndarray, " a"], Float32[np.ndarray, " a"]],
    second: tuple[np.ndarray, UInt8[np.ndarray, " b"], Float32[np.ndarray, " b"]],
) -> Agreement:
    """Compare two tables of pseudo-labels, slice by slice.

    Args:
        first: Keys of its slices, their labels (1, 0 or IGNORED) and probabilities.
        second: Likewise; its slices may be others, and in another order.
    """
    rows, others = common(first[0], second[0])
    a, b = first[1][rows], second[1][others]
    either = int(((a == 1) | (b == 1)).sum())
    transitions = [[int(((a == old) & (b == new)).sum()) for new in CLASSES] for old in CLASSES]
    a_logits, b_logits = logits(first[2][rows]), logits(second[2][others])
    return Agreement(
        slices=len(rows),
        only_first=len(first[0]) - len(rows),
        only_second=len(second[0]) - len(rows),
        jaccard=int(((a == 1) & (b == 1)).sum()) / either if either else math.nan,
        # Of the probabilities: logits beyond LEAST are tied.
        spearman=rank_correlation(first[2][rows], second[2][others]),
        transitions=np.array(transitions, np.int64),
        joint=_joint(a_logits, b_logits),
    )


def drift(
    teacher: Float32[np.ndarray, " slice"],
    student: Float32[np.ndarray, " slice"],
    label: UInt8[np.ndarray, " slice"],
) -> Drift:
    """Compare what teacher and student say of the same slices.

    Args:
        teacher: Probabilities, of at least one slice.
        student: Of the same slices.
        label: Their pseudo-labels, 1, 0 or IGNORED.
    """
    before, after = logits(teacher), logits(student)
    shift = after - before
    return Drift(
        slices=len(shift),
        mean_shift=float(shift.mean()),
        shift_of_positive=_mean(shift[label == 1]),
        shift_of_negative=_mean(shift[label == 0]),
        spread=float(shift.std()),
        up=float(((teacher < 0.5) & (student >= 0.5)).mean()),
        down=float(((teacher >= 0.5) & (student < 0.5)).mean()),
        spearman=rank_correlation(teacher, student),
        teacher_quantiles=np.quantile(before, QUANTILES),
        student_quantiles=np.quantile(after, QUANTILES),
        joint=_joint(before, after),
    )


def rank_correlation(a: Float[np.ndarray, " slice"], b: Float[np.ndarray, " slice"]) -> float:
    """Return Spearman's rank correlation, ties at midranks; NaN where a side does not vary.

    >>> round(rank_correlation(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4, 0.9])), 6)
    1.0
    """
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return math.nan
    return float(spearmanr(a, b).statistic)


def _mean(values: Float64[np.ndarray, " slice"]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _joint(
    a: Float64[np.ndarray, " slice"], b: Float64[np.ndarray, " slice"]
) -> Int64[np.ndarray, "bin bin2"]:
    edges = np.array(JOINT_EDGES)
    return np.asarray(np.histogram2d(a, b, bins=(edges, edges))[0], np.int64)
