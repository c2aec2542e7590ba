"""Distances between surfaces, as if every face were compared with every other."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist

from ich_ray.errors import QualityError
from ich_ray.statistics.bootstrap import resample_weights
from ich_ray.statistics.masks.surfaces import (
    ExamSurfaces,
    Spacing,
    exam_surfaces,
    surface_distances,
)

few = settings(max_examples=25)  # the whole unit tier has ten seconds

THICK: Spacing = (5.0, 0.5, 0.4)
masks = arrays.arrays(np.bool_, (3, 4, 4))
spacings = st.sampled_from([THICK, (1.0, 1.0, 1.0), (0.6, 0.7, 0.8)])


def faces(mask: np.ndarray, spacing_mm: Spacing) -> list[tuple[list[float], float]]:
    """Centre and area of every face that looks outside, one by one."""
    found = []
    for voxel in np.argwhere(mask):
        for axis in range(3):
            for side in (-1, 1):
                other = voxel.copy()
                other[axis] += side
                inside = all(0 <= i < n for i, n in zip(other, mask.shape, strict=True))
                if not (inside and mask[tuple(other)]):
                    centre = (voxel + other) / 2 * np.array(spacing_mm)
                    area = math.prod(spacing_mm) / spacing_mm[axis]
                    found.append((centre.tolist(), area))
    return found


def by_brute_force(a: np.ndarray, b: np.ndarray, spacing_mm: Spacing) -> tuple[float, ...]:
    of_a, of_b = faces(a, spacing_mm), faces(b, spacing_mm)
    apart = cdist([centre for centre, _ in of_a], [centre for centre, _ in of_b])
    both = [
        sorted(zip(apart.min(axis=1).round(6), [area for _, area in of_a], strict=True)),
        sorted(zip(apart.min(axis=0).round(6), [area for _, area in of_b], strict=True)),
    ]
    percentiles = []
    for surface in both:
        covered, whole = 0.0, sum(area for _, area in surface)
        for distance, area in surface:
            covered += area
            if covered >= 0.95 * whole - 1e-9:
                percentiles.append(distance)
                break
    whole = sum(area for surface in both for _, area in surface)
    within = [sum(area for s in both for d, area in s if d <= t) / whole for t in (1, 2)]
    return max(percentiles), *within


def values(found: ExamSurfaces) -> tuple[float, float, float]:
    return found.hd95_mm, found.nsd_1mm, found.nsd_2mm


@few
@given(masks, masks, spacings)
def test_distances_are_those_of_every_face_to_every_other(
    a: np.ndarray, b: np.ndarray, spacing_mm: Spacing
) -> None:
    assume(a.any() and b.any())
    expected = by_brute_force(a, b, spacing_mm)
    assert values(exam_surfaces(a, b, spacing_mm)) == pytest.approx(expected)


@few
@given(masks, masks, spacings)
def test_prediction_and_reference_may_change_places(
    a: np.ndarray, b: np.ndarray, spacing_mm: Spacing
) -> None:
    one, other = (exam_surfaces(*pair, spacing_mm) for pair in ((a, b), (b, a)))
    assert values(one) == pytest.approx(values(other), nan_ok=True)
    assert (one.marked, one.bleeds) == (other.bleeds, other.marked) == (a.any(), b.any())


@given(masks)
def test_a_mask_agrees_with_itself(mask: np.ndarray) -> None:
    assume(mask.any())
    assert values(exam_surfaces(mask, mask, THICK)) == (0, 1, 1)


def box(*sides: slice) -> np.ndarray:
    mask = np.zeros((24, 24, 24), np.bool_)
    mask[sides] = True
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [1, 4])
def test_a_box_that_is_shifted_lies_as_far_as_its_ends(axis: int, shift: int) -> None:
    spacing_mm = (2.0, 0.5, 0.75)
    reference = box(slice(5, 15), slice(5, 15), slice(5, 15))
    found = exam_surfaces(np.roll(reference, shift, axis), reference, spacing_mm)
    # The ends are more than 5 % of the surface, and no face is further away than they are.
    assert found.hd95_mm == pytest.approx(shift * spacing_mm[axis])


def test_spheres_within_each_other_lie_as_far_as_their_radii_differ() -> None:
    steps = np.indices((48, 96, 96)) - np.array([24, 48, 48])[:, None, None, None]
    spacing_mm = (1.0, 0.5, 0.5)
    radius = np.sqrt(sum((s * apart) ** 2 for s, apart in zip(steps, spacing_mm, strict=True)))
    found = exam_surfaces(radius <= 20, radius <= 17.5, spacing_mm)
    assert found.hd95_mm == pytest.approx(2.5, abs=0.5)
    assert (found.nsd_1mm, found.nsd_2mm) == pytest.approx((0, 0), abs=0.1)
    closer = exam_surfaces(radius <= 18.25, radius <= 17.5, spacing_mm)
    assert (closer.nsd_1mm, closer.nsd_2mm) == pytest.approx((1, 1), abs=0.1)


def test_ten_voxels_of_a_tenth_of_a_mm_are_within_1_mm() -> None:
    for length in (10, 13, 15, 16, 21):
        plate = np.zeros((1, 1, 40), np.bool_)
        plate[0, 0, :length] = True
        shifted = np.roll(plate, 10, 2)
        for pair in ((plate, shifted), (shifted, plate)):
            assert exam_surfaces(*pair, (0.1, 0.1, 0.1)).nsd_1mm == 1


def test_a_speck_far_off_moves_hd95_once_it_has_a_twentieth_of_the_surface() -> None:
    reference = box(slice(0, 10), slice(0, 10), slice(0, 10))  # 600 faces
    small, large = reference.copy(), reference.copy()
    small[20, 20, 15:20] = True  # 22 faces
    large[20, 20, 13:21] = True  # 34 faces
    assert exam_surfaces(small, reference, (1.0, 1.0, 1.0)).hd95_mm == 0
    assert exam_surfaces(large, reference, (1.0, 1.0, 1.0)).hd95_mm > 14


def test_who_marks_nothing_is_as_far_as_can_be() -> None:
    bleed, nothing = box(slice(3), slice(3), slice(3)), box(slice(0))
    for predicted, reference in ((nothing, bleed), (bleed, nothing)):
        assert values(exam_surfaces(predicted, reference, THICK)) == (math.inf, 0, 0)
    assert all(map(math.isnan, values(exam_surfaces(nothing, nothing, THICK))))


def test_without_a_spacing_nothing_is_known_but_what_is_marked() -> None:
    bleed, nothing = box(slice(3), slice(3), slice(3)), box(slice(0))
    found = exam_surfaces(nothing, bleed, None)
    assert (found.bleeds, found.marked) == (True, False)
    assert all(map(math.isnan, values(found)))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_spacing_that_is_none_is_named(bad: float) -> None:
    mask = box(slice(3), slice(3), slice(3))
    with pytest.raises(QualityError, match="has no surfaces; correct it, or give none"):
        exam_surfaces(mask, mask, (5.0, bad, 0.5))


def test_ignored_voxels_are_in_neither_mask() -> None:
    reference, speck = box(slice(3), slice(3), slice(3)), box(slice(20, 21), slice(9), slice(9))
    valid = ~speck
    assert values(exam_surfaces(reference | speck, reference, THICK, valid=valid)) == (0, 1, 1)
    assert exam_surfaces(speck, reference, THICK, valid=valid).marked is False


def exam(hd95_mm: float, nsd: float, *, bleeds: bool = True, marked: bool = True) -> ExamSurfaces:
    return ExamSurfaces(bleeds=bleeds, marked=marked, hd95_mm=hd95_mm, nsd_1mm=nsd, nsd_2mm=nsd)


MISSED = exam(math.inf, 0.0, marked=False)
FALSE = exam(math.inf, 0.0, bleeds=False)
UNKNOWN = exam(math.nan, math.nan)


@few
@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.0, math.inf]), min_size=4, max_size=4),
    st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any),
)
def test_a_resample_has_the_median_and_mean_of_its_exams_repeated(
    distances: list[float], times: list[int]
) -> None:
    patient = np.array([0, 1, 1, 2])
    made = [exam(d, 1 / (1 + d)) for d in distances]
    found = surface_distances("student", made, patient, np.array([times]))
    repeated = np.repeat(distances, np.array(times)[patient])
    with np.errstate(invalid="ignore"):
        assert found.hd95_mm.low == found.hd95_mm.high == np.median(repeated)
    assert found.nsd_1mm.low == pytest.approx(np.mean(1 / (1 + repeated)))
    with np.errstate(invalid="ignore"):
        assert found.hd95_mm.estimate == np.median(distances)


def test_figures_are_of_exams_with_a_bleed_and_a_known_spacing() -> None:
    made = [exam(1.0, 0.9), exam(2.0, 0.6), MISSED, FALSE, FALSE, UNKNOWN, exam(3.0, 0.5)]
    once = np.ones((1, len(made)), np.int64)
    found = surface_distances("student", made, np.arange(len(made)), once)
    counts = (found.num_exams, found.num_missed, found.num_false, found.num_unknown)
    assert counts == (4, 1, 2, 1)
    assert found.hd95_mm.estimate == 2.5
    assert found.nsd_2mm.estimate == pytest.approx(0.5)


def test_half_of_the_exams_missed_make_an_infinite_median_with_bounds() -> None:
    made = [exam(1.0, 0.9), exam(1.0, 0.9), MISSED, MISSED]
    drawn = resample_weights(seed=0, resamples=range(300), num_clusters=4)
    found = surface_distances("student", made, np.arange(4), drawn).hd95_mm
    assert (found.low, found.estimate, found.high) == (1.0, math.inf, math.inf)


def test_resamples_without_a_bleed_are_left_out_and_counted() -> None:
    drawn = np.array([[1, 1], [0, 2], [2, 0]])
    found = surface_distances("student", [exam(3.0, 0.5), FALSE], np.arange(2), drawn)
    assert (found.hd95_mm.low, found.hd95_mm.high, found.hd95_mm.num_undefined) == (3.0, 3.0, 1)
    assert found.nsd_1mm.num_undefined == 1


def test_without_any_bleed_every_figure_is_undefined() -> None:
    found = surface_distances("student", [FALSE], np.arange(1), np.ones((5, 1), np.int64))
    assert found.num_exams == 0
    for one in (found.hd95_mm, found.nsd_1mm, found.nsd_2mm):
        assert all(map(math.isnan, (one.estimate, one.low, one.high)))
        assert one.num_undefined == 5
