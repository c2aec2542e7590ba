"""Masks and probabilities as DICOM segmentations, in the geometry of the slices they lie on.

The patient and the study of a segmentation are those of its source, as PS3.3 asks: it goes back to
who sent the slices. So its bytes belong to the data's owner alone, and never into a table or a log;
pydicom and highdicom quote values in what they log, and are kept silent here.

A segmentation is a pure function of slices, pixels and model. Its series has a UID of model and
source series; its own UID is of its pixels as well, since an archive keeps the first object of a
UID and drops a second. Dates are those of the source: a clock would make a rerun another object.

Source: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20; PS3.5 B.2 (UIDs of the root 2.25); PS3.16 CID
7159 (types of lesions).
"""

import contextlib
import hashlib
import io
import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import highdicom as hd
import numpy as np
import pydicom
from jaxtyping import Bool, Float32, Float64, UInt8
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage

from ich_ray import volume
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Plane
from ich_ray.storage.decoding import decoding
from ich_ray.storage.dicom_geometry import numbers_of, text_of

Header = Dataset
"""Of a slice in its source, without the pixels."""

Kind = Literal["hemorrhage", "probability"]
"""Binary: what is marked. Fractional: the probability of each pixel."""

LEVELS = 255
"""Maximum Fractional Value (0062,000E): a probability is kept to half of 1/255."""

SAME_MM = 1e-6
"""Decimal strings of 16 characters say no less of a head."""

VERSION = "1"
"""Of this writer; raised when the same pixels become other bytes."""

NO_DATE, NO_TIME = "19000101", "000000"
"""Content Date and Time may not be empty, and a source may have none."""

_SERIES_NUMBERS: dict[Kind, int] = {"hemorrhage": 9001, "probability": 9002}
"""High, so that they stand behind the scanner's own series in a list."""

_MAY_BE_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)
"""Of type 2: they must be there, and anonymisers take them away."""

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, kw_only=True, slots=True)
class Author:
    """The model that found what a segmentation shows."""

    name: str
    """Of the model in the settings."""

    identity: str
    """Hash of its weights."""

    threshold: float
    """Probability from which a pixel is marked."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a segmentation that was read back."""

    plane: Plane
    values: UInt8[np.ndarray, "rows columns"]
    """0 and 1, or probabilities in units of 1/LEVELS."""


def read_source(data: bytes) -> Header:
    """Return the header of a slice that a segmentation is to lie on.

    Raises:
        InvalidExam: It has no place in the patient, or identifiers that are no DICOM UIDs.
    """
    with _silent(Reason.NOT_DICOM, "it cannot be read as DICOM"):
        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
    with _silent(Reason.BAD_HEADER, "its header cannot be read"):
        odd = [name for name in _UIDS if not pydicom.uid.UID(text_of(header, name)).is_valid]
        if odd:
            raise InvalidExam(
                Reason.NO_IDENTITY,
                f"{', '.join(odd)} is missing or no UID, so that no segmentation can refer to it",
            )
        plane_of(header)
        if not text_of(header, "SOPClassUID"):
            # Ingest takes it for a CT slice too.
            header.SOPClassUID = CTImageStorage
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, None)
    return header


def plane_of(header: Header) -> Plane:
    """Return where a slice, or what stands for one, lies in the patient.

    Raises:
        InvalidExam: It does not say so.
    """
    corner = numbers_of(header, "ImagePositionPatient", 3)
    orientation = numbers_of(header, "ImageOrientationPatient", 6)
    spacing = numbers_of(header, "PixelSpacing", 2)
    if corner is None or orientation is None or spacing is None:
        raise InvalidExam(Reason.BAD_HEADER, "its place in the patient is not known")
    return Plane.of(corner, orientation, spacing)


