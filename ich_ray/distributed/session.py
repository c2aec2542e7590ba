"""One run's connection to Ray, made only when there is work, and what every stage shares.

Ray is imported where it is first used: a run that finds nothing to do pays for no cluster.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ich_ray.budget import NO_HOURS, Hours
from ich_ray.config import ClusterConfig, InputConfig, Settings
from ich_ray.distributed import logs, records
from ich_ray.distributed.causes import cause_of
from ich_ray.distributed.nodes import check_own_variables, check_variables
from ich_ray.distributed.origin import Origin
from ich_ray.errors import ConfigError, IchRayError, SurroundingsError, first_line
from ich_ray.identity import Pseudonyms, content_hash
from ich_ray.rates import Work
from ich_ray.settings import for_record, resolved
from ich_ray.splits import split_of
from ich_ray.storage.corpus import Corpus, open_corpus
from ich_ray.storage.leases import Lease, held, this_process
from ich_ray.storage.objects import Store
from ich_ray.storage.runs import Run, append_run, run_identity

_log = logging.getLogger(__name__)
SUBMISSION_VARIABLE = "ICH_RAY_SUBMISSION"
"""Set by `ich-ray submit`: the id of the Ray job that a stage runs in."""

REVISION_VARIABLE = "ICH_RAY_CODE_REVISION"
"""Set by `ich-ray submit`, whose code travels without git."""


@dataclass
class Session:
    """Settings, store and pseudonyms of a run, and Ray once a stage asks for it."""

    settings: Settings
    pseudonyms: Pseudonyms
    private_map: Path | None = None
    """Where ingest writes key and pseudonym of every object, for the data's owner."""

    submission: str = ""
    """Id of the Ray job that this process is, if it is one."""

    spent_before: Hours = field(default=NO_HOURS, init=False)
    """By earlier attempts at what is being written now, as its lease tells; the budget counts them.
    """

    spent: Hours = field(default=NO_HOURS, init=False)
    """By this run, when a pool last finished something."""

    running: Callable[[], Hours] | None = field(default=None, init=False)
    """Returns what the pool that works now has spent since then."""

    planned: Hours = field(default=NO_HOURS, init=False)
    """Estimated so far: the budget is that of all steps together."""

    work: list[Work] = field(default_factory=list, init=False)
    """What its pools have done."""

    files: dict[str, bytes] = field(default_factory=dict, init=False)
    """Small inputs by URL, read once: what was hashed is what is used."""

    started: bool = field(default=False, init=False)

    @property
    def store(self) -> Store:
        """Where the run's tables lie."""
        return Store.from_config(self.settings.store)

    def spent_by_now(self) -> Hours:
        """Return what this run has spent; any thread may ask, also while a pool works."""
        # Taken once: the pool may end between two looks.
        running = self.running
        return self.spent if running is None else self.spent + running()

    def ensure_ray(self) -> None:
        """Join the cluster, or start one here, unless it was done before."""
        import ray

        if not ray.is_initialized():
            _start(self.settings.cluster)
            self.started = True
            check_variables(self.settings.cluster.node_variables)
        configure_data()
        logs.adopt_ray()

    @contextlib.contextmanager
    def writing(self, url: str) -> Iterator[Lease]:
        """Hold the lease of an output for the block; ask it once more before a commit.

        Where another process claims it, it is watched until it beats or its time is over.

        Raises:
            SurroundingsError: Another run is writing it, or took over from this one.
        """
        began = self.spent
        with held(
            self.store,
            url.removeprefix(self.store.url()).strip("/"),
            holder=this_process(self.submission),
            expires_s=self.settings.cluster.lease_s,
            spent=lambda: self.spent_by_now() - began,
            waiting=_log.warning,
        ) as lease:
            outermost = self.spent_before == NO_HOURS
            if outermost:
                # Of one within another the hours are part of the other's.
                self.spent_before = lease.before
            try:
                records.begun()
                yield lease
            finally:
                if outermost:
                    self.spent_before = NO_HOURS

    def corpus(self, name: str) -> Corpus:
        """Open a corpus, and refuse one whose pseudonyms have another key."""
        corpus = open_corpus(self.store, name)
        if corpus.key_fingerprint != self.pseudonyms.fingerprint:
            raise ConfigError(
                f"corpus {name} has pseudonyms of key {corpus.key_fingerprint}, this run has key "
                f"{self.pseudonyms.fingerprint}; set identity or ICH_RAY_HMAC_KEY as at its ingest"
            )
        records.read_table("corpus", corpus.table)
        return corpus


