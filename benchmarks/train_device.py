"""How near to its limit does a GPU train the `lin2022` network, and does bfloat16 learn as well?

Plain torch on one device: it needs neither Ray nor the packages of the stores, so it runs where a
GPU is lent with torch of its own. Times a step at several batches (device_steps.py) against two
named rivals in the same run, plain eager loops in true float32 and in TF32, and trains briefly from
a packed corpus (make pack-ctich) in float32 and in bfloat16, three seeds each (device_training.py).
Prints what it measures, and last one line of JSON, with among other keys

- `step_over_roofline`: time of a step of 64 crops, the fastest way that settings of a model have,
  over 15 ms;
- `speedup_over_eager_float32`, `speedup_over_eager_tf32`: the rivals' time over the same;
- `device_steps` and `device_training`: all that was measured; `device_says`: what was not, and why.

Without CUDA nothing runs and all figures are null. `--tiny` rehearses the whole on a CPU with the
narrow network and invented slices; its figures mean nothing.

    python -m benchmarks.train_device [--pack out/pack/ct_ich.npz] [--only steps|training]
        [--batches 16 64 256] [--steps 600] [--seeds 3] [--out out/bench/train_device] [--tiny]
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import device_steps, device_training
from benchmarks.packed_corpus import PackedSlices, coarse, write_pack
from ich_ray.config import ModelConfig
from ich_ray.windows import head_box

PACK = Path("out/pack/ct_ich.npz")
BATCHES = (16, 64, 256)
STEPS, SEEDS = 600, 3
HEADLINE_BATCH = 64


def figures(  # noqa: PLR0913  (the options of the command line)
    out: Path,
    *,
    pack: Path = PACK,
    batches: Sequence[int] = BATCHES,
    steps: int = STEPS,
    seeds: int = SEEDS,
    only: str = "",
    tiny: bool = False,
) -> dict[str, Any]:
    """Measure what this machine can; every key is there, null where nothing was measured.

    Args:
        out: Gets the tables of kernels.
        pack: Of packed_corpus.
        batches: Crops of a step.
        steps: Of a short run.
        seeds: Runs of each precision.
        only: `steps` or `training`; empty: both.
        tiny: Rehearse on a CPU.
    """
    found: dict[str, Any] = {
        "step_over_roofline": None,
        "speedup_over_eager_float32": None,
        "speedup_over_eager_tf32": None,
        "device_way": None,
        "device_steps": None,
        "device_training": None,
        "device_says": "",
    }
    if not tiny and not torch.cuda.is_available():
        return {**found, "device_says": "no CUDA device here: nothing was measured"}
    device = torch.device("cpu" if tiny else "cuda")
    if tiny:
        batches, steps, seeds, pack = (4,), 4, 1, invented_pack(out / "tiny.npz")
    common: dict[str, Any] = {"labelled": ("pack",), "num_workers": 1, "steps": steps}
    common |= {"network": "drn_d_narrow", "crop": 64} if tiny else {"network": "drn_d_38"}
    if only != "training":
        timed = [ModelConfig(**common, batch=batch) for batch in batches]
        table = device_steps.time_ways(timed, device, out)
        first = table.get(str(HEADLINE_BATCH), next(iter(table.values())))
        found |= {"device_steps": table, **headline(first)}
    if only != "steps" and pack.exists():
        # Of uniformly drawn slices one in eight bleeds, and a short run learns that none does.
        config = ModelConfig(**common, batch=min(batches), positive_slice_share=0.4)
        found["device_training"] = device_training.compare(pack, config, seeds, device)
    elif only != "steps":
        found["device_says"] = f"no training: {pack} is not here; make pack-ctich writes it"
    return found


def headline(ways: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of the fastest way of one batch; null where a rival did not run."""
    ms = {name: row["ms"] for name, row in ways.items() if "ms" in row}
    ours = {name: value for name, value in ms.items() if name in device_steps.OURS}
    if not ours:
        return {}
    best = min(ours, key=lambda name: ours[name])
    speedups = {
        f"speedup_over_{rival}": round(ms[rival] / ours[best], 2) if rival in ms else None
        for rival in device_steps.RIVALS
    }
    return {
        "step_over_roofline": ways[best]["over_roofline"],
        "device_way": best,
        **speedups,
    }


def invented_pack(path: Path) -> Path:
    """Write a file of two folds of two patients, one of whom bleeds, four slices each."""
    side, patients, each = 80, 4, 4
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2**15, (patients * each, side, side)).astype(np.uint16)
    masks = np.zeros(images.shape, np.uint8)
    masks[::2, 20:30, 40:60] = 1
    bleeds = np.repeat([True, False] * 2, each)
    masks[~bleeds] = 0
    images[masks > 0] = 2**16 - 1
    place = np.arange(len(images))
    first, last = place // each * each, place // each * each + each - 1
    slices = PackedSlices(
        images=coarse(images),
        masks=np.packbits(masks, axis=-1),
        previous=np.maximum(place - 1, first),
        next=np.minimum(place + 1, last),
        boxes=np.array([head_box(image) for image in images]),
        names=np.array([f"exam {i // each} slice {i}" for i in place]),
        patient=place // each,
        fold=place // (2 * each),
        label=masks.any((1, 2)),
    )
    write_pack(slices, path)
    return path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time and compare training on one device.")
    parser.add_argument("--pack", type=Path, default=PACK)
    parser.add_argument("--only", choices=("steps", "training"), default="")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    # A lent machine gives back what lies in $OUT.
    out = os.environ.get("OUT") or "out/bench/train_device"
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    found = figures(**vars(options))
    on = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({"device": on, "torch": torch.__version__, "tiny": options.tiny, **found}))


if __name__ == "__main__":
    main()
