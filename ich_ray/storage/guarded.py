"""A reusable process that decodes hostile bytes, so that no object takes its worker with it.

A decoder written in C may crash on a damaged object, run for ever, or unpack a few kilobytes to
gigabytes. What is not known to be harmless is therefore decoded by one long-lived child of the
worker. The child has limits of memory and, for each object, of CPU time, which unlike the clock
does not depend on what else a machine does; one that exceeds them or dies is replaced by another
for the next object. Only JSON and raw arrays come back:
the child has read what anyone may have written, so nothing of it is unpickled.
"""

import atexit
import contextlib
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from ich_ray.errors import InvalidExam, Reason, SurroundingsError

LIMIT_S = 10.0
"""For one object, of CPU time, unless the caller says that it may take more."""

SILENT_S = 60.0
"""For one object of that limit, of the clock: a decoder that waits takes no CPU time."""

LIMIT_BYTES = 2 * 1024**3
"""Of the child's address space, libraries included."""

_START_S = 120.0
"""For importing libraries on a busy machine, before the first object of its kind."""

_LARGEST_HEAD = 1 << 26
_RAISED, _OUT_OF_MEMORY = 70, 71
"""Exit codes of a child; decoders in C end theirs with other ones, or by a signal."""

_TOO_LARGE = "decoding it takes too much memory"
_TOO_SLOW = "decoding it takes too much time"
_KINDS = frozenset("biuf")

Answer = tuple[Any, Sequence[np.ndarray]]
"""What a guarded function returns: facts that JSON can say, and arrays."""


