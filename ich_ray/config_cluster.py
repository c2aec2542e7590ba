"""Where tables live, where work runs, and how a job is submitted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ich_ray.config_checks import at_least


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Where tables and checkpoints live."""

    root: str
    """Any fsspec URL or local folder, e.g. s3://ich/experiment-7."""

    endpoint_url: str = ""
    """An S3-compatible server, e.g. http://127.0.0.1:8333; empty for AWS."""

    max_attempts: int = 10
    """Attempts of one request before the store counts as away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Nodes of one kind that a cluster's autoscaler may start; Ray 2.60 does not tell.

    The name of the section is that of the node type of the launcher, or of KubeRay's worker group.
    """

    max: int
    """Nodes of this kind at most: max_workers, maxReplicas."""

    cpus: float
    memory_gb: float
    """What processes may reserve on one, GB: without what the object store holds."""

    gpus: float = 0.0
    gpu_kind: str = ""
    """As Ray calls it, e.g. A10G, L4, H100."""

    def __post_init__(self) -> None:
        """Check the figures."""
        at_least(0, self, "max", "cpus", "memory_gb", "gpus")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Which Ray cluster, and how much of it."""

    address: str = "local"
    """`local` starts one in this process's machine and ends it; `auto` joins the one around."""

    num_cpus: int = 2
    """CPUs of a cluster that is started here."""

    object_store_mb: int = 300
    """Shared memory of a cluster that is started here, MB."""

    cache: str = ""
    """Folder on each node for decoded slices; empty: in the system's temporary folder."""

    node_variables: tuple[str, ...] = ()
    """Environment variables that every node must have, e.g. AWS_SECRET_ACCESS_KEY; names only."""

    lease_s: float = 60.0
    """After as long without a sign of life another run may take over what one was writing."""

    join_s: float = 120.0
    """What does not fit waits as long for nodes to join before it is refused, as after a restart
    of the head: Ray's nodes leave a silent one after 60 s, and are started anew then. Not for those
    of a cluster that is started here."""

    workers: Mapping[str, WorkersConfig] = field(default_factory=dict)
    """What a cluster that scales may add; without it, only what is there counts as room."""

    def __post_init__(self) -> None:
        """Check the lease: its holder beats four times within it, each a request to the store."""
        at_least(1, self, "lease_s")
        at_least(0, self, "join_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitConfig:
    """How `ich-ray submit` starts a stage as a job of a cluster; changes no result."""

    code: Literal["upload", "image"] = "upload"
    """Send the packages of this installation along, or use those of the nodes' image."""

    dependencies: Literal["image", "lock"] = "image"
    """Those of the nodes' image, or install constraints.txt on each node first (minutes)."""

    driver_cpus: float = 0.0
    """Reserved for the job's own process; 0 lets it run on a head without CPUs."""

    driver_memory_gb: float = 0.0
    """Reserved for the job's own process, GB."""

    driver_resources: Mapping[str, float] = field(default_factory=dict)
    """Custom resources of the node that the job's own process needs."""

    attempts: int = 1
    """How often a job is started that the surroundings ended (exit code 5)."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least(0, self, "driver_cpus", "driver_memory_gb")
        at_least(1, self, "attempts")
