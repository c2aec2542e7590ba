"""Bytes of one DICOM object -> header facts, a slice, or masks; or the reason why not.

Objects come from anywhere, so every field is checked, and what a decoder raises becomes a reason
of the ledger. Reasons and messages name tags, never their values: values name patients.
"""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pydicom
from jaxtyping import Integer, UInt8
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID

from ich_ray import hounsfield, volume
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import HEMORRHAGE_TYPES, Geometry, Slice
from ich_ray.identity import Pseudonyms

HEADER_BYTES = 64 * 1024
"""Enough for the header of nearly every CT slice; `read_header` says when it is not."""

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_PIXEL_DATA = 0x7FE00010
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, _PIXEL_DATA)
_END_OF_JPEG = b"\xff\xd9"
_ENDS_LIKE_JPEG = ("1.2.840.10008.1.2.4.",)


@dataclass(frozen=True, slots=True)
class Header:
    """What places an object: original identifiers, which never leave the process unhashed."""

    role: Literal["slice", "mask"]
    patient: str
    exam: str
    series: str
    slice: str
    """SOP Instance UID (0008,0018)."""


class HeaderIncomplete(Exception):
    """The prefix ended before the header did: read the whole object."""


def read_header(data: bytes, *, whole: bool) -> Header:
    """Return the header facts of a slice or a segmentation.

    Args:
        data: The object, or its first bytes.
        whole: Whether `data` is all there is.

    Raises:
        HeaderIncomplete: `data` is a prefix that ends within the header.
        InvalidExam: It is neither a CT slice nor a segmentation, or nobody's.
    """
    reached_pixels = False

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal reached_pixels
        reached_pixels = reached_pixels or tag in _PIXEL_TAGS
        return reached_pixels

    try:
        with _decoding(Reason.NOT_DICOM, "it cannot be read as DICOM"):
            dataset = read_partial(io.BytesIO(data), stop_when=stop, force=True)
    except InvalidExam:
        if not whole:
            raise HeaderIncomplete from None
        raise
    if not reached_pixels and not whole:
        raise HeaderIncomplete
    with _decoding(Reason.BAD_HEADER, "its header cannot be read"):
        role = _role(dataset, has_pixels=reached_pixels)
        return Header(role, *_identity(dataset))


def read_slice(data: bytes, pseudonyms: Pseudonyms) -> Slice:
    """Return one CT slice, without label or mask.

    Raises:
        InvalidExam: The object is no CT slice, or one that would have to be guessed at.
    """
    with _decoding(Reason.NOT_DICOM, "it cannot be read as DICOM"):
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    with _decoding(Reason.BAD_HEADER, "its header cannot be read"):
        if _role(dataset, has_pixels=any(tag in dataset for tag in _PIXEL_TAGS)) != "slice":
            raise InvalidExam(Reason.NOT_AN_IMAGE, "it is a segmentation, not a slice")
        patient, exam, series, instance = _identity(dataset)
        slope, intercept = _rescale(dataset)
        geometry = _geometry(dataset)
    stored = _pixels(dataset)
    with _decoding(Reason.BAD_HEADER, "its pixel description cannot be read"):
        stored, intercept = _repaired(stored, dataset, slope, intercept)
    return Slice(
        exam=pseudonyms.of(exam),
        key=pseudonyms.of(instance),
        patient=pseudonyms.of(patient),
        series=pseudonyms.of(series),
        stored=stored,
        slope=slope,
        intercept=intercept,
        geometry=geometry,
    )


def read_masks(data: bytes, pseudonyms: Pseudonyms) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
    """Return the masks of a segmentation by the pseudonym of the slice that each lies on.

    A pixel holds the subtype code (see `exam.HEMORRHAGE_TYPES`) of the segment whose label or
    description names one, else 1; where segments overlap, the first segment's.

    Raises:
        InvalidExam: The object cannot be read, or names no slices.
    """
    # Half a second of CPU: only for who reads a segmentation.
    import highdicom

    with _decoding(Reason.UNDECODABLE_PIXELS, "the segmentation cannot be decoded"):
        segmentation = highdicom.seg.segread(io.BytesIO(data))
        slices = [uid for _, _, uid in segmentation.get_source_image_uids()]
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
    assert masks is not None
    return {pseudonyms.of(uid): mask for uid, mask in zip(slices, masks, strict=True)}


@contextlib.contextmanager
def _decoding(reason: Reason, what: str) -> Iterator[None]:
    """Turn whatever a decoder of hostile bytes raises into a reason of the ledger.

    The one place with `except Exception`: decoders raise anything here, from struct.error to
    RecursionError. Their warnings and messages quote values of the header, so they end here too.
    """
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InvalidExam:
        raise
    except Exception as error:  # noqa: BLE001  (the documented boundary)
        raise InvalidExam(reason, f"{what} ({type(error).__name__})") from None
    finally:
        logger.disabled = disabled


def _role(dataset: FileDataset, *, has_pixels: bool) -> Literal["slice", "mask"]:
    modality, sop_class = _text(dataset, "Modality"), _text(dataset, "SOPClassUID")
    if not modality and not sop_class:
        # Any bytes can be read by force; only these two say that they were meant as DICOM.
        known = any(_text(dataset, name) for name in ("SOPInstanceUID", "StudyInstanceUID"))
        reason = Reason.NOT_CT if known else Reason.NOT_DICOM
        raise InvalidExam(reason, "neither Modality (0008,0060) nor SOP Class UID (0008,0016)")
    if sop_class == _SEGMENTATION:
        return "mask"
    # A public corpus may have lost the class; a secondary capture marked CT is a dose report.
    if sop_class not in ("", _CT_IMAGE) or modality not in ("", "CT"):
        raise InvalidExam(Reason.NOT_CT, "Modality or SOP Class UID is not that of a CT image")
    if "LOCALIZER" in [str(part).upper() for part in _values(dataset, "ImageType")]:
        raise InvalidExam(Reason.NOT_CT, "Image Type (0008,0008) says LOCALIZER: a scout")
    if not has_pixels:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "there is no Pixel Data (7FE0,0010)")
    return "slice"


