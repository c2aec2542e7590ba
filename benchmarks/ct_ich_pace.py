"""How long a step of training takes here: each process of the group does its share, at once.

No slices are read and no gradients are joined: in a step of the folds both are about a hundredth.
"""

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import mean_loss
from ich_ray.learning.losses import loss_sums, patch_labels, valid_counts
from ich_ray.learning.optimization import make_optimizer
from ich_ray.learning.patchfcn import PatchFCN, placed

WARM_UP = 3


def seconds_per_step(config: ModelConfig, *, channels: int, steps: int = 20) -> float:
    """Return the median time of a step of the slowest process."""
    processes = config.num_workers
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_median_s, config, channels, steps) for _ in range(processes)]
        return max(job.result() for job in jobs)


def _median_s(config: ModelConfig, channels: int, steps: int) -> float:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = placed(PatchFCN(config.network, in_channels=channels), torch.device("cpu"))
    optimizer = make_optimizer(config, network)
    images = torch.rand(config.batch // config.num_workers, channels, config.crop, config.crop)
    masks = (images[:, 0] > 0.95).to(torch.uint8)
    labels = patch_labels(masks)
    valid = valid_counts(masks, labels)
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        sums = loss_sums(network(images), masks, labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(mean_loss(sums, valid, patch_loss_weight=1.0, world=1))
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP:])
