"""Kubernetes manifests are exactly of their kinds, let nobody in, and hold no secret."""

import copy
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.local.cluster_commands import ROOT, cluster_files
from tests.local.kuberay_schemas import FOLDER, Refused, check, pods

KUBERAY = sorted((ROOT / "cluster" / "kuberay").glob("*.yaml"))
YAML = [path for path in cluster_files() if path.suffix == ".yaml"]
JOBS = ("ingest", "train", "pseudo-label", "evaluate")

needs_schemas = pytest.mark.skipif(
    not (FOLDER / "ray.io_rayjobs.yaml").is_file(),
    reason="ICH_RAY_SCHEMAS names no folder with KubeRay's custom resource definitions",
)


def manifests(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def manifest(name: str) -> Any:
    (only,) = manifests(ROOT / "cluster" / "kuberay" / f"{name}.yaml")
    return only


@needs_schemas
@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_every_manifest_is_exactly_of_its_kind(path: Path) -> None:
    assert manifests(path)
    for found in manifests(path):
        check(found)


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def edit(found: Any) -> None:
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value

    return edit


CONTAINER = ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0)


@needs_schemas
@pytest.mark.parametrize(
    ("name", "edit", "match"),
    [
        ("ingest", put("kind", value="RayTask"), "ray.io has no kind RayTask"),
        ("ingest", put("apiVersion", value="ray.io/v2"), "has no version v2"),
        ("ingest", put("spec", "retries", value=2), "'retries' was unexpected"),
        ("ingest", put("spec", "backoffLimit", value="none"), "not of type 'integer'"),
        ("ingest", put(*CONTAINER, "imagePolicy", value="Always"), "'imagePolicy' was unexpected"),
        ("ingest", put("metadata", "lables", value={}), "'lables' was unexpected"),
        ("raycluster", put("spec", "workers", value=[]), "'workers' was unexpected"),
        ("raycluster", put("spec", "authOptions", "mode", value="open"), "'open' is not one of"),
        ("raycluster", put("spec", "headGroupSpec", value={}), "'template' is a required"),
        ("schedule", put("kind", value="Cron"), "Couldn't find schema for kind Cron"),
        ("schedule", put("spec", "concurrency", value="Forbid"), "'concurrency' was unexpected"),
        ("schedule", put("spec", "schedule", value=2), "2 is not of type 'string'"),
    ],
)
def test_a_planted_mistake_is_refused(name: str, edit: Callable[[Any], None], match: str) -> None:
    planted = copy.deepcopy(manifest(name))
    edit(planted)
    with pytest.raises(Refused, match=match):
        check(planted)


def repeated(node: yaml.Node) -> list[str]:
    """Name every key that stands twice in a section: YAML's readers keep the last, silently."""
    if isinstance(node, yaml.SequenceNode):
        return [key for item in node.value for key in repeated(item)]
    if not isinstance(node, yaml.MappingNode):
        return []
    keys = [key.value for key, _ in node.value]
    inside = [key for _, value in node.value for key in repeated(value)]
    return [key for key in sorted(set(keys)) if keys.count(key) > 1] + inside


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_no_key_stands_twice(path: Path) -> None:
    assert [key for node in yaml.compose_all(path.read_text()) for key in repeated(node)] == []


def test_a_key_that_stands_twice_is_found() -> None:
    assert repeated(yaml.compose("a: {b: 1, c: 2, b: 3}")) == ["b"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_images_and_ray_are_of_this_version(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = re.findall(r"\bich-ray:(\S+)", path.read_text())
    assert {image.partition("-")[0] for image in images} <= {project["version"]}
    locked = (ROOT / "constraints.txt").read_text().splitlines()
    for version in re.findall(r'rayVersion: "(.+)"', path.read_text()):
        assert f"ray=={version}" in locked


def test_the_jobs_differ_in_stage_time_and_groups_only() -> None:
    cluster = manifest("raycluster")["spec"]
    groups = {group["groupName"]: group for group in cluster.pop("workerGroupSpecs")}
    shapes = []
    for name in JOBS:
        job = manifest(name)
        assert job["metadata"].pop("generateName") == f"ich-ray-{name}-"
        assert f"ich-ray {name} " in job["spec"].pop("entrypoint")
        assert job["spec"].pop("activeDeadlineSeconds") > 0
        own = job["spec"]["rayClusterSpec"].pop("workerGroupSpecs")
        assert own == [groups[group["groupName"]] for group in own]
        assert job["spec"].pop("rayClusterSpec") == cluster
        shapes.append(job)
    assert all(shape == shapes[0] for shape in shapes)


def test_a_failed_gate_is_not_retried() -> None:
    assert [manifest(name)["spec"]["backoffLimit"] for name in JOBS] == [0] * len(JOBS)
    job = manifest("schedule")["spec"]["jobTemplate"]["spec"]
    final = {
        code
        for rule in job["podFailurePolicy"]["rules"]
        if rule["action"] == "FailJob"
        for code in rule["onExitCodes"]["values"]
    }
    assert final == {1, 2, 4}
    assert job["backoffLimit"] > 0
    assert manifest("schedule")["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_no_pod_runs_as_root_or_without_a_limit(path: Path) -> None:
    for pod in pods(manifests(path)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["serviceAccountName"] == f"ich-ray-{pod['metadata']['labels']['ich-ray/role']}"
        is_head = pod["metadata"]["labels"]["ich-ray/role"] == "head"
        assert spec["automountServiceAccountToken"] == is_head
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_ray_wants_its_token_everywhere() -> None:
    specs = [manifest(name)["spec"]["rayClusterSpec"] for name in JOBS]
    for spec in [*specs, manifest("raycluster")["spec"]]:
        assert spec["authOptions"] == {"mode": "token", "secretName": "ich-ray-token"}
    (submitter,) = pods(manifest("schedule"))
    assert {"name": "RAY_AUTH_MODE", "value": "token"} in submitter["spec"]["containers"][0]["env"]