def _identity(dataset: FileDataset) -> tuple[str, str, str, str]:
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    patient, exam, series, instance = (_text(dataset, name) for name in names)
    if not (patient and exam and series and instance):
        absent = [name for name in names if not _text(dataset, name)]
        raise InvalidExam(Reason.NO_IDENTITY, f"without {', '.join(absent)}: nobody's slice")
    return patient, exam, series, instance


def _rescale(dataset: FileDataset) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        raise InvalidExam(
            Reason.NO_RESCALE,
            "Rescale Slope (0028,1053) or Intercept (0028,1052) is missing: HU would be a guess",
        )
    hounsfield.check_rescale(float(slope), float(intercept))
    return float(slope), float(intercept)


def _geometry(dataset: FileDataset) -> Geometry:
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    corner = _numbers(dataset, "ImagePositionPatient", 3)
    spacing = _numbers(dataset, "PixelSpacing", 2)
    thickness = _numbers(dataset, "SliceThickness", 1)
    position = tilt = None
    if orientation is not None:
        normal = volume.normal_of(orientation)
        tilt = volume.tilt_of(normal)
        position = None if corner is None else volume.position_along(normal, corner)
    if spacing is not None and min(spacing) <= 0:
        raise InvalidExam(Reason.BAD_HEADER, "Pixel Spacing (0028,0030) is not positive")
    return Geometry(
        position_mm=position,
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        thickness_mm=None if thickness is None else thickness[0],
        tilt_deg=tilt,
    )


def _pixels(dataset: FileDataset) -> Integer[np.ndarray, "rows columns"]:
    with _decoding(Reason.BAD_HEADER, "its pixel description cannot be read"):
        if _PIXEL_DATA not in dataset:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "its pixels are floating point, not stored CT")
        if int(dataset.get("NumberOfFrames") or 1) != 1 or int(dataset.SamplesPerPixel) != 1:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "its pixels are no single grey plane")
        syntax = _transfer_syntax(dataset)
        _refuse_truncated(dataset, syntax)
    with _decoding(Reason.UNDECODABLE_PIXELS, "its pixels cannot be decoded"):
        stored = dataset.pixel_array
    if stored.shape != (dataset.Rows, dataset.Columns) or stored.size == 0:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "its pixels are no single grey plane")
    return stored


def _transfer_syntax(dataset: FileDataset) -> UID:
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        syntax = pydicom.uid.ImplicitVRLittleEndian
        if not implicit:
            explicit = (pydicom.uid.ExplicitVRBigEndian, pydicom.uid.ExplicitVRLittleEndian)
            syntax = explicit[bool(little)]
        dataset.file_meta.TransferSyntaxUID = syntax
    return UID(str(dataset.file_meta.TransferSyntaxUID))


def _refuse_truncated(dataset: FileDataset, syntax: UID) -> None:
    data = dataset[_PIXEL_DATA].value
    if syntax.is_compressed and not syntax.is_deflated:
        # JPEG decoders fill what is missing with grey, and say nothing.
        if syntax.startswith("1.2.840.10008.1.2.4.") and _END_OF_JPEG not in data[-32:]:
            raise InvalidExam(Reason.TRUNCATED_PIXELS, "its compressed pixels end too early")
        return
    expected = int(dataset.Rows) * int(dataset.Columns) * math.ceil(int(dataset.BitsAllocated) / 8)
    if len(data) < expected:
        raise InvalidExam(
            Reason.TRUNCATED_PIXELS, f"{len(data)} bytes of pixels, the header says {expected}"
        )
    if expected == 0 or len(data) >= 2 * expected:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "more planes of pixels than the header declares")


def _repaired(
    stored: Integer[np.ndarray, "rows columns"],
    dataset: FileDataset,
    slope: float,
    intercept: float,
) -> tuple[Integer[np.ndarray, "rows columns"], float]:
    padding, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    padded = None
    if padding is not None:
        # Padding is defined on what the file stores, so it is found before any repair.
        padded = hounsfield.padded_pixels(
            stored, padding=int(padding), limit=None if limit is None else int(limit)
        )
    if hounsfield.needs_12_bit_repair(
        bits_stored=int(dataset.BitsStored),
        signed=bool(dataset.PixelRepresentation),
        intercept=intercept,
    ):
        stored, intercept = hounsfield.repair_12_bit(stored)
    if padded is not None and padded.any():
        stored = hounsfield.with_air(stored, padded, slope=slope, intercept=intercept)
    return hounsfield.narrowed(stored), intercept


def _subtype_code(description: Any) -> int:
    text = f"{description.segment_label} {description.get('SegmentDescription', '')}".lower()
    codes = [code for code, name in enumerate(HEMORRHAGE_TYPES, 1) if name in text]
    return codes[0] if codes else 1


def _text(dataset: FileDataset, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip().strip("\0").strip()


def _values(dataset: FileDataset, name: str) -> Sequence[Any]:
    value = dataset.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _numbers(dataset: FileDataset, name: str, count: int) -> list[float] | None:
    """Return the numbers of a tag, or None where it is absent or empty."""
    values = _values(dataset, name)
    if not values:
        return None
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise InvalidExam(Reason.BAD_HEADER, f"{name} does not hold {count} finite numbers")
    return numbers
