"""From whole slices to logits, with a network that has learned from patches.

Source: method.md 1.3. A receptive field may be larger than a slice (drn_d_38: 991 pixels), so what
a network says of a pixel depends on how much of the slice it is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ich_ray.config import PredictConfig
from ich_ray.learning.drn import STRIDE
from ich_ray.learning.patchfcn import Logits, PatchFCN, full

CLOSEST = 1e-7
"""Of an averaged probability to 0 or 1: its logit stays finite, and in 16 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceRule:
    """How slices are shown to a network; see config.PredictConfig for each field."""

    crop: int
    """Side of the patches that it was trained on, pixels."""

    windows: bool = False
    flip: bool = False
    bfloat16: bool = False


def inference_rule(config: PredictConfig, *, crop: int) -> InferenceRule:
    """Return what of the pool's settings decides predictions."""
    return InferenceRule(
        crop=crop,
        windows=config.inference == "windows",
        flip=config.flip,
        bfloat16=config.precision == "bfloat16",
    )


def slice_logits(
    network: PatchFCN, images: Float[Tensor, "item channel side side2"], rule: InferenceRule
) -> Logits:
    """Return what a network says of whole slices.

    Args:
        network: In evaluation mode.
        images: In [0, 1], sides multiples of 8.
        rule: How they are shown to it. Of several views the probabilities are averaged, pixel by
            pixel at stride 8; a slice's score is the highest of its patches in each view, averaged
            over flips.
    """
    one = _windows if rule.windows else _whole
    with torch.autocast(images.device.type, torch.bfloat16, enabled=rule.bfloat16):
        plain = full(one(network, images, rule.crop))
        if not rule.flip:
            return plain
        turned = full(one(network, images.flip(-1), rule.crop))
    pixel = torch.stack([plain.pixel, turned.pixel.flip(-1)])
    return Logits(_mean(pixel), _mean(torch.stack([plain.patch, turned.patch])))


def _whole(network: PatchFCN, images: Tensor, crop: int) -> Logits:
    return network.whole_slice(images, crop=crop)


def _windows(network: PatchFCN, images: Tensor, crop: int) -> Logits:
    """Show one window after the other, each to all slices at once."""
    rows, columns = images.shape[2:]
    total = images.new_zeros(len(images), rows // STRIDE, columns // STRIDE, dtype=torch.float32)
    count = torch.zeros_like(total[0])
    scores = []
    for top in _starts(rows, crop):
        for left in _starts(columns, crop):
            shown = images[:, :, top : top + crop, left : left + crop]
            logits = full(network(shown.contiguous(memory_format=torch.channels_last)))
            cells = (
                slice(top // STRIDE, (top + shown.shape[2]) // STRIDE),
                slice(left // STRIDE, (left + shown.shape[3]) // STRIDE),
            )
            total[:, *cells] += torch.sigmoid(logits.pixel)
            count[cells] += 1
            scores.append(logits.patch)
    return Logits(_logit(total / count), torch.stack(scores).amax(0))


def _starts(side: int, crop: int) -> Iterator[int]:
    """Yield where windows begin: half a window apart, and the last one at the slice's end.

    >>> list(_starts(512, 240)), list(_starts(64, 240))
    ([0, 120, 240, 272], [0])
    """
    last = max(side - crop, 0)
    yield from range(0, last, max(crop // 2 // STRIDE, 1) * STRIDE)
    yield last


def _mean(logits: Float[Tensor, "view ..."]) -> Float[Tensor, "..."]:
    return _logit(torch.sigmoid(logits).mean(0))


def _logit(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.logit(p, eps=CLOSEST)
