"""PatchFCN: a dilated trunk with a pixel branch and a patch branch.

Source: Kuo et al., PNAS 2019; Lin & Yuh, section 2.2. The patch branch's shape is ours: 3x3
convolution, batch normalisation, average and maximum over the patch, and the pixel branch's
maximum beside them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ich_ray.learning.drn import STRIDE, TABLES, Drn, initialise

PATCH_CELLS = 30
"""Feature cells along a patch of 240 pixels."""

PRIOR_LOGIT = -4.0
"""Of a pixel, before any training: about 2 % bleed."""


class Logits(NamedTuple):
    """What the two branches say: a map at stride 8, and one logit a patch or slice."""

    pixel: Float[Tensor, "item cells cells2"]
    patch: Float[Tensor, " item"]


def full(logits: Logits) -> Logits:
    """Return logits that were computed in 16 bits in 32: sums over pixels need them."""
    if logits.pixel.dtype in (torch.bfloat16, torch.float16):
        return Logits(logits.pixel.float(), logits.patch.float())
    return logits


class PatchFCN(nn.Module):
    """Both branches share the trunk."""

    def __init__(self, network: str, *, in_channels: int) -> None:
        super().__init__()
        self.trunk = Drn(TABLES[network], in_channels=in_channels)
        width = self.trunk.out_channels
        self.pixel = nn.Conv2d(width, 1, 1)
        self.patch_features = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.patch = nn.Linear(2 * width + 1, 1)
        initialise(self.patch_features)
        # The trunk's rule would draw the one output from N(0, sqrt 2), far from "few pixels bleed",
        # which is where detectors start (Lin et al., ICCV 2017).
        nn.init.normal_(self.pixel.weight, 0, 0.01)
        nn.init.constant_(_bias(self.pixel), PRIOR_LOGIT)
        # The strongest pixel is evidence of its own, and dense labels teach it sooner.
        nn.init.normal_(self.patch.weight, 0, 0.01)
        nn.init.constant_(_bias(self.patch), -PRIOR_LOGIT / 2)
        with torch.no_grad():
            self.patch.weight[0, -1] = 1.0

    def forward(self, x: Float[Tensor, "item channel rows columns"]) -> Logits:
        """Treat each image as one patch, as in training."""
        features = self.trunk(x)
        pixel, patch = self.pixel(features), self.patch_features(features)
        pooled = torch.cat([patch.mean((2, 3)), patch.amax((2, 3)), pixel.amax((2, 3))], 1)
        return Logits(pixel[:, 0], self.patch(pooled)[:, 0])

    def whole_slice(
        self, x: Float[Tensor, "item channel rows columns"], *, crop: int = STRIDE * PATCH_CELLS
    ) -> Logits:
        """Treat each image as a slice: the patch branch slides, and its maximum is the score.

        Args:
            x: Slices, rows and columns multiples of 8.
            crop: Side of the patches that the network was trained on, pixels.
        """
        features = self.trunk(x)
        pixel, patch = self.pixel(features), self.patch_features(features)
        window = [min(crop // STRIDE, cells) for cells in patch.shape[2:]]
        stride = [max(w // 2, 1) for w in window]
        # Repeating the edge lets the last window reach the slice's end, whatever its size.
        rest = [
            -(cells - w) % s for cells, w, s in zip(patch.shape[2:], window, stride, strict=True)
        ]
        both = F.pad(torch.cat([patch, pixel], 1), (0, rest[1], 0, rest[0]), mode="replicate")
        pooled = torch.cat(
            [F.avg_pool2d(both[:, :-1], window, stride), F.max_pool2d(both, window, stride)], 1
        )
        scores = self.patch(pooled.permute(0, 2, 3, 1))[..., 0]
        return Logits(pixel[:, 0], scores.amax((1, 2)))


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def placed(network: PatchFCN, device: torch.device) -> PatchFCN:
    """Move a network to a device, its convolutions channels last, as tensor cores want them."""
    # torch's stubs know memory_format of tensors, not of modules.
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def freeze_statistics(network: nn.Module) -> None:
    """Let batch normalisation use the mean and variance that it has, and keep them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@contextmanager
def weighing_statistics(network: nn.Module, weight: float) -> Iterator[None]:
    """Normalise by the items at hand, and let them count so much in the running statistics.

    Args:
        network: Trained.
        weight: Times the usual momentum; 0 leaves the running mean and variance as they are.
    """
    before = [(m, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for module, momentum in before:
        module.momentum = weight * (momentum or 0.0)
    try:
        yield
    finally:
        for module, momentum in before:
            module.momentum = momentum


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(p.numel() for p in module.parameters())
