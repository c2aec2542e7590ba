"""Who may write an output: a lease of numbered claims, one object each, by elapsed time alone.

A claim is made by creating the next number, which only one of several can do. Its holder writes it
anew at every beat; who waits and sees no new beat for as long as the claim says creates the next
number, and the one before is lost. Clocks of several machines are never compared.
"""

import json
from dataclasses import asdict, dataclass, replace

from ich_ray.budget import NO_HOURS, Hours
from ich_ray.errors import SurroundingsError

BEATS_WITHIN = 4
"""Beats of a holder within the time after which it counts as dead."""

LOOKS_PER_BEAT = 4
LOOK_EVERY_S = 1.0
"""Of who waits, whichever is the more often: a holder that beats is named soon after its next beat.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """A process that may hold a lease."""

    process: str
    """Unique: another process has another one, also on the same host."""

    place: str
    """Host and number of the process, for a person."""

    submission: str = ""
    """Id of the Ray job that it runs in, if it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One number of a lease."""

    number: int
    """From 1; a larger one wins."""

    holder: Holder
    since: str
    """When it was made, UTC, for a person."""

    expires_s: float
    """Without a beat for as long it may be taken over."""

    beats: int = 0
    released: bool = False
    spent: Hours = NO_HOURS
    """By all attempts at the output, until the last beat; none once it was finished."""

    def beat(self, spent: Hours) -> "Claim":
        """Return the claim at its next beat."""
        return replace(self, beats=self.beats + 1, spent=spent)

    def encoded(self) -> bytes:
        """Return the claim as an object's bytes."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decoded(cls, data: bytes) -> "Claim":
        """Read a claim from an object's bytes.

        Raises:
            SurroundingsError: They are no claim.
        """
        try:
            tree = json.loads(data)
            parts = {"holder": Holder(**tree["holder"]), "spent": Hours(**tree["spent"])}
            return cls(**{**tree, **parts})
        except (ValueError, TypeError, KeyError) as error:
            raise SurroundingsError(
                f"an object under leases/ is no claim ({error}); remove it when no run is going on"
            ) from None


@dataclass(frozen=True, slots=True)
class Take:
    """Create this number: the lease is free."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Its holder may be dead, or hang: look again after this long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Its holder lives: it beat while it was watched."""

    claim: Claim


def next_step(
    seen: Claim | None,
    *,
    first: Claim | None,
    unchanged_s: float,
    ended: bool,
) -> Take | Wait | Refuse:
    """Decide what a process does that wants a lease.

    A beat alone shows that the holder lives. Its process says less: one that hangs would keep its
    output for as long as nobody ends it.

    Args:
        seen: The claim of the largest number; None if there is none.
        first: What it saw first, if it has waited.
        unchanged_s: For how long it has seen `seen` as it is now.
        ended: Whether the holder's process is known to have ended.
    """
    if seen is None:
        return Take(1)
    if seen.released or ended or unchanged_s >= seen.expires_s:
        return Take(seen.number + 1)
    if first is not None and first != seen:
        return Refuse(seen)
    look_s = min(seen.expires_s / BEATS_WITHIN / LOOKS_PER_BEAT, LOOK_EVERY_S)
    return Wait(min(look_s, seen.expires_s - unchanged_s))
