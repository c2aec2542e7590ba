"""Whether the processes of a stage fit the nodes of a cluster, as it is and as it may grow.

What never fits would wait for ever, without an error. A process must fit one node whole.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ich_ray.errors import ConfigError

GB = 1e9
UNBOUNDED = 1_000_000
"""Nodes of a group that grows without a limit of its own."""

_SLACK = 1e-9
"""Shares of a GPU are no exact binary numbers: ten times 0.1 fit one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """What one process reserves, all of it on one node."""

    cpus: float = 1.0
    gpus: float = 0.0
    """A share of one GPU, or whole ones."""

    gpu_kind: str = ""
    """As Ray calls it, e.g. A10G; empty: any."""

    memory: int = 0
    """Bytes."""

    def __str__(self) -> str:
        """Return it for a person."""
        gpu = f"{self.gpus:g} GPU{f' of kind {self.gpu_kind}' if self.gpu_kind else ''}"
        parts = [f"{self.cpus:g} CPU", gpu if self.gpus else "", f"{self.memory / GB:.1f} GB"]
        return " + ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """Some equal nodes."""

    cpus: float
    gpus: float = 0.0
    gpu_kinds: frozenset[str] = frozenset()
    memory: int = 0
    """Bytes that processes may reserve; a group that does not say has none to reserve."""

    count: int = 1
    group: str = ""
    """Name of the group by which the cluster grows; empty: unknown, or none."""

    @property
    def shape(self) -> tuple[float, float, frozenset[str]]:
        """What tells apart nodes of unknown groups: their memory differs a little."""
        return self.cpus, self.gpus, self.gpu_kinds


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What a cluster has, and what it can grow to."""

    now: tuple[Nodes, ...]
    at_most: tuple[Nodes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Processes that a stage reserves at once.

    Reading and writing happen in these very processes: Ray Data is given the names of parts, which
    takes no task of its own, and Ray Train's controller reserves nothing.
    """

    what: str
    """The setting that says how many, e.g. `predict.actors`; or the work of a task."""

    each: Process
    processes: int = 1
    """Tasks need room for one: they wait for each other."""

    advice: str = ""
    """What else helps where not even one fits."""

    pool: bool = True
    """Whether `what` is a setting that can be lowered."""


def capacity(now: Sequence[Nodes], groups: Iterable[Nodes]) -> Capacity:
    """Join the nodes that are there with those that may come.

    Args:
        now: The nodes.
        groups: What the cluster may hold at most of each group, those that are there included.
    """
    coming = []
    for group in groups:
        here = sum(
            nodes.count
            for nodes in now
            if (nodes.group == group.group if nodes.group else nodes.shape == group.shape)
        )
        coming.append(replace(group, count=max(0, group.count - here)))
    return Capacity(now=tuple(now), at_most=(*now, *(group for group in coming if group.count)))


def room(process: Process, nodes: Iterable[Nodes]) -> int:
    """Return how many such processes fit at once.

    >>> room(Process(gpus=0.6), [Nodes(cpus=8.0, gpus=2.0)])
    2
    """
    return sum(each.count * _room_on_one(process, each) for each in nodes)


def _room_on_one(process: Process, node: Nodes) -> int:
    if process.gpus and process.gpu_kind and process.gpu_kind not in node.gpu_kinds:
        return 0
    limits = []
    if process.cpus:
        limits.append(math.floor(node.cpus / process.cpus + _SLACK))
    if process.memory:
        limits.append(node.memory // process.memory)
    if 0 < process.gpus < 1:
        # A share lies on one GPU.
        limits.append(int(node.gpus) * math.floor(1 / process.gpus + _SLACK))
    elif process.gpus:
        limits.append(math.floor(node.gpus / process.gpus + _SLACK))
    return max(0, min(limits, default=UNBOUNDED))


def refuse_unfit(need: Need, has: Capacity) -> None:
    """Refuse what could never be placed.

    Raises:
        ConfigError: It does not fit the cluster at its largest; the message gives the figures.
    """
    places = room(need.each, has.at_most)
    if places >= need.processes:
        return
    grows = "" if has.at_most == has.now else f", and can grow to {_total(has.at_most)}"
    wanted = (
        f"{need.what}={need.processes} needs {need.processes} x ({need.each})"
        if need.pool
        else f"{need.what} needs {need.each}"
    )
    why, advice = _why_not(need, has.at_most, places)
    instead = f"{advice}, or let" if advice else "let"
    raise ConfigError(
        f"{wanted}, each on one node; the cluster has {_total(has.now)}{grows}: {why}; {instead} "
        "the cluster have more (cluster.num_cpus of one that is started here; else more nodes, or "
        "max of its cluster.workers)"
    )


def _why_not(need: Need, nodes: Sequence[Nodes], places: int) -> tuple[str, str]:
    """Say why it does not fit, and which setting would make it."""
    if places:
        return f"room for {places}", f"set it to {places} or less"
    kind = need.each.gpu_kind
    if need.each.gpus and kind and not any(kind in each.gpu_kinds for each in nodes):
        known = sorted({name for each in nodes for name in each.gpu_kinds})
        return f"no node has a GPU of kind {kind}; kinds there: {', '.join(known) or 'none'}", ""
    largest = max(nodes, key=lambda n: (n.gpus, n.memory, n.cpus), default=Nodes(cpus=0.0))
    return f"not one fits, the largest node has {_one(largest)}", need.advice


def _one(node: Nodes) -> str:
    kinds = f" ({', '.join(sorted(node.gpu_kinds))})" if node.gpu_kinds else ""
    return f"{node.cpus:g} CPUs, {node.gpus:g} GPUs{kinds}, {node.memory / GB:.1f} GB"


def _total(nodes: Sequence[Nodes]) -> str:
    count = sum(each.count for each in nodes)
    whole = Nodes(
        cpus=math.fsum(each.count * each.cpus for each in nodes),
        gpus=math.fsum(each.count * each.gpus for each in nodes),
        gpu_kinds=frozenset[str]().union(*(each.gpu_kinds for each in nodes)),
        memory=sum(each.count * each.memory for each in nodes),
    )
    return f"{_one(whole)} on {count} node{'' if count == 1 else 's'}"
