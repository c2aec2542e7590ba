import os
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut

from ich_ray.errors import InvalidExam
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import dicom
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.corpora.rsna import Rsna
from ich_ray.storage.corpus import hounsfield
from ich_ray.storage.objects import Store

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))
NAMES = Pseudonyms(PUBLIC_KEY)
PADDED_AND_REPAIRED = {
    "rsna/stage_2_train": (0, 0),
    "rsna/stage_2_test": (0, 0),
    "ge-head-tilt": (28, 0),
}

pytestmark = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of real data"
)


def outcomes(folder: Path) -> Counter[str]:
    """Count what reading every object of a folder came to."""
    found: Counter[str] = Counter()
    for item in Store(str(folder)).listing(str(folder)):
        data = Path(item.url).read_bytes()
        try:
            try:
                header = dicom.read_header(data[: dicom.HEADER_BYTES], whole=False)
            except dicom.HeaderIncomplete:
                header = dicom.read_header(data, whole=True)
            if header.role == "mask":
                dicom.read_masks(data, NAMES)
            else:
                dicom.read_slice(data, NAMES)
            found[header.role] += 1
        except InvalidExam as refusal:
            found[refusal.reason.value] += 1
    return found


def test_hostile_files_end_with_a_slice_a_mask_or_a_reason() -> None:
    found = outcomes(DATA / "odd-dicom")
    assert sum(found.values()) == 669
    assert found["slice"] == 45
    # Most of these say that an algorithm made them.
    assert (found["mask"], found["automatic_mask"]) == (2, 5)


def test_real_exams_are_read_and_their_scouts_and_reports_are_not() -> None:
    assert outcomes(DATA / "ge-head-tilt") == {"slice": 28}
    assert outcomes(DATA / "philips-head-phantom") == {"slice": 16, "localizer": 1, "document": 1}
    assert outcomes(DATA / "ct-ich-dicom") == {"not_ct": 30}


def test_every_rsna_slice_is_read_and_labelled() -> None:
    assert outcomes(DATA / "rsna" / "stage_2_test") == {"slice": 32}
    assert outcomes(DATA / "rsna" / "stage_2_train") == {"slice": 67}
    labels = Rsna().read_labels((DATA / "rsna" / "stage_2_train.csv").read_text())
    names = {path.stem for path in (DATA / "rsna" / "stage_2_train").glob("*.dcm")}
    assert set(labels) == names
    assert sum(truth.label is True for truth in labels.values()) == 50


def test_the_gantry_of_a_real_exam_is_tilted() -> None:
    item = dicom.read_slice((DATA / "ge-head-tilt" / "01.dcm").read_bytes(), NAMES)
    assert item.geometry.tilt_deg == pytest.approx(18.5, abs=0.01)


def test_every_ct_ich_slice_is_accounted_for() -> None:
    layout = CtIch()
    folder = DATA / "ct-ich-v1"
    listed = {item.key: Path(item.url) for item in Store(str(folder)).listing(str(folder))}
    roles = Counter(layout.role(key) for key in listed)
    assert roles == {"slice": 2486, "mask": 318, "labels": 1}
    labels = layout.read_labels((folder / "hemorrhage_diagnosis.csv").read_text("utf-8-sig"))
    slices = {layout.place(key).slice for key in listed if layout.role(key) == "slice"}
    masks = {layout.place(key).slice for key in listed if layout.role(key) == "mask"}
    assert len(set(labels) - slices) == 15
    assert slices <= set(labels)
    assert masks == {name for name in slices if labels[name].label}


def test_a_real_ct_ich_mask_lies_on_its_slice() -> None:
    folder = DATA / "ct-ich-v1"
    key = next(p for p in sorted(folder.glob("Patients_CT/*/brain/*_HGE_Seg.jpg")))
    relative = key.relative_to(folder).as_posix()
    ((name, mask),) = CtIch().read_masks(relative, key.read_bytes(), {}, NAMES).items()
    image = relative.replace("_HGE_Seg", "")
    (item,) = CtIch().read_slices(image, (folder / image).read_bytes(), NAMES)
    assert (item.key, item.stored.shape) == (name, mask.shape)
    assert mask.any()


@pytest.mark.parametrize("folder", ["rsna/stage_2_train", "rsna/stage_2_test", "ge-head-tilt"])
def test_hounsfield_units_are_those_of_the_standard_but_for_padding_and_repair(folder: str) -> None:
    padded = repaired = 0
    for path in sorted((DATA / folder).glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
        expected = apply_modality_lut(stored, dataset)
        hu = hounsfield(dicom.read_slice(path.read_bytes(), NAMES))
        if dataset.BitsStored == 12 and dataset.RescaleIntercept > -100:
            repaired += 1
            continue
        padding = stored == dataset.get("PixelPaddingValue", 2**20)
        padded += bool(padding.any())
        assert np.array_equal(hu[~padding], expected[~padding])
        assert (hu[padding] == -1000).all()
    assert (padded, repaired) == PADDED_AND_REPAIRED[folder]
