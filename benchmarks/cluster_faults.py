"""Does each stage, submitted to a cluster that loses parts of itself, leave what it should?

A cluster of hosts on this machine (namespaces: a head, two workers, an S3 server, a submitter
outside). Each trial submits one stage, waits until its tasks or actors are at work and a random
moment longer, and does harm: kills all of Ray on a worker or on the head, or one process of the
stage, takes a worker's link down for 5 or 60 s, kills the S3 server for 10 s, or the submitter.
A submission that ends with exit code 5 (try again) is repeated. What the stage leaves must equal
what it left undisturbed: every row, weight and figure, nothing twice. Prints each trial with the
time that the harm added, and last one line of JSON. `submit_to_work_seconds` in it is that of the
undisturbed trials, from the submitter's start to work at the first shard (of training, to its first
step), of the slowest stage; `submit_to_actor_s` ends at the first task, actor or training worker,
which may be loading torch still.

The matrix comes first (each fault in each stage), then random faults by seed. Finished trials are
kept under OUT, so that the benchmark goes on where it was stopped; `--fresh` starts again.

    python -m benchmarks.cluster_faults [--seeds 20] [--out out/bench/faults]
"""

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cluster_stages import ARGUMENTS, AT_WORK, BUSY, FIRST_STEP, SETTINGS
from ich_ray.distributed.local_cluster import BUCKET, LocalCluster, find_cluster, local_cluster

FAULTS = (
    "worker_killed",
    "process_killed",
    "link_down_5s",
    "link_down_60s",
    "store_down_10s",
    "submitter_gone",
    "head_killed",
)
WHOLE = f"s3://{BUCKET}/whole"
DICOM = f"s3://{BUCKET}/dicom"
TRIES = 8
"""Submissions of one trial, the first included."""

PATIENCE_S = 420.0
HUNG = 124
"""Exit code of a submission that did not end: the trial is lost."""

SOONER = 3
"""How often a fault that came too late is tried again, each time in half of the time."""

AGAIN_S = 3.0
"""Between a submission that failed and the next."""


