"""A run, from its last snapshot to its last step: what is kept and told of it, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from ich_ray.learning.epoch import SumOverWorkers, Training, check_weights, train_steps
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import optimizer_tensors, restore_optimizer

CURVE_POINTS = 60
"""Points of the loss curve of a whole run."""

Curve = tuple[tuple[int, float], ...]
"""(step, mean loss since the point before), over all processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All that a run needs to go on after a step as if it had never stopped."""

    step: int
    curve: Curve
    losses: tuple[float, ...] = ()
    """Of the steps since the curve's last point."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """`weights`, `optimizer`, and `average` where one is kept: tensors by name."""


@runtime_checkable
class Listener(Protocol):
    """Who is told of a run in one process; every process has one."""

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        """A step was done: this process's items, the time it took, and waited for them."""

    def reached(self, step: int, loss: float) -> None:
        """A point of the loss curve."""

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        """Keep a snapshot; return whether to stop here, alike in all processes."""


def snapshot_of(
    training: Training, *, step: int, curve: Curve, losses: Sequence[float]
) -> Snapshot:
    """Return the state of a run; its tensors are those that the next step changes."""
    tensors: dict[str, Mapping[str, Tensor]] = {
        "weights": training.unwrapped.state_dict(),
        "optimizer": optimizer_tensors(training.optimizer),
    }
    if training.average is not None:
        tensors["average"] = training.average.state_dict()
    return Snapshot(step=step, curve=curve, losses=tuple(losses), tensors=tensors)


def restore(training: Training, snapshot: Snapshot) -> None:
    """Give a new run of the same settings the state of one that was interrupted."""
    training.unwrapped.load_state_dict(snapshot.tensors["weights"])
    restore_optimizer(training.optimizer, snapshot.tensors["optimizer"])
    if training.average is not None:
        training.average.load_state_dict(snapshot.tensors["average"])


def run(
    training: Training,
    *,
    worker: Worker,
    total: SumOverWorkers,
    listener: Listener,
    since: Snapshot | None = None,
) -> Curve | None:
    """Train to the last step.

    Args:
        training: Network, optimizer, slices and settings.
        worker: This process's place among those that share the minibatch.
        total: Sums a tensor over all workers.
        listener: Is told, and may end the run at a snapshot.
        since: Of the run that this one goes on with.

    Returns:
        The loss curve; None where the listener ended the run.

    Raises:
        NotANumberError: A loss or a weight is no number; no snapshot after it was kept.
    """
    config = training.config
    first, losses = 0, list[float]()
    curve: Curve = ()
    if since is not None:
        restore(training, since)
        first, curve, losses = since.step, since.curve, list(since.losses)
    every = -(-config.steps // CURVE_POINTS)
    training.watch.lap()
    for step, loss in train_steps(training, worker=worker, first_step=first, total=total):
        losses.append(loss)
        seconds, waited = training.watch.lap()
        listener.stepped(items=len(worker.items(config.batch)), seconds=seconds, waited=waited)
        if step % every == 0 or step == config.steps:
            curve = (*curve, (step, float(np.mean(losses))))
            losses.clear()
            listener.reached(*curve[-1])
        if step % config.checkpoint_every == 0 and step < config.steps:
            check_weights(training.unwrapped, step=step, total=total)
            here = snapshot_of(training, step=step, curve=curve, losses=losses)
            if listener.keep(here, loss=loss):
                return None
    check_weights(training.unwrapped, step=config.steps, total=total)
    return curve
