"""The stored values of an object, by our reader and by GDCM; both run in a guarded process."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pydicom

from ich_ray.errors import InvalidExam, Reason
from ich_ray.storage.decoding import Unsure, decoding
from ich_ray.storage.dicom_pixels import pixels_of
from ich_ray.storage.guarded import Answer
from ich_ray.storage.plain_dicom import PlainDataset


def ours(data: bytes) -> Answer:
    """Decode as `dicom.read_slice` does, whatever the header says of rescale and identity."""
    with contextlib.suppress(Unsure):
        plain = PlainDataset(data)
        plain.check_rest(data)
        return "dicomsdl", [plain.pixels(data, decompress=True)]
    with decoding(Reason.NOT_DICOM, "no DICOM"):
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    return "pydicom", [pixels_of(dataset, decompress=True)]


def by_gdcm(data: bytes) -> Answer:
    import gdcm

    with (
        decoding(Reason.UNDECODABLE_PIXELS, "GDCM does not decode it"),
        tempfile.TemporaryDirectory() as folder,
    ):
        path = Path(folder, "object")
        path.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        if not reader.Read():
            raise InvalidExam(Reason.UNDECODABLE_PIXELS, "GDCM does not read it")
        image = reader.GetImage()
        form = image.GetPixelFormat()
        sizes = [image.GetDimension(axis) for axis in range(image.GetNumberOfDimensions())]
        kind = "i" if form.GetPixelRepresentation() else "u"
        dtype = np.dtype(f"<{kind}{max(form.GetBitsAllocated() // 8, 1)}")
        raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
        if form.GetSamplesPerPixel() != 1:
            raise InvalidExam(Reason.NOT_AN_IMAGE, "no grey plane")
        return "gdcm", [np.frombuffer(raw, dtype).reshape(sizes[1], sizes[0])]
