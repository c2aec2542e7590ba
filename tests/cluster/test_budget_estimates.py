"""Hours and cost, before a stage runs and while it does."""

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ich_ray.budget import Hours
from ich_ray.capacity import Process
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.metering import metered
from ich_ray.distributed.predict import kind_of_work, predict, prediction_task
from ich_ray.distributed.session import Session, select
from ich_ray.errors import BudgetError
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.storage.runs import Run, append_run
from jobs.cli import main
from tests.cluster.tiny_experiment import opened, parts_under, settings_of


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
