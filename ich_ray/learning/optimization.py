"""The optimizer, its learning rate at each step, and the average of the weights that it passes."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ich_ray.config import ModelConfig


def make_optimizer(config: ModelConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )


def learning_rate(config: ModelConfig, step: int) -> float:
    """Return the rate of a step, which grows linearly in the first `warmup_steps`.

    `poly` is (1 - step/steps)^0.9, `cosine` half a cosine down to nothing, and `step` x 0.1 at each
    third.

    >>> learning_rate(ModelConfig(labelled=("a",), steps=10), 0)
    0.01
    """
    done = step / config.steps
    match config.schedule:
        case "poly":
            share = (1 - done) ** 0.9
        case "cosine":
            share = (1 + math.cos(math.pi * done)) / 2
        case "step":
            share = 0.1 ** (3 * step // config.steps)
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return float(config.learning_rate * warm * share)


def averaged(config: ModelConfig, network: nn.Module) -> AveragedModel | None:
    """Return a moving average of a network's weights and statistics, if the settings want one."""
    if not config.average_decay:
        return None
    # torch declares no types of it.
    by = get_ema_multi_avg_fn(config.average_decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=by, use_buffers=True)