@dataclass(slots=True)
class Guard:
    """One child process; `call` is safe to use from several threads, one object at a time."""

    limit_s: float = LIMIT_S
    silent_s: float = SILENT_S
    limit_bytes: int = LIMIT_BYTES
    starts: int = field(default=0, init=False)
    """Children started so far."""

    _child: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _socket: socket.socket | None = field(default=None, init=False)
    _ready: set[str] = field(default_factory=set, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def call(
        self, function: str, data: bytes, *, time_factor: float = 1.0, **arguments: Any
    ) -> Answer:
        """Return what a function makes of an object, within the limits.

        Args:
            function: `module:name` of ours; it takes the bytes and the arguments, and returns an
                `Answer` or raises InvalidExam.
            data: The object.
            time_factor: On both limits of time: a volume is many slices.
            arguments: That JSON can say.

        Raises:
            InvalidExam: The function refused it, or it was too slow, too large, or ended the child.
            SurroundingsError: No child can be started.
        """
        with self._lock:
            try:
                return self._ask(function, data, time_factor, arguments)
            except _ChildDied:
                # An earlier object may have left the child damaged: judge this one in a new child.
                try:
                    return self._ask(function, data, time_factor, arguments)
                except _ChildDied as death:
                    raise InvalidExam(
                        Reason.DECODER_CRASHED, f"it ended the process that decoded it ({death})"
                    ) from None

    def close(self) -> None:
        """End the child, if there is one."""
        child, channel = self._child, self._socket
        self._child = self._socket = None
        self._ready.clear()
        if channel is not None:
            channel.close()
        if child is not None:
            child.kill()
            child.wait()

    def _ask(
        self, function: str, data: bytes, time_factor: float, arguments: dict[str, Any]
    ) -> Answer:
        channel = self._started()
        try:
            if function not in self._ready:
                _send(channel, {"import": function}, (), time.monotonic() + _START_S)
                _check(_receive(channel, time.monotonic() + _START_S)[0])
                self._ready.add(function)
            deadline = time.monotonic() + time_factor * self.silent_s
            limit_s = time_factor * self.limit_s
            request = {"function": function, "arguments": arguments, "limit_s": limit_s}
            _send(channel, request, (np.frombuffer(data, np.uint8),), deadline)
            head, arrays = _receive(channel, deadline)
        except TimeoutError:
            self.close()
            raise InvalidExam(Reason.TOO_SLOW, _TOO_SLOW) from None
        except (OSError, EOFError):
            child = self._child
            assert child is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1.0)
            code = child.returncode
            self.close()
            if code == -signal.SIGPROF:
                raise InvalidExam(Reason.TOO_SLOW, _TOO_SLOW) from None
            if code == _OUT_OF_MEMORY:
                raise InvalidExam(Reason.TOO_LARGE, _TOO_LARGE) from None
            if code == _RAISED:
                raise RuntimeError(f"{function} raised what it does not declare: a bug") from None
            raise _ChildDied(_name_of(code)) from None
        _check(head)
        return head["facts"], arrays

    def _started(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        ours, theirs = socket.socketpair()
        command = (
            f"from ich_ray.storage.guarded import serve; "
            f"serve({theirs.fileno()}, {self.limit_bytes})"
        )
        # Threads of a linear-algebra library would only take address space. What decoders print
        # quotes the objects.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-c", command],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            ours.close()
            raise SurroundingsError(
                f"no process can be started to decode objects ({type(error).__name__}); "
                "free memory or processes on this machine, then run the same command again"
            ) from error
        finally:
            theirs.close()
        self._socket = ours
        self.starts += 1
        return ours


class _ChildDied(Exception):
    """The child ended while it had an object."""


_GUARDS: dict[int, Guard] = {}


def guarded(function: str, data: bytes, *, time_factor: float = 1.0, **arguments: Any) -> Answer:
    """Call a function of ours on an object in this process's child (see `Guard.call`).

    A forked process starts a child of its own.
    """
    guard = _GUARDS.get(os.getpid())
    if guard is None:
        guard = _GUARDS.setdefault(os.getpid(), Guard())
        atexit.register(guard.close)
    return guard.call(function, data, time_factor=time_factor, **arguments)


def serve(descriptor: int, limit_bytes: int) -> None:
    """Answer requests until the other side is gone: the whole life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _leave
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel = socket.socket(fileno=descriptor)
    channel.settimeout(None)
    with contextlib.suppress(EOFError, OSError):
        while True:
            head, arrays = _receive(channel, None)
            if "import" in head:
                _function(head["import"])
                _send(channel, {}, (), None)
                continue
            # Nobody handles the signal of this timer, so that it ends any decoder.
            signal.setitimer(signal.ITIMER_PROF, head["limit_s"])
            # Popped, since two copies of a volume are more than the limit leaves room for.
            answer, results = _answer(head, arrays.pop().tobytes())
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(channel, answer, results, None)
            del results  # Or the next object would have less room.


def _leave(kind: type[BaseException], *_: object) -> None:
    os._exit(_OUT_OF_MEMORY if issubclass(kind, MemoryError) else _RAISED)


def _answer(head: dict[str, Any], data: bytes) -> tuple[dict[str, Any], Sequence[np.ndarray]]:
    try:
        facts, arrays = _function(head["function"])(data, **head["arguments"])
        return {"facts": facts}, [np.ascontiguousarray(array) for array in arrays]
    except InvalidExam as refusal:
        return {"reason": refusal.reason.value, "message": str(refusal)}, ()
    except MemoryError:
        return {
            "reason": Reason.TOO_LARGE.value,
            "message": "decoding it takes too much memory",
        }, ()


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _check(head: dict[str, Any]) -> None:
    if "reason" in head:
        raise InvalidExam(Reason(head["reason"]), head["message"])


def _name_of(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name


def _send(
    channel: socket.socket,
    head: dict[str, Any],
    arrays: Sequence[np.ndarray],
    deadline: float | None,
) -> None:
    described = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps({**head, "arrays": described}).encode()
    channel.settimeout(_left(deadline))
    channel.sendall(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        if array.size:
            channel.settimeout(_left(deadline))
            channel.sendall(array.data.cast("B"))


def _receive(
    channel: socket.socket, deadline: float | None
) -> tuple[dict[str, Any], list[np.ndarray]]:
    size = int.from_bytes(_read(channel, 8, deadline), "little")
    if size > _LARGEST_HEAD:
        raise EOFError
    head = json.loads(bytes(_read(channel, size, deadline)))
    arrays = []
    for name, shape in head.pop("arrays"):
        dtype = np.dtype(name)
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if dtype.kind not in _KINDS or not 0 <= size <= LIMIT_BYTES:
            raise EOFError
        array = np.frombuffer(_read(channel, size, deadline), dtype).reshape(shape)
        arrays.append(array)
    return head, arrays


def _read(channel: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        channel.settimeout(_left(deadline))
        count = channel.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return data


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
