"""A Ray cluster of several hosts on this machine: head, workers, S3 server, submitter outside.

Only the submitter's credentials for the job API and the nodes' for the store exist, each where a
real cluster has them: in the environment of their processes.
"""

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ich_ray.distributed.local_hosts import Host, Network, Process
from ich_ray.distributed.local_store import S3Address, server_command
from ich_ray.distributed.local_tls import make_certificates, tls_environment
from ich_ray.distributed.records import LOCK_VARIABLE, lock_hash
from ich_ray.errors import ConfigError, SurroundingsError

STATE = "cluster.json"
BUCKET = "ich"
"""Made in the S3 server of every local cluster."""

HEAD, STORE, SUBMITTER, FIRST_WORKER = 2, 3, 4, 11
S3_PORTS = (8333, 9333, 8888, 9340, 23646, 18333, 19333, 18888, 19340, 33646)
READY_S = 120.0
NODE_SECRETS = ("ICH_RAY_HMAC_KEY",)
"""Passed on to the nodes, where this process has them."""

LEAVE_S = 20
"""After as many seconds a worker leaves a silent head, and its supervisor starts it anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalCluster:
    """Running hosts and what they know; kept in a file so that another process can find them."""

    network: Network
    hosts: Mapping[str, Host]
    """By name: head, store, submitter, worker-1, ..."""

    token: str
    server: S3Address
    cpus: int
    """Of each worker; the head has none."""

    object_store_mb: int
    tls: bool = False
    """Whether nodes speak TLS with each other."""

    @property
    def address(self) -> str:
        """Of the job API, for whoever is on the network."""
        return f"http://{self.head.address}:8265"

    @property
    def head(self) -> Host:
        """Where the GCS, the job API and the drivers are."""
        return self.hosts["head"]

    @property
    def store(self) -> Host:
        """Where the S3 server is."""
        return self.hosts["store"]

    @property
    def submitter(self) -> Host:
        """Outside of the cluster, on its network: it has the token, and no key of the store."""
        return self.hosts["submitter"]

    @property
    def workers(self) -> tuple[Host, ...]:
        """Where tasks and actors run."""
        return tuple(host for name, host in self.hosts.items() if name.startswith("worker-"))

    def environment(self, host: Host) -> dict[str, str]:
        """Return the environment of a host's processes."""
        own = self.network.folder / host.name
        found = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(own),
            "TMPDIR": str(own / "tmp"),
            "LANG": "C.UTF-8",
            "RAY_TMPDIR": "/tmp",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        if host.name != "store":
            found |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        if host.name not in ("store", "submitter"):
            if self.tls:
                found |= tls_environment(self.network.folder / "tls")
            found |= {
                "AWS_ACCESS_KEY_ID": self.server.access_key,
                "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": self.server.endpoint_url,
                "AWS_ALLOW_HTTP": "true",
                "RAY_gcs_rpc_server_reconnect_timeout_s": str(LEAVE_S),
                LOCK_VARIABLE: lock_hash(),
            }
            # Of whoever starts the hosts: the nodes' processes make the pseudonyms.
            found |= {name: os.environ[name] for name in NODE_SECRETS if name in os.environ}
        return found

    def start(
        self,
        host: Host,
        words: Sequence[str],
        *,
        more: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.Popen[Any]":
        """Start a command on a host, with the host's environment and more."""
        return subprocess.Popen(
            host.command(words), env=self.environment(host) | dict(more or {}), **options
        )

    def run(
        self, host: Host, words: Sequence[str], *, more: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a host to its end."""
        started = self.start(
            host, words, more=more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = started.communicate()
        return subprocess.CompletedProcess(words, started.returncode, out, err)

    def start_role(self, host: Host) -> None:
        """Start what a host is for; a supervisor starts it again whenever it ends."""
        command = shlex.join(self._role(host))
        log = shlex.quote(str(self.network.folder / host.name / "role.log"))
        again = f"while :; do {command} >>{log} 2>&1; sleep 1; done"
        self.start(
            host,
            ["setsid", "--fork", "bash", "-c", again],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).wait()

    def _role(self, host: Host) -> list[str]:
        ray = str(Path(sys.executable).parent / "ray")
        memory = f"--object-store-memory={self.object_store_mb * 1024**2}"
        if host.name == "store":
            folder = self.network.folder / "store" / "data"
            return server_command(folder, host=host.address, ports=S3_PORTS)[0]
        if host.name == "head":
            return [
                *(ray, "start", "--head", "--block", "--num-cpus=0", memory),
                *(f"--node-ip-address={host.address}", "--port=6379", "--disable-usage-stats"),
                # Told so: to its own network, where a token is asked for.
                *(f"--dashboard-host={host.address}", "--dashboard-port=8265"),
            ]
        return [
            *(ray, "start", "--block", f"--address={self.head.address}:6379", memory),
            *(f"--node-ip-address={host.address}", f"--num-cpus={self.cpus}"),
        ]

    def kill(self, host: Host, *beginnings: str) -> list[int]:
        """End by SIGKILL every process of a host whose command line begins or ends a path so.

        Args:
            host: Whose processes are meant.
            beginnings: E.g. `raylet`, `ray::MapWorker`; with none, all but process 1 and the
                supervisor, as when the machine runs out of memory.
        """
        killed = []
        for pid, command in host.processes().items():
            name = command.partition(" ")[0].rsplit("/", 1)[-1]
            supervisor = command.startswith("bash -c")
            chosen = (
                name.startswith(beginnings) or command.startswith(beginnings)
                if beginnings
                else not supervisor
            )
            if chosen and pid != host.first.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        return killed

    def stop_role(self, host: Host) -> None:
        """End by SIGKILL what a host is for, and its supervisor."""
        for pid in host.processes():
            if pid != host.first.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def power_cycle(self, host: Host) -> "LocalCluster":
        """Cut a host's power, and switch it on again; return the cluster with the new host."""
        host.first.kill()
        new = self.network.add(host.name, int(host.address.rsplit(".", 1)[1]))
        cluster = replace(self, hosts={**self.hosts, host.name: new})
        cluster.start_role(new)
        cluster.save()
        return cluster

    def num_alive(self) -> int:
        """Return how many hosts the head knows to be alive, itself included; 0 if it is silent."""
        asked = self.run(
            self.head,
            [
                *("timeout", "20", sys.executable, "-c"),
                "import ray, sys\n"
                "from ray._raylet import GcsClient\n"
                f"client = GcsClient(address='{self.head.address}:6379')\n"
                "nodes = client.get_all_node_info(timeout=5).values()\n"
                "print(sum(node.state == 0 for node in nodes))",
            ],
        )
        said = asked.stdout.strip()
        return int(said) if asked.returncode == 0 and said.isdigit() else 0

    def wait_until_whole(self, within_s: float = READY_S) -> None:
        """Wait until every worker has joined.

        Raises:
            SurroundingsError: They did not in time.
        """
        wanted = len(self.workers) + 1
        deadline = time.monotonic() + within_s
        while self.num_alive() != wanted:
            if time.monotonic() > deadline:
                raise SurroundingsError(
                    f"the hosts did not form a cluster of {wanted} within {within_s:g} s; read "
                    f"role.log in the folders under {self.network.folder}"
                )
            time.sleep(0.5)

    def make_bucket(self, name: str) -> None:
        """Make a bucket in the S3 server.

        Raises:
            SurroundingsError: The server does not answer.
        """
        program = (
            "import contextlib, sys, s3fs\n"
            "client = s3fs.S3FileSystem(config_kwargs={'retries': {'max_attempts': 10}})\n"
            # A request that is repeated finds what the first one made.
            "with contextlib.suppress(FileExistsError):\n"
            "    client.mkdir(sys.argv[1])"
        )
        made = self.run(self.head, [sys.executable, "-c", program, name])
        if made.returncode:
            raise SurroundingsError(
                f"the S3 server at {self.server.endpoint_url} makes no bucket {name}: "
                f"{(made.stderr.strip().splitlines() or ['no word'])[-1]}"
            )

    def save(self) -> None:
        """Keep what another process needs to find the cluster; for this user alone."""
        path = self.network.folder / STATE
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self), default=str))

    def end(self) -> None:
        """End every process of every host."""
        for host in self.hosts.values():
            host.first.kill()
        self.network.hub.kill()
        (self.network.folder / STATE).unlink(missing_ok=True)


