import contextlib
import io
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from ich_ray.errors import InvalidExam
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import dicom
from ich_ray.storage.decoding import Unsure
from ich_ray.storage.plain_dicom import PlainDataset
from tests.local.dicom_objects import ct_slice, to_bytes

NAMES = Pseudonyms(PUBLIC_KEY)
ROWS = b"\x28\x00\x10\x00US\x02\x00\x08\x00"


def outcome(data: bytes, reader: dicom.Reader) -> object:
    """All that a reader makes of an object: header and slice, or the reasons why not."""
    token = dicom.READER.set(reader)
    found: list[object] = []
    try:
        with contextlib.suppress(dicom.HeaderIncomplete):
            found.append(dicom.read_header(data, whole=False))
        found.append(dicom.read_header(data, whole=True))
        item = dicom.read_slice(data, NAMES)
        found += [item.stored.tolist(), item.stored.dtype.str, item.slope, item.intercept]
        found += [item.geometry, item.exam, item.key, item.patient, item.series]
    except InvalidExam as refusal:
        found += [refusal.reason, str(refusal)]
    finally:
        dicom.READER.reset(token)
    return found


def implicit(image: pydicom.Dataset) -> bytes:
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return to_bytes(image)


def test_an_ordinary_slice_is_read_as_pydicom_reads_it() -> None:
    for data in (to_bytes(ct_slice()), implicit(ct_slice())):
        plain = PlainDataset(data)
        reference = pydicom.dcmread(io.BytesIO(data))
        assert plain.pixels(data, decompress=False).tolist() == reference.pixel_array.tolist()
        for name in ("PatientID", "ImageType", "PixelSpacing", "RescaleIntercept", "Rows"):
            assert plain.get(name) == reference.get(name)
        assert plain.get("PixelPaddingValue") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[132:],
        lambda data: data.replace(ROWS, ROWS + ROWS),
        lambda data: data.replace(ROWS, ROWS.replace(b"US", b"ZZ")),
        lambda data: data.replace(ROWS, ROWS + b"\x27\x00\x02\x00LO\x02\x00ab"),
        lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),
        lambda data: data + ROWS,
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: data.replace(b"patient 1 ", b"pa\tient 1 "),
        lambda data: data.replace(b"patient 1 ", b"pa\xe9ient 1 "),
        lambda data: data.replace(b"DS\x08\x000.5\\0.25", b"DS\x08\x000.5\\    "),
        lambda data: data.replace(
            b"US\x02\x00\x10\x00(\x00\x01\x01", b"US\x02\x00\x08\x00(\x00\x01\x01"
        ),
    ],
)
def test_what_two_readers_could_see_differently_is_left_to_pydicom(
    change: Callable[[bytes], bytes],
) -> None:
    whole = to_bytes(ct_slice())
    odd = change(whole)
    assert odd != whole
    with pytest.raises(Unsure):  # noqa: PT012  (any of the steps may be the one)
        plain = PlainDataset(odd)
        plain.check_rest(odd)
        plain.get("PatientID"), plain.get("PixelSpacing")
        plain.pixels(odd, decompress=False)
    assert outcome(odd, "dicomsdl") == outcome(odd, "pydicom")


def test_values_above_the_declared_bits_are_left_to_pydicom() -> None:
    pixels = np.full(48, 5000, "<i2").tobytes()
    data = to_bytes(ct_slice(PixelData=pixels, BitsStored=12, HighBit=11))
    with pytest.raises(Unsure):
        PlainDataset(data).pixels(data, decompress=False)
    assert outcome(data, "dicomsdl") == outcome(data, "pydicom")


def test_elements_before_the_file_meta_group_are_not_written() -> None:
    """dicomsdl 0.109.4 frees what it never had when it writes such a sequence."""
    sequence = (
        b"\x00\x00\x11\x11SQ\0\0\x12\0\0\0\xfe\xff\x00\xe0\x0a\0\0\0\x08\x00\x50\x11UI\x02\x001\0"
    )
    data = to_bytes(ct_slice()).replace(ROWS, sequence + ROWS)
    with pytest.raises(Unsure):
        PlainDataset(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_readers_agree_on_damaged_objects(data: st.DataObject) -> None:
    image = ct_slice()
    image.add_new(0x00280120, "SS", -2000)
    whole = bytearray(data.draw(st.sampled_from([to_bytes(image), implicit(image)])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(132, len(whole) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "copy", "vr"]))
        if kind == "byte":
            whole[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del whole[place : place + data.draw(st.integers(1, 12))]
        elif kind == "copy":
            whole[place:place] = whole[place : place + data.draw(st.integers(1, 40))]
        else:
            whole[place : place + 2] = data.draw(st.sampled_from([b"UN", b"SQ", b"OB", b"LO"]))
    assert outcome(bytes(whole), "dicomsdl") == outcome(bytes(whole), "pydicom")


def test_big_endian_is_pydicoms() -> None:
    image = ct_slice()
    image.PixelData = np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    with pytest.raises(Unsure):
        PlainDataset(to_bytes(image))
