"""Bytes of one DICOM object -> header facts, a slice, or masks; or the reason why not.

Objects come from anywhere, so every field is checked, and what a decoder raises becomes a reason
of the ledger. Reasons and messages name tags, never their values: values name patients.
"""

import contextlib
import io
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pydicom
from jaxtyping import Integer, UInt8
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from ich_ray import hounsfield
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.series import HeaderFacts
from ich_ray.storage.decoding import Unsure, decoding
from ich_ray.storage.dicom_geometry import check_place, geometry_of, text_of, values_of
from ich_ray.storage.dicom_pixels import PIXEL_DATA, RecordedTags, Tags, pixels_of, repaired
from ich_ray.storage.guarded import Answer, guarded
from ich_ray.storage.header_facts import header_facts
from ich_ray.storage.plain_dicom import PlainDataset

Reader = Literal["dicomsdl", "pydicom"]
READER: ContextVar[Reader] = ContextVar("READER", default="dicomsdl")
"""Who reads ordinary objects; pydicom reads all others either way, and gives the same slices."""

HEADER_BYTES = 16 * 1024
"""Enough for the header of nearly every CT slice; `read_header` says when it is not."""

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DOCUMENTS = (
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.66",
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.104.",
)
"""Presentation states, raw data, structured reports, PDF: PS3.4 B.5."""

_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, PIXEL_DATA)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HARMLESS_BYTES = 1024 * 1024
"""The worst that pydicom was seen to make of so many bytes: 2 s (131,072 items of a sequence) and
250 MB (524,288 values of an element)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What places an object: original identifiers, which a ledger or a table never holds."""

    role: Literal["slice", "mask"]
    patient: str
    exam: str
    series: str
    """Series Instance UID (0020,000E); of a mask, that of the slices it lies on, if it says so."""

    slice: str
    """SOP Instance UID (0008,0018)."""

    facts: HeaderFacts | None
    """What decides whether a slice's series is read; None for a mask."""


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
    with contextlib.suppress(Unsure):
        if READER.get() == "dicomsdl":
            return _header(PlainDataset(data), has_pixels=True)
    if _is_harmless(data):
        dataset, reached_pixels = _partial(data, whole=whole)
        return _header(dataset, has_pixels=reached_pixels)
    found, _ = guarded("ich_ray.storage.dicom:decode_header", data, whole=whole)
    if found is None:
        raise HeaderIncomplete
    facts = found["facts"] and HeaderFacts.from_plain(found["facts"])
    return Header(**{**found, "facts": facts})


def read_slice(data: bytes, pseudonyms: Pseudonyms) -> Slice:
    """Return one CT slice, without label or mask.

    What decodes in bounded time and memory is decoded here, all else in a guarded process.

    Raises:
        InvalidExam: The object is no CT slice, or one that would have to be guessed at.
    """
    reader = READER.get()
    if reader == "dicomsdl":
        with contextlib.suppress(Unsure):
            plain = PlainDataset(data)
            plain.check_rest(data)
            return _slice(plain, lambda: plain.pixels(data, decompress=False), pseudonyms)
    if _is_harmless(data):
        with contextlib.suppress(Unsure):
            dataset = _whole(data)
            return _slice(dataset, lambda: pixels_of(dataset, decompress=False), pseudonyms)
    tags, (stored,) = guarded("ich_ray.storage.dicom:decode_slice", data, reader=reader)
    return _slice(tags, lambda: stored, pseudonyms)


