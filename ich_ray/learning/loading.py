"""From a step to its minibatches: of each slice the part that its crop can see, and no more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, UInt8
from torch import Tensor

from ich_ray.config import ModelConfig
from ich_ray.learning.sampling import ZOOM, Item, SamplingRule, SlicePool, Worker, draw
from ich_ray.windows import LEVELS


class Minibatch(NamedTuple):
    """This process's items of one step, or those of them that are cropped alike."""

    items: tuple[Item, ...]
    places: tuple[int, ...]
    """Of each among all that are this process's, in order."""

    names: tuple[str, ...]
    """Exam and slice of each."""

    side: int
    """Of the slices, pixels."""

    crop: int
    """Side of the crops, pixels."""

    corners: tuple[tuple[int, int], ...]
    """Top and left of each window in its slice."""

    images: Int16[Tensor, "item channel window window2"]
    """Bits of 16-bit fractions of the network's window, for `fractions`."""

    masks: UInt8[Tensor, "item window window2"]
    """0, positive, IGNORED; of soft items probabilities, 0 to SURE."""

    soft: Bool[Tensor, " item"]

    whole_label: UInt8[Tensor, " item"]
    """As SlicePool has it."""


Minibatches = tuple[Minibatch, ...]
"""All of a process's items of one step: one minibatch for each size of crops, none empty."""


@runtime_checkable
class Loader(Protocol):
    """Makes the minibatches of any step, the same ones whenever it is asked."""

    def __call__(self, step: int) -> Minibatches:
        """Return the items of a step that are this process's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceLoader:
    """Reads the slices that the rule draws."""

    pools: tuple[SlicePool, ...]
    """Labelled slices, and the pseudo-labelled ones where there are any."""

    rule: SamplingRule
    channels: int
    places: Sequence[int]
    """Of this process in the minibatch."""

    def __call__(self, step: int) -> Minibatches:
        """Draw the items of a step, and read their windows."""
        items = [draw(self.rule, self.pools, step=step, item=place) for place in self.places]
        alike = {self.rule.crop_of(pool): list[int]() for pool in range(len(self.pools))}
        for place, item in enumerate(items):
            alike[self.rule.crop_of(item.pool)].append(place)
        return tuple(
            minibatch(
                self.pools, [items[i] for i in places], channels=self.channels, crop=crop
            )._replace(places=tuple(places))
            for crop, places in alike.items()
            if places
        )


def sampling_rule(config: ModelConfig) -> SamplingRule:
    """Return what of a model's settings decides its items."""
    return SamplingRule(
        seed=config.seed,
        crop=config.crop,
        pseudo_crop=config.pseudo_crop,
        labelled_share=config.labelled_share if config.pseudo_labelled else 1.0,
        positive_patch_share=config.positive_patch_share,
        positive_slice_share=config.positive_slice_share,
        augment=config.augment,
        contrast=config.contrast,
    )


def slice_loader(
    config: ModelConfig, pools: tuple[SlicePool, ...], *, channels: int, worker: Worker
) -> SliceLoader:
    """Return the loader of one process of a run."""
    shares = worker.shares(config.batch, num_workers=config.num_workers)
    places = [place for share in shares for place in share]
    return SliceLoader(pools=pools, rule=sampling_rule(config), channels=channels, places=places)


def minibatch(
    pools: Sequence[SlicePool], items: Sequence[Item], *, channels: int, crop: int
) -> Minibatch:
    """Read what the crops of some items can see of their slices."""
    side = pools[0].images.pieces[0].shape[1]
    window = window_side(crop, side=side)
    images = np.empty((len(items), channels, window, window), np.uint16)
    masks = np.empty((len(items), window, window), np.uint8)
    corners = []
    for number, item in enumerate(items):
        pool = pools[item.pool]
        rows = [item.slice]
        if channels == 3:
            rows = [int(pool.previous[item.slice]), item.slice, int(pool.next[item.slice])]
        top, left = (
            min(max(corner + crop // 2 - window // 2, 0), side - window)
            for corner in (item.top, item.left)
        )
        here = (slice(top, top + window), slice(left, left + window))
        for channel, row in enumerate(rows):
            images[number, channel] = pool.images[row][here]
        masks[number] = pool.masks[item.slice][here]
        corners.append((top, left))
    return Minibatch(
        items=tuple(items),
        places=tuple(range(len(items))),
        names=tuple(pools[item.pool].names[item.slice] for item in items),
        side=side,
        crop=crop,
        corners=tuple(corners),
        # As signed: torch does no arithmetic with 16 bits without a sign.
        images=torch.from_numpy(images.view(np.int16)),
        masks=torch.from_numpy(masks),
        soft=torch.tensor([pools[item.pool].soft for item in items]),
        whole_label=torch.tensor(
            [int(pools[item.pool].whole_label[item.slice]) for item in items], dtype=torch.uint8
        ),
    )


def window_side(crop: int, *, side: int) -> int:
    """Return how much of a slice a crop can see when it is zoomed out, at most the slice.

    >>> window_side(240, side=512), window_side(240, side=256)
    (270, 256)
    """
    reach = math.ceil((crop / 2 - 0.5) / ZOOM[0] + 0.5) + 1
    return min(side, 2 * reach)


def fractions(
    images: Int16[Tensor, "item channel window window2"],
) -> Float[Tensor, "item channel window window2"]:
    """Return the images of a minibatch in [0, 1]."""
    return (images.to(torch.int32) & 0xFFFF).to(torch.float32).div_(LEVELS)
