"""Hosts on one Linux machine, for tests and a developer's desk: network namespaces on a bridge.

Each host has its own address, name, processes, shared memory and temporary folder of Ray; ending
its first process is a power cut. The bridge lies in a namespace of its own without any way out, so
nothing that a host sends leaves the machine, and nothing of it is seen outside.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ich_ray.errors import SurroundingsError

NETWORK = "10.77.0"
"""Of the bridge, /24: seen by its hosts alone."""

_TOOLS = ("unshare", "nsenter", "ip", "mount", "bash")
_READY_S = 10.0

_CHILDREN: list["subprocess.Popen[bytes]"] = []
"""Kept, since Python warns of a running process that nobody holds."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, and when it started: numbers are used again."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Describe a running process."""
        return cls(pid, _started(pid))

    @property
    def runs(self) -> bool:
        """Whether it is still there, and no other has its number."""
        return bool(self.started) and _started(self.pid) == self.started

    def kill(self) -> None:
        """End it, and all that was started in its namespaces, as by a power cut."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        for child in _CHILDREN:
            child.poll()


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the network."""

    name: str
    address: str
    first: Process
    """Its process 1, as this machine numbers it."""

    def command(self, words: Sequence[str], *, folder: Path | None = None) -> list[str]:
        """Return what runs a command on the host.

        Args:
            words: The command.
            folder: That it starts in; this process's own if None.
        """
        where = [f"--wd={folder or Path.cwd()}"]
        spaces = ["--mount", "--uts", "--net", "--pid"]
        return ["nsenter", f"--target={self.first.pid}", *spaces, *where, "--", *words]

    def processes(self) -> dict[int, str]:
        """Return the processes of the host: this machine's number -> command line."""
        space = os.readlink(f"/proc/{self.first.pid}/ns/pid")
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            # It may end while it is looked at.
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/pid") == space:
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = words.decode(errors="replace").strip()
        return found


def refusal() -> str:
    """Return why no hosts can be made here, or an empty text."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"there is no {', '.join(missing)}: install util-linux and iproute2 (Linux only)"
    trial = "ip link add tried0 type bridge && mount -t tmpfs tmpfs /dev/shm"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "bash", "-c", trial],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode == 0:
        return ""
    said = (tried.stderr.strip().splitlines() or ["no word"])[-1]
    return f"namespaces are not allowed here ({said}): run as root, or in a privileged container"


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge, and what is needed to put hosts on it."""

    hub: Process
    folder: Path
    """Of the hosts' own files; its path must be short, since Ray keeps sockets below it."""

    @classmethod
    def make(cls, folder: Path, numbers: Mapping[str, int]) -> "Network":
        """Make a network without hosts.

        Args:
            folder: Of the hosts' own files.
            numbers: Name -> last number of the address of every host that will be.

        Raises:
            SurroundingsError: This machine or this user may not.
        """
        said = refusal()
        if said:
            raise SurroundingsError(f"cannot make hosts on this machine: {said}")
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{NETWORK}.{n} {name}" for name, n in numbers.items())]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        (folder / "resolv.conf").write_text("")
        hub = _spawned(["unshare", "--net", "--", "sleep", "infinity"])
        network = cls(hub, folder)
        try:
            network.on_bridge("ip link add br0 type bridge")
            network.on_bridge("ip link set br0 up")
        except SurroundingsError:
            hub.kill()
            raise
        return network

    def add(self, name: str, number: int) -> Host:
        """Switch a host on.

        Args:
            name: Of the host.
            number: The last of its address, 1 to 254.
        """
        own = self.folder / name
        for part in ("ray", "tmp"):
            (own / part).mkdir(parents=True, exist_ok=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        mounts = [
            f"hostname {shlex.quote(name)}",
            "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
            f"mount --bind {shlex.quote(str(own / 'ray'))} /tmp/ray",
            f"mount --bind {shlex.quote(str(self.folder / 'hosts'))} /etc/hosts",
            f"mount --bind {shlex.quote(str(self.folder / 'resolv.conf'))} /etc/resolv.conf",
            # Process 1: bash reaps whatever was left alone.
            "while :; do sleep 3600 & wait $!; done",
        ]
        outer = _spawned(
            [
                *("unshare", "--net", "--mount", "--uts", "--pid", "--propagation=private"),
                *("--fork", "--mount-proc", "--kill-child=KILL"),
                *("--", "bash", "-c", " && ".join(mounts)),
            ]
        )
        try:
            host = Host(name, f"{NETWORK}.{number}", _child_of(outer))
            self._connect(host, number)
        except SurroundingsError:
            outer.kill()
            raise
        return host

    def _connect(self, host: Host, number: int) -> None:
        # The cable of a host that lost its power may be there for a moment still.
        with contextlib.suppress(SurroundingsError):
            self.on_bridge(f"ip link del v{number}")
        inside = ["nsenter", f"--target={host.first.pid}", "--net", "--"]
        self.on_bridge(f"ip link add v{number} type veth peer name eth0 netns {host.first.pid}")
        self.on_bridge(f"ip link set v{number} master br0")
        self.on_bridge(f"ip link set v{number} up")
        for line in ("addr add {}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _run([*inside, "ip", *line.format(host.address).split()])
        mounted = Path(f"/proc/{host.first.pid}/mountinfo")
        _wait_for(lambda: " /etc/resolv.conf " in mounted.read_text(), host.name)

    def cut(self, host: Host) -> None:
        """Take the host's link down."""
        self.on_bridge(f"ip link set {_port(host)} down")

    def mend(self, host: Host) -> None:
        """Take the host's link up again."""
        self.on_bridge(f"ip link set {_port(host)} up")

    def on_bridge(self, line: str) -> None:
        """Run a command where the bridge is."""
        _run(["nsenter", f"--target={self.hub.pid}", "--net", "--", *line.split()])


def _port(host: Host) -> str:
    return f"v{host.address.rsplit('.', 1)[1]}"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SurroundingsError(
            f"cannot make a host of this machine's network: {' '.join(command[3:])} said "
            f"{done.stderr.strip()!r}"
        )


def _spawned(command: Sequence[str]) -> Process:
    """Start a process that outlives this one, and wait until it has its own network."""
    started = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _CHILDREN.append(started)
    here = os.readlink("/proc/self/ns/net")
    _wait_for(lambda: os.readlink(f"/proc/{started.pid}/ns/net") != here, command[0])
    return Process.of(started.pid)


def _child_of(outer: Process) -> Process:
    path = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    _wait_for(lambda: bool(path.read_text().split()), "unshare")
    return Process.of(int(path.read_text().split()[0]))


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.01)
    raise SurroundingsError(f"{what} did not come up within {_READY_S:g} s; run the command again")


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
