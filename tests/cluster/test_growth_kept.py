"""Growth where something is gone, and ingests that die or meet others between their commits."""

from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import ich_ray.distributed.ingest as stage
from ich_ray.config import NiftiConfig
from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.storage import ingest_log
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, open_table, read_rows
from tests.cluster.growing_sources import HEADER
from tests.cluster.test_ingest import NAMES, add_exam, entries_in, rows_of, run, settings_of
from tests.local.cq500_copy import boxes, instance, reads, write_cq500
from tests.local.dicom_objects import PREFIX, ct_slice, to_bytes
from tests.local.nifti_corpora import SHAPE, head, image_of, marks, save

pytestmark = pytest.mark.usefixtures("ray_cluster")
TABLES = ("series", "reads", "boxes", "slices")
BOXES = "3_Extrapolation_to_Selected_Series.csv"


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "test")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def tables_in(store: Store) -> dict[str, list[str]]:
    found = {}
    for name in (*TABLES, "ledger"):
        table = open_table(store, store.url("corpora", "c", name))
        rows = [] if table is None else read_rows(store, table).to_pylist()
        found[name] = sorted(map(repr, rows))
    return found


def cq500_that_grew(source: Path) -> None:
    """One exam more, one box more, and what readers say of it."""
    image = ct_slice(1, "55", SeriesInstanceUID="1.2.3", PatientID="CQ500-CT-5")
    place = source / "qct02" / "CQ500CT5 CQ500CT5" / "Unknown Study" / "CT Plain"
    place.mkdir(parents=True)
    (place / "CT000001.dcm").write_bytes(to_bytes(image))
    votes = {0: (1, 1, 0), 1: (0, 0, 1), 3: (0, 0, 0), 9: (1, 1, 1), 5: (1, 1, 1)}
    (source / "reads.csv").write_text(reads(votes))
    (source / BOXES).write_text(boxes(instance(0, 1, 11), "extrapolated", index=True))


@pytest.mark.parametrize("dies_at", TABLES)
def test_an_ingest_that_died_between_two_commits_is_ended_by_the_next(
    dies_at: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    write_cq500(source)
    settings = settings_of(str(source), store, layout="cq500", max_rejected_share=1.0)
    run(settings)
    cq500_that_grew(source)
    before = tables_in(store)

    def dies(store: Store, url: str, **given: Any) -> int:
        if url.endswith(f"/{dies_at}"):
            raise KeyboardInterrupt
        return commit(store, url, **given)

    with monkeypatch.context() as patch:
        patch.setattr(ingest_log, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    died = tables_in(store)
    assert died["ledger"] != before["ledger"]
    later = TABLES[TABLES.index(dies_at) :]
    assert all((died[name] == before[name]) == (name in later) for name in TABLES)
    assert run(settings).up_to_date
    at_once = Store(str(tmp_path / "at once"))
    run(settings_of(str(source), at_once, layout="cq500", max_rejected_share=1.0))
    now, expected = tables_in(store), tables_in(at_once)
    assert {name: now[name] for name in TABLES} == {name: expected[name] for name in TABLES}


def test_slices_that_another_run_commits_while_a_run_opens_its_tables_are_not_lost(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    add_exam(source, "1")
    settings = settings_of(str(source), store)
    run(settings)
    add_exam(source, "2")
    with monkeypatch.context() as patch:
        patch.setattr(ingest_log, "settle", lambda *_: None)
        run(settings)
    add_exam(source, "3")
    open_source = stage.open_source

    def as_the_other_ends(*given: Any) -> Any:
        monkeypatch.setattr(stage, "open_source", open_source)
        opened = open_source(*given)
        opened.settle()
        return opened

    monkeypatch.setattr(stage, "open_source", as_the_other_ends)
    assert run(settings).version == 2
    assert Counter(row["patient"] for row in rows_of(store)) == {
        NAMES.of(f"patient {exam}"): 3 for exam in (1, 2, 3)
    }


def test_a_gone_slice_of_an_averaged_exam_that_grows_is_an_error(
    store: Store, tmp_path: Path
) -> None:
    def add(*numbers: int) -> None:
        for number in numbers:
            thin = {"ImagePositionPatient": [0.0, 0.0, 1.25 * number], "SliceThickness": 1.25}
            (tmp_path / "source" / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, **thin)))

    (tmp_path / "source").mkdir()
    add(*range(1, 9))
    settings = settings_of(str(tmp_path / "source"), store, average_to_mm=5.0)
    run(settings)
    before = rows_of(store)
    assert len(before) == 2
    # The first of an average, whose name the average has.
    (tmp_path / "source" / "1.dcm").unlink()
    add(9)
    with pytest.raises(SurroundingsError, match=r"1 objects of exam \w+ of corpus c are gone"):
        run(settings)
    assert rows_of(store) == before
    add(1)
    run(settings)
    assert len(rows_of(store)) == 3


def test_labels_that_come_later_reach_averages(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(1, 9):
        thin = {"ImagePositionPatient": [0.0, 0.0, 1.25 * number], "SliceThickness": 1.25}
        (tmp_path / "source" / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, **thin)))
    settings = settings_of(str(tmp_path / "source"), store, average_to_mm=5.0)
    run(settings)
    assert {row["label"] for row in rows_of(store)} == {None}
    labels = [f"{PREFIX}.1.{n},{int(n == 7)},{int(n == 7)},0,0,0,0" for n in range(1, 9)]
    (tmp_path / "source" / "labels.csv").write_text("\n".join([HEADER, *labels]))
    assert run(settings).exams_anew == 1
    assert [row["label"] for row in rows_of(store)] == [False, True]


