"""A run that was interrupted goes on as if it had never been, and keeps nothing that is broken."""

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ich_ray.config import ModelConfig, ValidationConfig
from ich_ray.distributed.checkpointing import read_snapshot, write_snapshot
from ich_ray.learning.epoch import NotANumberError, Training
from ich_ray.learning.run import (
    CURVE_POINTS,
    Learned,
    Measure,
    Snapshot,
    best_step,
    run,
    tensors_of,
)
from ich_ray.learning.sampling import Worker
from tests.local.slice_pools import pool
from tests.local.trainings import training

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ModelConfig(
    labelled=("a",),
    network="drn_d_narrow",
    crop=32,
    batch=2,
    # Three steps a point of the curve, and checkpoints between the points.
    steps=2 * CURVE_POINTS + 30,
    num_workers=1,
    checkpoint_every=50,
    learning_rate=0.003,
)


def as_files(snapshot: Snapshot) -> Snapshot:
    """Return what is read of a snapshot that was written."""
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(snapshot, Path(folder), of={"name": "teacher"})
        return read_snapshot(Path(folder))


@dataclasses.dataclass
class Notes:
    """Keeps all that a run tells."""

    stop_at: int = 0
    items: int = 0
    points: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    kept: list[Snapshot] = dataclasses.field(default_factory=list)
    lost: list[float] = dataclasses.field(default_factory=list)
    told: list[tuple[int, Mapping[str, float]]] = dataclasses.field(default_factory=list)
    hurry_at: int = 0

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        assert 0 < waited < seconds
        self.items += items

    def reached(self, step: int, loss: float) -> None:
        self.points.append((step, loss))

    def measured(self, step: int, metrics: Mapping[str, float]) -> None:
        self.told.append((step, metrics))

    def hurried(self, step: int) -> bool:
        return step == self.hurry_at

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        self.kept.append(as_files(snapshot))
        self.lost.append(loss)
        return snapshot.step == self.stop_at


