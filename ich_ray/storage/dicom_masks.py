"""DICOM segmentations by highdicom; called in a guarded process alone (see `guarded`)."""

import io
from typing import Any

import highdicom
import numpy as np
from jaxtyping import UInt8

from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.storage.decoding import decoding
from ich_ray.storage.guarded import Answer


def decode_masks(data: bytes) -> Answer:
    """Return the SOP Instance UIDs of the slices, and their masks, `(slice, rows, columns)`.

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
        for number in segmentation.segment_numbers:
            frames = segmentation.get_pixels_by_source_instance(
                slices,
                segment_numbers=[number],
                assert_missing_frames_are_empty=True,
                ignore_spatial_locations=True,
            )[..., 0]
            if masks is None:
                masks = np.zeros(frames.shape, np.uint8)
            code = _subtype_code(segmentation.get_segment_description(number))
            # A fractional segmentation holds shares of a pixel: half is inside.
            masks[(masks == 0) & (frames >= 0.5)] = code
        if masks is None:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "the segmentation has no segments")
    return slices, [masks]


def _subtype_code(description: Any) -> int:
    text = f"{description.segment_label} {description.get('SegmentDescription', '')}".lower()
    codes = [code for code, name in enumerate(HEMORRHAGE_TYPES, 1) if name in text]
    return codes[0] if codes else 1
