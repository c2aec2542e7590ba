import pytest

from ich_ray.stopwatch import Busy, Stopwatch


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_lap_begins_anew(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)
    with watch.waiting():
        clock.now += 2
    assert watch.lap() == (2, 2)
    clock.now += 5
    assert watch.lap() == (5, 0)


def test_waiting_that_fails_is_counted_too(clock: Clock) -> None:
    watch = Stopwatch(clock=clock)

    def fail() -> None:
        with watch.waiting():
            clock.now += 4
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011  (it has no text)
        fail()
    assert watch.lap() == (4, 4)


def test_a_shared_device_waits_only_while_somebody_brings_work_and_none_is_there(
    clock: Clock,
) -> None:
    busy = Busy(clock=clock)
    clock.now += 50
    with busy.call():
        clock.now += 3
        with busy.call():
            busy.begin()
            clock.now += 5
            busy.begin()  # another thread's, queued behind it
            clock.now += 2
            busy.end()
            clock.now += 1
            busy.end()
            clock.now += 4
    clock.now += 70
    assert busy.lap() == (15, 7)
    assert busy.lap() == (0, 0)


def test_a_lap_in_the_middle_of_work_leaves_the_rest_to_the_next(clock: Clock) -> None:
    busy = Busy(clock=clock)
    with busy.call():
        busy.begin()
        clock.now += 5
        assert busy.lap() == (5, 0)
        clock.now += 2
        busy.end()
    assert busy.lap() == (2, 0)
