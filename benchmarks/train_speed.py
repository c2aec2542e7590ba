"""Does training lose time to Ray Train, or to reading its slices?

The same function trains the same network on the same slices (phantoms of 512 x 512) in two
processes, under Ray Train and under plain torchrun, with the real loader and with a mock that has
its minibatch in memory. Runs alternate. A run's figure is the median of its steps, the first ones
left out; each ratio is taken within a round, and given as the median of the rounds with the lowest
and the highest. Prints each run, and last one line of JSON:

- `ray_over_torchrun`: time of a step under Ray Train over that under torchrun, mock loader;
- `ray_own_cpu_over_torchrun`: the same of the first process's own CPU time in a step, and
  `others_share`: what all but the training processes used of the machine's CPU meanwhile. Where the
  training processes fill the machine, the second is what the first ratio cannot explain;
- `real_over_mock`: throughput with the real loader over that with the mock, under Ray Train;
- `loader_us_per_crop`: the loader's CPU, and `loader_cores_for_h200`: what an H200 at the limit of
  its arithmetic (4,266 crops/s) needs of it.

On a GPU the network is DRN-D-38, 16 crops and a process a GPU; on a CPU the narrow one.

    python -m benchmarks.train_speed [--rounds 5] [--steps 100] [--workers 2]
        [--out out/bench/train]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from benchmarks import train_device, train_process
from ich_ray.config import Settings
from ich_ray.distributed import metrics
from ich_ray.distributed.compute_environment import training_environment
from ich_ray.distributed.ingest import ingest
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.session import session
from ich_ray.distributed.stall import stall_watch
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.learning.sampling import Worker
from ich_ray.settings import parse

SETTINGS = """
identity = "public"
store = { root = "ROOT/store" }
cluster = { cache = "ROOT/cache" }
phantoms.a = { site = "a", folder = "ROOT/dicom", num_exams = 10, num_slices = 16, matrix = 512 }
corpora.a = { layout = "folder", source = "ROOT/dicom" }

[models.teacher]
labelled = ["a"]
network = "NETWORK"
crop = CROP
batch = BATCH
steps = STEPS
num_workers = WORKERS
use_gpu = GPU
"""
H200_CROPS_PER_S = 4_266


def settings_text(root: Path, *, steps: int, workers: int) -> str:
    """Return the settings of the runs, by what this machine has; no workers: one a GPU, or two."""
    gpus = torch.cuda.device_count()
    processes = workers or gpus or 2
    values = {
        "ROOT": str(root),
        "NETWORK": "drn_d_38" if gpus else "drn_d_narrow",
        "CROP": "240",
        "BATCH": str((16 if gpus else 4) * processes),
        "STEPS": str(steps),
        "WORKERS": str(processes),
        "GPU": "true" if gpus else "false",
    }
    text = SETTINGS
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def environment() -> dict[str, str]:
    """Return what both have in their environment, as training has it."""
    return training_environment(use_gpu=torch.cuda.is_available())


def under_torchrun(settings: Path, *, workers: int, mock: bool) -> dict[str, Any]:
    """Train by plain torchrun; return what its first process measured."""
    out = settings.with_name("torchrun.json")
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(workers), "-m", "benchmarks.train_process"),
            *(str(settings), str(out), *(["--mock"] if mock else [])),
        ],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment()},
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _in_ray(arguments: dict[str, Any]) -> dict[str, Any]:
    """Train in one process of Ray Train's group, which counts into our metrics as training does."""
    context = ray.train.get_context()

    def also(items: int, seconds: float, waited: float) -> None:
        alive()
        metrics.slices(items)
        metrics.spent(seconds, waited)

    def look(step: int) -> bool:
        # As often as training does at steps of 0.12 s.
        return step % 160 == 1 and ray.train.get_preemption_info() is not None

    with stall_watch(600.0) as alive:
        return train_process.train(
            arguments["settings"],
            worker=Worker(rank=context.get_world_rank(), world=context.get_world_size()),
            local=Worker(rank=context.get_local_rank(), world=context.get_local_world_size()),
            device=ray.train.torch.get_device(),
            wrap=ray.train.torch.prepare_model,
            also=also,
            look=look,
            mock=arguments["mock"],
        )


