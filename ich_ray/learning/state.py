"""The state of a run as arrays by name, and back: what a checkpoint holds beside its step."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return tensors as arrays, on the CPU and in C order."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}


def to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return copies of arrays as tensors."""
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Name every tensor of an optimizer's state by its parameter and its role, `3.exp_avg`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{parameter}.{role}": value
        for parameter, roles in state.items()
        for role, value in roles.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give a new optimizer of the same parameters the state that `optimizer_tensors` named."""
    whole = optimizer.state_dict()
    for name, value in tensors.items():
        parameter, role = name.split(".", 1)
        whole["state"].setdefault(int(parameter), {})[role] = value
    optimizer.load_state_dict(whole)
