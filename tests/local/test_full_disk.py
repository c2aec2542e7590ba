"""A disk that is full: a small one of our own, in a namespace that ends with the process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILL = """
import sys
from pathlib import Path
import pyarrow as pa
from ich_ray.errors import SurroundingsError
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import commit, open_table, write_part

disk = Path(sys.argv[1])
store = Store(str(disk / "store"))
schema = pa.schema([("pixels", pa.binary())])

def part(name, size):
    data = pa.table({"pixels": [bytes(range(256)) * size]}, schema=schema)
    return write_part(store, store.url("t"), name, data, None)

def refused(work):
    try:
        work()
    except SurroundingsError as error:
        return f"the disk mounted at {disk} is full" in str(error)
    return False

def committed(parts):
    return commit(store, store.url("t"), schema=schema, parts=parts, properties={})

committed([part("a", 1)])
assert refused(lambda: store.write_bytes(store.url("t", "b"), bytes(2_000_000))), "an object"
left = part("c", 1)
with open(disk / "filling", "wb", buffering=0) as stream:
    try:
        while stream.write(bytes(4096)):
            pass
    except OSError:
        pass
assert refused(lambda: committed([left])), "a commit"
(disk / "filling").unlink()
table = open_table(store, store.url("t"))
assert (table.version, table.rows) == (0, 1), "nothing half committed"
assert not list(disk.rglob("*.tmp")), "nothing left behind"
assert committed([left]) == 1
"""


def test_a_full_disk_is_named_and_nothing_is_half_committed(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mounted = f"mount -t tmpfs -o size=1m none {tmp_path}"
    inside = [str(unshare), "--user", "--map-root-user", "--mount", "sh", "-c"]
    if unshare is None or subprocess.run([*inside, mounted], check=False).returncode:
        pytest.skip("no unshare, or no namespaces of our own here: the small disk needs them")
    command = f'{mounted} && exec "$0" -c "$1" {tmp_path}'
    ended = subprocess.run(
        [*inside, command, sys.executable, FILL],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
