"""DICOM segmentations by highdicom; called in a guarded process alone (see `guarded`)."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import highdicom
import numpy as np
from jaxtyping import UInt8
from pydicom.dataset import Dataset

from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.storage.decoding import decoding
from ich_ray.storage.guarded import Answer


def decode_masks(data: bytes) -> Answer:
    """Return what the slices are and where the frames lie, and the masks, `(slice, rows, columns)`.

    The facts: `slices` are SOP Instance UIDs, `frame` is the Frame of Reference UID or empty,
    `planes` are index of the slice, corner, orientation and spacing (see `exam.Plane.of`), and
    `automatic` is whether a segment says that no person had a part in it.

    A pixel holds the subtype code (see `exam.HEMORRHAGE_TYPES`) of the segment whose label or
    description names one, else 1; where segments overlap, the first segment's.

    Raises:
        InvalidExam: The object cannot be read, or names no slices.
    """
    with decoding(Reason.UNDECODABLE_PIXELS, "the segmentation cannot be decoded"):
        segmentation = highdicom.seg.segread(io.BytesIO(data))
        slices = [str(uid) for _, _, uid in segmentation.get_source_image_uids()]
        if not slices:
            raise InvalidExam(
                Reason.MASK_WITHOUT_SLICE,
                "the segmentation names no source slices; export it with its references",
            )
        masks: UInt8[np.ndarray, "slice rows columns"] | None = None
        automatic = False
        for number in segmentation.segment_numbers:
            frames = segmentation.get_pixels_by_source_instance(
                slices,
                segment_numbers=[number],
                assert_missing_frames_are_empty=True,
                ignore_spatial_locations=True,
            )[..., 0]
            if masks is None:
                masks = np.zeros(frames.shape, np.uint8)
            description = segmentation.get_segment_description(number)
            automatic = automatic or _algorithm(description) == "AUTOMATIC"
            code = _subtype_code(description)
            # A fractional segmentation holds shares of a pixel: half is inside.
            masks[(masks == 0) & (frames >= 0.5)] = code
        if masks is None:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "the segmentation has no segments")
        frame = str(segmentation.get("FrameOfReferenceUID") or "").strip()
        planes = sorted(set(_planes(segmentation, slices)))
    facts = {"slices": slices, "frame": frame, "planes": planes, "automatic": automatic}
    return facts, [masks]


def _planes(segmentation: Dataset, slices: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield where each frame lies that says so, and on which slice."""
    number_of = {uid: number for number, uid in enumerate(slices)}
    shared = segmentation.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for frame in segmentation.get("PerFrameFunctionalGroupsSequence") or []:
        derivation = frame.get("DerivationImageSequence")
        position, orientation, measures = (
            frame.get(name) or shared[0].get(name)
            for name in (
                "PlanePositionSequence",
                "PlaneOrientationSequence",
                "PixelMeasuresSequence",
            )
        )
        if derivation and position and orientation and measures:
            yield (
                number_of[str(derivation[0].SourceImageSequence[0].ReferencedSOPInstanceUID)],
                _numbers(position[0].ImagePositionPatient, 3),
                _numbers(orientation[0].ImageOrientationPatient, 6),
                _numbers(measures[0].PixelSpacing, 2),
            )


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if len(numbers) != count:
        raise InvalidExam(Reason.BAD_HEADER, "a frame's place has too few or too many numbers")
    return numbers


def _algorithm(description: Dataset) -> str:
    return str(description.get("SegmentAlgorithmType", "")).strip().upper()


def _subtype_code(description: Any) -> int:
    text = f"{description.segment_label} {description.get('SegmentDescription', '')}".lower()
    codes = [code for code, name in enumerate(HEMORRHAGE_TYPES, 1) if name in text]
    return codes[0] if codes else 1
