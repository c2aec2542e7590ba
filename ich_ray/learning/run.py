"""A run, from its last snapshot to its last step: what is kept and told of it, and when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import SumOverWorkers, Training, check_weights, train_steps
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import optimizer_tensors, restore_optimizer

CURVE_POINTS = 60
"""Points of the loss curve of a whole run."""

Curve = tuple[tuple[int, float], ...]
"""(step, mean loss since the point before), over all processes."""

Validations = tuple[tuple[int, Mapping[str, float]], ...]
"""(step, metrics of the tuning selections by name)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All that a run needs to go on after a step as if it had never stopped."""

    step: int
    curve: Curve = ()
    losses: tuple[float, ...] = ()
    """Of the steps since the curve's last point."""

    validations: Validations = ()
    tensors: Mapping[str, Mapping[str, Tensor]]
    """`weights`, `optimizer`, `average` where one is kept and `best` where the best weights are:
    tensors by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What came of a run."""

    step: int
    """The last one."""

    curve: Curve
    validations: Validations
    best_step: int | None
    """Whose weights they are, where the tuning selections choose; None: those of the last step."""

    weights: Mapping[str, Tensor]


@runtime_checkable
class Listener(Protocol):
    """Who is told of a run in one process; every process has one."""

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        """A step was done: this process's items, the time it took, and waited for them."""

    def reached(self, step: int, loss: float) -> None:
        """A point of the loss curve."""

    def measured(self, step: int, metrics: Mapping[str, float]) -> None:
        """What the tuning selections say."""

    def hurried(self, step: int) -> bool:
        """Return whether to keep a snapshot now, alike in all processes: the surroundings go."""

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        """Keep a snapshot; return whether to stop here, alike in all processes."""


@runtime_checkable
class Measure(Protocol):
    """Measures a network on the tuning selections, alike in all processes."""

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        """Return metrics by name; NaN where the selections do not tell."""


@dataclass(slots=True)
class _History:
    """What a run remembers of its steps."""

    config: ModelConfig
    step: int = 0
    curve: Curve = ()
    losses: list[float] = field(default_factory=list)
    validations: Validations = ()
    best: Mapping[str, Tensor] | None = None

    @classmethod
    def since(cls, config: ModelConfig, snapshot: Snapshot | None) -> "_History":
        if snapshot is None:
            return cls(config)
        return cls(
            config,
            step=snapshot.step,
            curve=snapshot.curve,
            losses=list(snapshot.losses),
            validations=snapshot.validations,
            best=snapshot.tensors.get("best"),
        )

    @property
    def best_step(self) -> int | None:
        return best_step(self.validations, self.config.validation.metric)

    @property
    def hopeless(self) -> bool:
        """Whether nothing has become better for too long."""
        patience = self.config.validation.patience
        later = [step for step, _ in self.validations if step > (self.best_step or 0)]
        return 0 < patience <= len(later)

    def snapshot(self, training: Training) -> Snapshot:
        tensors = tensors_of(training)
        if self.best is not None:
            tensors["best"] = self.best
        return Snapshot(
            step=self.step,
            curve=self.curve,
            losses=tuple(self.losses),
            validations=self.validations,
            tensors=tensors,
        )


def tensors_of(training: Training) -> dict[str, Mapping[str, Tensor]]:
    """Return the state of a training by name: the very tensors that its next step changes."""
    tensors: dict[str, Mapping[str, Tensor]] = {
        "weights": training.unwrapped.state_dict(),
        "optimizer": optimizer_tensors(training.optimizer),
    }
    if training.average is not None:
        tensors["average"] = training.average.state_dict()
    return tensors


def restore(training: Training, snapshot: Snapshot) -> None:
    """Give a new run of the same settings the state of one that was interrupted."""
    training.unwrapped.load_state_dict(snapshot.tensors["weights"])
    restore_optimizer(training.optimizer, snapshot.tensors["optimizer"])
    if training.average is not None:
        training.average.load_state_dict(snapshot.tensors["average"])


def best_step(validations: Validations, metric: str) -> int | None:
    """Return the step with the highest value, the first of equal ones; None where none is known.

    >>> best_step(((10, {"dsc": 0.5}), (20, {"dsc": math.nan}), (30, {"dsc": 0.5})), "dsc")
    10
    """
    known = [(step, values[metric]) for step, values in validations if values[metric] >= 0]
    return max(known, key=lambda one: (one[1], -one[0]))[0] if known else None


def run(  # noqa: PLR0913  (what joins processes, who is told, and where it begins)
    training: Training,
    *,
    worker: Worker,
    total: SumOverWorkers,
    listener: Listener,
    since: Snapshot | None = None,
    measure: Measure | None = None,
) -> Learned | None:
    """Train to the last step, or to where the tuning selections say that nothing more comes.

    Args:
        training: Network, optimizer, slices and settings.
        worker: This process's place among those that share the minibatch.
        total: Sums a tensor over all workers.
        listener: Is told, and may end the run at a snapshot.
        since: Of the run that this one goes on with.
        measure: Measures the network that the model would be, every `validation.every` steps.

    Returns:
        What was learned; None where the listener ended the run.

    Raises:
        NotANumberError: A loss or a weight is no number; no snapshot after it was kept.
    """
    config = training.config
    if since is not None:
        restore(training, since)
    history = _History.since(config, since)
    every = -(-config.steps // CURVE_POINTS)
    items = sum(map(len, worker.shares(config.batch, num_workers=config.num_workers)))
    training.watch.lap()
    for step, loss in train_steps(training, worker=worker, first_step=history.step, total=total):
        history.step = step
        history.losses.append(loss)
        seconds, waited = training.watch.lap()
        listener.stepped(items=items, seconds=seconds, waited=waited)
        last = step == config.steps
        if step % every == 0 or last:
            _point(history, listener)
        if measure is not None and (step % config.validation.every == 0 or last):
            check_weights(training.unwrapped, step=step, total=total)
            _validate(training, history, measure, listener)
            if history.hopeless:
                break
        # Asked at each step: the processes agree upon when to look.
        hurry = listener.hurried(step)
        if not last and (step % config.checkpoint_every == 0 or hurry):
            check_weights(training.unwrapped, step=step, total=total)
            if listener.keep(history.snapshot(training), loss=loss):
                return None
        # What was kept and measured is no part of a step.
        training.watch.lap()
    if history.losses:
        _point(history, listener)
    check_weights(training.unwrapped, step=history.step, total=total)
    return _learned(training, history)


def _point(history: _History, listener: Listener) -> None:
    history.curve = (*history.curve, (history.step, float(np.mean(history.losses))))
    history.losses.clear()
    listener.reached(*history.curve[-1])


def _validate(training: Training, history: _History, measure: Measure, listener: Listener) -> None:
    before = history.best_step
    metrics = dict(measure(training.learned))
    history.validations = (*history.validations, (history.step, metrics))
    if training.config.validation.keep == "best" and history.best_step != before:
        weights = training.learned.state_dict()
        history.best = {name: value.detach().cpu().clone() for name, value in weights.items()}
    listener.measured(history.step, metrics)


def _learned(training: Training, history: _History) -> Learned:
    chosen = training.config.validation.keep == "best" and history.best is not None
    weights = history.best if chosen else training.learned.state_dict()
    assert weights is not None
    return Learned(
        step=history.step,
        curve=history.curve,
        validations=history.validations,
        best_step=history.best_step if chosen else None,
        weights=weights,
    )
