"""NIfTI and DICOM SEG of other software: the same voxels from either, however they are stored."""

import gzip
import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.errors import ConfigError, InvalidExam, QualityError, SurroundingsError
from ich_ray.scored_volume import aligned, mismatch, on_grid_of
from ich_ray.storage import local_files
from ich_ray.storage.objects import Store
from ich_ray.storage.scored_maps import read_map, volume_of
from tests.local.dicom_objects import ct_slice, to_bytes
from tests.local.foreign_maps import SHAPE, TILTED, as_nifti, as_seg, head_slices, some_bleeds
from tests.local.nifti_corpora import image_of, turned
from tests.local.segmentations import frames_by_pydicom

ALL_AXES = [
    a + b + c
    for pairs in (("RL", "AP", "SI"), ("AP", "RL", "SI"), ("SI", "RL", "AP"), ("AP", "SI", "RL"))
    for a in pairs[0]
    for b in pairs[1]
    for c in pairs[2]
]
P = np.random.default_rng(1).random(SHAPE).astype(np.float32)


def nifti_bytes(values: np.ndarray, axes: str = "LPS") -> bytes:
    made: bytes = turned(as_nifti(head_slices(), values), axes).to_bytes()
    return made


@pytest.mark.parametrize("axes", ALL_AXES)
def test_probabilities_are_the_same_along_whichever_axes_they_are_stored(axes: str) -> None:
    straight, other = volume_of(nifti_bytes(P)), volume_of(nifti_bytes(P, axes))
    assert np.array_equal(straight.values, P)
    assert np.array_equal(other.values, P)
    assert mismatch(straight, other) is None
    assert straight.spacing_mm == pytest.approx((4.25 * 0.9483237, 0.5, 0.4), abs=1e-5)


@pytest.mark.parametrize("axes", ["LPS", "RAI", "SPL", "AIR"])
def test_a_mask_lies_where_its_segmentation_does(axes: str) -> None:
    images, mask = head_slices(), some_bleeds()[..., 0]
    from_nifti = volume_of(nifti_bytes(mask.astype(np.uint8), axes))
    from_seg = volume_of(as_seg(images, mask))
    assert from_seg.values.shape[0] == mask.any(axis=(1, 2)).sum() == 3
    a, b = aligned(from_nifti, from_seg)
    assert np.array_equal(a.values, mask)
    assert np.array_equal(b.values, mask)


def test_a_deflated_file_is_the_same() -> None:
    plain, packed = volume_of(nifti_bytes(P)), volume_of(gzip.compress(nifti_bytes(P)))
    assert plain.values.tobytes() == packed.values.tobytes()
    assert plain.planes == packed.planes


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    st.sets(st.integers(1, 254), max_size=5),
)
def test_whole_numbers_are_a_mask_of_any_type_of_bleed(
    dtype: type[np.generic], classes: set[int]
) -> None:
    values = np.random.default_rng(0).choice([0, 0, 1, 255, *sorted(classes)], SHAPE)
    found = volume_of(nifti_bytes(values.astype(dtype)))
    assert found.ignored is not None
    assert np.array_equal(found.ignored, values == 255)
    assert np.array_equal(found.values, (values != 0) & (values != 255))


def test_a_mask_without_ignored_voxels_has_none() -> None:
    assert volume_of(nifti_bytes(some_bleeds()[..., 0].astype(np.uint8))).ignored is None


def test_a_mask_of_0_and_255_is_read_as_it_was_meant_or_not_at_all() -> None:
    mask = some_bleeds()[..., 0]
    data = nifti_bytes(mask.astype(np.uint8) * 255)
    with pytest.raises(InvalidExam, match=r"holds 255 and nothing else .* write 1 for a hemorrh"):
        volume_of(data)
    found = volume_of(data, ignored=None)
    assert found.ignored is None
    assert np.array_equal(found.values, mask)


def test_probabilities_by_slope_are_those_of_nibabel() -> None:
    stored = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    made = as_nifti(head_slices(), stored)
    made.header.set_slope_inter(1 / 255, 0.0)
    found = volume_of(made.to_bytes())
    reference = nibabel.Nifti1Image.from_bytes(made.to_bytes()).get_fdata().T
    assert np.allclose(found.values, reference, atol=1e-6)
    assert found.values.max() == 1.0  # to 32 bits the slope is a little more than 1/255


def test_an_intercept_is_part_of_a_probability() -> None:
    made = as_nifti(head_slices(), (P * 200 - 100).astype(np.int16))
    made.header.set_slope_inter(1 / 200, 0.5)
    found = volume_of(made.to_bytes())
    assert np.allclose(found.values, P, atol=1 / 200)
    assert found.values.mean() == pytest.approx(P.mean(), abs=1 / 200)


