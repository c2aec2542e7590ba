"""Which job a submission is: its name says what it does, and a repeated one finds the first."""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ich_ray.errors import ConfigError
from ich_ray.identity import content_hash

RUNNING = frozenset({"PENDING", "RUNNING"})
DONE = "SUCCEEDED"

SURROUNDINGS = 5
"""Exit code of what may be tried again."""

KILLED = 128 + signal.SIGKILL
"""SIGKILL, as a shell between Ray and the driver tells it: memory, a node's power."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Nothing like it is there, or it failed: start this."""

    submission: str


@dataclass(frozen=True, slots=True)
class Follow:
    """It runs."""

    submission: str


@dataclass(frozen=True, slots=True)
class Finished:
    """It has been done."""

    submission: str


def submission_name(stage: str, settings: Mapping[str, Any], only: tuple[str, ...]) -> str:
    """Return what all attempts of one submission begin with.

    Args:
        stage: Name on the command line.
        settings: Resolved.
        only: Sections that it is restricted to.

    >>> submission_name("train", {"seed": 1}, ()) == submission_name("train", {"seed": 2}, ())
    False
    """
    return f"{stage}-{content_hash({'settings': settings, 'only': sorted(only)})}"


def next_submission(
    name: str, jobs: Mapping[str, str], *, again: bool
) -> Submit | Follow | Finished:
    """Decide what becomes of a submission.

    Args:
        name: Of all its attempts.
        jobs: Submission id -> status of every job that the cluster knows.
        again: Whether one that was done is done again.

    >>> next_submission("train-ab", {"train-ab-1": "FAILED", "train-ab-2": "RUNNING"}, again=False)
    Follow(submission='train-ab-2')
    """
    attempts = {
        int(number): status
        for job, status in jobs.items()
        if job.startswith(f"{name}-") and (number := job.removeprefix(f"{name}-")).isdigit()
    }
    if not attempts:
        return Submit(f"{name}-1")
    latest = max(attempts)
    if attempts[latest] in RUNNING:
        return Follow(f"{name}-{latest}")
    if attempts[latest] == DONE and not again:
        return Finished(f"{name}-{latest}")
    return Submit(f"{name}-{latest + 1}")


def exit_code_of(status: str, driver_exit_code: int | None) -> int:
    """Return the exit code of a job that ended: its stage's own, where it came to have one.

    >>> exit_code_of("SUCCEEDED", 0), exit_code_of("FAILED", 4), exit_code_of("STOPPED", None)
    (0, 4, 130)
    >>> exit_code_of("FAILED", -9), exit_code_of("FAILED", 137), exit_code_of("FAILED", None)
    (5, 5, 5)
    """
    if status == "STOPPED":
        return 130
    if driver_exit_code is None or driver_exit_code < 0 or driver_exit_code == KILLED:
        # It never started, or a signal ended it: its node, its memory.
        return 0 if status == DONE else SURROUNDINGS
    return driver_exit_code


def refuse_secrets(text: str, secrets: Mapping[str, str]) -> None:
    """Refuse settings that hold the value of a secret: the cluster would keep and show it.

    Args:
        text: Of the resolved settings.
        secrets: Name of a variable -> its value here.

    Raises:
        ConfigError: It names the variable, never the value.
    """
    for name, value in secrets.items():
        # TOML escapes quotes, backslashes and line ends, as JSON does.
        written = json.dumps(value, ensure_ascii=False)[1:-1]
        if len(value) >= 8 and (value in text or written in text):
            raise ConfigError(
                f"the settings hold the value of {name}; take it out: nodes get secrets from their "
                "own environment (a Kubernetes secret, an instance role), never from a job"
            )
