import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs

import ich_ray.distributed.ingest as stage
from ich_ray.config import CorpusConfig, Settings, StoreConfig
from ich_ray.distributed.ingest import ingest, plan_ingest
from ich_ray.errors import ConfigError, QualityError, SurroundingsError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Entry
from ich_ray.ingest_summary import IngestSummary
from ich_ray.storage import corpus, ingest_log, ledger
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from tests.local.dicom_objects import ct_slice, segmentation, to_bytes

pytestmark = pytest.mark.usefixtures("ray_cluster")

NAMES = Pseudonyms(PUBLIC_KEY)
HEADER = "SOPInstanceUID,any,epidural,intraparenchymal,intraventricular,subarachnoid,subdural"


@pytest.fixture(autouse=True)
def _revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "code_revision", lambda: "test")


def settings_of(source: str, store: Store, **changes: Any) -> Settings:
    config = CorpusConfig(**{"layout": "folder", "source": source, "slices_per_part": 4, **changes})
    return Settings(
        store=StoreConfig(
            root=store.root, endpoint_url=store.endpoint_url, max_attempts=store.max_attempts
        ),
        corpora={"c": config},
    )


def run(settings: Settings, **options: Any) -> IngestSummary:
    return ingest(settings, "c", pseudonyms=NAMES, ensure_ray=lambda: None, **options)


def rows_of(store: Store) -> list[dict[str, Any]]:
    table = corpus.open_corpus(store, "c").table
    rows: list[dict[str, Any]] = read_rows(store, table).to_pylist()
    return sorted(rows, key=lambda row: (row["exam"], row["index"]))


def entries_in(store: Store) -> list[Entry]:
    return list(ledger.entries_of(ledger.open_ledger(store, "c").rows))


def add_exam(folder: Path, exam: str, *, slices: int = 3, bleeds: bool = False) -> None:
    (folder / exam).mkdir(parents=True)
    images = [ct_slice(number, exam) for number in range(1, slices + 1)]
    for number, image in enumerate(images, 1):
        (folder / exam / f"{number}.dcm").write_bytes(to_bytes(image))
    labels = folder / "labels.csv"
    lines = labels.read_text().splitlines() if labels.exists() else [HEADER]
    lines += [
        f"{image.SOPInstanceUID},{int(bleeds and i == 0)},{int(bleeds and i == 0)},0,0,0,0"
        for i, image in enumerate(images)
    ]
    labels.write_text("\n".join(lines))
    if bleeds:
        frames = np.zeros((slices, 8, 6), np.uint8)
        frames[0, 2] = 1
        made = segmentation(images, {"epidural": frames})
        (folder / exam / "seg.dcm").write_bytes(to_bytes(made))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for exam in ("1", "2", "3"):
        add_exam(folder, exam, bleeds=exam == "2")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_a_source_becomes_a_corpus_and_a_second_run_does_nothing(
    source: Path, store: Store, tmp_path: Path
) -> None:
    settings = settings_of(str(source), store)
    plan = plan_ingest(settings, "c", NAMES)
    assert (plan.new_objects, plan.known_objects) == (11, 0)
    assert plan.line().startswith("ingest c: 11 new objects (")
    assert plan.line().endswith(
        " MB) in about 3 parts, 0.00 CPU hours, cost 0.00; 0 known, 0 gone from the source"
    )
    assert not Path(store.root).exists()
    summary = run(settings, private_map=tmp_path / "map.csv")
    assert (summary.version, summary.accepted_slices, summary.parts) == (0, 9, 3)
    assert summary.rejected == {}
    assert summary.line().startswith(
        "ingest c: 9 slices, 1 masks, 9 labels, 0 duplicates, rejected: none; 11 new objects in 3 "
    )
    rows = rows_of(store)
    assert [row["index"] for row in rows] == [0, 1, 2] * 3
    assert [row["label"] for row in rows].count(True) == 1
    assert all(row["mask"] is not None for row in rows)
    (positive,) = [row for row in rows if row["label"]]
    assert sum(positive["mask"]) == 6
    properties = corpus.open_corpus(store, "c").properties
    assert {"schema_version", "code_revision", "settings", "inputs", "stage"} <= set(properties)
    assert "1/1.dcm" in (tmp_path / "map.csv").read_text()
    assert (tmp_path / "map.csv").stat().st_mode & 0o077 == 0

    def no_ray() -> None:
        raise AssertionError("Ray is not needed for nothing")

    again = ingest(settings, "c", pseudonyms=NAMES, ensure_ray=no_ray)
    assert again.up_to_date
    assert again.version == 0
    assert again.line() == "ingest c: up to date, version 0"


