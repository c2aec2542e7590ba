"""One log format on driver and workers, and nothing in it that names a patient."""

import errno
import fcntl
import json
import logging
import os
import struct
import sys
import termios
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.runtime_env import constants as ray_job_variables

from ich_ray.config_log import LogConfig
from ich_ray.distributed import logs
from ich_ray.distributed.origin import Origin, enter
from ich_ray.distributed.progress import Lines, bar
from ich_ray.errors import ConfigError
from tests.cluster.ray_telemetry import say_from_a_worker, worker_lines

FIELDS = {
    *("time", "asctime", "timestamp_ns", "levelname", "logger", "message", "filename", "lineno"),
    *("process", "stage", "section", "run", "job_id", "node_id", "worker_id"),
}
OF_A_TASK = {"task_id", "task_name", "task_func_name", "actor_id", "actor_name"}


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    """Leave the logging of this process as it was."""
    root, ours = logging.getLogger(), logging.getLogger("ich_ray")
    handlers, level, hook = root.handlers[:], ours.level, sys.excepthook
    yield
    logs.configure(LogConfig(format="text"))
    root.handlers[:], sys.excepthook = handlers, hook
    ours.setLevel(level)
    enter(Origin())


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("ray_cluster")
def test_a_line_of_a_worker_has_the_fields_of_a_line_of_the_driver(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(LogConfig(format="json"))
    origin = Origin(stage="ingest", section="a", run="run-of-fields")
    ray.get(ray.remote(num_cpus=0)(say_from_a_worker).remote(origin))
    enter(origin)
    logging.getLogger("ich_ray.tests").info("from the driver", extra={"slices": 3})
    (ours,) = json_lines(capsys.readouterr().err)
    (theirs,) = [line for line in worker_lines() if line.get("run") == origin.run]
    assert set(ours) == FIELDS | {"slices"}
    assert set(theirs) - OF_A_TASK == set(ours)
    for line in (ours, theirs):
        assert (line["stage"], line["section"], line["slices"]) == ("ingest", "a", 3)
        assert line["logger"] == "ich_ray.tests"
        assert line["time"].endswith("Z")
    assert ours["node_id"] == theirs["node_id"] == ray.get_runtime_context().get_node_id()
    assert ours["worker_id"] != theirs["worker_id"]
    assert abs(float(ours["timestamp_ns"]) - float(theirs["timestamp_ns"])) < 60e9


@pytest.mark.usefixtures("ray_cluster")
def test_every_kind_of_worker_writes_the_same_format(finished: Path) -> None:
    found = {}
    for line in worker_lines():
        if line.get("logger", "").startswith("ich_ray.distributed"):
            found[line["message"]] = line
    kinds = {"part written": "ingest", "part predicted": "predict", "training begins": "train"}
    kinds |= {"part labelled": "pseudo-label", "part compared": "evaluate"}
    for message, stage in kinds.items():
        assert found[message].keys() >= FIELDS, message
        assert found[message]["stage"] == stage


def test_text_is_for_a_person_and_holds_warnings_and_errors_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(LogConfig(format="text"))
    logging.getLogger("ich_ray.tests").info("a detail")
    logging.getLogger("ich_ray.tests").warning("look")
    logs.tell(ConfigError("set a.b"))
    assert capsys.readouterr().err == "WARNING ich_ray.tests: look\nich-ray: set a.b\n"


@pytest.mark.parametrize(("job", "told"), [("", "text"), ("{}", "json")])
def test_a_driver_writes_json_of_itself_where_it_is_a_job_of_a_cluster(
    monkeypatch: pytest.MonkeyPatch, job: str, told: str
) -> None:
    monkeypatch.delenv(logs.JOB_VARIABLE, raising=False)
    if job:
        monkeypatch.setenv(logs.JOB_VARIABLE, job)
    assert logs.wants_json(LogConfig()) is (told == "json")
    assert logs.wants_json(LogConfig(format="json"))
    assert not logs.wants_json(LogConfig(format="text"))


def test_ray_names_the_variable_by_which_a_job_is_known() -> None:
    assert ray_job_variables.RAY_JOB_CONFIG_JSON_ENV_VAR == logs.JOB_VARIABLE


def fail_at_a_file() -> None:
    try:
        Path("/exports/doe_jane.dcm").read_bytes()
    except FileNotFoundError as error:
        raise RuntimeError("cannot read doe_jane.dcm") from error


@pytest.mark.parametrize("kind", ["json", "text"])
def test_a_trace_says_where_and_not_what(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(format=kind))
    try:
        fail_at_a_file()
    except RuntimeError:
        logging.getLogger("ich_ray.tests").exception("failed")
    said = capsys.readouterr().err
    assert "doe_jane" not in said
    assert "builtins.RuntimeError" in said
    assert "builtins.FileNotFoundError" in said
    assert "fail_at_a_file" in said


def test_our_own_errors_are_told_whole() -> None:
    assert logs.without_texts(ConfigError("set a.b")) == "ich_ray.errors.ConfigError: set a.b"


def test_an_error_of_ours_and_a_bug_are_json_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(format="json"))
    logs.tell(ConfigError("set a.b"))
    try:
        fail_at_a_file()
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    refused, crashed = json_lines(capsys.readouterr().err)
    assert (refused["levelname"], refused["message"], refused["exit_code"]) == (
        "ERROR",
        "set a.b",
        2,
    )
    assert crashed["levelname"] == "CRITICAL"
    assert "doe_jane" not in str(crashed)


