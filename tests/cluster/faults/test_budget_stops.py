"""Stages that the budget stops, and that go on where they were stopped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ich_ray.distributed.lineage import finished_pseudo_labels, trained_model
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import main
from tests.cluster.tiny_experiment import opened, parts_under, rows_of

SMALL = "budget.max_cpu_hours=0.0001"
"""0.36 CPU seconds: less than any pool takes to start."""


def stops(
    capsys: pytest.CaptureFixture[str], root: Path, stage: str, *settings: str, match: str
) -> None:
    """Expect that the budget stops a stage, in one line, with the exit code of a gate."""
    capsys.readouterr()
    assert main([stage, str(root / "settings.toml"), *settings, SMALL]) == 4
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ich-ray: ")]
    assert len(lines) == 1
    assert match in lines[0]
    assert "pass budget.max_cpu_hours=0.0001" in lines[0]
    assert "raise the limit, and the same command goes on" in lines[0]
    assert outcomes(root)[-1] == "BudgetError"


def goes_on(root: Path, stage: str, *settings: str) -> None:
    """Expect that the same command with a larger budget reaches the end."""
    command = [stage, str(root / "settings.toml"), *settings, "budget.max_cpu_hours=10.0"]
    assert main(command) == 0


def rows_of_runs(root: Path) -> list[dict[str, Any]]:
    store = Store(str(root / "store"))
    table = open_table(store, store.url("runs"))
    assert table is not None
    rows: list[dict[str, Any]] = read_rows(store, table).to_pylist()
    return sorted(rows, key=lambda row: row["started"])


def outcomes(root: Path) -> list[str]:
    return [row["outcome"] for row in rows_of_runs(root)]


def test_predictions_stop_between_parts_and_the_finished_ones_are_used(
    root: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "store" / "predictions")
    shutil.rmtree(root / "store" / "pseudo_labels")
    stops(capsys, root, "pseudo-label", match="what was finished is kept")
    kept = parts_under(root / "store" / "predictions")
    assert kept
    assert not (root / "store" / "pseudo_labels").exists()
    goes_on(root, "pseudo-label")
    assert kept.items() <= parts_under(root / "store" / "predictions").items()
    with opened(root) as run:
        rows = rows_of(run, finished_pseudo_labels(run, "pool").table)
    with opened(finished) as run:
        undisturbed = rows_of(run, finished_pseudo_labels(run, "pool").table)
    assert rows == undisturbed


def test_training_stops_at_a_checkpoint_of_all_workers_and_continues_from_it(
    root: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("models", "checkpoints"):
        shutil.rmtree(root / "store" / folder)
    command = ("train", "--only", "teacher", "models.teacher.checkpoint_every=3")
    stops(capsys, root, *command, match="its checkpoint of step 3 is kept")
    # What the first attempt has spent counts.
    stops(capsys, root, *command, match="by earlier attempts")
    goes_on(root, *command)
    with opened(root) as run:
        record = trained_model(run, "teacher").record
    with opened(finished) as run:
        undisturbed = trained_model(run, "teacher").record
    assert record["model"] == undisturbed["model"]
    assert json.dumps(record["curve"]) == json.dumps(undisturbed["curve"])
    figures = [json.loads(row["figures"]) for row in rows_of_runs(root)]
    assert [[work["units"] for work in f["work"]] for f in figures] == [[3], [], [9]]
    assert [f["cpu_hours"] > 0.0001 for f in figures] == [True, False, True]


def test_an_evaluation_stops_and_a_rerun_gives_the_same_report(
    root: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "store" / "evaluations")
    stops(capsys, root, "evaluate", match="what was finished is kept")
    assert not (root / "report").exists()
    goes_on(root, "evaluate")
    again, before = (json.loads((r / "report/report.json").read_text()) for r in (root, finished))
    for name in ("models", "differences"):
        assert again[name] == before[name]


def test_an_ingest_stops_before_its_commit_and_a_rerun_gives_the_same_corpus(
    root: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "store" / "corpora" / "b")
    stops(capsys, root, "ingest", "--only", "b", match="what was finished is kept")
    with opened(root) as run:
        assert open_table(run.store, run.store.url("corpora", "b", "slices")) is None
    goes_on(root, "ingest", "--only", "b")
    with opened(root) as run, opened(finished) as other:
        assert rows_of(run, run.corpus("b").table) == rows_of(other, other.corpus("b").table)
