import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ich_ray.errors import InvalidExam
from ich_ray.exam import Slice
from ich_ray.exam_rules import of_exam
from ich_ray.findings import Finding
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.slice_facts import SliceFacts, facts_of, image_fingerprint
from ich_ray.storage import dicom
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.corpora.layout import with_truth
from ich_ray.storage.corpus import hounsfield

DATA = Path(os.environ.get("ICH_RAY_REAL_DATA", ""))
NAMES = Pseudonyms(PUBLIC_KEY)

pytestmark = pytest.mark.skipif(
    "ICH_RAY_REAL_DATA" not in os.environ, reason="ICH_RAY_REAL_DATA names no folder of real data"
)


def dicom_slices(folder: Path) -> Iterator[Slice]:
    """Yield the slices of a folder; what is none is left out."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            yield dicom.read_slice(path.read_bytes(), NAMES)
        except InvalidExam:
            continue


def findings_of(slices: Iterator[Slice]) -> list[Finding]:
    """Apply the rules, an exam at a time."""
    exams: dict[str, list[SliceFacts]] = defaultdict(list)
    for item in slices:
        exams[item.exam].append(facts_of(item, hounsfield(item)))
    return [finding for exam in exams.values() for finding in of_exam("c", exam)]


def exams_by_oddity(findings: list[Finding]) -> dict[str, int]:
    return dict(Counter(finding.oddity.value for finding in findings))


def ct_ich_slices() -> Iterator[Slice]:
    """Yield CT-ICH's slices with labels and masks, as its ingest does."""
    layout, folder = CtIch(), DATA / "ct-ich-v1"
    labels = layout.read_labels((folder / "hemorrhage_diagnosis.csv").read_text("utf-8-sig"))
    for path in sorted(folder.glob("Patients_CT/*/brain/*.jpg")):
        key = path.relative_to(folder).as_posix()
        if layout.role(key) != "slice":
            continue
        drawn = path.with_name(f"{path.stem}_HGE_Seg.jpg")
        (bare,) = layout.read_slices(key, path.read_bytes(), NAMES)
        mask = None
        if drawn.exists():
            name = drawn.relative_to(folder).as_posix()
            found = layout.read_masks(name, drawn.read_bytes(), {bare.key: bare}, NAMES)
            (mask,) = found.values()
        place = layout.place(key)
        assert place is not None
        truth = labels[place.slice]
        yield with_truth(bare, truth, mask, zeros=truth.label is False)


def test_ct_ich_lacks_spacing_everywhere_and_slices_in_the_middle_of_some_exams() -> None:
    folder = DATA / "ct-ich-v1"
    with (folder / "hemorrhage_diagnosis.csv").open(encoding="utf-8-sig") as stream:
        rows = [
            (int(row["PatientNumber"]), int(row["SliceNumber"])) for row in csv.DictReader(stream)
        ]
    gaps = 0
    for patient in {patient for patient, _ in rows}:
        images = (folder / "Patients_CT" / f"{patient:03d}" / "brain").glob("*.jpg")
        there = sorted(int(path.stem) for path in images if path.stem.isdigit())
        gaps += bool(np.any(np.diff(there) > 1))
    found = exams_by_oddity(findings_of(ct_ich_slices()))
    assert found == {"no_spacing": 82, "other_matrix": 82, "gap": gaps}
    assert gaps == 13


def test_rsna_slices_have_the_ranges_that_their_files_have() -> None:
    low, high = [], []
    folder = DATA / "rsna" / "stage_2_train"
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        low.append(hu.min())
        high.append(hu.max())
    found = findings_of(dicom_slices(folder))
    named = exams_by_oddity(found)
    assert named["beyond_scale"] == sum(value > 4095 for value in high) == 4
    assert named["below_air"] == sum(value < -4096 for value in low) == 1
    assert not {"no_bone", "no_air", "blank", "no_position", "other_matrix"} & set(named)
    (wrapped,) = [f for f in found if f.oddity == "below_air"]
    assert wrapped.detail == f"down to {min(low):g} HU"
    # Two slices of one exam are here, the others of single ones.
    assert named["single_slice"] == 65


def test_the_tilted_ge_head_shows_its_steps_and_thicknesses() -> None:
    found = findings_of(dicom_slices(DATA / "ge-head-tilt"))
    details = {finding.oddity.value: finding.detail for finding in found}
    assert details == {
        "tilted": "18.5 degrees",
        "mixed_thickness": "4 to 7 mm",
        "uneven_steps": "1.081 to 6.999 mm, usually 4.002 mm",
    }


def test_the_series_of_a_head_phantom_are_judged_apart() -> None:
    assert findings_of(dicom_slices(DATA / "philips-head-phantom")) == []


def test_a_complete_rsna_exam_is_tilted_and_nothing_else() -> None:
    found = findings_of(dicom_slices(DATA / "rsna" / "stage_2_test"))
    assert exams_by_oddity(found) == {"tilted": 1}


def test_a_real_image_has_one_fingerprint_in_every_lossless_encoding() -> None:
    lossless = ("1.2", "1.2.1", "1.2.1.99", "1.2.2", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90")
    lossless += ("1.2.5",)
    folder = DATA / "odd-dicom" / "cornerstone_ts"
    images = {path.stem.partition("1.2.840.10008.")[2]: path for path in folder.glob("*.dcm")}
    found = {}
    for syntax in (*lossless, "1.2.4.81"):
        item = dicom.read_slice(images[syntax].read_bytes(), NAMES)
        found[syntax] = image_fingerprint(hounsfield(item))
    assert len({found[syntax] for syntax in lossless}) == 1
    assert found["1.2.4.81"] != found["1.2"]


def test_real_slices_are_all_different_and_the_same_when_turned() -> None:
    items = list(dicom_slices(DATA / "rsna"))
    fingerprints = [image_fingerprint(hounsfield(item)) for item in items]
    assert len(set(fingerprints)) == len(items) == 99
    for item, fingerprint in zip(items[:20], fingerprints, strict=False):
        turned = np.ascontiguousarray(np.rot90(hounsfield(item)[::-1]))
        assert image_fingerprint(turned) == fingerprint