def go(
    todo: Training, notes: Notes, since: Snapshot | None = None, measure: Measure | None = None
) -> Learned | None:
    return run(
        todo,
        worker=Worker(),
        total=lambda value: value,
        listener=notes,
        since=since,
        measure=measure,
    )


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("average_decay", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_run_ends_with_the_same_weights_and_curve_bit_for_bit(
    optimizer: Any, average_decay: float
) -> None:
    config = dataclasses.replace(
        CONFIG, optimizer=optimizer, average_decay=average_decay, pseudo_labelled=("p",)
    )
    pools = (pool(4, positive=2), pool(6, positive=2, seed=1))
    whole, first = training(config, *pools, channels=3), training(config, *pools, channels=3)
    second = training(dataclasses.replace(config, seed=99), *pools, channels=3)
    second = dataclasses.replace(second, config=config, loader=first.loader)
    undisturbed, before, after = Notes(), Notes(stop_at=100), Notes()
    learned = go(whole, undisturbed)
    assert learned is not None
    assert go(first, before) is None
    assert [snapshot.step for snapshot in before.kept] == [50, 100]
    again = go(second, after, before.kept[-1])
    assert again is not None
    assert again.curve == learned.curve == tuple(undisturbed.points)
    assert tuple(before.points + after.points) == learned.curve
    assert same(again.weights, learned.weights)
    assert before.items + after.items == undisturbed.items == config.steps * config.batch
    ends = [tensors_of(todo) for todo in (whole, second)]
    assert ends[0].keys() == ends[1].keys()
    assert ("average" in ends[0]) == bool(average_decay)
    assert all(same(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_curve_holds_the_mean_loss_between_its_points() -> None:
    notes = Notes()
    every = dataclasses.replace(CONFIG, checkpoint_every=1)
    learned = go(training(every, pool(4, positive=2)), notes)
    assert learned is not None
    curve = learned.curve
    assert [step for step, _ in curve] == list(range(3, 151, 3))
    for at, (_, loss) in enumerate(curve[:-1]):
        assert loss == pytest.approx(sum(notes.lost[3 * at : 3 * at + 3]) / 3)


def test_no_snapshot_is_kept_of_weights_that_are_no_numbers() -> None:
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=3e38, checkpoint_every=1)
    notes = Notes()
    with pytest.raises(NotANumberError):
        go(training(config, pool(4, positive=2)), notes)
    for snapshot in notes.kept:
        for tensors in snapshot.tensors.values():
            assert all(bool(value.isfinite().all()) for value in tensors.values())


class Scripted:
    """Says in turn what it was given, and remembers the weights that it was asked about."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        self.seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"pixel_ap": self.values.pop(0), "dsc": 0.0, "exam_auc": math.nan}


def watched(**changes: Any) -> ModelConfig:
    """A run that is measured at 40, 80, 120 and at its end, 150."""
    return dataclasses.replace(
        CONFIG, validation=ValidationConfig(tuning=("t",), every=40, **changes)
    )


def test_a_run_is_measured_every_so_many_steps_and_at_its_end() -> None:
    notes, measure = Notes(), Scripted(0.1, 0.2, 0.3, 0.2)
    learned = go(training(watched(), pool(4, positive=2)), notes, measure=measure)
    assert learned is not None
    assert [step for step, _ in notes.told] == [40, 80, 120, 150]
    assert tuple(notes.told) == learned.validations
    assert learned.best_step is None
    assert same(learned.weights, measure.seen[-1])


def test_measuring_changes_nothing_of_what_is_learned() -> None:
    plain = go(training(CONFIG, pool(4, positive=2)), Notes())
    learned = go(
        training(watched(), pool(4, positive=2)), Notes(), measure=Scripted(0.1, 0.2, 0.3, 0.2)
    )
    assert plain is not None
    assert learned is not None
    assert same(plain.weights, learned.weights)
    assert plain.curve == learned.curve


@pytest.mark.parametrize("average_decay", [0.0, 0.9])
def test_the_best_weights_are_the_models_also_after_an_interruption(average_decay: float) -> None:
    config = dataclasses.replace(watched(keep="best"), average_decay=average_decay)
    values = (0.1, 0.3, math.nan, 0.3)
    measure, notes = Scripted(*values), Notes()
    learned = go(training(config, pool(4, positive=2)), notes, measure=measure)
    assert learned is not None
    assert learned.best_step == 80
    assert same(learned.weights, measure.seen[1])
    assert not same(learned.weights, measure.seen[3])
    # The checkpoint of step 100 holds them, and what was measured.
    rest = Scripted(*values[2:])
    again = go(training(config, pool(4, positive=2)), Notes(), notes.kept[-1], rest)
    assert again is not None
    assert (again.best_step, len(again.validations)) == (80, 4)
    assert same(again.weights, learned.weights)


def test_a_run_ends_early_when_nothing_has_become_better_for_a_while() -> None:
    notes = Notes()
    config = watched(patience=2, keep="best")
    learned = go(training(config, pool(4, positive=2)), notes, measure=Scripted(0.3, 0.2, 0.3, 0.9))
    assert learned is not None
    assert (learned.step, learned.best_step) == (120, 40)
    assert learned.curve[-1][0] == 120
    assert notes.items == 120 * config.batch


def test_a_node_that_is_about_to_go_has_a_snapshot_kept_at_once() -> None:
    notes = Notes(hurry_at=7)
    assert go(training(CONFIG, pool(4, positive=2)), notes) is not None
    assert [snapshot.step for snapshot in notes.kept] == [7, 50, 100]


def test_of_equal_values_the_first_is_best_and_what_is_no_number_never_is() -> None:
    values = [math.nan, 0.5, 0.2, 0.5]
    steps = tuple((10 * i, {"dsc": value}) for i, value in enumerate(values))
    assert best_step(steps, "dsc") == 10
    assert best_step(steps[:1], "dsc") is None
