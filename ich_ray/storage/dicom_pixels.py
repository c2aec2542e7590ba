"""The pixels of a DICOM slice by pydicom, the reader of reference, and their repair."""

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pydicom
from jaxtyping import Integer
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ich_ray import hounsfield
from ich_ray.errors import InvalidExam, Reason
from ich_ray.storage.decoding import Unsure, decoding

PIXEL_DATA = 0x7FE00010

_END_OF_JPEG = b"\xff\xd9"
_JPEG = "1.2.840.10008.1.2.4."


@runtime_checkable
class Tags(Protocol):
    """The values of an object's elements: a pydicom data set, or what another reader found."""

    def get(self, name: str, /) -> Any:
        """Return the value of an element by its keyword, None where it is absent."""


class RecordedTags:
    """The values of a data set, and a record of those that were asked for."""

    def __init__(self, tags: Tags) -> None:
        """Start with an empty record."""
        self._tags = tags
        self.record: dict[str, Any] = {}
        """Keyword -> value in plain types, as JSON knows them."""

    def get(self, name: str, /) -> Any:
        """Return a value, and keep it."""
        self.record[name] = _plain(self._tags.get(name))
        return self.record[name]


def pixels_of(dataset: FileDataset, *, decompress: bool) -> Integer[np.ndarray, "rows columns"]:
    """Return the stored values of a slice.

    Args:
        dataset: The whole object.
        decompress: Whether compressed pixels may be decoded in this process.

    Raises:
        InvalidExam: They are no single grey plane, are incomplete, or cannot be decoded.
        Unsure: They are compressed, and `decompress` is off.
    """
    with decoding(Reason.BAD_HEADER, "its pixel description cannot be read"):
        if PIXEL_DATA not in dataset:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "its pixels are floating point, not stored CT")
        if int(dataset.get("NumberOfFrames") or 1) != 1 or int(dataset.SamplesPerPixel) != 1:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "its pixels are no single grey plane")
        syntax = _transfer_syntax(dataset)
        if syntax.is_compressed and not decompress:
            raise Unsure
        _refuse_truncated(dataset, syntax)
    with decoding(Reason.UNDECODABLE_PIXELS, "its pixels cannot be decoded"):
        stored = dataset.pixel_array
    if stored.shape != (dataset.Rows, dataset.Columns) or stored.size == 0:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "its pixels are no single grey plane")
    return stored


def repaired(
    stored: Integer[np.ndarray, "rows columns"], tags: Tags, slope: float, intercept: float
) -> tuple[Integer[np.ndarray, "rows columns"], float]:
    """Return stored values as int16 or uint16 with padding as air, and their intercept."""
    padding, limit = tags.get("PixelPaddingValue"), tags.get("PixelPaddingRangeLimit")
    padded = None
    if padding is not None:
        # Padding is defined on what the file stores, so it is found before any repair.
        padded = hounsfield.padded_pixels(
            stored, padding=int(padding), limit=None if limit is None else int(limit)
        )
    if hounsfield.needs_12_bit_repair(
        bits_stored=int(tags.get("BitsStored")),
        signed=bool(tags.get("PixelRepresentation")),
        intercept=intercept,
    ):
        stored, intercept = hounsfield.repair_12_bit(stored)
    if padded is not None and padded.any():
        stored = hounsfield.with_air(stored, padded, slope=slope, intercept=intercept)
    return hounsfield.narrowed(stored), intercept


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
    data = dataset[PIXEL_DATA].value
    if syntax.is_compressed and not syntax.is_deflated:
        # JPEG decoders fill what is missing with grey, and say nothing.
        if syntax.startswith(_JPEG) and _END_OF_JPEG not in data[-32:]:
            raise InvalidExam(Reason.TRUNCATED_PIXELS, "its compressed pixels end too early")
        return
    expected = int(dataset.Rows) * int(dataset.Columns) * math.ceil(int(dataset.BitsAllocated) / 8)
    if len(data) < expected:
        raise InvalidExam(
            Reason.TRUNCATED_PIXELS, f"{len(data)} bytes of pixels, the header says {expected}"
        )
    if expected == 0 or len(data) >= 2 * expected:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "more planes of pixels than the header declares")


def _plain(value: Any) -> Any:
    """Return a value of pydicom in the types of JSON."""
    if value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, Dataset):
        return {element.keyword: _plain(element.value) for element in value}
    if isinstance(value, MultiValue | list):
        return [_plain(part) for part in value]
    return str(value)
