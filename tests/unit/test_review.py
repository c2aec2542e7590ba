"""Which slices a reader sees, what his file may hold, and which C follows from it."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ich_ray.config import ReviewConfig
from ich_ray.errors import ConfigError, QualityError
from ich_ray.ranker import Ranking
from ich_ray.review import SampledSlice, around, choices, near, sample, sample_identity
from ich_ray.review_decisions import COLUMNS, FORMAT, majority, read_review, verdicts_of
from ich_ray.review_figures import Look, advise, agreements, looks
from ich_ray.statistics.proportions import wilson

few = settings(max_examples=30)  # the whole unit tier has ten seconds
DEFAULT = ReviewConfig()


def names(count: int) -> np.ndarray:
    return np.array([f"{i:06x}" for i in range(count)])


def drawn(
    p: np.ndarray, keys: np.ndarray, exams: np.ndarray, config: ReviewConfig = DEFAULT
) -> list[SampledSlice]:
    return sample(p, keys, exams, choices(Ranking.of([p]), config), config)


def corpus(count: int, *, seed: int = 0, per_exam: int = 30) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 2, count).astype(np.float32)
    return p, names(count), np.array([f"exam{i // per_exam}" for i in range(count)])


def ranks(p: np.ndarray, keys: np.ndarray) -> dict[str, int]:
    """Rank by (-p, key) in plain Python."""
    order = sorted(range(len(p)), key=lambda i: (-p[i], keys[i]))
    return {str(keys[i]): rank for rank, i in enumerate(order)}


def test_slices_come_from_half_a_percent_about_each_percentile() -> None:
    p, keys, exams = corpus(10_000)
    found = drawn(p, keys, exams)
    rank = ranks(p, keys)
    assert len(found) == 6 * 20
    for item in found:
        (percent,) = item.percents
        assert -50 <= rank[item.key] - 100 * percent < 50
    assert Counter(item.percents for item in found) == {
        (percent,): 20 for percent in DEFAULT.percentiles
    }


def test_a_band_shows_as_many_exams_as_it_has() -> None:
    p, keys, _ = corpus(10_000)
    rank = ranks(p, keys)
    # Around each percentile lie slices of 7 exams: 20 of them are 2 or 3 of each.
    exams = np.array([f"exam{rank[str(key)] % 7}" for key in keys])
    for percent in DEFAULT.percentiles:
        of_band = [i.exam for i in drawn(p, keys, exams) if percent in i.percents]
        assert set(Counter(of_band).values()) == {2, 3}


def test_a_short_ranking_gives_the_nearest_slices_once_each() -> None:
    p, keys, exams = corpus(64, per_exam=8)
    found = drawn(p, keys, exams)
    assert len({item.key for item in found}) == len(found) <= 64
    for percent in DEFAULT.percentiles:
        assert sum(percent in item.percents for item in found) == 20
    rank = ranks(p, keys)
    assert {rank[i.key] for i in found if 5.0 in i.percents} == set(range(20))


@few
@given(st.integers(2, 400), st.integers(0, 3), st.integers(1, 12), st.randoms())
def test_the_sample_depends_on_nothing_but_the_ranking_and_the_seed(
    count: int, digits: int, wanted: int, random: Any
) -> None:
    p, keys, exams = corpus(count, per_exam=5)
    # Rounded, many are equal: then their keys decide.
    p = np.round(p, digits).astype(np.float32)
    p[0], p[1] = 0.0, 1.0
    config = ReviewConfig(slices_per_percentile=wanted)
    order = list(range(count))
    random.shuffle(order)
    found = choices(Ranking.of([p]), config)
    whole = sample(p, keys, exams, found, config)
    mixed = sample(p[order], keys[order], exams[order], found, config)
    only = near(p, found)
    assert whole == mixed == sample(p[only], keys[only], exams[only], found, config)
    rank = ranks(p, keys)
    for choice in found:
        of_band = [rank[i.key] for i in whole if choice.percent in i.percents]
        assert len(of_band) == min(wanted, choice.end - choice.first)
        assert all(choice.first <= r < choice.end for r in of_band)
        in_order = sorted(rank, key=rank.__getitem__)
        assert choice.cut == p[list(keys).index(in_order[choice.positive - 1])]


@few
@given(st.integers(2, 5000), st.integers(1, 40), st.data())
def test_a_neighbourhood_holds_its_cut_and_enough_slices(
    of: int, wanted: int, data: st.DataObject
) -> None:
    positive = data.draw(st.integers(1, of - 1))
    first, end = around(positive, of=of, wanted=wanted)
    assert 0 <= first < end <= of
    assert first <= positive <= end
    assert end - first >= min(wanted, of)


def test_the_order_does_not_tell_the_percentile() -> None:
    p, keys, exams = corpus(20_000)
    percents = [item.percents[0] for item in drawn(p, keys, exams)]
    correlation = np.corrcoef(np.arange(len(percents)), percents)[0, 1]
    assert abs(correlation) < 0.2
    assert Counter(percents[:60]).most_common(1)[0][1] < 20


def test_another_seed_draws_others_and_another_percentile_leaves_the_rest() -> None:
    p, keys, exams = corpus(20_000)

    def keys_at(config: ReviewConfig) -> set[str]:
        return {i.key for i in drawn(p, keys, exams, config) if 10.0 in i.percents}

    assert keys_at(ReviewConfig(seed=1)) != keys_at(DEFAULT)
    assert keys_at(ReviewConfig(percentiles=(10.0, 40.0))) == keys_at(DEFAULT)
    assert sample_identity(ReviewConfig(seed=1)) != sample_identity(DEFAULT)
    assert sample_identity(ReviewConfig(folder="else")) == sample_identity(DEFAULT)


def test_a_teacher_that_says_the_same_for_all_has_no_ranking_to_look_at() -> None:
    with pytest.raises(QualityError, match="the same for all 30"):
        Ranking.of([np.full(30, 0.5, np.float32)])


def decision(key: str, verdict: str = "accept", reader: str = "Dr. Ada") -> dict[str, Any]:
    return {"slice": key, "decision": verdict, "reader": reader, "time": "2026-11-30T08:00:00Z"}


def exported(*decisions: dict[str, Any], **changed: Any) -> dict[str, Any]:
    head = {"format": FORMAT, "predictions": "p1", "sample": "s1", "decisions": list(decisions)}
    return head | changed


def as_csv(tree: dict[str, Any]) -> str:
    rows = [tree | decision for decision in tree["decisions"]]
    quoted = [[json.dumps(str(row[name])) for name in COLUMNS] for row in rows]
    return "\r\n".join([",".join(COLUMNS), *(",".join(row) for row in quoted), ""])


def test_json_and_csv_say_the_same() -> None:
    tree = exported(decision("a"), decision("b", "unsure", "Lovelace, A."))
    read = read_review(json.dumps(tree), "the file")
    assert read_review("\ufeff" + as_csv(tree), "the file") == read
    assert (read.predictions, read.sample) == ("p1", "s1")
    assert [(d.slice, d.verdict, d.reader) for d in read.decisions] == [
        ("a", "accept", "Dr. Ada"),
        ("b", "unsure", "Lovelace, A."),
    ]
    assert read.decisions[0].time.tzinfo is not None


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in decision("a").items() if name != key}


CSV = as_csv(exported(decision("a"), decision("b")))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (json.dumps(exported(decision("a")))[:-20], "no whole JSON.*cut off"),
        ("[]", "the file must have.*it has list"),
        (json.dumps(exported(decision("a"), colour="red")), "it has .*colour"),
        (json.dumps(exported(decision("a"), format="ich-ray review 9")), "'ich-ray review 9'"),
        (json.dumps(exported()), "holds no decisions"),
        (json.dumps(exported(decisions={})), "decisions must be a list"),
        (json.dumps(exported(decision("a"), decision("b", "yes"))), "decision 2.*'yes'.*accept"),
        (json.dumps(exported(decision("a", reader=" "))), "decision 1 has no reader"),
        (json.dumps(exported({**decision("a"), "slice": 7})), "decision 1 has no slice"),
        (json.dumps(exported({**decision("a"), "time": "noon"})), "slice a: 'noon' is no time"),
        (json.dumps(exported(without("time"))), "decision 1 must have"),
        (json.dumps(exported({**decision("a"), "p": "0.4"})), "decision 1 must have"),
        ("", "neither JSON nor a CSV"),
        ("slice,decision\r\na,accept\r\n", "neither JSON nor a CSV"),
        (",".join(COLUMNS), "holds no decisions"),
        (CSV.replace("p1", "p2", 1), "mixes decisions about 2 reviews"),
        (CSV.removesuffix('"2026-11-30T08:00:00Z"\r\n'), "has no time"),
        (CSV.removesuffix('"\r\n'), "no whole CSV"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_its_place(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as raised:
        read_review(text, "the file")
    assert "Ada" not in str(raised.value)


def read(*decisions: dict[str, Any], where: str = "the file") -> Any:
    return read_review(json.dumps(exported(*decisions)), where)


def test_readers_are_numbers_and_the_same_decision_twice_is_one() -> None:
    first = read(decision("a"), decision("b", "reject"))
    second = read(decision("b", "unsure", "Bob"), decision("b", "reject"))
    assert verdicts_of([first, second], {"a", "b", "c"}) == {
        "a": {1: "accept"},
        "b": {1: "reject", 2: "unsure"},
    }


def test_an_unknown_slice_and_a_reader_who_contradicts_himself_are_refused() -> None:
    with pytest.raises(ConfigError, match="the file: slice z is not one that ich-ray review shows"):
        verdicts_of([read(decision("z"))], {"a"})
    other = read(decision("a", "reject"), where="--review file 2")
    with pytest.raises(
        ConfigError, match="file 2: reader 1 says accept and reject of slice a"
    ) as e:
        verdicts_of([read(decision("a")), other], {"a"})
    assert "Ada" not in str(e.value)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (["accept"], "accept"),
        (["accept", "reject"], "unsure"),
        (["accept", "reject", "reject"], "reject"),
        (["accept", "reject", "unsure"], "unsure"),
        (["unsure", "unsure", "accept"], "unsure"),
    ],
)
def test_a_verdict_is_that_of_most_readers(said: Any, verdict: str) -> None:
    assert majority(said) == verdict


def test_a_slice_counts_at_each_percentile_that_it_was_drawn_for() -> None:
    slices = [
        SampledSlice("a", "e", (5.0, 10.0)),
        SampledSlice("b", "e", (10.0,)),
        SampledSlice("c", "e", (10.0,)),
        SampledSlice("d", "e", (5.0,)),
    ]
    found = looks(
        slices, {"a": {1: "reject"}, "b": {1: "accept"}, "c": {1: "unsure"}}, (5.0, 10.0, 15.0)
    )
    counts = [(look.shown, look.accept, look.reject, look.unsure) for look in found]
    assert counts == [(2, 0, 1, 0), (3, 1, 1, 1), (0, 0, 0, 0)]
    assert found[1].rate == 0.5
    assert (found[1].low, found[1].high) == wilson(1, 2)
    assert math.isnan(found[2].rate)


def test_kappa_is_that_of_scikit_learn_on_the_slices_that_both_saw() -> None:
    one = ["accept", "reject", "unsure", "reject", "accept"]
    two = ["accept", "accept", "unsure", "reject", "reject"]
    verdicts: dict[str, Any] = {
        str(i): {1: a, 2: b} for i, (a, b) in enumerate(zip(one, two, strict=True))
    }
    verdicts["alone"] = {1: "accept"}
    (found,) = agreements(verdicts)
    assert (found.readers, found.slices, found.share) == ((1, 2), 5, 0.6)
    assert found.kappa == pytest.approx(cohen_kappa_score(one, two))


def test_kappa_is_not_defined_where_all_say_one_thing_and_readers_without_a_slice_do_not_meet() -> (
    None
):
    (found,) = agreements({"a": {1: "accept", 2: "accept"}, "b": {3: "reject"}})
    assert (found.readers, found.share, found.kappa) == ((1, 2), 1.0, None)


def look(percent: float, reject: int, decided: int) -> Look:
    low, high = wilson(reject, decided)
    return Look(
        percent=float(percent),
        shown=decided,
        accept=decided - reject,
        reject=reject,
        unsure=0,
        low=low,
        high=high,
    )


def advised(*found: tuple[float, int, int]) -> tuple[float | None, bool, str]:
    advice = advise([look(*one) for one in found], limit=0.5)
    return advice.top_percent, advice.settled, advice.reason


@pytest.mark.parametrize(
    ("found", "advice", "match"),
    [
        ([(5, 1, 20), (10, 4, 20), (15, 18, 20)], (10, True), "the intervals settle it"),
        ([(5, 1, 20), (10, 9, 20), (15, 18, 20)], (10, False), "interval at 10 % reaches 0.5"),
        ([(5, 10, 20)], (5, False), "many more would settle it"),
        ([(5, 1, 20), (10, 2, 20)], (10, True), "no larger C was looked at"),
        ([(5, 12, 20), (10, 0, 20)], (None, False), "no C can be recommended: at 5 % it is more"),
        ([(5, 1, 20), (10, 0, 0), (15, 0, 20)], (5, True), "at 10 % no slice is decided"),
        ([(5, 0, 0)], (None, False), "at 5 % no slice is decided; decide them"),
        ([(5, 1, 20), (10, 11, 20)], (5, True), "whose interval holds 0.5 too"),
    ],
)
def test_c_grows_while_a_positive_label_is_right_as_often_as_wrong(
    found: Any, advice: Any, match: str
) -> None:
    *values, reason = advised(*found)
    assert tuple(values) == advice
    assert match in reason


@few
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=6))
def test_no_percentile_up_to_the_advice_is_above_the_limit(counts: Sequence[Any]) -> None:
    found = [look(5.0 * i, a, a + b) for i, (a, b) in enumerate(counts, start=1)]
    advice = advise(found, limit=0.5)
    if advice.top_percent is None:
        assert not found[0].rate <= 0.5
        return
    upto = [one for one in found if one.percent <= advice.top_percent]
    assert all(one.rate <= 0.5 for one in upto)
    assert advice.settled == all(one.high < 0.5 for one in upto)
    assert len(upto) == len(found) or not found[len(upto)].rate <= 0.5


def test_as_many_slices_as_the_advice_names_would_settle_the_rate() -> None:
    _, settled, reason = advised((5, 8, 20))
    assert not settled
    needed = int(reason.split("about ")[1].split(" ")[0])
    assert wilson(round(0.4 * needed), needed)[1] == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"percentiles": ()}, "percentiles must rise.*none"),
        ({"percentiles": (10.0, 5.0)}, "percentiles must rise"),
        ({"percentiles": (0.0, 5.0)}, "percentiles must rise"),
        ({"percentiles": (5.0, 100.0)}, "percentiles must rise"),
        ({"slices_per_percentile": 0}, "slices_per_percentile must be at least 1"),
        ({"max_false_positive_rate": 1.0}, "max_false_positive_rate must lie between"),
    ],
)
def test_settings_of_a_review_that_could_not_be_read_are_refused(
    changed: dict[str, Any], match: str
) -> None:
    make: Callable[..., object] = ReviewConfig
    with pytest.raises(ConfigError, match=match):
        make(**changed)
