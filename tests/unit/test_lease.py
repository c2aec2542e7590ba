import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.budget import Hours
from ich_ray.errors import SurroundingsError
from ich_ray.lease import BEATS_WITHIN, Claim, Holder, Refuse, Take, Wait, next_step

HOLDER = Holder(process="p", place="process 1 on a")
CLAIM = Claim(number=3, holder=HOLDER, since="2026-01-01T00:00:00+00:00", expires_s=60.0)


def test_a_lease_that_nobody_had_is_free() -> None:
    assert next_step(None, first=None, unchanged_s=0.0, ended=False) == Take(1)


def test_a_released_lease_is_free_at_once() -> None:
    released = dataclasses.replace(CLAIM, released=True)
    assert next_step(released, first=None, unchanged_s=0.0, ended=False) == Take(4)


def test_what_a_dead_process_of_this_machine_held_is_free_at_once() -> None:
    assert next_step(CLAIM, first=None, unchanged_s=0.0, ended=True) == Take(4)


def test_a_beat_shows_that_the_holder_lives() -> None:
    later = CLAIM.beat(Hours(cpu=1.0))
    assert next_step(later, first=CLAIM, unchanged_s=0.0, ended=False) == Refuse(later)


@given(expires_s=st.floats(1, 3600), phase=st.floats(0, 1))
def test_who_watches_a_holder_that_beats_is_told_within_little_more_than_a_beat(
    expires_s: float, phase: float
) -> None:
    first = dataclasses.replace(CLAIM, expires_s=expires_s)
    period_s = expires_s / BEATS_WITHIN
    beats_at_s, now_s, since_s, seen = phase * period_s, 0.0, 0.0, first
    while isinstance(
        step := next_step(seen, first=first, unchanged_s=now_s - since_s, ended=False), Wait
    ):
        now_s += step.seconds
        if now_s >= beats_at_s:
            seen, since_s = first.beat(Hours(cpu=1.0)), now_s
    assert isinstance(step, Refuse)
    assert now_s <= period_s + min(1.0, period_s / 4) + 1e-6


@given(unchanged_s=st.floats(0, 59.9))
def test_who_sees_no_beat_waits_until_the_claim_expires_and_no_longer(unchanged_s: float) -> None:
    step = next_step(CLAIM, first=CLAIM, unchanged_s=unchanged_s, ended=False)
    assert isinstance(step, Wait)
    assert 0 < step.seconds <= 60.0 - unchanged_s
    assert next_step(CLAIM, first=CLAIM, unchanged_s=60.0, ended=False) == Take(4)


def test_a_claim_is_read_as_it_was_written() -> None:
    claim = CLAIM.beat(Hours(cpu=0.5, gpu=0.25, cost=1.0))
    assert Claim.decoded(claim.encoded()) == claim
    assert claim.beats == 1


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"holder": {}}', b'{"holder": 1}'])
def test_an_object_that_is_no_claim_is_named(data: bytes) -> None:
    with pytest.raises(SurroundingsError, match="no claim"):
        Claim.decoded(data)
