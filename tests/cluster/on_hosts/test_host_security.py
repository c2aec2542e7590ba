"""What another host may not: each trial is made from outside the cluster, on its network."""

import contextlib
import pickle
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.cluster_faults import WHOLE, Bench
from ich_ray.distributed.local_cluster import local_cluster
from ich_ray.distributed.local_hosts import Host

ASK = """
import sys, urllib.error, urllib.request
url, token, data = sys.argv[1:4]
request = urllib.request.Request(url, data=data.encode() or None)
if token:
    request.add_header("Authorization", f"Bearer {token}")
if data:
    request.add_header("Content-Type", "application/json")
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def asked(hosts: Bench, path: str, *, token: str = "", data: str = "") -> int:
    cluster = hosts.cluster
    words = [sys.executable, "-c", ASK, f"{cluster.address}{path}", token, data]
    return int(cluster.run(cluster.submitter, words).stdout)


@pytest.mark.parametrize("token", ["", "0" * 32])
def test_the_job_api_asks_every_other_host_for_the_token(hosts: Bench, token: str) -> None:
    job = '{"entrypoint": "touch /tmp/ray/was-here"}'
    assert asked(hosts, "/api/jobs/", token=token, data=job) in (401, 403)
    assert asked(hosts, "/api/jobs/", token=token) in (401, 403)
    assert asked(hosts, "/api/jobs/", token=hosts.cluster.token) == 200
    assert not (hosts.cluster.network.folder / "head" / "ray" / "was-here").exists()


@pytest.mark.parametrize("path", ["/api/cluster_status", "/nodes?view=summary", "/api/v0/tasks"])
def test_the_dashboard_tells_no_other_host_anything(hosts: Bench, path: str) -> None:
    assert asked(hosts, path) in (401, 403)
    assert asked(hosts, path, token=hosts.cluster.token) == 200


JOIN = """
import ray, sys
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
except BaseException as error:
    print("refused", type(error).__name__)
else:
    print("joined")
"""


def test_a_host_with_another_token_joins_no_cluster(hosts: Bench) -> None:
    cluster = hosts.cluster
    done = cluster.run(
        cluster.submitter,
        ["timeout", "120", sys.executable, "-c", JOIN, f"{cluster.head.address}:6379"],
        more={"RAY_AUTH_TOKEN": "0" * 32},
    )
    assert "joined" not in done.stdout


LIST = """
import s3fs, sys
client = s3fs.S3FileSystem(key=sys.argv[1], secret=sys.argv[2], endpoint_url=sys.argv[3])
try:
    client.ls(sys.argv[4])
    print("listed")
except PermissionError:
    print("refused")
"""


def test_the_object_server_refuses_a_wrong_key(hosts: Bench) -> None:
    server = hosts.cluster.server
    for key, secret, said in (
        (server.access_key, "0" * 40, "refused"),
        ("0" * 20, server.secret_key, "refused"),
        (server.access_key, server.secret_key, "listed"),
    ):
        words = [sys.executable, "-c", LIST, key, secret, server.endpoint_url, WHOLE[5:]]
        done = hosts.cluster.run(hosts.cluster.submitter, words)
        assert done.stdout.strip() == said, done.stderr


class Payload:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[return-value]


def test_a_pickled_checkpoint_is_refused_and_not_run(hosts: Bench, tmp_path: Path) -> None:
    root, trap = "s3://ich/pickled", hosts.folder / "trapped"
    hosts.inside("copy", WHOLE, root, "pseudo-label")
    payload = tmp_path / "payload"
    payload.write_bytes(pickle.dumps(Payload(str(trap))))
    with contextlib.suppress(FileNotFoundError):
        trap.unlink()
    # Its record, too, says that these are the weights.
    plant = (
        "import hashlib, json, s3fs, sys\n"
        "client = s3fs.S3FileSystem(endpoint_url=sys.argv[1])\n"
        "(record,) = [k for k in client.find(sys.argv[2]) if k.endswith('model.json')]\n"
        "content = json.loads(client.cat(record))\n"
        "payload = open(sys.argv[3], 'rb').read()\n"
        "content['model'] = hashlib.sha256(payload).hexdigest()[:16]\n"
        "weights = f\"weights-{content['model']}.safetensors\"\n"
        "client.put(sys.argv[3], record.replace('model.json', weights))\n"
        "client.pipe(record, json.dumps(content).encode())"
    )
    cluster = hosts.cluster
    where = [cluster.server.endpoint_url, f"{root[5:]}/models", str(payload)]
    assert cluster.run(cluster.head, [sys.executable, "-c", plant, *where]).returncode == 0
    code, said = hosts.submit(("pseudo-label", "--only", "pool"), root)
    assert code == 2, said
    assert "no safetensors file" in said, said[-2000:]
    assert not trap.exists()
    pickle.loads(payload.read_bytes())
    assert trap.exists(), "the trap itself does not work"


def texts(host: Host, folder: Path) -> str:
    """Return command lines of a host's processes, and whatever Ray has written on it."""
    found = [*host.processes().values()]
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size < 50_000_000:
            found.append(path.read_bytes().decode(errors="replace"))
    return "\n".join(found)


def test_no_secret_stands_in_a_command_line_a_log_a_job_or_an_object(hosts: Bench) -> None:
    cluster = hosts.cluster
    secrets = {"token": cluster.token, "secret key": cluster.server.secret_key}
    listed = cluster.run(
        cluster.submitter,
        [
            *(sys.executable, "-c"),
            "import sys\nfrom ich_ray.distributed.job_client import connect\n"
            "print(connect(sys.argv[1]).list_jobs())",
            cluster.address,
        ],
    ).stdout
    assert "pseudo-label" in listed
    found = [f"job list: {name}" for name, secret in secrets.items() if secret in listed]
    for host in cluster.hosts.values():
        text = texts(host, cluster.network.folder / host.name / "ray")
        found += [f"{host.name}: {name}" for name, secret in secrets.items() if secret in text]
    objects = cluster.network.folder / "store" / "data"
    for path in objects.rglob("*"):
        if path.is_file() and path.name != "s3.json":
            data = path.read_bytes()
            found += [
                f"{path.name}: {name}"
                for name, secret in secrets.items()
                if secret.encode() in data
            ]
    assert found == []


def test_nodes_that_speak_tls_form_a_cluster_and_keep_out_who_does_not(hosts: Bench) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ich"))
    program = "import ray; ray.init(address='auto'); print('CPUs', ray.cluster_resources()['CPU'])"
    try:
        with local_cluster(folder / "tls", workers=1, tls=True) as cluster:
            inside = cluster.run(cluster.head, [sys.executable, "-c", program])
            assert "CPUs 1.0" in inside.stdout, inside.stderr
            words = ["timeout", "60", sys.executable, "-c", JOIN, f"{cluster.head.address}:6379"]
            outside = cluster.run(cluster.submitter, words)
            assert "joined" not in outside.stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
