from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from ich_ray.errors import QualityError
from ich_ray.exam import Plane
from ich_ray.foreign_exams import ForeignExam
from ich_ray.scored_volume import ScoredVolume
from ich_ray.statistics.exam_statistics import Counting, ExamStatistics
from ich_ray.statistics.foreign_counts import (
    CaseVolumes,
    ForeignCase,
    cases_of,
    count_case,
    label_of,
    left_out,
    needs_pixels,
    on_one_grid,
)


def foreign(exam: str, value: float | None = None, **given: object) -> ForeignExam:
    fields = {"patient": exam, "slices": {}, "map": None, "where": "data row 1"} | given
    return ForeignExam(exam=exam, value=value, **fields)


def volume(values: np.ndarray, *, first_mm: float = 0.0, **given: object) -> ScoredVolume:
    planes = tuple(
        Plane((0.0, 0.0, first_mm + 5.0 * i), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0))
        for i in range(len(values))
    )
    fields = {"ignored": None, "sparse": False} | given
    return ScoredVolume(values=values.astype(np.float32), planes=planes, **fields)


def statistics_of(
    case: ForeignCase,
    volumes: CaseVolumes,
    *,
    score_slices: int,
    counting: Mapping[str, Counting],
) -> list[ExamStatistics]:
    found = count_case(case, volumes, score_slices=score_slices, counting=counting)
    return [one.statistics for one in found]


def test_exams_are_numbered_and_named_by_nothing_else() -> None:
    truth = {"DOE": foreign("DOE", 1.0, patient="x"), "ROE": foreign("ROE", 0.0, patient="x")}
    said = {"a": {"ROE": foreign("ROE", 0.3), "DOE": foreign("DOE", 0.4)}}
    cases = cases_of(truth, said)
    assert [(one.key, one.patient) for one in cases] == [
        ("0000001", "0000001"),
        ("0000002", "0000001"),
    ]
    (first,) = statistics_of(cases[0], CaseVolumes(), score_slices=1, counting={})
    assert (first.facts.exam, first.score, first.facts.label) == ("0000001", 0.4, True)
    assert "DOE" not in repr(first)


def test_only_exams_that_all_hold_are_compared_and_the_rest_is_said() -> None:
    truth = {name: foreign(name, 1.0) for name in "abcd"}
    said = {
        "first": {name: foreign(name, 0.5) for name in "abcx"},
        "second": {name: foreign(name, 0.5) for name in "bcd"},
    }
    cases = cases_of(truth, said)
    assert [one.truth.exam for one in cases] == ["b", "c"]
    assert left_out(truth, said, cases, others=0) == [
        "1 of 4 exams of the reference have no prediction of first, and are left out for all "
        "models.",
        "1 of 4 exams that first predicts are not in the reference, and are left out.",
        "1 of 4 exams of the reference have no prediction of second, and are left out for all "
        "models.",
    ]
    assert left_out(truth, {"all": said["first"] | said["second"]}, cases, others=1) == []


def test_slices_that_both_tables_name_are_counted() -> None:
    truth = {"e": foreign("e", slices={"1": 0.0, "2": 1.0, "3": 1.0})}
    said = {"m": {"e": foreign("e", slices={"2": 0.9, "1": 0.2, "7": 0.99})}}
    cases = cases_of(truth, said)
    (found,) = statistics_of(cases[0], CaseVolumes(), score_slices=2, counting={})
    assert found.slice_labels.tolist() == [False, True]
    assert found.slice_scores.tolist() == [0.2, 0.9]
    # The exam's score is of all slices that the model names.
    assert found.score == pytest.approx((0.99 + 0.9) / 2)
    assert found.facts.label
    assert left_out(truth, said, cases, others=0) == [
        "1 slices that the reference labels have no score of a model, and are left out of the "
        "figures by slice."
    ]


def with_maps(mask: np.ndarray, p: np.ndarray) -> tuple:
    truth = {"e": foreign("e", map="t")}
    said = {"m": {"e": foreign("e", map="m")}}
    (case,) = cases_of(truth, said)
    assert case.has_maps
    return case, on_one_grid(volume(mask), {"m": volume(p)})


