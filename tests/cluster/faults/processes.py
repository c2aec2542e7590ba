"""Processes of the tests' own cluster, and their sudden ends."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil

from benchmarks.process_tree import workers_of

PATIENCE_S = 90


@contextlib.contextmanager
def killed_once(
    name: str, *, when: Callable[[psutil.Process], bool], by: signal.Signals = signal.SIGKILL
) -> Iterator[list[int]]:
    """Kill one process of this name as soon as a condition holds; yields whom it killed."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not killed and not over.wait(0.005) and time.monotonic() < deadline:
            for process in workers_of(name):
                if when(process):
                    process.send_signal(by)
                    killed.append(process.pid)
                    break

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
