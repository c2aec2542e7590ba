"""What a run tells: its metrics, the dashboard of them, and the record beside its output."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from ich_ray.distributed import ingest, metrics, records, session
from ich_ray.distributed.origin import Origin
from ich_ray.storage import corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import main
from tests.cluster.ray_telemetry import (
    Teller,
    die_once,
    samples,
    total,
    wait_until,
)
from tests.cluster.test_ingest import add_exam
from tests.cluster.tiny_experiment import settings_text
from tests.local.dicom_objects import ct_slice, to_bytes

pytestmark = pytest.mark.usefixtures("ray_cluster")
REPOSITORY = Path(__file__).parents[2]
DASHBOARD = REPOSITORY / "cluster/grafana/ich_ray.json"
PROVENANCE = {
    *("run", "stage", "name", "outcome", "started", "ended", "seconds", "figures", "settings"),
    *("inputs", "outputs", "code_revision", "lock_hash", "versions", "cluster", "data_stats"),
}


@pytest.fixture
def settings(tmp_path: Path) -> str:
    """Of an ingest of three exams and two objects that are refused."""
    source = tmp_path / "source"
    for exam in ("1", "2", "3"):
        add_exam(source, exam)
    (source / "notes.txt").write_text("hello")
    (source / "raw.dcm").write_bytes(to_bytes(ct_slice(22, RescaleSlope=None)))
    path = tmp_path / "settings.toml"
    # A section of its own: the counters of a Ray count over all tests.
    path.write_text(
        f'identity = "public"\nstore = {{ root = "{tmp_path}/store" }}\n'
        f'[corpora.watched]\nlayout = "folder"\nsource = "{source}"\nslices_per_part = 4\n'
        "max_rejected_share = 0.5\n"
    )
    return str(path)


def records_in(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(root.glob("records/*/*/*.json"))]


def rows_in(root: Path) -> list[dict[str, Any]]:
    store = Store(str(root))
    table = open_table(store, store.url("runs"))
    assert table is not None
    rows: list[dict[str, Any]] = read_rows(store, table).to_pylist()
    return rows


def test_an_ingest_tells_its_slices_and_what_it_refused_and_keeps_a_record(
    settings: str, tmp_path: Path
) -> None:
    assert main(["ingest", settings]) == 0
    (record,) = records_in(tmp_path / "store")
    assert set(record) == PROVENANCE
    assert (record["stage"], record["name"], record["outcome"]) == ("ingest", "watched", "done")
    lock = (REPOSITORY / "constraints.txt").read_bytes()
    assert record["lock_hash"] == hashlib.sha256(lock).hexdigest()
    assert record["code_revision"] == session.code_revision()
    assert record["settings"]["corpora"]["watched"]["slices_per_part"] == 4
    (source,) = record["inputs"]
    assert (source["kind"], source["objects"], source["new"]) == ("source", 12, 12)
    assert re.fullmatch("[0-9a-f]{32}", source["url"])
    assert re.fullmatch("[0-9a-f]{16}", source["version"])
    slices = corpus.slices_url(Store(str(tmp_path / "store")), "watched")
    assert {"kind": "corpus", "url": slices, "version": 0} in record["outputs"]
    assert {told["kind"] for told in record["outputs"]} >= {"corpus", "ledger"}
    assert any("MapBatches(_written)" in told["stats"] for told in record["data_stats"])
    (row,) = rows_in(tmp_path / "store")
    assert row["run"] == record["run"]
    assert json.loads(row["inputs"]) == record["inputs"]
    assert json.loads(row["outputs"]) == record["outputs"]

    here = {"stage": "ingest", "section": "watched"}
    wait_until(lambda: total(metrics.SLICES.prometheus, **here) == 9)
    wait_until(lambda: total(metrics.REJECTED.prometheus, **here) == 2)
    told = {
        sample.labels["reason"]: sample.value
        for sample in samples()
        if sample.name == metrics.REJECTED.prometheus and here.items() <= sample.labels.items()
    }
    assert told == {"not_dicom": 1, "no_rescale": 1}
    assert total(metrics.QUEUE.prometheus, **here) == 0
    assert total(f"{metrics.PART_SECONDS.prometheus}_count", **here) == 3


def test_a_run_that_ends_without_a_word_after_its_commit_has_left_a_record(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any, **more: Any) -> None:
        commit_ingest(*arguments, **more)
        raise KeyboardInterrupt

    commit_ingest = ingest.commit_ingest
    monkeypatch.setattr(ingest, "commit_ingest", killed)
    assert main(["ingest", settings]) == 130
    (record,) = records_in(tmp_path / "store")
    assert (record["outcome"], record["outputs"]) == ("running", [])
    assert record["settings"]["corpora"]["watched"]["slices_per_part"] == 4
    assert record["code_revision"] == session.code_revision()
    # What is committed stays, and so does its record.
    assert main(["ingest", settings]) == 0
    assert records_in(tmp_path / "store") == [record]


def test_a_second_run_that_finds_nothing_to_do_keeps_no_record(
    settings: str, tmp_path: Path
) -> None:
    assert main(["ingest", settings]) == 0
    assert main(["ingest", settings]) == 0
    assert len(records_in(tmp_path / "store")) == len(rows_in(tmp_path / "store")) == 1


def test_a_run_that_fails_keeps_a_record_of_what_it_read(settings: str, tmp_path: Path) -> None:
    assert main(["ingest", settings, "corpora.watched.max_rejected_share=0.0"]) == 4
    (record,) = records_in(tmp_path / "store")
    assert (record["outcome"], record["outputs"]) == ("QualityError", [])
    (row,) = rows_in(tmp_path / "store")
    assert (row["run"], row["outcome"]) == (record["run"], "QualityError")


def test_the_record_of_pseudo_labels_names_their_corpus_teacher_and_predictions(
    finished: Path, tmp_path: Path
) -> None:
    for folder in ("store", "dicom"):
        shutil.copytree(finished / folder, tmp_path / folder)
    (tmp_path / "settings.toml").write_text(settings_text(tmp_path))
    changed = "pseudo_labels.pool.top_percent=20.0"
    assert main(["pseudo-label", str(tmp_path / "settings.toml"), changed]) == 0
    (record,) = records_in(tmp_path / "store")
    read = {(told["kind"], told["url"]): told["version"] for told in record["inputs"]}
    root = f"{tmp_path}/store"
    assert read["corpus", f"{root}/corpora/b/slices"] == 0
    (teacher,) = (tmp_path / "store/models/teacher").iterdir()
    identity = json.loads((teacher / "model.json").read_text())["model"]
    assert read["model", str(teacher)] == identity
    assert sum(kind == "predictions" for kind, _ in read) == 1
    (made,) = record["outputs"]
    assert (made["kind"], made["version"]) == ("pseudo-labels", 0)
    assert made["url"].startswith(f"{root}/pseudo_labels/pool/")
    (told,) = record["data_stats"]
    assert "MapBatches(LabelWriter)" in told["stats"]


def test_training_and_prediction_tell_how_long_they_waited_for_data(finished: Path) -> None:
    for stage in ("train", "predict"):
        for kind in ("wait", "work"):
            wait_until(
                lambda stage=stage, kind=kind: (
                    total(metrics.SECONDS.prometheus, stage=stage, kind=kind) > 0
                )
            )
    # 12 steps of 4 slices of the teacher, and those of other tests that train it.
    assert total(metrics.SLICES.prometheus, stage="train", section="teacher") >= 48


def test_a_task_whose_worker_died_is_counted_as_a_retry(tmp_path: Path) -> None:
    origin = Origin(stage="ingest", section="dies-once")
    ray.get(ray.remote(num_cpus=0)(die_once).remote(origin, tmp_path / "mark"))
    wait_until(lambda: total(metrics.RETRIES.prometheus, section=origin.section, what="task") == 1)


@pytest.fixture(scope="module")
def told(ray_cluster: None) -> dict[str, set[str]]:
    """Every name of the endpoint with its labels, once each metric of the table was recorded."""
    teller = ray.remote(num_cpus=0)(Teller).remote()
    found: dict[str, set[str]] = {}
    awaited = {m.prometheus + ("_bucket" if m.kind == "histogram" else "") for m in metrics.TABLE}

    # Told anew before each look: Ray forgets a gauge that was not within two reports, and a look
    # at the endpoint can take longer than that.
    def all_were_told() -> bool:
        ray.get(teller.tell_every_metric.remote(Origin(stage="all", section="all")))
        for sample in samples():
            if sample.labels.get("stage") == "all":
                awaited.discard(sample.name)
                found[sample.name] = set(sample.labels)
            found.setdefault(sample.name, set(sample.labels))
        return not awaited

    wait_until(all_were_told)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of the dashboard with the title of its panel."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_every_metric_of_the_table_is_on_the_endpoint_under_its_name(
    told: dict[str, set[str]],
) -> None:
    for metric in metrics.TABLE:
        name = metric.prometheus + ("_bucket" if metric.kind == "histogram" else "")
        assert told[name] >= set(metric.tags), metric.name


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_a_panel_names_metrics_and_labels_that_ray_tells(
    title: str, expression: str, told: dict[str, set[str]]
) -> None:
    names = re.findall(r"\b(ray_\w+)", expression)
    labels = set(re.findall(r"(\w+)=", expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        labels |= set(group.split(", "))
    assert names
    for name in names:
        assert name in told, f"{title}: Ray tells no {name}"
        assert labels - {"kind"} <= told[name] | {"le"}, title
    assert "kind" not in labels or "kind" in told[metrics.SECONDS.prometheus]


def test_every_metric_of_the_table_is_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in expressions())
    for metric in metrics.TABLE:
        assert re.search(rf"\b{metric.prometheus}(_bucket)?\{{", shown), metric.name


def test_the_variables_of_the_dashboard_are_labels_of_a_metric(told: dict[str, set[str]]) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [item for item in dashboard["templating"]["list"] if item["type"] == "query"]
    for item in asked:
        name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", item["definition"]).groups()  # type: ignore[union-attr]
        assert label in told[name]
    names = {item["name"] for item in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$(?!__)\{?(\w+)", DASHBOARD.read_text())) <= names
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_revision_and_the_lock_are_what_the_submitter_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(session.REVISION_VARIABLE, "v1-told")
    monkeypatch.setenv(records.LOCK_VARIABLE, "lock-told")
    for function in (session.code_revision, records.lock_hash):
        function.cache_clear()
    told = session.code_revision(), records.lock_hash()
    for function in (session.code_revision, records.lock_hash):
        function.cache_clear()
    assert told == ("v1-told", "lock-told")


def test_the_lock_of_an_image_is_read_where_the_code_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(records.LOCK_VARIABLE, raising=False)
    monkeypatch.setattr(records, "LOCK_FILE", tmp_path / "constraints.txt")
    monkeypatch.setattr(records, "IMAGE_LOCK", tmp_path / "lock.sha256")
    told = []
    for text in (None, f"{'ab' * 32}  constraints.txt\n"):
        if text is not None:
            records.IMAGE_LOCK.write_text(text)
        records.lock_hash.cache_clear()
        told.append(records.lock_hash())
    records.lock_hash.cache_clear()
    assert told == ["unknown", "ab" * 32]


def test_without_ray_no_metric_is_recorded_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    metrics.slices(3)
    metrics.queue(1)
    metrics.part(0.1)
    metrics.gpu_memory()
    metrics.spent(1.0, 0.5)
