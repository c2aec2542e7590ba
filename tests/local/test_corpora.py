import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from ich_ray.config import CorpusConfig, NiftiConfig
from ich_ray.errors import ConfigError, InvalidExam, Reason, SurroundingsError
from ich_ray.exam import Geometry, Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage import corpus, slice_rows
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.corpora.folder import Folder
from ich_ray.storage.corpora.layout import Truth, with_truth
from ich_ray.storage.corpora.rsna import Rsna
from ich_ray.storage.layouts import layout_id, layout_of
from ich_ray.storage.objects import Store
from ich_ray.storage.part_writer import PartWriter, Planned
from ich_ray.storage.tables import commit, write_part
from tests.local.dicom_objects import PREFIX, ct_slice, segmentation, to_bytes

NAMES = Pseudonyms(PUBLIC_KEY)
NONE, EPIDURAL = (False,) * 5, (True, False, False, False, False)
PARENCHYMAL = (False, True, False, False, False)
POSITIVE = Truth(label=True, subtypes=EPIDURAL)
NEGATIVE = Truth(label=False, subtypes=NONE)
HEADER = "SOPInstanceUID,any,epidural,intraparenchymal,intraventricular,subarachnoid,subdural\n"
CT_ICH = (
    "\ufeffPatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,"
    "Subdural,No_Hemorrhage,Fracture_Yes_No\r\n"
)


def test_rsna_labels_stand_in_long_form() -> None:
    kinds = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    rows = [f"ID_a_{kind},{int(kind in ('epidural', 'any'))}" for kind in kinds]
    text = "\n".join(["ID,Label", *rows, *rows])
    assert Rsna().read_labels(text) == {"ID_a": POSITIVE}
    with pytest.raises(ConfigError, match=r"line 14 .* contradicts"):
        Rsna().read_labels(f"{text}\nID_a_any,0")
    with pytest.raises(ConfigError, match="six rows"):
        Rsna().read_labels("ID,Label\nID_a_any,0")
    with pytest.raises(ConfigError, match=r"line 2 .* no slice and type"):
        Rsna().read_labels("ID,Label\nID_a_tumor,0")


def test_rsna_objects_are_known_by_name() -> None:
    roles = [Rsna().role(key) for key in ("ID_1.dcm", "stage_2_train.csv", "notes.txt")]
    assert roles == ["object", "labels", "unknown"]


def test_folder_labels_must_be_whole_and_agree() -> None:
    rows = "1.2,1,1,0,0,0,0\n1.3,0,0,0,0,0,0\n"
    found = Folder().read_labels(HEADER + rows + "1.3,0,0,0,0,0,0\n")
    assert found == {"1.2": POSITIVE, "1.3": NEGATIVE}
    with pytest.raises(ConfigError, match=r"line 4 .* differ"):
        Folder().read_labels(f"{HEADER}{rows}1.2,0,0,0,0,0,0\n")
    with pytest.raises(ConfigError, match="lacks the columns any"):
        Folder().read_labels("SOPInstanceUID,label\n")
    with pytest.raises(ConfigError, match="0 or 1 in column any; see line 2"):
        Folder().read_labels(f"{HEADER}1.2,yes,0,0,0,0,0\n")
    with pytest.raises(ConfigError, match="breaks off in line 2"):
        Folder().read_labels(f"{HEADER}1.2,1\n")


def test_ct_ich_labels_survive_their_byte_order_mark_and_line_ends() -> None:
    found = CtIch().read_labels(f"{CT_ICH}49,1,0,0,0,0,0,1,0\r\n49,2,0,0,0,1,0,0,1\r\n")
    assert found == {"ct-ich/049/1": NEGATIVE, "ct-ich/049/2": POSITIVE}
    assert CtIch().expected_key("ct-ich/049/2") == "Patients_CT/049/brain/2.jpg"


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100)
    return stream.getvalue()