def test_what_rounding_puts_beside_0_and_1_is_0_and_1() -> None:
    values = P.copy()
    values[0, 0, :2] = -5e-7, 1 + 5e-7
    found = volume_of(nifti_bytes(values)).values
    assert found[0, 0, :2].tolist() == [0.0, 1.0]
    assert np.array_equal(found.ravel()[2:], P.ravel()[2:])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (P * 100, "neither probabilities from 0 to 1 nor whole numbers.*percent"),
        (P * 1.5, "neither probabilities"),
        (P - 0.5, "neither probabilities"),
        (np.where(P > 0.5, np.float32(np.nan), P), "neither probabilities"),
        (np.where(P > 0.5, np.float32(np.nan), np.float32(1)), "neither probabilities"),
        (np.where(P > 0.5, np.float32(np.inf), np.float32(0)), "neither probabilities"),
        ((P * 1000 - 500).astype(np.int16), "neither probabilities.*an image"),
        (np.where(P > 0.5, 1, 256).astype(np.int16), "neither probabilities"),
        ((P * 255).astype(np.uint8), "whole numbers, more than a mask has classes: a heat map"),
    ],
)
def test_what_is_neither_probability_nor_mask_is_refused(values: np.ndarray, said: str) -> None:
    with pytest.raises(InvalidExam, match=said):
        volume_of(nifti_bytes(values))


def test_a_volume_along_the_body_is_refused() -> None:
    coronal = image_of(np.zeros((4, 8, 6), np.uint8), np.diag([5.0, 0.5, 0.5, 1.0]))
    with pytest.raises(InvalidExam, match="coronal or sagittal"):
        volume_of(coronal.to_bytes())


def test_frames_lie_where_an_independent_reader_finds_them() -> None:
    images, mask = head_slices(), some_bleeds()[..., 0]
    # Highest first, as scanners count.
    data = as_seg(images[::-1], mask[::-1])
    found = volume_of(data)
    expected = frames_by_pydicom(data)
    in_order = [expected[i.SOPInstanceUID] for i in images if i.SOPInstanceUID in expected]
    assert len(in_order) == len(found.planes) == 3
    for values, plane, frame in zip(found.values, found.planes, in_order, strict=True):
        assert np.array_equal(values, frame.values)
        assert plane.corner_mm == pytest.approx(frame.corner)
        assert plane.column_step_mm == pytest.approx([0.4 * x for x in frame.orientation[:3]])
        assert plane.row_step_mm == pytest.approx([0.5 * x for x in frame.orientation[3:]])


@pytest.mark.parametrize("levels", [255, 100, 1])
def test_a_fractional_segmentation_holds_shares_of_its_largest_value(levels: int) -> None:
    p = np.round(P * levels) / np.float32(levels)
    p[1] = 0
    data = as_seg(head_slices(), p, "FRACTIONAL", max_fractional_value=levels)
    found = on_grid_of(volume_of(data), volume_of(nifti_bytes(P)))
    assert np.allclose(found.values, p, atol=1e-6)
    assert found.values.max() <= 1


def test_of_several_segments_the_largest_counts() -> None:
    masks, p = some_bleeds(3), np.stack([P, 1 - P], axis=-1)
    dense = volume_of(nifti_bytes(P))
    union = on_grid_of(volume_of(as_seg(head_slices(), masks)), dense)
    assert np.array_equal(union.values, masks.any(axis=-1))
    highest = on_grid_of(volume_of(as_seg(head_slices(), p, "FRACTIONAL")), dense)
    assert np.allclose(highest.values, p.max(axis=-1), atol=0.5 / 255 + 1e-6)


def test_a_label_map_is_a_mask_of_all_its_segments() -> None:
    masks = some_bleeds(2)
    masks[..., 1] &= ~masks[..., 0]
    found = on_grid_of(
        volume_of(as_seg(head_slices(), masks, "LABELMAP")), volume_of(nifti_bytes(P))
    )
    assert np.array_equal(found.values, masks.any(axis=-1))


ACROSS, DOWN = np.array(TILTED[:3]), np.array(TILTED[3:])


