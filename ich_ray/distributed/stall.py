"""A process that stands still ends itself, so that whoever watches over it can start another."""

import faulthandler
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StallWatch:
    """Ends this process when nothing has said for a while that it is alive.

    Its stacks go to its error log first. It is a thread of the interpreter's that ends it, which
    neither a held lock nor a call that never returns can keep from that; the time is monotonic.
    """

    limit_s: float
    """0: it never ends it."""

    def alive(self) -> None:
        """Begin the time anew."""
        if self.limit_s > 0 and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(self.limit_s, exit=True, file=sys.__stderr__)

    def off(self) -> None:
        """End the watch."""
        faulthandler.cancel_dump_traceback_later()
