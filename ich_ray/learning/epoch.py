"""Steps of training in one process; how processes are joined is the caller's business."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ich_ray.config import ModelConfig
from ich_ray.exam import IGNORED
from ich_ray.learning.augment import crops
from ich_ray.learning.loading import Loader, fractions
from ich_ray.learning.losses import LossSums, loss_sums, patch_labels
from ich_ray.learning.optimization import learning_rate
from ich_ray.learning.patchfcn import freeze_statistics, full
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
        NotANumberError: The loss is no number, in all processes at the same step, which none takes.
    """
    config, device = training.config, training.device
    training.network.train()
    if config.normalisation == "frozen":
        freeze_statistics(training.network)
    for step in range(first_step, config.steps):
        with training.watch.waiting():
            batch = training.loader(step)
        cut, masks = crops(
            fractions(batch.images.to(device, non_blocking=True)),
            batch.masks.to(device, non_blocking=True),
            batch.items,
            crop=config.crop,
            corners=batch.corners,
        )
        whole_only = batch.whole_only.to(device)
        labels = targets(masks, whole_only, side=batch.side, crop=config.crop)
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        with autocast(config, device):
            logits = training.network(cut)
        loss = mean_loss(
            loss_sums(full(logits), masks, labels),
            patch_loss_weight=config.patch_loss_weight,
            world=worker.world,
            total=total,
        )
        training.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        shown = float(total(loss.detach()) / worker.world)
        if not np.isfinite(shown):
            mine = () if bool(loss.isfinite()) else batch.names
            raise NotANumberError(f"the loss of step {step} is {shown}", items=mine)
        training.optimizer.step()
        if training.average is not None:
            training.average.update_parameters(training.network)
        yield step + 1, shown


def check_weights(network: nn.Module, *, step: int, total: SumOverWorkers) -> None:
    """Refuse to keep weights that are no numbers, which a finite loss may have led to.

    Raises:
        NotANumberError: In all processes, when any holds some.
    """
    values = network.state_dict().values()
    broken = torch.stack([(~value.isfinite()).any() for value in values]).any()
    if total(broken.to(torch.float32)) > 0:
        raise NotANumberError(f"after step {step} the weights hold what is no number")
