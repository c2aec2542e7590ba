"""What is learned does not depend on how many processes share the minibatch."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ich_ray.config import ModelConfig
from ich_ray.exam import IGNORED
from ich_ray.learning.epoch import Training, sum_over_group, train_steps
from ich_ray.learning.loading import slice_loader
from ich_ray.learning.optimization import make_optimizer
from ich_ray.learning.patchfcn import Logits, PatchFCN
from ich_ray.learning.sampling import SlicePool, Worker
from tests.local.slice_pools import pool

CONFIG = ModelConfig(
    labelled=("a",),
    pseudo_labelled=("p",),
    network="drn_d_narrow",
    crop=32,
    batch=8,
    steps=50,
    learning_rate=0.003,
    # A mean and a variance are of the items that one process has.
    normalisation="frozen",
)


class InDoublePrecision(nn.Module):
    """The network in float64: in float32 the order of sums would show."""

    def __init__(self, network: PatchFCN) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: Tensor) -> Logits:
        """Return logits in float64."""
        logits: Logits = self.network(x.double())
        return logits


def partly_ignored() -> SlicePool:
    """A pool whose slices have very unlike numbers of valid pixels."""
    slices = pool(6, positive=3, seed=1)
    masks = slices.masks.pieces[0].copy()
    for row, mask in enumerate(masks):
        mask[: 10 * row] = IGNORED
    return dataclasses.replace(slices, masks=dataclasses.replace(slices.masks, pieces=(masks,)))


def losses(worker: Worker) -> list[float]:
    torch.manual_seed(0)
    network: nn.Module = InDoublePrecision(PatchFCN(CONFIG.network, in_channels=3))
    if worker.world > 1:
        network = DistributedDataParallel(network)
    alone = worker.world == 1
    total = (lambda value: value) if alone else sum_over_group
    todo = Training(
        network=network,
        optimizer=make_optimizer(CONFIG, network),
        loader=slice_loader(
            CONFIG, (pool(4, positive=2), partly_ignored()), channels=3, worker=worker
        ),
        config=CONFIG,
        device=torch.device("cpu"),
    )
    return [loss for _, loss in train_steps(todo, worker=worker, first_step=0, total=total)]


def one_of_several(rank: int, world: int, folder: str) -> None:
    """Train as one process of a group, and keep the losses that it saw."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{world}", rank=rank, world_size=world
    )
    np.save(Path(folder, f"{world}-{rank}.npy"), losses(Worker(rank=rank, world=world)))
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_loss_curve_is_that_of_one_process(world: int, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_several, (world, str(tmp_path)), nprocs=world)
    seen = [np.load(tmp_path / f"{world}-{rank}.npy") for rank in range(world)]
    alone = losses(Worker())
    assert len(alone) == CONFIG.steps
    assert np.mean(alone[-10:]) < 0.9 * np.mean(alone[:10])
    for curve in seen:
        np.testing.assert_allclose(curve, alone, rtol=1e-5)
