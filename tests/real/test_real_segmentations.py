"""Segmentations on real CT: a tilted head of uneven steps, and a scanner's phantom of three series.

dciodvfy says of both sources what it misses (an anonymiser took it); a segmentation, which carries
its source's patient, may miss no more than that.
"""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage

from ich_ray.errors import InvalidExam
from ich_ray.storage import dicom_seg
from ich_ray.storage.dicom_seg import LEVELS, Author, Header
from tests.local.segmentations import assert_lies_on, errors_of

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))
AUTHOR = Author(name="student", identity="0123456789abcdef", threshold=0.5)

pytestmark = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of real data"
)


def headers_in(folder: str) -> tuple[list[Header], list[pydicom.Dataset]]:
    """The slices of a folder that a segmentation can lie on, as read for it and by pydicom."""
    headers, images = [], []
    for path in sorted(path for path in (DATA / folder).rglob("*") if path.is_file()):
        try:
            header = dicom_seg.read_source(path.read_bytes())
        except InvalidExam:
            continue
        # A dose report is a capture marked CT.
        scout = "LOCALIZER" in header.get("ImageType", [])
        if header.SOPClassUID == CTImageStorage and not scout:
            headers.append(header)
            images.append(pydicom.dcmread(path))
    return headers, images


def bleed_on(images: list[pydicom.Dataset]) -> np.ndarray:
    """A ball of noise in the middle of each series."""
    shape = len(images), images[0].Rows, images[0].Columns
    z, y, x = np.ogrid[tuple(slice(-1, 1, 1j * size) for size in shape)]
    ball = x**2 + y**2 + z**2 < 0.3
    found: np.ndarray = ball & (np.random.default_rng(0).random(shape) > 0.3)
    return found


@pytest.mark.parametrize(
    ("folder", "sizes"), [("ge-head-tilt", [28]), ("philips-head-phantom", [4, 4, 8])]
)
def test_a_mask_lies_on_a_real_series_voxel_by_voxel(
    folder: str, sizes: list[int], tmp_path: Path
) -> None:
    headers, images = headers_in(folder)
    grids = dicom_seg.grids(headers)
    assert sorted(map(len, grids)) == sizes
    for members in grids:
        of_grid = [images[i] for i in members]
        mask = bleed_on(of_grid)
        p = np.where(mask, np.float32(0.9), np.float32(0.02))
        known = errors_of(Path(str(of_grid[0].filename)).read_bytes(), tmp_path)
        for pixels, stored in ((mask, mask), (p, np.rint(p * LEVELS))):
            data = dicom_seg.segmentation([headers[i] for i in members], pixels, AUTHOR)
            assert data is not None
            assert_lies_on(data, of_grid, stored)
            assert errors_of(data, tmp_path) <= known


def test_identifiers_of_a_competition_are_no_uids() -> None:
    path = next((DATA / "rsna" / "stage_2_test").glob("*.dcm"))
    with pytest.raises(InvalidExam, match=r"StudyInstanceUID.*no UID") as refused:
        dicom_seg.read_source(path.read_bytes())
    assert refused.value.reason == "no_identity"
