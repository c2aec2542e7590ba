"""Real, tilted exams as NIfTI, by nibabel's own reading of DICOM geometry, beside their DICOM."""

import os
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from ich_ray.config import NiftiConfig
from ich_ray.exam import Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import dicom
from ich_ray.storage.corpora.folder import Folder
from ich_ray.storage.corpora.nifti import Nifti
from ich_ray.storage.corpus import hounsfield

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it calls itself experimental
    from nibabel.nicom.dicomwrappers import wrapper_from_data

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))
NAMES = Pseudonyms(PUBLIC_KEY)
LAYOUT = Nifti(NiftiConfig(image="{patient}.nii", mask="{patient}_mask.nii"))

pytestmark = [
    pytest.mark.skipif(
        "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of it"
    ),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


def in_order(folder: str, count: int) -> list[tuple[Slice, pydicom.FileDataset]]:
    """The first slices of an exam along its normal."""
    found = [
        (dicom.read_slice(path.read_bytes(), NAMES), pydicom.dcmread(path))
        for path in sorted((DATA / folder).iterdir())
    ]
    return sorted(found, key=lambda pair: pair[0].geometry.position_mm or 0.0)[:count]


def as_nifti(datasets: list[pydicom.FileDataset], planes: list[np.ndarray]) -> nibabel.Nifti1Image:
    """Planes as NIfTI: [row, column, slice], the affine nibabel's, the steps from the positions."""
    wrappers = [wrapper_from_data(dataset) for dataset in datasets]
    affine = wrappers[0].affine.copy()
    corners = np.array([wrapper.image_position for wrapper in wrappers])
    # A tilted gantry moves along the table: the volume is sheared.
    affine[:3, 2] = (corners[-1] - corners[0]) / (len(corners) - 1)
    return nibabel.Nifti1Image(np.stack(planes, axis=2), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def stored_along(made: nibabel.Nifti1Image, axes: str) -> bytes:
    """The same voxels at the same places in another order, as bytes."""
    wanted = nibabel.orientations.axcodes2ornt(tuple(axes))
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(made.affine), wanted)
    data: bytes = made.as_reoriented(turn).to_bytes()
    return data


@pytest.mark.parametrize(
    ("folder", "count", "tilt_deg"), [("rsna/stage_2_test", 32, 11.0), ("ge-head-tilt", 14, 18.5)]
)
@pytest.mark.parametrize(("image_axes", "mask_axes"), [("PLS", "PLS"), ("RAI", "SPL")])
def test_a_real_exam_is_the_same_from_nifti_and_dicom(
    folder: str, count: int, tilt_deg: float, image_axes: str, mask_axes: str
) -> None:
    exam = in_order(folder, count)
    slices, datasets = [item for item, _ in exam], [dataset for _, dataset in exam]
    truth = [hounsfield(item) for item in slices]
    made = as_nifti(datasets, [hu.astype(np.int16) for hu in truth])
    read = LAYOUT.read_slices("7.nii", stored_along(made, image_axes), NAMES)
    for volume_slice, item, hu in zip(read, slices, truth, strict=True):
        assert np.array_equal(hounsfield(volume_slice), hu)
        ours, theirs = volume_slice.geometry, item.geometry
        assert ours.tilt_deg == pytest.approx(tilt_deg, abs=0.1)
        assert ours.position_mm == pytest.approx(theirs.position_mm, abs=0.02)
        assert ours.spacing_mm == pytest.approx(theirs.spacing_mm, abs=1e-5)
    marks = [((hu > 50) & (hu < 90)).astype(np.uint8) for hu in truth]
    mask = stored_along(as_nifti(datasets, marks), mask_axes)
    on_nifti = LAYOUT.read_masks("7_mask.nii", mask, {item.key: item for item in read}, NAMES)
    on_dicom = Folder().read_masks("mask.nii", mask, {item.key: item for item in slices}, NAMES)
    for volume_slice, item, mark in zip(read, slices, marks, strict=True):
        assert np.array_equal(on_nifti[volume_slice.key], mark)
        assert np.array_equal(on_dicom[item.key], mark)
