"""Does bfloat16 learn as float32 does? Short runs from a packed corpus, by the product's own steps.

Both precisions see the same items and start from the same weights, seed by seed; they learn from
all folds but the first and are measured on the first, in float32. Pixel AP is exact, on the
network's grid; its intervals, and that of the difference, resample patients.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from benchmarks.packed_corpus import PackedSlices, open_pack, pool_of
from ich_ray.config import ModelConfig
from ich_ray.learning.epoch import Training, train_steps
from ich_ray.learning.loading import fractions, slice_loader
from ich_ray.learning.optimization import make_optimizer
from ich_ray.learning.patchfcn import PatchFCN, placed
from ich_ray.learning.precision import set_precision
from ich_ray.learning.sampling import SlicePool, Worker
from ich_ray.statistics import average_precision, pixel_histograms, score_levels
from ich_ray.statistics.bootstrap import Interval, interval, resample_weights
from ich_ray.windows import upsample

HELD_OUT = 0
RESAMPLES = 2_000
PRECISIONS = ("float32", "bfloat16")
CHANNELS = 3
LAST = 0.1
"""Share of the steps over which the final loss is the mean."""


def compare(pack: Path, config: ModelConfig, seeds: int, device: torch.device) -> dict[str, Any]:
    """Train both ways with each seed; return losses, pixel AP and its difference."""
    slices = open_pack(pack)
    folds = set(slices.fold.tolist())
    learned_from = pool_of(open_pack(pack, folds=folds - {HELD_OUT}))
    test = open_pack(pack, folds=[HELD_OUT])
    weights = _resamples(test)
    losses: dict[str, list[float]] = {way: [] for way in PRECISIONS}
    points: dict[str, list[float]] = {way: [] for way in PRECISIONS}
    samples: dict[str, list[Float64[np.ndarray, " resample"]]] = {way: [] for way in PRECISIONS}
    for seed in range(seeds):
        for way in PRECISIONS:
            own = dataclasses.replace(config, precision=way, seed=seed)
            network, loss = train(own, learned_from, device)
            stack = pixels(network, test, device, crop=config.crop)
            ones = np.ones((1, stack.num_clusters), np.int64)
            point = float(average_precision.weighted_average_precisions(stack, ones)[0])
            losses[way].append(loss)
            points[way].append(point)
            samples[way].append(average_precision.weighted_average_precisions(stack, weights))
            print({"seed": seed, "precision": way, "loss": loss, "pixel_ap": point}, flush=True)
    return {
        **{way: _row(losses[way], points[way], samples[way]) for way in PRECISIONS},
        "bfloat16_less_float32": _shown(
            interval(
                float(np.mean(points["bfloat16"]) - np.mean(points["float32"])),
                np.mean(samples["bfloat16"], axis=0) - np.mean(samples["float32"], axis=0),
            )
        ),
        "steps": config.steps,
        "held_out_patients": weights.shape[1],
    }


def train(config: ModelConfig, pool: SlicePool, device: torch.device) -> tuple[PatchFCN, float]:
    """Train in this process; return the network and its loss at the end."""
    set_precision(config)
    torch.manual_seed(config.seed)
    network = placed(PatchFCN(config.network, in_channels=CHANNELS), device)
    training = Training(
        network=network,
        optimizer=make_optimizer(config, network),
        loader=slice_loader(config, (pool,), channels=CHANNELS, worker=Worker()),
        config=config,
        device=device,
    )
    steps = train_steps(training, worker=Worker(), first_step=0, total=lambda value: value)
    found = [loss for _, loss in steps]
    return network, float(np.mean(found[-max(1, int(LAST * len(found))) :]))


def pixels(
    network: PatchFCN, test: PackedSlices, device: torch.device, *, crop: int, batch: int = 16
) -> pixel_histograms.HistogramStack:
    """Return the pixels of each test patient by score level, whole slices predicted in float32."""
    pool = pool_of(test)
    of_patient: dict[int, list[pixel_histograms.SliceHistogram]] = {}
    network.eval()
    for start in range(0, len(pool), batch):
        rows = range(start, min(start + batch, len(pool)))
        inputs = np.stack(
            [[pool.images[int(n)] for n in (pool.previous[i], i, pool.next[i])] for i in rows]
        )
        images = fractions(torch.from_numpy(inputs.view(np.int16)).to(device))
        with torch.inference_mode():
            maps = network.whole_slice(images, crop=crop).pixel.cpu().numpy()
        for i, logits in zip(rows, maps, strict=True):
            mask = pool.masks[i] > 0
            full = upsample(logits, rows=len(mask), columns=len(mask), size=len(mask))
            found = pixel_histograms.slice_histogram(score_levels.quantise_logits(full), mask)
            of_patient.setdefault(int(test.patient[i]), []).append(found)
    return pixel_histograms.stack(
        [pixel_histograms.merge(of_patient[patient]) for patient in sorted(of_patient)]
    )


def _resamples(test: PackedSlices) -> np.ndarray:
    patients = np.unique(test.patient)
    bleeds = [bool(test.label[test.patient == patient].any()) for patient in patients]
    return resample_weights(
        seed=0,
        resamples=range(RESAMPLES),
        num_clusters=len(patients),
        strata=np.array(bleeds, np.int64),
    )


def _row(
    losses: Sequence[float],
    points: Sequence[float],
    samples: Sequence[Float64[np.ndarray, " resample"]],
) -> Mapping[str, Any]:
    each = [_shown(interval(point, found)) for point, found in zip(points, samples, strict=True)]
    return {
        "final_loss": [round(loss, 5) for loss in losses],
        "pixel_ap": each,
        "mean_pixel_ap": _shown(interval(float(np.mean(points)), np.mean(samples, axis=0))),
    }


def _shown(found: Interval) -> list[float]:
    """Return estimate, low and high."""
    return [round(value, 4) for value in (found.estimate, found.low, found.high)]
