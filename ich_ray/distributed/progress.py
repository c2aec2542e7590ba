"""How far a stage is: a bar in a terminal, now and then a line in a log file, fields in JSON."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from ich_ray.distributed import logs, metrics

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
