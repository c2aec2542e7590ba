"""DICOM segmentations as probabilities, by where their frames lie; called in a guarded process.

Source: DICOM PS3.3 C.8.20.2 (Segmentation Type, Maximum Fractional Value), C.7.6.16.2 (functional
groups of frames).
"""

import io
import math

import highdicom
import numpy as np
from jaxtyping import Float64, Num, UInt8
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from pydicom.dataset import Dataset

from ich_ray import volume
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Plane
from ich_ray.storage.decoding import decoding
from ich_ray.storage.dicom_geometry import numbers_of, text_of
from ich_ray.storage.guarded import Answer
from ich_ray.storage.nifti_volume import MAX_BYTES

_GROUPS = {
    "ImagePositionPatient": ("PlanePositionSequence", 3),
    "ImageOrientationPatient": ("PlaneOrientationSequence", 6),
    "PixelSpacing": ("PixelMeasuresSequence", 2),
}
"""What places a frame: which sequence holds it, and how many numbers it is."""


def decode_scores(data: bytes) -> Answer:
    """Return levels, `(slice, row, column)`, and where slices lie: corner, column step, row step.

    Slices go from the feet to the head, rows to the back and columns to the left. Of frames at one
    place, such as those of several segments, the largest value counts. The facts: `levels` is the
    level of probability 1, `automatic` whether a segment says that no person had a part in it.

    Raises:
        InvalidExam: It is no segmentation that can be read, not axial, or its frames have no place
            or lie on no common grid.
    """
    with decoding(Reason.UNDECODABLE_PIXELS, "it cannot be read as a DICOM segmentation"):
        found = highdicom.seg.segread(io.BytesIO(data))
        if int(found.NumberOfFrames) * int(found.Rows) * int(found.Columns) > MAX_BYTES // 2:
            raise InvalidExam(
                Reason.TOO_LARGE, f"its frames hold more than {MAX_BYTES // 2} pixels"
            )
        (shared,) = found.SharedFunctionalGroupsSequence
        planes = [_plane(frame, shared) for frame in found.PerFrameFunctionalGroupsSequence]
        # Not pixel_array: pydicom 3.0 misreads frames of bits that end within a byte.
        stored = found.get_stored_frames()
        levels, values = _levels(text_of(found, "SegmentationType"), found, stored)
        algorithms = {text_of(item, "SegmentAlgorithmType") for item in found.SegmentSequence}
        steps = np.array([[p.corner_mm, p.column_step_mm, p.row_step_mm] for p in planes])
        merged, places = _merged(*_turned(values, steps))
    return {"levels": levels, "automatic": "AUTOMATIC" in algorithms}, [merged, places]


def _levels(
    kind: str, found: Dataset, stored: Num[np.ndarray, "frame row column"]
) -> tuple[int, UInt8[np.ndarray, "frame row column"]]:
    """Return the level of probability 1, and the levels of all pixels."""
    if kind != "FRACTIONAL":
        # A pixel of a label map holds the number of its segment.
        return 1, (stored > 0).astype(np.uint8)
    levels = int(found.MaximumFractionalValue)
    if not 1 <= levels <= 255 or stored.max() > levels:
        raise InvalidExam(
            Reason.BAD_HEADER, "it holds values above its Maximum Fractional Value (0062,000E)"
        )
    return levels, stored.astype(np.uint8)


def _plane(frame: Dataset, shared: Dataset) -> Plane:
    """Return where a frame lies, by its own groups or by those of all frames."""
    found = []
    for name, (sequence, count) in _GROUPS.items():
        (group,) = frame.get(sequence) or shared.get(sequence) or [Dataset()]
        found.append(numbers_of(group, name, count))
    corner, orientation, spacing = found
    if corner is None or orientation is None or spacing is None or min(spacing) <= 0:
        raise InvalidExam(
            Reason.BAD_HEADER,
            "a frame does not say where it lies (position, orientation and spacing of its pixels)",
        )
    volume.normal_of(orientation)
    return Plane.of(corner, orientation, spacing)


def _turned(
    values: UInt8[np.ndarray, "frame row column"], steps: Float64[np.ndarray, "frame vector axis"]
) -> tuple[UInt8[np.ndarray, "frame row column"], Float64[np.ndarray, "frame vector axis"]]:
    """Turn frames so that rows go to the back and columns to the left, as `nifti_volume` does."""
    directions = steps[:, 1:]
    if not np.allclose(directions, directions[0], atol=1e-4 * np.abs(directions[0]).max()):
        raise InvalidExam(
            Reason.MASK_MISMATCH, "its frames have several orientations or spacings: no one volume"
        )
    _, column_step, row_step = steps[0]
    normal = np.cross(column_step, row_step)
    axes = np.column_stack([column_step, row_step, normal / np.linalg.norm(normal)])
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ axes
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    if turn[2, 0] != 2:
        raise InvalidExam(
            Reason.NOT_AXIAL, "its frames are coronal or sagittal; write it on the axial series"
        )
    # Frames are ordered by their places, not here.
    turn[2, 1] = 1
    frames, rows, columns = values.shape
    undone = inv_ornt_aff(turn, (columns, rows, frames))[:3]
    shift = axes @ undone[:, 3]
    turned_axes = (axes @ undone[:, :3]).T[:2]
    places = np.concatenate([steps[:, :1] + shift, np.tile(turned_axes, (frames, 1, 1))], axis=1)
    return apply_orientation(values.transpose(2, 1, 0), turn).T, places


def _merged(
    values: UInt8[np.ndarray, "frame row column"], places: Float64[np.ndarray, "frame vector axis"]
) -> tuple[UInt8[np.ndarray, "slice row2 column2"], Float64[np.ndarray, "slice vector axis"]]:
    """Order frames from the feet to the head, and make one slice of those at the same place."""
    _, column_step, row_step = places[0]
    normal = np.cross(column_step, row_step)
    along = places[:, 0] @ (normal / np.linalg.norm(normal))
    groups: list[list[int]] = []
    for frame in np.argsort(along, kind="stable").tolist():
        if groups and along[frame] - along[groups[-1][0]] <= volume.SAME_PLACE_MM:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    for group in groups:
        _check_shift(places[group, 0])
    merged = np.stack([values[group].max(axis=0) for group in groups])
    return merged, places[[group[0] for group in groups]]


def _check_shift(corners: Float64[np.ndarray, "frame axis"]) -> None:
    far = max((math.dist(corner, corners[0]) for corner in corners), default=0.0)
    if far > volume.SAME_PLACE_MM:
        raise InvalidExam(
            Reason.MASK_MISMATCH, "frames of one slice are shifted against each other: no one grid"
        )