def test_a_run_that_finds_nothing_new_pays_for_no_large_library(
    source: Path, store: Store, tmp_path: Path
) -> None:
    run(settings_of(str(source), store))
    (tmp_path / "settings.toml").write_text(
        f'identity = "public"\nstore = {{ root = "{store.root}" }}\n'
        f'corpora = {{ c = {{ layout = "folder", source = "{source}", slices_per_part = 4 }} }}\n'
    )
    program = (
        "import sys\nfrom jobs.ingest import main\ncode = main(sys.argv[1:])\n"
        "print({'ray', 'torch', 'pandas', 'matplotlib', 's3fs'} & set(sys.modules))\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "settings.toml")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "ingest c: up to date, version 0\nset()\n"


def test_nothing_of_a_patient_is_written(source: Path, store: Store) -> None:
    told: list[str] = []
    run(settings_of(str(source), store), progress=told.append)
    entries = entries_in(store)
    written = [str(entries), str(told), str(rows_of(store))]
    written += [path.read_text() for path in Path(store.root).rglob("*.json")]
    for text in written:
        for secret in ("patient 1", "Doe", "1.2.826", "19500101", "1950-01-01", "/1.dcm"):
            assert secret not in text
    assert told


def test_new_exams_are_one_version_more(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store)
    run(settings)
    add_exam(source, "4")
    plan = plan_ingest(settings, "c", NAMES)
    assert plan.new_objects == 4
    summary = run(settings)
    assert (summary.version, summary.accepted_slices, summary.objects) == (1, 3, 4)
    assert len(rows_of(store)) == 12


def test_labels_that_change_after_an_ingest_are_refused(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store)
    run(settings)
    labels = source / "labels.csv"
    labels.write_text(labels.read_text().replace(",0,0,0,0,0,0", ",1,1,0,0,0,0", 1))
    with pytest.raises(ConfigError, match="labels of 1 slices of corpus c changed"):
        run(settings)


def test_every_object_ends_in_the_ledger_with_its_reason(source: Path, store: Store) -> None:
    (source / "notes.txt").write_text("hello")
    (source / "scout.dcm").write_bytes(to_bytes(ct_slice(20, ImageType=["A", "B", "LOCALIZER"])))
    (source / "short.dcm").write_bytes(to_bytes(ct_slice(21, PixelData=b"\0" * 90)))
    (source / "raw.dcm").write_bytes(to_bytes(ct_slice(22, RescaleSlope=None)))
    (source / "zcopy.dcm").write_bytes((source / "1" / "1.dcm").read_bytes())
    labels = source / "labels.csv"
    labels.write_text(labels.read_text() + "\n1.2.3,0,0,0,0,0,0\n")
    settings = settings_of(str(source), store)
    with pytest.raises(
        QualityError, match=r"3 of 15 new objects .* 1 no_rescale \(e\.g\. \w{32}\)"
    ):
        run(settings)
    assert open_table(store, corpus.slices_url(store, "c")) is None
    summary = run(settings_of(str(source), store, max_rejected_share=0.5))
    assert summary.rejected == {
        "missing": 1,
        "no_rescale": 1,
        "localizer": 1,
        "not_dicom": 1,
        "truncated_pixels": 1,
    }
    assert (summary.duplicates, summary.accepted_slices) == (1, 9)
    assert (
        "9 slices, 1 masks, 9 labels, 1 duplicates, rejected: 1 localizer, 1 missing, "
        "1 no_rescale, 1 not_dicom, 1 truncated_pixels; 16 new objects"
    ) in summary.line()
    entries = entries_in(store)
    assert Counter(entry.outcome for entry in entries) == {
        "accepted": 11,
        "rejected": 5,
        "duplicate": 1,
    }
    assert run(settings_of(str(source), store)).up_to_date


def test_a_file_that_vanishes_is_unreadable_and_stops_nothing(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Store.listing

    def then_gone(self: Store, url: str) -> list[Any]:
        found = listing(self, url)
        if url == str(source):
            (source / "3" / "2.dcm").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Store, "listing", then_gone)
    summary = run(settings_of(str(source), store, max_rejected_share=0.5))
    assert summary.rejected == {"missing": 1, "unreadable": 1}
    assert summary.accepted_slices == 8


def test_the_result_does_not_depend_on_the_division_into_parts(
    source: Path, store: Store, tmp_path: Path
) -> None:
    other = Store(str(tmp_path / "other"))
    run(settings_of(str(source), store))
    run(settings_of(str(source), other, slices_per_part=100))
    assert rows_of(store) == rows_of(other)


def test_a_crash_between_the_two_commits_doubles_nothing(
    source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(str(source), store)

    def crash(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingest_log, "settle", crash)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    assert open_table(store, corpus.slices_url(store, "c")) is None
    # What would be done is known before the slices are: the ledger has it.
    assert plan_ingest(settings, "c", NAMES).new_objects == 0
    assert run(settings).up_to_date
    assert len(rows_of(store)) == 9
    add_exam(source, "4")
    summary = run(settings)
    assert (summary.version, summary.accepted_slices) == (1, 3)
    assert len(rows_of(store)) == 12
    entries = entries_in(store)
    assert len({entry.source for entry in entries}) == len(entries) == 14


def test_another_key_or_an_empty_source_is_refused(source: Path, store: Store) -> None:
    settings = settings_of(str(source), store)
    run(settings)
    with pytest.raises(ConfigError, match="has pseudonyms of key"):
        ingest(settings, "c", pseudonyms=Pseudonyms(b"other"), ensure_ray=lambda: None)
    with pytest.raises(ConfigError, match="holds nothing of the layout folder"):
        run(settings_of(str(source / "none"), store))
    with pytest.raises(ConfigError, match=r"no corpora\.d in the settings; known: c"):
        ingest(settings, "d", pseudonyms=NAMES, ensure_ray=lambda: None)


@pytest.fixture
def without_cached_clients() -> Iterator[None]:
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_source_in_an_object_store_gives_the_same_corpus(
    source: Path, store: Store, s3_store: Store
) -> None:
    for path in (p for p in source.rglob("*") if p.is_file()):
        url = s3_store.url("source", path.relative_to(source).as_posix())
        s3_store.write_bytes(url, path.read_bytes())
    run(settings_of(str(source), store))
    in_s3 = settings_of(s3_store.url("source"), s3_store)
    summary = run(in_s3)
    assert summary.accepted_slices == 9
    assert run(in_s3).up_to_date
    ours, theirs = rows_of(store), rows_of(s3_store)
    for row in [*ours, *theirs]:
        del row["etag"]
    assert ours == theirs


@pytest.mark.usefixtures("without_cached_clients")
def test_wrong_credentials_are_no_empty_corpus(
    source: Path, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fresh = Store("s3://ich/refused", s3_store.endpoint_url, max_attempts=2)
    with pytest.raises(SurroundingsError, match=r"s3://ich/refused.*AWS_SECRET_ACCESS_KEY"):
        run(settings_of(str(source), fresh))


def test_a_missing_bucket_is_named(source: Path, s3_store: Store) -> None:
    fresh = Store("s3://nobucket/x", s3_store.endpoint_url, max_attempts=2)
    with pytest.raises(SurroundingsError, match="there is no bucket 'nobucket'"):
        run(settings_of(str(source), fresh))


@pytest.mark.usefixtures("without_cached_clients")
def test_a_store_that_is_away_is_named(source: Path, s3_store: Store) -> None:
    away = Store("s3://ich/x", "http://127.0.0.1:9", max_attempts=1)
    with pytest.raises(SurroundingsError, match=r"s3://ich/x.*store\.endpoint_url"):
        run(settings_of(str(source), away))
