"""Does an ingest that was killed, and run again, end in the same tables as one that was not?

Each trial starts an ingest as a process of its own, waits for a random moment of it (so many files
written to the store, and a little more), and kills with SIGKILL either the driver or a worker that
is at work; then it runs the ingest again. Half of the trials begin with nothing, half with a corpus
whose source has grown. Rows, pixels and ledger must equal those of an undisturbed ingest, with no
row twice. Prints each trial, and last one line of JSON.

A trial is decided by its seed. Finished trials are kept under OUT, so that the benchmark goes on
where it was stopped; `--fresh` starts again.

    python -m benchmarks.ingest_kills [--kills 50] [--out out/bench/kills]
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import ray

from ich_ray.phantom import SITES, make_exam
from ich_ray.storage import ledger
from ich_ray.storage.corpus import SCHEMA, open_corpus
from ich_ray.storage.objects import Store
from ich_ray.storage.phantom_dicom import dicom_objects
from ich_ray.storage.series_table import read_series
from ich_ray.storage.tables import read_rows

EXAMS, EXAMS_BEFORE, SLICES = 8, 4, 12
PATIENCE_S = 600


@dataclass(frozen=True)
class Bench:
    """A source before and after it grew, and what undisturbed ingests make of it."""

    folder: Path
    address: str
    """Of a Ray cluster that outlives every driver."""

    def store(self, name: str) -> Path:
        """Return the folder of a store."""
        return self.folder / "stores" / name

    def start(self, store: Path | str, source: str, *more: str) -> subprocess.Popen[str]:
        """Begin an ingest."""
        settings = self.folder / "kills.toml"
        settings.write_text(
            'identity = "public"\nstore = { root = "" }\ncorpora = { c = { layout = "folder", '
            f'source = "", slices_per_part = {SLICES + 4} }} }}\n'
        )
        overrides = [
            f"store.root={store}",
            f"corpora.c.source={self.folder / source}",
            f"cluster.address={self.address}",
            *more,
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.ingest", str(settings), *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, store: Path, source: str) -> None:
        """Run an ingest to its end."""
        process = self.start(store, source)
        said, _ = process.communicate(timeout=PATIENCE_S)
        if process.returncode:
            raise RuntimeError(f"the ingest failed with {process.returncode}: {said}")

    def prepare(self) -> None:
        """Make the sources and the undisturbed stores, unless they are there."""
        if (self.folder / "prepared").exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        for number in range(EXAMS):
            exam = make_exam(SITES["a"], seed=5, index=number, matrix=64, num_slices=SLICES)
            for name, data in dicom_objects(exam, with_mask=True):
                path = self.folder / "grown" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        exams = sorted((self.folder / "grown").iterdir())
        for exam_folder in exams[:EXAMS_BEFORE]:
            shutil.copytree(exam_folder, self.folder / "first" / exam_folder.name)
        # What is new in the grown source: whole exams, slices of known ones, a changed slice.
        first = sorted((self.folder / "first").rglob("*.dcm"))
        first[0].unlink()
        os.utime(first[-1], ns=(1, 1))
        self.finish(self.store("nothing-undisturbed"), "grown")
        self.finish(self.store("first"), "first")
        shutil.copytree(self.store("first"), self.store("first-undisturbed"))
        self.finish(self.store("first-undisturbed"), "grown")
        (self.folder / "prepared").touch()

    def trial(self, seed: int) -> dict[str, object] | None:
        """Kill once, run again, and compare; None if the ingest was over before the kill."""
        rng = np.random.default_rng(seed)
        begin = ("nothing", "first")[seed % 2]
        victim = ("driver", "worker")[seed // 2 % 2]
        store = self.store(f"trial-{seed}")
        shutil.rmtree(store, ignore_errors=True)
        before = 0
        if begin == "first":
            shutil.copytree(self.store("first"), store)
            before = len(files_of(store))
        least = 0 if victim == "driver" else 1
        moment = int(
            rng.integers(least, len(files_of(self.store(f"{begin}-undisturbed"))) - before)
        )
        delay_s = float(rng.uniform(0, 0.1))
        process = self.start(store, "grown")
        killed = _kill(process, victim, store, before + moment, delay_s)
        process.communicate(timeout=PATIENCE_S)
        if not killed:
            return None
        left = len(files_of(store)) - before
        self.finish(store, "grown")
        undisturbed = Store(str(self.store(f"{begin}-undisturbed")))
        same = content(Store(str(store))) == content(undisturbed)
        if same:
            shutil.rmtree(store)
        return {"seed": seed, "begin": begin, "victim": victim, "files": left, "same": same}


def files_of(store: Path) -> set[str]:
    """Return every finished file of a store; what is being written has a name of its own."""
    return {str(path) for path in store.rglob("*") if path.suffix in (".parquet", ".json")}


def content(store: Store) -> list[str]:
    """Return a hash of every row of the slices, pixels included, of the series and the ledger."""
    corpus = open_corpus(store, "c")
    rows = read_rows(store, corpus.table, SCHEMA.names).to_pylist()
    assert len(rows) == corpus.num_rows, "the log counts other rows than the files hold"
    rows += ledger.open_ledger(store, "c").rows.to_pylist()
    rows += read_series(store, "c")
    return sorted(hashlib.sha256(repr(row).encode()).hexdigest() for row in rows)


def _kill(
    process: subprocess.Popen[str], victim: str, store: Path, files: int, delay_s: float
) -> bool:
    while process.poll() is None and len(files_of(store)) < files:
        time.sleep(0.002)
    time.sleep(delay_s)
    while process.poll() is None:
        if victim == "driver":
            process.kill()
            return True
        for worker in _busy_workers():
            worker.kill()
            return True
        time.sleep(0.002)
    return False


def _busy_workers() -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] in (
                ["ray::MapBatches(_written)"],
                ["ray::MapBatches(_facts)"],
            ):
                yield process
        except psutil.Error:
            continue


def trials(bench: Bench, kills: int, kept: Path) -> Iterator[dict[str, object]]:
    """Yield finished trials, until so many have killed."""
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    yield from done[:kills]
    seed, number = max((item["seed"] for item in done), default=-1) + 1, len(done)
    while number < kills:
        found = bench.trial(seed)
        seed += 1
        if found is not None:
            number += 1
            with open(kept, "a") as stream:
                stream.write(json.dumps(found) + "\n")
            yield found


def main() -> None:
    """Run the trials and print what they found."""
    parser = argparse.ArgumentParser(description="Kill ingests, and compare what they become.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("out/bench/kills"))
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.out, ignore_errors=True)
    # The processes killed are the drivers' and the workers': the cluster is whoever watches.
    ray.init(
        address="local", num_cpus=2, object_store_memory=200 * 1024**2, include_dashboard=False
    )
    bench = Bench(options.out.resolve(), ray.get_runtime_context().gcs_address)
    bench.prepare()
    found = []
    for trial in trials(bench, options.kills, bench.folder / "trials.jsonl"):
        print(json.dumps(trial), flush=True)
        found.append(trial)
    mismatches = sum(not trial["same"] for trial in found)
    print(json.dumps({"kills": len(found), "kill_mismatches": mismatches}))


if __name__ == "__main__":
    main()
