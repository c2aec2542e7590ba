"""What one process of a training tells metrics, log, board and Ray Train, and when it hurries."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import ray
import ray.train
import torch
import torch.distributed

from ich_ray.distributed import metrics
from ich_ray.distributed.checkpointing import Outgoing
from ich_ray.distributed.training_group import TrainingJob
from ich_ray.learning.epoch import Training, sum_over_group
from ich_ray.learning.run import Snapshot
from ich_ray.learning.sampling import Worker
from ich_ray.learning_curves import LEARNING_RATE, LOSS, TUNING
from ich_ray.stopwatch import Pace

_log = logging.getLogger(__name__)

LOOK_S = 20.0
"""Between two looks for a node that is about to be taken away, which all processes make together;
a cloud tells two minutes before it takes one."""


@dataclass(slots=True)
class TrainingListener:
    """Is told of a run; see learning.run.Listener."""

    job: TrainingJob
    worker: Worker
    training: Training
    alive: Callable[[], None]
    pace: Pace = field(default_factory=Pace)
    """Since the last point of the curve."""

    outgoing: Outgoing | None = None
    """Of the first process."""

    hurried_at: int = field(init=False, default=-1)
    look_at: int = field(init=False, default=0)
    """Step of the next look; the first step of all says when."""

    since_look: Pace = field(init=False, default_factory=Pace)
    """Steps since the last look."""

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        """Count the slices, and the time."""
        self.alive()
        metrics.slices(items)
        metrics.spent(seconds, waited)
        self.since_look.add(1, seconds=seconds, waited=waited)
        self.pace.add(self.job.config.batch, seconds=seconds, waited=waited)

    def reached(self, step: int, loss: float) -> None:
        """Tell how far the run is."""
        metrics.gpu_memory()
        if self.worker.rank == 0:
            self.job.board.put.remote(step, {"loss": f"{loss:.4f}", **self.pace.shown()})
            rate = self.training.optimizer.param_groups[0]["lr"]
            values = {
                LOSS: loss,
                LEARNING_RATE: rate,
                "training/slices_per_s": self.pace.per_s,
                "training/data_wait_share": self.pace.waited_share,
            }
            self.job.board.tell.remote(step, values)
        self.pace = Pace()

    def measured(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell what the tuning selections say."""
        if self.worker.rank == 0:
            _log.info("validation", extra={"step": step, "metrics": dict(metrics)})
            self.job.board.tell.remote(step, {TUNING + name: v for name, v in metrics.items()})

    def hurried(self, step: int) -> bool:
        """Return whether a node of the group is about to go; true at each look until it is gone.

        So at most the steps between two looks are done again.
        """
        if step < self.look_at:
            return False
        going = ray.train.get_preemption_info()
        # The first process's pace is all processes' calendar: over all steps, as one may be quick.
        steps = torch.tensor(
            steps_until_look(self.since_look), dtype=torch.int64, device=self.training.device
        )
        torch.distributed.broadcast(steps, 0)
        self.look_at = step + int(steps)
        self.since_look = Pace()
        if going is None:
            return False
        self.hurried_at = step
        facts = {"rank": self.worker.rank, "step": step, "nodes": going.preempted_node_ids}
        _log.warning("a node of the group is about to be taken away", extra=facts)
        return True

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        """Report a checkpoint; a barrier: every rank calls it, rank 0 writes."""
        over = ""
        if self.worker.rank == 0:
            # One clock decides for all: they must stop at the same step. It is the driver's.
            held_s: float = ray.get(self.job.board.held.remote())
            over = self.job.allowance.over(held_s)
        flag = torch.tensor(float(bool(over)), device=self.training.device)
        stop = bool(sum_over_group(flag) > 0)
        if over:
            self.job.board.put.remote(snapshot.step, {"loss": f"{loss:.4f}"})
        reached = {"step": snapshot.step, "over_budget": over}
        if self.outgoing is not None:
            urgent = stop or self.hurried_at == snapshot.step
            self.outgoing.report(
                snapshot, reached, of=self.job.origin_of_model, wait=urgent, alive=self.alive
            )
        else:
            ray.train.report(reached)
        self.alive()
        _log.info("checkpoint", extra={"rank": self.worker.rank, "step": snapshot.step})
        return stop


def steps_until_look(pace: Pace) -> int:
    """Return after how many steps the next look is due, by the pace of those before it.

    >>> pace = Pace()
    >>> for seconds in (0.05, 0.35):
    ...     pace.add(1, seconds=seconds, waited=0.0)
    >>> steps_until_look(pace)
    100
    """
    most = LOOK_S * 1000
    return max(1, int(min(LOOK_S * pace.per_s, most)))


def values_before(snapshot: Snapshot | None) -> list[tuple[int, dict[str, float]]]:
    """Return the values of a run's curves up to a snapshot, as they were told."""
    if snapshot is None:
        return []
    points = [(step, {LOSS: loss}) for step, loss in snapshot.curve]
    measured = [
        (step, {TUNING + name: value for name, value in values.items()})
        for step, values in snapshot.validations
    ]
    return sorted([*points, *measured], key=lambda told: told[0])