@contextlib.contextmanager
def session(
    settings: Settings,
    pseudonyms: Pseudonyms,
    *,
    private_map: Path | None = None,
    submission: str = "",
) -> Iterator[Session]:
    """Open a run; a cluster that it started ends with it.

    Raises:
        IchRayError: What a task or an actor raised for a person to act on, without Ray's wrapping.
        SurroundingsError: Ray lost workers or nodes more often than it retries.
    """
    run = Session(settings, pseudonyms, private_map, submission)
    try:
        yield run
    except _ray_errors() as error:
        found = cause_of(error)
        if found is error:
            raise
        raise found from error
    finally:
        if run.started:
            import ray

            ray.shutdown()


def _failures() -> tuple[type[BaseException], ...]:
    return IchRayError, *_ray_errors()


def _ray_errors() -> tuple[type[BaseException], ...]:
    """Return what Ray raises: nothing before it was imported."""
    loaded = sys.modules.get("ray.exceptions")
    return () if loaded is None else (loaded.RayError,)


@contextlib.contextmanager
def recorded(
    run: Session, stage: str, name: str, *, now: Callable[[], datetime]
) -> Iterator[Callable[..., None]]:
    """Keep a row in the runs table of a stage that did something, also of one that failed.

    A record of all that is known of the run lies beside (records.py).

    Yields:
        A function that takes the stage's summary line, and whether it was up to date.

    Raises:
        ConfigError: This process lacks one of `cluster.node_variables`.
    """
    # Before the store is asked, which says of absent keys that it failed.
    check_own_variables(run.settings.cluster.node_variables)
    started, said = now(), {"line": "", "up_to_date": False}
    spent, first = run.spent, len(run.work)

    def note(line: str, *, up_to_date: bool) -> None:
        said.update(line=line, up_to_date=up_to_date)

    def row_of(outcome: str) -> Run:
        return Run(
            stage=stage,
            name=name,
            settings=for_record(run.settings, run.pseudonyms),
            figures={
                **said,
                "work": resolved(run.work[first:]),
                "gpu_hours": run.spent.gpu - spent.gpu,
                "cpu_hours": run.spent.cpu - spent.cpu,
            },
            code_revision=code_revision(),
            started=started,
            ended=now(),
            outcome=outcome,
            inputs=found.inputs,
            outputs=found.outputs,
        )

    def append(outcome: str) -> None:
        row = row_of(outcome)
        records.write(run.store, row, found)
        append_run(run.store, row)

    origin = Origin(
        stage=stage,
        section=name or stage,
        run=run_identity(stage, name, started),
        log="text" if run.settings.log.format == "text" else "json",
    )
    with records.collected(origin) as found:
        found.begin = lambda: records.write(run.store, row_of("running"), found)
        _log.info("starts")
        try:
            yield note
        except _failures() as error:
            _log.info("failed", extra={"outcome": type(error).__name__})
            # The store may be what failed: the first error is the one to show.
            with contextlib.suppress(SurroundingsError):
                append(type(error).__name__)
            raise
        _log.info("ended", extra={"outcome": "up to date" if said["up_to_date"] else "done"})
        if not said["up_to_date"]:
            append("done")
        elif found.begun:
            records.forget(run.store, row_of("up to date"))


@dataclass(frozen=True, slots=True)
class Selection:
    """Some patients of one corpus."""

    corpus: Corpus
    split: str | None
    shares: tuple[tuple[str, float], ...]
    seed: int

    def holds(self, patient: str) -> bool:
        """Tell whether a patient is in it."""
        if self.split is None:
            return True
        return split_of(patient, shares=dict(self.shares), seed=self.seed) == self.split

    @property
    def identity(self) -> dict[str, Any]:
        """What of the data decides a result: parts are named by the hash of their content."""
        return {
            "corpus": self.corpus.name,
            "parts": [url.rsplit("/", 1)[1] for url in self.corpus.files],
            "split": [self.split, self.seed, *map(list, self.shares)] if self.split else None,
        }


