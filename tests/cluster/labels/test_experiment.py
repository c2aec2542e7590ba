"""A family of variants through the command line: each step once, in order, and again after a stop.

The two variants and two seeds share one teacher a seed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ich_ray.capacity import Need, Nodes, Process
from ich_ray.distributed.processes import Walked, along_graph
from ich_ray.step_graph import Node
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import main
from tests.cluster.tiny_experiment import files_under
from tests.cluster.tiny_family import prepared, words

STEPS = {
    f"{stage} {name}-{seed}"
    for seed in (0, 1)
    for stage, name in (
        ("train", "baseline"),
        ("pseudo-label", "semi_supervised"),
        ("train", "semi_supervised"),
    )
}
PATIENCE_S = 180.0


def runs_of(root: Path) -> list[dict[str, Any]]:
    store = Store(str(root / "store"))
    table = open_table(store, store.url("runs"))
    rows: list[dict[str, Any]] = [] if table is None else read_rows(store, table).to_pylist()
    return sorted(rows, key=lambda row: str(row["started"]))


def test_every_step_is_run_once_after_what_it_needs(grown: Path) -> None:
    runs = runs_of(grown)
    assert {run["outcome"] for run in runs} == {"done"}
    named = {f"{run['stage']} {run['name']}": run for run in runs if run["name"]}
    assert set(named) >= STEPS
    assert [run["stage"] for run in runs].count("evaluate") == 2
    assert len(runs) == len(STEPS) + 2
    for seed in (0, 1):
        teacher, pool, student = (
            named[f"{step}-{seed}"]
            for step in ("train baseline", "pseudo-label semi_supervised", "train semi_supervised")
        )
        assert teacher["ended"] <= pool["started"]
        assert pool["ended"] <= student["started"]


def test_the_table_has_both_uncertainties_of_each_variant(grown: Path) -> None:
    content = json.loads((grown / "family" / "experiment.json").read_text())
    assert content["seeds"] == [0, 1]
    baseline, student = content["rows"]
    assert (baseline["name"], student["name"]) == ("baseline", "semi_supervised")
    less = student["less_baseline"]["exam_auc"]
    reports = [
        json.loads((grown / "family" / f"seed-{seed}" / "report.json").read_text())
        for seed in (0, 1)
    ]
    told = [r["differences"]["semi_supervised_minus_baseline"]["exam_auc"] for r in reports]
    assert [one["estimate"] for one in less["each"]] == [each["estimate"] for each in told]
    assert less["patients_low"] == pytest.approx(sum(each["low"] for each in told) / 2)
    assert less["seeds"]["seeds"] == 2
    over = content["over_trainings"]
    assert over["trainings"]["semi_supervised"] == ["semi_supervised-0", "semi_supervised-1"]
    for one in over["differences"]:
        # Counted once more, and the same.
        of_seeds = [r["differences"]["semi_supervised_minus_baseline"] for r in reports]
        estimates = [of[one["metric"]]["estimate"] for of in of_seeds]
        assert one["figures"] == pytest.approx(estimates, abs=1e-12)
    assert less["both"] is not None
    assert all("experiment" not in report["settings"] for report in reports)
    assert set(reports[0]["settings"]["models"]) == {"baseline-0", "semi_supervised-0"}
    assert "less baseline" in (grown / "family" / "experiment.txt").read_text()
    assert (grown / "family" / "differences.svg").read_bytes().startswith(b"<?xml")


def test_a_rerun_starts_nothing_and_prints_the_same_table(
    grown: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_under(grown / "store")
    rows = json.loads((grown / "family" / "experiment.json").read_text())["rows"]
    assert main(words(grown, "--json")) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["up_to_date"]
    assert json.loads(line)["rows"] == rows
    assert files_under(grown / "store") == before


def test_a_dry_run_shows_the_graph_and_touches_nothing(
    grown: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_under(grown)
    assert main(words(grown, "--dry-run", "--json", "experiment.seeds=[1, 2]")) == 0
    plan = json.loads(capfd.readouterr().out)
    assert plan["train semi_supervised-1"] == plan["evaluate seed-1"] == plan["ingest a"] == "done"
    assert plan["train baseline-2"] == plan["evaluate seed-2"] == "would run"
    assert files_under(grown) == before


def test_an_oracle_over_slices_without_labels_is_refused_with_what_to_do(
    grown: Path, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, finished, store_of=grown)
    more = ('experiment.variants=["pixel_oracle"]', "experiment.seeds=[0]")
    assert main(words(root, *more)) == 2
    out, err = capfd.readouterr()
    assert "pseudo_labels.pixel_oracle-0 has mode=pixel_oracle, an oracle, and 64 slices of" in err
    assert "failed pseudo-label pixel_oracle-0: exit code 2 (settings or usage)" in out
    assert "waits for what failed: train pixel_oracle-0, evaluate seed-0" in out
    assert len(runs_of(root)) == len(runs_of(grown))


def test_a_variant_that_fails_is_named_with_how_to_have_the_others_table(
    grown: Path, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, finished, store_of=grown)
    more = ("models.student.learning_rate=1e30", "experiment.seeds=[0]")
    assert main(words(root, *more)) == 4
    out, err = capfd.readouterr()
    assert "failed train semi_supervised-0: exit code 4 (a data or quality gate failed)" in out
    assert "train semi_supervised-0: ich-ray: model semi_supervised-0: " in err
    assert "take its variant out of experiment.variants for a table of the others" in out
    assert main(words(root, 'experiment.variants=["baseline"]', "experiment.seeds=[0]")) == 0
    assert "baseline" in (root / "family" / "experiment.txt").read_text()


def test_what_an_experiment_made_is_looked_at_by_the_settings_of_its_seed(
    grown: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = str(grown / "family" / "seed-1" / "settings.toml")
    folder = f"diagnose.folder={grown / 'diagnose'}"
    assert main(["diagnose", settings, "semi_supervised-1", folder, "--json"]) == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert json.loads(Path(told["record"]).read_text())["slices"] == 64


def test_an_interrupted_family_goes_on_where_it_stopped(finished: Path, tmp_path: Path) -> None:
    root = prepared(tmp_path, finished)
    more = ("experiment.seeds=[0]", "models.student.steps=5000")
    command = [sys.executable, "-m", "jobs", *words(root, *more)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not done_of(root, "train baseline-0"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on where this one stopped" in err
    assert main(words(root, "experiment.seeds=[0]")) == 0
    names = [f"{run['stage']} {run['name']}" for run in runs_of(root) if run["outcome"] == "done"]
    assert names.count("train baseline-0") == 1
    assert "train semi_supervised-0" in names


def done_of(root: Path, step: str) -> bool:
    done = [run for run in runs_of(root) if run["outcome"] == "done"]
    return step in {f"{run['stage']} {run['name']}" for run in done}


# The graph itself, with commands of its own.

APPEND = (
    "import pathlib, sys, time; log = pathlib.Path(sys.argv[1]); "
    "log.open('a').write(f'+{sys.argv[2]} '); time.sleep(0.4); "
    "log.open('a').write(f'-{sys.argv[2]} '); sys.exit(int(sys.argv[3]))"
)


def walked(  # noqa: PLR0913  (a graph, and what may limit it)
    tmp_path: Path,
    after: Mapping[str, str],
    *,
    codes: Mapping[str, int] | None = None,
    known: Mapping[str, int] | None = None,
    cpus: float = 2.0,
    at_once: int = 0,
    locks: Sequence[str] = (),
) -> tuple[Walked, list[str]]:
    """Walk a graph whose steps say when they begin and end."""
    need = Need(what="a step", each=Process())
    graph = [
        Node(name=n, after=frozenset(a), need=need, lock="x" if n in locks else "")
        for n, a in after.items()
    ]
    log = tmp_path / "log"
    log.touch()
    found = along_graph(
        graph,
        nodes=[Nodes(cpus=cpus)],
        at_once=at_once,
        known=lambda name: (known or {}).get(name),
        command=lambda n: [sys.executable, "-c", APPEND, str(log), n, str((codes or {}).get(n, 0))],
        tell=lambda _: None,
        variables=os.environ,
    )
    return found, log.read_text().split()


def busiest(log: Sequence[str]) -> int:
    running, most = 0, 0
    for word in log:
        running += 1 if word[0] == "+" else -1
        most = max(most, running)
    return most


def test_steps_run_beside_each_other_once_what_they_need_is_done(tmp_path: Path) -> None:
    found, log = walked(tmp_path, {"a": "", "b": "", "c": "ab", "d": "c"})
    assert found.done == set("abcd")
    assert log.index("+c") > max(log.index("-a"), log.index("-b"))
    assert log.index("+d") > log.index("-c")
    assert busiest(log) == 2


@pytest.mark.parametrize("limit", [{"cpus": 1.0}, {"at_once": 1}, {"locks": "abc"}])
def test_room_a_limit_or_a_lock_keeps_them_apart(tmp_path: Path, limit: dict[str, Any]) -> None:
    found, log = walked(tmp_path, dict.fromkeys("abc", ""), **limit)
    assert found.done == set("abc")
    assert busiest(log) == 1


def test_a_step_that_fails_or_is_refused_stops_only_what_needs_it(tmp_path: Path) -> None:
    after = {"a": "", "b": "", "c": "a", "d": "b", "e": "", "f": "e", "g": "cd"}
    found, log = walked(tmp_path, after, codes={"a": 4}, known={"e": 2}, cpus=8.0)
    assert found.failed == {"a": 4, "e": 2}
    assert found.done == {"b", "d"}
    assert not {"+c", "+e", "+f", "+g"} & set(log)


def test_what_is_done_starts_no_process(tmp_path: Path) -> None:
    found, log = walked(tmp_path, {"a": "", "b": "a", "c": "b"}, known={"a": 0, "b": 0})
    assert (found.skipped, dict(found.codes)) == (("a", "b"), {"c": 0})
    assert log == ["+c", "-c"]
