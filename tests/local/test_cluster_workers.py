"""What production.toml says a cluster may add is what each description of a cluster lets it add."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

from ich_ray.capacity import GB, Nodes, capacity, refuse_unfit
from ich_ray.config import Settings
from ich_ray.distributed.own_exams import READING
from ich_ray.distributed.predict import pool_need
from ich_ray.distributed.pseudo_label import WRITING
from ich_ray.distributed.training_needs import workers_need
from ich_ray.settings import parse
from tests.local.cluster_commands import ROOT

PRODUCTION = parse(Settings, (ROOT / "cluster" / "production.toml").read_text())


def described(path: str) -> Mapping[str, Any]:
    """Return the types of nodes of one description, as Ray's autoscaler reads it."""
    documents = [d for d in yaml.safe_load_all((ROOT / "cluster" / path).read_text()) if d]
    if not path.startswith("kuberay"):
        types: Mapping[str, Any] = documents[0]["available_node_types"]
        return types
    (cluster,) = (d for d in documents if d["kind"] in ("RayCluster", "RayJob"))
    spec = cluster["spec"].get("rayClusterSpec", cluster["spec"])
    metadata = {"name": "c", "namespace": "n"}
    derived = _derive_autoscaling_config_from_ray_cr({"metadata": metadata, "spec": spec})
    types = derived["available_node_types"]
    return types


DESCRIPTIONS = [
    "aws.yaml",
    "gcp.yaml",
    *(f"kuberay/{name}.yaml" for name in ("raycluster", "train", "pseudo-label", "evaluate")),
]


@pytest.mark.parametrize("path", DESCRIPTIONS)
def test_no_description_has_less_than_the_settings_say(path: str) -> None:
    workers = PRODUCTION.cluster.workers
    types = {name.replace("-", "_"): value for name, value in described(path).items()}
    named = workers.keys() & types.keys()
    assert {"gpu_spot", "gpu_on_demand"} <= named
    for name in named:
        has, said = types[name]["resources"], workers[name]
        assert types[name]["max_workers"] == said.max
        assert has["CPU"] >= said.cpus
        assert has.get("GPU", 0) == said.gpus
        assert has["memory"] >= said.memory_gb * GB


@pytest.mark.parametrize("path", ["aws.yaml", "gcp.yaml", "kuberay/raycluster.yaml"])
def test_a_standing_cluster_has_every_kind_of_the_settings_and_no_other(path: str) -> None:
    types = {name.replace("-", "_") for name in described(path)}
    assert types - {"head", "headgroup"} == PRODUCTION.cluster.workers.keys()


@pytest.mark.parametrize("path", ["aws.yaml", "gcp.yaml"])
def test_a_launcher_starts_all_nodes_of_all_kinds_at_once(path: str) -> None:
    launcher = yaml.safe_load((ROOT / "cluster" / path).read_text())
    kinds = [kind for name, kind in described(path).items() if name != launcher["head_node_type"]]
    total = sum(kind["max_workers"] for kind in kinds)
    assert launcher["max_workers"] >= total
    assert total == sum(workers.max for workers in PRODUCTION.cluster.workers.values())


def test_the_stages_of_production_fit_its_gpu_nodes_from_none() -> None:
    nodes = [
        Nodes(cpus=w.cpus, gpus=w.gpus, memory=int(w.memory_gb * GB), count=w.max, group=name)
        for name, w in PRODUCTION.cluster.workers.items()
        if w.gpus
    ]
    has = capacity([Nodes(cpus=0.0)], nodes)
    for need in (
        pool_need(PRODUCTION.predict),
        *(workers_need(name, model) for name, model in PRODUCTION.models.items()),
        READING,
        WRITING,
    ):
        refuse_unfit(need, has)