def grids(headers: Sequence[Header]) -> list[list[int]]:
    """Return the slices that one segmentation can lie on together, by index, in their order.

    Those are the slices of one series with the same rows, columns, spacing and orientation.
    """

    def grid(index: int) -> tuple[str, ...]:
        names = ("SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
        return tuple(str(headers[index].get(name)) for name in names)

    ordered = sorted(range(len(headers)), key=lambda index: (grid(index), index))
    return sorted(list(members) for _, members in groupby(ordered, key=grid))


def segmentation(
    headers: Sequence[Header],
    pixels: Bool[np.ndarray, "slice rows columns"] | Float32[np.ndarray, "slice rows columns"],
    author: Author,
) -> bytes | None:
    """Return the DICOM file of a mask, or of probabilities, on slices of one grid.

    Args:
        headers: Of the slices (see `read_source`), as many as `pixels`.
        pixels: Of each slice: where it is marked (a BINARY segmentation), or the probability of
            each pixel (FRACTIONAL, to half of 1/LEVELS). Frames of zeros are left out.
        author: Who found it.

    Returns:
        The bytes, the same each time; None where every pixel is 0, which no segmentation can say.

    Raises:
        InvalidExam: The header of a slice does not allow it.
    """
    kind: Kind = "hemorrhage" if pixels.dtype == np.bool_ else "probability"
    stored = _stored(pixels)
    if not stored.any():
        return None
    with _silent(Reason.BAD_HEADER, "its header allows no segmentation"):
        planes = [plane_of(header) for header in headers]
        _fill_thickness(headers)
        made = _made(headers, stored, kind, author)
        _settle_dates(made, headers[0])
        _settle_thickness(made, headers)
        buffer = io.BytesIO()
        made.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    expected = {
        str(header.SOPInstanceUID): (plane, frame)
        for header, plane, frame in zip(headers, planes, stored, strict=True)
        if frame.any()
    }
    _check(frames_of(data), expected)
    return data


def frames_of(data: bytes) -> dict[str, Frame]:
    """Return the frames of a segmentation of one segment by the SOP Instance UID of their slice."""
    with _silent(Reason.UNDECODABLE_PIXELS, "the segmentation cannot be decoded"):
        made = hd.seg.segread(io.BytesIO(data))
        # Not pixel_array: pydicom 3.0 misreads frames of bits that end within a byte.
        pixels = made.get_stored_frames().astype(np.uint8)
        shared = made.SharedFunctionalGroupsSequence[0]
        found = {}
        for frame, values in zip(made.PerFrameFunctionalGroupsSequence, pixels, strict=True):
            measures = frame.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence
            source = frame.DerivationImageSequence[0].SourceImageSequence[0]
            plane = Plane.of(
                frame.PlanePositionSequence[0].ImagePositionPatient,
                shared.PlaneOrientationSequence[0].ImageOrientationPatient,
                measures[0].PixelSpacing,
            )
            found[str(source.ReferencedSOPInstanceUID)] = Frame(plane, values)
    return found


def _stored(
    pixels: Bool[np.ndarray, "slice rows columns"] | Float32[np.ndarray, "slice rows columns"],
) -> UInt8[np.ndarray, "slice rows columns"]:
    """Return pixels as a segmentation holds them."""
    scale = 1 if pixels.dtype == np.bool_ else LEVELS
    return np.rint(pixels.astype(np.float32) * scale).astype(np.uint8)


def _check(found: dict[str, Frame], expected: dict[str, tuple[Plane, np.ndarray]]) -> None:
    """Hold what was written to what was meant: a mask at a wrong place is worse than none."""
    assert found.keys() == expected.keys(), "frames are missing, or of other slices"
    for uid, (plane, values) in expected.items():
        apart = np.subtract(_numbers(found[uid].plane), _numbers(plane))
        assert np.abs(apart).max() < SAME_MM, "a frame lies elsewhere than its slice"
        assert np.array_equal(found[uid].values, values), "a frame holds other pixels"


def _numbers(plane: Plane) -> Float64[np.ndarray, "vector axis"]:
    return np.array([plane.corner_mm, plane.column_step_mm, plane.row_step_mm])


def _made(
    headers: Sequence[Header],
    stored: UInt8[np.ndarray, "slice rows columns"],
    kind: Kind,
    author: Author,
) -> hd.seg.Segmentation:
    binary = kind == "hemorrhage"
    series = uid_of(kind, author.identity, str(headers[0].SeriesInstanceUID))
    slices = [str(header.SOPInstanceUID) for header in headers]
    content = hashlib.sha256(stored.tobytes()).hexdigest()
    own = uid_of(series, VERSION, str(author.threshold), *slices, content)
    made = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=stored if binary else (stored / LEVELS).astype(np.float32)[..., np.newaxis],
        segmentation_type="BINARY" if binary else "FRACTIONAL",
        fractional_type=None if binary else "PROBABILITY",
        max_fractional_value=LEVELS,
        segment_descriptions=[_segment(kind, author)],
        series_instance_uid=series,
        series_number=_SERIES_NUMBERS[kind],
        series_description=f"ich_ray {kind}, research only",
        sop_instance_uid=own,
        instance_number=1,
        manufacturer="ich_ray",
        manufacturer_model_name=author.name,
        software_versions=VERSION,
        device_serial_number=author.identity,
        content_label=kind.upper(),
        content_description=f"model {author.identity}, threshold {author.threshold:g}",
        omit_empty_frames=True,
    )
    for element in made.iterall():
        # The library draws it at random.
        if element.keyword == "DimensionOrganizationUID":
            element.value = uid_of(own, "dimensions")
    return made


