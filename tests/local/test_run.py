"""A run that was interrupted goes on as if it had never been, and keeps nothing that is broken."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import NotANumberError, Training
from ich_ray.learning.run import CURVE_POINTS, Curve, Snapshot, run, snapshot_of
from ich_ray.learning.sampling import Worker
from ich_ray.learning.state import to_arrays, to_tensors
from ich_ray.storage.checkpoints import decode_tensors, encode_tensors
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
    state = json.loads(json.dumps([snapshot.step, snapshot.curve, snapshot.losses]))
    return Snapshot(
        step=state[0],
        curve=tuple((step, loss) for step, loss in state[1]),
        losses=tuple(state[2]),
        tensors={
            name: to_tensors(decode_tensors(encode_tensors(to_arrays(tensors)), name=name))
            for name, tensors in snapshot.tensors.items()
        },
    )


@dataclasses.dataclass
class Notes:
    """Keeps all that a run tells."""

    stop_at: int = 0
    items: int = 0
    points: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    kept: list[Snapshot] = dataclasses.field(default_factory=list)
    lost: list[float] = dataclasses.field(default_factory=list)

    def stepped(self, *, items: int, seconds: float, waited: float) -> None:
        assert 0 < waited < seconds
        self.items += items

    def reached(self, step: int, loss: float) -> None:
        self.points.append((step, loss))

    def keep(self, snapshot: Snapshot, *, loss: float) -> bool:
        self.kept.append(as_files(snapshot))
        self.lost.append(loss)
        return snapshot.step == self.stop_at


def go(todo: Training, notes: Notes, since: Snapshot | None = None) -> Curve | None:
    return run(todo, worker=Worker(), total=lambda value: value, listener=notes, since=since)


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
    curve = go(whole, undisturbed)
    assert curve is not None
    assert go(first, before) is None
    assert [snapshot.step for snapshot in before.kept] == [50, 100]
    assert go(second, after, before.kept[-1]) == curve
    assert tuple(before.points + after.points) == curve == tuple(undisturbed.points)
    assert before.items + after.items == undisturbed.items == config.steps * config.batch
    ends = [
        snapshot_of(todo, step=config.steps, curve=(), losses=()).tensors
        for todo in (whole, second)
    ]
    assert ends[0].keys() == ends[1].keys()
    assert ("average" in ends[0]) == bool(average_decay)
    assert all(same(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_curve_holds_the_mean_loss_between_its_points() -> None:
    notes = Notes()
    every = dataclasses.replace(CONFIG, checkpoint_every=1)
    curve = go(training(every, pool(4, positive=2)), notes)
    assert curve is not None
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
