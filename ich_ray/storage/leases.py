"""Leases in the object store: one process at a time writes an output, also after a retry."""

import contextlib
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ich_ray.budget import NO_HOURS, Hours
from ich_ray.errors import SurroundingsError
from ich_ray.lease import BEATS_WITHIN, Claim, Holder, Refuse, Wait, next_step
from ich_ray.storage.objects import Store
from ich_ray.storage.urls import join

FOLDER = "leases"
KEPT = 2
"""Claims that are kept when a new one is made; of the earlier ones nobody asks."""

RACES = 40
"""Claims that may fail, one after the other, while the store shows nobody else's."""

RACE_PAUSE_S = 0.1


def this_process(submission: str = "") -> Holder:
    """Describe this process; no other one, nor one after a restart, has the same description."""
    parts = (*_machine(), str(os.getpid()), _started(os.getpid()) or uuid.uuid4().hex)
    return Holder(
        process=" ".join(parts),
        place=f"process {os.getpid()} on {socket.gethostname()}",
        submission=submission,
    )


def has_ended(holder: Holder) -> bool:
    """Tell whether a holder's process is known to have ended; of other machines' none is known."""
    *machine, pid, started = holder.process.split(" ")
    if tuple(machine) != _machine() or not pid.isdigit() or not Path("/proc").is_dir():
        return False
    return _started(int(pid)) != started


def claims(store: Store, name: str | None = None) -> dict[str, Claim]:
    """Return name -> latest claim of every lease of a store, or of the one that is asked for."""
    folder = store.url(FOLDER) if name is None else store.url(FOLDER, name)
    latest: dict[str, tuple[int, str]] = {}
    for item in store.listing(folder):
        place, _, number = item.key.rpartition("/")
        if number.endswith(".json"):
            key = place if name is None else name
            latest[key] = max(latest.get(key, (0, "")), (int(number[:-5]), item.url))
    found = {}
    for key, (_, url) in latest.items():
        # Another process may have removed it for a later one.
        with contextlib.suppress(FileNotFoundError):
            found[key] = Claim.decoded(store.read_bytes(url))
    return found


def silent_s(store: Store, name: str, claim: Claim) -> float:
    """Return the seconds since a claim's last beat, by the store's own clock."""
    try:
        return store.age_s(_url(store, name, claim.number))
    except FileNotFoundError:
        # Later ones came since, and this one was cleared away.
        return 0.0


@dataclass
class Lease:
    """A lease that this process holds, and keeps by a beat from a thread of its own."""

    store: Store
    name: str
    claim: Claim
    beaten: float
    """Monotonic seconds at the start of the last beat that reached the store."""

    spent: Callable[[], Hours] = field(default=lambda: NO_HOURS)
    """Returns what this attempt has spent by now."""

    before: Hours = NO_HOURS
    """What earlier attempts at the same output have spent."""

    lost: str = field(default="", init=False)
    """Why it is no longer held; empty while it is."""

    finished: bool = field(default=False, init=False)
    """Whether what is written under it is whole."""

    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def check(self) -> None:
        """Return if it is held still, as whoever is about to commit must know.

        Raises:
            SurroundingsError: Another process has taken it over, or the store has been away for so
                long that one may have.
        """
        with self._lock:
            # One beat is young enough: who takes over waits for all of them.
            if not self.lost and time.monotonic() - self.beaten > self._period:
                self._beat()
            if self.lost:
                raise SurroundingsError(self.lost)

    def keep(self, over: threading.Event) -> None:
        """Beat until the event is set, or the lease is lost."""
        while not over.wait(self._period) and not self.lost:
            with self._lock, contextlib.suppress(SurroundingsError):
                self._beat()

    def watch(self, over: threading.Event) -> None:
        """Interrupt the main thread when the lease is lost, until the event is set.

        By the clock alone: a beat that waits for a store that is away may do so for minutes.
        """
        while not over.wait(self._period / BEATS_WITHIN):
            if not self.lost and time.monotonic() - self.beaten > self.claim.expires_s:
                self.lost = (
                    f"the store did not answer for {self.claim.expires_s:g} s, and another run "
                    f"may write {self.name} by now; run the same command again"
                )
            if self.lost:
                if not over.is_set():
                    # Not _thread.interrupt_main, which wakes nobody who sleeps or waits.
                    main = threading.main_thread().ident
                    assert main is not None
                    signal.pthread_kill(main, signal.SIGINT)
                return

    def release(self, *, finished: bool) -> None:
        """Let the next process take it at once; what was spent counts until it is finished."""
        with self._lock:
            if not self.lost:
                spent = NO_HOURS if finished else self.before + self.spent()
                self.claim = replace(self.claim.beat(spent), released=True)
                self._write()

    @property
    def _period(self) -> float:
        return self.claim.expires_s / BEATS_WITHIN

    def _beat(self) -> None:
        began = time.monotonic()
        numbers = _numbers(self.store, self.name)
        if max(numbers, default=self.claim.number) > self.claim.number:
            self.lost = (
                f"another run took over {self.name} while this one did not answer; nothing of this "
                "one was committed since; look at the other with ich-ray status"
            )
            return
        self.claim = self.claim.beat(self.before + self.spent())
        self._write()
        self.beaten = began

    def _write(self) -> None:
        self.store.write_bytes(_url(self.store, self.name, self.claim.number), self.claim.encoded())


