"""Run a command beside a real S3 server of its own: `python -m jobs.local_s3 DIR BUCKET -- …`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ich_ray.distributed.local_store import local_s3, make_bucket
from jobs.stage import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the server, make the bucket, run the command with its keys, stop the server."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) < 4 or given[2] != "--":
        sys.stderr.write("usage: python -m jobs.local_s3 FOLDER BUCKET -- COMMAND ...\n")
        return 2
    folder, bucket, _, *command = given

    def inside() -> int:
        with local_s3(Path(folder)) as server:
            make_bucket(server, bucket)
            keys = {
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
                "AWS_ENDPOINT_URL": server.endpoint_url,
                "AWS_REGION": "us-east-1",
                "AWS_ALLOW_HTTP": "true",
            }
            return subprocess.run(command, env=os.environ | keys, check=False).returncode

    return guarded(inside)


if __name__ == "__main__":
    sys.exit(main())
