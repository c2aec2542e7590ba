"""Does labelling whose actors are killed end in the same tables as labelling that was left alone?

Each trial begins without predictions and pseudo-labels, labels a corpus of many parts by a pool of
two actors, and kills with SIGKILL one to four of the actors at random moments, a restarted one
maybe again; every second trial also kills one of the tasks that write pseudo-labels. The run must
end by itself, and every row of both tables must equal those of a run that was left alone.

A trial is decided by its seed. Finished trials are kept under OUT, so that the benchmark goes on
where it was stopped; `--fresh` starts again. Prints each trial, and last one line of JSON.

    python -m benchmarks.label_kills [--schedules 20] [--out out/bench/label-kills]
"""

import argparse
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import ray

from benchmarks.process_tree import workers_of
from ich_ray.config import Settings
from ich_ray.distributed.ingest import ingest
from ich_ray.distributed.lineage import finished_pseudo_labels, trained_model
from ich_ray.distributed.phantoms import write_phantoms
from ich_ray.distributed.predict import prediction_task
from ich_ray.distributed.pseudo_label import pseudo_label
from ich_ray.distributed.session import select, session
from ich_ray.distributed.train import train
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.settings import parse
from ich_ray.storage.tables import open_table, read_rows

ACTOR = "ray::MapWorker(MapBatches(PartPredictor))"
WRITER = "ray::MapBatches(LabelWriter)"

SETTINGS = """
identity = "public"
store = { root = "ROOT/store" }
cluster = { cache = "ROOT/cache" }
input = { size = 128 }
predict = { actors = 2, batch = 4 }
phantoms.a = { site = "a", folder = "ROOT/dicom/a", num_exams = 6, num_slices = 8, matrix = 64 }
corpora.a = { layout = "folder", source = "ROOT/dicom/a" }
corpora.b = { layout = "folder", source = "ROOT/dicom/b", slices_per_part = 8 }
pseudo_labels.pool = { teacher = "teacher", unlabelled = ["b"] }

[phantoms.b]
site = "b"
folder = "ROOT/dicom/b"
num_exams = 40
num_slices = 8
matrix = 128
labelled = false

[models.teacher]
network = "drn_d_narrow"
labelled = ["a"]
crop = 64
batch = 4
steps = 8
num_workers = 1
"""


def settings_of(root: Path) -> Settings:
    """Return the settings of an experiment in a folder."""
    return parse(Settings, SETTINGS.replace("ROOT", str(root)))


def prepare(root: Path) -> list[str]:
    """Make corpora, teacher and undisturbed tables, unless they are there; return their rows."""
    with session(settings_of(root), Pseudonyms(PUBLIC_KEY)) as run:
        for name in run.settings.corpora:
            if not Path(run.settings.phantoms[name].folder).exists():
                write_phantoms(run, name)
            ingest(run.settings, name, pseudonyms=run.pseudonyms, ensure_ray=run.ensure_ray)
        train(run, "teacher")
        pseudo_label(run, "pool")
    return content(root)


def content(root: Path) -> list[str]:
    """Return a hash of every row of the predictions and of the pseudo-labels."""
    with session(settings_of(root), Pseudonyms(PUBLIC_KEY)) as run:
        task = prediction_task(run, trained_model(run, "teacher"), select(run, ["b"])[0])
        tables = [open_table(run.store, task.url), finished_pseudo_labels(run, "pool").table]
        rows = []
        for table in tables:
            assert table is not None
            rows += read_rows(run.store, table).to_pylist()
    return sorted(hashlib.sha256(repr(row).encode()).hexdigest() for row in rows)


