"""The cluster of hosts that the tests share: prepared once, with a finished store in its S3."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cluster_faults import Bench
from ich_ray.distributed.local_cluster import local_cluster


@contextmanager
def prepared_hosts() -> Iterator[Bench]:
    # Not pytest's folder: Ray keeps sockets below it, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ich"))
    try:
        with local_cluster(folder / "hosts") as cluster:
            bench = Bench(cluster, folder)
            bench.prepare()
            yield bench
    finally:
        shutil.rmtree(folder, ignore_errors=True)
