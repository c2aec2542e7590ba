import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.statistics.bootstrap import Interval
from ich_ray.statistics.by_exam import dices, exam_overlap_differences, exam_overlaps, iou_of
from ich_ray.statistics.comparison import Exams
from ich_ray.statistics.exam_statistics import calls_at
from ich_ray.statistics.pixel_histograms import SliceHistogram, merge, slice_histogram


def exam(seed: int, *, bleeds: bool) -> tuple[np.ndarray, np.ndarray, SliceHistogram]:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 9, (16, 16)).astype(np.uint16)
    mask = (rng.random((16, 16)) < 0.2) & bleeds
    return levels, mask, slice_histogram(levels, mask)


def test_each_exam_has_the_dice_of_its_own_masks() -> None:
    made = [exam(i, bleeds=i != 2) for i in range(4)]
    found = dices([calls_at(histogram, 6) for *_, histogram in made])
    for i, (levels, mask, _) in enumerate(made):
        called = levels >= 6
        own = 2 * (called & mask).sum() / (called.sum() + mask.sum())
        assert math.isnan(found[i]) if i == 2 else found[i] == pytest.approx(own)


def test_a_bleed_of_which_nothing_is_marked_counts_as_zero() -> None:
    *_, histogram = exam(1, bleeds=True)
    assert dices([calls_at(histogram, 60), calls_at(merge([]), 60)]).tolist()[0] == 0.0
    assert math.isnan(dices([calls_at(merge([]), 60)])[0])


def test_the_mean_is_of_exams_that_bleed() -> None:
    exams = Exams(labels=np.array([True, True, False, True]), patient=np.array([0, 1, 2, 3]))
    models = {"a": np.array([0.5, 0.0, np.nan, 0.7]), "b": np.array([0.6, 0.3, np.nan, 0.9])}
    a, b = exam_overlaps(models, exams)
    assert (a.mean_dsc.estimate, a.median_dsc, a.missed, a.exams) == (pytest.approx(0.4), 0.5, 1, 3)
    assert b.missed == 0
    (less,) = exam_overlap_differences(models, exams, [("b", "a")])
    assert less.mean_dsc.estimate == pytest.approx(0.2)
    assert less.mean_dsc.low < 0.2 < less.mean_dsc.high


def test_two_exams_of_a_patient_are_one_cluster() -> None:
    dsc = np.array([0.2, 0.5, 0.9, 0.3])
    apart = Exams(labels=np.ones(8, bool), patient=np.arange(8))
    together = Exams(labels=np.ones(8, bool), patient=np.tile(np.arange(4), 2))
    alone = Exams(labels=np.ones(4, bool), patient=np.arange(4))
    (wide,), (narrow,), (once,) = (
        exam_overlaps({"m": of}, exams)
        for of, exams in ((np.tile(dsc, 2), together), (np.tile(dsc, 2), apart), (dsc, alone))
    )
    assert wide.mean_dsc.low == pytest.approx(once.mean_dsc.low)
    assert narrow.mean_dsc.low > wide.mean_dsc.low


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_iou_follows_from_dice(tp: int, fp: int, fn: int) -> None:
    dsc = 2 * tp / (2 * tp + fp + fn)
    assert iou_of(Interval(dsc, dsc, dsc)).estimate == pytest.approx(tp / (tp + fp + fn))