class Killer:
    """Kills by a schedule, from a thread of its own."""

    def __init__(self, seed: int, over: threading.Event) -> None:
        rng = np.random.default_rng(seed)
        # The later ones strike an actor that has taken a dead one's place.
        self.delays_s = {ACTOR: rng.uniform(0.0, 1.5, int(rng.integers(1, 5))).tolist()}
        if seed % 2:
            self.delays_s[WRITER] = rng.uniform(0, 0.2, 1).tolist()
        self.rng, self.over = rng, over
        self.killed: list[str] = []

    def threads(self) -> list[threading.Thread]:
        """Return one for each kind of victim."""
        return [threading.Thread(target=self._run, args=(name,)) for name in self.delays_s]

    def _run(self, name: str) -> None:
        """Kill whoever is at work when its time has come."""
        for delay in self.delays_s[name]:
            self._kill(name, delay, busy=name == ACTOR)

    def _kill(self, name: str, delay_s: float, *, busy: bool) -> None:
        """Wait until one is at work, then for the delay, then kill one that is."""
        if self._wait(name, busy=busy) is None or self.over.wait(delay_s):
            return
        victim = self._wait(name, busy=busy)
        if victim is not None:
            victim.kill()
            self.killed.append(name)

    def _wait(self, name: str, *, busy: bool) -> psutil.Process | None:
        while not self.over.wait(0.002):
            found = [p for p in workers_of(name) if not busy or _is_at_work(p)]
            if found:
                return found[int(self.rng.integers(len(found)))]
        return None


def _is_at_work(actor: psutil.Process) -> bool:
    try:
        return ".submit" in " ".join(actor.cmdline())
    except psutil.Error:
        # It has died since it was listed.
        return False


def trial(root: Path, seed: int, undisturbed: list[str]) -> dict[str, object]:
    """Label with a schedule of kills, and compare."""
    mine = root.with_name(f"{root.name}-trial")
    shutil.rmtree(mine, ignore_errors=True)
    shutil.copytree(root, mine)
    for made in ("predictions", "pseudo_labels"):
        shutil.rmtree(mine / "store" / made)
    over = threading.Event()
    killer = Killer(seed, over)
    threads = killer.threads()
    start = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        with session(settings_of(mine), Pseudonyms(PUBLIC_KEY)) as run:
            pseudo_label(run, "pool")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    seconds = round(time.monotonic() - start, 1)
    same = content(mine) == undisturbed
    return {
        "seed": seed,
        "actors": killer.killed.count(ACTOR),
        "writers": killer.killed.count(WRITER),
        "seconds": seconds,
        "same": same,
    }


def trials(out: Path, schedules: int, undisturbed: list[str]) -> Iterator[dict[str, object]]:
    """Yield finished trials, until so many have killed."""
    kept = out / "trials.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    yield from done[:schedules]
    seed, number = max((one["seed"] for one in done), default=-1) + 1, len(done)
    while number < schedules:
        found = trial(out / "whole", seed, undisturbed)
        seed += 1
        if found["actors"] or found["writers"]:
            number += 1
            with open(kept, "a") as stream:
                stream.write(json.dumps(found) + "\n")
            yield found


def measured(out: Path, *, schedules: int) -> dict[str, object]:
    """Run the trials, and return what they found."""
    # What is killed are workers: this process's cluster watches.
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200 * 1024**2,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        undisturbed = prepare(out / "whole")
        found = []
        for one in trials(out, schedules, undisturbed):
            print(json.dumps(one), flush=True)
            found.append(one)
    finally:
        # Else it tells of dead workers after the figures.
        ray.shutdown()
    return {
        "kill_schedules": len(found),
        "killed_actors": sum(int(str(one["actors"])) for one in found),
        "killed_writers": sum(int(str(one["writers"])) for one in found),
        "kill_mismatches": sum(not one["same"] for one in found),
    }


def main() -> None:
    """Run the trials and print what they found."""
    parser = argparse.ArgumentParser(description="Kill labelling actors, and compare tables.")
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/bench/label-kills"))
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.out, ignore_errors=True)
    print(json.dumps(measured(options.out.resolve(), schedules=options.schedules)))


if __name__ == "__main__":
    main()