def under_ray(settings: Path, *, workers: int, mock: bool) -> dict[str, Any]:
    """Train by Ray Train; return what its first process measured."""
    trainer = TorchTrainer(
        _in_ray,
        train_loop_config={"settings": settings.read_text(), "mock": mock},
        torch_config=TorchConfig(backend="nccl" if torch.cuda.is_available() else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(
            storage_path=str(settings.with_name("ray")),
            worker_runtime_env={"env_vars": environment()},
        ),
    )
    found: dict[str, Any] = trainer.fit().return_value
    return found


def step_s(found: dict[str, Any]) -> float:
    """Return the median time of a step."""
    return statistics.median(found["seconds"][train_process.WARM_UP :])


def ratios(tops: Sequence[float], bottoms: Sequence[float]) -> tuple[float, list[float]]:
    """Return the median of the ratios, and the lowest and highest."""
    found = [top / bottom for top, bottom in zip(tops, bottoms, strict=True)]
    return round(statistics.median(found), 4), [round(min(found), 4), round(max(found), 4)]


def main() -> None:
    """Run the rounds and print what they found."""
    parser = argparse.ArgumentParser(description="Time steps under Ray Train and torchrun.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a GPU, or two")
    parser.add_argument("--out", type=Path, default=Path("out/bench/train"))
    options = parser.parse_args()
    folder = options.out.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / "settings.toml"
    file.write_text(settings_text(folder, steps=options.steps, workers=options.workers))
    settings = parse(Settings, file.read_text())
    workers = settings.models[train_process.MODEL].num_workers
    runs: dict[str, tuple[Callable[..., dict[str, Any]], bool]] = {
        "torchrun mock": (under_torchrun, True),
        "ray mock": (under_ray, True),
        "ray real": (under_ray, False),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    own: dict[str, list[float]] = {name: [] for name in runs}
    others: dict[str, list[float]] = {name: [] for name in runs}
    waits, loader = [], []
    with session(settings, Pseudonyms(PUBLIC_KEY)) as opened:
        write_phantoms(opened, "a")
        ingest(settings, "a", pseudonyms=opened.pseudonyms, ensure_ray=opened.ensure_ray)
        opened.ensure_ray()
        for number in range(options.rounds):
            # Each run has each place of a round as often as any other.
            order = [*runs][number % len(runs) :] + [*runs][: number % len(runs)]
            for name in order:
                function, mock = runs[name]
                found = function(file, workers=workers, mock=mock)
                times[name].append(step_s(found))
                own[name].append(found["own_cpu_s_per_step"])
                others[name].append(found["others_cpu_share"])
                print(json.dumps({"round": number, "run": name, "step_s": times[name][-1]}))
                if not mock:
                    waited, seconds = (
                        sum(found[kind][train_process.WARM_UP :]) for kind in ("waited", "seconds")
                    )
                    waits.append(waited / seconds)
                    loader.append(found["loader_us_per_crop"])
    over_torchrun, interval = ratios(times["ray mock"], times["torchrun mock"])
    over_mock, interval_of_mock = ratios(times["ray mock"], times["ray real"])
    us = statistics.median(loader)
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "step_s": round(statistics.median(times["torchrun mock"]), 4),
                "ray_over_torchrun": over_torchrun,
                "ray_over_torchrun_interval": interval,
                "ray_own_cpu_over_torchrun": ratios(own["ray mock"], own["torchrun mock"])[0],
                "others_share": {
                    name: round(statistics.median(found), 4) for name, found in others.items()
                },
                "real_over_mock": over_mock,
                "real_over_mock_interval": interval_of_mock,
                "data_wait_share": round(statistics.median(waits), 4),
                "loader_us_per_crop": round(us, 1),
                "loader_cores_for_h200": round(us * 1e-6 * H200_CROPS_PER_S, 2),
                **train_device.figures(folder / "device"),
            }
        )
    )


if __name__ == "__main__":
    main()
