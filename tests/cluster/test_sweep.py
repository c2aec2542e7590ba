"""A sweep through the command line: several at once, each once, and none in another's way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ich_ray.config import Settings
from ich_ray.distributed.processes import side_by_side
from ich_ray.distributed.submit import Request, _pack, request_of
from ich_ray.distributed.sweep import SweepSummary
from ich_ray.settings import parse
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from ich_ray.sweep import read_sweep, rows_of, with_members
from jobs.cli import main
from jobs.stage import arguments_of, settings_of
from tests.cluster.tiny_experiment import files_under, settings_text

SWEEP = """
model = "teacher"
seeds = [0, 1]
[variants.slow]
learning_rate = 0.001
[variants.quick]
"""
BROKEN = "[variants.broken]\nlearning_rate = 1e30\n"
NAMES = ["teacher-slow-0", "teacher-slow-1", "teacher-quick-0", "teacher-quick-1"]
TINY = ("models.teacher.num_workers=1", "models.teacher.steps=4")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def swept(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two variants and two seeds, trained by the command line."""
    root = tmp_path_factory.mktemp("swept")
    shutil.copytree(finished / "store", root / "store")
    (root / "settings.toml").write_text(settings_text(root))
    (root / "sweep.toml").write_text(SWEEP)
    assert main(words(root)) == 0
    return root


def words(root: Path, *more: str) -> list[str]:
    return ["train", str(root / "settings.toml"), "--sweep", str(root / "sweep.toml"), *TINY, *more]


def runs_of(root: Path) -> list[dict[str, Any]]:
    store = Store(str(root / "store"))
    table = open_table(store, store.url("runs"))
    assert table is not None
    rows: list[dict[str, Any]] = read_rows(store, table).to_pylist()
    return sorted(rows, key=lambda row: str(row["started"]))


def tables_of(root: Path) -> list[dict[str, Any]]:
    paths = (root / "store" / "sweeps" / "teacher").glob("*.json")
    return [json.loads(path.read_text()) for path in paths]


def test_every_training_is_run_once_and_two_at_a_time(swept: Path) -> None:
    runs = runs_of(swept)
    assert sorted(run["name"] for run in runs) == sorted(NAMES)
    assert {run["outcome"] for run in runs} == {"done"}
    assert runs[1]["started"] < runs[0]["ended"]


def test_the_table_names_the_trainings_and_has_a_row_a_variant(swept: Path) -> None:
    (table,) = tables_of(swept)
    assert [training["name"] for training in table["trainings"]] == NAMES
    assert len({training["model"] for training in table["trainings"]}) == len(NAMES)
    assert [(row["variant"], row["trained"]) for row in table["rows"]] == [
        ("slow", 2),
        ("quick", 2),
    ]
    loss = table["rows"][1]["figures"]["loss"]
    assert loss["low"] < loss["mean"] < loss["high"]
    assert table["rows"][1]["less_first"]["loss"]["seeds"] == 2


