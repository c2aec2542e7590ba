"""The files of Ray's launcher are what Ray and the clouds take, and spot nodes come first."""

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import botocore.session
import botocore.validate
import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from ich_ray.config import Settings
from ich_ray.distributed.ingest_passes import BYTES_PER_SLICE, WORKER_BYTES
from ich_ray.settings import parse
from tests.local.cluster_commands import ROOT

CLOUDS = ("aws", "gcp")
PRODUCTION = parse(Settings, (ROOT / "cluster" / "production.toml").read_text())


def launcher(cloud: str) -> Any:
    return yaml.safe_load((ROOT / "cluster" / f"{cloud}.yaml").read_text())


def prepared(config: Any) -> Any:
    """Do what `ray up` does before it talks to the cloud."""
    validate_config(config | {"cluster_synced_files": []})
    return prepare_config(copy.deepcopy(config))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_takes_the_file(cloud: str) -> None:
    config = prepared(launcher(cloud))
    validate_config(config)
    # Ray's defaults install another Ray, unless the file says that nothing is to be set up.
    assert config["head_setup_commands"] == config["worker_setup_commands"] == []


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("idle_timeout", 5, "'idle_timeout' was unexpected"),
        ("max_workers", "many", "'many' is not of type 'integer'"),
        ("head_node_type", "haed", "must be one of"),
        ("docker", {"image": "a", "containr_name": "b"}, "'containr_name' was unexpected"),
    ],
)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_refuses_a_planted_mistake(cloud: str, key: str, value: Any, match: str) -> None:
    with pytest.raises((jsonschema.ValidationError, ValueError), match=match):
        prepared(launcher(cloud) | {key: value})


def refusals_of_ec2(node: dict[str, Any]) -> str:
    """Return what EC2's client would refuse of a node before it asks the cloud."""
    model = botocore.session.Session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    counts = {"MinCount": 1, "MaxCount": 1}
    report: str = (
        botocore.validate.ParamValidator().validate(node | counts, shape).generate_report()
    )
    return report


def refusals_of_compute(node: dict[str, Any]) -> str:
    """Return what of a node is no part of an instance, by Google's description of its API."""
    documents = files("googleapiclient") / "discovery_cache" / "documents"
    schemas = json.loads((documents / "compute.v1.json").read_text())["schemas"]
    return "; ".join(_misfits(node, {"$ref": "Instance"}, schemas, ""))


def _misfits(value: Any, schema: dict[str, Any], schemas: Any, path: str) -> list[str]:
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kinds = {"object": dict, "array": list, "string": (str, int), "integer": int, "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{path} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path} has no {value}"]
    if isinstance(value, list):
        return [m for v in value for m in _misfits(v, schema["items"], schemas, path)]
    if not isinstance(value, dict):
        return []
    known = schema.get("properties", {})
    unknown = [f"{path}.{key} is unknown" for key in value if key not in known]
    inside = [_misfits(v, known[k], schemas, f"{path}.{k}") for k, v in value.items() if k in known]
    return unknown + [misfit for misfits in inside for misfit in misfits]


