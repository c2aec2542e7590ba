"""What a run read, wrote and was told by Ray Data: collected as it runs, kept beside its output."""

import hashlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ich_ray.distributed.origin import Origin, enter
from ich_ray.storage.objects import Store
from ich_ray.storage.runs import Run, record_url, write_record
from ich_ray.storage.tables import Table

LOCK_VARIABLE = "ICH_RAY_LOCK_HASH"
LOCK_FILE = Path(__file__).parents[2] / "constraints.txt"
"""In a clone, and in the working directory of a job that installs it."""

IMAGE_LOCK = Path("/etc/ich-ray/lock.sha256")
"""In an image: a line of sha256sum."""


@dataclass(slots=True)
class Collected:
    """What a run has told of itself so far."""

    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    stats: list[dict[str, str]] = field(default_factory=list)
    begin: Callable[[], None] = lambda: None
    """Writes the record of a run that is under way."""

    begun: bool = False
    """Whether it was written."""


_now: Collected | None = None


@contextmanager
def collected(origin: Origin) -> Iterator[Collected]:
    """Collect what is noted within the block, and let lines and metrics carry the run."""
    global _now
    before, _now = _now, Collected()
    outside = enter(origin)
    try:
        yield _now
    finally:
        _now = before
        enter(outside)


def begun() -> None:
    """Write the record of a run that is about to write its output, at the first of these.

    A run may end without a word between its output and its record.
    """
    if _now is not None and not _now.begun:
        _now.begun = True
        _now.begin()


def read(kind: str, url: str, version: int | str, **more: int) -> None:
    """Note an input: a table with its version, or anything else with its content's hash."""
    _note("inputs", kind, url, version, **more)


def wrote(kind: str, url: str, version: int | str) -> None:
    """Note an output."""
    _note("outputs", kind, url, version)


def read_table(kind: str, table: Table) -> None:
    """Note a table that is an input."""
    read(kind, table.url, table.version)


def rows(what: str, dataset: Any) -> Iterator[Any]:
    """Yield the rows of a Ray Data run, and keep what Ray tells of it."""
    yield from dataset.iter_rows()
    keep_stats(what, dataset)


def keep_stats(what: str, dataset: Any) -> None:
    """Keep what Ray tells of a Ray Data run that has ended."""
    if _now is not None:
        _now.stats.append({"what": what, "stats": dataset.stats()})


def write(store: Store, run: Run, found: Collected) -> None:
    """Write a run's record beside its output: `<store>/records/<stage>/<name>/<run>.json`."""
    write_record(
        store,
        run,
        {
            "lock_hash": lock_hash(),
            "versions": _versions(),
            # Of a run that failed the cluster may be what failed: it is not asked.
            "cluster": _cluster() if run.outcome == "done" else {},
            "data_stats": found.stats,
        },
    )


def forget(store: Store, run: Run) -> None:
    """Remove the record of a run that found its output made by another."""
    store.remove(record_url(store, run.stage, run.name, run.run))


@lru_cache
def lock_hash() -> str:
    """Return the SHA-256 of the lock file that the run's packages were installed by.

    A job with uploaded code and the packages of its image has the image's.
    """
    told = os.environ.get(LOCK_VARIABLE)
    if told:
        return told
    if LOCK_FILE.is_file():
        return hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    if IMAGE_LOCK.is_file():
        return IMAGE_LOCK.read_text().split()[0]
    return "unknown"


def _note(where: str, kind: str, url: str, version: int | str, **more: int) -> None:
    told = {"kind": kind, "url": url, "version": version, **more}
    if _now is not None and told not in getattr(_now, where):
        getattr(_now, where).append(told)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("ray", "torch", "deltalake", "pyarrow")
    }


def _cluster() -> dict[str, Any]:
    """Return what the cluster has, if there is one; no names of hosts."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    has = {k: v for k, v in ray.cluster_resources().items() if not re.match("node:", k)}
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return {"job": ray.get_runtime_context().get_job_id(), "nodes": nodes, "resources": has}