def test_a_rerun_starts_nothing_and_prints_the_same_table(
    swept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_under(swept / "store")
    assert main(words(swept, "--json")) == 0
    (line,) = capfd.readouterr().out.splitlines()
    shown = json.loads(line)
    assert shown["up_to_date"]
    assert shown["rows"] == tables_of(swept)[0]["rows"]
    assert main(words(swept)) == 0
    said = capfd.readouterr().out
    assert "variant  seeds  training loss               less slow" in said
    assert files_under(swept / "store") == before


def test_one_training_of_a_sweep_is_found_by_its_name(
    swept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words(swept, "--only", "teacher-quick-1")) == 0
    assert capfd.readouterr().out.startswith("train teacher-quick-1: up to date")


def test_a_dry_run_plans_each_training_and_touches_nothing(
    swept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_under(swept / "store")
    assert main(words(swept, "--dry-run", "--json", "models.teacher.steps=5")) == 0
    plans = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(plan["model"], plan["up_to_date"]) for plan in plans] == [(n, False) for n in NAMES]
    assert files_under(swept / "store") == before


def test_a_variant_that_fails_leaves_the_others_alone(
    swept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "broken"
    shutil.copytree(swept / "store", root / "store")
    (root / "settings.toml").write_text(settings_text(root))
    # The broken one is the first: what comes after it is trained all the same.
    sweep = SWEEP.replace("[variants.slow]", f"{BROKEN}[variants.slow]").replace("[0, 1]", "[0, 2]")
    sweep = sweep.replace("[variants.quick]", "")
    (root / "sweep.toml").write_text(sweep)
    assert main(words(root)) == 4
    out, err = capfd.readouterr()
    for seed in (0, 2):
        assert f"failed teacher-broken-{seed}: exit code 4 (a data or quality gate failed)" in out
        assert f"teacher-broken-{seed}: ich-ray: model teacher-broken-{seed}: " in err
    (table,) = [t for t in tables_of(root) if t["seeds"] == [0, 2]]
    assert [(row["variant"], row["trained"]) for row in table["rows"]] == [
        ("broken", 0),
        ("slow", 2),
    ]
    # That of seed 0 was there.
    done = [run["name"] for run in runs_of(root)[len(NAMES) :] if run["outcome"] == "done"]
    assert done == ["teacher-slow-2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate",), "--sweep is an option of train, evaluate sweeps nothing"),
        (
            ("submit", "evaluate", "--address", "http://127.0.0.1:9"),
            "--sweep is an option of train",
        ),
        (("train", "models.teacher.stps=4"), "unknown setting models.teacher.stps; did you mean"),
        (
            ("train", "--only", "teacher-slow-9"),
            "--only teacher-slow-9: known are teacher, student",
        ),
    ],
)
def test_a_sweep_is_refused_where_it_means_nothing(
    swept: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    files = [str(swept / "settings.toml"), "--sweep", str(swept / "sweep.toml")]
    at = 2 if arguments[0] == "submit" else 1
    assert main([*arguments[:at], *files, *arguments[at:]]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"ich-ray: {message}")


def test_a_sweep_that_is_not_there_is_named(swept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(swept / "settings.toml"), "--sweep", "nowhere.toml"]) == 2
    assert "cannot read the sweep nowhere.toml" in capfd.readouterr().err


def request(text: str, *, only: tuple[str, ...] = ()) -> Request:
    sweep = read_sweep(text)
    settings = parse(
        Settings,
        settings_text(Path("/shared")),
        ["submit.code=image", *TINY],
        change=lambda tree: with_members(tree, sweep),
    )
    return request_of("train", settings, only, again=False, secrets={}, sweep=sweep)


def test_a_sweep_travels_with_its_settings_and_means_the_same_there(tmp_path: Path) -> None:
    sent = request(SWEEP.replace("[variants.quick]", '[variants.quick]\npreset = "cpu"'))
    assert sent.entrypoint == "python -m jobs train settings.toml --sweep sweep.toml"
    _pack(tmp_path, sent)
    assert {path.name for path in tmp_path.iterdir()} == {"settings.toml", "sweep.toml"}
    # As the job's command line reads them.
    files = [str(tmp_path / name) for name in ("settings.toml", "sweep.toml")]
    there = settings_of(arguments_of("train", [files[0], "--sweep", files[1]]))
    assert there == sent.settings
    assert there.models["teacher-quick-1"].preset == "cpu"


def test_another_sweep_is_another_submission() -> None:
    names = {
        request(SWEEP).name,
        request(SWEEP.replace("0.001", "0.002")).name,
        request("at_once = 1\n" + SWEEP).name,
        request(SWEEP, only=("teacher-slow-0",)).name,
    }
    assert len(names) == 4
    assert request(SWEEP).name == request(SWEEP).name


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_a_process_s_lines_carry_its_name_and_json_passes_as_it_is() -> None:
    told: list[str] = []
    text = "import sys; sys.stderr.write('one\\n{\"a\": 1}\\nlast'); sys.exit(CODE)"
    commands = {
        name: script(text.replace("CODE", str(code))) for name, code in (("a", 0), ("b", 4))
    }
    codes = side_by_side(commands, at_once=1, tell=told.append, variables={})
    assert codes == {"a": 0, "b": 4}
    assert told == [line for name in "ab" for line in (f"{name}: one", '{"a": 1}', f"{name}: last")]


