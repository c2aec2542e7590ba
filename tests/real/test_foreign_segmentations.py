"""Segmentations that others made, and masks on a real tilted head: the same from SEG and NIfTI."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ich_ray.scored_volume import aligned
from ich_ray.storage import dicom_seg
from ich_ray.storage.corpus import hounsfield
from ich_ray.storage.dicom_seg import Author
from ich_ray.storage.scored_maps import volume_of
from tests.real.test_real_nifti import as_nifti, in_order, stored_along

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))

pytestmark = [
    pytest.mark.skipif(
        "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of it"
    ),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


def slices_by_pydicom(path: Path) -> dict[float, np.ndarray]:
    """z -> the largest of all segments there, bits unpacked by hand (PS3.5 8.1.1, 8.2)."""
    made = pydicom.dcmread(path)
    shape = int(made.NumberOfFrames), made.Rows, made.Columns
    if made.BitsAllocated == 1:
        bits = np.unpackbits(np.frombuffer(made.PixelData, np.uint8), bitorder="little")
        values = bits[: np.prod(shape)].reshape(shape).astype(float)
    else:
        values = np.frombuffer(made.PixelData, np.uint8)[: np.prod(shape)].reshape(shape)
        values = values / float(made.MaximumFractionalValue)
    found: dict[float, np.ndarray] = {}
    for frame, plane in zip(made.PerFrameFunctionalGroupsSequence, values, strict=True):
        z = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        found[z] = np.maximum(found.get(z, 0), plane)
    return found


@pytest.mark.parametrize(
    ("kind", "num_slices"),
    [
        ("binary", 3),
        ("binary_fractional", 3),
        ("binary_overlap", 4),
        ("binary_single_frame", 1),
        ("true_fractional", 3),
    ],
)
def test_a_segmentation_of_others_holds_what_an_independent_reader_finds(
    kind: str, num_slices: int
) -> None:
    path = DATA / "odd-dicom" / "highdicom_seg" / f"seg_image_ct_{kind}.dcm"
    found, expected = volume_of(path.read_bytes()), slices_by_pydicom(path)
    assert [plane.corner_mm[2] for plane in found.planes] == sorted(expected)
    assert len(found.planes) == num_slices
    for values, z in zip(found.values, sorted(expected), strict=True):
        assert np.allclose(values, expected[z], atol=1e-6)
    assert found.values.any()


@pytest.mark.parametrize("axes", ["PLS", "RAI", "SPL"])
def test_a_mask_on_a_real_tilted_head_is_the_same_from_seg_and_from_nifti(axes: str) -> None:
    exam = in_order("ge-head-tilt", 14)
    datasets = [dataset for _, dataset in exam]
    marks = np.stack([(hu > 50) & (hu < 90) for hu in (hounsfield(item) for item, _ in exam)])
    marks[::3] = False
    headers = [dicom_seg.read_source(Path(str(d.filename)).read_bytes()) for d in datasets]
    author = Author(name="other", identity="0" * 16, threshold=0.5)
    data = dicom_seg.segmentation(headers, marks, author)
    assert data is not None
    made = as_nifti(datasets, list(marks.astype(np.uint8)))
    from_seg, from_nifti = volume_of(data), volume_of(stored_along(made, axes))
    assert len(from_seg.planes) == marks.any(axis=(1, 2)).sum() < len(marks)
    a, b = aligned(from_seg, from_nifti)
    assert np.array_equal(a.values, marks)
    assert np.array_equal(b.values, marks)
