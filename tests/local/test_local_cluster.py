from pathlib import Path

import pytest

from ich_ray.distributed.local_cluster import LocalCluster
from ich_ray.distributed.local_hosts import Host, Network, Process
from ich_ray.distributed.local_store import S3Address

NAMES = ("head", "store", "submitter", "worker-1")


def cluster_in(folder: Path) -> LocalCluster:
    process = Process(pid=1, started="0")
    return LocalCluster(
        network=Network(process, folder),
        hosts={name: Host(name, f"10.77.0.{i}", process) for i, name in enumerate(NAMES)},
        token="t" * 32,
        server=S3Address("http://10.77.0.1:8333", "access", "secret"),
        cpus=1,
        object_store_mb=80,
    )


def test_who_has_which_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICH_RAY_HMAC_KEY", "a key of the patients' pseudonyms")
    monkeypatch.setenv("ICH_RAY_PRIVATE", "of the shell that starts the hosts")
    cluster = cluster_in(tmp_path)
    has = {name: cluster.environment(cluster.hosts[name]) for name in NAMES}

    def known_to(variable: str) -> set[str]:
        return {name for name in NAMES if variable in has[name]}

    assert known_to("ICH_RAY_HMAC_KEY") == {"head", "worker-1"}
    assert known_to("AWS_SECRET_ACCESS_KEY") == {"head", "worker-1"}
    assert known_to("RAY_AUTH_TOKEN") == {"head", "submitter", "worker-1"}
    assert known_to("ICH_RAY_PRIVATE") == set()


def test_without_a_key_the_hosts_start_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ICH_RAY_HMAC_KEY", raising=False)
    cluster = cluster_in(tmp_path)
    assert "ICH_RAY_HMAC_KEY" not in cluster.environment(cluster.head)
