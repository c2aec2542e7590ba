"""Lesions found against false alarms, as if every exam of a resample were counted by itself."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.statistics.masks import lesion_detection as module
from ich_ray.statistics.masks.froc import RATES, LesionPool, froc_curve, pooled
from ich_ray.statistics.masks.lesion_detection import (
    Detections,
    detections,
    joined,
    lesion_detection,
    resampled_detections,
)
from ich_ray.statistics.masks.lesions import ExamLesions

few = settings(max_examples=60)  # the whole unit tier has ten seconds

FIGURES = [f for f in Detections.__dataclass_fields__]
PATIENT = np.array([0, 0, 1, 2, 3])


def exam(found_at: list[int], alarms: list[int] | None = None, *, hits: int = 0) -> ExamLesions:
    return ExamLesions(
        voxels=np.ones(len(found_at), np.int64),
        found_at=np.array(found_at, np.uint16),
        alarm_voxels=np.ones(len(alarms or []), np.int64),
        alarm_level=np.array(alarms or [], np.uint16),
        num_hits=hits,
        num_small_lesions=0,
        num_small_marks=0,
        voxel_mm3=None,
    )


levels = st.integers(1, 6)
exams = st.lists(
    st.builds(
        lambda found, alarms, more: exam(found, alarms, hits=sum(f > 0 for f in found) and more),
        st.lists(st.one_of(st.just(0), levels), max_size=3),
        st.lists(levels, max_size=4),
        st.integers(1, 4),
    ),
    min_size=len(PATIENT),
    max_size=len(PATIENT),
)
weights = st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def counted(drawn: list[ExamLesions]) -> dict[str, object]:
    """Every figure of a list of exams, threshold by threshold."""
    lesions = [level for one in drawn for level in one.found_at.tolist()]
    alarms = [level for one in drawn for level in one.alarm_level.tolist()]
    hits = sum(one.num_hits for one in drawn)

    def sensitivity(threshold: float) -> float:
        return ratio(sum(level > 0 and level >= threshold for level in lesions), len(lesions))

    at_rates = [
        max(
            sensitivity(threshold)
            for threshold in [*range(1, 8), math.inf]
            if sum(level >= threshold for level in alarms) / len(drawn) <= rate
        )
        for rate in RATES
    ]
    found, right = sensitivity(0), ratio(hits, hits + len(alarms))
    return {
        "sensitivity": found,
        "predictive_value": right,
        "f1": 2 / (1 / found + 1 / right) if found else found,
        "alarms": len(alarms) / len(drawn),
        "at_rates": at_rates,
        "mean_at_rates": np.mean(at_rates),
    }


@few
@given(exams, weights)
def test_a_resample_is_counted_as_if_its_exams_were_repeated(
    given_exams: list[ExamLesions], times: list[int]
) -> None:
    found = detections(pooled(given_exams, PATIENT), np.array([times, [1, 1, 1, 1]]))
    for row, of_patient in enumerate((times, [1, 1, 1, 1])):
        repeated = [
            one
            for one, patient in zip(given_exams, PATIENT, strict=True)
            for _ in range(of_patient[patient])
        ]
        for figure, expected in counted(repeated).items():
            assert getattr(found, figure)[row] == pytest.approx(expected, nan_ok=True), figure


@few
@given(exams)
def test_the_curve_is_a_stair_through_the_sensitivities_at_the_rates(
    given_exams: list[ExamLesions],
) -> None:
    pool = pooled(given_exams, PATIENT)
    curve, (at_rates,) = froc_curve(pool), detections(pool, np.ones((1, 4), np.int64)).at_rates
    assert (np.diff(curve.alarms) >= 0).all()
    for rate, expected in zip(RATES, at_rates, strict=True):
        at = curve.sensitivity[np.flatnonzero(curve.alarms <= rate)[-1]]
        assert at == pytest.approx(expected, nan_ok=True)


def whole(*given_exams: ExamLesions) -> Detections:
    pool = pooled(list(given_exams), np.arange(len(given_exams)))
    return detections(pool, np.ones((1, len(given_exams)), np.int64))


def test_exams_without_a_lesion_share_the_false_alarms() -> None:
    alone = whole(exam([9], [10], hits=1))
    among = whole(exam([9], [10], hits=1), *[exam([])] * 7)
    assert (alone.alarms[0], among.alarms[0]) == (1, 1 / 8)
    # Alone, the lesion comes behind one false alarm an exam: at rates below it is not found.
    assert alone.at_rates[0].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert among.at_rates[0].tolist() == [1] * 7


def test_a_false_alarm_with_the_score_of_a_lesion_comes_with_it() -> None:
    assert whole(exam([9], [9], hits=1)).at_rates[0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_who_finds_everything_and_nothing_else_is_perfect() -> None:
    found = whole(exam([5, 9], hits=2), exam([]))
    for figure in ("sensitivity", "predictive_value", "f1", "mean_at_rates"):
        assert getattr(found, figure)[0] == 1


def test_who_marks_nothing_finds_nothing() -> None:
    found = whole(exam([0, 0]), exam([]))
    assert (found.sensitivity[0], found.f1[0], found.mean_at_rates[0]) == (0, 0, 0)
    assert math.isnan(found.predictive_value[0])


def test_without_a_lesion_only_false_alarms_are_defined() -> None:
    found = whole(exam([], [5]), exam([]))
    assert (found.alarms[0], found.predictive_value[0]) == (0.5, 0)
    for figure in ("sensitivity", "f1", "mean_at_rates"):
        assert math.isnan(getattr(found, figure)[0])
    assert np.isnan(found.at_rates).all()


@pytest.fixture
def pool() -> LesionPool:
    rng = np.random.default_rng(3)
    made = []
    for _ in range(60):
        found_at = rng.integers(0, 40, rng.integers(0, 4)).tolist()
        alarms = rng.integers(1, 30, rng.integers(0, 5)).tolist()
        made.append(exam(found_at, alarms, hits=sum(f > 0 for f in found_at)))
    return pooled(made, np.arange(60) // 2)


def test_resamples_may_be_computed_anywhere(
    pool: LesionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    strata = np.arange(30) % 2
    together = resampled_detections(pool, seed=5, resamples=range(50), strata=strata)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 1)
    parts = [
        resampled_detections(pool, seed=5, resamples=some, strata=strata)
        for some in (range(7), range(7, 50))
    ]
    for figure in FIGURES:
        assert getattr(joined(parts), figure).tobytes() == getattr(together, figure).tobytes()


def test_a_model_has_each_figure_with_its_interval(pool: LesionPool) -> None:
    samples = resampled_detections(pool, seed=1, resamples=range(400))
    found = lesion_detection("student", pool, samples)
    assert (found.model, found.num_exams) == ("student", 60)
    assert found.sensitivity.estimate == found.num_found / found.num_lesions
    right = found.num_hits / (found.num_hits + found.num_alarms)
    assert found.predictive_value.estimate == right
    assert found.alarms.estimate == found.num_alarms / 60
    assert found.mean_at_rates.estimate == pytest.approx(
        np.mean([one.estimate for one in found.at_rates])
    )
    for one in (found.sensitivity, found.f1, found.alarms, found.mean_at_rates, *found.at_rates):
        assert one.low <= one.estimate <= one.high
    assert found.sensitivity.low == np.quantile(samples.sensitivity, 0.025)
    assert found.mean_at_rates.high == np.quantile(samples.mean_at_rates, 0.975)


def test_resamples_without_a_lesion_are_left_out_and_counted() -> None:
    pool = pooled([exam([9], hits=1), exam([])], np.arange(2))
    samples = resampled_detections(pool, seed=1, resamples=range(200))
    found = lesion_detection("student", pool, samples).sensitivity
    assert (found.low, found.high) == (1, 1)
    assert found.num_undefined == np.isnan(samples.sensitivity).sum() > 20
