"""Old objects are left alone; garbage that is young is still found."""

import gc
import weakref

import pytest

from ich_ray.garbage import seldom_collected


class Node:
    """An object that may hold itself."""

    itself: "Node"


def test_old_objects_are_not_walked_again_while_young_cycles_go() -> None:
    before = gc.get_threshold()
    first = Node()
    first.itself = first
    gone = weakref.ref(first)
    with seldom_collected():
        del first
        walks = [generation["collections"] for generation in gc.get_stats()]
        held = [[number] for number in range(1_500_000)]
        now = [generation["collections"] for generation in gc.get_stats()]
    assert len(held) == 1_500_000
    assert gone() is None
    assert now[0] > walks[0]
    assert now[2] == walks[2]
    assert gc.get_threshold() == before


def test_the_thresholds_come_back_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), seldom_collected():
        raise KeyError
    assert gc.get_threshold() == before
