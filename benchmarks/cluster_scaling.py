"""Does a pool of 8 workers do 8 times the work of one, and what does a shard cost its driver?

On a cluster of hosts on this machine: eight workers with one CPU each, the driver on the head. The
work is waiting, a stand-in for a GPU: 1 s for a shard of 256 slices, whose predictions are then
written to the S3 server as the real stage writes them. The real pool of the stage hands out the
shards, to 1, 2, 4 and 8 of them. From the driver's CPU and memory over many short shards follows
how many slices one driver can hand out. Prints the rates, and last one line of JSON.

Where one driver saturates, by its figures on a 2-core machine that it shared with the 8 workers
(14.7 CPU s and 9 MB for 1,000 shards; on a faster one 4.8 s and 10 MB): one core hands out 68
shards a second, which are 17,400 slices of 256 a shard, what 5 H200 at the limit of their
arithmetic predict (3,400 slices/s each).

| slices | shards of 256 | driver's CPU | its memory | then |
|---|---|---|---|---|
| 10^6 | 3,906 | 57 s | 0.5 GB | nothing: 5 minutes of one H200 |
| 10^8 | 390,625 | 1.6 h | 4 GB | to 5 GPUs nothing; for more, larger parts |
| 10^9 | 3.9 million | 16 h | 35 GB | `slices_per_part = 4096`: 1 h and 2.6 GB, 80 GPUs |

Shards are a corpus's parts, so a larger `corpora.*.slices_per_part` is the first remedy (a worker
needs the memory of a part, and repeats one when it dies); beyond that, several corpora, each
pseudo-labelled by a job of its own: jobs share nothing but the store.

    python -m benchmarks.cluster_scaling [--out out/bench/scaling] [--shards 40]
"""

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import ich_ray.distributed.predict as stage
from ich_ray.config import Settings
from ich_ray.distributed.local_cluster import BUCKET, local_cluster
from ich_ray.distributed.session import Session, session
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.settings import parse
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import write_part

SLICES = 256
POOLS = (1, 2, 4, 8)
WORK_S = 1.0
DRIVER_SHARDS = 1_000


class Waiting:
    """Waits as long as a GPU would work, and writes the shard's probabilities."""

    def __init__(self, *, store: Store, tasks: Sequence["Task"], **_: Any) -> None:
        self.store, self.url, self.work_s = store, tasks[0].url, tasks[0].work_s

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Do one shard."""
        began = time.time()
        url = str(batch["url"][0])
        slices = [f"{url}-{i}" for i in range(SLICES)]
        rows = pa.table({"slice": slices, "p": np.zeros(SLICES, np.float32)})
        part = write_part(self.store, self.url, url, rows, None)
        time.sleep(max(self.work_s - (time.time() - began), 0.0))
        return {"path": [part.path], "size": [part.size], "rows": [part.rows]}


class Task:
    """What the pool asks of a prediction task."""

    def __init__(self, url: str, work_s: float) -> None:
        self.url, self.work_s = url, work_s


def rate(run: Session, pool: int, shards: int, work_s: float) -> tuple[float, float]:
    """Return slices/s from the first finished shard to the last, and from the call to the last."""
    task: Any = Task(run.store.url(f"scaling-{pool}-{work_s:g}"), work_s)
    began, times = time.monotonic(), []
    for _ in stage._pool_over(run, [task], [{"url": f"shard-{i}"} for i in range(shards)]):
        times.append(time.monotonic())
    # The first of each worker are together: what a pool does in steady state begins after them.
    steady = (len(times) - pool) / (times[-1] - times[pool - 1])
    return SLICES * steady, SLICES * shards / (times[-1] - began)


def inside(endpoint: str, shards: int) -> None:
    """Measure, as the driver on the head."""
    stage.PartPredictor = Waiting  # type: ignore[misc,assignment]  # the pool is what is measured
    found: dict[str, Any] = {}
    text = (
        f'identity = "public"\nstore = {{ root = "s3://{BUCKET}/scaling", '
        f'endpoint_url = "{endpoint}" }}\ncluster = {{ address = "auto" }}\n'
    )
    for pool in POOLS:
        settings = parse(Settings, text, [f"predict.actors={pool}"])
        with session(settings, Pseudonyms(PUBLIC_KEY)) as run:
            run.ensure_ray()
            found[f"slices_per_s_{pool}"], found[f"with_start_{pool}"] = (
                round(value, 1) for value in rate(run, pool, shards * pool, WORK_S)
            )
            print(json.dumps(found), file=sys.stderr, flush=True)
            if pool == max(POOLS):
                before = resource.getrusage(resource.RUSAGE_SELF)
                found["slices_per_s_short"], _ = rate(run, pool, DRIVER_SHARDS, 0.0)
                after = resource.getrusage(resource.RUSAGE_SELF)
                found["driver_cpu_s_per_1000"] = round(
                    after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2
                )
                found["driver_peak_mb"] = round(after.ru_maxrss / 1024)
                found["driver_mb_per_1000"] = round((after.ru_maxrss - before.ru_maxrss) / 1024, 1)
    print(json.dumps(found))


def main() -> None:
    """Start the cluster, measure from its head, and print."""
    parser = argparse.ArgumentParser(description="Measure how a pool scales over hosts.")
    parser.add_argument("--out", type=Path, default=Path("out/bench/scaling"))
    parser.add_argument("--shards", type=int, default=40, help="of each worker")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    with local_cluster(options.out / "hosts", workers=max(POOLS), object_store_mb=80) as cluster:
        words = [sys.executable, "-m", "benchmarks.cluster_scaling", "inside"]
        done = cluster.run(cluster.head, [*words, cluster.server.endpoint_url, str(options.shards)])
    sys.stderr.write(done.stderr[-3000:])
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    found["scaling_8"] = round(found["slices_per_s_8"] / (8 * found["slices_per_s_1"]), 3)
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        # By its importable name: workers must find the class.
        from benchmarks.cluster_scaling import inside as measured

        measured(sys.argv[2], int(sys.argv[3]))
    else:
        main()
