"""What a process that computes has in its environment: how it gives memory back, and its priority.

By default memory goes back too soon for a network: glibc maps each large tensor anew and unmaps it
when it is freed, so every pass touches fresh pages: of a whole slice of 512 x 512 through
drn_d_narrow that is 40 % of the time.
"""

from collections.abc import Mapping

KEEP_FREED_MEMORY: Mapping[str, str] = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    # Threads with heaps of their own would map what is larger than 64 MB all the same.
    "MALLOC_ARENA_MAX": "1",
}
"""Environment of a process that keeps the memory of freed tensors for the next ones: it holds on to
the most that it ever had. Read when the process starts, by glibc alone (mallopt(3)): told later, by
mallopt, it no longer reaches the threads of a Ray worker."""

FULL_PRIORITY: Mapping[str, str] = {"RAY_worker_niceness": "0"}
"""Ray starts its workers with a niceness of 15, which each reads from its environment. A process
that others wait for at every step should not give way to whatever else its node does."""


def training_environment(*, use_gpu: bool) -> dict[str, str]:
    """Return what a process of a training has in its environment: on a GPU torch keeps memory.

    >>> training_environment(use_gpu=True)
    {'RAY_worker_niceness': '0'}
    """
    return {**FULL_PRIORITY, **({} if use_gpu else KEEP_FREED_MEMORY)}
