"""How much of a process's time went into waiting for data."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Seconds since it was last read, and those of them that were spent waiting."""

    clock: Callable[[], float] = time.perf_counter
    waited_s: float = field(default=0.0, init=False)
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Start."""
        self.started_s = self.clock()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block as waiting."""
        before = self.clock()
        try:
            yield
        finally:
            self.waited_s += self.clock() - before

    def lap(self) -> tuple[float, float]:
        """Return (seconds, of them waited) since the last lap, and start anew.

        >>> ticks = iter([0.0, 1.0, 3.0, 10.0])
        >>> watch = Stopwatch(clock=lambda: next(ticks))
        >>> with watch.waiting():
        ...     pass
        >>> watch.lap()
        (10.0, 2.0)
        """
        now = self.clock()
        found = now - self.started_s, self.waited_s
        self.started_s, self.waited_s = now, 0.0
        return found


@dataclass(slots=True)
class Busy:
    """The time of a device that several threads share: at work, or waiting for what they bring."""

    clock: Callable[[], float] = time.perf_counter
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _calls: int = field(default=0, init=False)
    _at_work: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)
    """When it last began to work, or to wait."""

    _worked_s: float = field(default=0.0, init=False)
    _waited_s: float = field(default=0.0, init=False)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Bring it work for a while; without anyone who does, no time counts."""
        with self._lock:
            if self._calls == 0:
                self._since = self.clock()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._calls -= 1

    def begin(self) -> None:
        """Work is there."""
        with self._lock:
            self._count()
            self._at_work += 1

    def end(self) -> None:
        """It is done."""
        with self._lock:
            self._count()
            self._at_work -= 1

    def lap(self) -> tuple[float, float]:
        """Return (seconds, of them waited) since the last lap, and start anew.

        >>> ticks = iter([0.0, 1.0, 3.0, 3.5, 4.0])
        >>> busy = Busy(clock=lambda: next(ticks))
        >>> with busy.call():
        ...     busy.begin()
        ...     busy.end()
        >>> busy.lap()
        (3.5, 1.5)
        """
        with self._lock:
            self._count()
            found = self._worked_s + self._waited_s, self._waited_s
            self._worked_s = self._waited_s = 0.0
        return found

    def _count(self) -> None:
        now = self.clock()
        if self._at_work:
            self._worked_s += now - self._since
        elif self._calls:
            self._waited_s += now - self._since
        self._since = now


@dataclass(slots=True)
class Pace:
    """How much was done in some time, and what share of it went into waiting."""

    done: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0

    def add(self, done: int, *, seconds: float, waited: float) -> None:
        """Count more."""
        self.done += done
        self.seconds += seconds
        self.waited_s += waited

    def shown(self) -> dict[str, str]:
        """Return it as a progress line has it; nothing before anything was done.

        >>> pace = Pace()
        >>> pace.add(16, seconds=0.5, waited=0.01)
        >>> pace.shown()
        {'slices/s': '32.0', 'waits for data': '2.0 %'}
        """
        if not self.seconds:
            return {}
        return {
            "slices/s": f"{self.per_s:.1f}",
            "waits for data": f"{100 * self.waited_share:.1f} %",
        }

    @property
    def per_s(self) -> float:
        """Done in a second; 0 before anything was done."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def waited_share(self) -> float:
        """Of the time; 0 before anything was done."""
        return self.waited_s / self.seconds if self.seconds else 0.0
