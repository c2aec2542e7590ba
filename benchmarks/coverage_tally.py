"""How often simulated intervals held the truth, and tests of true hypotheses rejected them."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any


class Tally:
    """How often each interval held the truth, and each test rejected it."""

    def __init__(self) -> None:
        self.held: dict[str, list[bool]] = defaultdict(list)
        self.rejected: dict[str, list[bool]] = defaultdict(list)

    def interval(self, name: str, low: float, high: float, truth: float) -> None:
        """Note an interval."""
        self.held[name].append(low <= truth <= high)

    def test(self, name: str, p: float) -> None:
        """Note a test of a hypothesis that is true."""
        self.rejected[name].append(p < 0.05)

    def rows(self, data: str) -> Iterator[dict[str, Any]]:
        """Return a line for each interval and test, of the data so called."""
        for name, held in self.held.items():
            yield {"data": data, "interval": name, "coverage": sum(held) / len(held)}
        for name, rejected in self.rejected.items():
            yield {"data": data, "test": name, "type_one": sum(rejected) / len(rejected)}
