import os
import pickle
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from ich_ray.config import StoreConfig
from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_an_object_is_written_whole_and_read_back(store: Store) -> None:
    url = store.url("a", "b.bin")
    assert not store.exists(url)
    store.write_bytes(url, b"first")
    store.write_bytes(url, b"second")
    assert store.read_bytes(url) == b"second"
    assert store.read_range(url, 1, 4) == b"eco"
    assert store.size(url) == 6
    with store.open(url) as stream:
        assert stream.read() == b"second"


def test_a_write_that_fails_leaves_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.url("a.bin")
    store.write_bytes(url, b"first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SurroundingsError, match=r"cannot write .*a\.bin.*disk .* is full"):
        store.write_bytes(url, b"second")
    assert store.read_bytes(url) == b"first"
    assert [item.key for item in store.listing(store.root)] == ["a.bin"]


def test_a_listing_is_recursive_sorted_and_names_changes(store: Store) -> None:
    store.write_bytes(store.url("b", "2"), b"xx")
    store.write_bytes(store.url("a"), b"x")
    (Path(store.root) / "dangling").symlink_to("nowhere")
    listed = store.listing(store.root)
    assert [(item.key, item.size) for item in listed] == [("a", 1), ("b/2", 2)]
    assert store.read_bytes(listed[1].url) == b"xx"
    assert store.describe(listed[1].url) == listed[1].__class__(
        "2", listed[1].url, 2, listed[1].etag
    )
    store.write_bytes(store.url("a"), b"yy")
    assert store.listing(store.root)[0].etag != listed[0].etag
    assert store.listing(store.url("nothing")) == []


def test_a_missing_object_is_no_outage(store: Store) -> None:
    for read in (store.read_bytes, store.size):
        with pytest.raises(FileNotFoundError):
            read(store.url("none"))
    assert store.describe(store.url("none")) is None


def test_a_store_travels_without_its_connections(store: Store) -> None:
    store.write_bytes(store.url("a"), b"x")
    assert store.read_bytes(store.url("a")) == b"x"
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert copy._file_systems == {}
    assert copy.read_bytes(copy.url("a")) == b"x"


class FakeS3:
    """Answers as s3fs does when the server is away: the look, that the file is not there."""

    def __init__(self, second: Callable[..., Any]) -> None:
        self.call_s3 = second

    def info(self, path: str) -> dict[str, Any]:
        raise FileNotFoundError(path)


def test_an_outage_that_looks_like_a_missing_file_is_an_outage() -> None:
    def away(*_: object, **__: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    store = Store("s3://ich/run")
    store._file_systems["s3"] = FakeS3(away)
    with pytest.raises(SurroundingsError, match=r"s3://ich/run/a.*store\.endpoint_url"):
        store.size(store.url("a"))


def test_a_missing_file_of_a_store_that_answers_is_missing() -> None:
    store = Store("s3://ich/run")
    store._file_systems["s3"] = FakeS3(lambda *_, **__: {})
    with pytest.raises(FileNotFoundError, match="ich/run/a"):
        store.size(store.url("a"))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")


@pytest.mark.usefixtures("keys")
def test_a_server_that_is_away_is_an_outage_and_not_a_missing_object() -> None:
    store = Store("s3://ich/run", "http://127.0.0.1:1", max_attempts=1)
    for read in (store.read_bytes, lambda url: store.read_range(url, 0, 1)):
        with pytest.raises(SurroundingsError, match=r"s3://ich/run/a.*store\.endpoint_url"):
            read(store.url("a"))


def test_nobody_without_credentials_is_asked_to_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = Store("s3://ich/run", "http://127.0.0.1:1")
    with pytest.raises(SurroundingsError, match=r"access refused .*check AWS_ACCESS_KEY_ID"):
        store.read_bytes(store.url("a"))


def test_settings_that_cannot_work_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="holds a %"):
        Store.from_config(StoreConfig(root="out/a%20b"))
    with pytest.raises(ConfigError, match="protocol 'gopher'"):
        Store("gopher://x").exists("gopher://x/y")


class Elsewhere(BaseHTTPRequestHandler):
    """Answers as AWS does for a bucket of another region."""

    def do_GET(self) -> None:
        body = (
            b"<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to "
            b"access must be addressed using the specified endpoint.</Message></Error>"
        )
        self.send_response(301)
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("keys")
def test_a_bucket_of_another_region_is_told_from_a_store_that_is_away() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        store = Store("s3://ich/run", f"http://127.0.0.1:{server.server_port}", max_attempts=1)
        asked: list[Callable[[str], object]] = [store.listing, store.read_bytes]
        asked.append(lambda url: open_table(store, url))
        for ask in asked:
            with pytest.raises(SurroundingsError, match=r"'ich' lies in another region: set AWS_R"):
                ask(store.url("a"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_that_is_announced_is_read_as_any(store: Store) -> None:
    url = store.url("a.bin")
    store.write_bytes(url, b"first")
    store.announce(url)
    store.announce(url, end=2)
    assert store.read_bytes(url) == b"first"
    # Whoever reads it says what is wrong with it.
    store.announce(store.url("gone"))
    store.announce(store.root)
    store.announce("s3://elsewhere/a.bin")
