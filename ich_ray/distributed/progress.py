"""Progress bars on standard error, also for work that runs in another process."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ray
from tqdm import tqdm

POLL_S = 0.5


@contextlib.contextmanager
def bar(what: str, *, total: int, unit: str, first: int = 0) -> Iterator[tqdm]:
    """Show a bar; a line every few seconds where standard error is no terminal."""
    slow = not sys.stderr.isatty()
    with tqdm(
        desc=what,
        total=total,
        unit=unit,
        initial=first,
        mininterval=10 if slow else 0.2,
        dynamic_ncols=not slow,
        leave=True,
    ) as shown:
        yield shown


class Board:
    """The latest step and loss of a run, kept where worker and driver can see it."""

    def __init__(self) -> None:
        self.latest: tuple[int, float] = (0, float("nan"))

    def put(self, step: int, loss: float) -> None:
        """Remember where the run is."""
        self.latest = (step, loss)

    def get(self) -> tuple[int, float]:
        """Return where the run is."""
        return self.latest


@contextlib.contextmanager
def watched(what: str, *, total: int) -> Iterator[Any]:
    """Show a bar that follows a Board; yields the Board's actor handle for a worker."""
    # Ray adds `remote` to methods where no type checker sees it.
    board: Any = ray.remote(num_cpus=0)(Board).remote()
    stop = threading.Event()

    def follow() -> None:
        with bar(what, total=total, unit="step") as shown:
            while not stop.wait(POLL_S):
                step, loss = ray.get(board.get.remote())
                shown.update(step - shown.n)
                if step:
                    shown.set_postfix(loss=f"{loss:.4f}", refresh=False)
            step, loss = ray.get(board.get.remote())
            shown.update(step - shown.n)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join(timeout=10)
        ray.kill(board)
