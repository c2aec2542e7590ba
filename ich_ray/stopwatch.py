"""How much of a process's time went into waiting for data."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


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

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items; the time until each of them is there counts as waiting."""
        source = iter(items)
        end = object()
        while True:
            with self.waiting():
                item = next(source, end)
            if item is end:
                return
            yield item  # type: ignore[misc]  # the end is the only item of another type

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
