import csv
import io
import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from ich_ray.errors import ConfigError
from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.phantom import SITES, PhantomExam, make_exam
from ich_ray.storage.phantom_dicom import (
    PhantomCorpus,
    dicom_objects,
    write_corpus,
    write_exams,
    write_manifest,
)

SMALL = {"matrix": 64, "num_slices": 8}

# Must have a value, or must at least be present: DICOM PS3.3 A.3 (CT Image IOD).
TYPE_1 = (
    *("ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID"),
    *("SeriesInstanceUID", "FrameOfReferenceUID", "PixelSpacing", "ImageOrientationPatient"),
    *("ImagePositionPatient", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleIntercept", "RescaleSlope", "PatientID", "Manufacturer", "ConvolutionKernel"),
    *("WindowCenter", "WindowWidth"),
)
TYPE_2 = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("ReferringPhysicianName", "AccessionNumber", "SeriesNumber", "InstanceNumber"),
    *("SliceThickness", "PositionReferenceIndicator", "KVP", "AcquisitionNumber"),
)


def first_bleeding(site: str) -> PhantomExam:
    exams = (make_exam(SITES[site], seed=1, index=index, **SMALL) for index in range(20))
    return next(exam for exam in exams if exam.mask.any())


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("site", sorted(SITES))
def test_hounsfield_units_survive_dicom(site: str) -> None:
    exam = first_bleeding(site)
    images = [pydicom.dcmread(io.BytesIO(data)) for name, data in dicom_objects(exam)][:8]
    hu = [i.pixel_array * np.float32(i.RescaleSlope) + i.RescaleIntercept for i in images]
    assert (np.stack(hu) == exam.hounsfield).all()
    assert [image.SOPInstanceUID for image in images] == list(exam.sop_uids)
    for image, position in zip(images, exam.positions_mm, strict=True):
        assert list(map(float, image.ImagePositionPatient)) == position.tolist()
        assert list(map(float, image.ImageOrientationPatient)) == pytest.approx(
            exam.orientation, abs=1e-7
        )
        assert tuple(map(float, image.PixelSpacing)) == exam.spacing_mm
        assert image.SliceThickness == 5
        assert image.PixelRepresentation == int(SITES[site].signed)


@pytest.mark.parametrize("site", sorted(SITES))
def test_the_mask_survives_dicom_seg(site: str) -> None:
    exam = first_bleeding(site)
    objects = dict(dicom_objects(exam))
    segmentation = hd.seg.segread(io.BytesIO(objects[f"{exam.exam}/seg.dcm"]))
    planes = segmentation.get_pixels_by_source_instance(
        list(exam.sop_uids), ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    mask = np.zeros(exam.mask.shape, np.uint8)
    for number in segmentation.segment_numbers:
        label = segmentation.get_segment_description(number).segment_label
        mask[planes[..., number - 1] > 0] = HEMORRHAGE_TYPES.index(label) + 1
    assert (mask == exam.mask).all()


def test_required_attributes_have_values() -> None:
    exam = first_bleeding("a")
    _, data = next(dicom_objects(exam))
    image = pydicom.dcmread(io.BytesIO(data))
    for keyword in TYPE_1:
        assert image[keyword].value not in ("", None), keyword
    for keyword in TYPE_2:
        assert keyword in image
    assert image.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


def test_the_same_exam_is_the_same_bytes() -> None:
    exam = first_bleeding("b")
    assert list(dicom_objects(exam)) == list(dicom_objects(exam))


def test_labels_are_those_of_the_masks(tmp_path: Path) -> None:
    corpus = PhantomCorpus(site="b", seed=1, num_exams=4, **SMALL)
    assert write_corpus(str(tmp_path), corpus) == 4
    table = csv.DictReader((tmp_path / "labels.csv").read_text().splitlines())
    rows = {row["SOPInstanceUID"]: row for row in table}
    assert len(rows) == 4 * 8
    for index in range(4):
        exam = make_exam(SITES["b"], seed=1, index=index, **SMALL)
        assert (tmp_path / exam.exam / "seg.dcm").exists() == exam.mask.any()
        for sop_uid, types in zip(exam.sop_uids, exam.subtypes, strict=True):
            row = rows[sop_uid]
            assert [row[name] == "1" for name in HEMORRHAGE_TYPES] == types.tolist()
            assert (row["any"] == "1") == types.any()


def test_an_unlabelled_corpus_gives_nothing_away(tmp_path: Path) -> None:
    corpus = PhantomCorpus(site="c", seed=1, num_exams=3, labelled=False, **SMALL)
    write_corpus(str(tmp_path), corpus)
    names = set(content(tmp_path))
    assert len(names) == 3 * 8 + 1
    assert not any(name.endswith(("seg.dcm", "labels.csv")) for name in names)


def test_the_number_of_processes_changes_no_byte(tmp_path: Path) -> None:
    corpus = PhantomCorpus(site="a", seed=1, num_exams=4, first_index=2, **SMALL)
    write_corpus(str(tmp_path / "one"), corpus)
    parts = [write_exams(str(tmp_path / "two"), corpus, part) for part in ([5, 3], [2, 4])]
    write_manifest(str(tmp_path / "two"), corpus, [exam for part in parts for exam in part])
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    corpus = PhantomCorpus(site="a", seed=1, num_exams=2, **SMALL)
    write_corpus(str(tmp_path), corpus)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_corpus(str(tmp_path), corpus) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    corpus = PhantomCorpus(site="a", seed=1, num_exams=2, **SMALL)
    write_exams(str(tmp_path), corpus, [0])
    assert write_corpus(str(tmp_path), corpus) == 2
    listed = json.loads((tmp_path / "phantom.json").read_text())["files"]
    assert {*listed, "phantom.json"} == set(content(tmp_path))


def test_a_folder_of_another_corpus_is_refused(tmp_path: Path) -> None:
    write_corpus(str(tmp_path), PhantomCorpus(site="a", seed=1, num_exams=1, **SMALL))
    with pytest.raises(ConfigError, match=r"holds another corpus of phantoms.*choose another"):
        write_corpus(str(tmp_path), PhantomCorpus(site="a", seed=2, num_exams=1, **SMALL))


def test_a_manifest_needs_all_exams(tmp_path: Path) -> None:
    corpus = PhantomCorpus(site="a", seed=1, num_exams=2, **SMALL)
    with pytest.raises(ConfigError, match=r"1 are missing .*\[0\].* before the manifest"):
        write_manifest(str(tmp_path), corpus, write_exams(str(tmp_path), corpus, [1]))


def test_an_unknown_site_is_refused() -> None:
    with pytest.raises(ConfigError, match="no site 'd'; choose one of a, b, c"):
        PhantomCorpus(site="d", seed=1, num_exams=1)
