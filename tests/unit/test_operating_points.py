"""Thresholds that tuning exams fix, and what they are worth on others."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ich_ray.errors import QualityError
from ich_ray.statistics.operating_points import (
    Calls,
    OperatingPoint,
    Rule,
    Scored,
    calls_at,
    operating_point,
    paired_calls,
    threshold_for,
)


@st.composite
def exams(draw: st.DrawFn) -> Scored:
    """Heavily tied scores, and labels of both classes."""
    size = draw(st.integers(2, 25))
    scores = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    assume(0 < labels.sum() < size)
    return Scored(scores=np.array(scores) / 5, labels=labels)


targets = st.sampled_from([0.5, 0.8, 0.9, 0.92, 0.95, 1.0])


@given(exams(), targets)
def test_the_threshold_of_a_sensitivity_is_the_highest_that_reaches_it(
    given_exams: Scored, target: float
) -> None:
    candidates = [*np.unique(given_exams.scores), math.inf]
    reaching = [t for t in candidates if calls_at(t, given_exams).sensitivity.estimate >= target]
    assert threshold_for(Rule("sensitivity", target), given_exams) == max(reaching)


@given(exams(), targets)
def test_the_threshold_of_a_specificity_is_the_lowest_that_reaches_it(
    given_exams: Scored, target: float
) -> None:
    candidates = [*np.unique(given_exams.scores), math.inf]
    reaching = [t for t in candidates if calls_at(t, given_exams).specificity.estimate >= target]
    assert threshold_for(Rule("specificity", target), given_exams) == min(reaching)


def test_nine_of_ten_reach_nine_tenths() -> None:
    # 1 - 1/10 < 0.9 in floating point.
    labels = np.arange(20) < 10
    scores = np.where(labels, 2.0, np.arange(20) == 19)
    found = threshold_for(Rule("specificity", 0.9), Scored(scores=scores, labels=labels))
    assert found == 1.0


def test_a_threshold_of_other_exams_is_judged_on_these() -> None:
    tuning = Scored(scores=np.array([0.1, 0.3, 0.5, 0.7]), labels=np.array([0, 0, 1, 1], bool))
    test = Scored(scores=np.array([0.6, 0.2, 0.4, 0.9]), labels=np.array([0, 0, 1, 1], bool))
    found = operating_point("a", Rule("sensitivity", 1.0), tuning=tuning, test=test)
    assert found.threshold == 0.5
    assert found.tuning == Calls(tp=2, fp=0, fn=0, tn=2)
    assert found.test == Calls(tp=1, fp=1, fn=1, tn=1)


def test_exams_of_one_class_fix_nothing() -> None:
    alone = Scored(scores=np.array([0.1, 0.9]), labels=np.array([True, True]))
    assert not alone.both_classes
    with pytest.raises(QualityError):
        threshold_for(Rule("specificity", 0.9), alone)


@given(exams(), st.integers(0, 5))
def test_predictive_values_at_the_exams_own_prevalence_are_shares_of_the_calls(
    given_exams: Scored, cut: int
) -> None:
    calls = calls_at(cut / 5, given_exams)
    positive, negative = calls.predictive_values(float(given_exams.labels.mean()))
    called, cleared = calls.tp + calls.fp, calls.tn + calls.fn
    assert positive == pytest.approx(calls.tp / called if called else math.nan, nan_ok=True)
    assert negative == pytest.approx(calls.tn / cleared if cleared else math.nan, nan_ok=True)


def test_no_call_has_no_predictive_value() -> None:
    positive, negative = Calls(tp=0, fp=0, fn=3, tn=7).predictive_values(0.3)
    assert math.isnan(positive)
    assert negative == pytest.approx(0.7)


@given(exams(), st.randoms(use_true_random=False), targets)
def test_paired_calls_are_those_of_a_table_of_four(a: Scored, rng: Random, target: float) -> None:
    others = np.array([rng.randint(0, 5) / 5 for _ in a.scores])
    scored = {"a": a, "b": Scored(scores=others, labels=a.labels)}
    rule = Rule("sensitivity", target)
    points = [operating_point(name, rule, tuning=one, test=one) for name, one in scored.items()]
    first, second = paired_calls([(points[0], points[1])], scored)
    assert (first.of, second.of) == ("sensitivity", "specificity")
    for found, kind in ((first, True), (second, False)):
        rights = [
            [
                (score >= point.threshold) == label
                for score, label in zip(scored[point.model].scores, a.labels, strict=True)
                if label == kind
            ]
            for point in points
        ]
        both = list(zip(*rights, strict=True))
        assert found.only_a == both.count((True, False))
        assert found.only_b == both.count((False, True))
        assert found.difference == pytest.approx(np.mean(rights[0]) - np.mean(rights[1]))
        assert found.p_adjusted >= found.p


def test_models_at_different_rules_are_not_compared() -> None:
    one = Scored(scores=np.array([0.1, 0.9]), labels=np.array([False, True]))
    points: list[OperatingPoint] = [
        operating_point("a", rule, tuning=one, test=one)
        for rule in (Rule("sensitivity", 0.9), Rule("specificity", 0.9))
    ]
    with pytest.raises(AssertionError):
        paired_calls([(points[0], points[1])], {"a": one})
