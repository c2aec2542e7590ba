"""A made-up patient, planted wherever DICOM, a file system or a table of labels can hold one."""

import base64
import contextlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.local.dicom_objects import ct_slice, segmentation, to_bytes

FAMILY, GIVEN = "Müllerstädt", "Quirinella"
NAME = f"{FAMILY}^{GIVEN}"
BIRTH, VISIT = "19371123", "20260229"
"""The second is no date, so that whoever parses it must complain."""

PATIENT = "MRN-77314419"
ROOT = "1.2.276.9.9.99.424242"
"""Of every original UID."""

EXAM = "77"
SECRETS = (FAMILY, GIVEN, BIRTH, "1937-11-23", VISIT, PATIENT, ROOT)
LABELS_HEADER = (
    "SOPInstanceUID,any,epidural,intraparenchymal,intraventricular,subarachnoid,subdural"
)


def forms(secret: str) -> dict[str, bytes]:
    """Return how a secret may lie in a file, in lower case."""
    found = {}
    for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
        data = secret.encode(encoding)
        found[encoding] = data
        # Read in one encoding, and written in another.
        found[f"{encoding} taken for latin-1"] = data.decode("latin-1").encode()
        found[f"hex of {encoding}"] = data.hex().encode()
        for shift in range(3):
            # What stands before shifts the groups of 6 bits; those at the ends hold other bits too.
            text = base64.b64encode(b"\0" * shift + data)
            first, last = -(-8 * shift // 6), 8 * (shift + len(data)) // 6
            found[f"base64 of {encoding} at {shift}"] = text[first:last]
    found["JSON"] = json.dumps(secret)[1:-1].encode()
    found["repr"] = secret.encode("ascii", "backslashreplace")
    found["repr of utf-8"] = repr(secret.encode())[2:-1].encode()
    found["percent"] = "".join(f"%{byte:02x}" for byte in secret.encode()).encode()
    return {name: data.lower() for name, data in found.items()}


def leaks(
    written: Iterable[tuple[str, bytes]], secrets: Iterable[str] = SECRETS
) -> list[tuple[str, str, str]]:
    """Return (place, secret, form) of every secret that is found in what was written."""
    wanted = [(secret, form, data) for secret in secrets for form, data in forms(secret).items()]
    found = []
    for place, data in written:
        lower = data.lower()
        found += [(place, secret, form) for secret, form, text in wanted if text in lower]
    return found


def contents(folder: Path, *, but: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every file below a folder; of Parquet, its values too."""
    left_out = list(but)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if any(path.is_relative_to(other) for other in left_out):
            continue
        name = str(path.relative_to(folder))
        yield name, name.encode()
        yield name, path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield f"{name}: schema", repr(table.schema.metadata).encode()
            for column in table.column_names:
                yield f"{name}: {column}", b"\n".join(_values(table[column]))


def _values(column: pa.ChunkedArray) -> Iterator[bytes]:
    for value in column.to_pylist():
        yield value if isinstance(value, bytes) else repr(value).encode()


@contextlib.contextmanager
def planting() -> Iterator[None]:
    """Silence pydicom, which warns of the values that it is given to write, quoting them."""
    logger = logging.getLogger("pydicom")
    logger.disabled, before = True, logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.disabled = before


def planted_slice(number: int, **changes: Any) -> FileDataset:
    """A slice with the patient in every kind of element."""
    dataset = ct_slice(number, EXAM)
    dataset.preamble = NAME.encode().ljust(128, b"\0")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, part in {
        "SOPInstanceUID": f"1.{number}",
        "StudyInstanceUID": "1",
        "SeriesInstanceUID": "1.0",
        "FrameOfReferenceUID": "1.9",
        "IrradiationEventUID": "1.8",
    }.items():
        setattr(dataset, keyword, f"{ROOT}.{part}")
    for keyword in (
        *("PatientName", "ReferringPhysicianName", "OperatorsName", "OtherPatientNames"),  # PN
        *("StudyDescription", "SeriesDescription", "ProtocolName", "InstitutionName"),  # LO
        *("ImageComments", "PatientComments", "AdditionalPatientHistory"),  # LT
        *("InstitutionAddress", "DerivationDescription"),  # ST
    ):
        setattr(dataset, keyword, NAME)
    for keyword in ("StationName", "ConvolutionKernel", "AccessionNumber", "StudyID"):  # SH
        setattr(dataset, keyword, GIVEN)
    dataset.PatientID = dataset.OtherPatientIDs = dataset.DeviceSerialNumber = PATIENT
    dataset.Manufacturer = f"{GIVEN} {BIRTH}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", GIVEN.upper()]
    dataset.PatientBirthDate = dataset.StudyDate = dataset.ContentDate = BIRTH
    dataset.AcquisitionDateTime = f"{BIRTH}120000.000000"
    dataset.PatientAge, dataset.PatientSex = "089Y", "F"
    dataset.TextValue = NAME  # UT
    nested, inner = Dataset(), Dataset()
    inner.PatientName, inner.ReferencedSOPInstanceUID = NAME, f"{ROOT}.2"
    nested.PatientID, nested.PatientBirthDate = PATIENT, BIRTH
    nested.ReferencedImageSequence = Sequence([inner])
    dataset.ReferencedPatientSequence = Sequence([nested])
    private = dataset.private_block(0x0009, GIVEN, create=True)
    private.add_new(0x01, "LO", NAME)
    private.add_new(0x02, "OB", NAME.encode("utf-16-le"))
    private.add_new(0x03, "UN", base64.b64encode(NAME.encode()))
    private.add_new(0x04, "SQ", Sequence([inner]))
    private.add_new(0x05, "UI", f"{ROOT}.3")
    plant(dataset, 0x60003000, "OB", (NAME + BIRTH).encode())  # overlay
    plant(dataset, 0xFFFCFFFC, "OB", (NAME + PATIENT).encode())  # padding after the pixels
    meta = dataset.file_meta
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationVersionName = GIVEN
    meta.SourceApplicationEntityTitle = GIVEN
    meta.PrivateInformationCreatorUID = f"{ROOT}.4"
    meta.PrivateInformation = NAME.encode()
    for keyword, value in changes.items():
        if isinstance(value, bytes):
            plant(dataset, keyword, _VR[keyword], value)
        elif value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


_VR = {
    "RescaleSlope": "DS",
    "RescaleIntercept": "DS",
    "PixelSpacing": "DS",
    "ImagePositionPatient": "DS",
    "ImageOrientationPatient": "DS",
    "SliceThickness": "DS",
    "NumberOfFrames": "IS",
    "InstanceNumber": "IS",
    "PatientBirthDate": "DA",
    "StudyDate": "DA",
    "StudyTime": "TM",
    "Rows": "US",
    "BitsStored": "US",
    "PixelPaddingValue": "SS",
    "Modality": "CS",
    "SOPClassUID": "UI",
    "SOPInstanceUID": "UI",
    "SpecificCharacterSet": "CS",
    "PhotometricInterpretation": "CS",
    "PatientName": "PN",
    "PatientID": "LO",
    "PixelData": "OW",
}


def plant(dataset: Dataset, keyword: str | int, vr: str, value: bytes) -> None:
    """Put bytes into an element as they are, whatever its VR would allow."""
    tag = Tag(keyword)
    even = value + b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(
        tag, vr, len(even), even, 0, is_implicit_VR=False, is_little_endian=True
    )


def refused_objects() -> dict[str, bytes]:
    """Return objects that each fail in their own way, by a name that says how."""
    number = iter(range(100, 200))

    def broken(**changes: Any) -> bytes:
        return to_bytes(planted_slice(next(number), **changes))

    name = NAME.encode()
    found = {f"{keyword} is text": broken(**{keyword: name}) for keyword in _VR}
    found["no slope"] = broken(RescaleSlope=None)
    found["no patient"] = broken(PatientID=None)
    found["no exam"] = broken(StudyInstanceUID=None)
    found["no orientation of six"] = broken(ImageOrientationPatient=[1.0, 0.0])
    found["a name as a character set"] = broken(SpecificCharacterSet=GIVEN)
    found["a name in no character set"] = broken(
        SpecificCharacterSet=b"ISO 2022 IR 87", PatientName=b"\x1b$B" + name + b"\xff\xfe"
    )
    found["an impossible date"] = broken(StudyDate=VISIT.encode(), PatientBirthDate=b"1937-11-23")
    found["short pixels"] = broken(PixelData=name)
    found["scout"] = broken(ImageType=["ORIGINAL", GIVEN.upper(), "LOCALIZER"])
    whole = broken()
    found["cut in the header"] = whole[:700]
    found["cut in the pixels"] = whole[: whole.rindex(name)]
    found["no preamble"] = whole[132:]
    found["text"] = f"{NAME}\n{BIRTH}\n{ROOT}.1\n".encode()
    found["text after DICM"] = b"\0" * 128 + b"DICM" + name * 40
    found["empty"] = b""
    found["implicit as explicit"] = whole.replace(
        b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"
    )
    found["deep sequences"] = _deep()
    for syntax in (
        *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless),
        *(DeflatedExplicitVRLittleEndian, f"{ROOT}.5"),
    ):
        found[f"junk said to be {syntax}"] = whole.replace(
            _syntax_element("1.2.840.10008.1.2.1"), _syntax_element(str(syntax))
        )
    found["junk in a JPEG"] = _encapsulated(
        b"\xff\xd8\xff\xe0" + name * 9 + b"\xff\xd9", JPEGLosslessSV1
    )
    found["junk in a JPEG 2000"] = _encapsulated(
        b"\xff\x4f\xff\x51" + name * 9 + b"\xff\xd9", JPEG2000Lossless
    )
    return {**found, **_refused_masks()}


def _syntax_element(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"\x02\0\x10\0UI" + len(value).to_bytes(2, "little") + value


def _encapsulated(frame: bytes, syntax: str) -> bytes:
    dataset = planted_slice(199)
    frame += b"\0" * (len(frame) % 2)
    item = b"\xfe\xff\x00\xe0" + len(frame).to_bytes(4, "little") + frame
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return to_bytes(dataset)


def _deep() -> bytes:
    """Sequences within sequences, 2,000 deep: who reads them recursively overflows its stack."""
    content = b"\x10\0\x10\0PN" + len(NAME.encode()).to_bytes(2, "little") + NAME.encode()
    for _ in range(2_000):
        item = b"\xfe\xff\0\xe0" + len(content).to_bytes(4, "little") + content
        content = b"\x08\0\x40\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    dataset = planted_slice(198)
    plant(dataset, 0x00081110, "OB", content[12:])
    written = to_bytes(dataset)
    return written.replace(b"\x08\0\x10\x11OB\0\0", b"\x08\0\x10\x11SQ\0\0")


def planted_mask(slices: list[FileDataset], frames: np.ndarray, **changes: Any) -> bytes:
    """A segmentation with the patient in its labels, descriptions and identifiers."""
    made = segmentation(slices, {f"epidural of {NAME}": frames})
    made.SOPInstanceUID = f"{ROOT}.70.{len(slices)}"
    made.SeriesInstanceUID, made.SeriesDescription = f"{ROOT}.70", NAME
    made.ContentDescription, made.ContentCreatorName = NAME, NAME
    segment = made.SegmentSequence[0]
    segment.SegmentDescription, segment.TrackingID = f"{NAME} {BIRTH}", PATIENT
    segment.TrackingUID = f"{ROOT}.71"
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return to_bytes(made)


def _refused_masks() -> dict[str, bytes]:
    slices = [planted_slice(300), planted_slice(301)]
    frames = np.ones((2, 8, 6), np.uint8)
    found = {"mask of nothing here": planted_mask(slices, frames)}
    found["mask with broken frames"] = planted_mask(slices, frames, NumberOfFrames=90)
    made = segmentation(slices, {NAME: frames})
    made.SOPInstanceUID = f"{ROOT}.72"
    del made.SegmentSequence
    found["mask without segments"] = to_bytes(made)
    return found


def write_source(folder: Path) -> list[FileDataset]:
    """Write an exam that is accepted, with its mask, and everything that is refused.

    Returns:
        The accepted slices.
    """
    exam = folder / f"{NAME}_{BIRTH}"
    exam.mkdir(parents=True)
    slices = [planted_slice(number) for number in range(1, 5)]
    for dataset in slices:
        (exam / f"{dataset.SOPInstanceUID}.dcm").write_bytes(to_bytes(dataset))
    (exam / f"{GIVEN} again").write_bytes(to_bytes(slices[0]))
    frames = np.zeros((4, 8, 6), np.uint8)
    frames[1, 2:4] = 1
    (exam / f"{PATIENT} mask").write_bytes(planted_mask(slices, frames))
    for name, data in refused_objects().items():
        (folder / f"{GIVEN} {name}").write_bytes(data)
    rows = [f"{s.SOPInstanceUID},{int(i == 1)},{int(i == 1)},0,0,0,0" for i, s in enumerate(slices)]
    rows.append(f"{ROOT}.404,0,0,0,0,0,0")
    lines = [f"{LABELS_HEADER},{GIVEN}", *(f"{row},{NAME} {BIRTH}" for row in rows)]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return slices
