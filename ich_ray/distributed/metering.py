"""The hours of a run's pools: counted while they work, and stopped by the budget."""

import contextlib
import time
from collections.abc import Callable, Iterator

from ich_ray.budget import Hours, Reserved, held, refuse_over
from ich_ray.capacity import Process
from ich_ray.distributed.resources import cluster_cpus
from ich_ray.distributed.session import Session
from ich_ray.rates import Work


def tasks_at_once(count: int) -> Callable[[], float]:
    """Return how many of so many tasks can run at a time: the cluster may grow meanwhile."""
    return lambda: float(min(count, cluster_cpus()))


class Meter:
    """Counts the hours of one pool, and its finished units."""

    def __init__(self, run: Session, each: Process, processes: int | Callable[[], float]) -> None:
        self.units = 0
        self.process_seconds = 0.0
        self._run, self._each, self._processes = run, each, processes
        self._at_once: int | float = 0
        self._read = time.monotonic()

    def read(self) -> None:
        """Bring `run.spent` up to now, at as many processes as there are now."""
        self._at_once = self._processes if isinstance(self._processes, int) else self._processes()
        self.stop()

    def stop(self) -> None:
        """Bring `run.spent` up to now, without asking the cluster, which may be gone."""
        now = time.monotonic()
        since = self._between(self._read, now)
        self.process_seconds += (now - self._read) * self._at_once
        # In this order: who asks from another thread in between is told too little, never twice.
        self._read = now
        self._run.spent += since

    def since(self) -> Hours:
        """Return what was spent since `run.spent` was brought up to date; changes nothing."""
        return self._between(self._read, time.monotonic())

    def _between(self, start: float, end: float) -> Hours:
        reserved = reserved_by(self._each, processes=self._at_once)
        return held(reserved, seconds=end - start, prices=self._run.settings.budget)

    def finished(self, units: int, *, more: bool = True) -> None:
        """Count units; called where what is finished is kept.

        Args:
            units: Since the last call.
            more: Whether anything is left to do: what is done is not stopped.

        Raises:
            BudgetError: The budget is passed, and there is more to do.
        """
        self.units += units
        self.read()
        if more:
            run = self._run
            refuse_over(run.settings.budget, run.spent, already_spent=run.spent_before)


@contextlib.contextmanager
def metered(
    run: Session, kind: str, each: Process, *, processes: int | Callable[[], float]
) -> Iterator[Meter]:
    """Count the hours of a pool from now to the end of the block.

    Args:
        run: Whose hours they are; `run.spent` holds them.
        kind: Of the work, as ich_ray.rates.Work names it.
        each: What one process reserves.
        processes: How many there are, or, of tasks, how many can run at a time.

    Raises:
        BudgetError: The budget is spent already.
        ConfigError: The budget limits the cost, and what is reserved has no price.
    """
    meter = Meter(run, each, processes)
    meter.finished(0)
    run.running = meter.since
    try:
        yield meter
    finally:
        run.running = None
        meter.stop()
        run.work.append(Work(kind=kind, units=meter.units, seconds=meter.process_seconds))


def reserved_by(each: Process, *, processes: int | float) -> Reserved:
    """Return what the processes of a pool reserve together."""
    return Reserved(
        cpus=float(each.cpus * processes),
        gpus=float(each.gpus * processes),
        gpu_kind=each.gpu_kind,
    )
