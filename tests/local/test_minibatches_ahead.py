"""Reading ahead changes when a minibatch is made, and nothing else."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ich_ray.config import ModelConfig
from ich_ray.learning.loading import Loader, Minibatch, Minibatches, slice_loader
from ich_ray.learning.read_ahead import ReadAhead
from ich_ray.learning.sampling import Worker
from tests.local.slice_pools import pool

LAST = 12
CONFIG = ModelConfig(labelled=("a",), crop=24, batch=2)
PLAIN = slice_loader(CONFIG, (pool(5, positive=2),), channels=3, worker=Worker())
STEPS = st.lists(st.integers(0, LAST + 3), max_size=20)


class BrokenError(Exception):
    """Of a step that cannot be read."""


@dataclass
class Watched:
    """A loader that knows which steps it was asked, and cannot read some."""

    broken: frozenset[int] = frozenset()
    before: Callable[[int], object] = id
    """Called of each step, before it is made."""

    asked: list[int] = field(default_factory=list)
    made: list[int] = field(default_factory=list)

    def __call__(self, step: int) -> Minibatches:
        self.asked.append(step)
        self.before(step)
        if step in self.broken:
            raise BrokenError(f"step {step}")
        batch = PLAIN(step)
        self.made.append(step)
        return batch


def ahead(loader: Loader, *, last: int = LAST, threads: int = 2, depth: int = 3) -> ReadAhead:
    return ReadAhead(loader, last=last, threads=threads, depth=depth, pin=False)


def same(found: Minibatches, expected: Minibatches) -> bool:
    return len(found) == len(expected) and all(map(alike, found, expected))


def alike(found: Minibatch, expected: Minibatch) -> bool:
    pairs = list(zip(found, expected, strict=True))
    return all(
        torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for one, other in pairs
    )


def reading_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def until(reached: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, "it was not reached"
        time.sleep(0.001)


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    broken=st.frozensets(st.integers(0, LAST + 3), max_size=4),
    threads=st.integers(1, 3),
    depth=st.integers(0, 5),
)
def test_each_step_gives_its_own_minibatch_or_error_in_any_order(
    steps: list[int], broken: frozenset[int], threads: int, depth: int
) -> None:
    with ahead(Watched(broken), threads=threads, depth=depth) as loader:
        for step in steps:
            if step in broken:
                with pytest.raises(BrokenError, match=f"^step {step}$"):
                    loader(step)
            else:
                assert same(loader(step), PLAIN(step))


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, depth=st.integers(0, 5))
def test_no_step_is_made_after_the_last_one_unless_it_is_asked(
    steps: list[int], depth: int
) -> None:
    plain = Watched()
    with ahead(plain, depth=depth) as loader:
        for step in steps:
            loader(step)
    assert set(plain.asked) <= set(range(LAST)) | set(steps)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, threads=st.integers(1, 4), depth=st.integers(0, 5))
def test_no_more_is_made_than_the_depth_ahead(steps: list[int], threads: int, depth: int) -> None:
    plain = Watched()
    with ahead(plain, threads=threads, depth=depth) as loader:
        for step in sorted(steps):
            loader(step)
            assert max(plain.asked) <= step + depth


def test_a_run_makes_each_minibatch_once() -> None:
    plain = Watched()
    with ahead(plain) as loader:
        for step in range(LAST):
            loader(step)
    assert sorted(plain.asked) == list(range(LAST))


def test_the_next_steps_are_made_up_to_the_depth_while_this_one_is_trained_on() -> None:
    plain = Watched()
    with ahead(plain, depth=3) as loader:
        loader(4)
        until(lambda: len(plain.made) == 4)
        time.sleep(0.05)
        assert sorted(plain.asked) == [4, 5, 6, 7]
        loader(5)
        until(lambda: len(plain.made) == 5)
        assert sorted(plain.asked) == [4, 5, 6, 7, 8]


def test_as_many_are_made_at_once_as_there_are_threads() -> None:
    # Each waits for two others: fewer at once would never meet.
    meeting = threading.Barrier(3)
    plain = Watched(before=lambda _: meeting.wait(timeout=30))
    with ahead(plain, threads=3, depth=2) as loader:
        loader(LAST - 3)
    assert sorted(plain.made) == [9, 10, 11]


def test_after_a_jump_nothing_is_made_beside_what_was_begun_before() -> None:
    go = threading.Event()
    plain = Watched(before=lambda step: step == 1 and go.wait(timeout=30))
    with ahead(plain, threads=2, depth=1) as loader:
        loader(0)
        until(lambda: 1 in plain.asked)
        threading.Timer(0.05, go.set).start()
        loader(6)
    # Two threads begin 6 and 7 together, and either may be done first.
    assert plain.made[:2] == [0, 1]
    assert 6 in plain.made


def test_an_error_ahead_waits_for_its_step() -> None:
    plain = Watched(broken=frozenset({2}))
    with ahead(plain) as loader:
        loader(0)
        until(lambda: 2 in plain.asked)
        assert same(loader(1), PLAIN(1))
        with pytest.raises(BrokenError, match=r"^step 2$"):
            loader(2)
        assert same(loader(3), PLAIN(3))


def test_its_threads_end_with_the_block_also_after_an_error() -> None:
    with ahead(Watched()) as loader:
        loader(0)
        assert reading_threads()
    assert not reading_threads()
    loader.close()
    plain = Watched(before=lambda _: time.sleep(0.05))
    with pytest.raises(ZeroDivisionError), ahead(plain, threads=1, depth=9) as loader:
        len(loader(0)) / 0
    assert not reading_threads()
    # What none had begun is not made any more.
    assert len(plain.asked) <= 3


def test_a_process_that_ends_with_an_error_does_not_hang() -> None:
    code = """
import time
from ich_ray.learning.read_ahead import ReadAhead
def slow(step):
    time.sleep(0.05)
    return step
loader = ReadAhead(slow, last=1000, threads=2, depth=4, pin=False)
loader(0)
raise RuntimeError("it broke")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: it broke\n")


def test_what_is_pinned_is_every_tensor_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        """As where there is a CUDA device, a copy."""
        copy = tensor.clone()
        pinned.append(copy.data_ptr())
        return copy

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    with ReadAhead(PLAIN, last=1, threads=1, depth=0, pin=True) as loader:
        found = loader(0)
    assert same(found, PLAIN(0))
    values = [value for batch in found for value in batch]
    assert [value.data_ptr() for value in values if isinstance(value, Tensor)] == pinned