def test_warnings_are_json_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(format="json"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("an old name", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    (line,) = json_lines(capsys.readouterr().err)
    assert line["logger"] == "py.warnings"
    assert "an old name" in line["message"]


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_progress_come_every_so_often_and_at_the_end_with_rate_and_time_left() -> None:
    clock, told = Clock(), []
    lines = Lines(
        "predict b",
        total=100,
        unit="part",
        first=20,
        every_s=15.0,
        write=lambda line, fields: told.append((line, fields)),
        clock=clock,
    )
    for _ in range(40):
        clock.now += 1
        lines.update(1)
    lines.tell()
    lines.tell()
    assert [line for line, _ in told] == [
        "predict b: 35 of 100 parts, 1.00/s, 0:01:05 left",
        "predict b: 50 of 100 parts, 1.00/s, 0:00:50 left",
        "predict b: 60 of 100 parts, 1.00/s, 0:00:40 left",
    ]
    assert told[-1][1] == {
        **{"what": "predict b", "done": 60, "total": 100, "unit": "part"},
        **{"rate_per_s": 1.0, "eta_s": 40.0},
    }


def run_a_bar() -> None:
    with bar("label b", total=3, unit="part") as shown:
        for _ in range(3):
            shown.update(1)
        shown.set_postfix(loss="0.5")


def test_progress_in_a_file_has_lines_and_no_carriage_return(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logs.configure(LogConfig(format="text", progress_every_s=60.0))
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        run_a_bar()
    said = (tmp_path / "log").read_bytes().decode()
    assert "\r" not in said
    (line,) = said.splitlines()
    assert line.endswith("s left, loss 0.5") or "label b: 3 of 3 parts" in line


def test_progress_in_json_has_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogConfig(format="json", progress_every_s=60.0))
    run_a_bar()
    (line,) = json_lines(capsys.readouterr().err)
    assert line["progress"]["done"] == line["progress"]["total"] == 3
    assert line["progress"]["loss"] == "0.5"


def all_said_to(terminal: int) -> str:
    """Return what was written to a terminal whose writers have closed it."""
    said = b""
    while True:
        try:
            part = os.read(terminal, 10_000)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            part = b""
        if not part:
            return said.decode()
        said += part


def test_progress_in_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.openpty()
    with open(writer, "w") as terminal:
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        monkeypatch.setattr(sys, "stderr", terminal)
        assert terminal.isatty()
        run_a_bar()
    said = all_said_to(reader)
    os.close(reader)
    assert "\r" in said
    assert "3/3" in said
