"""How this process's memory is given back: by default too soon for a network on a CPU.

glibc maps each large tensor anew and unmaps it when it is freed, so every pass touches fresh pages:
of a whole slice of 512 x 512 through drn_d_narrow that is 40 % of the time.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Names in malloc.h of parameters that `mallopt` sets."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones.

    It then holds on to the most that it ever had. Threads share one heap: each of their own would
    map what is larger than 64 MB.

    Returns:
        Whether the C library could be told: glibc can, that of macOS needs no such word.

    Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1}
    return all([bool(mallopt(name, value)) for name, value in wanted.items()])
