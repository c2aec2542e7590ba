"""What the stages count, for Prometheus through Ray: names, units and tags in one table.

Recorded once a part or a step. Without Ray every call does nothing. Ray writes a name as
`ray_<name>`, a counter as `ray_<name>_total`; each process tells its numbers every 10 s.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ich_ray.distributed.origin import here
from ich_ray.ingest_plan import Entry

WHOSE = ("stage", "section")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One row of the table."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    unit: str
    description: str
    tags: tuple[str, ...] = WHOSE
    boundaries: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """The name by which Prometheus knows it; a histogram has `_bucket` and others after it."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")


SLICES = Metric(
    kind="counter", name="ich_slices", unit="slices", description="Slices that a stage has done."
)
SECONDS = Metric(
    kind="counter",
    name="ich_seconds",
    unit="s",
    tags=(*WHOSE, "kind"),
    description="Time of training and prediction; kind: wait (for data) or work.",
)
PART_SECONDS = Metric(
    kind="histogram",
    name="ich_part_seconds",
    unit="s",
    description="Time that one part took.",
    boundaries=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
)
QUEUE = Metric(
    kind="gauge",
    name="ich_queue",
    unit="parts",
    description="Parts, steps or chunks of a stage that are not done yet.",
)
REJECTED = Metric(
    kind="counter",
    name="ich_rejected",
    unit="objects",
    tags=(*WHOSE, "reason"),
    description="Objects that an ingest refused, by the reason in the ledger.",
)
RETRIES = Metric(
    kind="counter",
    name="ich_retries",
    unit="retries",
    tags=(*WHOSE, "what"),
    description="What was done again; what: read (of an object), task, or train_workers.",
)
GPU_MEMORY = Metric(
    kind="gauge",
    name="ich_gpu_memory",
    unit="bytes",
    description="GPU memory that a process holds.",
)
TABLE = (SLICES, SECONDS, PART_SECONDS, QUEUE, REJECTED, RETRIES, GPU_MEMORY)


def slices(count: int) -> None:
    """Count slices that are done."""
    _count(SLICES, count)


def spent(seconds: float, waited_s: float) -> None:
    """Count time of training or prediction, and the part of it that was spent waiting for data."""
    _count(SECONDS, waited_s, kind="wait")
    _count(SECONDS, seconds - waited_s, kind="work")


def part(seconds: float) -> None:
    """Tell how long one part took."""
    if _ray_is_here():
        made(PART_SECONDS).observe(seconds, _tags())


def queue(length: int) -> None:
    """Tell how much of a stage is not done yet."""
    if _ray_is_here():
        made(QUEUE).set(length, _tags())


def rejected(entries: Iterable[Entry]) -> None:
    """Count the rejected among rows of the ledger, by reason."""
    for entry in entries:
        if entry.outcome == "rejected" and entry.reason is not None:
            _count(REJECTED, 1, reason=entry.reason)


def retries(what: Literal["read", "task", "train_workers"], count: int = 1) -> None:
    """Count what was done again."""
    _count(RETRIES, count, what=what)


def gpu_memory() -> None:
    """Tell how much memory of its GPU this process holds, if it has one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and _ray_is_here():
        made(GPU_MEMORY).set(torch.cuda.memory_reserved(), _tags())


def _count(metric: Metric, value: int | float, **tags: str) -> None:
    # Ray refuses to add nothing.
    if value > 0 and _ray_is_here():
        made(metric).inc(value, {**_tags(), **tags})


def _tags() -> dict[str, str]:
    origin = here()
    return {"stage": origin.stage, "section": origin.section}


def _ray_is_here() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@lru_cache
def made(metric: Metric) -> Any:
    """Return Ray's own object of a metric, one a process."""
    from ray.util import metrics

    text = f"{metric.description} Unit: {metric.unit}."
    if metric.kind == "histogram":
        return metrics.Histogram(metric.name, text, list(metric.boundaries), metric.tags)
    kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return kind(metric.name, text, metric.tags)