def _segment(kind: Kind, author: Author) -> hd.seg.SegmentDescription:
    label = "Intracranial hemorrhage"
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=label if kind == "hemorrhage" else f"{label}, probability",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.IntracranialHemorrhage,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="ich_ray",
            family=codes.DCM.ArtificialIntelligence,
            version=author.identity,
            source="ich_ray",
            parameters={"threshold": f"{author.threshold:g}"} if kind == "hemorrhage" else None,
        ),
    )


def uid_of(*parts: str) -> str:
    """Return a DICOM UID that depends on the parts alone.

    Source: DICOM PS3.5 B.2 (UIDs of the root 2.25 from a UUID); RFC 9562 5.5 (UUIDs from names).

    >>> uid_of("a", "b") == uid_of("a", "b") != uid_of("ab")
    True
    """
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(('ich_ray seg', *parts))).int}"


def _settle_dates(made: Dataset, source: Header) -> None:
    """Put the source's own date and time where the library has put the clock's."""
    pairs = (("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"), ("ContentDate", ""))
    dated = ((text_of(source, date), text_of(source, time) if time else "") for date, time in pairs)
    date, time = next(((d, t) for d, t in dated if d), (NO_DATE, ""))
    for name in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        setattr(made, name, date)
    for name in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        setattr(made, name, time or NO_TIME)
    # The library names itself last among the equipment, and when.
    made.ContributingEquipmentSequence[-1].ContributionDateTime = date + (time or NO_TIME)


def _fill_thickness(headers: Sequence[Header]) -> None:
    """Let a slice that tells no thickness be as thick as the step: readers of masks want one."""
    silent = [header for header in headers if not text_of(header, "SliceThickness")]
    if not silent:
        return
    normal = volume.normal_of(headers[0].ImageOrientationPatient)
    corners = (list(map(float, header.ImagePositionPatient)) for header in headers)
    step = volume.spacing_mm(volume.position_along(normal, corner) for corner in corners)
    if step is None:
        raise InvalidExam(Reason.BAD_HEADER, "a single slice tells no Slice Thickness (0018,0050)")
    for header in silent:
        header.SliceThickness = round(step, 6)


def _settle_thickness(made: Dataset, headers: Sequence[Header]) -> None:
    """Say each frame's own thickness where slices differ: the library takes the first's for all."""
    thickness = {str(header.SOPInstanceUID): header.SliceThickness for header in headers}
    if len(set(map(float, thickness.values()))) == 1:
        return
    shared = made.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    del shared.PixelMeasuresSequence
    for frame in made.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        measures = Dataset()
        measures.PixelSpacing = spacing
        measures.SliceThickness = thickness[str(source.ReferencedSOPInstanceUID)]
        frame.PixelMeasuresSequence = [measures]


@contextlib.contextmanager
def _silent(reason: Reason, what: str) -> Iterator[None]:
    """Decode, and keep highdicom silent too: it logs the UIDs of what it copies."""
    logger = logging.getLogger("highdicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with decoding(reason, what):
            yield
    finally:
        logger.setLevel(before)
