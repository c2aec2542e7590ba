"""Weights that others trained, read from the bytes of their file; no code in it is ever run."""

import io
import pickle
import struct
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ich_ray.errors import ConfigError, first_line

PICKLES = (b"PK", b"\x80")
"""How the files of torch.save begin: as a zip, or as a bare pickle."""

BROKEN = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    OverflowError,
    struct.error,
)
"""What torch.load raises of truncated and of altered bytes."""

SAVE_TENSORS = "torch.save(network.state_dict(), path)"


def read_state(data: bytes, *, name: str) -> dict[str, Tensor]:
    """Return the tensors of a file of weights, on the CPU.

    Args:
        data: Of a safetensors file, or of one that torch.save wrote, zipped or as before 1.6.
        name: Of the file, for messages.

    Raises:
        ConfigError: The file is damaged, holds what may be code, or holds more than tensors by
            name.

    Source: https://github.com/huggingface/safetensors (8 bytes of length, then a JSON object).
    """
    if data[8:9] == b"{":
        held = _safetensors(data, name=name)
    elif data.startswith(PICKLES):
        held = _pickled(data, name=name)
    else:
        raise ConfigError(
            f"{name} is no file of weights, neither of safetensors nor of torch.save; "
            "look at what it holds, which may be why its download failed, and fetch it again"
        )
    if not isinstance(held, Mapping):
        raise ConfigError(
            f"{name} holds one {type(held).__name__}, and no tensors by name; "
            f"write its weights with {SAVE_TENSORS}"
        )
    for key, value in held.items():
        if not (isinstance(key, str) and _is_plain(value)):
            raise ConfigError(
                f"{name} holds {key!r}, a {type(value).__name__}, beside or instead of dense "
                f"tensors by name; write its weights alone with {SAVE_TENSORS}; those of a "
                "training's checkpoint lie under 'state_dict'"
            )
    return {key: value.detach() for key, value in held.items()}


def _safetensors(data: bytes, *, name: str) -> object:
    try:
        return load(data)
    except (SafetensorError, ValueError, LookupError) as error:
        raise ConfigError(
            f"{name} is a damaged safetensors file ({first_line(error)}); fetch it again"
        ) from None


def _pickled(data: bytes, *, name: str) -> object:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # What torch says advises to run the code.
        raise ConfigError(
            f"{name} asks for more than tensors, which may be code and was not run, or is damaged; "
            f"where you trust it, load it elsewhere and write its weights with {SAVE_TENSORS}"
        ) from None
    except BROKEN as error:
        raise ConfigError(f"{name} is damaged ({first_line(error)}); fetch it again") from None


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )
