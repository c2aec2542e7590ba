"""How long a training step takes on this device, by precision, memory layout and compiler.

A step is forward, loss, backward and SGD of the `lin2022` network on a minibatch that lies on the
device: nothing is read, cut or disturbed. The roofline is an H200's, at the 770 TFLOP/s of bfloat16
and 4.3 TB/s that one was measured to have, layer by layer with each layer's normalisation and ReLU
fused into it: 3.75 ms for 16 crops of 240 x 240 with one channel.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ich_ray.config import ModelConfig
from ich_ray.exam import SURE
from ich_ray.learning.epoch import mean_loss
from ich_ray.learning.losses import loss_sums, patch_labels, valid_counts
from ich_ray.learning.optimization import make_optimizer
from ich_ray.learning.patchfcn import PatchFCN, full, placed
from ich_ray.learning.precision import allow_tf32

ROOFLINE_MS = 3.75
ROOFLINE_BATCH = 16
GFLOP_A_CROP = 3 * 48.3
"""Forward, and twice as much backward."""

WARM_UP, BLOCKS = 3, 5
BLOCK_CROPS = 512
"""Crops of a block at least: a block is timed as a whole, the figure is the median block's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to make a step."""

    precision: str
    """float32 in full, TF32 allowed, or bfloat16 by autocast."""

    channels_last: bool = True
    mode: str = ""
    """Of torch.compile; empty: eager."""


WAYS = {
    "eager_float32": Way(precision="float32", channels_last=False),
    "eager_tf32": Way(precision="tf32", channels_last=False),
    "bfloat16": Way(precision="bfloat16"),
    "bfloat16_compiled": Way(precision="bfloat16", mode="default"),
    "bfloat16_graphs": Way(precision="bfloat16", mode="reduce-overhead"),
}
"""The first two are the rivals: a plain loop, as torch comes. The last replays CUDA graphs, which
training does not."""

RIVALS = ("eager_float32", "eager_tf32")
OURS = ("bfloat16", "bfloat16_compiled")
"""As settings of a model have it; a step of training also cuts its crops, and tells its loss."""


def step_of(way: Way, config: ModelConfig, device: torch.device) -> Callable[[], object]:
    """Return a step that may be repeated."""
    allow_tf32(allowed=way.precision == "tf32")
    torch.manual_seed(0)
    network = PatchFCN(config.network, in_channels=1).to(device)
    images = torch.rand(config.batch, 1, config.crop, config.crop, device=device)
    if way.channels_last:
        network = placed(network, device)
        images = images.contiguous(memory_format=torch.channels_last)
    masks = (torch.rand_like(images[:, 0]) > 0.98).to(torch.uint8) * SURE
    labels = patch_labels(masks)
    valid = valid_counts(masks, labels)
    optimizer = make_optimizer(config, network)

    def loss_of(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=way.precision == "bfloat16"):
            logits = network(images)
        sums = loss_sums(full(logits), masks, labels)
        return mean_loss(sums, valid, patch_loss_weight=config.patch_loss_weight, world=1)

    if way.mode and device.type == "cuda":
        loss_of = torch.compile(loss_of, mode=way.mode, dynamic=False)
    elif way.mode:
        # Traced and differentiated as ever, but no C++ compiler is asked: this is a rehearsal.
        loss_of = torch.compile(loss_of, backend="aot_eager", dynamic=False)

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss_of(images))
        optimizer.step()

    return step


def step_ms(step: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Return the time of a step in the median block of `repeats` steps."""
    for _ in range(WARM_UP):
        step()
    blocks = []
    for _ in range(BLOCKS):
        _wait(device)
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        _wait(device)
        blocks.append((time.perf_counter() - began) / repeats)
    return 1e3 * statistics.median(blocks)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_ways(
    configs: Sequence[ModelConfig], device: torch.device, out: Path
) -> dict[str, dict[str, Any]]:
    """Return batch -> way -> figures, and write the kernels of our ways into `out`, a file a batch.

    A way that this device or torch cannot go has an `error` instead of a time.
    """
    out.mkdir(parents=True, exist_ok=True)
    # For all ways alike, the rivals among them: the best algorithm of each convolution.
    torch.backends.cudnn.benchmark = True
    found: dict[str, dict[str, Any]] = {}
    for config in configs:
        repeats = max(1, BLOCK_CROPS // config.batch) if device.type == "cuda" else 1
        of_batch = found.setdefault(str(config.batch), {})
        tables = []
        for name, way in WAYS.items():
            torch.compiler.reset()
            try:
                step = step_of(way, config, device)
                ms = step_ms(step, device, repeats=repeats)
                if name not in RIVALS:
                    tables.append(f"{name}\n{kernels(step, device)}")
            except RuntimeError as error:
                of_batch[name] = {"error": str(error).strip().splitlines()[0][:200]}
                continue
            of_batch[name] = {
                "ms": round(ms, 3),
                "over_roofline": round(ms / (ROOFLINE_MS * config.batch / ROOFLINE_BATCH), 3),
                "tflop_per_s": round(GFLOP_A_CROP * config.batch / ms, 1),
            }
            print(config.batch, name, of_batch[name], flush=True)
        (out / f"kernels-{config.batch}.txt").write_text("\n".join(tables))
    return found


def kernels(step: Callable[[], object], device: torch.device) -> str:
    """Return torch.profiler's table of the kernels that take longest, over three steps."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(3):
            step()
        _wait(device)
    sort_by = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(profile.key_averages().table(sort_by=sort_by, row_limit=30))
