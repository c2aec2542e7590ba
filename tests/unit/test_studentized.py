"""The bootstrap-t as its definition says, resample by resample."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.studentized import (
    stratified_errors,
    studentized_difference,
    studentized_interval,
    studentized_positive,
)

few = settings(max_examples=30)  # the whole unit tier has ten seconds

Drawn = tuple[np.ndarray, np.ndarray]


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Figures and their errors, some of both without a value, some errors of nothing."""
    size = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values, errors = rng.uniform(0.01, 0.99, size).round(2), rng.uniform(0, 0.2, size).round(1)
    values[rng.random(size) < 0.1] = np.nan
    errors[rng.random(size) < 0.1] = np.nan
    return values, errors


def distances(centre: float, figures: Drawn) -> list[float]:
    found = []
    for value, error in zip(*figures, strict=True):
        if not (math.isnan(value) or math.isnan(error)):
            away = abs(value - centre)
            found.append(away / error if error > 0 else math.inf if away > 0 else 0.0)
    return sorted(found)


def test_the_error_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).normal(size=30)
    influence = (values - values.mean())[None, :] / 30
    found = stratified_errors(influence, np.ones((1, 30)), np.zeros(30, np.int64))
    assert found[0] == pytest.approx(stats.sem(values), rel=1e-6)


def test_a_resample_counts_as_if_its_clusters_were_written_out() -> None:
    rng = np.random.default_rng(2)
    values, strata = rng.normal(size=40), np.repeat([0, 1, 1, 0], 10)
    weights = resample_weights(seed=3, resamples=range(5), num_clusters=40, strata=strata)
    influence = np.array([(values - weight @ values / 40) / 40 for weight in weights])
    for error, weight in zip(stratified_errors(influence, weights, strata), weights, strict=True):
        written, of = np.repeat(values, weight), np.repeat(strata, weight)
        variance = sum(20 * np.var(written[of == s], ddof=1) / 40**2 for s in (0, 1))
        assert error == pytest.approx(math.sqrt(variance), rel=1e-6)


def test_a_stratum_of_one_cluster_adds_no_error() -> None:
    influence = np.array([[-0.1, 0.1, 5.0]])
    found = stratified_errors(influence, np.ones((1, 3)), np.array([0, 0, 1]))
    assert found[0] == pytest.approx(0.2)


@few
@given(st.integers(0, 99), st.floats(0.02, 0.98))
def test_an_interval_is_symmetric_in_its_logit(seed: int, estimate: float) -> None:
    rng = np.random.default_rng(seed)
    figures = rng.uniform(0.01, 0.99, 99), rng.uniform(0.01, 0.1, 99)
    found = studentized_interval((estimate, 0.05), figures, level=0.5)

    def odds(value: float) -> float:
        return value / (1 - value)

    assert 0 <= found.low <= estimate <= found.high <= 1
    if found.low > 1e-6 and found.high < 1 - 1e-6:
        assert odds(found.low) * odds(found.high) == pytest.approx(odds(estimate) ** 2, rel=1e-6)


def test_an_interval_of_a_mean_is_close_to_that_of_student() -> None:
    """On a logit scale that is nearly straight; with the errors of the mean itself."""
    values = np.random.default_rng(4).normal(0.5, 0.05, 20)
    weights = resample_weights(seed=5, resamples=range(4000), num_clusters=20)
    means = weights @ values / 20
    influence = (values - means[:, None]) / 20
    errors = stratified_errors(influence, weights, np.zeros(20, np.int64))
    found = studentized_interval((values.mean(), stats.sem(values)), (means, errors))
    low, high = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


@pytest.mark.parametrize("estimate", [0.0, 1.0])
def test_a_figure_at_its_end_has_no_width(estimate: float) -> None:
    found = studentized_interval((estimate, 0.0), (np.full(5, estimate), np.zeros(5)))
    assert (found.low, found.high) == (estimate, estimate)


def test_resamples_at_the_end_are_endlessly_far() -> None:
    figures = np.array([0.9] * 18 + [1.0]), np.array([0.05] * 18 + [0.0])
    found = studentized_interval((0.9, 0.05), figures)
    assert (found.low, found.high) == (0.0, 1.0)
    almost_all = studentized_interval((0.9, 0.05), figures, level=0.9)
    assert almost_all.low == pytest.approx(0.9)