def test_no_more_run_at_once_than_may_and_variables_reach_them(tmp_path: Path) -> None:
    text = (
        "import os, pathlib, time; "
        "here = pathlib.Path(os.environ['ICH_HERE'], str(os.getpid())); here.touch(); "
        "time.sleep(0.5); print(len(list(here.parent.iterdir())), file=__import__('sys').stderr); "
        "here.unlink()"
    )
    told: list[str] = []
    codes = side_by_side(
        {name: script(text) for name in "abcde"},
        at_once=2,
        tell=told.append,
        variables={"ICH_HERE": str(tmp_path)},
    )
    assert set(codes.values()) == {0}
    assert max(int(line.split(": ")[1]) for line in told) == 2


SWEEPS = """
import pathlib, signal, sys
from ich_ray.distributed.processes import side_by_side
def stop(*_): raise KeyboardInterrupt
for sent in (signal.SIGTERM, signal.SIGINT):
    signal.signal(sent, stop)
child = [sys.executable, "-c", {child!r}]
tell = lambda line: (sys.stdout.write(line + "\\n"), sys.stdout.flush())
try:
    side_by_side(dict.fromkeys("abc", child), at_once=2, tell=tell, variables={{}})
except KeyboardInterrupt:
    sys.exit(143)
"""
CHILD = """
import os, signal, sys, time
def stop(*_):
    sys.stderr.write("let go\\n")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
sys.stderr.write(f"runs as {os.getpid()}\\n")
sys.stderr.flush()
time.sleep(600)
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_a_sweep_stops_its_trainings_and_starts_no_more(sent: signal.Signals) -> None:
    process = subprocess.Popen(
        script(SWEEPS.format(child=CHILD)), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        begun = [process.stdout.readline() for _ in range(2)]
        process.send_signal(sent)
        said = process.communicate(timeout=PATIENCE_S)[0]
    finally:
        process.kill()
    assert process.returncode == 143
    assert sorted(said.splitlines()) == ["a: let go", "b: let go"]
    for pid in (int(line.rsplit(" ", 1)[1]) for line in begun):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_training_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ich_ray.distributed.processes.LET_GO_S", 0.5)
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "sys.stderr.write('deaf\\n'); sys.stderr.flush(); time.sleep(600)"

    def interrupt(_: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    # A shell has its background commands ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side({"a": script(deaf)}, at_once=1, tell=interrupt, variables={})
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < PATIENCE_S


def summary_of(figures: Mapping[str, Mapping[str, float]], **failed: int) -> SweepSummary:
    return SweepSummary(
        sweep="teacher",
        rows=rows_of(read_sweep(SWEEP), figures),
        failed={name.replace("_", "-"): code for name, code in failed.items()},
        writes="out/teacher.json",
        up_to_date=False,
    )


def test_a_sweep_of_which_nothing_came_says_what_failed() -> None:
    summary = summary_of({}, teacher_slow_0=5, teacher_quick_0=4)
    assert summary.exit_code == 5
    assert summary.line().splitlines() == [
        "failed teacher-slow-0: exit code 5 (the surroundings failed: try again)",
        "failed teacher-quick-0: exit code 4 (a data or quality gate failed)",
        "sweep teacher: done, table out/teacher.json",
    ]


def test_a_table_says_which_setting_gives_its_metrics_and_why_it_has_no_intervals() -> None:
    said = summary_of({"teacher-slow-0": {"loss": 0.3}, "teacher-quick-0": {"loss": 0.2}}).line()
    assert "models.teacher.validation.tuning names selections to measure" in said
    assert "one seed a variant: no intervals" in said
    figures = {f"teacher-slow-{seed}": {"loss": 0.3, "dsc": 0.5} for seed in (0, 1)}
    said = summary_of(figures).line()
    assert "validation" not in said
    assert "one seed" not in said