@contextlib.contextmanager
def held(  # noqa: PLR0913  (what, whose, for how long, and who is told)
    store: Store,
    name: str,
    *,
    holder: Holder,
    expires_s: float,
    spent: Callable[[], Hours] = lambda: NO_HOURS,
    waiting: Callable[[str], None] = lambda _: None,
) -> Iterator[Lease]:
    """Hold a lease for the block; watch one that another holds until it beats, or expires.

    Args:
        store: Keeps it under `leases/`.
        name: Of what is written: its path in the store.
        holder: This process.
        expires_s: For how long others wait for a beat of ours before they take over.
        spent: Returns what this attempt has spent by now; each beat tells it.
        waiting: Receives a sentence, once, when there is a holder to watch.

    Raises:
        ConfigError: The store cannot keep leases.
        SurroundingsError: Another process holds it and lives, or took it over in the meantime.
    """
    claim, began = _taken(store, name, holder, expires_s, waiting)
    lease = Lease(store, name, claim, began, spent, claim.spent)
    try:
        with _kept(lease):
            yield lease
            lease.check()
            lease.finished = True
    except KeyboardInterrupt:
        # Whenever it came, also while what had failed was on its way out.
        if lease.lost:
            raise SurroundingsError(lease.lost) from None
        raise


@contextlib.contextmanager
def _kept(lease: Lease) -> Iterator[None]:
    """Beat, and watch the clock, for the block; then let go of the lease."""
    over = threading.Event()
    beats, watch = (
        threading.Thread(target=target, args=(over,), daemon=True, name=f"lease {lease.name}")
        for target in (lease.keep, lease.watch)
    )
    beats.start()
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
        # A beat may wait for a store that is away: unreleased the lease expires.
        beats.join(0.0 if lease.lost else lease.claim.expires_s)
        # What failed before is what to show.
        with contextlib.suppress(SurroundingsError):
            if not beats.is_alive():
                lease.release(finished=lease.finished)


def _taken(
    store: Store, name: str, holder: Holder, expires_s: float, waiting: Callable[[str], None]
) -> tuple[Claim, float]:
    """Wait until the lease is free, and claim it; return the claim and when it was made."""
    first: Claim | None = None
    seen: Claim | None = None
    since, races = time.monotonic(), 0
    while races < RACES:
        now = claims(store, name).get(name)
        if now != seen:
            seen, since, races = now, time.monotonic(), 0
        ended = seen is not None and has_ended(seen.holder)
        step = next_step(seen, first=first, unchanged_s=time.monotonic() - since, ended=ended)
        if isinstance(step, Refuse):
            raise SurroundingsError(_refusal(name, step.claim))
        if isinstance(step, Wait):
            if first is None:
                assert seen is not None  # nobody waits for a lease that nobody claims
                first = seen
                waiting(_watched(name, seen))
            time.sleep(step.seconds)
            continue
        claim = Claim(
            number=step.number,
            holder=holder,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_s=expires_s,
            spent=seen.spent if seen else NO_HOURS,
        )
        began = time.monotonic()
        if _created(store, name, claim):
            return claim, began
        races += 1
        time.sleep(RACE_PAUSE_S)
    raise SurroundingsError(
        f"cannot claim {name}: the store says that the next claim under {store.url(FOLDER, name)} "
        "is there, and does not list it; check what lies between here and the store, a cache or a "
        "mirror, then run the same command again"
    )


def _watched(name: str, claim: Claim) -> str:
    return (
        f"{name} is claimed by {claim.holder.place}; watching whether it beats, for at most "
        f"{claim.expires_s:g} s"
    )


def _created(store: Store, name: str, claim: Claim) -> bool:
    """Make a claim; tell whether it is the one that counts."""
    url = _url(store, name, claim.number)
    # A client that lost the answer asks again, and is told of what it made itself.
    if not store.create_once(url, claim.encoded()) and claims(store, name).get(name) != claim:
        return False
    numbers = _numbers(store, name)
    if max(numbers) > claim.number:
        # What was seen was old: later claims came since, and this very number was cleared away.
        store.remove(url)
        return False
    for old in numbers:
        if old <= claim.number - KEPT:
            store.remove(_url(store, name, old))
    return True


def _refusal(name: str, claim: Claim) -> str:
    of = f" (submission {claim.holder.submission})" if claim.holder.submission else ""
    return (
        f"another run{of}, {claim.holder.place}, has been writing {name} since {claim.since} and "
        "lives; wait for it, or end it, then run the same command again"
    )


def _numbers(store: Store, name: str) -> list[int]:
    keys = (item.key for item in store.listing(store.url(FOLDER, name)))
    return [int(key[:-5]) for key in keys if key.endswith(".json")]


def _url(store: Store, name: str, number: int) -> str:
    return join(store.url(FOLDER, name), f"{number:06d}.json")


def _machine() -> tuple[str, str]:
    """Return what differs between machines, their restarts, and the containers on them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname().replace(" ", "-"), ""
    return boot, space


def _started(pid: int) -> str:
    """Return when a process of this machine started, in ticks since boot; empty if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie writes nothing any more.
    return "" if fields[0] == "Z" else fields[19]
