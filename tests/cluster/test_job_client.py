"""What the job API's client refuses, and what it makes of clusters that fail."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ich_ray.distributed import job_client
from ich_ray.distributed.job_client import ClusterLostError, connect, follow, jobs_of
from ich_ray.errors import ConfigError, SurroundingsError


@contextmanager
def answering(version: str | None, *, python: str = "3.11.9", jobs: int = 200) -> Iterator[str]:
    """Answer as the job API of a Ray of some version does, or as another server."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = {"version": "4", "ray_version": version, "ray_commit": "0"}
            body = json.dumps({**told, "data": {"pythonVersion": python}}).encode()
            if self.path.startswith("/api/jobs"):
                self.send_response(jobs)
            else:
                self.send_response(404 if version is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_cluster_of_another_ray_is_refused_with_both_versions() -> None:
    with answering("2.31.0") as address, pytest.raises(ConfigError, match=r"2\.31\.0.*needs 2\.60"):
        connect(address)


def test_a_job_that_a_new_head_does_not_know_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    # It answers the request for the log as for the job: 404, which is no WebSocket either.
    monkeypatch.setattr(job_client, "PATIENCE_S", 3.0)
    with answering("2.60.0", jobs=404) as address:
        client = connect(address)
        with pytest.raises(ClusterLostError, match="knows no job train-0 any more"):
            follow(client, address, "train-0", lambda _: None, lambda _: None)


def test_a_cluster_of_a_python_that_is_too_old_is_refused() -> None:
    with (
        answering("2.60.0", python="3.10.14") as address,
        pytest.raises(ConfigError, match=r"runs Python 3\.10, and this code needs 3\.11"),
    ):
        connect(address)


def test_a_job_api_that_fails_is_no_bug_of_ours() -> None:
    with answering("2.60.0", jobs=500) as address:
        client = connect(address)
        with pytest.raises(SurroundingsError, match=r"answers, and fails .*status code 500"):
            jobs_of(client, address)


def test_an_address_where_nothing_answers_is_named() -> None:
    with pytest.raises(SurroundingsError, match=r"cannot reach a job API at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9")


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "ray://head:10001", "auto"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"give the job API's, http://HOST:8265"):
        connect(address)


def test_what_is_no_job_api_is_named() -> None:
    with answering(None) as address, pytest.raises(ConfigError, match=r"is no Ray job API"):
        connect(address)
