"""Which steps of a graph start now: what they need is done, and they fit the cluster together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ich_ray.capacity import Need, Nodes, Process

_SLACK = 1e-9
"""Shares of a GPU are no exact binary numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A step of a graph."""

    name: str
    after: frozenset[str]
    """Names of the steps that must be done before."""

    need: Need
    """What it reserves of the cluster while it runs."""

    lock: str = ""
    """Of all steps with the same one, one runs at a time; empty: it waits for none."""


def startable(
    graph: Sequence[Node], *, codes: Mapping[str, int], running: Collection[str]
) -> list[Node]:
    """Return the steps that could start if they had room, in the order of the graph.

    Args:
        graph: Each step after those that it needs.
        codes: Exit codes of the steps that ended, 0 of those that were done before.
        running: Those that run.
    """
    done = {name for name, code in codes.items() if code == 0}
    locks = {node.lock for node in graph if node.name in running} - {""}
    found = []
    for node in graph:
        begun = node.name in codes or node.name in running
        if not begun and node.after <= done and node.lock not in locks:
            found.append(node)
            locks |= {node.lock} - {""}
    return found


def blocked(graph: Sequence[Node], failed: Collection[str]) -> list[str]:
    """Return the steps that can not run since one that they need, near or far, failed.

    >>> need = Need(what="a step", each=Process())
    >>> graph = [Node(name=n, after=frozenset(a), need=need) for n, a in (("a", ""), ("b", "a"))]
    >>> blocked(graph, {"a"})
    ['b']
    """
    lost = set(failed)
    for node in graph:
        if node.after & lost:
            lost.add(node.name)
    return [node.name for node in graph if node.name in lost - set(failed)]


def fit_together(needs: Iterable[Need], nodes: Sequence[Nodes]) -> bool:
    """Tell whether the processes of several steps find places at once, the largest placed first.

    It never says yes to what does not fit, and may say no to what a cleverer packing would fit:
    the step then starts a little later.
    """
    wanted = [need.each for need in needs for _ in range(need.processes)]
    wanted.sort(key=lambda each: (each.gpus, each.memory, each.cpus), reverse=True)
    # A group may be without a limit: no process needs more than a node of its own.
    free = [_Free.of(each) for each in nodes for _ in range(min(each.count, len(wanted)))]
    return all(any(node.takes(process) for node in free) for process in wanted)


def whole_of(*phases: Need) -> Need:
    """Return what covers each of the phases of a step, which follow each other.

    Args:
        phases: At least one; the first names the setting.
    """
    return replace(
        phases[0],
        processes=max(need.processes for need in phases),
        each=Process(
            cpus=max(need.each.cpus for need in phases),
            gpus=max(need.each.gpus for need in phases),
            gpu_kind=next((need.each.gpu_kind for need in phases if need.each.gpu_kind), ""),
            memory=max(need.each.memory for need in phases),
        ),
    )


@dataclass(slots=True)
class _Free:
    """What is left of one node."""

    cpus: float
    memory: int
    gpus: list[float]
    """Of each GPU the share that is left."""

    kinds: frozenset[str]

    @classmethod
    def of(cls, node: Nodes) -> "_Free":
        return cls(node.cpus, node.memory, [1.0] * int(node.gpus), node.gpu_kinds)

    def takes(self, process: Process) -> bool:
        """Place a process here if there is room."""
        left = self._gpus_after(process)
        if left is None or process.cpus > self.cpus + _SLACK or process.memory > self.memory:
            return False
        self.cpus, self.memory, self.gpus = (
            self.cpus - process.cpus,
            self.memory - process.memory,
            left,
        )
        return True

    def _gpus_after(self, process: Process) -> list[float] | None:
        if process.gpus and process.gpu_kind and process.gpu_kind not in self.kinds:
            return None
        left = sorted(self.gpus)
        for share in [process.gpus] if process.gpus < 1 else [1.0] * round(process.gpus):
            # The fullest that still has room: a share lies on one GPU.
            place = next((i for i, gpu in enumerate(left) if gpu >= share - _SLACK), None)
            if share and place is None:
                return None
            if share and place is not None:
                left[place] -= share
        return left
