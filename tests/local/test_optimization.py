"""Rates of each step, as torch's own schedulers give them; the optimizer has its settings."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, PolynomialLR, StepLR

from ich_ray.config import ModelConfig
from ich_ray.errors import ConfigError
from ich_ray.learning.optimization import averaged, learning_rate, make_optimizer

CONFIG = ModelConfig(labelled=("a",), steps=90, batch=4)
SCHEDULERS: dict[str, tuple[type[LRScheduler], dict[str, Any]]] = {
    "poly": (PolynomialLR, {"total_iters": 90, "power": 0.9}),
    "step": (StepLR, {"step_size": 30, "gamma": 0.1}),
    "cosine": (CosineAnnealingLR, {"T_max": 90}),
}


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_rates_are_those_of_torch(schedule: Any) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    kind, arguments = SCHEDULERS[schedule]
    scheduler = kind(optimizer, **arguments)
    config = dataclasses.replace(CONFIG, schedule=schedule)
    for step in range(config.steps):
        rate = optimizer.param_groups[0]["lr"]
        assert learning_rate(config, step) == pytest.approx(rate, rel=1e-6), step
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_a_rate_grows_linearly_and_then_is_the_schedule_s(schedule: Any) -> None:
    plain = dataclasses.replace(CONFIG, schedule=schedule)
    warm = dataclasses.replace(plain, warmup_steps=9)
    for step in range(9):
        share = learning_rate(warm, step) / learning_rate(plain, step)
        assert math.isclose(share, (step + 1) / 10)
    assert [learning_rate(warm, step) for step in range(9, 90)] == [
        learning_rate(plain, step) for step in range(9, 90)
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"warmup_steps": 90}, "warmup_steps=90 leave none of steps=90"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"average_decay": 1.0}, "average_decay must be at least 0 and below 1, got 1.0"),
        ({"average_decay": -0.1}, "average_decay"),
    ],
)
def test_what_could_not_be_meant_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(CONFIG, **changes)


def test_an_average_is_kept_only_where_the_settings_want_one() -> None:
    network = torch.nn.Linear(1, 1)
    assert averaged(CONFIG, network) is None
    assert averaged(dataclasses.replace(CONFIG, average_decay=0.9), network) is not None


def test_sgd_has_the_momentum_and_decay_of_the_settings() -> None:
    config = dataclasses.replace(CONFIG, optimizer="sgd", momentum=0.8, weight_decay=1e-3)
    group = make_optimizer(config, torch.nn.Linear(1, 1)).param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.8, 1e-3)
