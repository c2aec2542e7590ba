"""What every worker does around a piece of work: says whose it is, and what was done again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from ich_ray.distributed import logs, metrics
from ich_ray.distributed.origin import Origin
from ich_ray.stopwatch import Stopwatch
from ich_ray.storage import retries

_log = logging.getLogger(__name__)


@contextmanager
def piece_of(origin: Origin) -> Iterator[Stopwatch]:
    """Do a piece of a run's work in a worker; its lines and metrics carry the run.

    Yields:
        A watch that runs.
    """
    logs.in_worker(origin)
    metrics.retries("task", min(1, _attempt()))
    retries.taken()
    try:
        yield Stopwatch()
    finally:
        metrics.retries("read", retries.taken())


def tell(
    what: str,
    watch: Stopwatch,
    *,
    part: str,
    slices: int,
    spent: tuple[float, float] | None = None,
) -> None:
    """Count a part that is done, and log it.

    Args:
        what: The line's message.
        watch: Ran since the part before.
        part: Its name, a hash.
        slices: Done in it.
        spent: Seconds of the device since the part before, and of them those that it waited.
    """
    seconds, _ = watch.lap()
    metrics.slices(slices)
    metrics.part(seconds)
    if spent is not None:
        metrics.spent(*spent)
    metrics.gpu_memory()
    _log.info(what, extra={"part": part, "slices": slices, "seconds": round(seconds, 3)})


def _attempt() -> int:
    """Return how often Ray has tried this task before: its worker or its node died."""
    if not ray.is_initialized():
        return 0
    # The task's context has no such method in 2.60; the line below is what Ray's own logs use.
    return int(ray.get_runtime_context().worker.core_worker.get_current_task_attempt_number())