def read_masks(
    data: bytes,
    pseudonyms: Pseudonyms,
    slices: Mapping[str, Slice] | None = None,
    *,
    automatic: bool = False,
) -> dict[str, UInt8[np.ndarray, "rows columns"]]:
    """Return the masks of a segmentation by the pseudonym of the slice that each lies on.

    A pixel holds the subtype code (see `exam.HEMORRHAGE_TYPES`) of the segment whose label or
    description names one, else 1; where segments overlap, the first segment's.

    Args:
        data: The object.
        pseudonyms: Of its identifiers.
        slices: Of its exam, by key: those that it names must be where it says.
        automatic: Whether a segment may be the work of an algorithm alone: what a model has
            predicted, ours too, is no reference mask.

    Raises:
        InvalidExam: The object cannot be read, names no slices, lies elsewhere in the patient, or
            is the work of an algorithm.

    Source: DICOM PS3.3 C.8.20.4 (Segment Algorithm Type).
    """
    found, (masks,) = guarded("ich_ray.storage.dicom_masks:decode_masks", data)
    if found["automatic"] and not automatic:
        raise InvalidExam(
            Reason.AUTOMATIC_MASK,
            "Segment Algorithm Type (0062,0008) is AUTOMATIC: a prediction, and no reference mask; "
            "if readers have checked the corpus's masks, set automatic_masks = true for it",
        )
    keys = [pseudonyms.of(uid) for uid in found["slices"]]
    if slices is not None:
        check_place(found, keys, slices, pseudonyms)
    return dict(zip(keys, masks, strict=True))


def decode_header(data: bytes, *, whole: bool) -> Answer:
    """Return what `read_header` does in plain values, None if the header is not all there.

    Called in a guarded process, for `read_header`.
    """
    try:
        dataset, reached_pixels = _partial(data, whole=whole)
    except HeaderIncomplete:
        return None, ()
    header = _header(dataset, has_pixels=reached_pixels)
    return {**asdict(header), "facts": header.facts and header.facts.plain()}, ()


def decode_slice(data: bytes, *, reader: Reader) -> Answer:
    """Return the tags that a slice is made of, and its stored values before any repair.

    Called in a guarded process, for `read_slice`.
    """
    if reader == "dicomsdl":
        with contextlib.suppress(Unsure):
            plain = PlainDataset(data)
            plain.check_rest(data)
            return _recorded(plain, lambda: plain.pixels(data, decompress=True))
    dataset = _whole(data)
    return _recorded(dataset, lambda: pixels_of(dataset, decompress=True))


def _is_harmless(data: bytes) -> bool:
    """Tell whether pydicom may read the elements of an object in this process."""
    return len(data) <= _HARMLESS_BYTES and _DEFLATED not in data


def _partial(data: bytes, *, whole: bool) -> tuple[FileDataset, bool]:
    """Return the elements before the pixels, and whether there are pixels."""
    reached_pixels = False

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal reached_pixels
        reached_pixels = reached_pixels or tag in _PIXEL_TAGS
        return reached_pixels

    try:
        with decoding(Reason.NOT_DICOM, "it cannot be read as DICOM"):
            dataset = read_partial(io.BytesIO(data), stop_when=stop, force=True)
    except InvalidExam:
        if not whole:
            raise HeaderIncomplete from None
        raise
    if not reached_pixels and not whole:
        raise HeaderIncomplete
    return dataset, reached_pixels


def _whole(data: bytes) -> FileDataset:
    with decoding(Reason.NOT_DICOM, "it cannot be read as DICOM"):
        return pydicom.dcmread(io.BytesIO(data), force=True)


def _header(dataset: PlainDataset | FileDataset, *, has_pixels: bool) -> Header:
    with decoding(Reason.BAD_HEADER, "its header cannot be read"):
        role = _role(dataset, has_pixels=has_pixels)
        patient, exam, series, instance = _identity(dataset)
        if role == "mask":
            return Header(role, patient, exam, _series_of_mask(dataset) or series, instance, None)
        return Header(role, patient, exam, series, instance, header_facts(dataset))


