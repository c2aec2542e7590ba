import dataclasses
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ich_ray.budget import NO_HOURS, Hours
from ich_ray.errors import QualityError, SurroundingsError
from ich_ray.lease import Holder
from ich_ray.storage.leases import claims, held, known_of, this_process
from ich_ray.storage.objects import Store

ELSEWHERE = Holder(process="boot space 1 1", place="process 1 on another-host")
EXPIRES_S = 2.0


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    s3: Store = request.getfixturevalue("s3_store")
    return dataclasses.replace(s3, root=f"s3://ich/leases-{tmp_path.name}")


def test_a_lease_is_one_process_s_until_it_lets_go(store: Store) -> None:
    with held(store, "models/a", holder=this_process("train-1"), expires_s=EXPIRES_S):
        with (
            pytest.raises(
                SurroundingsError, match=r"submission train-1.*has been writing models/a"
            ),
            held(store, "models/a", holder=ELSEWHERE, expires_s=EXPIRES_S),
        ):
            pass
        with held(store, "models/b", holder=ELSEWHERE, expires_s=EXPIRES_S):
            pass
    with held(store, "models/a", holder=ELSEWHERE, expires_s=EXPIRES_S) as lease:
        assert lease.claim.number == 2
    assert {name: claim.released for name, claim in claims(store).items()} == {
        "models/a": True,
        "models/b": True,
    }


def test_a_holder_elsewhere_that_beats_is_seen_to_live(store: Store) -> None:
    began = time.monotonic()
    with (
        held(store, "x", holder=ELSEWHERE, expires_s=EXPIRES_S),
        pytest.raises(SurroundingsError, match=r"process 1 on another-host.*lives"),
        held(store, "x", holder=this_process(), expires_s=EXPIRES_S),
    ):
        pass
    assert time.monotonic() - began < EXPIRES_S


def test_a_holder_elsewhere_that_is_silent_is_taken_over_after_its_time(store: Store) -> None:
    waited: list[float] = []
    with pytest.raises(SurroundingsError, match="took over x"):
        stand_still_while_another_takes_over(store, waited)
    assert EXPIRES_S <= waited[0] < 3 * EXPIRES_S


def stand_still_while_another_takes_over(store: Store, waited: list[float]) -> None:
    with held(store, "x", holder=ELSEWHERE, expires_s=EXPIRES_S) as first:
        # A machine that stands still: neither it nor its beats go on.
        first._lock.acquire()
        began = time.monotonic()
        with held(store, "x", holder=this_process(), expires_s=EXPIRES_S) as second:
            waited.append(time.monotonic() - began)
            second.check()
        first._lock.release()
        time.sleep(EXPIRES_S)


def test_the_main_thread_of_a_run_that_lost_its_lease_stops(store: Store) -> None:
    with pytest.raises(SurroundingsError, match="took over x"):
        work_while_another_takes_over(store)


def work_while_another_takes_over(store: Store) -> None:
    with held(store, "x", holder=ELSEWHERE, expires_s=EXPIRES_S) as lease:
        later = dataclasses.replace(lease.claim, number=2)
        assert store.create_once(store.url("leases", "x", "000002.json"), later.encoded())
        deadline = time.monotonic() + 5 * EXPIRES_S
        while time.monotonic() < deadline:
            time.sleep(0.05)
    pytest.fail("nothing interrupted it")


def test_what_failed_attempts_have_spent_is_known_until_one_finishes(store: Store) -> None:
    def attempt(*, fails: bool) -> Hours:
        with held(
            store, "x", holder=this_process(), expires_s=EXPIRES_S, spent=lambda: Hours(cpu=1.0)
        ) as lease:
            if fails:
                raise QualityError("over the budget")
            return lease.before

    for _ in range(2):
        with pytest.raises(QualityError):
            attempt(fails=True)
    assert claims(store, "x")["x"].spent == Hours(cpu=2.0)
    assert attempt(fails=False) == Hours(cpu=2.0)
    assert attempt(fails=False) == NO_HOURS


def test_old_claims_do_not_pile_up(store: Store) -> None:
    for _ in range(5):
        with held(store, "x", holder=this_process(), expires_s=EXPIRES_S):
            pass
    assert [item.key for item in store.listing(store.url("leases"))] == [
        "x/000004.json",
        "x/000005.json",
    ]


def hold_for_ever(store: Store, ready: str) -> None:
    with held(store, "x", holder=this_process(), expires_s=600.0):
        Path(ready).touch()
        signal.pause()


def test_a_killed_process_of_this_machine_blocks_nobody(store: Store, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(
        target=hold_for_ever, args=(store, str(ready))
    )
    process.start()
    while not ready.exists():
        assert process.is_alive()
        time.sleep(0.05)
    holder = claims(store, "x")["x"].holder
    assert known_of(holder) == "alive"
    with (
        pytest.raises(SurroundingsError, match=f"process {process.pid} on "),
        held(store, "x", holder=this_process(), expires_s=600.0),
    ):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert known_of(holder) == "dead"
    with held(store, "x", holder=this_process(), expires_s=600.0) as lease:
        assert lease.claim.number == 2


def compete(store: Store, folder: str, turns: int) -> None:
    for _ in range(turns):
        try:
            with held(store, "x", holder=this_process(), expires_s=600.0):
                inside = Path(folder, "inside")
                inside.touch(exist_ok=False)
                time.sleep(0.01)
                inside.unlink()
                Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()
        except SurroundingsError:
            time.sleep(0.005)


def test_of_many_that_start_together_one_at_a_time_writes(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "turns"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=compete, args=(store, str(folder), 10)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(folder.iterdir())) >= 10
