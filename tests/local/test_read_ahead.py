from collections.abc import Callable
from itertools import count, islice
from threading import Barrier, Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.storage.read_ahead import ANNOUNCED, read_ahead


def ignore(_: int) -> None:
    """Announce nothing."""


@given(st.lists(st.integers(), max_size=40), st.integers(0, 5))
def test_every_item_comes_in_order_with_what_it_gave_or_raised(
    items: list[int], depth: int
) -> None:
    def read(item: int) -> int:
        if item % 3 == 0:
            raise ValueError(str(item))
        return item * item

    def outcome(fetched: Callable[[], int]) -> int | str:
        try:
            return fetched()
        except ValueError as error:
            return str(error)

    ahead = read_ahead(read, items, depth=depth, announce=ignore)
    found = [(item, outcome(fetched)) for item, fetched in ahead]
    assert found == [(i, str(i) if i % 3 == 0 else i * i) for i in items]


def test_as_many_are_read_at_once_as_the_depth_says() -> None:
    meeting = Barrier(4)
    # Each waits for three others: fewer at once would never meet.
    ahead = read_ahead(lambda _: meeting.wait(timeout=30), range(8), depth=4, announce=ignore)
    for _, fetched in ahead:
        assert fetched() in range(4)


@pytest.mark.parametrize("depth", [0, 3])
def test_no_more_is_read_than_the_depth_ahead(depth: int) -> None:
    begun: list[int] = []
    lock = Lock()

    def read(item: int) -> int:
        with lock:
            begun.append(item)
        return item

    ahead = read_ahead(read, count(), depth=depth, announce=ignore)
    assert [fetched() for _, fetched in islice(ahead, 5)] == [0, 1, 2, 3, 4]
    ahead.close()  # type: ignore[attr-defined]
    assert max(begun) <= 4 + depth + 1


@given(st.lists(st.integers(), max_size=20))
def test_a_disk_hears_of_each_item_two_before_it_is_read(items: list[int]) -> None:
    log: list[tuple[str, int]] = []

    def read(item: int) -> None:
        log.append(("read", item))

    ahead = read_ahead(read, items, depth=0, announce=lambda item: log.append(("announced", item)))
    for _, fetched in ahead:
        fetched()
    assert [item for what, item in log if what == "announced"] == items
    assert [item for what, item in log if what == "read"] == items
    for number in range(len(items)):
        before = log[: [i for i, (what, _) in enumerate(log) if what == "read"][number]]
        announced = sum(what == "announced" for what, _ in before)
        assert announced == min(number + ANNOUNCED + 1, len(items))
