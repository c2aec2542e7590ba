"""Steps of training in one process; how processes are joined is the caller's business."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ich_ray.config import ModelConfig
from ich_ray.exam import IGNORED
from ich_ray.learning.augment import crops
from ich_ray.learning.losses import LossSums, loss_sums, patch_labels
from ich_ray.learning.sampling import Item, SamplingRule, SlicePool, Worker, draw
from ich_ray.stopwatch import Stopwatch
from ich_ray.windows import LEVELS

SumOverWorkers = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What this process trains, on what, and how."""

    network: nn.Module
    """A PatchFCN, wrapped where processes are joined."""

    optimizer: torch.optim.Optimizer
    pools: tuple[SlicePool, ...]
    """Labelled slices, and the pseudo-labelled ones where there are any."""

    config: ModelConfig
    channels: int
    device: torch.device
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Knows how long this process waited for the slices of its items."""


def sampling_rule(config: ModelConfig) -> SamplingRule:
    """Return what of a model's settings decides its items."""
    return SamplingRule(
        seed=config.seed,
        crop=config.crop,
        labelled_share=config.labelled_share if config.pseudo_labelled else 1.0,
        positive_patch_share=config.positive_patch_share,
        positive_slice_share=config.positive_slice_share,
        augment=config.augment,
    )


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
    """Return the rate of a step: `poly` (1 - step/steps)^0.9, or `step`: x 0.1 at each third.

    >>> learning_rate(ModelConfig(labelled=("a",), steps=10), 0)
    0.01
    """
    if config.schedule == "poly":
        return float(config.learning_rate * (1 - step / config.steps) ** 0.9)
    return float(config.learning_rate * 0.1 ** (3 * step // config.steps))


def minibatch(
    pools: tuple[SlicePool, ...], items: list[Item], *, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Read the slices of some items.

    Returns:
        Images (item, channel, side, side) in [0, 1], masks (item, side, side) with 0, 1,
        IGNORED, and whether each is positive only as a whole (item).
    """
    images, masks, whole_only = [], [], []
    for item in items:
        pool = pools[item.pool]
        rows = [item.slice]
        if channels == 3:
            rows = [int(pool.previous[item.slice]), item.slice, int(pool.next[item.slice])]
        images.append(np.stack([pool.images[row] for row in rows]))
        masks.append(pool.masks[item.slice])
        whole_only.append(bool(pool.whole_only[item.slice]))
    scaled = torch.from_numpy(np.stack(images).astype(np.float32)).div_(LEVELS)
    return scaled, torch.from_numpy(np.stack(masks)), torch.tensor(whole_only)


def targets(masks: Tensor, whole_only: Tensor, *, side: int, crop: int) -> Tensor:
    """Return patch labels; a slice that is positive only as a whole labels only a whole crop."""
    labels = patch_labels(masks)
    labels[whole_only] = 1 if crop >= side else IGNORED
    return labels


def mean_loss(
    sums: LossSums, *, patch_loss_weight: float, world: int, total: SumOverWorkers
) -> Tensor:
    """Return this worker's share of the loss, normalised by what is valid over all workers.

    DDP averages gradients over workers; times `world`, their average is the gradient of the
    mean over all valid pixels, however they fell to the workers.
    """
    counts = total(torch.stack([sums.pixels, sums.patches]).detach()).clamp(min=1)
    pixel = sums.pixel_sum / counts[0]
    patch = sums.patch_sum / counts[1]
    return (pixel + patch_loss_weight * patch) * world


def train_steps(
    training: Training, *, worker: Worker, first_step: int, total: SumOverWorkers
) -> Iterator[tuple[int, float]]:
    """Train from `first_step` on; yield (steps done, loss over all workers) after each step.

    Args:
        training: Network, optimizer, slices and settings.
        worker: This process's place among those that share the minibatch.
        first_step: Steps that were done before.
        total: Sums a tensor over all workers.

    Raises:
        FloatingPointError: The loss is no number; the message names the step and its items.
    """
    config, pools, device = training.config, training.pools, training.device
    rule = sampling_rule(config)
    side = pools[0].images.pieces[0].shape[1]
    training.network.train()
    for step in range(first_step, config.steps):
        with training.watch.waiting():
            items = [draw(rule, pools, step=step, item=i) for i in worker.items(config.batch)]
            images, masks, whole_only = minibatch(pools, items, channels=training.channels)
        cut, cut_masks = crops(images.to(device), masks.to(device), items, crop=config.crop)
        labels = targets(cut_masks, whole_only.to(device), side=side, crop=config.crop)
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        loss = mean_loss(
            loss_sums(training.network(cut), cut_masks, labels),
            patch_loss_weight=config.patch_loss_weight,
            world=worker.world,
            total=total,
        )
        training.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        shown = float(total(loss.detach()) / worker.world)
        if not np.isfinite(shown):
            places = ", ".join(f"pool {i.pool} slice {i.slice}" for i in items)
            raise FloatingPointError(f"the loss of step {step} is {shown}; items: {places}")
        training.optimizer.step()
        yield step + 1, shown
