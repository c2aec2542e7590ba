"""A lesion is found if a mark touches it, and a mark that touches none is a false alarm."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ich_ray.errors import QualityError
from ich_ray.statistics.masks.lesions import ExamLesions, LeastSize, ScoredExam, exam_lesions

few = settings(max_examples=60)  # the whole unit tier has ten seconds

SHAPE = (4, 3, 4)
LEVEL = 7

Voxel = tuple[int, ...]


@st.composite
def exams(draw: st.DrawFn) -> ScoredExam:
    """Few marked voxels in a small exam, so that there are several parts."""
    sparse = st.sampled_from([0, 0, 0, 0, 1, 6, 7, 8, 65_535])
    return ScoredExam(
        levels=draw(arrays.arrays(np.uint16, SHAPE, elements=sparse)),
        reference=draw(arrays.arrays(np.int8, SHAPE, elements=st.integers(0, 4))) == 4,
        follows=draw(arrays.arrays(np.bool_, SHAPE[0])),
        valid=draw(st.one_of(st.none(), arrays.arrays(np.bool_, SHAPE))),
    )


def one_slice(*rows: list[int], truth: list[list[int]]) -> ScoredExam:
    return ScoredExam(
        levels=np.array([rows], np.uint16),
        reference=np.array([truth], np.bool_),
        follows=np.array([False]),
    )


def parts(mask: np.ndarray, exam: ScoredExam) -> list[set[Voxel]]:
    """Grow parts voxel by voxel."""
    kept = mask if exam.valid is None else mask & exam.valid
    left = {tuple(map(int, voxel)) for voxel in np.argwhere(kept)}
    found = []
    while left:
        part, edge = set(), {min(left)}
        while edge:
            part |= edge
            edge = {
                other
                for voxel in edge
                for step in itertools.product((-1, 0, 1), repeat=3)
                if (other := tuple(a + b for a, b in zip(voxel, step, strict=True))) in left - part
                and (step[0] == 0 or exam.follows[max(voxel[0], other[0])])
            }
        left -= part
        found.append(part)
    return found


@few
@given(exams(), st.integers(1, 3))
def test_lesions_and_false_alarms_are_those_of_parts_that_grow_voxel_by_voxel(
    exam: ScoredExam, least: int
) -> None:
    lesions, marks = parts(exam.reference, exam), parts(exam.levels >= LEVEL, exam)
    large = [mark for mark in marks if len(mark) >= least]

    def highest(mark: set[Voxel]) -> int:
        return max(int(exam.levels[voxel]) for voxel in mark)

    found = exam_lesions(exam, level=LEVEL, least=LeastSize(amount=float(least)))
    assert sorted(zip(found.voxels.tolist(), found.found_at.tolist(), strict=True)) == sorted(
        (len(lesion), max((highest(mark) for mark in large if mark & lesion), default=0))
        for lesion in lesions
        if len(lesion) >= least
    )
    alarms = zip(found.alarm_voxels.tolist(), found.alarm_level.tolist(), strict=True)
    assert sorted(alarms) == sorted(
        (len(mark), highest(mark)) for mark in large if not any(mark & lesion for lesion in lesions)
    )
    counted = [lesion for lesion in lesions if len(lesion) >= least]
    assert found.num_hits == sum(any(mark & lesion for lesion in counted) for mark in large)
    assert found.num_small_lesions == len(lesions) - len(counted)
    assert found.num_small_marks == len(marks) - len(large)


def test_parts_that_meet_in_a_corner_are_one() -> None:
    levels = np.zeros((2, 2, 2), np.uint16)
    levels[0, 0, 0] = levels[1, 1, 1] = 9
    exam = ScoredExam(levels=levels, reference=levels > 0, follows=np.array([False, True]))
    assert exam_lesions(exam, level=LEVEL).voxels.tolist() == [2]


def test_a_missing_slice_parts_a_lesion_and_a_mark() -> None:
    levels = np.array([[[9]], [[8]], [[7]]], np.uint16)
    reference = np.ones((3, 1, 1), np.bool_)
    exam = ScoredExam(levels=levels, reference=reference, follows=np.array([True, True, False]))
    found = exam_lesions(exam, level=LEVEL)
    assert (found.voxels.tolist(), found.found_at.tolist()) == ([2, 1], [9, 7])


def test_a_mark_has_the_score_of_its_surest_voxel_be_it_outside_of_the_lesion() -> None:
    exam = one_slice([99, 7, 0], truth=[[0, 1, 0]])
    assert exam_lesions(exam, level=LEVEL).found_at.tolist() == [99]


def test_one_mark_over_two_lesions_finds_both_and_is_counted_once() -> None:
    found = exam_lesions(one_slice([7, 8, 9], truth=[[1, 0, 1]]), level=LEVEL)
    assert (found.found_at.tolist(), found.num_hits, len(found.alarm_level)) == ([9, 9], 1, 0)


def test_of_two_marks_on_a_lesion_the_surer_one_counts() -> None:
    found = exam_lesions(one_slice([8, 0, 9], truth=[[1, 1, 1]]), level=LEVEL)
    assert (found.found_at.tolist(), found.num_hits) == ([9], 2)


def test_a_small_lesion_is_not_missed_and_what_touches_it_is_no_false_alarm() -> None:
    exam = one_slice([9, 9, 0, 0], truth=[[1, 0, 0, 1]])
    found = exam_lesions(exam, level=LEVEL, least=LeastSize(amount=2.0))
    assert (len(found.voxels), len(found.alarm_level), found.num_hits) == (0, 0, 0)
    assert found.num_small_lesions == 2


def test_a_small_mark_alarms_nobody_and_finds_nothing() -> None:
    exam = one_slice([9, 0, 0, 0, 9], truth=[[1, 1, 1, 0, 0]])
    found = exam_lesions(exam, level=LEVEL, least=LeastSize(amount=2.0))
    assert (found.found_at.tolist(), len(found.alarm_level), found.num_hits) == ([0], 0, 0)
    assert found.num_small_marks == 2


@pytest.mark.parametrize(("least_mm3", "num_lesions"), [(2.1, 1), (2.11, 0)])
def test_a_least_size_in_mm3_counts_the_size_of_a_voxel(least_mm3: float, num_lesions: int) -> None:
    exam = ScoredExam(
        levels=np.zeros((1, 1, 7), np.uint16),
        reference=np.ones((1, 1, 7), np.bool_),
        follows=np.array([False]),
        voxel_mm3=0.3,
    )
    found = exam_lesions(exam, level=LEVEL, least=LeastSize(amount=least_mm3, unit="mm3"))
    assert len(found.voxels) == num_lesions
    assert found.volume_ml == pytest.approx([0.0021] * num_lesions)


def test_a_size_in_mm3_needs_to_know_that_of_a_voxel() -> None:
    exam = one_slice([9], truth=[[1]])
    assert np.isnan(exam_lesions(exam, level=LEVEL).volume_ml).all()
    with pytest.raises(QualityError, match=r"at least 30 mm3 .* give the least size in voxels"):
        exam_lesions(exam, level=LEVEL, least=LeastSize(amount=30.0, unit="mm3"))


def test_at_level_0_all_is_one_mark_that_finds_every_lesion() -> None:
    found = exam_lesions(one_slice([0, 0, 0], truth=[[1, 0, 1]]), level=0)
    assert (found.found_at.tolist(), found.num_hits) == ([1, 1], 1)


def test_lesions_travel_between_processes() -> None:
    found = exam_lesions(one_slice([9, 0, 8], truth=[[1, 0, 0]]), level=LEVEL)
    again: ExamLesions = pickle.loads(pickle.dumps(found))
    assert again.alarm_level.tolist() == [8]
    assert len(pickle.dumps(found)) < 2000
