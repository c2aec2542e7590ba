"""What each node of a cluster must have before a stage begins."""

import os
from collections.abc import Sequence
from typing import Any

from ich_ray.errors import ConfigError, SurroundingsError

ANSWER_S = 120.0
_ADVICE = (
    "cluster.node_variables names what every node must have; set it in the environment of the "
    "nodes' own processes (a Kubernetes secret, the launcher's ray start command), or take it out "
    "where an instance role gives access"
)


def check_own_variables(names: Sequence[str]) -> None:
    """Refuse a driver without an environment variable that every node must have.

    Raises:
        ConfigError: It names the variables.
    """
    lacks = [name for name in names if not os.environ.get(name)]
    if lacks:
        raise ConfigError(f"this process lacks {', '.join(lacks)}: {_ADVICE}")


def check_variables(names: Sequence[str]) -> None:
    """Refuse a cluster of which a node lacks an environment variable; values are never looked at.

    Args:
        names: Of the variables, e.g. of the store's keys.

    Raises:
        ConfigError: It names the nodes and the variables.
        SurroundingsError: A node does not answer.
    """
    if not names:
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Within the function: Ray decorates what it is given, and this module must load without it.
    @ray.remote(num_cpus=0)
    def lacking(wanted: Sequence[str]) -> list[str]:
        return [name for name in wanted if not os.environ.get(name)]

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    answers: dict[str, Any] = {
        address: lacking.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(list(names))
        for node, address in nodes.items()
    }
    try:
        found = dict(zip(answers, ray.get(list(answers.values()), timeout=ANSWER_S), strict=True))
    except ray.exceptions.GetTimeoutError as error:
        raise SurroundingsError(
            f"the nodes {', '.join(answers)} did not all say within {ANSWER_S:g} s whether they "
            "have cluster.node_variables; look at the cluster, then run the same command again"
        ) from error
    lack = [f"node {address} lacks {', '.join(names)}" for address, names in found.items() if names]
    if lack:
        raise ConfigError(f"{'; '.join(lack)}: {_ADVICE}")
