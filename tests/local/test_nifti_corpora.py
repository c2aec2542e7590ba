"""The settings of experiments/public_nifti.toml on small copies of the corpora they describe."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ich_ray.config import CorpusConfig, NiftiConfig, Settings
from ich_ray.errors import ConfigError
from ich_ray.exam import Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Entry, first_by_key
from ich_ray.settings import parse
from ich_ray.storage import corpus, ledger
from ich_ray.storage.corpora.ct_ich import CtIch
from ich_ray.storage.layouts import layout_id
from ich_ray.storage.source import Source, open_source
from ich_ray.storage.source_labels import missing, read_labels
from ich_ray.storage.urls import join
from tests.local.nifti_corpora import (
    head,
    image_of,
    marks,
    save,
    write_bhsd,
    write_ct_ich,
    write_instance22,
    write_seg_cq500,
)

NAMES = Pseudonyms(PUBLIC_KEY)
PRESETS = Path(__file__).parents[2] / "experiments" / "public_nifti.toml"


def opened(name: str, folder: Path) -> Source:
    """The source of a preset, from a folder."""
    overrides = (f'store.root="{folder}/store"', f'corpora.{name}.source="{folder}/source"')
    settings = parse(Settings, PRESETS.read_text(), overrides)
    return open_source(settings, name, NAMES)


def written(source: Source) -> tuple[dict[str, Slice], list[Entry]]:
    """Write one part of a whole source, in this process, and read it back."""
    labels = read_labels(source)
    first, duplicates = first_by_key(source.placed_by_key(source.new), known=set())
    assert duplicates == []
    planned = [labels.on(item) for item in first]
    finished = source.part_writer.write("p", planned)
    assert finished.part is not None
    url = join(corpus.slices_url(source.store, source.corpus), finished.part.path)
    slices = {s.key: s for exam in corpus.read_exams(source.store, url) for s in exam}
    found = {n for e in finished.entries for n in (e.slice, e.exam) if n is not None}
    absent, _ = missing(source, labels, found)
    entries = [*source.known_by_key(), *finished.entries, *absent]
    assert finished.labelled == sum(s.subtypes is not None for s in slices.values())
    return slices, entries


def outcomes(entries: list[Entry]) -> list[tuple[str, str, str | None]]:
    return sorted((e.role, e.outcome, e.reason) for e in entries)


def planes(slices: dict[str, Slice], exam: str) -> list[Slice]:
    """The slices of an exam by position."""
    found = [s for s in slices.values() if s.exam == NAMES.of(exam)]
    return sorted(found, key=lambda s: s.geometry.position_mm or 0.0)


def test_ct_ich_131_has_the_identifiers_of_version_1_0_0(tmp_path: Path) -> None:
    write_ct_ich(tmp_path / "source")
    slices, entries = written(opened("ct_ich_131", tmp_path))
    assert outcomes(entries) == [
        ("labels", "accepted", None),
        *[("mask", "accepted", None)] * 2,
        *[("slice", "accepted", None)] * 2,
        ("unknown", "rejected", "unknown_file"),  # the demographics
    ]
    place = CtIch().place("Patients_CT/049/brain/2.jpg")
    assert place is not None
    second = slices[NAMES.of(place.slice)]
    assert (second.patient, second.exam) == (NAMES.of(place.patient), NAMES.of(place.exam))
    assert (second.label, second.subtypes) == (True, (False, True, False, False, False))
    assert second.mask is not None
    # Binary masks take the one type that the labels name.
    assert np.array_equal(second.mask, 2 * marks()[:, :, 1].T)
    first = planes(slices, place.exam)
    assert [s.label for s in first] == [False, True, True, False]
    assert np.array_equal(np.stack([corpus.hounsfield(s) for s in first]), head(49).T)
    assert [s.previous for s in first] == [None, *(s.key for s in first[:-1])]


def test_bhsd_has_five_classes_and_patients_of_rsna(tmp_path: Path) -> None:
    write_bhsd(tmp_path / "source")
    slices, entries = written(opened("bhsd", tmp_path))
    assert {(e.outcome) for e in entries} == {"accepted"}
    for exam, patient, value in (("ID_1b", "ID_0a", 2), ("ID_2d", "ID_0c", 3)):
        found = planes(slices, exam)
        mask = marks(value)
        mask[9, 1, 2] = 5
        assert {s.patient for s in found} == {NAMES.of(patient)}
        assert np.array_equal(np.stack([s.mask for s in found if s.mask is not None]), mask.T)
        assert [s.label for s in found] == [False, True, True, False]


def test_seg_cq500_and_instance22_are_binary(tmp_path: Path) -> None:
    for name, write, exam, seed in (
        ("seg_cq500", write_seg_cq500, "CQ500-CT-7/exam", 7),
        ("instance22", write_instance22, "instance22/001/exam", 22),
    ):
        write(tmp_path / name / "source")
        slices, _ = written(opened(name, tmp_path / name))
        found = planes(slices, exam)
        assert np.array_equal(np.stack([corpus.hounsfield(s) for s in found]), head(seed).T)
        assert np.array_equal(np.stack([s.mask for s in found if s.mask is not None]), marks().T)


def broken(change: Callable[[Path], None], tmp_path: Path) -> tuple[dict[str, Slice], list[Entry]]:
    write_ct_ich(tmp_path / "source")
    change(tmp_path / "source")
    return written(opened("ct_ich_131", tmp_path))


def labels_of(folder: Path, *lines: str) -> None:
    """Add rows to the table, before its last line of blanks."""
    table = folder / "hemorrhage_diagnosis_raw_ct.csv"
    table.write_text(table.read_text() + "\n" + "\n".join(lines))


def test_a_label_without_its_slice_is_missing_once_an_object(tmp_path: Path) -> None:
    def extra(folder: Path) -> None:
        # A slice that the volume lacks, and two of a volume that is absent.
        labels_of(folder, "49,9,0,0,0,0,0,1,0,,", *(f"70,{n},0,0,0,0,0,1,0,," for n in (1, 2)))

    _, entries = broken(extra, tmp_path)
    missing = [e.source for e in entries if e.reason == "missing"]
    assert sorted(missing) == sorted([NAMES.of("ct-ich/049/9"), NAMES.of("ct_scans/070.nii")])
    ledger.to_table(entries)


def test_a_volume_without_labels_takes_them_from_its_mask(tmp_path: Path) -> None:
    def unlabelled(folder: Path) -> None:
        table = folder / "hemorrhage_diagnosis_raw_ct.csv"
        rows = [row for row in table.read_text().splitlines() if not row.startswith("66,")]
        table.write_text("\n".join(rows))

    slices, _ = broken(unlabelled, tmp_path)
    assert [(s.label, s.subtypes) for s in planes(slices, "ct-ich/066/exam")] == [(False, None)] * 4


def test_a_mask_that_does_not_fit_leaves_its_exam_without_masks(tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        save(image_of(marks()[:, :, :3]), folder / "masks" / "049.nii")

    slices, entries = broken(cut, tmp_path)
    assert ("mask", "rejected", "mask_mismatch") in outcomes(entries)
    found = planes(slices, "ct-ich/049/exam")
    assert [s.label for s in found] == [False, True, True, False]
    assert [s.mask is None for s in found] == [False, True, True, False]


def test_a_mask_on_a_negative_slice_is_refused(tmp_path: Path) -> None:
    def contradict(folder: Path) -> None:
        mask = marks()
        mask[4, 4, 0] = 1
        save(image_of(mask), folder / "masks" / "049.nii")

    _, entries = broken(contradict, tmp_path)
    assert ("mask", "rejected", "mask_mismatch") in outcomes(entries)


def test_an_image_that_cannot_be_read_takes_only_its_own_exam(tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        path = folder / "ct_scans" / "049.nii"
        path.write_bytes(path.read_bytes()[:-1])

    slices, entries = broken(spoil, tmp_path)
    assert {s.exam for s in slices.values()} == {NAMES.of("ct-ich/066/exam")}
    assert ("slice", "rejected", "truncated_pixels") in outcomes(entries)
    assert ("mask", "rejected", "mask_without_slice") in outcomes(entries)
    # Its labels have an object: they are not missing.
    assert not [e for e in entries if e.reason == "missing"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("49,1,0,1,0,0,0,0,0,,", r"line 3[0-9]* and an earlier one name the same slice and differ"),
        ("67,1,0,1,0,0,0,1,0,,", "names a subtype on a slice that it says has no hemorrhage"),
        ("x,1,0,0,0,0,0,1,0,,", "whole numbers in column PatientNumber; see line"),
        ("67,1.5,0,0,0,0,0,1,0,,", "whole numbers in column SliceNumber; see line"),
        ("67,1,0,2,0,0,0,1,0,,", "0 or 1 in column Intraparenchymal; see line"),
        ("67,1,0,0,0,0,0,1,0,,,stray", "more cells than the header"),
        ("67,1,0,0,0,0", "breaks off in line"),
    ],
)
def test_labels_that_cannot_be_believed_stop_before_anything_is_read(
    row: str, message: str, tmp_path: Path
) -> None:
    write_ct_ich(tmp_path / "source")
    labels_of(tmp_path / "source", row)
    with pytest.raises(ConfigError, match=message.replace("3[0-9]*", "[0-9]+")):
        read_labels(opened("ct_ich_131", tmp_path))


def test_rows_repeated_in_agreement_count_once(tmp_path: Path) -> None:
    write_ct_ich(tmp_path / "source")
    before = read_labels(opened("ct_ich_131", tmp_path)).truths
    labels_of(tmp_path / "source", "49,1,0,0,0,0,0,1,0,,", "66.0,2.0,0,0,0,0,0,1,0,,")
    assert read_labels(opened("ct_ich_131", tmp_path)).truths == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "ct/049.nii"}, "nifti.image must hold {patient}, {exam} or both"),
        ({"image": "ct/{name}.nii"}, "nifti.image must hold {patient}, {exam} or both"),
        ({"image": "ct/{exam.nii"}, "cannot be read"),
        ({"image": "{exam}.nii", "mask": "{patient}.nii"}, "the same names in braces"),
        ({"image": "{exam}.nii", "labels": "ct_ich"}, "must hold {patient} alone"),
        ({"image": "{exam}.nii", "mask_values": {"-1": "any"}}, "whole numbers from 1 to 255"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NiftiConfig(**changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"layout nifti needs nifti\.image"):
        CorpusConfig(layout="nifti", source="x")


def test_other_mask_values_make_another_corpus() -> None:
    def made(**changes: object) -> str:
        nifti = NiftiConfig(image="{exam}.nii", **changes)  # type: ignore[arg-type]
        return layout_id(CorpusConfig(layout="nifti", source="x", nifti=nifti))

    ids = {made(), made(mask_values={"1": "subdural"}), made(prefix="a/"), made(mask="{exam}m.nii")}
    assert len(ids) == 4
    assert made(mask_values={"1": "subdural"}) in ids
