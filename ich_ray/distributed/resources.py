"""What the joined cluster has, and what it may grow to; the decision is ich_ray.capacity's.

Ray is imported where it is asked: a run that finds nothing to do pays for no cluster.
"""

import importlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ich_ray.capacity import GB, UNBOUNDED, Capacity, Need, Nodes, Process, capacity, refuse_unfit
from ich_ray.config import ClusterConfig
from ich_ray.errors import ConfigError

KIND = "accelerator_type:"
"""Before the kind of a node's GPUs, among its resources."""

_ASK_S = 1.0
_log = logging.getLogger(__name__)

NodeResources = Mapping[str, float | int]

GROUP = "ray.io/node-group"
"""Label with which an autoscaler marks the nodes that it started."""

DRIVER = "_ray_internal_job_actor_"
"""Before a submission's id: the actor that holds what `ray job submit` reserves for a driver."""


def check_fits(config: ClusterConfig, *needs: Need) -> None:
    """Refuse what could never be placed on this cluster, before anything is started.

    Nodes may be about to join, since the head was started a moment ago: it is asked for a while.

    Raises:
        ConfigError: One of the needs does not fit, by the figures of the cluster at its largest.
    """
    patience_s = 0.0 if config.address == "local" else config.join_s
    began, said = time.monotonic(), ""
    while refusal := _refusal(needs, capacity_of(config)):
        if time.monotonic() - began >= patience_s:
            raise refusal
        if not said:
            said = str(refusal)
            _log.warning("%s; waits %g s for nodes to join", said, patience_s)
        time.sleep(min(_ASK_S, patience_s))


def _refusal(needs: Sequence[Need], has: Capacity) -> ConfigError | None:
    try:
        for need in needs:
            refuse_unfit(need, has)
    except ConfigError as refusal:
        return refusal
    return None


def capacity_of(config: ClusterConfig) -> Capacity:
    """Read what the cluster has, less what this run's own driver holds, and what it may add."""
    import ray

    held = dict(_held_by_driver())
    now = [
        _nodes(node["Resources"], held.get(node["NodeID"], {}), node.get("Labels") or {})
        for node in ray.nodes()
        if node["Alive"]
    ]
    return capacity(now, [*_told_by_cluster(), *_told_by_settings(config)])


def cluster_cpus() -> float:
    """Return how many CPUs there are now."""
    import ray

    return float(ray.cluster_resources().get("CPU", 0))


def options(process: Process) -> dict[str, Any]:
    """Return a process as Ray's tasks and actors take it."""
    found: dict[str, Any] = {"num_cpus": process.cpus, "memory": process.memory}
    if process.gpus:
        found["num_gpus"] = process.gpus
        if process.gpu_kind:
            found["accelerator_type"] = process.gpu_kind
    return found


def _nodes(total: NodeResources, held: NodeResources, labels: Mapping[str, str]) -> Nodes:
    def left(name: str) -> float:
        return max(0.0, float(total.get(name, 0)) - float(held.get(name, 0)))

    return Nodes(
        cpus=left("CPU"),
        gpus=left("GPU"),
        gpu_kinds=_kinds(total),
        memory=int(left("memory")),
        group=_group(labels.get(GROUP, "")),
    )


def _group(name: str) -> str:
    # Names of Kubernetes have no underscores, those of TOML and of launchers rather no dashes.
    return name.replace("_", "-")


def _kinds(resources: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name.removeprefix(KIND) for name in resources if name.startswith(KIND))


def _told_by_cluster() -> Iterator[Nodes]:
    """Read what the cluster's autoscaler reported to it.

    Those of Ray 2.60 itself, the launcher's and KubeRay's, report nothing: `cluster.workers` does.
    """
    import ray

    config = ray._private.state.state.get_cluster_config()
    for group in () if config is None else config.node_group_configs:
        yield Nodes(
            cpus=float(group.resources.get("CPU", 0)),
            gpus=float(group.resources.get("GPU", 0)),
            gpu_kinds=_kinds(group.resources),
            memory=int(group.resources.get("memory", 0)),
            count=UNBOUNDED if group.max_count < 0 else group.max_count,
            group=_group(group.name),
        )


def _told_by_settings(config: ClusterConfig) -> Iterator[Nodes]:
    for name, workers in config.workers.items():
        yield Nodes(
            cpus=workers.cpus,
            gpus=workers.gpus,
            gpu_kinds=frozenset({workers.gpu_kind} - {""}),
            memory=int(workers.memory_gb * GB),
            count=workers.max,
            group=_group(name),
        )


def is_over(job: str) -> bool:
    """Tell whether the driver of a Ray job has ended, for one of its actors that lives on.

    Args:
        job: Its id, in hexadecimal digits.
    """
    import ray

    return any(row["IsDead"] for row in ray._private.state.state.job_table() if row["JobID"] == job)


def _held_by_driver() -> Iterator[tuple[str, dict[str, float]]]:
    """Find what a submitted job's own entry point holds as long as it runs, and on which node."""
    import ray

    # Ray's own tools parse these rows in the same way; its generated classes have no types.
    gcs: Any = importlib.import_module("ray.core.generated.gcs_pb2")
    accessor = ray._private.state.state._connect_and_get_accessor()
    mine = ray.get_runtime_context().get_job_id()
    jobs = (gcs.JobTableData.FromString(row) for row in accessor.get_job_table())
    submissions = [
        job.config.metadata["job_submission_id"]
        for job in jobs
        if job.job_id.hex() == mine and "job_submission_id" in job.config.metadata
    ]
    if not submissions:
        return
    for row in accessor.get_actor_table(None, None):
        actor = gcs.ActorTableData.FromString(row)
        if actor.name == DRIVER + submissions[0] and actor.state == gcs.ActorTableData.ALIVE:
            yield actor.address.node_id.hex(), dict(actor.required_resources)
