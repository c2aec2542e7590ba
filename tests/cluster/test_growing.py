"""A corpus whose source grows, changes and loses objects."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ich_ray.distributed.ingest as stage
from ich_ray.errors import ConfigError, QualityError
from ich_ray.storage import corpus, ledger
from ich_ray.storage.new_since import new_since
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from tests.cluster.test_ingest import NAMES, add_exam, entries_in, rows_of, run, settings_of
from tests.local.dicom_objects import PREFIX, ct_slice, to_bytes

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "test")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for exam in ("1", "2", "3"):
        add_exam(folder, exam, bleeds=exam == "2")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def name_of(exam: str, number: int) -> tuple[str, str]:
    return NAMES.of(f"{PREFIX}.{exam}"), NAMES.of(f"{PREFIX}.{exam}.{number}")


def new_slices(store: Store, version: int) -> set[tuple[str, str]]:
    rows = new_since(store, corpus.open_corpus(store, "c"), version).to_pylist()
    assert len({tuple(row.values()) for row in rows}) == len(rows)
    return {(row["exam"], row["slice"]) for row in rows}


def ledger_in(store: Store) -> list[dict[str, Any]]:
    """The ledger but for the names of parts."""
    rows = ledger.open_ledger(store, "c").rows.drop_columns(["part"])
    return sorted(rows.to_pylist(), key=lambda row: row["source"])


def test_a_grown_source_ends_as_if_it_had_been_ingested_at_once(
    source: Path, store: Store, tmp_path: Path
) -> None:
    # All exams in one part: what is not planned anew is taken over.
    settings = settings_of(str(source), store, slices_per_part=100)
    run(settings)
    before = rows_of(store)
    (source / "1" / "4.dcm").write_bytes(to_bytes(ct_slice(4, "1")))
    changed = ct_slice(2, "3", ImagePositionPatient=[0.0, 0.0, 99.0])
    (source / "3" / "2.dcm").write_bytes(to_bytes(changed))
    (source / "0copy.dcm").write_bytes((source / "1" / "1.dcm").read_bytes())
    follow_up = ct_slice(1, "4", PatientID="patient 2")
    (source / "4.dcm").write_bytes(to_bytes(follow_up))
    summary = run(settings)
    assert (summary.objects, summary.exams_anew, summary.version) == (4, 2, 1)
    assert summary.accepted_slices == 4 + 3 + 1
    assert "; 2 exams planned anew" in summary.line()

    at_once = Store(str(tmp_path / "at once"))
    run(settings_of(str(source), at_once, slices_per_part=100))
    assert rows_of(store) == rows_of(at_once)
    assert ledger_in(store) == ledger_in(at_once)
    assert [row["index"] for row in rows_of(store) if row["exam"] == name_of("1", 1)[0]] == [
        0,
        1,
        2,
        3,
    ]
    # A copy under an earlier key is the same slice of another object.
    assert new_slices(store, 0) == {
        name_of("1", 4),
        name_of("3", 2),
        name_of("4", 1),
        name_of("1", 1),
    }
    assert new_slices(store, 1) == set()
    assert len(new_slices(store, -1)) == 11
    assert corpus.open_corpus(store, "c").num_rows == 11
    assert run(settings).up_to_date
    # The earlier version is still there.
    table = open_table(store, corpus.slices_url(store, "c"), 0)
    assert table is not None
    old = read_rows(store, table).to_pylist()
    assert sorted(old, key=lambda row: (row["exam"], row["index"])) == before


def test_a_changed_object_that_cannot_be_read_loses_its_row(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store, max_rejected_share=1.0)
    run(settings)
    (source / "1" / "2.dcm").write_bytes(to_bytes(ct_slice(2, "1", PixelData=b"\0" * 90)))
    summary = run(settings)
    assert summary.rejected == {"truncated_pixels": 1}
    assert f"\n  truncated_pixels: 1, e.g. {NAMES.of('1/2.dcm')}" in summary.line()
    kept = [row for row in rows_of(store) if row["exam"] == name_of("1", 1)[0]]
    assert [(row["slice"], row["neighbours"]) for row in kept] == [
        (name_of("1", 1)[1], 1),
        (name_of("1", 3)[1], 1),
    ]
    assert Counter(entry.outcome for entry in entries_in(store)) == {"accepted": 10, "rejected": 1}


def test_what_is_gone_is_kept_and_counted(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store, slices_per_part=100)
    run(settings)
    before = rows_of(store)
    for gone in ("1/1.dcm", "2/1.dcm", "2/seg.dcm", "3/1.dcm"):
        (source / gone).unlink()
    summary = run(settings)
    assert (summary.up_to_date, summary.gone) == (True, 4)
    assert summary.line() == (
        "ingest c: up to date, version 0; 4 objects gone from the source are kept"
    )
    # An exam that grows keeps its gone slice and the mask of a gone segmentation.
    (source / "2" / "4.dcm").write_bytes(to_bytes(ct_slice(4, "2")))
    # A slice that comes back under another name is no second one.
    (source / "3" / "renamed.dcm").write_bytes(to_bytes(ct_slice(1, "3")))
    run(settings)
    after = rows_of(store)
    assert len(after) == 10
    exam = name_of("2", 1)[0]
    grown = [row for row in after if row["exam"] == exam]
    assert [row["slice"] for row in grown] == [name_of("2", i)[1] for i in (1, 2, 3, 4)]
    assert [row["neighbours"] for row in grown] == [1, 2, 2, 1]
    untouched = ("pixels", "checksum", "label", "subtypes", "mask", "source", "etag")
    for old, new in zip([r for r in before if r["exam"] == exam], grown, strict=False):
        assert [old[name] for name in untouched] == [new[name] for name in untouched]
    outcomes = {entry.source: entry.outcome for entry in entries_in(store)}
    assert outcomes[NAMES.of("3/1.dcm")] == "duplicate"
    assert outcomes[NAMES.of("3/renamed.dcm")] == outcomes[NAMES.of("2/seg.dcm")] == "accepted"


def test_a_mask_that_comes_later_marks_its_slices(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store)
    late = (source / "2" / "seg.dcm").read_bytes()
    (source / "2" / "seg.dcm").unlink()
    run(settings)
    assert not any(row["mask"] for row in rows_of(store) if row["label"])
    (source / "2" / "seg.dcm").write_bytes(late)
    run(settings)
    (positive,) = [row for row in rows_of(store) if row["label"]]
    assert sum(positive["mask"]) == 6


def test_a_label_whose_slice_comes_later_is_missing_no_more(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store, max_rejected_share=1.0)
    late = (source / "1" / "2.dcm").read_bytes()
    (source / "1" / "2.dcm").unlink()
    assert run(settings).rejected == {"missing": 1}
    (source / "1" / "2.dcm").write_bytes(late)
    assert run(settings).rejected == {}
    assert {entry.outcome for entry in entries_in(store)} == {"accepted"}
    assert len(rows_of(store)) == 9


def test_too_many_rejected_objects_leave_the_corpus_at_its_last_good_version(
    source: Path, store: Store
) -> None:
    settings = settings_of(str(source), store)
    run(settings)
    rows, entries = rows_of(store), entries_in(store)
    (source / "1" / "4.dcm").write_bytes(to_bytes(ct_slice(4, "1")))
    (source / "1" / "5.dcm").write_bytes(b"no DICOM")
    with pytest.raises(QualityError, match="1 of 2 new objects were rejected"):
        run(settings)
    assert (rows_of(store), entries_in(store)) == (rows, entries)
    (source / "1" / "5.dcm").unlink()
    assert run(settings).version == 1


def test_labels_that_vanish_are_no_reason_to_forget_them(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store)
    run(settings)
    (source / "labels.csv").unlink()
    (source / "1" / "4.dcm").write_bytes(to_bytes(ct_slice(4, "1")))
    with pytest.raises(ConfigError, match=r"table of labels .* corpus c was ingested is gone"):
        run(settings)


def test_an_object_that_could_not_be_read_is_tried_again(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(str(source), store, max_rejected_share=1.0)
    dangling = source / "1" / "2.dcm"
    data = dangling.read_bytes()
    listing = Store.listing

    def before_it_went(self: Store, url: str) -> list[Any]:
        found = listing(self, url)
        if url == str(source):
            dangling.unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Store, "listing", before_it_went)
        assert run(settings).rejected == {"unreadable": 1, "missing": 1}
    dangling.write_bytes(data)
    assert run(settings).accepted_slices == 3
    assert len(rows_of(store)) == 9
