"""A process that stands still ends itself, so that whoever watches over it can start another."""

import faulthandler
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stall_watch(limit_s: float) -> Iterator[Callable[[], None]]:
    """End this process when it has not said for a while that it is alive.

    Its stacks go to its error log first. It is a thread of the interpreter's that ends it, which
    neither a held lock nor a call that never returns can keep from that; the time is monotonic.

    Args:
        limit_s: 0 never ends it.

    Yields:
        What says that it is alive; the first time begins the watch.
    """

    def alive() -> None:
        if limit_s > 0 and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.__stderr__)

    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()
