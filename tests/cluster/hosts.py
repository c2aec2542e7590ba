"""The cluster of hosts that the tests share: prepared once, with a finished store in its S3."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cluster_faults import Bench
from ich_ray.distributed.local_cluster import local_cluster
from tests.cluster.tiny_experiment import SETTINGS


@contextmanager
def prepared_hosts(finished: Path) -> Iterator[Bench]:
    """Start the hosts, with the store of a finished tiny experiment in their S3 server."""
    # Not pytest's folder: Ray keeps sockets below it, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ich"))
    try:
        with local_cluster(folder / "hosts") as cluster:
            bench = Bench(cluster, folder)
            text = SETTINGS.replace("ROOT/dicom", "DICOM").replace("ROOT", "/tmp/ray/tiny")
            bench.adopt(finished, text)
            yield bench
    finally:
        shutil.rmtree(folder, ignore_errors=True)
