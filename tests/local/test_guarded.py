import os
from collections.abc import Iterator

import numpy as np
import pytest

from ich_ray.errors import InvalidExam, Reason
from ich_ray.storage.guarded import Guard

FUNCTIONS = "tests.local.guarded_functions"


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard(limit_s=0.3)
    yield guard
    guard.close()


def reason_of(guard: Guard, function: str) -> Reason:
    with pytest.raises(InvalidExam) as caught:
        guard.call(f"{FUNCTIONS}:{function}", b"object")
    return caught.value.reason


def test_facts_and_arrays_come_back(guard: Guard) -> None:
    data = np.arange(300_000, dtype="<u2").tobytes()
    facts, (array,) = guard.call(f"{FUNCTIONS}:size_of", data, times=2)
    assert facts["size"] == 2 * len(data)
    assert facts["process"] != os.getpid()
    assert array.tobytes() == data
    assert array.dtype == np.dtype("<u2")


def test_one_process_serves_all_objects(guard: Guard) -> None:
    served = {guard.call(f"{FUNCTIONS}:size_of", b"ab", times=1)[0]["process"] for _ in range(20)}
    assert (len(served), guard.starts) == (1, 1)
    assert reason_of(guard, "refuse") == Reason.NOT_CT
    assert guard.starts == 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("crash", Reason.DECODER_CRASHED),
        ("spin", Reason.TOO_SLOW),
        ("fill", Reason.TOO_LARGE),
    ],
)
def test_what_exceeds_the_limits_has_a_reason_and_the_next_is_served(
    guard: Guard, function: str, reason: Reason
) -> None:
    assert reason_of(guard, function) == reason
    assert guard.call(f"{FUNCTIONS}:size_of", b"ab", times=1)[0]["size"] == 2


def test_a_decoder_that_waits_for_ever_is_too_slow() -> None:
    guard = Guard(silent_s=1.0)
    try:
        assert reason_of(guard, "wait") == Reason.TOO_SLOW
    finally:
        guard.close()


def test_an_object_is_not_blamed_for_what_an_earlier_one_broke(guard: Guard) -> None:
    for _ in range(3):
        assert guard.call(f"{FUNCTIONS}:crash_second", b"")[0] == "survived"
    assert guard.starts == 3


def test_a_bug_of_ours_is_no_reason_of_the_ledger(guard: Guard) -> None:
    with pytest.raises(RuntimeError, match="no_such_function"):
        guard.call(f"{FUNCTIONS}:no_such_function", b"")
