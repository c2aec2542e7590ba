"""Training learns, and stops on a loss that is no number."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import (
    NotANumberError,
    Training,
    check_weights,
    train_steps,
)
from ich_ray.learning.optimization import learning_rate
from ich_ray.learning.sampling import Worker
from tests.local.slice_pools import pool
from tests.local.trainings import training

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = ModelConfig(
    labelled=("a",),
    network="drn_d_narrow",
    crop=32,
    batch=4,
    steps=6,
    num_workers=1,
    optimizer="adamw",
    learning_rate=0.003,
)


def run(todo: Training, *, first_step: int = 0, until: int | None = None) -> list[float]:
    losses = []
    for step, loss in train_steps(
        todo, worker=Worker(), first_step=first_step, total=lambda value: value
    ):
        losses.append(loss)
        if step == until:
            break
    return losses


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_optimizer_has_the_rate_of_its_step() -> None:
    todo = training(CONFIG, pool(2, positive=1))
    run(todo, until=3)
    assert todo.optimizer.param_groups[0]["lr"] == learning_rate(CONFIG, 2)


def test_the_time_for_the_slices_of_a_step_is_waiting_and_its_arithmetic_is_not() -> None:
    todo = training(CONFIG, pool(2, positive=1))
    seen = []
    for _ in train_steps(todo, worker=Worker(), first_step=0, total=lambda value: value):
        seen.append(todo.watch.lap())
    assert len(seen) == CONFIG.steps
    assert all(0 < waited < seconds for seconds, waited in seen)


def test_a_tiny_network_learns_two_slices_by_heart() -> None:
    config = dataclasses.replace(CONFIG, steps=25, crop=64, augment=False)
    losses = run(training(config, pool(2, positive=1, lesion=16)))
    assert len(losses) == 25
    assert np.mean(losses[-3:]) < losses[0] / 2


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step() -> None:
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(NotANumberError, match=r"^the loss of step [1-5] is (nan|inf)$") as raised:
        run(training(config, pool(4, positive=2)))
    assert len(raised.value.items) == config.batch


def test_weights_that_are_no_numbers_are_seen_before_the_step_is_taken() -> None:
    todo = training(CONFIG, pool(4, positive=2))
    torch.nn.init.constant_(todo.network.get_parameter("pixel.bias"), float("nan"))
    before = todo.network.get_parameter("patch.weight").clone()
    with pytest.raises(NotANumberError, match=r"^the loss of step 0 is nan$") as raised:
        run(todo)
    (batch,) = todo.loader(0)
    assert raised.value.items == batch.names
    assert torch.equal(todo.network.get_parameter("patch.weight"), before)


def test_only_the_process_whose_part_of_the_loss_is_no_number_names_its_items() -> None:
    todo = training(CONFIG, pool(4, positive=2))
    steps = train_steps(
        todo, worker=Worker(), first_step=0, total=lambda value: value * float("inf")
    )
    with pytest.raises(NotANumberError) as raised:
        next(steps)
    assert raised.value.items == ()


def test_weights_that_are_no_numbers_are_not_kept() -> None:
    network = training(CONFIG).network
    check_weights(network, step=3, total=lambda value: value)
    # Another process's are.
    with pytest.raises(NotANumberError, match="after step 3"):
        check_weights(network, step=3, total=lambda value: value + 1)
    network.get_buffer("trunk.layer0.1.running_var")[0] = float("inf")
    with pytest.raises(NotANumberError, match="after step 3"):
        check_weights(network, step=3, total=lambda value: value)


def test_the_average_follows_the_weights_and_statistics_of_every_step() -> None:
    decay = 0.8
    todo = training(dataclasses.replace(CONFIG, average_decay=decay), pool(4, positive=2))
    assert todo.average is not None
    expected: dict[str, Tensor] = {}
    for _ in train_steps(todo, worker=Worker(), first_step=0, total=lambda value: value):
        for name, value in todo.network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            value = value.double()
            before = expected.get(name, value)
            expected[name] = decay * before + (1 - decay) * value
    found = todo.average.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)
    assert not same(found, todo.network.state_dict())


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two = training(CONFIG, pool(4, positive=2)), training(CONFIG, pool(4, positive=2))
    assert run(one) == run(two)
    assert same(one.network.state_dict(), two.network.state_dict())
