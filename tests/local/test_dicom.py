import contextlib
import io
import logging
import zlib
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from ich_ray.errors import InvalidExam, Reason
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.series import HeaderFacts
from ich_ray.series_signs import Sign
from ich_ray.storage import dicom
from ich_ray.storage.corpus import hounsfield
from ich_ray.storage.guarded import Guard
from tests.local.dicom_objects import ct_slice, segmentation, to_bytes

NAMES = Pseudonyms(PUBLIC_KEY)


def reason_of(data: bytes) -> Reason:
    with pytest.raises(InvalidExam) as caught:
        dicom.read_slice(data, NAMES)
    assert "Doe" not in str(caught.value)
    return caught.value.reason


def test_a_slice_keeps_its_hounsfield_units_and_its_place() -> None:
    item = dicom.read_slice(to_bytes(ct_slice(3)), NAMES)
    assert hounsfield(item).ravel().tolist() == list(range(3, 51))
    assert item.patient == NAMES.of("patient 1")
    assert (item.geometry.position_mm, item.geometry.spacing_mm) == (15.0, (0.5, 0.25))
    assert (item.geometry.thickness_mm, item.geometry.tilt_deg) == (5.0, 0.0)


def test_headers_place_an_object_without_its_pixels() -> None:
    data = to_bytes(ct_slice())
    header = dicom.read_header(data[: len(data) - 90], whole=False)
    assert (header.role, header.patient) == ("slice", "patient 1")
    with pytest.raises(dicom.HeaderIncomplete):
        dicom.read_header(data[:500], whole=False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "MR"}, Reason.NOT_CT),
        ({"Modality": "OT"}, Reason.NOT_CT),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, Reason.DOCUMENT),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, Reason.LOCALIZER),
        ({"PixelData": None}, Reason.NOT_AN_IMAGE),
        ({"NumberOfFrames": 2}, Reason.NOT_AN_IMAGE),
        ({"SamplesPerPixel": 3}, Reason.NOT_AN_IMAGE),
        ({"PatientID": ""}, Reason.NO_IDENTITY),
        ({"SeriesInstanceUID": None}, Reason.NO_IDENTITY),
        ({"RescaleIntercept": None}, Reason.NO_RESCALE),
        ({"RescaleSlope": None}, Reason.NO_RESCALE),
        ({"RescaleSlope": 0}, Reason.BAD_HEADER),
        ({"ImageOrientationPatient": [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]}, Reason.BAD_HEADER),
        ({"PixelSpacing": [0.0, 0.5]}, Reason.BAD_HEADER),
        ({"Rows": None}, Reason.BAD_HEADER),
        ({"PixelData": b"\0" * 94}, Reason.TRUNCATED_PIXELS),
        ({"PixelData": b"\0" * 192}, Reason.NOT_AN_IMAGE),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    assert reason_of(to_bytes(ct_slice(**changes))) == reason


def test_what_is_no_dicom_is_refused() -> None:
    for data in (b"", b"hello", b"\0" * 200 + b"DICM"):
        assert reason_of(data) == Reason.NOT_DICOM


@settings(deadline=None)  # the first that needs the guarded process waits for its start
@given(st.data())
def test_broken_bytes_are_a_slice_or_have_a_reason(data: st.DataObject) -> None:
    whole = bytearray(to_bytes(ct_slice()))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(InvalidExam):
        assert dicom.read_slice(cut, NAMES).stored.size


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_the_transfer_syntax_does_not_matter(syntax: pydicom.uid.UID) -> None:
    image = ct_slice()
    if syntax == RLELossless:
        image.compress(RLELossless)
        data = to_bytes(image)
    else:
        if syntax == ExplicitVRBigEndian:
            image.PixelData = np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
        image.file_meta.TransferSyntaxUID = syntax
        data = to_bytes(image)
    item = dicom.read_slice(data, NAMES)
    assert item.stored.tolist() == dicom.read_slice(to_bytes(ct_slice()), NAMES).stored.tolist()


