"""Checkpoints: tensors as safetensors, and a JSON record of where they come from.

Nothing is ever unpickled: a file that is no safetensors is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ich_ray.errors import ConfigError
from ich_ray.storage.objects import Store
from ich_ray.storage.urls import join

RECORD = "model.json"


def encode_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return tensors as the bytes of a safetensors file, equal bytes for equal tensors."""
    # Not ascontiguousarray, which makes a counter of no axes an array of one.
    return save({name: np.asarray(tensors[name], order="C") for name in sorted(tensors)})


def decode_tensors(data: bytes, *, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file.

    Raises:
        ConfigError: The bytes are anything else, a pickle for instance.
    """
    try:
        return load(data)
    except (SafetensorError, ValueError) as error:
        raise ConfigError(
            f"{name} is no safetensors file ({error}); checkpoints hold tensors only, "
            "and anything else is refused"
        ) from None


def save_weights(store: Store, url: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Write the weights of a trained model, which counts once its record is written.

    Returns:
        The model's identity, `model` in its record: the hash of the weights' content, which names
        their file too, so that no two writers are in each other's way.
    """
    data = encode_tensors(tensors)
    identity = hashlib.sha256(data).hexdigest()[:16]
    store.write_bytes(weights_url(url, identity), data)
    return identity


def save_record(store: Store, url: str, record: Mapping[str, Any]) -> None:
    """Write the record of a trained model, which makes it count; `model` names its weights."""
    text = json.dumps(dict(record), sort_keys=True, indent=1)
    store.write_bytes(join(url, RECORD), text.encode())


def weights_url(url: str, identity: str) -> str:
    """Return where a model's weights lie."""
    return join(url, f"weights-{identity}.safetensors")


def load_record(store: Store, url: str) -> dict[str, Any] | None:
    """Return the record of a trained model, or None where there is none yet."""
    try:
        record: dict[str, Any] = json.loads(store.read_bytes(join(url, RECORD)))
    except FileNotFoundError:
        return None
    return record


def load_weights(store: Store, url: str, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights of a model whose record was read before.

    Raises:
        ConfigError: The file is no safetensors file, or not the one of the record.
    """
    place = weights_url(url, record["model"])
    data = store.read_bytes(place)
    if hashlib.sha256(data).hexdigest()[:16] != record["model"]:
        raise ConfigError(
            f"{place} is not the file that its {RECORD} describes; "
            "remove the model's folder and train it again"
        )
    return decode_tensors(data, name=place)
