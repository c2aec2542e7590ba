"""A reader of segmentations that knows PS3.3 and nothing of highdicom, and the word of dciodvfy."""

import io
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import pytest


class Frame(NamedTuple):
    values: np.ndarray
    corner: list[float]
    orientation: list[float]
    spacing: list[float]
    thickness: float


def frames_by_pydicom(data: bytes) -> dict[str, Frame]:
    """SOP Instance UID of the source -> frame, bits unpacked by hand (PS3.5 8.1.1, 8.2)."""
    made = pydicom.dcmread(io.BytesIO(data))
    shape = int(made.NumberOfFrames), made.Rows, made.Columns
    if made.BitsAllocated == 1:
        bits = np.unpackbits(np.frombuffer(made.PixelData, np.uint8), bitorder="little")
        values = bits[: np.prod(shape)].reshape(shape)
    else:
        values = np.frombuffer(made.PixelData, np.uint8)[: np.prod(shape)].reshape(shape)
    (shared,) = made.SharedFunctionalGroupsSequence
    found = {}
    for frame, pixels in zip(made.PerFrameFunctionalGroupsSequence, values, strict=True):
        (measures,) = (frame if "PixelMeasuresSequence" in frame else shared).PixelMeasuresSequence
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        found[str(source.ReferencedSOPInstanceUID)] = Frame(
            pixels,
            list(map(float, frame.PlanePositionSequence[0].ImagePositionPatient)),
            list(map(float, shared.PlaneOrientationSequence[0].ImageOrientationPatient)),
            list(map(float, measures.PixelSpacing)),
            float(measures.SliceThickness),
        )
    return found


def assert_lies_on(data: bytes, images: list[pydicom.Dataset], masks: np.ndarray) -> None:
    """Voxel by voxel, and number by number of the geometry; frames of zeros are left out."""
    found = frames_by_pydicom(data)
    made = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    assert made.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    expected = {str(i.SOPInstanceUID): (i, m) for i, m in zip(images, masks, strict=True)}
    assert found.keys() == {uid for uid, (_, mask) in expected.items() if mask.any()}
    for uid, frame in found.items():
        image, mask = expected[uid]
        assert (frame.values == mask).all()
        assert frame.corner == list(map(float, image.ImagePositionPatient))
        assert frame.orientation == list(map(float, image.ImageOrientationPatient))
        assert frame.spacing == list(map(float, image.PixelSpacing))
        assert frame.thickness == float(image.SliceThickness)


def errors_of(data: bytes, folder: Path) -> set[str]:
    """What dciodvfy calls an error, PS3.3 A.51 beside the object."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy to check with: install the Debian package dicom3tools")
    path = folder / "checked.dcm"
    path.write_bytes(data)
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert any(line in ("Segmentation", "CTImage") for line in lines), lines
    return {line for line in lines if line.startswith("Error")}
