"""Resamples depend on seed and index alone; intervals say what they left out."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.errors import ConfigError, QualityError
from ich_ray.statistics.bootstrap import Interval, difference, interval, resample_weights

strata_of_clusters = st.lists(st.integers(0, 2), min_size=1, max_size=30).map(np.array)


@given(strata_of_clusters, st.integers(0, 2**64), st.integers(0, 10), st.integers(0, 10))
def test_resamples_do_not_depend_on_how_they_are_divided(
    strata: np.ndarray, seed: int, first: int, more: int
) -> None:
    drawn = {"seed": seed, "num_clusters": len(strata), "strata": strata}
    together = resample_weights(resamples=range(first + more), **drawn)
    apart = [
        resample_weights(resamples=range(first), **drawn),
        resample_weights(resamples=np.arange(first, first + more), **drawn),
    ]
    assert np.concatenate(apart).tolist() == together.tolist()


@given(strata_of_clusters)
def test_every_stratum_keeps_its_number_of_clusters(strata: np.ndarray) -> None:
    weights = resample_weights(seed=1, resamples=range(5), num_clusters=len(strata), strata=strata)
    assert weights.min() >= 0
    for stratum in np.unique(strata):
        members = strata == stratum
        assert weights[:, members].sum(axis=1).tolist() == [np.count_nonzero(members)] * 5


def test_without_strata_all_clusters_are_one_stratum() -> None:
    plain = resample_weights(seed=1, resamples=range(5), num_clusters=9)
    one_stratum = resample_weights(seed=1, resamples=range(5), num_clusters=9, strata=np.full(9, 4))
    assert plain.tolist() == one_stratum.tolist()


def test_draws_are_multinomial() -> None:
    weights = resample_weights(seed=2, resamples=range(20_000), num_clusters=4)
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.03)
    expected = np.full((4, 4), -1 / 4) + np.eye(4)
    np.testing.assert_allclose(np.cov(weights.T), expected, atol=0.03)


def test_seeds_and_indices_give_different_resamples() -> None:
    rows = [resample_weights(seed=seed, resamples=range(3), num_clusters=50) for seed in range(3)]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 9


def test_a_resample_is_the_same_on_every_day() -> None:
    weights = resample_weights(seed=20, resamples=range(2), num_clusters=8)
    recorded = [[1, 2, 0, 1, 2, 1, 0, 1], [1, 0, 1, 0, 1, 4, 1, 0]]  # numpy 2.4.6
    assert weights.tolist() == recorded


def test_nothing_to_resample_is_an_error() -> None:
    with pytest.raises(QualityError, match="0 clusters"):
        resample_weights(seed=1, resamples=range(5), num_clusters=0)


def test_the_interval_of_a_mean_is_that_of_the_normal_limit() -> None:
    values = np.random.default_rng(3).normal(size=500)
    weights = resample_weights(seed=3, resamples=range(4000), num_clusters=500)
    found = interval(float(values.mean()), weights @ values / 500)
    half_width = 1.96 * float(values.std()) / math.sqrt(500)
    assert found.low == pytest.approx(found.estimate - half_width, abs=0.006)
    assert found.high == pytest.approx(found.estimate + half_width, abs=0.006)


@given(st.lists(st.floats(-1, 1), min_size=1), st.integers(0, 5))
def test_undefined_resamples_are_left_out_and_counted(values: list[float], undefined: int) -> None:
    resampled = np.array(values)
    holed = np.concatenate([np.full(undefined, np.nan), resampled])
    whole, part = difference(0.1, resampled), difference(0.1, holed)
    assert (part.low, part.high, part.p) == (whole.low, whole.high, whole.p)
    assert (whole.num_undefined, part.num_undefined) == (0, undefined)


def test_a_figure_defined_nowhere_has_no_bounds() -> None:
    found = difference(math.nan, np.full(3, np.nan))
    assert found.as_dict() == {
        "estimate": None,
        "low": None,
        "high": None,
        "p": None,
        "num_undefined": 3,
    }


def test_an_interval_is_json() -> None:
    found = Interval(estimate=0.5, low=0.25, high=math.nan)
    expected = '{"estimate": 0.5, "low": 0.25, "high": null, "num_undefined": 0}'
    assert json.dumps(found.as_dict(), allow_nan=False) == expected


def test_p_counts_the_smaller_side_twice() -> None:
    resampled = np.concatenate([np.full(95, 1.0), np.full(4, -1.0)])
    assert difference(1.0, resampled).p == 0.1


def test_no_difference_at_all_has_p_one_and_a_clear_one_the_least() -> None:
    assert difference(0.0, np.zeros(999)).p == 1.0
    assert difference(0.5, np.full(999, 0.5)).p == 0.002


@given(st.lists(st.floats(-1, 1), min_size=1), st.floats(-1, 1))
def test_swapping_the_models_keeps_p(values: list[float], estimate: float) -> None:
    resampled = np.array(values)
    assert difference(estimate, resampled).p == difference(-estimate, -resampled).p


def test_no_resample_and_no_level_are_errors() -> None:
    with pytest.raises(QualityError, match="no resamples"):
        interval(0.5, np.zeros(0))
    with pytest.raises(ConfigError, match="0 < level < 1, got 95"):
        interval(0.5, np.zeros(3), level=95.0)
