"""The top C % of a whole corpus are positive, whatever the order in which its slices came."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ich_ray.errors import QualityError
from ich_ray.exam import IGNORED
from ich_ray.ranker import rank_slices, ternary_mask

few = settings(max_examples=30)  # the whole unit tier has ten seconds

Slices = tuple[np.ndarray, np.ndarray]


@st.composite
def slices(draw: st.DrawFn) -> Slices:
    """Heavily tied probabilities, and a key for each."""
    p = draw(st.lists(st.integers(0, 6), min_size=2, max_size=60))
    assume(len(set(p)) > 1)
    keys = draw(st.permutations([f"slice-{i:02d}" for i in range(len(p))]))
    return np.array(p, np.float32) / 6, np.array(keys)


percents = st.floats(0.5, 99.5)


@few
@given(slices(), percents)
def test_c_percent_are_positive_and_they_are_the_most_probable(
    given_slices: Slices, percent: float
) -> None:
    p, keys = given_slices
    ranking = rank_slices(p, keys, top_percent=percent)
    assert ranking.positive.sum() == np.clip(round(len(p) * percent / 100), 1, len(p) - 1)
    assert p[ranking.positive].min() == pytest.approx(ranking.cut)
    assert p[~ranking.positive].max() <= ranking.cut


@few
@given(slices(), percents, st.integers(0, 99))
def test_the_order_of_arrival_changes_nothing(
    given_slices: Slices, percent: float, seed: int
) -> None:
    p, keys = given_slices
    order = np.random.default_rng(seed).permutation(len(p))
    ranking = rank_slices(p, keys, top_percent=percent)
    again = rank_slices(p[order], keys[order], top_percent=percent)
    assert ranking.rank[order].tolist() == again.rank.tolist()
    assert ranking.cut == again.cut


@few
@given(slices())
def test_ranks_are_a_permutation_from_high_to_low_with_ties_by_key(given_slices: Slices) -> None:
    p, keys = given_slices
    rank = rank_slices(p, keys, top_percent=10.0).rank
    expected = sorted(range(len(p)), key=lambda i: (-p[i], keys[i]))
    assert np.argsort(rank).tolist() == expected
    assert sorted(rank.tolist()) == list(range(len(p)))


def test_one_slice_at_least_is_positive_and_one_is_not() -> None:
    p, keys = np.array([0.2, 0.8, 0.5], np.float32), np.array(["a", "b", "c"])
    assert rank_slices(p, keys, top_percent=0.1).positive.tolist() == [False, True, False]
    assert rank_slices(p, keys, top_percent=99.9).positive.tolist() == [False, True, True]


def test_probabilities_that_are_no_numbers_are_refused() -> None:
    p, keys = np.array([0.1, np.nan, np.inf], np.float32), np.array(["a", "b", "c"])
    with pytest.raises(QualityError, match=r"^2 of 3 slice probabilities are no numbers; look at"):
        rank_slices(p, keys, top_percent=10.0)


@pytest.mark.parametrize("p", [[0.3, 0.3, 0.3], [0.3], []])
def test_a_teacher_that_says_the_same_for_all_is_refused(p: list[float]) -> None:
    keys = np.array([str(i) for i in range(len(p))])
    with pytest.raises(QualityError, match=f"says the same for all {len(p)} unlabelled slices"):
        rank_slices(np.array(p, np.float32), keys, top_percent=10.0)


@few
@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.floats(0, 0.5), st.floats(0.5, 1))
def test_a_mask_is_positive_above_negative_below_and_ignored_between(
    values: list[float], low: float, high: float
) -> None:
    p = np.array([values], np.float32)
    mask = ternary_mask(p, positive_above=high, negative_below=low)
    for value, code in zip(p[0], mask[0], strict=True):
        assert code == (1 if value > high else 0 if value < low else IGNORED)


def test_thresholds_themselves_are_ignored() -> None:
    p = np.array([[0.25, 0.75]], np.float32)
    mask = ternary_mask(p, positive_above=0.75, negative_below=0.25)
    assert mask.tolist() == [[IGNORED, IGNORED]]