def test_a_volume_that_is_gone_takes_no_new_mask(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    save(image_of(head()), source / "ct" / "1.nii")
    save(image_of(head(1)), source / "ct" / "2.nii")
    nifti = NiftiConfig(image="ct/{patient}.nii", mask="masks/{patient}.nii")
    settings = settings_of(str(source), store, layout="nifti", nifti=nifti)
    run(settings)
    (source / "ct" / "1.nii").unlink()
    save(image_of(marks()), source / "masks" / "1.nii")
    with pytest.raises(SurroundingsError, match=r"are gone from the source, .* again$"):
        run(settings)
    assert len(rows_of(store)) == 2 * SHAPE[2]
    (source / "masks" / "1.nii").unlink()
    assert run(settings).up_to_date


def test_a_gone_mask_holds_its_series_against_a_better_one(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    add_exam(source, "2", bleeds=True)
    # Labels would hold it too.
    (source / "labels.csv").unlink()
    settings = settings_of(str(source), store, max_rejected_share=1.0)
    run(settings)
    before = rows_of(store)
    (source / "2" / "seg.dcm").unlink()
    for number in range(11, 21):
        other = ct_slice(number, "2", SeriesInstanceUID=f"{PREFIX}.2.5", SliceThickness=5.0)
        (source / "2" / f"{number}.dcm").write_bytes(to_bytes(other))
    assert run(settings).rejected == {"other_series": 10}
    assert rows_of(store) == before


def test_slices_that_lose_their_series_to_a_better_one_are_told(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in (1, 2, 3):
        (source / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number)))
    settings = settings_of(str(source), store)
    run(settings)
    for number in range(11, 21):
        other = ct_slice(number, SeriesInstanceUID="1.2.3", SliceThickness=5.0)
        (source / f"{number}.dcm").write_bytes(to_bytes(other))
    summary = run(settings)
    assert (summary.accepted_slices, summary.rejected) == (10, {"other_series": 3})


def test_labels_of_a_slice_that_is_gone_are_refused(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in (1, 2, 3):
        (source / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number)))
    settings = settings_of(str(source), store)
    run(settings)
    (source / "2.dcm").unlink()
    (source / "labels.csv").write_text(f"{HEADER}\n{PREFIX}.1.2,0,0,0,0,0,0\n")
    with pytest.raises(ConfigError, match=r"labels came for 1 slices of corpus c .* put the obj"):
        run(settings)
    (source / "2.dcm").write_bytes(to_bytes(ct_slice(2)))
    run(settings)
    assert [row["label"] for row in rows_of(store)] == [None, False, None]


