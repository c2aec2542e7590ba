"""Millions of objects that live long, and the collector of cycles."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """Walk new objects for cycles once or twice in a block, and old ones next to never.

    A listing of a million objects is a million tuples without a cycle. With Python's own
    thresholds each further quarter of a million has all of them walked again: a third of the time
    of a plan. Cycles among young objects, such as those of a client's answers, are still found.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
