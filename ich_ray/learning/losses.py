"""Pixel and patch cross-entropy, blind to what is ignored."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from ich_ray.exam import IGNORED, SURE
from ich_ray.learning.drn import STRIDE
from ich_ray.learning.patchfcn import Logits


class LossSums(NamedTuple):
    """Sums, so that a mean over all workers can be formed."""

    pixel_sum: Float[Tensor, ""]
    patch_sum: Float[Tensor, ""]


def probabilities(
    masks: UInt8[Tensor, "item rows columns"], soft: Bool[Tensor, " item"]
) -> UInt8[Tensor, "item rows columns"]:
    """Return masks as probabilities, 0 to SURE, and IGNORED: positive pixels are sure.

    Args:
        masks: 0, positive, IGNORED; of soft items probabilities already.
        soft: Which items hold a teacher's probabilities.
    """
    hard = (masks > 0) & (masks != IGNORED) & ~soft[:, None, None]
    return masks.masked_fill(hard, SURE)


def patch_labels(masks: UInt8[Tensor, "item rows columns"]) -> UInt8[Tensor, " item"]:
    """Return the highest probability of a patch's pixels; IGNORED where every pixel is ignored.

    Args:
        masks: 0 to SURE, IGNORED.
    """
    ignored = masks == IGNORED
    labels = masks.masked_fill(ignored, 0).flatten(1).amax(1)
    return labels.masked_fill(ignored.flatten(1).all(1), IGNORED)


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
        masks: Probabilities, 0 to SURE, and IGNORED.
        patches: The same of whole patches.
    """
    full = F.interpolate(
        logits.pixel[:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False
    )[:, 0]
    valid = (masks != IGNORED).to(full.dtype)
    target = masks.to(full.dtype) / SURE * valid
    pixel = F.binary_cross_entropy_with_logits(full, target, valid, reduction="sum")
    known = (patches != IGNORED).to(full.dtype)
    patch = F.binary_cross_entropy_with_logits(
        logits.patch, patches.to(full.dtype) / SURE * known, known, reduction="sum"
    )
    return LossSums(pixel, patch)
