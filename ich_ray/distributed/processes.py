"""Commands beside each other, and one after another where one needs the other."""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ich_ray.capacity import Nodes
from ich_ray.step_graph import Node, fit_together, startable

POLL_S = 0.2
LET_GO_S = 60.0
"""That a process which is told to stop may take to release what it writes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Walked:
    """What came of a graph of steps."""

    skipped: tuple[str, ...]
    """They were done before."""

    codes: Mapping[str, int]
    """Step that ran -> its exit code, negative of one that a signal ended."""

    @property
    def done(self) -> set[str]:
        """Return the steps that are done now."""
        return {*self.skipped, *(name for name, code in self.codes.items() if code == 0)}

    @property
    def failed(self) -> dict[str, int]:
        """Return step -> exit code of those that failed."""
        return {name: code for name, code in self.codes.items() if code}


def side_by_side(
    commands: Mapping[str, Sequence[str]],
    *,
    at_once: int,
    tell: Callable[[str], None],
    variables: Mapping[str, str],
) -> dict[str, int]:
    """Run commands beside each other; whatever interrupts this ends them first.

    Args:
        commands: Name -> its command, in the order in which they start.
        at_once: Processes at the same time.
        tell: Receives their standard error, a line at a time: JSON as it is, all else after the
            name. Any thread may call it.
        variables: What their environment has beside this process's.

    Returns:
        Name -> exit code, negative of one that a signal ended.
    """
    waiting = list(commands)

    def due(running: Collection[str], _: Mapping[str, int]) -> dict[str, Sequence[str]]:
        number = max(0, at_once - len(running))
        names = [waiting.pop(0) for _ in range(min(number, len(waiting)))]
        return {name: commands[name] for name in names}

    codes = _run(due, tell, variables)
    return {name: codes[name] for name in commands}


def along_graph(  # noqa: PLR0913  (a graph, its room, its commands, and who listens)
    graph: Sequence[Node],
    *,
    nodes: Sequence[Nodes],
    at_once: int,
    known: Callable[[str], int | None],
    command: Callable[[str], Sequence[str]],
    tell: Callable[[str], None],
    variables: Mapping[str, str],
) -> Walked:
    """Run each step of a graph as a process, once what it needs is done and while it has room.

    One that is done already starts no process. One that fails stops only what needs it. Whatever
    interrupts this ends the processes first.

    Args:
        graph: Each step after those that it needs.
        nodes: On which the steps that run must fit together; one alone always runs.
        at_once: Processes at the same time at most; 0: as many as fit.
        known: Asked once of a step, when all that it needs is done: the exit code of one that needs
            no process, 0 if it is done; None: it is to run.
        command: Step -> its command.
        tell: As of `side_by_side`.
        variables: As of `side_by_side`.
    """
    looked: dict[str, int | None] = {}
    by_name = {node.name: node for node in graph}

    def due(running: Collection[str], codes: Mapping[str, int]) -> dict[str, Sequence[str]]:
        starting: list[str] = []
        while True:
            told = {**{name: code for name, code in looked.items() if code is not None}, **codes}
            busy = [*running, *starting]
            ready = startable(graph, codes=told, running=busy)
            new = {node.name: known(node.name) for node in ready if node.name not in looked}
            looked.update(new)
            if any(code is not None for code in new.values()):
                continue
            has_room = not at_once or len(busy) < at_once
            needs = [by_name[name].need for name in busy]
            fitting = (n for n in ready if not busy or fit_together([*needs, n.need], nodes))
            chosen = next(fitting, None) if has_room else None
            if chosen is None:
                return {name: command(name) for name in starting}
            starting.append(chosen.name)

    codes = _run(due, tell, variables)
    skipped = tuple(name for name, code in looked.items() if code == 0)
    refused = {name: code for name, code in looked.items() if code}
    return Walked(skipped=skipped, codes={**refused, **codes})


def _run(
    due: Callable[[Collection[str], Mapping[str, int]], Mapping[str, Sequence[str]]],
    tell: Callable[[str], None],
    variables: Mapping[str, str],
) -> dict[str, int]:
    """Run commands as they become due, until none runs and none is due; return exit codes.

    Args:
        due: Those that run, and the exit codes so far -> name and command of what starts now.
        tell: As of `side_by_side`.
        variables: As of `side_by_side`.
    """
    codes = dict[str, int]()
    running: dict[str, tuple[subprocess.Popen[str], threading.Thread]] = {}
    try:
        while True:
            for name, command in due(running, codes).items():
                running[name] = _start(name, command, tell, variables)
            if not running:
                return codes
            ended: list[str] = []
            while not ended:
                time.sleep(POLL_S)
                ended = [n for n, (process, _) in running.items() if process.poll() is not None]
            for name in ended:
                process, reader = running.pop(name)
                reader.join(timeout=LET_GO_S)
                codes[name] = process.returncode
                if codes[name]:
                    _log.warning("%s ended with exit code %d; others go on", name, codes[name])
    finally:
        _end([process for process, _ in running.values()])
        for _, reader in running.values():
            reader.join(timeout=LET_GO_S)


def _start(
    name: str, command: Sequence[str], tell: Callable[[str], None], variables: Mapping[str, str]
) -> tuple[subprocess.Popen[str], threading.Thread]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **variables},
        # Ctrl-C of a terminal reaches this process alone, which tells them once.
        process_group=0,
    )
    reader = threading.Thread(target=_pass_on, args=(name, process, tell), daemon=True)
    reader.start()
    return process, reader


def _pass_on(name: str, process: subprocess.Popen[str], tell: Callable[[str], None]) -> None:
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            text = line.rstrip("\n")
            tell(text if text.startswith("{") else f"{name}: {text}")


def _end(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Tell processes to stop, and kill those that do not, or at a second interrupt."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGTERM)
    ends = time.monotonic() + LET_GO_S
    try:
        for process in alive:
            process.wait(timeout=max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        _log.warning("processes did not stop within %g s, and are killed", LET_GO_S)
    finally:
        for process in alive:
            process.kill()
            process.wait()