REFUSALS: dict[str, Callable[[dict[str, Any]], str]] = {
    "aws": refusals_of_ec2,
    "gcp": refusals_of_compute,
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_cloud_knows_every_field_of_every_node(cloud: str) -> None:
    for node in launcher(cloud)["available_node_types"].values():
        assert REFUSALS[cloud](node["node_config"]) == ""


@pytest.mark.parametrize(
    ("cloud", "wrong"),
    [
        ("aws", {"InstanceTyp": "m7i.xlarge"}),
        ("aws", {"InstanceMarketOptions": {"MarketTyp": "spot"}}),
        ("aws", {"BlockDeviceMappings": {"DeviceName": "/dev/sda1"}}),
        ("gcp", {"machineTyp": "n2-standard-4"}),
        ("gcp", {"scheduling": {"provisioningModel": "SPOTTY"}}),
        ("gcp", {"disks": [{"boot": "yes"}]}),
    ],
)
def test_a_field_that_the_cloud_does_not_know_is_found(cloud: str, wrong: dict[str, Any]) -> None:
    node = launcher(cloud)["available_node_types"]["head"]["node_config"]
    assert REFUSALS[cloud](node | wrong) != ""


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nobody_gets_in_without_the_token(cloud: str) -> None:
    config = launcher(cloud)
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "--env-file=/home/ubuntu/ich-ray.env" in config["docker"]["run_options"]
    (fetch,) = config["initialization_commands"]
    assert fetch.startswith("umask 077 &&")
    assert fetch.endswith("> /home/ubuntu/ich-ray.env")
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    nodes = config["available_node_types"].values()
    assert all(
        node["node_config"].keys() & {"IamInstanceProfile", "serviceAccounts"} for node in nodes
    )


def autoscaling(where: str) -> AutoscalingConfig:
    """Read a cluster as Ray's autoscaler does."""
    if where in CLOUDS:
        config = prepared(launcher(where))
    else:
        cluster = yaml.safe_load((ROOT / "cluster" / "kuberay" / "raycluster.yaml").read_text())
        cluster["metadata"]["namespace"] = "default"
        config = _derive_autoscaling_config_from_ray_cr(cluster)
    return AutoscalingConfig(config, skip_content_hash=True)


def launched(where: str, need: dict[str, float], count: int, failed: str = "") -> dict[str, int]:
    """Ask Ray's own scheduler what it would start for so many requests."""
    config = autoscaling(where)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(need) for _ in range(count)]
        ),
        cloud_resource_availabilities={failed: 0.0},
        recoverable_resource_availabilities={failed: 0.0},
    )
    reply = ResourceDemandScheduler(None).schedule(request)
    found: dict[str, int] = {}
    for launch in reply.to_launch:
        kind = launch.instance_type.replace("-", "_")
        found[kind] = found.get(kind, 0) + launch.count
    return {kind: count for kind, count in found.items() if not kind.startswith("head")}


EVERYWHERE = pytest.mark.parametrize("where", [*CLOUDS, "kuberay"])


@EVERYWHERE
def test_a_cluster_without_work_is_its_head_alone(where: str) -> None:
    config = autoscaling(where)
    assert launched(where, {"CPU": 1}, 0) == {}
    assert config.get_idle_timeout_s() == 300
    assert config.get_node_resources(config.get_head_node_type())["CPU"] == 0


@EVERYWHERE
def test_spot_nodes_come_first_and_then_those_on_demand(where: str) -> None:
    gpu, cpu = {"GPU": 1.0, "CPU": 8.0}, {"CPU": 16.0}
    assert launched(where, gpu, 2) == {"gpu_spot": 2}
    assert launched(where, gpu, 6) == {"gpu_spot": 4, "gpu_on_demand": 2}
    assert launched(where, cpu, 2) == {"cpu_spot": 2}
    spot = "gpu-spot" if where == "kuberay" else "gpu_spot"
    assert launched(where, gpu, 2, failed=spot) == {"gpu_on_demand": 2}


@EVERYWHERE
def test_parts_of_an_ingest_start_nodes_without_a_gpu(where: str) -> None:
    slices = max(corpus.slices_per_part for corpus in PRODUCTION.corpora.values())
    need = {"CPU": 1.0, "memory": float(WORKER_BYTES + slices * BYTES_PER_SLICE)}
    assert launched(where, need, 1) == {"cpu_spot": 1}
    assert launched(where, need, 128) == {"cpu_spot": 8}


@EVERYWHERE
def test_a_pool_of_cpus_gets_as_many_nodes_as_the_settings_promise(where: str) -> None:
    promised = {n: w.max for n, w in PRODUCTION.cluster.workers.items() if not w.gpus}
    found = launched(where, {"CPU": 16.0}, 100)
    assert {name: found.get(name, 0) for name in promised} == promised


@EVERYWHERE
def test_the_settings_beside_them_fit_the_largest_cluster(where: str) -> None:
    models = PRODUCTION.models.values()
    for processes in [PRODUCTION.predict.actors, *(model.num_workers for model in models)]:
        # Each holds a GPU, a node has one; a process more than fits would wait for ever.
        assert sum(launched(where, {"GPU": 1.0, "CPU": 1.0}, processes).values()) == processes
    assert sum(launched(where, {"GPU": 1.0, "CPU": 1.0}, 100).values()) == 8
