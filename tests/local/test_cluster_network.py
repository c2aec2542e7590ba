"""The network policies let a submitter and KubeRay's operator to the job API, and none else in."""

from typing import Any

import pytest
import yaml

from tests.local.cluster_commands import ROOT

POLICIES = ROOT / "cluster" / "kuberay" / "network-policy.yaml"


def lets_in(labels: dict[str, str], port: int, *, to: str, namespace: str = "") -> bool:
    """Decide as Kubernetes does: of the policies that select a pod one must have a rule."""
    policies = list(yaml.safe_load_all(POLICIES.read_text()))
    selecting = [p["spec"] for p in policies if matches(p["spec"]["podSelector"], role(to))]
    assert selecting, f"no policy guards {to}"
    return any(
        any(p["port"] == port for p in rule.get("ports", [{"port": port}]))
        and any(
            matches(peer.get("podSelector", {}), labels)
            and (
                matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
                if "namespaceSelector" in peer
                else namespace == ""
            )
            for peer in rule["from"]
        )
        for policy in selecting
        for rule in policy.get("ingress", [])
    )


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    ) and all(
        labels.get(need["key"]) in need["values"] for need in selector.get("matchExpressions", [])
    )


def role(name: str) -> dict[str, str]:
    return {"ich-ray/role": name}


PORTS = (6379, 8080, 8265, 10001, 52365)
OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}


@pytest.mark.parametrize("port", PORTS)
def test_a_clusters_own_pods_reach_each_other_and_strangers_nothing(port: int) -> None:
    for to in ("head", "worker"):
        assert lets_in(role("head"), port, to=to)
        assert lets_in(role("worker"), port, to=to)
        assert not lets_in({}, port, to=to)
        assert not lets_in({"app": "somebody"}, port, to=to)
        # Labels of another namespace are anybody's to choose.
        assert not lets_in(role("worker"), port, to=to, namespace="another")


@pytest.mark.parametrize("port", PORTS)
def test_a_submitter_and_the_operator_reach_the_job_api_alone(port: int) -> None:
    assert lets_in(role("submitter"), port, to="head") == (port == 8265)
    assert lets_in(OPERATOR, port, to="head", namespace="kuberay-system") == (port == 8265)
    assert not lets_in(OPERATOR, port, to="head", namespace="another")
    assert not lets_in(role("submitter"), port, to="worker")
    assert not lets_in(role("head"), port, to="submitter")


@pytest.mark.parametrize("port", PORTS)
def test_prometheus_reaches_the_metrics_alone(port: int) -> None:
    prometheus = {"app.kubernetes.io/name": "prometheus"}
    for to in ("head", "worker"):
        assert lets_in(prometheus, port, to=to, namespace="monitoring") == (port == 8080)
        assert not lets_in(prometheus, port, to=to, namespace="another")
    assert not lets_in(prometheus, port, to="submitter", namespace="monitoring")
