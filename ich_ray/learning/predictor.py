"""Load a network once, predict many batches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, Float32, UInt16

from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.precision import allow_tf32
from ich_ray.windows import LEVELS


class Predictions(NamedTuple):
    """Of a batch of slices: probability of hemorrhage, and logits at stride 8."""

    p: Float32[np.ndarray, " slice"]
    maps: Float16[np.ndarray, "slice cells cells2"]


class Predictor:
    """Whole-slice inference with one network on one device."""

    def __init__(self, network: PatchFCN, *, crop: int, device: torch.device) -> None:
        self.network, self.crop, self.device = network, crop, device

    def predict(self, inputs: UInt16[np.ndarray, "slice channel side side2"]) -> Predictions:
        """Predict a batch of slices, given as 16-bit fractions of the window."""
        images = torch.from_numpy(inputs.astype(np.float32)).to(self.device).div_(LEVELS)
        with torch.inference_mode():
            logits = self.network.whole_slice(
                images.contiguous(memory_format=torch.channels_last), crop=self.crop
            )
            p = torch.sigmoid(logits.patch).cpu().numpy().astype(np.float32)
            return Predictions(p, logits.pixel.cpu().numpy().astype(np.float16))


def predictor_of(
    weights: Mapping[str, torch.Tensor],
    *,
    network: str,
    in_channels: int,
    crop: int,
    device: str = "cpu",
) -> Predictor:
    """Make a predictor of the weights of a trained network; it predicts in float32 in full."""
    untrained = PatchFCN(network, in_channels=in_channels)
    untrained.load_state_dict(weights, strict=True)
    place = torch.device(device)
    allow_tf32(allowed=False)
    return Predictor(placed(untrained, place).eval(), crop=crop, device=place)


@contextmanager
def predicting(network: PatchFCN, *, crop: int, device: torch.device) -> Iterator[Predictor]:
    """Predict with a network in training, which goes on afterwards as it was."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    before = allow_tf32(allowed=False)
    try:
        yield Predictor(network, crop=crop, device=device)
    finally:
        allow_tf32(allowed=before)
        for module in training:
            # Not of its children too: some of them may be frozen.
            module.training = True
