"""What a submitter sends, asks, waits for and tries again, with a job API that is played."""

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from ray.dashboard.modules.job.common import JobStatus
from ray.dashboard.modules.job.pydantic_models import JobDetails, JobType

from ich_ray.config import Settings
from ich_ray.distributed import job_client, submit
from ich_ray.distributed.job_client import JobClient, follow
from ich_ray.errors import SurroundingsError
from ich_ray.settings import parse
from ich_ray.submission import Follow
from jobs.submit import _asks_to_cancel
from tests.cluster.tiny_experiment import settings_text

ADDRESS = "http://head:8265"


def request_of(*overrides: str) -> submit.Request:
    settings = parse(
        Settings, settings_text(Path("/shared")), ["store.root=s3://ich/store", *overrides]
    )
    return submit.request_of("train", settings, ("teacher",), again=False, secrets={})


def details_of(status: JobStatus, *, code: int | None = None) -> JobDetails:
    told = "waits for {x: 1}" if code is None else ""
    return JobDetails(
        type=JobType.SUBMISSION, entrypoint="", status=status, message=told, driver_exit_code=code
    )


class Played(JobClient):
    """A client whose answers are given."""

    def __init__(self, *statuses: JobStatus) -> None:
        self.statuses = list(statuses)
        self.sent: list[dict[str, Any]] = []
        self.folders: list[set[str]] = []

    def submit_job(self, **job: Any) -> None:  # type: ignore[override]
        folder = Path(job["runtime_env"]["working_dir"])
        self.sent.append(job)
        self.folders.append({path.name for path in folder.iterdir()})

    def get_job_info(self, submission: str) -> Any:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return details_of(status)

    def get_job_logs(self, submission: str) -> str:
        return ""

    async def tail_job_logs(self, submission: str) -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield ""


@pytest.mark.parametrize(
    ("settings", "packed", "revision", "installs"),
    [
        ((), {"settings.toml", "ich_ray", "jobs"}, True, False),
        (("submit.code=image",), {"settings.toml"}, False, False),
        (
            ("submit.code=image", "submit.dependencies=lock"),
            {"settings.toml", "constraints.txt"},
            False,
            True,
        ),
    ],
)
def test_what_is_sent_is_what_the_settings_say_and_its_record_names_what_runs(
    settings: tuple[str, ...], packed: set[str], *, revision: bool, installs: bool
) -> None:
    api: Any = Played()
    submit._send(api, ADDRESS, request_of(*settings), "train-0-1")
    (sent,) = api.sent
    assert api.folders == [packed]
    variables = sent["runtime_env"]["env_vars"]
    assert variables["ICH_RAY_SUBMISSION"] == "train-0-1"
    # An image's own revision, and the hash of its own lock, are not those of the submitter.
    assert ("ICH_RAY_CODE_REVISION" in variables) is revision
    assert ("pip" in sent["runtime_env"]) is installs
    if installs:
        assert "ray==2.60.0" in " ".join(sent["runtime_env"]["pip"]["packages"])


def test_what_the_driver_reserves_is_sent() -> None:
    api: Any = Played()
    words = ("submit.driver_cpus=2", "submit.driver_memory_gb=1.5", "submit.driver_resources.x=1")
    submit._send(api, ADDRESS, request_of(*words), "train-0-1")
    (sent,) = api.sent
    assert sent["entrypoint_num_cpus"] == 2
    assert sent["entrypoint_memory"] == 1.5 * 1024**3
    assert sent["entrypoint_resources"] == {"x": 1}


def test_attempts_outlast_a_head_that_refuses_connections_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Callable[[], Follow]] = [refuse, refuse, lambda: Follow("train-0-1")]
    ended = details_of(JobStatus.SUCCEEDED, code=0)
    monkeypatch.setattr(submit, "connect", lambda _: Played())
    monkeypatch.setattr(submit, "_start", lambda *_: answers.pop(0)())
    monkeypatch.setattr(submit, "follow", lambda *_: ended)
    monkeypatch.setattr(submit, "PAUSE_S", 0.0)
    told: list[str] = []
    terminal = submit.Terminal(told.append, told.append, lambda _: False)
    found = submit.submit(request_of("submit.attempts=3"), ADDRESS, terminal, detach=False)
    assert (found.state, found.exit_code) == ("succeeded", 0)
    assert [line.rpartition("; ")[2] for line in told] == [
        f"attempt {number} of 3 follows in 0 s" for number in (2, 3)
    ]
    answers.append(refuse)
    with pytest.raises(SurroundingsError, match="cannot reach"):
        submit.submit(request_of(), ADDRESS, terminal, detach=False)


def refuse() -> Follow:
    raise SurroundingsError("cannot reach a job API")


def test_of_a_job_that_waits_for_room_it_is_told_once_what_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_client, "QUIET_S", 0.01)
    api: Any = Played(JobStatus.PENDING, JobStatus.PENDING, JobStatus.PENDING, JobStatus.SUCCEEDED)
    told: list[str] = []
    details = follow(api, ADDRESS, "train-0-1", lambda _: None, told.append)
    assert details.status == JobStatus.SUCCEEDED
    (line,) = told
    assert "train-0-1 has not begun (waits for {x: 1}); its driver reserves" in line


def test_a_job_that_failed_as_the_image_lacks_the_code_is_answered_with_what_to_do() -> None:
    failed = details_of(JobStatus.FAILED, code=1)
    with_image = submit._outcome(request_of("submit.code=image"), "train-0-1", failed)
    assert with_image.exit_code == 1
    assert 'submit.code = "upload"' in with_image.message
    assert submit._outcome(request_of(), "train-0-1", failed).message == ""


@pytest.mark.parametrize(
    ("typed", "ends"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False)]
)
def test_after_an_interrupt_a_person_is_asked_whether_the_job_ends_too(
    typed: str, *, ends: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person, terminal = pty.openpty()
    with os.fdopen(person, "w") as keyboard, os.fdopen(terminal) as seen:
        monkeypatch.setattr(sys, "stdin", seen)
        keyboard.write(typed)
        keyboard.flush()
        assert _asks_to_cancel("train-0-1") is ends
    assert "end the job train-0-1 too? [y/N]" in capsys.readouterr().err


def test_without_a_person_to_ask_the_job_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not _asks_to_cancel("train-0-1")