def test_ct_ich_slices_are_a_window_of_hounsfield_units() -> None:
    key = "Patients_CT/049/brain/3.jpg"
    (item,) = CtIch().read_slices(key, jpeg(np.full((8, 8), 255, np.uint8)), NAMES)
    assert corpus.hounsfield(item) == pytest.approx(100.0)
    assert (item.kind, item.center, item.width) == ("window", 40.0, 120.0)
    assert item.geometry.position_mm == 15.0
    assert item.key == NAMES.of(CtIch().place(key).slice)
    mask_key = "Patients_CT/049/brain/3_HGE_Seg.jpg"
    assert [CtIch().role(k) for k in (key, mask_key, "a.txt")] == ["slice", "mask", "unknown"]
    masks = CtIch().read_masks(mask_key, jpeg(np.full((8, 8), 200, np.uint8)), {}, NAMES)
    assert masks[item.key].all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no", Reason.UNDECODABLE_PIXELS),
        (jpeg(np.zeros((64, 64), np.uint8))[:-20], Reason.TRUNCATED_PIXELS),
        (jpeg(np.zeros((8, 8, 3), np.uint8)), Reason.NOT_AN_IMAGE),
    ],
)
def test_ct_ich_refuses_what_is_no_grey_jpeg(data: bytes, reason: Reason) -> None:
    with pytest.raises(InvalidExam) as caught:
        CtIch().read_slices("Patients_CT/049/brain/3.jpg", data, NAMES)
    assert caught.value.reason == reason


def bare(exam: str = "e", number: int = 1) -> Slice:
    return Slice(
        exam=exam,
        key=f"{exam}{number}",
        patient=f"p{exam}",
        series="s",
        stored=np.full((4, 3), number, np.int16),
        slope=2.0,
        intercept=-1.0,
        geometry=Geometry(
            position_mm=5.0 * number, spacing_mm=(0.5, 0.4), thickness_mm=None, tilt_deg=1.0
        ),
    )


def test_truth_comes_from_labels_and_masks() -> None:
    mask = np.zeros((4, 3), np.uint8)
    mask[0] = 1
    positive = with_truth(bare(), POSITIVE, 2 * mask, zeros=True)
    assert positive.mask is not None
    assert set(positive.mask.ravel()) == {0, 2}
    named = with_truth(bare(), Truth(label=True, subtypes=PARENCHYMAL), mask, zeros=True)
    assert named.mask is not None
    assert set(named.mask.ravel()) == {0, 2}
    negative = with_truth(bare(), NEGATIVE, None, zeros=True)
    assert negative.mask is not None
    assert not negative.mask.any()
    assert with_truth(bare(), POSITIVE, None, zeros=True).mask is None
    assert with_truth(bare(), Truth(), None, zeros=False).label is None
    assert with_truth(bare(), Truth(), mask, zeros=False).label is True


def made_corpus(store: Store, exams: list[list[Slice]], **changes: str) -> corpus.Corpus:
    url = corpus.slices_url(store, "c")
    part = write_part(store, url, "a", slice_rows.to_table(exams), [len(exam) for exam in exams])
    properties = {"schema_version": corpus.SCHEMA_VERSION, "kind": "hu", "key_fingerprint": "f"}
    commit(store, url, schema=corpus.SCHEMA, parts=[part], properties={**properties, **changes})
    return corpus.open_corpus(store, "c")


