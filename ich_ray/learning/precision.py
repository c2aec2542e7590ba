"""How convolutions are computed: said explicitly, whatever torch's defaults are."""

from contextlib import AbstractContextManager

import torch
from torch import nn

from ich_ray.config import ModelConfig


def allow_tf32(*, allowed: bool) -> bool:
    """Let this process's GPU take the 10 bits of TF32 for float32, or not; return what was before.

    torch takes them for convolutions by default, and not for matrix products.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    return before


def set_precision(config: ModelConfig) -> None:
    """Let float32 on a GPU have as many bits as the settings say."""
    allow_tf32(allowed=config.precision == "tf32")


def autocast(config: ModelConfig, device: torch.device) -> AbstractContextManager[None]:
    """Return what a network's forward pass runs in; its gradients follow."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def fuse(config: ModelConfig, network: nn.Module) -> None:
    """Let torch.compile fuse a network's passes, where the settings say so; its tensors stay.

    Of training alone: whole slices, which vary in size, are predicted by another method, eagerly.
    """
    if config.compiled:
        network.compile()
