"""How near to its limit does a GPU predict whole slices, and what does a corpus take of it?

Plain torch on one device: it needs neither Ray nor the packages of the stores, so it runs where a
GPU is lent with torch of its own. Whole slices of 512 x 512, one channel, by DRN-D-38, in memory of
the device. The roofline is an H200's, layer by layer with each layer's normalisation and ReLU fused
into it: 3,380 slices a second (2,539 with neither fused). Prints, last as one line of JSON,

- `inference_over_roofline`: time of a batch of 64, the fastest way that settings have, over it;
- `windows_over_whole_slice`: time of overlapping windows of 240 over that of whole slices;
- `corpus_gpu_hours`: of 752,803 slices at that speed, and the wall-clock seconds on 1, 8 and 64
  such GPUs if nothing else takes time; `corpus_cost` with --price, of an hour of one GPU.

Without CUDA nothing runs and all figures are null. `--tiny` rehearses on a CPU with the narrow
network; its figures mean nothing.

    python -m benchmarks.label_device [--batches 16 64] [--price 4.0] [--out DIR] [--tiny]
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.device_steps import kernels, step_ms
from ich_ray.config import PredictConfig
from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.predictor import Predictor, predictor_of

SLICES_PER_S = 3_380
CORPUS = 752_803
GPUS = (1, 8, 64)
HEADLINE_BATCH = 64

WAYS = {
    "float32": {"precision": "float32"},
    "tf32": {"precision": "tf32"},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16_compiled": {"precision": "bfloat16", "compiled": True},
    "bfloat16_windows": {"precision": "bfloat16", "inference": "windows"},
}
"""As [predict] has them."""


def predictor(way: str, batch: int, *, tiny: bool) -> Predictor:
    """Make a predictor of an untrained network: arithmetic does not ask for the weights."""
    name = "drn_d_narrow" if tiny else "drn_d_38"
    torch.manual_seed(0)
    settings: dict[str, Any] = {"batch": batch, "gpus_per_actor": 1.0, **WAYS[way]}
    return predictor_of(
        PatchFCN(name, in_channels=1).state_dict(),
        network=name,
        in_channels=1,
        crop=64 if tiny else 240,
        device="cpu" if tiny else "cuda",
        config=PredictConfig(**settings),
    )


def pass_of(ready: Predictor, batch: int, side: int) -> Callable[[], object]:
    """Return a pass over a batch on the device, which may be repeated."""
    images = torch.rand(batch, 1, side, side, device=ready.device)
    images = images.contiguous(memory_format=torch.channels_last)

    def one() -> object:
        return ready.launch(images)

    return one


def time_ways(batches: Sequence[int], out: Path, *, tiny: bool) -> dict[str, dict[str, Any]]:
    """Return batch -> way -> figures; a way that this device or torch cannot go has an `error`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    side = 96 if tiny else 512
    found: dict[str, dict[str, Any]] = {}
    for batch in batches:
        of_batch = found.setdefault(str(batch), {})
        tables = []
        for way in WAYS:
            torch.compiler.reset()
            try:
                ready = predictor(way, batch, tiny=tiny)
                one = pass_of(ready, batch, side)
                ms = step_ms(one, ready.device, repeats=1 if tiny else max(1, 256 // batch))
                tables.append(f"{way}\n{kernels(one, ready.device)}")
            except RuntimeError as error:
                of_batch[way] = {"error": str(error).strip().splitlines()[0][:200]}
                continue
            per_s = 1e3 * batch / ms
            of_batch[way] = {
                "ms": round(ms, 3),
                "slices_per_s": round(per_s, 1),
                "over_roofline": round(SLICES_PER_S / per_s, 3),
            }
            print(batch, way, of_batch[way], flush=True)
        (out / f"inference-kernels-{batch}.txt").write_text("\n".join(tables))
    return found


def figures(
    out: Path, *, batches: Sequence[int], price: float | None = None, tiny: bool = False
) -> dict[str, Any]:
    """Measure what this machine can; every key is there, null where nothing was measured."""
    found: dict[str, Any] = {
        "inference_over_roofline": None,
        "inference_way": None,
        "windows_over_whole_slice": None,
        "corpus_gpu_hours": None,
        "corpus_seconds_on_gpus": None,
        "corpus_cost": None,
        "device_inference": None,
    }
    if not tiny and not torch.cuda.is_available():
        return found
    table = time_ways(batches, out, tiny=tiny)
    ways = table.get(str(HEADLINE_BATCH), next(iter(table.values())))
    timed = {name: row for name, row in ways.items() if "ms" in row}
    whole = {name: row for name, row in timed.items() if "windows" not in name}
    best = max(whole, key=lambda name: whole[name]["slices_per_s"])
    seconds = CORPUS / whole[best]["slices_per_s"]
    if {"bfloat16", "bfloat16_windows"} <= timed.keys():
        ratio = timed["bfloat16_windows"]["ms"] / timed["bfloat16"]["ms"]
        found["windows_over_whole_slice"] = round(ratio, 2)
    return found | {
        "inference_over_roofline": whole[best]["over_roofline"],
        "inference_way": best,
        "corpus_gpu_hours": round(seconds / 3600, 3),
        "corpus_seconds_on_gpus": {str(count): round(seconds / count, 1) for count in GPUS},
        "corpus_cost": None if price is None else round(seconds / 3600 * price, 2),
        "device_inference": table,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time whole-slice inference on one device.")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, HEADLINE_BATCH])
    parser.add_argument("--price", type=float)
    # A lent machine gives back what lies in $OUT.
    out = os.environ.get("OUT") or "out/bench/label_device"
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    print(json.dumps(figures(**vars(options))))


if __name__ == "__main__":
    main()
