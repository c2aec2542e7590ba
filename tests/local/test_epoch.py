"""Training learns, stops on a loss that is no number, and goes on as if never interrupted."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import (
    Training,
    learning_rate,
    make_optimizer,
    minibatch,
    train_steps,
)
from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.sampling import Item, Noise, SlicePool, Worker
from ich_ray.learning.state import optimizer_tensors, restore_optimizer, to_arrays, to_tensors
from ich_ray.storage.checkpoints import decode_tensors, encode_tensors
from ich_ray.windows import LEVELS
from tests.local.slice_pools import pool, pool_of

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


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def training(config: ModelConfig, *pools: SlicePool, channels: int = 1) -> Training:
    torch.manual_seed(config.seed)
    network = PatchFCN(config.network, in_channels=channels)
    return Training(
        network=network,
        optimizer=make_optimizer(config, network),
        pools=pools,
        config=config,
        channels=channels,
        device=torch.device("cpu"),
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


def test_poly_falls_from_the_first_rate_to_almost_nothing() -> None:
    config = dataclasses.replace(CONFIG, steps=100, learning_rate=0.01)
    assert learning_rate(config, 0) == 0.01
    assert learning_rate(config, 50) == pytest.approx(0.01 * 0.5**0.9)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.0002


def test_step_falls_by_ten_at_each_third() -> None:
    config = dataclasses.replace(CONFIG, steps=9, learning_rate=1.0, schedule="step")
    expected = np.repeat([1, 0.1, 0.01], 3)
    np.testing.assert_allclose([learning_rate(config, step) for step in range(9)], expected)


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


def test_sgd_has_the_momentum_and_decay_of_the_settings() -> None:
    config = dataclasses.replace(CONFIG, optimizer="sgd", momentum=0.8, weight_decay=1e-3)
    group = training(config).optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.8, 1e-3)


def test_a_minibatch_holds_the_slice_between_its_neighbours() -> None:
    images = np.arange(3, dtype=np.uint16)[:, None, None].repeat(8, 1).repeat(8, 2)
    slices = pool_of(images, np.zeros((3, 8, 8), np.uint8))
    items = [Item(0, i, 0, 0, Noise()) for i in (0, 1, 2)]
    cut, _, _ = minibatch((slices,), items, channels=3)
    levels = (cut[:, :, 0, 0] * LEVELS).round().int().tolist()
    assert levels == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    single, _, _ = minibatch((slices,), items, channels=1)
    assert torch.equal(single[:, 0], cut[:, 1])


def test_a_tiny_network_learns_two_slices_by_heart() -> None:
    config = dataclasses.replace(CONFIG, steps=25, crop=64, augment=False)
    losses = run(training(config, pool(2, positive=1, lesion=16)))
    assert len(losses) == 25
    assert np.mean(losses[-3:]) < losses[0] / 2


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step() -> None:
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"the loss of step [1-5] is (nan|inf); items: "):
        run(training(config, pool(4, positive=2)))


def test_weights_that_are_no_numbers_are_seen_before_the_step_is_taken() -> None:
    todo = training(CONFIG, pool(4, positive=2))
    torch.nn.init.constant_(todo.network.get_parameter("pixel.bias"), float("nan"))
    before = todo.network.get_parameter("patch.weight").clone()
    with pytest.raises(FloatingPointError, match="the loss of step 0 is nan; items: pool 0 slice"):
        run(todo)
    assert torch.equal(todo.network.get_parameter("patch.weight"), before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_run_ends_with_the_same_weights_bit_for_bit(optimizer: str) -> None:
    config = dataclasses.replace(CONFIG, optimizer=optimizer, pseudo_labelled=("p",))  # type: ignore[arg-type]
    pools = (pool(4, positive=2), pool(6, positive=2, seed=1))
    whole, first = training(config, *pools, channels=3), training(config, *pools, channels=3)
    losses = run(whole)
    before = run(first, until=4)
    files = [
        encode_tensors(to_arrays(tensors))
        for tensors in (first.network.state_dict(), optimizer_tensors(first.optimizer))
    ]
    second = training(dataclasses.replace(config, seed=99), *pools, channels=3)
    second = dataclasses.replace(second, config=config)
    weights, state = (to_tensors(decode_tensors(data, name="file")) for data in files)
    second.network.load_state_dict(weights)
    restore_optimizer(second.optimizer, state)
    after = run(second, first_step=4)
    assert before + after == losses
    assert same(second.network.state_dict(), whole.network.state_dict())
    assert same(optimizer_tensors(second.optimizer), optimizer_tensors(whole.optimizer))


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two = training(CONFIG, pool(4, positive=2)), training(CONFIG, pool(4, positive=2))
    assert run(one) == run(two)
    assert same(one.network.state_dict(), two.network.state_dict())
