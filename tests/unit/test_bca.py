"""BCa intervals, against SciPy's on resamples of its own, and by leaving patients out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics import bootstrap, roc
from ich_ray.statistics.bca import aucs_without_each, bca_difference, bca_interval
from ich_ray.statistics.bootstrap import Interval


def mann_whitney(positive: np.ndarray, negative: np.ndarray, axis: int = -1) -> np.ndarray:
    """AUC of arrays of samples, as SciPy's bootstrap calls it."""
    wins = (positive[..., :, None] > negative[..., None, :]) + 0.5 * (
        positive[..., :, None] == negative[..., None, :]
    )
    return np.asarray(wins.mean(axis=(-2, -1)))


def drawn(seed: int, *, exams: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(exams) < exams // 3
    return np.round(rng.normal(size=exams) + 1.2 * labels, 1), labels


@pytest.mark.parametrize("seed", range(4))
def test_on_scipy_s_own_resamples_the_interval_is_scipy_s(seed: int) -> None:
    scores, labels = drawn(seed)
    samples = scores[labels], scores[~labels]
    theirs = stats.bootstrap(
        samples, mann_whitney, method="BCa", n_resamples=999, vectorized=True, rng=seed
    )
    without = aucs_without_each(scores, labels, np.arange(len(scores)))
    ours = bca_interval(
        roc.auc(scores, labels),
        theirs.bootstrap_distribution,
        without,
        labels.astype(np.int64),
    )
    expected = tuple(theirs.confidence_interval)
    assert (ours.low, ours.high) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 10_000))
def test_the_auc_without_a_patient_is_that_of_all_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patient = np.unique(rng.integers(0, 12, 40), return_inverse=True)[1]
    labels = rng.random(40) < 0.3
    if not 0 < labels.sum() < 40:
        return
    scores = np.round(rng.normal(size=40), 1)
    others = 1 - np.eye(patient.max() + 1, dtype=np.int64)
    expected = roc.weighted_aucs(scores, labels, others[:, patient])
    found = aucs_without_each(scores, labels, patient)
    assert found == pytest.approx(expected, abs=1e-15, nan_ok=True)


def test_without_bias_and_acceleration_it_is_the_percentile_interval() -> None:
    values = np.random.default_rng(1).normal(size=1_000)
    values = np.concatenate([values, -values])
    ours = bca_interval(0.0, values, np.array([-1.0, 0.0, 1.0]), np.zeros(3, np.int64))
    plain = bootstrap.interval(0.0, values)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=1e-9)
    gap = bca_difference(0.0, values + 1.5, np.array([-1.0, 0.0, 1.0]), np.zeros(3, np.int64))
    assert math.isfinite(gap.p)


@given(st.integers(0, 1_000), st.floats(-0.2, 0.2))
def test_the_p_value_is_below_0_05_where_the_interval_leaves_out_zero(
    seed: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    left_out = rng.gamma(2.0, size=30) / 100
    values = shift + 0.1 * (rng.gamma(3.0, size=999) - 3.0) / math.sqrt(3)
    found = bca_difference(shift, values, left_out, np.zeros(30, np.int64))
    # The interval has no added resample: by one of 999 they may part.
    if abs(found.p - 0.05) > 0.01:
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


@given(st.integers(0, 1_000))
def test_turning_a_difference_round_turns_its_interval_round(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, left_out = rng.gamma(2.0, size=500) - 1.5, rng.gamma(2.0, size=30)
    strata = np.arange(30) % 2
    one = bca_difference(0.2, values, left_out, strata)
    other = bca_difference(-0.2, -values, -left_out, strata)
    assert (one.low, one.high, one.p) == pytest.approx((-other.high, -other.low, other.p))


def test_an_auc_of_exactly_one_has_no_width() -> None:
    scores, labels = np.arange(8.0), np.arange(8) > 3
    weights = bootstrap.resample_weights(
        seed=0, resamples=range(200), num_clusters=8, strata=labels.astype(np.int64)
    )
    without = aucs_without_each(scores, labels, np.arange(8))
    sampled = roc.weighted_aucs(scores, labels, weights)
    assert bca_interval(1.0, sampled, without, labels.astype(np.int64)) == Interval(1.0, 1.0, 1.0)
    same = bca_difference(0.0, sampled - sampled, without - without, labels.astype(np.int64))
    assert (same.low, same.high, same.p) == (0.0, 0.0, 1.0)


def test_undefined_resamples_are_left_out_and_counted() -> None:
    values = np.append(np.linspace(0, 1, 101), [math.nan, math.nan])
    left_out, strata = np.array([0.4, 0.5, 0.6]), np.zeros(3, np.int64)
    found = bca_interval(0.5, values, left_out, strata)
    assert found.num_undefined == 2
    assert (found.low, found.high) == pytest.approx((0.025, 0.975), abs=1e-9)
    assert math.isnan(bca_interval(0.5, np.full(9, math.nan), left_out, strata).low)
    assert math.isnan(bca_difference(0.5, np.full(9, math.nan), left_out, strata).p)


def test_resamples_on_one_side_of_the_figure_tell_no_bias_and_no_bounds() -> None:
    found = bca_interval(0.0, np.linspace(1, 2, 99), np.array([0.1, 0.2]), np.zeros(2, np.int64))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_what_makes_no_interval_is_refused() -> None:
    some, strata = np.array([0.1, 0.2]), np.zeros(2, np.int64)
    with pytest.raises(QualityError, match="no resamples"):
        bca_interval(0.1, np.zeros(0), some, strata)
    with pytest.raises(ConfigError, match="0 < level < 1"):
        bca_interval(0.1, some, some, strata, level=1.0)
