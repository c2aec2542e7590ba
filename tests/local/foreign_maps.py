"""Maps as other software writes them, made of nothing real: NIfTI and DICOM SEG on one series."""

from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

from tests.local.dicom_objects import ct_slice, to_bytes

SHAPE = (5, 8, 6)
"""Slices, rows, columns."""

TILTED = [1.0, 0.0, 0.0, 0.0, 0.9483237, -0.3173047]


def head_slices(count: int = SHAPE[0], **changes: Any) -> list[pydicom.Dataset]:
    """Slices of 0.5 x 0.4 mm pixels under a tilted gantry, from the feet to the head."""
    return [
        ct_slice(
            number,
            PixelSpacing=[0.5, 0.4],
            ImageOrientationPatient=TILTED,
            ImagePositionPatient=[-125.0, -123.5, round(5.8 + 4.25 * number, 7)],
            **changes,
        )
        for number in range(1, count + 1)
    ]


def affine_of(images: list[pydicom.Dataset]) -> np.ndarray:
    """(column, row, slice, 1) -> (right, anterior, superior, 1), by PS3.3 C.7.6.2.1.1 alone."""
    first, last = images[0], images[-1]
    orientation = np.array(first.ImageOrientationPatient, float)
    between_rows, between_columns = map(float, first.PixelSpacing)
    corners = [np.array(image.ImagePositionPatient, float) for image in (first, last)]
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * between_columns
    affine[:3, 1] = orientation[3:] * between_rows
    affine[:3, 2] = (corners[1] - corners[0]) / (len(images) - 1)
    affine[:3, 3] = corners[0]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def as_nifti(images: list[pydicom.Dataset], values: np.ndarray) -> nibabel.Nifti1Image:
    """Values, [slice, row, column], on the slices."""
    return nibabel.Nifti1Image(values.transpose(2, 1, 0), affine_of(images))


def as_seg(
    images: list[pydicom.Dataset],
    values: np.ndarray,
    kind: str = "BINARY",
    algorithm: str = "MANUAL",
    **changes: Any,
) -> bytes:
    """Values, [slice, row, column, segment] or of one segment, as highdicom writes them."""
    if values.ndim == 3:
        values = values[..., np.newaxis]
    named = hd.AlgorithmIdentificationSequence(
        name="other", family=codes.DCM.ArtificialIntelligence, version="1"
    )
    made = hd.seg.Segmentation(
        source_images=images,
        pixel_array=values,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number + 1,
                segment_label=f"bleed {number}",
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=codes.SCT.Hemorrhage,
                algorithm_type=algorithm,
                algorithm_identification=None if algorithm == "MANUAL" else named,
            )
            for number in range(values.shape[3])
        ],
        series_instance_uid=f"{images[0].StudyInstanceUID}.77",
        series_number=2,
        sop_instance_uid=f"{images[0].StudyInstanceUID}.77.1",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        **changes,
    )
    return to_bytes(made)


def some_bleeds(num_segments: int = 1) -> np.ndarray:
    """Masks, [slice, row, column, segment]; nothing in the first and the third slice."""
    mask = np.random.default_rng(3).random((*SHAPE, num_segments)) > 0.6
    mask[[0, 2]] = False
    return mask
