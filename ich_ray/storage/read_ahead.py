"""Objects of a store, fetched while the ones before them are worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

DEPTH = 16
"""Requests at once: an object store answers one in tens of milliseconds, and many as fast."""


ANNOUNCED = 2
"""Files of a disk that it fetches while the one before them is decoded: more gain nothing."""


def read_ahead(
    read: Callable[[Item], Found],
    items: Iterable[Item],
    *,
    depth: int,
    announce: Callable[[Item], None],
) -> Iterator[tuple[Item, Callable[[], Found]]]:
    """Yield each item, in order, and a function that returns what reading it gave.

    What reading raised, the function raises.

    Args:
        read: Called in threads, at most `depth` at once and as many ahead.
        items: Any.
        depth: 0 reads each item when it is asked for, in this thread.
        announce: Called of the items ahead where `depth` is 0; has the system fetch them.
    """
    if depth == 0:
        for item in _announced(items, announce):
            yield item, partial(read, item)
        return
    with ThreadPoolExecutor(depth) as pool:
        waiting: deque[tuple[Item, Callable[[], Found]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item).result))
                if len(waiting) > depth:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _announced(items: Iterable[Item], announce: Callable[[Item], None]) -> Iterator[Item]:
    waiting: deque[Item] = deque()
    for item in items:
        announce(item)
        waiting.append(item)
        if len(waiting) > ANNOUNCED:
            yield waiting.popleft()
    yield from waiting
