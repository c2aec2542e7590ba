"""Pixel and patch cross-entropy, blind to what is ignored."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from ich_ray.exam import IGNORED
from ich_ray.learning.drn import STRIDE
from ich_ray.learning.patchfcn import Logits


class LossSums(NamedTuple):
    """Sums, so that a mean over all workers can be formed."""

    pixel_sum: Float[Tensor, ""]
    patch_sum: Float[Tensor, ""]


def patch_labels(masks: UInt8[Tensor, "item rows columns"]) -> UInt8[Tensor, " item"]:
    """Return 1 where any pixel is positive, else 0; IGNORED where every pixel is ignored."""
    any_positive = ((masks > 0) & (masks != IGNORED)).flatten(1).any(1)
    all_ignored = (masks == IGNORED).flatten(1).all(1)
    labels = any_positive.to(torch.uint8)
    labels[all_ignored] = IGNORED
    return labels


def valid_counts(
    masks: UInt8[Tensor, "item rows columns"], patches: UInt8[Tensor, " item"]
) -> Float64[Tensor, "2"]:
    """Return how many pixels and how many patches are not ignored."""
    counts = torch.stack([(masks != IGNORED).sum(), (patches != IGNORED).sum()])
    # Of a large minibatch float32 could not tell them.
    return counts.to(torch.float64)


def loss_sums(
    logits: Logits,
    masks: UInt8[Tensor, "item rows columns"],
    patches: UInt8[Tensor, " item"],
) -> LossSums:
    """Sum both cross-entropies over what is not ignored.

    Args:
        logits: Of crops; the pixel map is brought up by 8 bilinearly.
        masks: 0, positive, IGNORED.
        patches: 0, 1, IGNORED.
    """
    full = F.interpolate(
        logits.pixel[:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False
    )[:, 0]
    valid = (masks != IGNORED).to(full.dtype)
    target = ((masks > 0) & (masks != IGNORED)).to(full.dtype)
    pixel = F.binary_cross_entropy_with_logits(full, target, valid, reduction="sum")
    known = (patches != IGNORED).to(full.dtype)
    patch = F.binary_cross_entropy_with_logits(
        logits.patch, (patches == 1).to(full.dtype), known, reduction="sum"
    )
    return LossSums(pixel, patch)