def test_pixels_make_slices_exam_and_masks() -> None:
    mask = np.zeros((3, 6, 6))
    mask[1, 2:4, 2:4] = 1
    p = np.full((3, 6, 6), 0.01)
    p[1, 2:4, 2:5], p[2, 0, 0] = 0.9, 0.4
    case, volumes = with_maps(mask, p)
    (found,) = count_case(case, volumes, score_slices=1, counting={"m": Counting(level=32768)})
    assert found.statistics.facts.label
    assert found.statistics.score == pytest.approx(0.9)
    assert found.statistics.slice_labels.tolist() == [False, True, False]
    assert found.statistics.slice_scores == pytest.approx([0.01, 0.9, 0.4])
    assert found.statistics.masks is not None
    assert found.statistics.masks.predicted_ml == pytest.approx(6 * 0.5 * 0.5 * 5 / 1000)
    assert int(found.pixels.pos.sum()) == 4


def test_certain_pixels_have_the_outermost_levels() -> None:
    mask = np.zeros((1, 2, 2))
    mask[0, 0, 0] = 1
    case, volumes = with_maps(mask, np.array([[[1.0, 0.0], [0.5, 0.0]]]))
    (found,) = count_case(case, volumes, score_slices=1, counting={})
    assert found.pixels.level.tolist() == [0, 32768, 65535]
    assert found.pixels.pos.tolist() == [0, 0, 1]


def test_ignored_pixels_of_the_reference_are_in_no_count() -> None:
    mask, ignored = np.zeros((1, 2, 2)), np.zeros((1, 2, 2), np.bool_)
    mask[0, 0], ignored[0, 0, 1] = 1, True
    truth = volume(mask, ignored=ignored)
    assert label_of(foreign("e"), truth)
    assert not label_of(foreign("e"), volume(mask, ignored=mask > 0))
    case, _ = with_maps(mask, mask)
    volumes = CaseVolumes(truth=truth, said={"m": volume(mask)})
    (found,) = count_case(case, volumes, score_slices=1, counting={})
    assert int(found.pixels.pos.sum() + found.pixels.neg.sum()) == 3


def test_the_word_of_the_table_stands_above_that_of_the_pixels() -> None:
    assert not label_of(foreign("e", 0.0), volume(np.ones((1, 2, 2))))
    assert label_of(foreign("e", slices={"1": 1.0}), None)


def test_volumes_that_lie_elsewhere_are_refused_with_the_model() -> None:
    values = np.zeros((2, 4, 4))
    with pytest.raises(QualityError, match=r"predictions b against the reference: 2 of 2 slices"):
        on_one_grid(volume(values), {"a": volume(values), "b": volume(values, first_mm=3.0)})


def test_all_models_are_counted_on_one_grid_where_files_leave_slices_out() -> None:
    whole = np.zeros((4, 4, 4))
    whole[1:3] = 1
    sparse = volume(whole[1:3], first_mm=5.0, sparse=True)
    found = on_one_grid(sparse, {"whole": volume(whole), "sparse": sparse})
    assert found.truth.values.shape == (4, 4, 4)
    assert found.truth.values.tolist() == whole.tolist()
    assert found.said["sparse"].values.tolist() == whole.tolist()


def test_a_reference_of_maps_labels_exams_whose_predictions_are_scores_alone() -> None:
    mask = np.zeros((2, 4, 4))
    mask[1, 1, 1] = 1
    (case,) = cases_of({"e": foreign("e", map="t")}, {"m": {"e": foreign("e", 0.7)}})
    assert needs_pixels(case, case.truth)
    assert not needs_pixels(case, case.said["m"])
    (found,) = count_case(case, CaseVolumes(truth=volume(mask)), score_slices=1, counting={})
    assert (found.statistics.facts.label, found.statistics.score) == (True, 0.7)
    assert len(found.pixels.level) == 0
    assert len(found.statistics.slice_labels) == 0


