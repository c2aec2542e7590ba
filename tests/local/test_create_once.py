"""Writes of a new object, by what an S3 server answers: there already, busy, or never."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.lease import Holder
from ich_ray.storage.leases import held
from ich_ray.storage.objects import Store

URL = "s3://bucket/run/leases/x/000001.json"
LOCKED = (
    "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object "
    "Lock parameters"
)
CONFLICT = (409, "ConditionalRequestConflict", "The conditional request cannot succeed")
HELD = "At least one of the pre-conditions you specified did not hold"


class Server(ThreadingHTTPServer):
    """Answers writes with the status, code and text that it was given, then with success."""

    answers: list[tuple[int, str, str]]
    conditions: list[str | None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.conditions.append(self.headers["If-None-Match"])
        status, code, text = self.server.answers.pop(0) if self.server.answers else (200, "", "")
        more = "<Condition>If-None-Match</Condition>" if text == HELD else ""
        said = f"<Error><Code>{code}</Code><Message>{text}</Message>{more}</Error>" if code else ""
        self.send_response(status)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Server(("127.0.0.1", 0), _Handler) as started:
        started.answers, started.conditions = [], []
        thread = Thread(target=started.serve_forever, daemon=True)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def store(server: Server) -> Store:
    return Store("s3://bucket/run", f"http://127.0.0.1:{server.server_port}", max_attempts=1)


def test_what_is_not_there_is_written_on_condition_that_it_is_not(
    server: Server, store: Store
) -> None:
    assert store.create_once(URL, b"{}")
    assert server.conditions == ["*"]


@pytest.mark.parametrize(
    "answer",
    [(412, "PreconditionFailed", HELD), (412, "PreconditionFailed", "no"), (412, "", "")],
    ids=["aws", "other servers", "no text"],
)
def test_what_is_there_is_left_alone(
    server: Server, store: Store, answer: tuple[int, str, str]
) -> None:
    server.answers = [answer]
    assert not store.create_once(URL, b"{}")


def test_of_two_that_write_at_the_same_time_the_one_that_is_told_so_looks_again(
    server: Server, store: Store
) -> None:
    server.answers = [CONFLICT, (412, "PreconditionFailed", HELD)]
    assert not store.create_once(URL, b"{}")
    server.answers = [CONFLICT, (409, "", "")]
    assert store.create_once(URL, b"{}")
    assert len(server.conditions) == 5


def test_a_conflict_that_does_not_end_is_told(server: Server, store: Store) -> None:
    server.answers = [CONFLICT] * 100
    with pytest.raises(SurroundingsError, match=r"cannot create s3://bucket/run/leases.* another"):
        store.create_once(URL, b"{}")
    assert 2 <= len(server.conditions) <= 10


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((400, "InvalidRequest", LOCKED), ConfigError, r"Content-MD5.*Object Lock, encryption"),
        ((400, "InvalidArgument", "no such header"), ConfigError, "conditional writes"),
        ((501, "NotImplemented", "not implemented"), ConfigError, "another store.root"),
        ((501, "", ""), ConfigError, "another store.root"),
        ((400, "BadDigest", "no match"), SurroundingsError, "no match; check that the store runs"),
        ((400, "", ""), SurroundingsError, "Bad Request; check that the store runs"),
        ((403, "AccessDenied", "no"), SurroundingsError, "access refused .*AWS_ACCESS_KEY_ID"),
        ((404, "NoSuchBucket", "none"), SurroundingsError, "there is no bucket 'bucket'"),
        ((500, "InternalError", "sorry"), SurroundingsError, "sorry; check that the store runs"),
    ],
    ids=lambda given: f"{given[0]} {given[1]}" if isinstance(given, tuple) else "",
)
def test_a_write_that_is_refused_is_no_object_that_is_there(
    server: Server,
    store: Store,
    answer: tuple[int, str, str],
    error: type[ConfigError | SurroundingsError],
    said: str,
) -> None:
    server.answers = [answer] * 100
    with pytest.raises(error, match=rf"s3://bucket/run/leases/x/000001\.json.*{said}"):
        store.create_once(URL, b"{}")


def test_a_claim_that_is_there_and_not_listed_ends_with_a_message_and_not_in_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def there(_: Store, url: str, __: bytes) -> bool:
        asked.append(url)
        return False

    paused: list[float] = []
    monkeypatch.setattr(Store, "create_once", there)
    monkeypatch.setattr(time, "sleep", paused.append)
    holder = Holder(process="boot space 1 1", place="process 1 on a-host")
    with (
        pytest.raises(SurroundingsError, match=r"cannot claim x: .*leases/x is there.*not list"),
        held(Store(str(tmp_path)), "x", holder=holder, expires_s=60.0),
    ):
        pass
    assert len(asked) == len(paused)
    assert min(paused) > 0
