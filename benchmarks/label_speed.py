"""Does the pool that predicts a corpus lose time to anything but the network?

Both predict the same slices (phantoms of 512 x 512) with the same network, batch and precision:

- the pool: `predict` through Ray Data, one actor; it reads its parts from the store, decodes them,
  and writes its predictions. Between a long and a short run the difference counts, since an actor
  takes seconds to start whatever it does then;
- the rival: a plain loop over tensors that are in memory, in a process of its own, with the same
  settings of the memory's allocator (KEEP_FREED_MEMORY); and once a round as torch comes.

They alternate. `pool_over_plain_loop` is the throughput of the pool over that of the loop, the
median of the rounds, with the lowest and the highest; `pool_over_untuned_loop` the same over the
loop as torch comes. On a GPU the network is DRN-D-38 in bfloat16,
compiled; on a CPU the narrow one in float32. Prints each round, and last one line of JSON.

    python -m benchmarks.label_speed [--rounds 5] [--out out/bench/label]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ich_ray.config import Settings
from ich_ray.distributed.compute_environment import KEEP_FREED_MEMORY
from ich_ray.distributed.ingest import ingest
from ich_ray.distributed.lineage import trained_model
from ich_ray.distributed.part_predictor import PredictionTask
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.predict import predict, prediction_task
from ich_ray.distributed.session import Session, select, session
from ich_ray.distributed.train import train
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.settings import parse

SLICES = 20
"""Of an exam; an exam is a part."""

EXAMS = {"short": 4, "long": 16}

SETTINGS = """
identity = "public"
store = { root = "ROOT/store" }
cluster = { cache = "ROOT/cache" }
input = { size = 512 }
predict = { actors = 1, gpus_per_actor = GPUS, batch = BATCH, PRECISION, parts_at_once = 2 }
models.teacher = { NETWORK, labelled = ["long"], crop = 240, batch = 2, steps = 2, num_workers = 1 }
"""

CORPUS = """
[phantoms.NAME]
site = "b"
seed = SEED
folder = "ROOT/dicom/NAME"
num_exams = EXAMS
num_slices = SLICES
matrix = 512