def test_a_segmentation_on_slices_that_are_stored_otherwise_is_the_same() -> None:
    images, mask = head_slices(), some_bleeds()[..., 0]
    straight = volume_of(as_seg(images, mask))
    mirrored, swapped = head_slices(), head_slices(Rows=6, Columns=8)
    for image in mirrored:
        # Columns from left to right, rows from back to front.
        corner = np.array(image.ImagePositionPatient, float) + 5 * 0.4 * ACROSS + 7 * 0.5 * DOWN
        image.ImagePositionPatient = np.round(corner, 9).tolist()
        image.ImageOrientationPatient = [*-ACROSS, *-DOWN]
    for image in swapped:
        image.PixelSpacing = [0.4, 0.5]
        image.ImageOrientationPatient = [*DOWN, *ACROSS]
    for data in (
        as_seg(mirrored, mask[:, ::-1, ::-1]),
        as_seg(swapped, mask.transpose(0, 2, 1)),
    ):
        other = volume_of(data)
        assert np.array_equal(straight.values, other.values)
        assert mismatch(straight, other) is None


def test_whether_an_algorithm_alone_made_it_is_told() -> None:
    mask = some_bleeds()
    assert volume_of(as_seg(head_slices(), mask, algorithm="AUTOMATIC")).automatic
    assert not volume_of(as_seg(head_slices(), mask)).automatic
    assert not volume_of(nifti_bytes(P)).automatic


def changed(data: bytes, change: str) -> bytes:
    made = pydicom.dcmread(io.BytesIO(data))
    frames = made.PerFrameFunctionalGroupsSequence
    (shared,) = made.SharedFunctionalGroupsSequence
    if change == "no place":
        del frames[1].PlanePositionSequence
    elif change == "two orientations":
        frames[1].PlaneOrientationSequence = [pydicom.Dataset()]
        frames[1].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    elif change == "coronal":
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    elif change == "no direction":
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    elif change == "no spacing":
        shared.PixelMeasuresSequence[0].PixelSpacing = [0, 0.5]
    elif change == "shifted":
        first = frames[0].PlanePositionSequence[0].ImagePositionPatient
        frames[1].PlanePositionSequence[0].ImagePositionPatient = [first[0] + 1, *first[1:]]
    else:
        made.MaximumFractionalValue = 100
    return to_bytes(made)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no place", "cannot be read as a DICOM segmentation"),
        ("two orientations", "several orientations or spacings"),
        ("coronal", "coronal or sagittal"),
        ("no direction", "no pair of directions"),
        ("no spacing", "a frame does not say where it lies"),
        ("shifted", "shifted against each other"),
        ("levels", "values above its Maximum Fractional Value"),
    ],
)
def test_frames_without_one_place_in_the_patient_are_refused(change: str, said: str) -> None:
    data = as_seg(head_slices(), np.maximum(P, np.float32(0.9)), "FRACTIONAL")
    assert volume_of(data).values.shape == SHAPE
    with pytest.raises(InvalidExam, match=said):
        volume_of(changed(data, change))


def test_a_file_is_read_from_its_url(tmp_path: Path) -> None:
    for name, data in (("a.nii.gz", gzip.compress(nifti_bytes(P))), ("a.nii", nifti_bytes(P))):
        (tmp_path / name).write_bytes(data)
        found = read_map(Store(str(tmp_path)), str(tmp_path / name), name="predictions 1")
        assert np.array_equal(found.values, P)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("no image", b"no image", r"predictions 1, exam 4f2f: its map is not used \(not_nifti\)"),
        ("a CT slice", to_bytes(ct_slice()), r"\(undecodable_pixels\): it cannot be read as a DIC"),
        ("percent", nifti_bytes(P * 100), r"exam 4f2f: .*\(mask_mismatch\): .*percent"),
    ],
)
def test_a_message_says_which_role_and_pseudonym_and_no_path(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    path = tmp_path / "Doe^Jane.nii"
    path.write_bytes(data)
    with pytest.raises(QualityError, match=said) as caught:
        read_map(Store(str(tmp_path)), str(path), name="predictions 1, exam 4f2f")
    assert "Doe" not in str(caught.value)


def test_a_map_that_does_not_exist_or_is_too_large_is_not_read(tmp_path: Path) -> None:
    store, path = Store(str(tmp_path)), tmp_path / "Doe^Jane.nii"
    with pytest.raises(ConfigError, match=r"^reference, exam 4f2f: its map does not exist") as gone:
        read_map(store, str(path), name="reference, exam 4f2f")
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(QualityError, match="1099511627776 bytes, and at most") as large:
        read_map(store, str(path), name="reference, exam 4f2f")
    assert not any("Doe" in str(caught.value) for caught in (gone, large))


def test_an_outage_of_the_disk_names_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "Doe^Jane.nii"
    path.write_bytes(nifti_bytes(P))

    def fail(*_: Any, **__: Any) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(local_files, "read", fail)
    with pytest.raises(SurroundingsError, match="predictions 1, exam 4f2f could not") as caught:
        read_map(Store(str(tmp_path)), str(path), name="predictions 1, exam 4f2f")
    assert "Doe" not in str(caught.value)