@dataclass
class Bench:
    """A running cluster with a finished store, and how long each stage takes there."""

    cluster: LocalCluster
    folder: Path
    undisturbed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make phantoms and a finished store by one job, then each stage undisturbed."""
        (self.folder / "faults.toml").write_text(SETTINGS.replace("DICOM", DICOM))
        code, said = self.submit(("demo",), WHOLE)
        if code:
            raise RuntimeError(f"the undisturbed run failed with {code}: {said[-3000:]}")

    def adopt(self, finished: Path, settings: str) -> None:
        """Take a finished experiment for the undisturbed one, and its settings.

        Args:
            finished: Folder with `store` and `dicom`.
            settings: In which DICOM stands for the place of the phantoms.
        """
        (self.folder / "faults.toml").write_text(settings.replace("DICOM", DICOM))
        self.inside("upload", f"{finished}/store/", f"{WHOLE}/")
        self.inside("upload", f"{finished}/dicom/", f"{DICOM}/")

    def measure(self, stage: str) -> dict[str, Any]:
        """Run a stage undisturbed; return its digest and time."""
        if stage not in self.undisturbed:
            found = self.trial(stage, None, seed=0)
            if found["code"] or found["submissions"] != 1:
                raise RuntimeError(f"the undisturbed {stage} failed: {found}")
            self.undisturbed[stage] = found
        return self.undisturbed[stage]

    def submit(self, arguments: tuple[str, ...], root: str) -> tuple[int, str]:
        """Submit once, to the end."""
        process = self.begin(arguments, root)
        said, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said

    def begin(self, arguments: tuple[str, ...], root: str) -> "subprocess.Popen[str]":
        """Submit in a process of its own, on the submitter's host."""
        stage, *options = arguments
        return self.cluster.start(
            self.cluster.submitter,
            [
                *(sys.executable, "-m", "jobs.submit", stage, str(self.folder / "faults.toml")),
                *(f"store.root={root}", f"store.endpoint_url={self.cluster.server.endpoint_url}"),
                *("cluster.lease_s=12.0", "models.teacher.checkpoint_every=10"),
                *("--address", self.cluster.address, *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def keep(self, name: str, said: str) -> None:
        """Keep what a submitter wrote, for whoever asks where the time went."""
        path = self.folder / "said" / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)

    def at_work(self, stage: str) -> list[int]:
        """Return the processes of a stage's tasks, actors or training workers on all workers."""
        return self._processes(AT_WORK[stage])

    def busy(self, stage: str) -> bool:
        """Tell whether a shard of a stage is worked at."""
        return bool(BUSY[stage] and self._processes(BUSY[stage]))

    def _processes(self, beginnings: tuple[str, ...]) -> list[int]:
        return [
            pid
            for worker in self.cluster.workers
            for pid, command in worker.processes().items()
            if command.startswith(beginnings)
        ]

    def first_step(self, since: float) -> float:
        """Return when training first began, by the logs of all workers.

        Args:
            since: Seconds since the epoch; what was logged before is of other trials.
        """
        times = []
        for worker in self.cluster.workers:
            search = f"grep -hs '{FIRST_STEP}' /tmp/ray/session_*/logs/worker-*.err"
            lines = self.cluster.run(worker, ["bash", "-c", search]).stdout.splitlines()
            times += [
                datetime.fromisoformat(json.loads(line)["time"]).timestamp() for line in lines
            ]
        return min(time for time in times if time >= since)

    def inside(self, *words: str) -> str:
        """Run a command of the benchmark's on the head; return what it printed."""
        done = self.cluster.run(
            self.cluster.head,
            [
                *(sys.executable, "-m", "benchmarks.cluster_stages"),
                *(*words, self.cluster.server.endpoint_url),
            ],
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
        return done.stdout

    def struck_trial(self, stage: str, fault: str, *, seed: int) -> dict[str, Any]:
        """Run a stage with a fault, anew and sooner if it had ended before the fault was due."""
        for halved in range(SOONER + 1):
            found = self.trial(stage, fault, seed=seed, within=0.5**halved)
            if found["struck"] or not found.get("same"):
                break
        return found

    def trial(
        self, stage: str, fault: str | None, *, seed: int, within: float = 1.0
    ) -> dict[str, Any]:
        """Run a stage once, with a fault or without; return what came of it.

        Args:
            stage: Of the loop.
            fault: One of FAULTS.
            seed: Of the moment and of the victim.
            within: Share of an undisturbed stage's work in which the fault comes.
        """
        rng = np.random.default_rng([seed, *map(ord, f"{stage} {fault}")])
        root = f"s3://{BUCKET}/trial-{stage}-{fault}-{seed}-{within:g}"
        self.inside("copy", WHOLE, root, stage)
        span = self.undisturbed[stage]["work_s"] if fault else 0.0
        delay_s = float(rng.uniform(0, within * span))
        began, began_at = time.monotonic(), time.time()
        harm = _Harm(self, stage, fault, delay_s, rng)
        code, submissions, said = 5, 0, ""
        while code in (5, -9) and submissions < TRIES:
            if submissions:
                time.sleep(AGAIN_S)
            process = self.begin(ARGUMENTS[stage], root)
            harm.watch(process)
            try:
                said, _ = process.communicate(timeout=PATIENCE_S)
                code = process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                said, code = f"no end within {PATIENCE_S:g} s", HUNG
            self.keep(f"{stage}-{fault}-{seed}-{submissions}", said)
            submissions += 1
        took_s = time.monotonic() - began
        harm.finish()
        self.cluster = find_cluster(self.folder / "hosts")
        self.cluster.wait_until_whole()
        found: dict[str, Any] = {
            **{"stage": stage, "fault": fault, "seed": seed, "struck": harm.struck},
            **{"code": code, "submissions": submissions, "took_s": round(took_s, 1)},
            "work_s": round(harm.work_s, 1),
            "to_actor_s": round(max(harm.seen - began, 0.0), 1),
        }
        if not fault:
            if stage != "train" and not harm.busy:
                raise RuntimeError(
                    f"{stage} was not seen at work; is its name in BUSY still right?"
                )
            busy_s = self.first_step(began_at) - began_at if stage == "train" else harm.busy - began
            found["to_work_s"] = round(busy_s, 1)
        if code == 0:
            try:
                found["digest"] = json.loads(self.inside("digest", root, stage))
            except RuntimeError as error:
                found["said"] = str(error)
        else:
            found["said"] = said[-1500:]
        if fault:
            found["same"] = found.get("digest") == self.undisturbed[stage]["digest"]
            found["added_s"] = round(took_s - self.undisturbed[stage]["took_s"], 1)
        return found


@dataclass
class _Harm:
    """One fault, done once, when the stage is at work."""

    bench: Bench
    stage: str
    fault: str | None
    delay_s: float
    rng: np.random.Generator
    struck: str = ""
    work_s: float = 0.0
    _threads: list[threading.Thread] = field(default_factory=list)
    seen: float = 0.0
    """When its first task, actor or training worker was there."""

    busy: float = 0.0
    """When the first shard was worked at."""

    def watch(self, submitter: "subprocess.Popen[str]") -> None:
        """Wait beside a submission for the moment."""
        if not self.struck:
            thread = threading.Thread(target=self._watch, args=(submitter,))
            thread.start()
            self._threads.append(thread)

    def finish(self) -> None:
        """Wait until all is mended."""
        for thread in self._threads:
            thread.join()

    def _watch(self, submitter: "subprocess.Popen[str]") -> None:
        while submitter.poll() is None:
            if not self.seen and self.bench.at_work(self.stage):
                self.seen = time.monotonic()
            if not self.fault and not self.busy and self.bench.busy(self.stage):
                self.busy = time.monotonic()
            if self.seen:
                self.work_s = time.monotonic() - self.seen
                if self.fault and self.work_s >= self.delay_s:
                    self._strike(submitter)
                    if self.struck:
                        return
            time.sleep(0.05)

    def _strike(self, submitter: "subprocess.Popen[str]") -> None:
        cluster = self.bench.cluster
        worker = cluster.workers[int(self.rng.integers(len(cluster.workers)))]
        self.struck = worker.name
        match self.fault:
            case "worker_killed":
                cluster.kill(worker)
            case "process_killed":
                victims = self.bench.at_work(self.stage)
                if not victims:
                    self.struck = ""
                    return
                with contextlib.suppress(ProcessLookupError):
                    _kill(victims[int(self.rng.integers(len(victims)))])
                self.struck = "a task, an actor or a training worker"
            case "link_down_5s" | "link_down_60s":
                cluster.network.cut(worker)
                time.sleep(5 if self.fault == "link_down_5s" else 60)
                cluster.network.mend(worker)
            case "store_down_10s":
                self.struck = "store"
                cluster.stop_role(cluster.store)
                time.sleep(10)
                cluster.start_role(cluster.store)
            case "submitter_gone":
                self.struck = "submitter"
                for pid, command in cluster.submitter.processes().items():
                    if "jobs.submit" in command:
                        _kill(pid)
            case "head_killed":
                self.struck = "head"
                cluster.kill(cluster.head)
        assert self.struck, (self.fault, submitter.pid)


def _kill(pid: int) -> None:
    subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)


def schedule(seeds: int) -> Iterator[tuple[str, str, int]]:
    """Yield stage, fault and seed: the matrix, then random ones."""
    for stage in ARGUMENTS:
        for fault in FAULTS:
            yield stage, fault, 0
    for seed in range(1, seeds + 1):
        rng = np.random.default_rng(seed)
        stage = list(ARGUMENTS)[int(rng.integers(len(ARGUMENTS)))]
        yield stage, FAULTS[int(rng.integers(len(FAULTS)))], seed


def trials(bench: Bench, seeds: int, kept: Path) -> Iterator[dict[str, Any]]:
    """Yield every trial, the undisturbed ones (no fault) too; those of earlier runs are read."""
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(item["stage"], item["fault"], item["seed"]): item for item in done}
    for stage, fault, seed in schedule(seeds):
        if (stage, fault, seed) not in known:
            if stage not in bench.undisturbed:
                known[stage, None, 0] = _kept(bench.measure(stage), kept)
            known[stage, fault, seed] = _kept(bench.struck_trial(stage, fault, seed=seed), kept)
        yield known[stage, fault, seed]
    yield from (known[stage, None, 0] for stage in ARGUMENTS)


def _kept(trial: dict[str, Any], path: Path) -> dict[str, Any]:
    with open(path, "a") as stream:
        stream.write(json.dumps(trial) + "\n")
    return trial


def main() -> None:
    """Run the trials and print what they found."""
    parser = argparse.ArgumentParser(description="Harm a cluster while its stages run.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/bench/faults"))
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    folder = options.out.resolve()
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "hosts", ignore_errors=True)
    found = []
    with local_cluster(folder / "hosts") as cluster:
        bench = Bench(cluster, folder)
        bench.prepare()
        for trial in trials(bench, options.seeds, folder / "trials.jsonl"):
            shown = {key: value for key, value in trial.items() if key != "digest"}
            print(json.dumps(shown), flush=True)
            found.append(trial)
    print(json.dumps(summary(found)))


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of finished trials."""
    added: dict[str, list[float]] = {}
    found = [trial for trial in trials if trial["fault"]]
    undisturbed = [trial for trial in trials if not trial["fault"]]
    to_work = {trial["stage"]: trial["to_work_s"] for trial in undisturbed}
    for trial in found:
        if trial["same"]:
            added.setdefault(trial["fault"], []).append(trial["added_s"])
    return {
        "faults_tried": sum(bool(trial["struck"]) for trial in found),
        "faults_lost": sum(not trial["same"] for trial in found),
        "not_struck": sum(not trial["struck"] for trial in found),
        "median_added_s": {fault: statistics.median(times) for fault, times in added.items()},
        "submit_to_work_s": to_work,
        "submit_to_actor_s": {trial["stage"]: trial["to_actor_s"] for trial in undisturbed},
        "submit_to_work_seconds": max(to_work.values()),
    }


if __name__ == "__main__":
    main()
