"""Load a network once, predict many batches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, UInt16
from torch import Tensor

from ich_ray.config import PredictConfig
from ich_ray.learning.inference import InferenceRule, inference_rule, slice_logits
from ich_ray.learning.loading import fractions
from ich_ray.learning.patchfcn import Logits, PatchFCN, placed
from ich_ray.learning.precision import allow_tf32
from ich_ray.windows import LEVELS


class Predictions(NamedTuple):
    """Of a batch of slices: probability of hemorrhage, and logits at stride 8."""

    p: Float32[np.ndarray, " slice"]
    maps: Float16[np.ndarray, "slice cells cells2"]


class Predictor:
    """Predicts whole slices with one network on one device."""

    def __init__(
        self, network: PatchFCN, *, rule: InferenceRule, device: torch.device, pad_to: int = 0
    ) -> None:
        self.network, self.rule, self.device = network, rule, device
        self.pad_to = pad_to
        """Slices of every batch, where the network was compiled for one size; 0: any."""

    def predict(self, inputs: UInt16[np.ndarray, "slice channel side side2"]) -> Predictions:
        """Predict a batch of slices, given as 16-bit fractions of the window."""
        return self.fetch(self.launch(self.stage(inputs)))

    def stage(
        self, inputs: UInt16[np.ndarray, "slice channel side side2"]
    ) -> Float[Tensor, "slice channel side side2"]:
        """Bring a batch to the device, while it may compute another one."""
        inputs = np.ascontiguousarray(inputs)
        if self.device.type != "cuda":
            images = torch.from_numpy(inputs).to(torch.float32).div_(LEVELS)
            return images.contiguous(memory_format=torch.channels_last)
        # As signed: torch's kernels for GPUs know few things of 16 bits without a sign.
        levels = torch.from_numpy(inputs.view(np.int16))
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            images = fractions(levels.pin_memory().to(self.device, non_blocking=True))
            images = images.contiguous(memory_format=torch.channels_last)
        stream.synchronize()
        return images

    def launch(self, images: Float[Tensor, "slice channel side side2"]) -> Logits:
        """Compute a batch that is on the device; a GPU goes on with it after this returns."""
        count = len(images)
        if self.pad_to > count:
            rest = images.new_zeros(self.pad_to - count, *images.shape[1:])
            images = torch.cat([images, rest]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            logits = slice_logits(self.network, images, self.rule)
            return Logits(logits.pixel[:count], logits.patch[:count])

    def fetch(self, logits: Logits) -> Predictions:
        """Wait for a batch, and bring it from the device."""
        with torch.inference_mode():
            p = torch.sigmoid(logits.patch).cpu().numpy().astype(np.float32)
            return Predictions(p, logits.pixel.cpu().numpy().astype(np.float16))


def predictor_of(  # noqa: PLR0913  (a network, what it was trained as, and how it predicts)
    weights: Mapping[str, torch.Tensor],
    *,
    network: str,
    in_channels: int,
    crop: int,
    device: str = "cpu",
    config: PredictConfig | None = None,
) -> Predictor:
    """Make a predictor of the weights of a trained network.

    Args:
        weights: Its state dict.
        network: Its name in drn.TABLES.
        in_channels: Of its input.
        crop: Side of the patches that it was trained on, pixels.
        device: Where it predicts.
        config: How; None: whole slices, in float32 in full.
    """
    config = config or PredictConfig()
    untrained = PatchFCN(network, in_channels=in_channels)
    untrained.load_state_dict(weights, strict=True)
    place = torch.device(device)
    allow_tf32(allowed=config.precision == "tf32")
    ready = placed(untrained, place).eval()
    if config.compiled:
        ready.trunk.compile(dynamic=False)
    return Predictor(
        ready,
        rule=inference_rule(config, crop=crop),
        device=place,
        pad_to=config.batch if config.compiled else 0,
    )


@contextmanager
def predicting(network: PatchFCN, *, crop: int, device: torch.device) -> Iterator[Predictor]:
    """Predict with a network in training, which goes on afterwards as it was."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    before = allow_tf32(allowed=False)
    try:
        yield Predictor(network, rule=InferenceRule(crop=crop), device=device)
    finally:
        allow_tf32(allowed=before)
        for module in training:
            # Not of its children too: some of them may be frozen.
            module.training = True
