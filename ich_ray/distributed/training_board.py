"""What a training tells while it runs: workers write it on a board, and the driver shows it."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ich_ray.distributed.progress import bar
from ich_ray.errors import IchRayError

POLL_S = 0.5
SHOW_EVERY_S = 15.0
"""Between two times that what was told is shown anew."""

_log = logging.getLogger(__name__)


class Told(NamedTuple):
    """Values of one step, by name."""

    step: int
    values: Mapping[str, float]
    at_s: float
    """Seconds since 1970, on the clock of the driver's node as it was when the run began."""


class Board:
    """The latest step of a run, its curves and its result: where worker and driver see them."""

    def __init__(self, processes: int) -> None:
        self.since_s, self.since = time.monotonic(), time.time()
        self._world, self._held_s, self._counted_s = processes, 0.0, self.since_s
        self.latest: tuple[int, Mapping[str, str]] = (0, {})
        self.done = 0
        self._from = 0
        self.all: list[Told] = []
        self.found: dict[str, Any] | None = None
        self.why: tuple[type[IchRayError], str] | None = None

    def begin(
        self, step: int, before: Sequence[tuple[int, Mapping[str, float]]], *, world: int
    ) -> None:
        """Remember where an attempt begins, and with how many processes.

        Args:
            step: Of its checkpoint.
            before: What its checkpoint knows of the curves.
            world: Processes.
        """
        self.held()
        self._from, self._world = step, world
        # This driver knows more of the steps that it has seen.
        kept = [told for told in self.all if told.step <= step]
        known = {(told.step, name) for told in kept for name in told.values}
        for at, values in before:
            new = {name: value for name, value in values.items() if (at, name) not in known}
            if new:
                kept.append(Told(at, new, self._now()))
        self.all = sorted(kept, key=lambda told: told.step)

    def put(self, step: int, beside: Mapping[str, str]) -> None:
        """Remember where the run is, and what is shown beside it."""
        self.latest = (step, beside)
        self.done += step - self._from
        self._from = step

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Remember values of a step, for the curves."""
        self.all.append(Told(step, values, self._now()))

    def held(self) -> float:
        """Return the seconds that processes were reserved, of all of them together.

        No clock that is set changes them.
        """
        now = time.monotonic()
        self._held_s += self._world * (now - self._counted_s)
        self._counted_s = now
        return self._held_s

    def processes(self) -> float:
        """Return how many processes were reserved, on average over time."""
        return self.held() / max(time.monotonic() - self.since_s, 1e-9)

    def _now(self) -> float:
        return self.since + time.monotonic() - self.since_s

    def told(self) -> list[Told]:
        """Return all values, in the order in which they were told."""
        return self.all

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

    def stop(self, kind: type[IchRayError], why: str) -> None:
        """Remember why nothing can come of the run, however often it is tried; the first counts."""
        self.why = self.why or (kind, why)

    def stopped(self) -> tuple[type[IchRayError], str] | None:
        """Return why nothing can come of the run; None: nothing is against it."""
        return self.why


@contextlib.contextmanager
def watched(
    what: str, *, total: int, processes: int, show: Callable[[Sequence[Told]], None]
) -> Iterator[Any]:
    """Show a bar that follows a Board; yields the Board's actor handle for a worker.

    Args:
        what: Of the bar.
        total: Steps.
        processes: Reserved at first.
        show: Is given all that was told now and then, and at the end. That it fails because the
            surroundings do is logged, and ends nothing.
    """
    # Ray adds `remote` to methods where no type checker sees it.
    # Beside the driver: what ends one ends the other.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote(processes)
    # What follows is counted: not while the board itself comes up.
    ray.get(board.get.remote())
    stop = threading.Event()

    def follow() -> None:
        shown_s, number = time.monotonic(), 0
        with bar(what, total=total, unit="step") as shown:
            while not stop.wait(POLL_S):
                step, beside = ray.get(board.get.remote())
                shown.set_postfix(**beside)
                shown.update(step - shown.n)
                if time.monotonic() - shown_s > SHOW_EVERY_S:
                    shown_s, number = time.monotonic(), _show(board, show, known=number)
            step, _ = ray.get(board.get.remote())
            shown.update(step - shown.n)
        _show(board, show, known=0)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        # A store that is away keeps it for a while.
        thread.join(timeout=60)
        ray.kill(board)


def _show(board: Any, show: Callable[[Sequence[Told]], None], *, known: int) -> int:
    """Show what was told if there is more than is known; return how much there is."""
    told = ray.get(board.told.remote())
    if len(told) > known:
        try:
            show(told)
        except IchRayError as error:
            _log.warning("the curves could not be written", extra={"why": type(error).__name__})
    return len(told)