def start_cluster(
    folder: Path,
    *,
    workers: int = 2,
    cpus: int = 1,
    object_store_mb: int = 100,
    tls: bool = False,
) -> LocalCluster:
    """Start a cluster on hosts of its own; returns when all have joined.

    Args:
        folder: Of the hosts' files, logs and data.
        workers: Hosts that work, 1 to 200.
        cpus: Of each worker.
        object_store_mb: Shared memory of each host for Ray, MB.
        tls: Whether nodes speak TLS with each other, with certificates made here.

    Raises:
        ConfigError: There is a cluster in the folder.
        SurroundingsError: This machine or this user may not make hosts.
    """
    folder = folder.resolve()
    if (folder / STATE).exists():
        raise ConfigError(f"there is a cluster in {folder}; end it with make cluster-down")
    names = [f"worker-{i}" for i in range(1, workers + 1)]
    numbers = {"head": HEAD, "store": STORE, "submitter": SUBMITTER}
    numbers |= {name: FIRST_WORKER + i for i, name in enumerate(names)}
    network = Network.make(folder, numbers)
    hosts: dict[str, Host] = {}
    try:
        for name, number in numbers.items():
            hosts[name] = network.add(name, number)
        address = hosts["store"].address
        _, keys = server_command(folder / "store" / "data", host=address, ports=S3_PORTS)
        cluster = LocalCluster(
            network=network,
            hosts=hosts,
            token=secrets.token_hex(16),
            server=S3Address(f"http://{address}:{S3_PORTS[0]}", *keys),
            cpus=cpus,
            object_store_mb=object_store_mb,
            tls=tls,
        )
        if tls:
            make_certificates(folder / "tls", [host.address for host in hosts.values()])
        cluster.save()
        for host in (cluster.store, cluster.head, *cluster.workers):
            cluster.start_role(host)
        cluster.wait_until_whole()
        cluster.make_bucket(BUCKET)
    except BaseException:
        for host in hosts.values():
            host.first.kill()
        network.hub.kill()
        (folder / STATE).unlink(missing_ok=True)
        raise
    return cluster


def find_cluster(folder: Path) -> LocalCluster:
    """Return the cluster that runs in a folder.

    Raises:
        ConfigError: There is none.
    """
    path = folder.resolve() / STATE
    if not path.exists():
        raise ConfigError(f"no cluster runs in {folder}; start one with make cluster-up")
    tree = json.loads(path.read_text())
    network = Network(Process(**tree["network"]["hub"]), Path(tree["network"]["folder"]))
    return LocalCluster(
        network=network,
        hosts={
            name: Host(one["name"], one["address"], Process(**one["first"]))
            for name, one in tree["hosts"].items()
        },
        server=S3Address(**tree["server"]),
        token=tree["token"],
        cpus=tree["cpus"],
        object_store_mb=tree["object_store_mb"],
        tls=tree["tls"],
    )


@contextlib.contextmanager
def local_cluster(folder: Path, **options: Any) -> Iterator[LocalCluster]:
    """Run a cluster for the block; see start_cluster."""
    cluster = start_cluster(folder, **options)
    try:
        yield cluster
    finally:
        # Hosts that lost their power since are in the file under new numbers.
        find_cluster(folder).end()