def test_a_corpus_gives_back_what_was_written_in_order(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    mask = np.full((4, 3), 2, np.uint8)
    truth = dataclasses.replace(bare("b", 2), label=True, subtypes=EPIDURAL, mask=mask)
    made = made_corpus(store, [[bare("a", 1)], [bare("b", 3), truth, bare("b", 9)]])
    (file,) = made.files
    first, second = corpus.read_exams(store, file)
    assert [item.key for item in first + second] == ["a1", "b2", "b3", "b9"]
    back = second[0]
    assert np.array_equal(back.stored, truth.stored)
    assert np.array_equal(back.mask, mask)
    assert (back.label, back.subtypes, back.geometry) == (True, EPIDURAL, truth.geometry)
    assert corpus.hounsfield(back)[0, 0] == 3.0
    assert (made.version, made.kind, made.num_rows, made.key_fingerprint) == (0, "hu", 4, "f")


def test_readers_take_only_what_they_need(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    labelled = dataclasses.replace(bare("b", 1), label=True, mask=np.ones((4, 3), np.uint8))
    (file,) = made_corpus(store, [[bare("a", 1)], [labelled]]).files
    read = corpus.read_exams(
        store, file, splits=lambda patient: patient == "pb", with_pixels=False, with_truth=False
    )
    ((item,),) = read
    assert (item.key, item.stored.size, item.label, item.mask) == ("b1", 0, None, None)


def test_the_index_knows_neighbours_and_gaps(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    numbers = (1, 2, 3, 7, 8)
    made = made_corpus(store, [[bare("a", 1)], [bare("b", number) for number in numbers]])
    rows = corpus.index_table(store, made).to_pylist()
    near = [(row["slice"], row["previous"], row["next"], row["group"]) for row in rows]
    assert near == [
        ("a1", None, None, 0),
        ("b1", None, "b2", 1),
        ("b2", "b1", "b3", 1),
        ("b3", "b2", None, 1),
        ("b7", None, "b8", 1),
        ("b8", "b7", None, 1),
    ]
    assert rows[0]["file"] == made.files[0]
    assert not rows[0]["has_mask"]


def test_neighbours_never_cross_series() -> None:
    bone = dataclasses.replace(bare("a", 2), series="bone")
    rows = slice_rows.to_table([[bare("a", 1), bone, bare("a", 3)]]).to_pylist()
    assert [(row["slice"], row["next"], row["neighbours"]) for row in rows] == [
        ("a2", None, 0),
        ("a1", "a3", 1),
        ("a3", None, 1),
    ]


def test_pixels_that_changed_on_disk_are_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rows = slice_rows.to_table([[bare("a", 1)]])
    index = rows.schema.get_field_index("checksum")
    rows = rows.set_column(index, "checksum", [[12345]])
    url = corpus.slices_url(store, "c")
    part = write_part(store, url, "a", rows.cast(corpus.SCHEMA), None)
    with pytest.raises(SurroundingsError, match=r"slice a1 in .*part-a\.parquet.*checksum"):
        list(corpus.read_exams(store, f"{url}/{part.path}"))


def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(ConfigError, match="corpus c has not been ingested; run ich-ray ingest"):
        corpus.open_corpus(store, "c")
    with pytest.raises(ConfigError, match="schema version 9, this version reads 3"):
        made_corpus(store, [[bare()]], schema_version="9")


def planned(path: Path, role: str, slice_id: str, truth: Truth) -> Planned:
    return Planned(
        key=path.name,
        url=str(path),
        source=NAMES.of(path.name),
        etag="1",
        size=path.stat().st_size,
        role="mask" if role == "mask" else "slice",
        patient="p",
        exam="e",
        slice=slice_id,
        truth=truth,
    )


def written_exam(
    folder: Path,
    truth_of_second: Truth,
    mask_rows: int = 8,
    change: Callable[[Dataset], None] = lambda made: None,
    layout: Folder = Folder(),  # noqa: B008  (a frozen value)
    **header: Any,
) -> tuple[list[Slice], list[tuple[str, str | None]]]:
    """Two slices, the second marked by a segmentation, which a test may change."""
    slices = [ct_slice(number, Rows=mask_rows) for number in (1, 2)]
    for image in slices:
        image.PixelData = b"\0\0" * 6 * mask_rows
    frames = np.zeros((2, mask_rows, 6), np.uint8)
    frames[1] = 1
    made = segmentation(slices, {"subdural": frames})
    change(made)
    (folder / "seg.dcm").write_bytes(to_bytes(made))
    objects = [planned(folder / "seg.dcm", "mask", "seg", Truth())]
    for number, truth in ((1, NEGATIVE), (2, truth_of_second)):
        path = folder / f"{number}.dcm"
        image = ct_slice(number, **header)
        path.write_bytes(to_bytes(image))
        objects.append(planned(path, "slice", NAMES.of(image.SOPInstanceUID), truth))
    writer = PartWriter(Store(str(folder)), "c", layout, NAMES)
    exam = writer.read_exam(objects)
    masks = [(entry.outcome, entry.reason) for entry in exam.entries if entry.role == "mask"]
    return exam.labelled_slices(layout), masks


def test_a_segmentation_marks_its_slices_and_no_others(tmp_path: Path) -> None:
    (first, second), masks = written_exam(tmp_path, Truth())
    assert masks == [("accepted", None)]
    assert first.mask is not None
    assert not first.mask.any()
    assert second.mask is not None
    assert set(second.mask.ravel()) == {5}
    assert (first.label, second.label) == (False, True)


def test_a_mask_that_contradicts_its_label_is_refused(tmp_path: Path) -> None:
    (_, second), masks = written_exam(tmp_path, NEGATIVE)
    assert masks == [("rejected", "mask_mismatch")]
    assert second.label is False


def by_an_algorithm(made: Dataset) -> None:
    made.SegmentSequence[0].SegmentAlgorithmType = "AUTOMATIC"
    made.SegmentSequence[0].SegmentAlgorithmName = "another system"


def by_an_algorithm_and_a_reader(made: Dataset) -> None:
    made.SegmentSequence[0].SegmentAlgorithmType = "SEMIAUTOMATIC"
    made.SegmentSequence[0].SegmentAlgorithmName = "another system"


def test_what_an_algorithm_has_segmented_leaves_its_slices_without_a_label(tmp_path: Path) -> None:
    (_, second), masks = written_exam(tmp_path, Truth(), change=by_an_algorithm)
    assert masks == [("rejected", "automatic_mask")]
    assert (second.mask, second.label) == (None, None)


def test_a_segmentation_that_a_reader_has_corrected_counts(tmp_path: Path) -> None:
    (_, second), masks = written_exam(tmp_path, Truth(), change=by_an_algorithm_and_a_reader)
    assert (masks, second.label) == ([("accepted", None)], True)


def test_a_corpus_may_say_that_readers_have_checked_what_an_algorithm_made(tmp_path: Path) -> None:
    layout = Folder(automatic_masks=True)
    (_, second), masks = written_exam(tmp_path, Truth(), change=by_an_algorithm, layout=layout)
    assert (masks, second.label) == ([("accepted", None)], True)


def test_the_setting_of_automatic_masks_is_part_of_what_a_corpus_is() -> None:
    plain, checked = (
        CorpusConfig(layout="folder", source="data", automatic_masks=value)
        for value in (False, True)
    )
    assert layout_id(plain) == "folder"
    assert layout_id(checked) != layout_id(plain)
    assert layout_of(checked) == Folder(automatic_masks=True)
    with pytest.raises(ConfigError, match="layout nifti does not have"):
        dataclasses.replace(checked, layout="nifti", nifti=NiftiConfig(image="{patient}.nii"))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    (_, second), masks = written_exam(tmp_path, POSITIVE, mask_rows=16)
    assert masks == [("rejected", "mask_mismatch")]
    assert second.mask is None


def moved(group: str, keyword: str, values: list[float]) -> Callable[[Dataset], None]:
    """Give the frames of a segmentation another value, wherever it stands."""

    def change(made: Dataset) -> None:
        functional = (*made.PerFrameFunctionalGroupsSequence, *made.SharedFunctionalGroupsSequence)
        holders = [item for item in functional if group in item]
        assert holders
        for item in holders:
            setattr(item[group][0], keyword, values)

    return change


def in_another_frame(made: Dataset) -> None:
    made.FrameOfReferenceUID = f"{PREFIX}.2.9"


POSITION = ("PlanePositionSequence", "ImagePositionPatient")
ELSEWHERE: dict[str, Callable[[Dataset], None]] = {
    "another frame of reference": in_another_frame,
    "the slice below": moved(*POSITION, [0.0, 0.0, 5.0]),
    "a pixel to the left": moved(*POSITION, [0.25, 0.0, 10.0]),
    "a third of a pixel to the back": moved(*POSITION, [0.0, 0.1, 10.0]),
    "seen from the feet": moved(
        "PlaneOrientationSequence", "ImageOrientationPatient", [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    ),
    "coarser pixels": moved("PixelMeasuresSequence", "PixelSpacing", [1.0, 0.5]),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_segmentation_that_lies_elsewhere_than_its_slices_is_refused(
    tmp_path: Path, name: str
) -> None:
    (_, second), masks = written_exam(tmp_path, Truth(), change=ELSEWHERE[name])
    assert masks == [("rejected", "mask_mismatch")]
    assert (second.mask, second.label) == (None, None)


@pytest.mark.parametrize("silent", ["FrameOfReferenceUID", "ImagePositionPatient", None])
def test_a_segmentation_lies_on_slices_that_say_nothing_else(
    tmp_path: Path, silent: str | None
) -> None:
    header = {} if silent is None else {silent: None}
    # As a program writes it that computes the places anew.
    near = moved(*POSITION, [0.01, -0.01, 10.01])
    (_, second), masks = written_exam(tmp_path, Truth(), change=near, **header)
    assert masks == [("accepted", None)]
    assert second.label is True
    assert second.mask is not None
    assert second.mask.all()


def test_a_spacing_of_three_numbers_is_a_bad_header(tmp_path: Path) -> None:
    change = moved("PixelMeasuresSequence", "PixelSpacing", [0.5, 0.25, 5.0])
    _, masks = written_exam(tmp_path, Truth(), change=change)
    assert masks == [("rejected", "bad_header")]
