"""Reads that had to be repeated: counted here, and told by whoever runs the work."""

import threading

_lock = threading.Lock()
_count = 0


def add() -> None:
    """Count one more; threads that read ahead call it."""
    global _count
    with _lock:
        _count += 1


def taken() -> int:
    """Return how many there were since the last call."""
    global _count
    with _lock:
        found, _count = _count, 0
    return found
