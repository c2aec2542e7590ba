"""A stage as a job of a Ray cluster: code, settings and names go there, secrets never do."""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from ray.job_submission import JobDetails

import ich_ray
from ich_ray.config import Settings
from ich_ray.distributed.job_client import JobClient, answered, connect, follow, jobs_of
from ich_ray.distributed.session import REVISION_VARIABLE, SUBMISSION_VARIABLE, code_revision
from ich_ray.errors import ConfigError, SurroundingsError, first_line
from ich_ray.settings import parse, resolved
from ich_ray.submission import (
    Finished,
    Follow,
    Submit,
    exit_code_of,
    next_submission,
    refuse_secrets,
    submission_name,
)
from ich_ray.sweep import SweepConfig, spelled_out

SETTINGS_FILE = "settings.toml"
SWEEP_FILE = "sweep.toml"
LOCK_FILE = "constraints.txt"
PAUSE_S = 10.0
"""Between an attempt that the surroundings ended and the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to run, and how."""

    stage: str
    settings: Settings
    only: tuple[str, ...]
    again: bool
    """Also if the cluster has done it."""

    sweep: SweepConfig | None = None
    """Whose trainings the settings have sections for."""

    @property
    def name(self) -> str:
        """Of all attempts."""
        swept = {} if self.sweep is None else {"sweep": resolved(self.sweep)}
        return submission_name(self.stage, resolved(self.settings) | swept, self.only)

    @property
    def entrypoint(self) -> str:
        """The command that the cluster runs; sections of the settings are all it tells."""
        only = "".join(f" --only {name}" for name in self.only)
        swept = "" if self.sweep is None else f" --sweep {SWEEP_FILE}"
        return f"python -m jobs {self.stage} {SETTINGS_FILE}{swept}{only}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a submission."""

    submission: str
    state: str
    """`submitted`, `finished before`, or the state in which Ray left the job."""

    exit_code: int
    message: str = ""

    def line(self) -> str:
        """Return one line for a person."""
        said = f": {self.message}" if self.message else ""
        return f"submission {self.submission}: {self.state}, exit code {self.exit_code}{said}"


def request_of(  # noqa: PLR0913  (what a command line says)
    stage: str,
    settings: Settings,
    only: tuple[str, ...],
    *,
    again: bool,
    secrets: Mapping[str, str],
    sweep: SweepConfig | None = None,
) -> Request:
    """Check settings and make a request of them; the job joins the cluster that it runs in.

    Args:
        stage: Name on the command line.
        settings: Of the user.
        only: Sections that it is restricted to.
        again: Whether what was done is done again.
        secrets: Name -> value of every secret of this process's environment.
        sweep: Whose trainings the settings have sections for.

    Raises:
        ConfigError: A path of the settings is of this machine, or they hold a secret.
    """
    text = as_toml(settings)
    refuse_secrets(text, secrets)
    for where, place in _places(settings):
        if "://" not in place and not Path(place).is_absolute():
            raise ConfigError(
                f"{where}={place} is a path within a folder of this machine, and the job runs on "
                "another; give a URL (s3://bucket/prefix), or an absolute path that all nodes share"
            )
    inside = parse(Settings, text, ["cluster.address=auto"])
    travels = None if sweep is None else spelled_out(sweep, inside)
    return Request(stage=stage, settings=inside, only=tuple(only), again=again, sweep=travels)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where the submitter's person is."""

    write: Callable[[str], None]
    """Receives the job's log."""

    tell: Callable[[str], None]
    """Receives a sentence now and then."""

    cancels: Callable[[str], bool]
    """Asked with the submission id after an interrupt: whether to end the job."""


def submit(request: Request, address: str, terminal: Terminal, *, detach: bool) -> Outcome:
    """Start a job, or find the one that is there already, and follow it to its end.

    Args:
        request: What is to run.
        address: Of the job API.
        terminal: Of whoever waits for it.
        detach: Return once it is submitted.

    Raises:
        ConfigError: The address, the token or the cluster's Ray is wrong.
        SurroundingsError: The cluster does not answer.
    """
    client = connect(address)
    attempts = request.settings.submit.attempts
    for attempt in range(1, attempts + 1):
        name = request.name
        try:
            found = _start(client, address, request, terminal.tell)
            name = found.submission
            if isinstance(found, Finished):
                terminal.tell(f"{name} is finished; --again runs it anew")
                return Outcome(name, "finished before", 0)
            if detach:
                return Outcome(name, "submitted", 0)
            try:
                details = follow(client, address, name, terminal.write, terminal.tell)
            except KeyboardInterrupt:
                return _interrupted(client, address, name, terminal.cancels)
            outcome = _outcome(request, name, details)
        except SurroundingsError as error:
            # A head that is being started anew refuses connections for minutes.
            if attempt == attempts:
                raise
            outcome = Outcome(name, "lost", error.exit_code, str(error))
        if outcome.exit_code != SurroundingsError.exit_code or attempt == attempts:
            break
        terminal.tell(
            f"{outcome.line()}; attempt {attempt + 1} of {attempts} follows in {PAUSE_S:g} s"
        )
        time.sleep(PAUSE_S)
    return outcome


