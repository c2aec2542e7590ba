"""Steps of training in one process; how processes are joined is the caller's business."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed

# Imported later, as DistributedDataParallel does, its functions would hold the group that then is
# as their default: the group's threads would outlive it, and abort an interpreter that goes down.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ich_ray.config import ModelConfig
from ich_ray.exam import IGNORED, SURE
from ich_ray.learning.augment import crops
from ich_ray.learning.loading import Loader, Minibatch, Minibatches, fractions
from ich_ray.learning.losses import (
    LossSums,
    loss_sums,
    patch_labels,
    probabilities,
    valid_counts,
)
from ich_ray.learning.optimization import learning_rate
from ich_ray.learning.patchfcn import freeze_statistics, full, weighing_statistics
from ich_ray.learning.precision import autocast
from ich_ray.learning.sampling import Worker
from ich_ray.stopwatch import Stopwatch

SumOverWorkers = Callable[[Tensor], Tensor]


def sum_over_group(value: Tensor) -> Tensor:
    """Sum over all processes of torch's group, which is there."""
    summed = value.clone()
    torch.distributed.all_reduce(summed)
    return summed


class NotANumberError(FloatingPointError):
    """A loss or a weight is no number: nothing can be learned from here on."""

    def __init__(self, said: str, *, items: Sequence[str] = ()) -> None:
        super().__init__(said)
        self.items = tuple(items)
        """Of this process's minibatch, where its own part of the loss is no number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What this process trains, on what, and how."""

    network: nn.Module
    """A PatchFCN, wrapped where processes are joined."""

    optimizer: torch.optim.Optimizer
    average: AveragedModel | None = None
    """Of the network's weights, after each step."""

    loader: Loader
    config: ModelConfig
    device: torch.device
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Knows how long this process waited for the slices of its items."""

    @property
    def unwrapped(self) -> nn.Module:
        """The network itself: its tensors have the same names however many processes there are."""
        if not isinstance(self.network, DistributedDataParallel):
            return self.network
        assert isinstance(self.network.module, nn.Module)
        return self.network.module

    @property
    def learned(self) -> nn.Module:
        """The network that the model would be if the run ended here."""
        if self.average is None:
            return self.unwrapped
        assert isinstance(self.average.module, nn.Module)
        return self.average.module


def targets(masks: Tensor, whole_label: Tensor, *, side: int, crop: int) -> Tensor:
    """Return patch labels; a slice that is positive only as a whole labels only a whole crop."""
    labels = patch_labels(masks)
    labels[whole_label == 1] = SURE if crop >= side else IGNORED
    labels[whole_label == 0] = 0
    return labels


def mean_loss(sums: LossSums, valid: Tensor, *, patch_loss_weight: float, world: int) -> Tensor:
    """Return a share's part of the loss, normalised by what is valid over all of the minibatch.

    DDP averages gradients over workers; times `world`, their average is the gradient of the
    mean over all valid pixels, however they fell to the workers.

    Args:
        sums: Of the share.
        valid: Pixels and patches that are not ignored, of all shares of all workers.
        patch_loss_weight: Of the patch cross-entropy.
        world: Number of workers.
    """
    pixel = sums.pixel_sum / valid[0].clamp(min=1)
    patch = sums.patch_sum / valid[1].clamp(min=1)
    return (pixel + patch_loss_weight * patch) * world


class Share(NamedTuple):
    """Items that pass through the network together, and what batch normalisation averages over."""

    crops: Tensor
    masks: Tensor
    labels: Tensor
    weight: float = 1.0
    """In the running statistics, which are those of the first worker's items: its part of them."""


