"""How far a stage is: a bar in a terminal, now and then a line in a log file, fields in JSON."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from ich_ray.distributed import logs, metrics

POLL_S = 0.5
_log = logging.getLogger(__name__)


@runtime_checkable
class Shown(Protocol):
    """What a stage tells of its progress to."""

    @property
    def n(self) -> int:
        """Done so far."""

    def update(self, n: int) -> Any:
        """Count more."""

    def set_postfix(self, **values: str) -> Any:
        """Show more beside it, at the next occasion."""


class Lines:
    """Progress as lines of their own, at most one every few seconds and one at the end."""

    def __init__(  # noqa: PLR0913  (of a bar; where and when its lines go)
        self,
        what: str,
        *,
        total: int,
        unit: str,
        first: int = 0,
        every_s: float,
        write: Callable[[str, dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.n = self.first = first
        self.every_s, self.write, self.clock = every_s, write, clock
        self.beside: dict[str, str] = {}
        self.started_s = self.told_s = clock()
        self.told_n = -1

    def update(self, n: int) -> None:
        """Count more, and tell it if the last line is old enough."""
        self.n += n
        if self.clock() - self.told_s >= self.every_s:
            self.tell()

    def set_postfix(self, **values: str) -> None:
        """Show more in the lines to come."""
        self.beside = values

    def tell(self) -> None:
        """Write a line, unless it would repeat the last one."""
        if self.n == self.told_n:
            return
        self.told_n, self.told_s = self.n, self.clock()
        seconds = self.told_s - self.started_s
        rate = (self.n - self.first) / seconds if seconds > 0 else 0.0
        eta_s = (self.total - self.n) / rate if rate > 0 else None
        left = "?" if eta_s is None else str(timedelta(seconds=round(eta_s)))
        more = "".join(f", {name} {value}" for name, value in self.beside.items())
        line = (
            f"{self.what}: {self.n} of {self.total} {self.unit}s, {rate:.2f}/s, {left} left{more}"
        )
        self.write(
            line,
            {
                **{"what": self.what, "done": self.n, "total": self.total, "unit": self.unit},
                **{"rate_per_s": round(rate, 3), "eta_s": eta_s and round(eta_s, 1)},
                **self.beside,
            },
        )


@contextlib.contextmanager
def bar(what: str, *, total: int, unit: str, first: int = 0) -> Iterator[Shown]:
    """Show progress: a bar in a terminal, else a line every `log.progress_every_s` seconds.

    What is not done yet is the length of the stage's queue, for the metrics.
    """
    with _shown(what, total=total, unit=unit, first=first) as shown:
        try:
            yield _Counted(shown, total)
        finally:
            metrics.queue(0)


class _Counted:
    """Progress that tells the metrics how much is left."""

    def __init__(self, shown: Shown, total: int) -> None:
        self.shown, self.total = shown, total
        self.update(0)

    @property
    def n(self) -> int:
        """Done so far."""
        return self.shown.n

    def update(self, n: int) -> None:
        """Count more."""
        self.shown.update(n)
        metrics.queue(self.total - self.n)

    def set_postfix(self, **values: str) -> None:
        """Show more beside it."""
        self.shown.set_postfix(**values)


@contextlib.contextmanager
def _shown(what: str, *, total: int, unit: str, first: int) -> Iterator[Shown]:
    if sys.stderr.isatty() and not logs.writes_json():
        with tqdm(desc=what, total=total, unit=unit, initial=first, dynamic_ncols=True) as shown:
            yield shown
        return
    write = _log_line if logs.writes_json() else _print_line
    lines = Lines(
        what, total=total, unit=unit, first=first, every_s=logs.progress_every_s(), write=write
    )
    try:
        yield lines
    finally:
        lines.tell()


def _log_line(line: str, fields: dict[str, Any]) -> None:
    _log.info(line, extra={"progress": fields})


def _print_line(line: str, _: dict[str, Any]) -> None:
    sys.stderr.write(f"{logs.utc(time.time())} {line}\n")
    sys.stderr.flush()


class Board:
    """The latest step of a run, and its result: where worker and driver can see them."""

    def __init__(self) -> None:
        self.latest: tuple[int, Mapping[str, str]] = (0, {})
        self.done = 0
        self._from = 0
        self.found: dict[str, Any] | None = None
        self.why = ""

    def begin(self, step: int) -> None:
        """Remember where an attempt begins: at the step of its checkpoint."""
        self._from = step

    def put(self, step: int, beside: Mapping[str, str]) -> None:
        """Remember where the run is, and what is shown beside it."""
        self.latest = (step, beside)
        self.done += step - self._from
        self._from = step

    def steps(self) -> int:
        """Return how many steps were done, also those that a failure had repeated."""
        return self.done

    def get(self) -> tuple[int, Mapping[str, str]]:
        """Return where the run is."""
        return self.latest

    def finish(self, found: dict[str, Any]) -> None:
        """Remember what came of the run."""
        self.found = found

    def result(self) -> dict[str, Any] | None:
        """Return what came of the run, None before it has finished."""
        return self.found

    def stop(self, why: str) -> None:
        """Remember why nothing can come of the run, however often it is tried."""
        self.why = why

    def stopped(self) -> str:
        """Return why nothing can come of the run; empty: nothing is against it."""
        return self.why


@contextlib.contextmanager
def watched(what: str, *, total: int) -> Iterator[Any]:
    """Show a bar that follows a Board; yields the Board's actor handle for a worker."""
    # Ray adds `remote` to methods where no type checker sees it.
    # Beside the driver: what ends one ends the other.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
    stop = threading.Event()

    def follow() -> None:
        with bar(what, total=total, unit="step") as shown:
            while not stop.wait(POLL_S):
                step, beside = ray.get(board.get.remote())
                shown.set_postfix(**beside)
                shown.update(step - shown.n)
            step, _ = ray.get(board.get.remote())
            shown.update(step - shown.n)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join(timeout=10)
        ray.kill(board)
