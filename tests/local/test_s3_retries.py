"""Reads of a server that is in trouble: asked again, counted, and given up where it is no use."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from ich_ray.errors import SurroundingsError
from ich_ray.storage import retries
from ich_ray.storage.objects import Store

ATTEMPTS = 4


class Server(ThreadingHTTPServer):
    """Answers with the codes that it was given, then with the object."""

    codes: list[int]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(self.server.codes.pop(0) if self.server.codes else 200)
        headers = {"Content-Length": "6", "ETag": '"e"'}
        headers["Last-Modified"] = "Wed, 21 Oct 2015 07:28:00 GMT"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"object")

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Server(("127.0.0.1", 0), _Handler) as started:
        started.codes = []
        thread = Thread(target=started.serve_forever, daemon=True)
        thread.start()
        retries.taken()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def store(server: Server) -> Store:
    return Store("s3://bucket/run", f"http://127.0.0.1:{server.server_port}", ATTEMPTS)


def test_a_read_is_asked_for_again_and_each_time_is_counted_once(
    server: Server, store: Store
) -> None:
    server.codes = [503, 429]
    assert store.read_bytes("s3://bucket/object") == b"object"
    assert retries.taken() == 2
    assert retries.taken() == 0
    assert store.read_bytes("s3://bucket/object") == b"object"
    assert retries.taken() == 0


def test_a_server_that_stays_in_trouble_is_given_up_after_the_attempts_of_the_settings(
    server: Server, store: Store
) -> None:
    server.codes = [503] * 10
    with pytest.raises(SurroundingsError, match="503 Service Unavailable"):
        store.read_bytes("s3://bucket/object")
    assert len(server.codes) == 10 - ATTEMPTS
    assert retries.taken() == ATTEMPTS - 1


def test_a_request_that_the_server_refuses_is_not_repeated(server: Server, store: Store) -> None:
    server.codes = [400] * 10
    with pytest.raises(SurroundingsError, match="400 Bad Request"):
        store.read_bytes("s3://bucket/object")
    assert len(server.codes) == 9
    assert retries.taken() == 0