def test_boxes_of_a_table_that_is_gone_are_kept(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_cq500(source)
    settings = settings_of(str(source), store, layout="cq500", max_rejected_share=1.0)
    run(settings)
    by_hand = source / "1_Initial_Manual_Labeling.csv"
    first = by_hand.read_text()
    by_hand.unlink()
    more = source / "2_Extrapolation_to_All_Series.csv"
    more.write_text(boxes(instance(0, 1, 11), "extrapolated", index=False))
    assert run(settings).gone == 1
    assert len(tables_in(store)["boxes"]) == 3
    more.write_text(boxes(instance(0, 1, 12), "extrapolated", index=False))
    with pytest.raises(SurroundingsError, match="a table of boxes of corpus c changed, and anothe"):
        run(settings)
    by_hand.write_text(first)
    run(settings)
    assert len(tables_in(store)["boxes"]) == 3


def test_boxes_that_cannot_be_read_are_named_before_anything_is(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    write_cq500(source)
    (source / BOXES).write_text(boxes("1.2.3", "extrapolated", index=True).replace("'x'", "'a'"))
    told: list[str] = []
    settings = settings_of(str(source), store, layout="cq500")
    with pytest.raises(ConfigError, match=rf"c, object {NAMES.of(BOXES)}: line 2 of the boxes"):
        run(settings, progress=told.append)
    assert told == []


def save_mask(path: Path) -> None:
    mask = np.zeros((6, 8, 3), np.uint8)
    mask[1, 2:5, 1] = 1
    affine = np.diag([-0.25, -0.5, 5.0, 1.0])
    affine[2, 3] = 5.0
    save(nibabel.Nifti1Image(mask, affine), path)


def test_a_mask_whose_slices_are_gone_stays_with_them(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_mask(source / "a" / "mask.nii")
    for number in (1, 2, 3):
        (source / "a" / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, "1")))
    settings = settings_of(str(source), store)
    run(settings)
    before = rows_of(store)
    for number in (1, 2, 3):
        (source / "a" / f"{number}.dcm").unlink()
        (source / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, "2")))
    run(settings)
    assert [row for row in rows_of(store) if row["patient"] == NAMES.of("patient 1")] == before
    assert [row["mask"] for row in rows_of(store) if row not in before] == [None] * 3


def test_a_mask_goes_to_the_exam_that_came_to_lie_beside_it(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_mask(source / "a" / "mask.nii")
    for number in (1, 2, 3):
        (source / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, "1")))
    settings = settings_of(str(source), store)
    run(settings)
    assert sum(sum(row["mask"]) for row in rows_of(store)) == 3
    for number in (1, 2, 3):
        (source / "a" / f"{number}.dcm").write_bytes(to_bytes(ct_slice(number, "2")))
    assert run(settings).accepted_slices == 6
    marked = {row["patient"] for row in rows_of(store) if row["mask"] is not None}
    assert marked == {NAMES.of("patient 2")}
    (entry,) = (entry for entry in entries_in(store) if entry.role == "mask")
    assert entry.patient == NAMES.of("patient 2")


def test_a_slice_that_left_an_exam_whose_other_objects_are_gone_leaves_its_rows_too(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    add_exam(source, "1")
    settings = settings_of(str(source), store)
    run(settings)
    assert Counter(row["exam"] for row in rows_of(store)) == {NAMES.of(f"{PREFIX}.1"): 3}
    for path in sorted((source / "1").glob("*.dcm"))[1:]:
        path.unlink()
    (source / "1" / "1.dcm").write_bytes(to_bytes(ct_slice(1, "9")))
    run(settings)
    assert Counter(row["exam"] for row in rows_of(store)) == {
        NAMES.of(f"{PREFIX}.1"): 2,
        NAMES.of(f"{PREFIX}.9"): 1,
    }
