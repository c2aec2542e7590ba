"""Series, exam labels, boxes and averages, through the whole stage."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ich_ray.distributed.ingest as stage
from ich_ray.config import CorpusConfig, Settings, StoreConfig
from ich_ray.distributed.ingest import ingest
from ich_ray.errors import ConfigError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Entry
from ich_ray.ingest_summary import IngestSummary
from ich_ray.storage import corpus, ledger
from ich_ray.storage.objects import Store
from ich_ray.storage.series_table import read_series
from ich_ray.storage.tables import open_table, read_rows
from tests.local.cq500_copy import instance, reads, write_cq500
from tests.local.dicom_objects import ct_slice, to_bytes

pytestmark = pytest.mark.usefixtures("ray_cluster")

NAMES = Pseudonyms(PUBLIC_KEY)
EXAMS = {number: NAMES.of(f"CQ500-CT-{number}") for number in range(10)}


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "test")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_cq500(tmp_path / "cq500")
    return tmp_path / "cq500"


def run(source: Path, store: Path, layout: str = "cq500", **changes: Any) -> IngestSummary:
    config = CorpusConfig(
        layout="cq500" if layout == "cq500" else "folder", source=str(source), **changes
    )
    settings = Settings(store=StoreConfig(root=str(store)), corpora={"c": config})
    return ingest(settings, "c", pseudonyms=NAMES, ensure_ray=lambda: None)


def held(store: Store) -> list[Entry]:
    return list(ledger.entries_of(ledger.open_ledger(store, "c").rows))


def rows(store: Path, table: str) -> list[dict[str, Any]]:
    at = Store(str(store))
    found = open_table(at, at.url("corpora", "c", table))
    assert found is not None
    listed: list[dict[str, Any]] = read_rows(at, found).to_pylist()
    return listed


def test_a_copy_of_cq500_becomes_a_corpus_of_one_series_an_exam(
    source: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    summary = run(source, store)
    slices = rows(store, "slices")
    assert Counter(row["exam"] for row in slices) == {EXAMS[0]: 8, EXAMS[1]: 8, EXAMS[2]: 8}
    labels = {row["exam"]: (row["exam_label"], row["label"]) for row in slices}
    assert labels == {EXAMS[0]: (True, None), EXAMS[1]: (False, None), EXAMS[2]: (None, None)}
    rules = {
        row["series"]: (row["kept"], row["rule"]) for row in read_series(Store(str(store)), "c")
    }
    thick, again = (NAMES.of(instance(0, uid, 0).rpartition(".")[0]) for uid in (2, 3))
    assert rules[thick] == (True, "first_of_equals")
    assert rules[again] == (False, "another_kept")
    assert summary.rejected == {"other_series": 97, "localizer": 1, "missing": 1}
    assert summary.series_rules == {"only_series": 2, "first_of_equals": 1}
    assert summary.exams_without_series == {"bone": 1}
    assert "exams without a usable series: 1 bone" in summary.line()
    entries = held(Store(str(store)))
    files = sum(path.is_file() for path in source.rglob("*"))
    assert len(entries) == files + 1
    assert run(source, store).up_to_date


def test_two_archives_are_one_series_if_it_is_kept(source: Path, tmp_path: Path) -> None:
    overrides = tmp_path / "overrides.csv"
    thin = instance(0, 1, 0).rpartition(".")[0]
    overrides.write_text(f"name,decision\n{thin},keep\nCQ500-CT-3,keep\n")
    run(source, tmp_path / "store", series_overrides=str(overrides))
    slices = rows(tmp_path / "store", "slices")
    counts = Counter(row["exam"] for row in slices)
    assert (counts[EXAMS[0]], counts[EXAMS[3]]) == (64, 6)
    places = [row["position_mm"] for row in slices if row["exam"] == EXAMS[0]]
    assert places == [0.625 * i for i in range(64)]
    overrides.write_text("name,decision\nsomebody,keep\n")
    with pytest.raises(
        ConfigError, match=r"c\.series_overrides: line 2 .* names no exam"
    ) as caught:
        run(source, tmp_path / "other", series_overrides=str(overrides))
    assert "somebody" not in str(caught.value)


def test_reads_and_boxes_have_their_own_tables(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(source, store)
    seen = {
        (row["exam"], row["reader"]): row["present"]
        for row in rows(store, "reads")
        if row["finding"] == "SDH"
    }
    assert [seen[EXAMS[1], reader] for reader in ("R1", "R2", "R3")] == [False, False, True]
    assert len(seen) == 12
    found = {(row["slice"], row["origin"], row["type"]) for row in rows(store, "boxes")}
    assert found == {
        (NAMES.of(instance(0, 2, 3)), "hand", "subdural"),
        (NAMES.of(instance(0, 1, 9)), "extrapolated", "subdural"),
    }
    assert {row["slice"] for row in rows(store, "slices")} >= {NAMES.of(instance(0, 2, 3))}


def test_reads_that_change_after_an_ingest_are_refused(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "store")
    (source / "reads.csv").write_text(reads({0: (0, 0, 0), 1: (0, 0, 1)}))
    with pytest.raises(ConfigError, match="labels of 8 slices of corpus c changed"):
        run(source, tmp_path / "store")


def test_no_description_and_no_name_is_written(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(source, store)
    files = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
    text = str([rows(store, name) for name in ("slices", "series", "reads", "boxes", "ledger")])
    for secret in ("PLAIN THIN", "Plain", "CQ500-CT", "1.2.826"):
        assert secret not in text
        assert not any(secret.encode() in data for data in files)


def add(source: Path, *numbers: int, **header: Any) -> None:
    source.mkdir(exist_ok=True)
    for number in numbers:
        image = ct_slice(number, **header)
        (source / f"{number}.dcm").write_bytes(to_bytes(image))


LATER = {"SeriesInstanceUID": "1.2.3.4", "SliceThickness": 5.0}


def test_a_better_series_that_comes_later_takes_the_place_of_the_first(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    add(source, 1, 2, 3)
    run(source, store, "folder")
    add(source, *range(11, 18), **LATER)
    summary = run(source, store, "folder")
    assert (summary.exams_anew, summary.accepted_slices) == (1, 7)
    assert {row["series"] for row in rows(store, "slices")} == {NAMES.of("1.2.3.4")}
    run(source, tmp_path / "at once", "folder")
    for table in ("slices", "series"):
        now, at_once = rows(store, table), rows(tmp_path / "at once", table)
        assert now == at_once
    assert held(Store(str(store))) == [
        replace(entry, part=now.part)
        for entry, now in zip(
            held(Store(str(tmp_path / "at once"))), held(Store(str(store))), strict=True
        )
    ]


def test_a_series_whose_slices_are_gone_is_not_mixed_with_another(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    add(source, 1, 2, 3)
    run(source, store, "folder")
    (source / "1.dcm").unlink()
    add(source, *range(11, 18), **LATER)
    add(source, 4)
    summary = run(source, store, "folder")
    assert summary.rejected == {"other_series": 7}
    assert len({row["series"] for row in rows(store, "slices")}) == 1
    assert len(rows(store, "slices")) == 4
    assert {row["rule"] for row in rows(store, "series")} == {"only_series", "ingested_before"}


def test_thin_series_are_averaged_on_request(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    for number in range(20):
        image = ct_slice(
            number, ImagePositionPatient=[0.0, 0.0, 1.25 * number], SliceThickness=1.25
        )
        (source / f"{number}.dcm").write_bytes(to_bytes(image))
    summary = run(source, store, "folder", average_to_mm=5.0)
    assert summary.accepted_slices == 5
    slices = rows(store, "slices")
    assert [row["position_mm"] for row in slices] == [1.875 + 5.0 * i for i in range(5)]
    assert {row["thickness_mm"] for row in slices} == {5.0}
    entries = held(Store(str(store)))
    assert Counter(entry.outcome for entry in entries) == {"accepted": 20}
    (first, *_) = (item for exam in exams_of(store) for item in exam)
    # Slice n stores 1024 + n + pixel: four of them average to n + 1.5 HU.
    assert corpus.hounsfield(first)[0, 0] == 1.5
    with pytest.raises(ConfigError, match="was ingested with average_to_mm=5, not 0"):
        run(source, store, "folder")


def exams_of(store: Path) -> Any:
    at = Store(str(store))
    for url in corpus.open_corpus(at, "c").files:
        yield from corpus.read_exams(at, url)
