import math
from dataclasses import replace

import numpy as np
import pytest

from ich_ray.statistics.exam_slices import CountedSlice
from ich_ray.statistics.exam_statistics import Counting, ExamFacts, calls_at, count_exam
from ich_ray.statistics.masks.exam_masks import exam_masks

LEVEL = 100


def a_slice(number: int, called: np.ndarray, true: np.ndarray) -> CountedSlice:
    return CountedSlice(
        key=f"s{number}",
        label=bool(true.any()),
        score=0.5,
        levels=np.where(called, LEVEL + 7, 3).astype(np.uint16),
        reference=true,
        previous=f"s{number - 1}" if number else None,
        spacing_mm=(0.5, 0.4),
        extent_mm=5.0,
    )


def box(row: int, column: int, side: int = 4) -> np.ndarray:
    mask = np.zeros((16, 16), np.bool_)
    mask[row : row + side, column : column + side] = True
    return mask


def an_exam() -> list[CountedSlice]:
    """A bleed through slices 1 and 2, found in slice 2; a false alarm in slice 4."""
    nothing = np.zeros((16, 16), np.bool_)
    called = [nothing, nothing, box(3, 4), nothing, box(10, 10, 2)]
    true = [nothing, box(2, 4), box(2, 4), nothing, nothing]
    return [a_slice(i, *both) for i, both in enumerate(zip(called, true, strict=True))]


def test_lesions_surfaces_and_volumes_are_of_the_whole_exam() -> None:
    found = exam_masks(an_exam(), level=LEVEL)
    assert found is not None
    assert found.lesions.voxels.tolist() == [32]
    assert found.lesions.found_at.tolist() == [LEVEL + 7]
    assert found.lesions.alarm_voxels.tolist() == [4]
    # 0.5 x 0.4 x 5 mm a voxel.
    assert found.reference_ml == pytest.approx(32 / 1000)
    assert found.predicted_ml == pytest.approx(20 / 1000)
    assert found.surfaces.bleeds
    assert math.isfinite(found.surfaces.hd95_mm)


def test_a_missing_slice_parts_a_bleed_and_leaves_no_surfaces() -> None:
    exam = an_exam()
    parted = [exam[0], exam[1], replace(exam[2], previous="another"), *exam[3:]]
    found = exam_masks(parted, level=LEVEL)
    assert found is not None
    assert sorted(found.lesions.voxels.tolist()) == [16, 16]
    assert math.isnan(found.surfaces.hd95_mm)
    assert found.reference_ml == pytest.approx(32 / 1000)


def test_slices_that_nobody_marked_are_left_out() -> None:
    exam = an_exam()
    unmarked = replace(exam[3], levels=None, reference=None)
    found = exam_masks([*exam[:3], unmarked, exam[4]], level=LEVEL)
    assert found is not None
    assert found.lesions.voxels.tolist() == [32]
    # Slice 4 follows none that is there.
    assert math.isnan(found.surfaces.hd95_mm)
    assert exam_masks([unmarked], level=LEVEL) is None


def test_ignored_pixels_are_in_neither_mask() -> None:
    exam = an_exam()
    exam[4] = replace(exam[4], valid=~box(9, 9, 6))
    found = exam_masks(exam, level=LEVEL)
    assert found is not None
    assert found.lesions.alarm_voxels.tolist() == []
    assert found.predicted_ml == pytest.approx(16 / 1000)


def test_a_volume_is_not_known_where_a_marked_slice_has_no_size() -> None:
    exam = an_exam()
    exam[2] = replace(exam[2], extent_mm=None)
    found = exam_masks(exam, level=LEVEL)
    assert found is not None
    assert math.isnan(found.reference_ml)
    assert math.isnan(found.surfaces.nsd_2mm)
    exam = an_exam()
    exam[0] = replace(exam[0], spacing_mm=None)
    found = exam_masks(exam, level=LEVEL)
    assert found is not None
    assert found.reference_ml == pytest.approx(32 / 1000)


def test_uneven_slices_have_volumes_and_no_surfaces() -> None:
    exam = an_exam()
    exam[1] = replace(exam[1], extent_mm=10.0)
    found = exam_masks(exam, level=LEVEL)
    assert found is not None
    assert found.reference_ml == pytest.approx(48 / 1000)
    assert math.isnan(found.surfaces.hd95_mm)


def test_slices_of_two_sizes_are_no_volume() -> None:
    exam = an_exam()
    small = np.zeros((8, 8), np.bool_)
    assert exam_masks([*exam, a_slice(5, small, small)], level=LEVEL) is None


def test_an_exam_is_counted_as_far_as_asked() -> None:
    facts = ExamFacts(exam="e", patient="p", corpus="c", label=True)
    plain = count_exam("m", facts, an_exam(), score=0.5)
    assert plain.statistics.masks is None
    assert plain.statistics.slice_pixels == ()
    assert plain.statistics.slice_labels.tolist() == [False, True, True, False, False]
    wanted = Counting(level=LEVEL, single_slices=True)
    whole = count_exam("m", facts, an_exam(), score=0.5, counting=wanted)
    assert whole.statistics.masks is not None
    assert [int(one.pos.sum()) for one in whole.statistics.slice_pixels] == [0, 16, 16, 0, 0]
    assert int(whole.pixels.pos.sum()) == 32
    assert int(whole.positive_pixels.neg.sum()) == 2 * (256 - 16)
    assert whole.statistics.largest_slice == "s2"
    assert (plain.statistics.calls, plain.statistics.pixels) == (None, None)
    assert whole.statistics.calls == calls_at(whole.pixels, LEVEL)
    unmasked = count_exam("m", facts, an_exam(), score=0.5, counting=replace(wanted, masks=False))
    assert unmasked.statistics.masks is None
    assert unmasked.statistics.calls == whole.statistics.calls


def test_small_lesions_and_marks_do_not_count_where_that_is_asked() -> None:
    facts = ExamFacts(exam="e", patient="p", corpus="c", label=True)
    wanted = Counting(level=LEVEL, lesion_voxels=5)
    found = count_exam("m", facts, an_exam(), score=0.5, counting=wanted)
    assert found.statistics.masks is not None
    assert found.statistics.masks.lesions.voxels.tolist() == [32]
    assert found.statistics.masks.lesions.alarm_voxels.tolist() == []
    assert found.statistics.masks.lesions.num_small_marks == 1
