import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ich_ray.budget import Hours
from ich_ray.capacity import Process
from ich_ray.distributed.lineage import finished_pseudo_labels, trained_model
from ich_ray.distributed.metering import metered
from ich_ray.distributed.predict import kind_of_work, predict, prediction_task
from ich_ray.distributed.session import Session, select
from ich_ray.errors import BudgetError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage.objects import Store
from ich_ray.storage.runs import Run, append_run
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import main
from tests.cluster.tiny_experiment import opened, rows_of, settings_of, settings_text

SMALL = "budget.max_cpu_hours=0.0001"
"""0.36 CPU seconds: less than any pool takes to start."""


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A finished experiment of the test's own, with its settings file."""
    for folder in ("store", "dicom"):
        shutil.copytree(finished / folder, tmp_path / folder)
    (tmp_path / "settings.toml").write_text(settings_text(tmp_path))
    return tmp_path


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


def parts_under(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}


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


def test_hours_of_earlier_attempts_count_before_anything_starts(root: Path) -> None:
    shutil.rmtree(root / "store" / "predictions")
    with opened(root, "budget.max_cpu_hours=4.0") as run:
        run.spent_before = Hours(cpu=5.0)
        task = prediction_task(run, trained_model(run, "teacher"), select(run, ["b"])[0])
        with pytest.raises(BudgetError, match=r"5 CPU hours \(5 by earlier attempts\) pass"):
            predict(run, task)
        assert not parts_under(root / "store" / "predictions")


def test_the_hours_of_tasks_follow_the_cpus_that_a_cluster_grows_to(tmp_path: Path) -> None:
    cpus = iter([0.0, 0.0, 5.0])
    run = Session(settings_of(tmp_path), Pseudonyms(PUBLIC_KEY))
    with metered(run, "label", Process(cpus=2.0), processes=lambda: next(cpus)) as meter:
        meter.finished(1)
        assert run.spent.cpu == 0
        time.sleep(0.01)
        meter.finished(1)
        before = run.spent_by_now().cpu
        time.sleep(0.001)
        # A pool that finishes nothing for hours spends them all the same.
        assert run.spent_by_now().cpu > before >= run.spent.cpu > 0
    (work,) = run.work
    assert work.units == 2
    assert work.seconds >= 0.05
    assert run.spent.cpu == pytest.approx(2 * work.seconds / 3600)


def planned(
    capsys: pytest.CaptureFixture[str], root: Path, stage: str, *settings: str
) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([stage, str(root / "settings.toml"), *settings, "--dry-run", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_dry_run_estimates_hours_and_cost_and_warns_over_all_steps_together(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = planned(
        capsys,
        root,
        "train",
        *("models.teacher.weight_decay=0.5", "models.student.init=random"),
        *("models.student.pseudo_labelled=[]", "budget.train_seconds_per_step=360.0"),
        *("budget.price_per_cpu_hour=2.0", "budget.max_cost=3.0"),
    )
    assert (teacher["cpu_hours"], teacher["cost"], teacher["gpu_hours"]) == (1.2, 2.4, 0)
    assert teacher["estimated_by"] == "budget.train_seconds_per_step"
    assert "warning" not in teacher
    assert student["cpu_hours"] == 0.8
    assert student["warning"] == "estimated over the budget: 4 of cost pass budget.max_cost=3"


def test_a_dry_run_of_what_is_done_costs_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("train", "pseudo-label", "evaluate", "ingest"):
        for plan in planned(capsys, root, stage, "budget.max_cpu_hours=0.001"):
            assert plan["cpu_hours"] == plan["cost"] == 0
            assert not plan.get("warning")


def test_a_dry_run_takes_the_rate_that_earlier_runs_have_measured(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "store" / "predictions")
    setting = "pseudo_labels.pool.top_percent=20.0"
    (before,) = planned(capsys, root, "pseudo-label", setting)
    assert before["cpu_hours"] == pytest.approx(64 * (1.45 + 0.01) / 3600, abs=5e-5)
    with opened(root) as run:
        kind = kind_of_work(run, trained_model(run, "teacher"))
        work = {"kind": kind, "units": 10, "seconds": 3600.0}
        now = datetime.now(UTC)
        append_run(
            run.store,
            Run(
                stage="pseudo-label",
                name="pool",
                settings={},
                figures={"work": [work]},
                code_revision="",
                started=now,
                ended=now,
                outcome="done",
            ),
        )
    (after,) = planned(capsys, root, "pseudo-label", setting)
    assert after["cpu_hours"] == pytest.approx(6.4, abs=1e-3)
    assert after["estimated_by"].startswith("measured on 10 of earlier runs, budget.label_")