def test_predictions_of_maps_score_exams_whose_reference_has_labels_alone() -> None:
    p = np.full((2, 4, 4), 0.1)
    p[1, 2, 2] = 0.8
    truth = {"e": foreign("e", 0.0)}
    said = {"maps": {"e": foreign("e", map="m")}, "scores": {"e": foreign("e", 0.4, map=None)}}
    (case,) = cases_of(truth, said)
    assert needs_pixels(case, case.said["maps"])
    volumes = CaseVolumes(said={"maps": volume(p)})
    maps, scores = statistics_of(case, volumes, score_slices=1, counting={})
    assert (maps.score, scores.score) == (pytest.approx(0.8), 0.4)


def test_models_are_compared_on_the_same_slices() -> None:
    truth = {"e": foreign("e", slices={"1": 0.0, "2": 1.0, "3": 1.0, "4": 0.0})}
    said = {
        "a": {"e": foreign("e", slices={"1": 0.1, "2": 0.9, "3": 0.8})},
        "b": {"e": foreign("e", slices={"4": 0.2, "3": 0.7, "2": 0.6})},
    }
    cases = cases_of(truth, said)
    a, b = statistics_of(cases[0], CaseVolumes(), score_slices=1, counting={})
    assert a.slice_labels.tolist() == b.slice_labels.tolist() == [True, True]
    assert (a.slice_scores.tolist(), b.slice_scores.tolist()) == ([0.9, 0.8], [0.6, 0.7])
    (said_out,) = left_out(truth, said, cases, others=0)
    assert said_out.startswith("2 slices")


def test_slices_of_maps_count_for_all_models_where_one_has_no_table_of_slices() -> None:
    mask = np.zeros((2, 4, 4))
    mask[0, 0, 0] = 1
    truth = {"e": foreign("e", map="t", slices={"x": 1.0, "y": 0.0})}
    said = {
        "table": {"e": foreign("e", map="a", slices={"x": 0.9, "y": 0.3})},
        "maps": {"e": foreign("e", map="b")},
    }
    (case,) = cases_of(truth, said)
    volumes = on_one_grid(volume(mask), {n: volume(mask * 0.6) for n in ("table", "maps")})
    table, maps = statistics_of(case, volumes, score_slices=1, counting={})
    assert table.slice_labels.tolist() == maps.slice_labels.tolist() == [True, False]
    assert table.score == 0.9
    assert maps.score == pytest.approx(0.6)


def test_a_bleed_does_not_pass_slices_that_files_leave_out() -> None:
    mask = np.ones((2, 2, 2))
    far = volume(mask, sparse=True)
    planes = (far.planes[0], Plane((0.0, 0.0, 85.0), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0)))
    apart = replace(far, planes=planes)
    (case,) = cases_of({"e": foreign("e", map="t")}, {"m": {"e": foreign("e", map="m")}})
    counting = {"m": Counting(level=32768)}
    for of, lesions in ((far, [8]), (apart, [4, 4])):
        volumes = CaseVolumes(truth=of, said={"m": of})
        (found,) = statistics_of(case, volumes, score_slices=1, counting=counting)
        assert found.masks is not None
        assert found.masks.lesions.voxels.tolist() == lesions


def test_a_reference_in_fractions_marks_from_one_half() -> None:
    assert not label_of(foreign("e"), volume(np.full((1, 2, 2), 0.49)))
    assert label_of(foreign("e"), volume(np.full((1, 2, 2), 0.5)))


def test_ignored_pixels_make_no_score() -> None:
    p, ignored = np.full((1, 2, 2), 0.1), np.zeros((1, 2, 2), np.bool_)
    p[0, 1, 1], ignored[0, 1, 1] = 0.99, True
    case, _ = with_maps(np.zeros((1, 2, 2)), p)
    volumes = CaseVolumes(truth=volume(np.zeros((1, 2, 2)), ignored=ignored), said={"m": volume(p)})
    (found,) = statistics_of(case, volumes, score_slices=1, counting={})
    assert found.score == pytest.approx(0.1)
    assert found.slice_scores == pytest.approx([0.1])