[corpora.NAME]
layout = "folder"
source = "ROOT/dicom/NAME"
slices_per_part = SLICES
"""


def settings_of(root: Path) -> Settings:
    """Return the settings of the runs, by what this machine has."""
    gpu = torch.cuda.is_available()
    text = SETTINGS
    for seed, (name, exams) in enumerate(EXAMS.items()):
        corpus = CORPUS.replace("EXAMS", str(exams)).replace("SLICES", str(SLICES))
        text += corpus.replace("NAME", name).replace("SEED", str(seed))
    values = {
        "ROOT": str(root),
        "GPUS": "1" if gpu else "0",
        "BATCH": "64" if gpu else "8",
        "PRECISION": 'precision = "bfloat16", compiled = true' if gpu else 'precision = "float32"',
        "NETWORK": f'network = "{"drn_d_38" if gpu else "drn_d_narrow"}"',
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return parse(Settings, text)


def prepare(run: Session) -> None:
    """Make what is missing of corpora and model."""
    for name in EXAMS:
        if not Path(run.settings.phantoms[name].folder).exists():
            write_phantoms(run, name)
        ingest(run.settings, name, pseudonyms=run.pseudonyms, ensure_ray=run.ensure_ray)
    train(run, "teacher")


def task_of(run: Session, name: str) -> PredictionTask:
    """Name the predictions of the model on a corpus."""
    (selection,) = select(run, [name])
    return prediction_task(run, trained_model(run, "teacher"), selection)


def pool_seconds(run: Session, name: str) -> float:
    """Predict a corpus by the pool, from nothing; return how long that took."""
    task = task_of(run, name)
    for item in run.store.listing(task.url):
        run.store.remove(f"{task.url}/{item.key}")
    start = time.perf_counter()
    predict(run, task)
    return time.perf_counter() - start


def plain(root: Path) -> dict[str, float]:
    """Predict the long corpus from memory, in this process; return slices a second."""
    import numpy as np

    from ich_ray.distributed.inputs import channels_of
    from ich_ray.learning.predictor import predictor_of
    from ich_ray.storage.checkpoints import load_weights
    from ich_ray.storage.corpus import read_exams

    torch.set_num_threads(1)
    with session(settings_of(root), Pseudonyms(PUBLIC_KEY)) as run:
        task, config = task_of(run, "long"), run.settings.predict
        weights = load_weights(run.store, task.model.url, task.model.record)
        predictor = predictor_of(
            {name: torch.from_numpy(np.array(value)) for name, value in weights.items()},
            network=task.model.record["network"],
            in_channels=task.model.record["in_channels"],
            crop=task.model.record["crop"],
            device="cuda" if config.gpus_per_actor else "cpu",
            config=config,
        )
        inputs = np.concatenate(
            [
                channels_of(exam, run.settings.input)
                for url in task.selection.corpus.files
                for exam in read_exams(run.store, url)
            ]
        )
    staged = [
        predictor.stage(inputs[i : i + config.batch]) for i in range(0, len(inputs), config.batch)
    ]
    predictor.fetch(predictor.launch(staged[0]))
    start = time.perf_counter()
    for images in staged:
        predictor.fetch(predictor.launch(images))
    return {"slices_per_s": len(inputs) / (time.perf_counter() - start)}


def plain_in_a_process(root: Path, loop: str) -> float:
    """Return slices a second of the plain loop, whose process ends afterwards."""
    command = [sys.executable, "-m", "benchmarks.label_speed", "--plain", "--out", str(root)]
    environment = os.environ | (dict(KEEP_FREED_MEMORY) if loop == "tuned" else {})
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1])["slices_per_s"])


def one_round(run: Session, root: Path) -> dict[str, float]:
    """Return slices a second of both, the loop before and after the pool."""
    before = plain_in_a_process(root, "tuned")
    seconds = {name: pool_seconds(run, name) for name in EXAMS}
    after = plain_in_a_process(root, "tuned")
    untuned = plain_in_a_process(root, "untuned")
    slices = {name: task_of(run, name).selection.corpus.num_rows for name in EXAMS}
    pool = (slices["long"] - slices["short"]) / (seconds["long"] - seconds["short"])
    return {"pool": pool, "plain": statistics.mean([before, after]), "untuned": untuned}


def measured(root: Path, *, rounds: int) -> dict[str, Any]:
    """Alternate both, and return the figures."""
    found = []
    with session(settings_of(root), Pseudonyms(PUBLIC_KEY)) as run:
        prepare(run)
        pool_seconds(run, "short")
        for _ in range(rounds):
            found.append(one_round(run, root))
            print(json.dumps({name: round(value, 2) for name, value in found[-1].items()}))
        sizes = [row_bytes(run, name) for name in EXAMS]
    ratios = [one["pool"] / one["plain"] for one in found]
    return {
        "pool_over_plain_loop": round(statistics.median(ratios), 3),
        "pool_over_plain_loop_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "pool_over_untuned_loop": round(
            statistics.median(one["pool"] / one["untuned"] for one in found), 3
        ),
        "pool_slices_per_s": round(statistics.median(one["pool"] for one in found), 2),
        "bytes_per_slice": round(statistics.mean(sizes)),
        "pool_device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def row_bytes(run: Session, name: str) -> float:
    """Return what the store keeps of a slice's prediction."""
    task = task_of(run, name)
    parts = [i.size for i in run.store.listing(task.url) if i.key.endswith(".parquet")]
    return sum(parts) / task.selection.corpus.num_rows


def main() -> None:
    """Measure, or run the plain loop once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out/bench/label"))
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    root = options.out.resolve()
    found = plain(root) if options.plain else measured(root, rounds=options.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