def _slice(
    dataset: Tags, pixels: Callable[[], Integer[np.ndarray, "rows columns"]], pseudonyms: Pseudonyms
) -> Slice:
    with decoding(Reason.BAD_HEADER, "its header cannot be read"):
        if _role(dataset, has_pixels=_has_pixels(dataset)) != "slice":
            raise InvalidExam(Reason.NOT_AN_IMAGE, "it is a segmentation, not a slice")
        patient, exam, series, instance = _identity(dataset)
        slope, intercept = _rescale(dataset)
        geometry = geometry_of(dataset, pseudonyms)
    stored = pixels()
    with decoding(Reason.BAD_HEADER, "its pixel description cannot be read"):
        stored, intercept = repaired(stored, dataset, slope, intercept)
    return Slice(
        exam=pseudonyms.shared(exam),
        key=pseudonyms.of(instance),
        patient=pseudonyms.shared(patient),
        series=pseudonyms.shared(series),
        stored=stored,
        slope=slope,
        intercept=intercept,
        geometry=geometry,
    )


def _recorded(tags: Tags, pixels: Callable[[], Integer[np.ndarray, "rows columns"]]) -> Answer:
    """Make a slice, and return what it was made of."""
    recorded = RecordedTags(tags)
    stored: list[Integer[np.ndarray, "rows columns"]] = []

    def kept() -> Integer[np.ndarray, "rows columns"]:
        stored.append(pixels())
        return stored[0]

    _slice(recorded, kept, Pseudonyms(PUBLIC_KEY))
    return recorded.record, stored


def _has_pixels(dataset: Tags) -> bool:
    """Only a data set of pydicom may be without: the other readers begin with the pixels."""
    return not isinstance(dataset, FileDataset) or any(tag in dataset for tag in _PIXEL_TAGS)


def _role(dataset: Tags, *, has_pixels: bool) -> Literal["slice", "mask"]:
    modality, sop_class = text_of(dataset, "Modality"), text_of(dataset, "SOPClassUID")
    if not modality and not sop_class:
        # Any bytes can be read by force; only these two say that they were meant as DICOM.
        known = any(text_of(dataset, name) for name in ("SOPInstanceUID", "StudyInstanceUID"))
        reason = Reason.NOT_CT if known else Reason.NOT_DICOM
        raise InvalidExam(reason, "neither Modality (0008,0060) nor SOP Class UID (0008,0016)")
    if sop_class == _SEGMENTATION:
        return "mask"
    # A secondary capture marked CT is a dose report; one marked otherwise may be anything.
    if sop_class.startswith(_DOCUMENTS) or (sop_class.startswith(_CAPTURE) and modality == "CT"):
        raise InvalidExam(Reason.DOCUMENT, "SOP Class UID (0008,0016) is that of a document")
    # A public corpus may have lost the class.
    if sop_class not in ("", _CT_IMAGE) or modality not in ("", "CT"):
        raise InvalidExam(Reason.NOT_CT, "Modality or SOP Class UID is not that of a CT image")
    if "LOCALIZER" in [str(part).upper() for part in values_of(dataset, "ImageType")]:
        raise InvalidExam(Reason.LOCALIZER, "Image Type (0008,0008) says LOCALIZER: a scout")
    if not has_pixels:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "there is no Pixel Data (7FE0,0010)")
    return "slice"


def _identity(dataset: Tags) -> tuple[str, str, str, str]:
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    patient, exam, series, instance = (text_of(dataset, name) for name in names)
    if not (patient and exam and series and instance):
        absent = [name for name in names if not text_of(dataset, name)]
        raise InvalidExam(Reason.NO_IDENTITY, f"without {', '.join(absent)}: nobody's slice")
    return patient, exam, series, instance


def _rescale(dataset: Tags) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        raise InvalidExam(
            Reason.NO_RESCALE,
            "Rescale Slope (0028,1053) or Intercept (0028,1052) is missing: HU would be a guess",
        )
    hounsfield.check_rescale(float(slope), float(intercept))
    return float(slope), float(intercept)


def _series_of_mask(dataset: PlainDataset | FileDataset) -> str:
    # Of a sequence the plain reader is unsure.
    referenced = dataset.get("ReferencedSeriesSequence")
    return text_of(referenced[0], "SeriesInstanceUID") if referenced else ""
