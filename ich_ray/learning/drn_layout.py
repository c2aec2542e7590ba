"""Weights of a trunk under the names that fyu/drn publishes, to ours and back.

Source: drn.py of https://github.com/fyu/drn, whose class DRN names its tensors `layer0.0.weight`
to `layer8.1.running_var`, and its 1,000-class 1x1 convolution `fc`.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ich_ray.errors import ConfigError
from ich_ray.learning.drn import TABLES, Drn

FIRST = "layer0.0.weight"
"""Of the first convolution: channels, input channels, 7, 7."""

COUNTER = ".num_batches_tracked"
"""Of each batch normalisation; files written before PyTorch 0.4.1 lack it."""

NAMED = 3
"""Tensors of a kind that a message names."""


def trunk_from_published(
    state: Mapping[str, Tensor], *, network: str, in_channels: int
) -> dict[str, Tensor]:
    """Return published weights as those of our trunk, which loads them strictly.

    The classifier is dropped, and so is the prefix of a network that was trained in parallel.
    One input channel gets the sum of the weights of three: what they give of a grey image in
    each of the three, it gives of the image.

    Args:
        state: Tensors by their published name; left untouched.
        network: One of drn.TABLES.
        in_channels: Of the trunk's input.

    Raises:
        ConfigError: They are not the tensors of this network; names some, and the network that
            they are of where it is another of drn.TABLES.
    """
    parallel = all(name.startswith("module.") for name in state)
    found = {name.removeprefix("module.") if parallel else name: state[name] for name in state}
    found = {name: value for name, value in found.items() if not name.startswith("fc.")}
    inputs = _input_channels(found) or in_channels
    to_grey = in_channels == 1 and inputs == 3
    wanted = _tensors(network, 3 if to_grey else in_channels)
    faults = list(_faults(found, wanted))
    if faults:
        others = [other for other in TABLES if other != network]
        alike = [other for other in others if not any(_faults(found, _tensors(other, inputs)))]
        raise ConfigError(
            f"these weights are not those of {network} with {in_channels} input channel(s): "
            f"{'; '.join(faults)}; "
            + (f"they are those of {alike[0]}: set network to it, or " if alike else "")
            + f"start from weights of {network}"
        )
    if to_grey:
        found[FIRST] = found[FIRST].sum(1, keepdim=True)
    for name in wanted.keys() - found.keys():  # counters: all else that is missing is a fault
        found[name] = torch.zeros((), dtype=torch.int64)
    return {name: found[name].to(like.dtype) for name, like in wanted.items()}


def published_from_trunk(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the trunk of a PatchFCN under its published names, without a classifier.

    fyu/drn's own network of the same table, without its `fc`, loads it strictly where the trunk
    has three input channels, which that network always has.

    Raises:
        ConfigError: No tensor is of a trunk.
    """
    trunk = {
        name.removeprefix("trunk."): value
        for name, value in weights.items()
        if name.startswith("trunk.")
    }
    if not trunk:
        raise ConfigError(
            f"no tensor of a trunk among {_some(sorted(weights))}; give the weights of a PatchFCN"
        )
    return trunk


def _input_channels(found: Mapping[str, Tensor]) -> int:
    """Return how many channels the first convolution takes; 0 where there is none."""
    first = found.get(FIRST)
    return first.shape[1] if first is not None and first.ndim == 4 else 0


def _tensors(network: str, in_channels: int) -> dict[str, Tensor]:
    """Name the tensors of a trunk, with their shapes and no content."""
    with torch.device("meta"):
        return Drn(TABLES[network], in_channels=in_channels).state_dict()


def _faults(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """Say what keeps the tensors found from being those wanted; a missing counter does not."""
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    if missing:
        yield f"missing {_some([_shown(name, wanted[name]) for name in missing])}"
    foreign = [name for name in found if name not in wanted]
    if foreign:
        yield f"unexpected {_some([_shown(name, found[name]) for name in foreign])}"
    others = [
        f"{_shown(name, found[name])} for {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if others:
        yield f"of another shape {_some(others)}"


def _shown(name: str, value: Tensor) -> str:
    return f"{name} {list(value.shape)}"


def _some(said: list[str]) -> str:
    """Join the first few.

    >>> _some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(said) - NAMED
    return ", ".join(said[:NAMED]) + (f" and {more} more" if more > 0 else "")