def bomb(syntax: pydicom.uid.UID, **changes: Any) -> bytes:
    """A few bytes of pixels that a header declares to be many, in one fragment."""
    image = ct_slice(PixelData=pydicom.encaps.encapsulate([b"\0" * 96 + b"\xff\xd9"]), **changes)
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = syntax
    return to_bytes(image)


@pytest.mark.parametrize("syntax", [RLELossless, pydicom.uid.JPEGLosslessSV1, pydicom.uid.JPEG2000])
def test_a_header_that_declares_gigabytes_is_refused(syntax: pydicom.uid.UID) -> None:
    data = bomb(syntax, Rows=65535, Columns=65535)
    assert reason_of(data) in (Reason.TOO_LARGE, Reason.UNDECODABLE_PIXELS)


def test_what_unpacks_to_gigabytes_is_too_large() -> None:
    image = ct_slice(PixelData=b"\0" * 96)
    image.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    whole = to_bytes(image)
    end = whole.find(b"1.2.840.10008.1.2.1.99")
    meta = whole[: 144 + int.from_bytes(whole[140:144], "little")]
    assert end < len(meta)
    pack = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = b"".join(pack.compress(bytes(1 << 24)) for _ in range(40)) + pack.flush()
    assert len(meta + packed) < 1_000_000
    guard = Guard(limit_bytes=600 * 1024**2)
    try:
        with pytest.raises(InvalidExam) as caught:
            guard.call("ich_ray.storage.dicom:decode_slice", meta + packed, reader="dicomsdl")
        assert caught.value.reason == Reason.TOO_LARGE
    finally:
        guard.close()


def test_without_the_file_header_the_bytes_say_how_they_are_written() -> None:
    stream = io.BytesIO()
    image = ct_slice()
    pydicom.dcmwrite(stream, pydicom.Dataset(image), implicit_vr=True, little_endian=True)
    item = dicom.read_slice(stream.getvalue(), NAMES)
    assert item.stored[0, 0] == 1025


def test_the_header_says_what_decides_over_its_series() -> None:
    image = ct_slice(
        3,
        SeriesDescription="Jane Doe PRE CONTRAST BONE",
        SeriesNumber=4,
        AcquisitionNumber=2,
        ConvolutionKernel=["H60s", "3"],
    )
    facts = dicom.read_header(to_bytes(image), whole=True).facts
    assert facts == HeaderFacts(
        position_mm=15.0,
        tilt_deg=0.0,
        thickness_mm=5.0,
        series_number=4,
        acquisition=2,
        instance=3,
        signs=frozenset({Sign.PLAIN, Sign.BONE}),
    )


def test_an_odd_number_that_only_breaks_ties_is_no_reason_to_refuse() -> None:
    data = to_bytes(ct_slice(SeriesNumber=77)).replace(b"77", b"7x")
    facts = dicom.read_header(data, whole=True).facts
    assert facts is not None
    assert facts.series_number is None


def test_a_mask_names_the_series_that_it_lies_on() -> None:
    image = ct_slice()
    made = segmentation([image], {"bleed": np.ones((1, 8, 6), np.uint8)})
    header = dicom.read_header(to_bytes(made), whole=True)
    assert (header.series, header.facts) == (image.SeriesInstanceUID, None)
    del made.ReferencedSeriesSequence
    assert dicom.read_header(to_bytes(made), whole=True).series == made.SeriesInstanceUID


@pytest.mark.parametrize("modality", ["SR", "PR", "CT"])
def test_what_accompanies_an_exam_is_a_document(modality: str) -> None:
    classes = {
        "SR": "1.2.840.10008.5.1.4.1.1.88.67",
        "PR": "1.2.840.10008.5.1.4.1.1.11.1",
        "CT": "1.2.840.10008.5.1.4.1.1.7.2",
    }
    image = ct_slice(Modality=modality, SOPClassUID=classes[modality])
    assert reason_of(to_bytes(image)) == Reason.DOCUMENT


