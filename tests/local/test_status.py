"""What `ich-ray status` tells of a store: what has run, what is being written, what fell silent."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ich_ray.lease import Claim, Holder
from ich_ray.storage.leases import held, this_process
from ich_ray.storage.objects import Store
from ich_ray.storage.runs import Run, append_run
from jobs.status import main

HOLDER = Holder(process="boot space 7 1", place="process 7 on a-head", submission="train-1")
CLAIM = Claim(number=1, holder=HOLDER, since="2026-01-02T12:00:00+00:00", expires_s=60.0)
BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "settings.toml").write_text(f'store = {{ root = "{tmp_path}/store" }}\n')
    return Store(str(tmp_path / "store"))


def told(capsys: pytest.CaptureFixture[str], store: Store, *words: str) -> list[str]:
    assert main([str(Path(store.root).parent / "settings.toml"), *words]) == 0
    return capsys.readouterr().out.splitlines()


def add_run(store: Store, name: str, *, outcome: str, minute: int, said: str = "") -> None:
    url = store.url("models", name)
    began = BEGAN + timedelta(minutes=minute)
    append_run(
        store,
        Run(
            stage="train",
            name=name,
            settings={},
            figures={"line": said},
            code_revision="abc",
            started=began,
            ended=began + timedelta(seconds=90),
            outcome=outcome,
            outputs=[{"kind": "model", "url": url, "version": "1"}] if outcome == "done" else [],
        ),
    )


def add_claim(store: Store, name: str, claim: Claim, *, beaten_s_ago: float = 0.0) -> None:
    path = Path(store.url("leases", name, f"{claim.number:06d}.json"))
    store.write_bytes(str(path), claim.encoded())
    os.utime(path, (at := time.time() - beaten_s_ago, at))


def test_an_empty_store_has_nothing_to_tell(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, store) == []
    assert told(capsys, store, "--json") == []


def test_runs_are_told_in_order_with_what_came_of_them_and_where_it_lies(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(store, "student", outcome="SurroundingsError", minute=5)
    add_run(store, "teacher", outcome="done", minute=0, said="teacher: 200 steps\nand more")
    finished, failed = told(capsys, store)
    assert finished == (
        "2026-01-01T12:00:00+00:00  done       train teacher, 90 s: teacher: 200 steps -> "
        f"{store.root}/models/teacher"
    )
    assert failed.startswith("2026-01-01T12:05:00+00:00  SurroundingsError train student, 90 s")
    assert "->" not in failed
    assert told(capsys, store, "--last", "1") == [failed]


def test_what_beats_is_being_written(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_claim(store, "models/teacher", CLAIM, beaten_s_ago=30.0)
    with held(store, "corpora/a", holder=this_process(), expires_s=600.0):
        here, elsewhere = told(capsys, store)
    assert f"writing    corpora/a: process {os.getpid()} on " in here
    assert elsewhere == (
        "2026-01-02T12:00:00+00:00  writing    models/teacher: process 7 on a-head, submission "
        f"train-1; taken over after 60 s of silence -> {store.root}/models/teacher"
    )
    # Let go of, it is written no more.
    assert told(capsys, store) == [elsewhere]


def test_what_does_not_beat_is_silent_and_since_when(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    add_claim(store, "models/teacher", CLAIM, beaten_s_ago=3600.0)
    (line,) = told(capsys, store)
    assert line.startswith("2026-01-02T12:00:00+00:00  silent     models/teacher: process 7 on a-h")
    said = line.partition("silent since ")[2].partition(";")[0]
    silent = datetime.now(UTC) - datetime.fromisoformat(said)
    assert timedelta(seconds=3590) < silent < timedelta(seconds=4200)


def test_a_holder_of_this_machine_that_hangs_is_silent_and_one_that_ended_is_not_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    lives, ended = this_process(), this_process()
    ended = Holder(process=f"{ended.process}0", place=ended.place)
    for name, holder in (("a", lives), ("b", ended)):
        claim = Claim(number=1, holder=holder, since=CLAIM.since, expires_s=60.0)
        add_claim(store, name, claim, beaten_s_ago=100.0)
    (line,) = told(capsys, store)
    assert "silent     a: " in line


def test_json_tells_the_same_one_run_a_line(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(store, "teacher", outcome="done", minute=0, said="200 steps")
    add_claim(store, "models/student", CLAIM, beaten_s_ago=100.0)
    finished, silent = (json.loads(line) for line in told(capsys, store, "--json"))
    assert finished == {
        "state": "done",
        "what": "train teacher",
        "started": "2026-01-01T12:00:00+00:00",
        "took_s": 90.0,
        "said": "200 steps",
        "outputs": [store.url("models", "teacher")],
    }
    assert (silent["state"], silent["what"], silent["took_s"]) == ("silent", "models/student", None)
    assert silent["outputs"] == [store.url("models", "student")]


class _Clock(BaseHTTPRequestHandler):
    """Says that it is noon of 2026-01-01, and that its object was written 90 s before."""

    def do_HEAD(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", format_datetime(BEGAN, usegmt=True))
        written = BEGAN - timedelta(seconds=90)
        self.send_header("Last-Modified", format_datetime(written, usegmt=True))
        self.send_header("Content-Length", "2")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Clock) as started:
        thread = Thread(target=started.serve_forever, daemon=True)
        thread.start()
        yield Store("s3://bucket/run", f"http://127.0.0.1:{started.server_port}", max_attempts=1)
        started.shutdown()
        thread.join()


def test_the_age_of_an_object_is_told_by_the_clock_of_its_store_alone(clock: Store) -> None:
    assert clock.age_s(clock.url("leases", "x", "000001.json")) == 90.0
