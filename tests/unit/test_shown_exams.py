import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.statistics.shown_exams import shown_exams


def exams(seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < 0.5
    gains = np.where(labels, rng.normal(0, 0.1, size).round(1), np.nan)
    return labels, rng.random(size), gains


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 20))
def test_no_exam_is_shown_twice_and_as_many_as_there_are(seed: int, size: int, count: int) -> None:
    labels, scores, gains = exams(seed, size)
    found = shown_exams(labels, scores, gains, count=count)
    assert len({one.exam for one in found}) == len(found) == min(count, size)
    for one in found:
        if one.why in ("gain", "loss"):
            assert (gains[one.exam] > 0) == (one.why == "gain")
            assert gains[one.exam] != 0
        else:
            assert labels[one.exam] == (one.why == "bleed")


def test_the_largest_gains_and_losses_come_first() -> None:
    labels, scores, gains = exams(3, 60)
    found = shown_exams(labels, scores, gains, count=12)
    known = np.sort(gains[~np.isnan(gains)])
    assert sorted(gains[one.exam] for one in found if one.why == "gain") == known[-2:].tolist()
    assert sorted(gains[one.exam] for one in found if one.why == "loss") == known[:2].tolist()
    assert [one.why for one in found[:4]] == ["gain", "gain", "loss", "loss"]


def test_without_a_second_model_bleeds_and_others_are_shown() -> None:
    labels, scores, _ = exams(4, 60)
    found = shown_exams(labels, scores, np.full(60, np.nan), count=12)
    assert [one.why for one in found] == ["bleed"] * 8 + ["no bleed"] * 4
    negative = np.flatnonzero(~labels)
    highest = set(negative[np.argsort(-scores[negative])[:4]].tolist())
    assert {one.exam for one in found if one.why == "no bleed"} == highest
