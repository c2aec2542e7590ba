"""The top C % of a whole corpus are positive, whatever the shards in which its slices lie."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray import ranker
from ich_ray.errors import QualityError
from ich_ray.exam import IGNORED
from ich_ray.ranker import Cut, Ranking, ternary_mask

few = settings(max_examples=30)  # the whole unit tier has ten seconds


@dataclass(frozen=True)
class Slices:
    """A shard in memory."""

    p: np.ndarray
    names: np.ndarray

    def probabilities(self) -> np.ndarray:
        return self.p

    def keys(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.names[rows])

    def in_shards(self, count: int, seed: int) -> list["Slices"]:
        order = np.random.default_rng(seed).permutation(len(self.p))
        return [Slices(self.p[rows], self.names[rows]) for rows in np.array_split(order, count)]

    def first(self, count: int) -> set[str]:
        """Return the keys of the first ones, by Python's own sort."""
        order = sorted(range(len(self.p)), key=lambda i: (-self.p[i], self.names[i]))
        return {str(self.names[i]) for i in order[:count]}


@st.composite
def slices(draw: st.DrawFn) -> Slices:
    """Heavily tied probabilities, and a key for each."""
    p = draw(st.lists(st.integers(0, 6), min_size=2, max_size=60))
    p[0], p[1] = 0, 6
    keys = draw(st.permutations([f"{i % 5}-slice-{i:02d}" for i in range(len(p))]))
    return Slices(np.array(p, np.float32) / 6, np.array(keys))


def ranking_of(shards: list[Slices]) -> Ranking:
    return Ranking.of([shard.p for shard in shards])


def within(cut: Cut, shards: list[Slices]) -> set[str]:
    return {str(key) for s in shards for key in s.names[cut.within(s.p, s.names)]}


@few
@given(slices(), st.data(), st.integers(1, 16), st.integers(0, 99))
def test_a_cut_holds_the_first_slices_by_probability_then_key_for_any_number_of_shards(
    whole: Slices, data: st.DataObject, num_shards: int, seed: int
) -> None:
    count = data.draw(st.integers(1, len(whole.p)))
    shards = whole.in_shards(num_shards, seed)
    cut = ranking_of(shards).cut(count, shards)
    assert within(cut, shards) == whole.first(count)
    assert cut == ranking_of([whole]).cut(count, [whole]), "another cut of one shard"


@few
@given(slices(), st.data(), st.integers(1, 4))
def test_many_equal_probabilities_are_told_apart_by_the_heads_of_their_keys(
    whole: Slices, data: st.DataObject, gathered: int
) -> None:
    count = data.draw(st.integers(1, len(whole.p)))
    shards = whole.in_shards(3, 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranker, "GATHERED_KEYS", gathered)
        patched.setattr(ranker, "HEAD", 1)
        cut = ranking_of(shards).cut(count, shards)
    assert within(cut, shards) == whole.first(count)


def test_equal_slices_of_one_key_are_no_endless_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker, "GATHERED_KEYS", 1)
    twice = Slices(np.array([0.5, 0.5, 0.1], np.float32), np.array(["ab", "ab", "c"]))
    with pytest.raises(QualityError, match=r"^2 slices have one key, ab: ingest that corpus again"):
        ranking_of([twice]).cut(1, [twice])


@few
@given(slices(), st.integers(1, 16), st.integers(0, 99))
def test_a_rank_is_the_number_of_slices_that_are_more_probable(
    whole: Slices, num_shards: int, seed: int
) -> None:
    shards = whole.in_shards(num_shards, seed)
    ranking = ranking_of(shards)
    for shard in shards:
        expected = [int((whole.p > p).sum()) for p in shard.p]
        assert ranking.rank(shard.p).tolist() == expected


@pytest.mark.parametrize(("percent", "count"), [(0.1, 1), (34.0, 1), (60.0, 2), (99.9, 2)])
def test_one_slice_at_least_is_positive_and_one_is_not(percent: float, count: int) -> None:
    ranking = Ranking.of([np.array([0.2, 0.8], np.float32), np.array([0.5], np.float32)])
    assert ranking.num_positive(percent) == count


def test_probabilities_that_are_no_numbers_are_refused() -> None:
    for broken in ([0.1, np.nan, np.inf], [0.1, np.nan, np.nan], [-np.inf, 0.1, np.nan]):
        with pytest.raises(QualityError, match=r"^2 of 3 slice probabilities are no numbers; look"):
            Ranking.of([np.array(broken, np.float32)])


@pytest.mark.parametrize("p", [[0.3, 0.3, 0.3], [0.3], []])
def test_a_teacher_that_says_the_same_for_all_is_refused(p: list[float]) -> None:
    with pytest.raises(QualityError, match=f"says the same for all {len(p)} unlabelled slices"):
        Ranking.of([np.array(p, np.float32)])


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
