"""What is learned does not depend on how many processes share the minibatch."""

import dataclasses
from pathlib import Path
from typing import Any

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
from ich_ray.learning.state import to_arrays
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
    init="teacher",
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


def losses(worker: Worker, config: ModelConfig) -> tuple[list[float], dict[str, Tensor]]:
    torch.manual_seed(0)
    network: nn.Module = InDoublePrecision(PatchFCN(config.network, in_channels=3))
    if worker.world > 1:
        network = DistributedDataParallel(network)
    alone = worker.world == 1
    total = (lambda value: value) if alone else sum_over_group
    todo = Training(
        network=network,
        optimizer=make_optimizer(config, network),
        loader=slice_loader(
            config, (pool(4, positive=2), partly_ignored()), channels=3, worker=worker
        ),
        config=config,
        device=torch.device("cpu"),
    )
    found = [loss for _, loss in train_steps(todo, worker=worker, first_step=0, total=total)]
    return found, todo.unwrapped.state_dict()


def one_of_several(rank: int, world: int, folder: str, config: ModelConfig) -> None:
    """Train as one process of a group, and keep the losses that it saw."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{world}", rank=rank, world_size=world
    )
    found, weights = losses(Worker(rank=rank, world=world), config)
    np.save(Path(folder, f"{world}-{rank}.npy"), found)
    if rank == 0:
        np.savez(Path(folder, f"{world}.npz"), **to_arrays(weights))
    dist.destroy_process_group()
    # A thread of gloo's that is left takes the interpreter down with it, now and then.
    assert not [name for name in thread_names() if "gloo" in name]


def thread_names() -> list[str]:
    """Return the names of this process's threads, those of its libraries too."""
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]


def together(world: int, folder: Path, config: ModelConfig) -> tuple[list[float], dict[str, Any]]:
    """Train in several processes, which all see one curve; the weights are the first one's."""
    torch.multiprocessing.spawn(one_of_several, (world, str(folder), config), nprocs=world)
    curves = [np.load(folder / f"{world}-{rank}.npy").tolist() for rank in range(world)]
    assert all(curve == pytest.approx(curves[0], rel=1e-12) for curve in curves)
    return curves[0], dict(np.load(folder / f"{world}.npz"))


@pytest.mark.parametrize(("world", "pseudo_crop"), [(2, 0), (3, 0), (4, 0), (3, 64)])
def test_the_loss_curve_is_that_of_one_process(
    world: int, pseudo_crop: int, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, pseudo_crop=pseudo_crop)
    seen, _ = together(world, tmp_path, config)
    alone, _ = losses(Worker(), config)
    assert len(alone) == CONFIG.steps
    assert np.mean(alone[-10:]) < 0.9 * np.mean(alone[:10])
    np.testing.assert_allclose(seen, alone, rtol=1e-5)


def test_a_group_that_has_shrunk_learns_what_the_whole_one_would_statistics_too(
    tmp_path: Path,
) -> None:
    """Batch statistics are of a share of the minibatch, whoever has it."""
    config = dataclasses.replace(
        CONFIG, normalisation="local", init="random", num_workers=3, min_workers=1, steps=20
    )
    whole, weights = together(3, tmp_path, config)
    for found, theirs in (
        together(2, tmp_path, config),
        (losses(Worker(), config)[0], to_arrays(losses(Worker(), config)[1])),
    ):
        np.testing.assert_allclose(found, whole, rtol=1e-5)
        assert theirs.keys() == weights.keys()
        for name, value in weights.items():
            # How often statistics were counted decides nothing.
            if not name.endswith("num_batches_tracked"):
                np.testing.assert_allclose(theirs[name], value, rtol=1e-5, atol=1e-9)
    apart = dataclasses.replace(config, num_workers=1, min_workers=0)
    assert losses(Worker(), apart)[0][-1] != pytest.approx(whole[-1], rel=1e-3)
