import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ich_ray.budget import NO_HOURS, Hours
from ich_ray.errors import QualityError, SurroundingsError
from ich_ray.lease import Holder
from ich_ray.storage.leases import Lease, claims, has_ended, held, silent_s, this_process
from ich_ray.storage.objects import Store

ELSEWHERE = Holder(process="boot space 1 1", place="process 1 on another-host")
EXPIRES_S = 2.0
BEATS_ON_S = 8.0
"""Of a claim whose beats must not fail on a busy machine."""

HANGS_S = 20.0


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    s3: Store = request.getfixturevalue("s3_store")
    return dataclasses.replace(s3, root=f"s3://ich/leases-{tmp_path.name}")


def test_a_lease_is_one_process_s_until_it_lets_go(store: Store) -> None:
    with held(store, "models/a", holder=this_process("train-1"), expires_s=BEATS_ON_S):
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


@pytest.mark.parametrize("holder", [ELSEWHERE, this_process()], ids=["elsewhere", "here"])
def test_a_holder_that_beats_is_named_long_before_its_claim_expires(
    store: Store, holder: Holder
) -> None:
    told: list[str] = []
    began = time.monotonic()
    with (
        held(store, "x", holder=holder, expires_s=BEATS_ON_S, waiting=told.append),
        pytest.raises(SurroundingsError, match=rf"{holder.place}, has been writing x .*lives"),
        held(store, "x", holder=this_process(), expires_s=BEATS_ON_S, waiting=told.append),
    ):
        pass
    assert time.monotonic() - began < BEATS_ON_S
    (line,) = told
    assert line.startswith(f"x is claimed by {holder.place}; watching whether it beats")


def hold_until_lost(store: Store, holder: Holder | None, ready: str, said: str) -> None:
    try:
        with held(store, "x", holder=holder or this_process(), expires_s=EXPIRES_S):
            Path(ready).touch()
            while True:
                time.sleep(0.05)
    except SurroundingsError as error:
        Path(said).write_text(str(error))


@pytest.mark.parametrize("holder", [ELSEWHERE, None], ids=["elsewhere", "here"])
def test_a_holder_that_stands_still_is_taken_over_after_its_time_and_then_stops(
    store: Store, tmp_path: Path, holder: Holder | None
) -> None:
    ready, said = tmp_path / "ready", tmp_path / "said"
    process = multiprocessing.get_context("spawn").Process(
        target=hold_until_lost, args=(store, holder, str(ready), str(said))
    )
    process.start()
    assert process.pid is not None
    try:
        while not ready.exists():
            assert process.is_alive()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGSTOP)
        assert not has_ended(claims(store, "x")["x"].holder)
        began = time.monotonic()
        with held(store, "x", holder=this_process(), expires_s=EXPIRES_S) as second:
            waited_s = time.monotonic() - began
            os.kill(process.pid, signal.SIGCONT)
            process.join(60)
            second.check()
    finally:
        process.kill()
    assert waited_s >= EXPIRES_S / 2
    assert process.exitcode == 0
    assert "took over x" in said.read_text() or "may write x by now" in said.read_text()


def test_the_age_of_a_beat_is_known(store: Store) -> None:
    with held(store, "x", holder=this_process(), expires_s=600.0) as lease:
        # An object's times are whole seconds.
        time.sleep(2.5)
        assert 1.0 <= silent_s(store, "x", lease.claim) < 120.0
        later = dataclasses.replace(lease.claim, number=7)
        assert silent_s(store, "x", later) == 0.0


def hang(lease: Lease) -> None:
    time.sleep(HANGS_S)


def test_a_holder_whose_beat_waits_for_the_store_stops_when_its_time_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lease, "_beat", hang)
    began = time.monotonic()
    with pytest.raises(SurroundingsError, match="did not answer for 2 s, and another run may"):
        hold_for_long(store)
    assert time.monotonic() - began < HANGS_S / 2


def hold_for_long(store: Store) -> None:
    with held(store, "x", holder=this_process(), expires_s=EXPIRES_S):
        time.sleep(10 * EXPIRES_S)


def test_a_run_that_fails_while_a_beat_waits_says_why_it_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lease, "_beat", hang)
    with pytest.raises(SurroundingsError, match="the store is away"):
        fail_after_a_while(store)


def fail_after_a_while(store: Store) -> None:
    with held(store, "x", holder=this_process(), expires_s=EXPIRES_S):
        # A beat has begun by now, and waits.
        time.sleep(EXPIRES_S / 2)
        raise SurroundingsError("the store is away")


LOSING = """
import sys, time
from ich_ray.storage.leases import held, this_process
from ich_ray.storage.objects import Store
from jobs.stage import guarded

def work():
    with held(Store(sys.argv[1]), "x", holder=this_process(), expires_s=2.0) as lease:
        later = lease.store.url("leases", "x", "000002.json")
        lease.store.create_once(later, lease.claim.encoded())
        time.sleep(30)
    return 0

sys.exit(guarded(work))
"""


def test_a_lost_lease_stops_a_stage_that_a_script_runs_in_the_background(tmp_path: Path) -> None:
    # A shell has its background commands ignore SIGINT: cluster/until_final.sh waits for its own.
    script = Path(__file__).parents[2] / "cluster" / "until_final.sh"
    began = time.monotonic()
    done = subprocess.run(
        ["sh", script, "1", "0", sys.executable, "-c", LOSING, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "another run took over x" in done.stderr
    assert time.monotonic() - began < 25


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
    assert not has_ended(holder)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert has_ended(holder)
    with held(store, "x", holder=this_process(), expires_s=600.0) as lease:
        assert lease.claim.number == 2


def compete(store: Store, folder: str, turns: int) -> None:
    done = 0
    for _ in range(3000):
        try:
            with held(store, "x", holder=this_process(), expires_s=600.0):
                inside = Path(folder, "inside")
                inside.touch(exist_ok=False)
                time.sleep(0.01)
                inside.unlink()
                Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()
            done += 1
        except SurroundingsError:
            time.sleep(0.005)
        if done == turns:
            return


def test_of_many_that_start_together_one_at_a_time_writes(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "turns"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=compete, args=(store, str(folder), 4)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(folder.iterdir())) == 16
