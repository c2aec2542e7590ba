import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.capacity import Capacity, Need, Nodes, Process, capacity, refuse_unfit, room
from ich_ray.errors import ConfigError

GB = 10**9
KINDS = ("A10G", "H100")

processes = st.builds(
    Process,
    cpus=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    gpus=st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.6, 1.0, 2.0]),
    gpu_kind=st.sampled_from(["", *KINDS]),
    memory=st.integers(1, 3),
)
nodes = st.builds(
    Nodes,
    cpus=st.integers(0, 4).map(float),
    gpus=st.integers(0, 3).map(float),
    gpu_kinds=st.sets(st.sampled_from(KINDS), max_size=1).map(frozenset),
    memory=st.integers(0, 6),
    count=st.integers(1, 2),
)


def most_by_trying(process: Process, cluster: list[Nodes]) -> int:
    """Pack one process after the other, GPU by GPU, in every order of nodes; keep the best."""
    single = [node for node in cluster for _ in range(node.count)]
    state = [[n.cpus, n.memory, *([1.0] * int(n.gpus))] for n in single]
    kinds = [
        not process.gpus or not process.gpu_kind or process.gpu_kind in n.gpu_kinds for n in single
    ]
    best, seen = 0, {tuple(map(tuple, state))}
    front = [(0, state)]
    while front:
        count, now = front.pop()
        best = max(best, count)
        for i in range(len(now)):
            placed = place(process, now[i]) if kinds[i] else None
            if placed is None:
                continue
            following = [*now[:i], placed, *now[i + 1 :]]
            key = tuple(map(tuple, following))
            if key not in seen:
                seen.add(key)
                front.append((count + 1, following))
    return best


def place(process: Process, node: list[float]) -> list[float] | None:
    cpus, memory, *gpus = node
    if cpus < process.cpus or memory < process.memory:
        return None
    if process.gpus >= 1:
        free = [d for d, share in enumerate(gpus) if share == 1][: int(process.gpus)]
        if len(free) < process.gpus:
            return None
        gpus = [0.0 if d in free else share for d, share in enumerate(gpus)]
    elif process.gpus:
        fitting = [d for d, share in enumerate(gpus) if share >= process.gpus - 1e-6]
        if not fitting:
            return None
        gpus[fitting[0]] = round(gpus[fitting[0]] - process.gpus, 6)
    return [cpus - process.cpus, memory - process.memory, *gpus]


@settings(deadline=None)
@given(processes, st.lists(nodes, max_size=3))
def test_the_room_is_what_packing_one_by_one_finds(process: Process, cluster: list[Nodes]) -> None:
    assert room(process, cluster) == most_by_trying(process, cluster)


@settings(deadline=None)
@given(processes, st.lists(nodes, min_size=1, max_size=3), st.integers(1, 8))
def test_what_packing_finds_is_never_refused_and_nothing_else_passes(
    process: Process, cluster: list[Nodes], count: int
) -> None:
    need = Need(what="predict.actors", processes=count, each=process)
    has = Capacity(now=tuple(cluster), at_most=tuple(cluster))
    if most_by_trying(process, cluster) >= count:
        refuse_unfit(need, has)
    else:
        with pytest.raises(ConfigError, match=f"predict.actors={count} needs"):
            refuse_unfit(need, has)


@given(processes, st.lists(nodes, max_size=3), st.lists(nodes, max_size=2))
def test_a_cluster_that_grows_has_never_less_room(
    process: Process, now: list[Nodes], groups: list[Nodes]
) -> None:
    has = capacity(now, groups)
    assert room(process, has.at_most) >= room(process, has.now) == room(process, now)


def test_cpu_and_gpu_on_two_nodes_are_no_room_for_a_process_that_needs_both() -> None:
    apart = [Nodes(cpus=8.0, memory=GB), Nodes(cpus=0.0, gpus=1.0, memory=GB)]
    assert room(Process(cpus=1.0, gpus=1.0), apart) == 0


def test_nodes_that_are_there_count_once_by_their_group_or_by_their_shape() -> None:
    group = Nodes(cpus=8.0, gpus=1.0, memory=30 * GB, count=4, group="gpu")
    marked = Nodes(cpus=8.0, gpus=1.0, memory=29 * GB, group="gpu")
    unmarked = Nodes(cpus=8.0, gpus=1.0, memory=28 * GB)
    head = Nodes(cpus=2.0, memory=GB)
    process = Process(cpus=8.0, gpus=1.0)
    for there in ([head], [head, marked], [head, unmarked], [head, marked, unmarked]):
        assert room(process, capacity(there, [group]).at_most) == 4
    other = Nodes(cpus=8.0, gpus=1.0, memory=28 * GB, group="spot")
    assert room(process, capacity([head, other], [group]).at_most) == 5


def refusal(need: Need, has: Capacity) -> str:
    with pytest.raises(ConfigError) as raised:
        refuse_unfit(need, has)
    return str(raised.value)


def test_a_refusal_gives_the_figures_and_what_to_change() -> None:
    head = Nodes(cpus=2.0, memory=4 * GB)
    group = Nodes(cpus=4.0, gpus=1.0, gpu_kinds=frozenset({"A10G"}), memory=14 * GB, count=5)
    actor = Process(gpus=1.0, gpu_kind="A10G", memory=2 * GB)
    need = Need(what="predict.actors", processes=8, each=actor)
    assert refusal(need, capacity([head], [group])) == (
        "predict.actors=8 needs 8 x (1 CPU + 1 GPU of kind A10G + 2.0 GB), each on one node; "
        "the cluster has 2 CPUs, 0 GPUs, 4.0 GB on 1 node, and can grow to 22 CPUs, "
        "5 GPUs (A10G), 74.0 GB on 6 nodes: room for 5; set it to 5 or less, or let the cluster "
        "have more (cluster.num_cpus of one that is started here; else more nodes, or max of its "
        "cluster.workers)"
    )


def test_a_kind_that_is_not_there_is_answered_with_those_that_are() -> None:
    has = capacity([Nodes(cpus=8.0, gpus=2.0, gpu_kinds=frozenset({"T4"}), memory=GB)], [])
    need = Need(what="predict.actors", each=Process(gpus=1.0, gpu_kind="H100"))
    wanted = "no node has a GPU of kind H100; kinds there: T4; let the cluster have more"
    assert wanted in refusal(need, has)


def test_memory_that_no_node_has_is_answered_with_the_largest_node_and_advice() -> None:
    has = capacity([Nodes(cpus=2.0, memory=4 * GB), Nodes(cpus=2.0, memory=6 * GB)], [])
    need = Need(
        what="a part of a with 9000 slices",
        each=Process(memory=14 * GB),
        advice="lower corpora.a.slices_per_part",
        pool=False,
    )
    said = refusal(need, has)
    assert said.startswith("a part of a with 9000 slices needs 1 CPU + 14.0 GB, each on one node")
    assert "not one fits, the largest node has 2 CPUs, 0 GPUs, 6.0 GB; lower corpora.a" in said


def test_a_cluster_without_nodes_has_no_room() -> None:
    assert "on 0 nodes" in refusal(Need(what="predict.actors", each=Process()), capacity([], []))


def test_a_process_that_needs_nothing_fits_any_node_any_number_of_times() -> None:
    assert room(Process(cpus=0.0), [Nodes(cpus=0.0)]) > 10_000
    assert math.isfinite(room(Process(cpus=0.0), [Nodes(cpus=0.0)]))
