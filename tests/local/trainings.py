"""A training of one process on pools of random slices, for the tests of learning."""

import torch

from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import Training
from ich_ray.learning.loading import slice_loader
from ich_ray.learning.optimization import averaged, make_optimizer
from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.precision import fuse
from ich_ray.learning.sampling import SlicePool, Worker


def training(config: ModelConfig, *pools: SlicePool, channels: int = 1) -> Training:
    torch.manual_seed(config.seed)
    network = PatchFCN(config.network, in_channels=channels)
    average = averaged(config, network)
    fuse(config, network)
    return Training(
        network=network,
        optimizer=make_optimizer(config, network),
        average=average,
        loader=slice_loader(config, pools, channels=channels, worker=Worker()),
        config=config,
        device=torch.device("cpu"),
    )