def _start(
    client: JobClient, address: str, request: Request, tell: Callable[[str], None]
) -> Submit | Follow | Finished:
    for _ in range(2):
        known = {job: str(d.status.value) for job, d in jobs_of(client, address).items()}
        found = next_submission(request.name, known, again=request.again)
        if isinstance(found, Follow):
            tell(f"{found.submission} runs already; following it")
        if not isinstance(found, Submit):
            return found
        try:
            _send(client, address, request, found.submission)
        except _Refused as error:
            if "already been used" in str(error) or "already exists" in str(error):
                # Another submitter was first: it is found at the next look.
                continue
            raise SurroundingsError(
                f"the cluster at {address} refuses the job: {first_line(error)}; look at the "
                "submit section and at the head's dashboard.log, then run the same command again"
            ) from error
        tell(f"submitted {found.submission} to {address}")
        return found
    raise SurroundingsError(
        f"others submit {request.name} to {address} and end it at once; run the same command again"
    )


def _send(client: JobClient, address: str, request: Request, submission: str) -> None:
    config = request.settings.submit
    with tempfile.TemporaryDirectory(prefix="ich-ray-") as folder:
        variables = {SUBMISSION_VARIABLE: submission, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        environment: dict[str, Any] = {"working_dir": folder, "env_vars": variables}
        _pack(Path(folder), request)
        if config.code == "upload":
            # An image tells its own.
            variables[REVISION_VARIABLE] = code_revision()
        if config.dependencies == "lock":
            environment["pip"] = {"packages": _locked(Path(folder)), "pip_check": False}
        with answered(address):
            try:
                client.submit_job(
                    entrypoint=request.entrypoint,
                    submission_id=submission,
                    runtime_env=environment,
                    metadata={"stage": request.stage, "only": ",".join(request.only)},
                    entrypoint_num_cpus=config.driver_cpus,
                    entrypoint_memory=int(config.driver_memory_gb * 1024**3),
                    entrypoint_resources=dict(config.driver_resources) or None,
                )
            except RuntimeError as error:
                raise _Refused(str(error)) from error


class _Refused(Exception):
    """The cluster answered, and did not take the job."""


def _pack(folder: Path, request: Request) -> None:
    """Put code and settings into a folder, and the lock file where it is installed; no more."""
    (folder / SETTINGS_FILE).write_text(as_toml(request.settings))
    if request.sweep is not None:
        (folder / SWEEP_FILE).write_text(as_toml(request.sweep))
    package = Path(ich_ray.__file__).parent
    if request.settings.submit.code == "upload":
        for source in (package, package.parent / "jobs"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / source.name, ignore=ignored)
    if request.settings.submit.dependencies == "lock":
        lock = package.parent / LOCK_FILE
        if not lock.exists():
            raise ConfigError(
                f"submit.dependencies is lock, and there is no {LOCK_FILE} beside the code; submit "
                "from a clone, or set it to image"
            )
        # Its hash is part of the run's record.
        shutil.copy(lock, folder / LOCK_FILE)


def _locked(folder: Path) -> list[str]:
    """Return the lines of the lock file."""
    text = (folder / LOCK_FILE).read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _outcome(request: Request, submission: str, details: JobDetails) -> Outcome:
    status = str(details.status.value)
    code = exit_code_of(status, details.driver_exit_code)
    # A failed stage has said itself what went wrong, above.
    said = "" if details.driver_exit_code is not None else str(details.message or "")
    if code == 1 and request.settings.submit.code == "image":
        said = (
            "if the log says No module named jobs, the node's image does not hold the code: use "
            'that of cluster/Dockerfile, or submit.code = "upload"'
        )
    return Outcome(submission, status.lower(), code, next(iter(said.splitlines()), ""))


def _interrupted(
    client: JobClient, address: str, submission: str, cancels: Callable[[str], bool]
) -> Outcome:
    if not cancels(submission):
        return Outcome(submission, "runs on", 130, "the same command follows it again")
    with answered(address):
        client.stop_job(submission)
    return Outcome(submission, "stopped", 130, "the same command goes on with what is missing")


def as_toml(settings: Settings | SweepConfig) -> str:
    """Return settings with every default written out, as `parse` reads them."""
    return tomli_w.dumps(_without_none(resolved(settings)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _places(settings: Settings) -> list[tuple[str, str]]:
    """Return setting -> value of every place that the job's nodes must reach."""
    found = [("store.root", settings.store.root)]
    for name, corpus in settings.corpora.items():
        for field in ("source", "labels", "series_overrides"):
            found.append((f"corpora.{name}.{field}", getattr(corpus, field)))
    for name, model in settings.models.items():
        found.append((f"models.{name}.init_trunk", model.init_trunk))
    return [(where, place) for where, place in found if place]