def shares_of(training: Training, batches: Minibatches, worker: Worker) -> list[Share]:
    """Cut this worker's items, and divide them as `num_workers` workers would have them.

    So a group that has shrunk passes as many items at a time, with the same statistics of batch
    normalisation, as a whole one. Where all items are normalised together they pass together. Crops
    of two sizes, which cannot, pass one after the other.
    """
    config = training.config
    sizes = [len(share) for share in worker.shares(config.batch, num_workers=config.num_workers)]
    if config.normalisation == "synchronised":
        sizes = [sum(sizes)]
    edges = [0, *accumulate(sizes)]
    found: list[list[Share]] = [[] for _ in sizes]
    for batch in batches:
        # Places are in order.
        numbers = np.diff(np.searchsorted(batch.places, edges)).tolist()
        parts = zip(*(torch.split(t, numbers) for t in _cut(training, batch)), strict=True)
        for place, (cut, masks, labels) in enumerate(parts):
            if numbers[place]:
                weight = 0.0 if place else numbers[place] / sizes[0]
                found[place].append(Share(cut, masks, labels, weight))
    return [share for shares in found for share in shares]


def _cut(training: Training, batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops, masks and patch labels."""
    device = training.device
    cut, masks = crops(
        fractions(batch.images.to(device, non_blocking=True)),
        batch.masks.to(device, non_blocking=True),
        batch.items,
        crop=batch.crop,
        corners=batch.corners,
    )
    masks = probabilities(masks, batch.soft.to(device))
    whole_label = batch.whole_label.to(device)
    return cut, masks, targets(masks, whole_label, side=batch.side, crop=batch.crop)


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
        NotANumberError: The loss is no number, in all processes at the same step, which none takes.
    """
    config = training.config
    training.network.train()
    if config.normalisation == "frozen":
        freeze_statistics(training.network)
    for step in range(first_step, config.steps):
        with training.watch.waiting():
            batches = training.loader(step)
        shares = shares_of(training, batches, worker)
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        training.optimizer.zero_grad(set_to_none=True)
        loss = _backward(training, shares, world=worker.world, total=total)
        shown = float(total(loss) / worker.world)
        if not np.isfinite(shown):
            mine = [] if bool(loss.isfinite()) else [n for b in batches for n in b.names]
            raise NotANumberError(f"the loss of step {step} is {shown}", items=mine)
        training.optimizer.step()
        if training.average is not None:
            training.average.update_parameters(training.network)
        yield step + 1, shown


def _backward(
    training: Training, shares: Sequence[Share], *, world: int, total: SumOverWorkers
) -> Tensor:
    """Add up the gradients of this worker's shares; return their part of the loss, times `world`.

    Workers exchange gradients at the last one. The running statistics that are kept are those of
    the first worker's items, as in a group that has not shrunk.
    """
    valid = total(torch.stack([valid_counts(s.masks, s.labels) for s in shares]).sum(0))
    network, config = training.network, training.config
    loss = torch.zeros((), device=training.device)
    for number, share in enumerate(shares):
        last = number == len(shares) - 1
        with (
            nullcontext() if last else _alone(network),
            nullcontext() if share.weight == 1 else weighing_statistics(network, share.weight),
        ):
            with autocast(config, training.device):
                logits = network(share.crops)
            part = mean_loss(
                loss_sums(full(logits), share.masks, share.labels),
                valid,
                patch_loss_weight=config.patch_loss_weight,
                world=world,
            )
            torch.autograd.backward(part)
        loss = loss + part.detach()
    return loss


def _alone(network: nn.Module) -> AbstractContextManager[None]:
    """Keep gradients to this worker for the while."""
    if isinstance(network, DistributedDataParallel):
        alone: AbstractContextManager[None] = network.no_sync()
        return alone
    return nullcontext()


def check_weights(network: nn.Module, *, step: int, total: SumOverWorkers) -> None:
    """Refuse to keep weights that are no numbers, which a finite loss may have led to.

    Raises:
        NotANumberError: In all processes, when any holds some.
    """
    values = network.state_dict().values()
    broken = torch.stack([(~value.isfinite()).any() for value in values]).any()
    if total(broken.to(torch.float32)) > 0:
        raise NotANumberError(f"after step {step} the weights hold what is no number")
