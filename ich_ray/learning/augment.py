"""The student's noise, batched on the device: crop, scale, flip and contrast in one pass.

Source: Lin & Yuh, section 2.2; ranges in learning/sampling.py.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from ich_ray.exam import IGNORED
from ich_ray.learning.sampling import Item


def crops(
    images: Float[Tensor, "item channel side side2"],
    masks: UInt8[Tensor, "item side side2"],
    items: Sequence[Item],
    *,
    crop: int,
    corners: Sequence[tuple[int, int]] = (),
) -> tuple[Float[Tensor, "item channel crop crop2"], UInt8[Tensor, "item crop crop2"]]:
    """Cut and disturb the items of a minibatch.

    Args:
        images: In [0, 1], slices or windows of them, which hold all that the crops see of a slice;
            outside lies air.
        masks: 0, positive, IGNORED; outside all is ignored.
        items: Where to cut, and the noise of each.
        crop: Side of a crop, pixels.
        corners: Top and left of each window in its slice; empty for whole slices.
    """
    grid = _grid(items, corners, window=images.shape[2], crop=crop).to(images.device)
    warped = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    # Shifted by one, so that the zeros from outside the slice become IGNORED, not negative.
    shifted = (masks.to(images.dtype) + 1)[:, None]
    nearest = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)[:, 0] - 1
    nearest[nearest < 0] = IGNORED
    return _contrast(warped, items), nearest.to(torch.uint8)


def _grid(
    items: Sequence[Item], corners: Sequence[tuple[int, int]], *, window: int, crop: int
) -> Float[Tensor, "item crop crop2 2"]:
    """Where each pixel of each crop lies in its window, in grid_sample's [-1, 1]."""
    offsets = torch.arange(crop) + 0.5 - crop / 2
    rows, columns = [], []
    for item, (top, left) in zip(items, corners or [(0, 0)] * len(items), strict=True):
        rows.append(item.top - top + crop / 2 + offsets / item.noise.height)
        sign = -1 if item.noise.flip else 1
        columns.append(item.left - left + crop / 2 + sign * offsets / item.noise.width)
    y = torch.stack(rows)[:, :, None].expand(-1, crop, crop)
    x = torch.stack(columns)[:, None, :].expand(-1, crop, crop)
    return torch.stack([x, y], -1) * (2 / window) - 1


def _contrast(
    images: Float[Tensor, "item channel rows columns"], items: Sequence[Item]
) -> Float[Tensor, "item channel rows columns"]:
    def each(values: list[float]) -> Float[Tensor, "item 1 1 1"]:
        return torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None, None]

    gamma, gain = each([i.noise.gamma for i in items]), each([i.noise.gain for i in items])
    images = images.clamp(0, 1)
    changed = torch.where(gain > 0, gain * torch.log2(1 + images), images.pow(gamma))
    return changed.clamp(0, 1)
