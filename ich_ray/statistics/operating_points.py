"""Calling exams positive: thresholds that tuning exams fix, and what they are worth on others.

A threshold that is chosen on the exams on which it is judged flatters the model (statistics.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.proportions import holm, mcnemar, wilson
from ich_ray.statistics.roc import roc_curve

Side = Literal["sensitivity", "specificity"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a threshold is to reach on the tuning exams, at the best it can do for the other."""

    kind: Side
    at_least: float
    """Between 0 and 1."""

    def __str__(self) -> str:
        """Return it for a person.

        >>> str(Rule("sensitivity", 0.92))
        'sensitivity at least 0.92'
        """
        return f"{self.kind} at least {self.at_least:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """Exams by what they are and what they were called."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def sensitivity(self) -> Interval:
        """Share of the positive exams that were called so, with Wilson's interval."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Interval:
        """Share of the negative exams that were called so, with Wilson's interval."""
        return _share(self.tn, self.tn + self.fp)

    def predictive_values(self, prevalence: float) -> tuple[float, float]:
        """Return the positive and the negative predictive value where so many exams are positive.

        Args:
            prevalence: Share of positive exams where the model is to be used, within (0, 1).

        Returns:
            NaN for a call that is never made.

        Source: Bayes' rule on sensitivity and specificity.

        >>> calls = Calls(tp=9, fp=10, fn=1, tn=90)
        >>> [round(value, 4) for value in calls.predictive_values(10 / 110)]
        [0.4737, 0.989]
        """
        hit, miss = prevalence * self.sensitivity.estimate, 1 - self.specificity.estimate
        alarm, clear = (1 - prevalence) * miss, (1 - prevalence) * (1 - miss)
        missed = prevalence - hit
        return _ratio(hit, hit + alarm), _ratio(clear, clear + missed)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A model at one threshold."""

    model: str
    rule: Rule
    threshold: float
    """Exams that score this or more are called positive; infinite: none is."""

    tuning: Calls
    """On the exams that fixed it."""

    test: Calls

    @property
    def calls_no_exam(self) -> bool:
        """Whether no exam can reach the threshold."""
        return math.isinf(self.threshold)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedCalls:
    """Two models at the same rule, each at its own threshold, on the same test exams."""

    a: str
    b: str
    rule: Rule
    of: Side
    difference: float
    """Of a minus b."""

    only_a: int
    """Exams that a alone calls rightly."""

    only_b: int
    p: float
    """McNemar's, mid-p."""

    p_adjusted: float
    """By Holm, over all that were compared together."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """Exams with a model's scores."""

    scores: Float[np.ndarray, " exam"]
    labels: Bool[np.ndarray, " exam"]

    @property
    def both_classes(self) -> bool:
        """Whether it has positive and negative exams."""
        return 0 < int(self.labels.sum()) < len(self.labels)


def threshold_for(rule: Rule, exams: Scored) -> float:
    """Return the threshold that reaches a rule on some exams and loses least of the other.

    For a sensitivity it is the highest one, for a specificity the lowest; infinite where only
    calling no exam positive reaches the specificity.

    Args:
        rule: What to reach.
        exams: Of both classes.

    Raises:
        QualityError: The exams are of one class, or a score is NaN.

    >>> exams = Scored(scores=np.array([0.1, 0.4, 0.6, 0.8]), labels=np.array([0, 0, 1, 1], bool))
    >>> [threshold_for(Rule(of, 0.5), exams) for of in ("sensitivity", "specificity")]
    [0.8, 0.4]
    """
    curve = roc_curve(exams.scores, exams.labels)
    if rule.kind == "sensitivity":
        return float(curve.thresholds[np.argmax(curve.tpr >= rule.at_least)])
    # Counted, since 1 - 1/10 is not 9/10.
    negatives = int((~exams.labels).sum())
    reached = (negatives - np.rint(curve.fpr * negatives)) / negatives >= rule.at_least
    return float(curve.thresholds[np.flatnonzero(reached)[-1]])


def calls_at(threshold: float, exams: Scored) -> Calls:
    """Count the calls of a threshold."""
    called = exams.scores >= threshold
    return Calls(
        tp=int((called & exams.labels).sum()),
        fp=int((called & ~exams.labels).sum()),
        fn=int((~called & exams.labels).sum()),
        tn=int((~called & ~exams.labels).sum()),
    )


def operating_point(model: str, rule: Rule, *, tuning: Scored, test: Scored) -> OperatingPoint:
    """Fix a threshold on the tuning exams and apply it to the test exams."""
    threshold = threshold_for(rule, tuning)
    return OperatingPoint(
        model=model,
        rule=rule,
        threshold=threshold,
        tuning=calls_at(threshold, tuning),
        test=calls_at(threshold, test),
    )


def paired_calls(
    pairs: Sequence[tuple[OperatingPoint, OperatingPoint]],
    scored: dict[str, Scored],
) -> list[PairedCalls]:
    """Compare models at the same rule on the same exams: the share of right calls of each class.

    Args:
        pairs: Of points with the same rule.
        scored: Model -> the test exams, in the same order for all.
    """
    found: list[tuple[OperatingPoint, OperatingPoint, Side, int, int, int]] = []
    for a, b in pairs:
        assert a.rule == b.rule, (a.rule, b.rule)
        labels = scored[a.model].labels
        right_a, right_b = (
            (scored[one.model].scores >= one.threshold) == scored[one.model].labels
            for one in (a, b)
        )
        sides: list[tuple[Side, Bool[np.ndarray, " exam"]]] = [
            ("sensitivity", labels),
            ("specificity", ~labels),
        ]
        for of, members in sides:
            only_a = int((right_a & ~right_b & members).sum())
            only_b = int((right_b & ~right_a & members).sum())
            found.append((a, b, of, only_a, only_b, int(members.sum())))
    p = [mcnemar(only_a, only_b) for *_, only_a, only_b, _ in found]
    return [
        PairedCalls(
            a=a.model,
            b=b.model,
            rule=a.rule,
            of=of,
            difference=(only_a - only_b) / members,
            only_a=only_a,
            only_b=only_b,
            p=alone,
            p_adjusted=adjusted,
        )
        for (a, b, of, only_a, only_b, members), alone, adjusted in zip(
            found, p, holm(p), strict=True
        )
    ]


def _share(successes: int, trials: int) -> Interval:
    return Interval(_ratio(successes, trials), *wilson(successes, trials))


def _ratio(part: float | int, whole: float | int) -> float:
    return part / whole if whole else math.nan