@few
@given(drawn(), st.floats(0.05, 0.95), st.floats(0.01, 0.2), st.sampled_from([0.5, 0.95]))
def test_an_interval_is_as_the_definition_says(
    figures: Drawn, estimate: float, error: float, level: float
) -> None:
    found = studentized_interval((estimate, error), figures, level=level)
    values, errors = figures
    odds = [math.log(v / (1 - v)) if v == v else math.nan for v in values]
    away = distances(
        math.log(estimate / (1 - estimate)), (np.array(odds), errors / (values * (1 - values)))
    )
    assert found.num_undefined == len(values) - len(away)
    if not away:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        return
    place = math.ceil(level * (len(away) + 1))
    half = (
        error / (estimate * (1 - estimate)) * (away[place - 1] if place <= len(away) else math.inf)
    )
    expected = [
        odd / (1 + odd) if odd < math.inf else 1.0
        for odd in (estimate / (1 - estimate) * np.exp(sign * half) for sign in (-1, 1))
    ]
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_a_figure_without_a_value_or_an_error_has_no_bounds() -> None:
    for point in ((math.nan, math.nan), (0.2, math.nan)):
        found = studentized_interval(point, (np.full(30, 0.5), np.full(30, 0.1)))
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_no_resample_and_no_level_are_errors() -> None:
    with pytest.raises(QualityError, match="no resamples"):
        studentized_interval((0.5, 0.1), (np.zeros(0), np.zeros(0)))
    with pytest.raises(ConfigError, match="0 < level < 1, got 95"):
        studentized_interval((0.5, 0.1), (np.full(3, 0.5), np.ones(3)), level=95.0)


@few
@given(drawn(), st.floats(-0.4, 0.4), st.floats(0.01, 0.2), st.sampled_from([0.5, 0.95]))
def test_a_difference_is_as_the_definition_says(
    figures: Drawn, estimate: float, error: float, level: float
) -> None:
    found = studentized_difference((estimate, error), figures, level=level)
    away = distances(estimate, figures)
    assert found.num_undefined == len(figures[0]) - len(away)
    if not away:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert math.isnan(found.p)
        return
    place = math.ceil(level * (len(away) + 1))
    half = away[place - 1] * error if place <= len(away) else math.inf
    assert (found.low, found.high) == pytest.approx(
        (max(-1.0, estimate - half), min(1.0, estimate + half))
    )
    as_far = sum(one >= abs(estimate) / error for one in away)
    assert found.p == (1 + as_far) / (1 + len(away))


@few
@given(st.integers(0, 999), st.floats(0, 0.3))
def test_p_and_interval_agree_about_zero(seed: int, estimate: float) -> None:
    rng = np.random.default_rng(seed)
    figures = rng.normal(estimate, 0.1, 999), rng.uniform(0.05, 0.15, 999)
    found = studentized_difference((estimate, 0.1), figures)
    assert (found.low > 0) == (found.p <= 0.05)


@few
@given(drawn(), st.floats(-0.4, 0.4), st.floats(0.0, 0.2))
def test_swapping_the_models_mirrors_the_difference(
    figures: Drawn, estimate: float, error: float
) -> None:
    forth = studentized_difference((estimate, error), figures)
    back = studentized_difference((-estimate, error), (-figures[0], figures[1]))
    np.testing.assert_array_equal([forth.low, forth.high, forth.p], [-back.high, -back.low, back.p])


def test_models_that_differ_nowhere_have_p_one_and_no_width() -> None:
    found = studentized_difference((0.0, 0.0), (np.zeros(10), np.zeros(10)))
    assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)


@few
@given(drawn(), st.floats(0.1, 10.0))
def test_an_interval_above_zero_is_that_of_the_logarithm(figures: Drawn, estimate: float) -> None:
    values, errors = figures
    found = studentized_positive((estimate, 0.3), figures, level=0.8)
    away = sorted(distances(math.log(estimate), (np.log(values), errors / values)))
    place = math.ceil(0.8 * (len(away) + 1))
    if not away:
        assert math.isnan(found.high)
    else:
        half = 0.3 / estimate * away[place - 1] if place <= len(away) else math.inf
        expected = estimate * math.exp(-half), estimate * float(np.exp(half))
        assert (found.low, found.high) == pytest.approx(expected)
    assert found.num_undefined == len(values) - len(away)


def test_a_resample_of_nothing_is_endlessly_far_from_a_figure_above_zero() -> None:
    found = studentized_positive((1.0, 0.1), (np.zeros(50), np.zeros(50)))
    assert (found.low, found.high) == (0.0, math.inf)