def select(run: Session, names: Sequence[str]) -> tuple[Selection, ...]:
    """Open what `corpus` or `corpus:split` name, and check that the input fits it."""
    selections = []
    for name in names:
        corpus_name, _, split = name.partition(":")
        config = run.settings.corpora[corpus_name]
        corpus = run.corpus(corpus_name)
        _check_window(corpus, run.settings.input)
        selections.append(
            Selection(corpus, split or None, tuple(config.splits.items()), config.split_seed)
        )
    return tuple(selections)


def _check_window(corpus: Corpus, config: InputConfig) -> None:
    """Refuse an input window that a windowed corpus does not hold."""
    if corpus.kind == "hu":
        return
    center, width = (float(corpus.properties[key]) for key in ("center", "width"))
    low, high = center - width / 2, center + width / 2
    if config.window[0] < low or config.window[1] > high:
        raise ConfigError(
            f"corpus {corpus.name} holds windowed pixels of [{low:g}, {high:g}] HU, and "
            f"input.window is {list(config.window)}: what lies outside is lost; "
            f"set input.window=[{low:g}, {high:g}] for the whole run"
        )
    if config.size == 0:
        raise ConfigError(
            f"corpus {corpus.name} holds windowed pixels: set input.size, one grid for the run"
        )


@lru_cache
def code_revision() -> str:
    """Return the revision of the code: as told, git's where this is a clone, or the version.

    A job's working directory is no clone: its submitter sets ICH_RAY_CODE_REVISION.
    """
    told = os.environ.get(REVISION_VARIABLE)
    if told:
        return told
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return _package_version()
    return answer.stdout.strip()


def _package_version() -> str:
    try:
        return version("ich-ray")
    except PackageNotFoundError:
        return "unknown"


def fingerprint(**content: Any) -> str:
    """Return the hash by which a stage knows its own finished output."""
    return content_hash(content)


def configure_data() -> None:
    """Set what every stage wants of Ray Data in this process."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # Else our own errors arrive as text within Ray's.
    context.raise_original_map_exception = True
    # One bar a stage is ours; Ray Data's own lines go to its log folder.
    context.enable_progress_bars = False
    context.issue_detectors_config.detectors = []
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # Both log, with its traceback, an error that they raise as well, and our sentence drowns in it.
    for name in ("_internal.execution.streaming_executor_state", "exceptions"):
        logging.getLogger(f"ray.data.{name}").setLevel(logging.CRITICAL)


def _start(config: ClusterConfig) -> None:
    """Call ray.init with what a stage needs set explicitly."""
    import ray

    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "120")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    own = config.address == "local"
    told_to_stop = signal.getsignal(signal.SIGTERM)
    here: dict[str, Any] = {
        "num_cpus": config.num_cpus,
        "object_store_memory": config.object_store_mb * 1024**2,
        "include_dashboard": False,
    }
    try:
        ray.init(
            address=config.address,
            logging_level=logging.WARNING,
            log_to_driver=False,
            configure_logging=False,
            **logs.for_ray(),
            **(here if own else {}),
        )
    except ValueError as error:
        raise ConfigError(
            f"Ray refuses cluster.address={config.address}, cluster.num_cpus={config.num_cpus}, "
            f"cluster.object_store_mb={config.object_store_mb}: {first_line(error)}"
        ) from error
    except Exception as error:
        # Of a node that does not come up in time Ray 2.60 raises Exception itself, whose subclasses
        # may be bugs. OSError: no connection, no time, no room for sockets and logs.
        surroundings = (OSError, RuntimeError, ray.exceptions.RayError)
        if type(error) is not Exception and not isinstance(error, surroundings):
            raise
        what, do = (
            ("Ray did not start on this machine", "let it have CPU, memory and temporary space")
            if own
            else (
                f"cannot join the Ray cluster at cluster.address={config.address}",
                "check that it runs and that this machine reaches it",
            )
        )
        raise SurroundingsError(
            f"{what} ({first_line(error)}); {do}, then run the same command again"
        ) from error
    if callable(told_to_stop) and threading.current_thread() is threading.main_thread():
        # Ray's own answer sets an alarm that aborts the process 3 s later, whatever it lets go of.
        signal.signal(signal.SIGTERM, told_to_stop)