@pytest.mark.parametrize(
    ("values", "changes", "expected"),
    [
        (np.array([-1024, 2000], "<i2"), {"RescaleSlope": 0.5}, [-1536.0, -24.0]),
        (np.array([0, 40_000], "<u2"), {"PixelRepresentation": 0}, [-1024.0, 38_976.0]),
        (np.array([0, 2000], "<u2"), {"PixelRepresentation": 0, "RescaleSlope": "1.25"}, None),
        (np.array([0, 2000], "<i2"), {"RescaleIntercept": "-1024.50"}, [-1024.5, 975.5]),
        (
            np.array([0, 2000], "<i2"),
            {"WindowCenter": [40, 400, 600], "WindowWidth": [80, 2000, 4000]},
            [-1024.0, 976.0],
        ),
    ],
)
def test_hounsfield_units_follow_slope_intercept_and_sign_and_no_window(
    values: np.ndarray, changes: dict[str, Any], expected: list[float] | None
) -> None:
    image = ct_slice(PixelData=np.tile(values, 24).tobytes(), **changes)
    hu = hounsfield(dicom.read_slice(to_bytes(image), NAMES)).ravel()[:2]
    assert hu.tolist() == (expected or [-1024.0, 1476.0])


@pytest.mark.parametrize(
    ("padding", "kind"), [(-2000, "SS"), (63_536, "US")], ids=["signed", "as unsigned"]
)
def test_padding_of_signed_pixels_is_found_in_either_spelling(padding: int, kind: str) -> None:
    pixels = np.array([-2000, 1064] * 24, "<i2")
    image = ct_slice(PixelData=pixels.tobytes())
    image.add_new(0x00280120, kind, padding)
    hu = hounsfield(dicom.read_slice(to_bytes(image), NAMES))
    assert hu.ravel()[:2].tolist() == [-1000.0, 40.0]


def test_padding_is_air() -> None:
    pixels = np.full(48, 1024, "<i2")
    pixels[:5] = -2000
    image = ct_slice(PixelData=pixels.tobytes())
    image.add_new(0x00280120, "SS", -2000)
    hu = hounsfield(dicom.read_slice(to_bytes(image), NAMES))
    assert hu.ravel()[:6].tolist() == [-1000.0] * 5 + [0.0]


def test_the_12_bit_export_is_repaired() -> None:
    pixels = np.array([3096, 40] * 24, "<u2")
    changes = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleIntercept": 0}
    item = dicom.read_slice(to_bytes(ct_slice(PixelData=pixels.tobytes(), **changes)), NAMES)
    assert hounsfield(item)[0, :2].tolist() == [-1000.0, 40.0]


def test_a_decoder_says_nothing_of_a_patient(caplog: pytest.LogCaptureFixture) -> None:
    broken = to_bytes(ct_slice()).replace(b"19500101", b"Doe^Jane")
    with caplog.at_level(logging.DEBUG):
        dicom.read_slice(broken, NAMES)
    assert "Doe" not in caplog.text


def test_masks_lie_on_the_slices_they_name() -> None:
    slices = [ct_slice(number) for number in (1, 2, 3)]
    frames = np.zeros((2, 3, 8, 6), np.uint8)
    frames[0, 1, 2:4] = 1
    frames[1, 1, 3:5] = 1
    made = segmentation(slices, {"Subdural hematoma": frames[0], "bleed": frames[1]})
    masks = dicom.read_masks(to_bytes(made), NAMES)
    (key,) = [key for key, mask in masks.items() if mask.any()]
    assert key == NAMES.of(slices[1].SOPInstanceUID)
    assert masks[key][:, 0].tolist() == [0, 0, 5, 5, 1, 0, 0, 0]


def test_a_segmentation_is_known_by_its_header() -> None:
    made = segmentation([ct_slice()], {"bleed": np.ones((1, 8, 6), np.uint8)})
    assert dicom.read_header(to_bytes(made), whole=True).role == "mask"
    assert reason_of(to_bytes(made)) == Reason.NOT_AN_IMAGE
    assert reason_of_masks(to_bytes(made)[:-1000]) == Reason.UNDECODABLE_PIXELS


def reason_of_masks(data: bytes) -> Reason:
    with pytest.raises(InvalidExam) as caught:
        dicom.read_masks(data, NAMES)
    return caught.value.reason
