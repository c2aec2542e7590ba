"""Slices of a corpus to what a network sees: one window, one grid, physical neighbours."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, UInt16

from ich_ray.config import InputConfig
from ich_ray.errors import ConfigError
from ich_ray.exam import Slice
from ich_ray.storage.corpus import hounsfield
from ich_ray.windows import to_input


def on_grid(slices: Sequence[Slice], config: InputConfig) -> UInt16[np.ndarray, "slice side side2"]:
    """Bring slices to the input's window and grid.

    Raises:
        ConfigError: `input.size` is 0 and the slices differ in size.
    """
    images = [to_input(hounsfield(s), window=config.window, size=config.size) for s in slices]
    sides = sorted({image.shape[0] for image in images})
    if len(sides) > 1:
        raise ConfigError(
            f"exam {slices[0].exam} has slices of {sides[0]} and of {sides[-1]} pixels; "
            "set input.size, one grid for the whole run"
        )
    return np.stack(images)


def neighbour_rows(
    slices: Sequence[Slice],
) -> tuple[Integer[np.ndarray, " slice"], Integer[np.ndarray, " slice"]]:
    """Return the rows of each slice's neighbours; a slice without one names itself."""
    row = {item.key: i for i, item in enumerate(slices)}
    previous = [row.get(item.previous or "", i) for i, item in enumerate(slices)]
    following = [row.get(item.next or "", i) for i, item in enumerate(slices)]
    return np.array(previous), np.array(following)


def channels_of(
    slices: Sequence[Slice], config: InputConfig
) -> UInt16[np.ndarray, "slice channel side side2"]:
    """Return the network's input for the slices of one exam."""
    images = on_grid(slices, config)
    if config.channels == "single":
        return images[:, None]
    previous, following = neighbour_rows(slices)
    return np.stack([images[previous], images, images[following]], axis=1)
