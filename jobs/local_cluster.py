"""Hosts on this machine, with Ray on them: `python -m jobs.local_cluster up|down|run FOLDER …`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ich_ray.distributed.local_cluster import BUCKET, find_cluster, start_cluster
from jobs.stage import guarded

USAGE = """usage: python -m jobs.local_cluster up FOLDER [WORKERS]
       python -m jobs.local_cluster down FOLDER
       python -m jobs.local_cluster run FOLDER -- COMMAND ...   on the submitter, outside of it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the cluster, end it, or run a command on the submitter's host."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given:
        case ["up", folder]:
            return guarded(lambda: _up(Path(folder), workers=2))
        case ["up", folder, workers] if workers.isdigit() and 1 <= int(workers) <= 200:
            return guarded(lambda: _up(Path(folder), workers=int(workers)))
        case ["down", folder]:
            return guarded(lambda: _down(Path(folder)))
        case ["run", folder, "--", _, *_]:
            return guarded(lambda: _run(Path(folder), given[3:]))
    sys.stderr.write(USAGE)
    return 2


def _up(folder: Path, *, workers: int) -> int:
    cluster = start_cluster(folder, workers=workers)
    sys.stdout.write(
        f"{workers} workers, a head and an S3 server, on hosts of their own\n"
        f"job API: {cluster.address}, seen by the hosts alone\n"
        f"S3: {cluster.server.endpoint_url}, bucket {BUCKET}; the nodes have its keys, and this "
        "shell's ICH_RAY_HMAC_KEY if it has one\n"
        f"submit: python -m jobs.local_cluster run {folder} -- ich-ray submit STAGE SETTINGS.toml "
        f"store.root=s3://{BUCKET}/store store.endpoint_url={cluster.server.endpoint_url} "
        f"--address {cluster.address}\n"
    )
    return 0


def _down(folder: Path) -> int:
    find_cluster(folder).end()
    return 0


def _run(folder: Path, command: Sequence[str]) -> int:
    cluster = find_cluster(folder)
    return cluster.start(cluster.submitter, command).wait()


if __name__ == "__main__":
    sys.exit(main())
