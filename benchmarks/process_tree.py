"""Processes below one: those of a name, and the CPU time and peak memory of all of a command."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERVAL_S = 0.25
"""Between two looks at the tree: what a process does in its last interval is lost."""


@dataclass(kw_only=True)
class Usage:
    """What a command took."""

    cpu_s: float
    """User and system time over all processes, daemons of Ray included."""

    wall_s: float
    worker_peak_mb: float
    """Largest peak of resident memory of a Ray worker, or of what a worker started."""

    main_peak_mb: float
    """Of the command's own process."""

    started_ray: bool
    output: str


@dataclass
class _Seen:
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    worker: bool = False
    raylet: bool = False


@dataclass
class _Tree:
    root: psutil.Process
    seen: dict[tuple[int, float], _Seen] = field(default_factory=dict)

    def look(self) -> None:
        """Note the times of every process that is alive."""
        try:
            members = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        workers: set[int] = set()
        for process in members:  # parents come before their children
            try:
                with process.oneshot():
                    times, title = process.cpu_times(), " ".join(process.cmdline())
                    of_worker = title.startswith("ray::") or process.ppid() in workers
                    status = Path(f"/proc/{process.pid}/status").read_text()
            except (psutil.Error, OSError):
                continue
            if of_worker:
                workers.add(process.pid)
            one = self.seen.setdefault((process.pid, process.create_time()), _Seen())
            one.cpu_s = max(one.cpu_s, times.user + times.system)
            one.peak_mb = max(one.peak_mb, _peak_mb(status))
            one.worker = one.worker or of_worker
            one.raylet = one.raylet or title.split(" ")[0].endswith("/raylet")


def workers_of(name: str) -> list[psutil.Process]:
    """Return the processes below this one whose title begins so, as a Ray actor's does."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(name):
                found.append(process)
    return found


def run(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command to its end and return what it took.

    Raises:
        RuntimeError: It failed; the end of its output is in the message.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
        tree = _Tree(psutil.Process(process.pid))
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            tree.look()
            time.sleep(INTERVAL_S)
        # It has ended and is not yet waited for: its times are still there.
        next(iter(tree.seen.values())).cpu_s = sum(tree.root.cpu_times()[:2])
        wall_s = time.monotonic() - started
        process.wait()
        log.seek(0)
        output = log.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output[-2000:]}")
    seen = list(tree.seen.values())
    return Usage(
        cpu_s=sum(one.cpu_s for one in seen),
        wall_s=wall_s,
        worker_peak_mb=max((one.peak_mb for one in seen if one.worker), default=0.0),
        main_peak_mb=seen[0].peak_mb,
        started_ray=any(one.raylet for one in seen),
        output=output,
    )


def _peak_mb(status: str) -> float:
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
