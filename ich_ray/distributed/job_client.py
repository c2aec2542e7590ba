"""Ray's job API with time limits, and with errors that say what to do."""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import requests
from ray.dashboard.modules.job.common import JobStatus
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from ich_ray import requirements
from ich_ray.errors import ConfigError, SurroundingsError, first_line

RAY_VERSION = "2.60"
CONNECT_S, ANSWER_S = 5.0, 60.0
QUIET_S = 10.0
"""Without a line for as long it is asked whether the job runs still."""

PATIENCE_S = 120.0
"""For as long a job API that does not answer is asked again."""

_OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


class JobClient(JobSubmissionClient):
    """A client whose requests end, whatever the network does."""

    def _do_request(self, *args: Any, **kwargs: Any) -> Any:
        return super()._do_request(*args, timeout=(CONNECT_S, ANSWER_S), **kwargs)


@contextlib.contextmanager
def answered(address: str) -> Iterator[None]:
    """Turn what the client raises into one sentence with what to do."""
    try:
        yield
    except AuthenticationError as error:
        raise ConfigError(
            f"the job API at {address} refuses the token, or wants one; set RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's, and check that the "
            "address is the dashboard's, http://HOST:8265"
        ) from error
    except (OSError, requests.RequestException, aiohttp.ClientError) as error:
        raise SurroundingsError(
            f"cannot reach a job API at {address}; check the address (http://HOST:8265), that the "
            "cluster runs, and the tunnel to it if there is one"
        ) from error
    except RuntimeError as error:
        # What Ray's client makes of any answer that is no success.
        raise SurroundingsError(
            f"the job API at {address} answers, and fails ({first_line(error)}); look at the "
            "cluster's head, then run the same command again"
        ) from error


def connect(address: str) -> JobClient:
    """Return a client of a cluster that this code can run on.

    Args:
        address: `http://HOST:PORT` of the head's dashboard.

    Raises:
        ConfigError: The address is none, the token is wrong, or the cluster runs another Ray.
        SurroundingsError: Nothing answers there.
    """
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"--address {address}: give the job API's, http://HOST:8265; a tunnel to it makes it "
            "http://127.0.0.1:8265"
        )
    # It tells of packages and web sockets.
    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    # Ray would rather follow these than the address that it is given.
    before = {name: os.environ.pop(name) for name in _OVERRIDES if name in os.environ}
    try:
        with answered(address):
            try:
                client = JobClient(address)
            except RuntimeError as error:
                if _status(error) >= 500:
                    raise
                raise ValueError(str(error)) from error
            there = str(client._do_request("GET", "/api/version").json().get("ray_version"))
            python = _python_of(client)
    except ValueError as error:
        raise ConfigError(
            f"what answers at {address} is no Ray job API ({first_line(error)}); give the "
            "dashboard's address, http://HOST:8265"
        ) from error
    finally:
        os.environ.update(before)
    if not there.startswith(f"{RAY_VERSION}."):
        raise ConfigError(
            f"the cluster at {address} runs Ray {there}, and this code needs {RAY_VERSION}; use "
            "the image of cluster/Dockerfile, or install constraints.txt on its nodes"
        )
    if python is not None and python < requirements.PYTHON:
        raise ConfigError(
            f"the cluster at {address} runs Python {'.'.join(map(str, python))}, and this code "
            f"needs {'.'.join(map(str, requirements.PYTHON))}; use the image of cluster/Dockerfile"
        )
    return client


def _python_of(client: JobClient) -> tuple[int, ...] | None:
    """Return the major and minor version of a cluster's Python, if it tells."""
    answer = client._do_request("GET", "/api/v0/cluster_metadata")
    if answer.status_code != requests.codes.ok:
        return None
    told = str(answer.json().get("data", {}).get("pythonVersion", ""))
    numbers = told.split(".")[:2]
    return tuple(map(int, numbers)) if all(part.isdigit() for part in numbers) else None


def jobs_of(client: JobClient, address: str) -> dict[str, JobDetails]:
    """Return submission id -> details of the jobs that were submitted to a cluster."""
    with answered(address):
        listed = client.list_jobs()
    return {job.submission_id: job for job in listed if job.submission_id}


def follow(
    client: JobClient,
    address: str,
    submission: str,
    write: Callable[[str], None],
    tell: Callable[[str], None],
) -> JobDetails:
    """Write a job's log as it grows, until the job has ended; return what became of it.

    A connection that breaks is made again; nothing is written twice. Of a job that waits for room
    it is told once what for.

    Raises:
        SurroundingsError: The API was silent for too long, or the cluster has lost the job.
    """
    written, told = 0, False
    silent_since: float | None = None

    def asked() -> JobDetails:
        nonlocal told
        details = _details(client, address, submission)
        if details.status == JobStatus.PENDING and not told:
            told = True
            tell(
                f"{submission} has not begun ({first_line(details.message or 'no word')}); its "
                "driver reserves what submit.driver_* say, and the cluster may be starting a node"
            )
        return details

    while True:
        log = _Log(client, submission, write, written)
        try:
            with answered(address):
                asyncio.run(log.tail(asked))
                details = _details(client, address, submission)
                written = log.written
                if JobStatus(details.status).is_terminal():
                    # What came between the last line and the end; gone if its node is.
                    with contextlib.suppress(RuntimeError):
                        write(client.get_job_logs(submission)[written:])
                    return details
            silent_since = None
        except ClusterLostError:
            raise
        except SurroundingsError:
            written = log.written
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > PATIENCE_S:
                raise SurroundingsError(
                    f"the job API at {address} has not answered for {PATIENCE_S:g} s; the job "
                    f"{submission} may run still: the same command follows it, or starts it again"
                ) from None
        time.sleep(1.0)


class _Log:
    """A job's log as far as it was written."""

    def __init__(
        self, client: JobClient, submission: str, write: Callable[[str], None], written: int
    ) -> None:
        self.client, self.submission, self.write = client, submission, write
        self.written, self._seen = written, 0

    async def tail(self, ask: Callable[[], JobDetails]) -> None:
        """Write what comes until the job ends or the connection does."""
        lines = self.client.tail_job_logs(self.submission)
        coming = asyncio.ensure_future(anext(lines))
        try:
            while True:
                if not (await asyncio.wait({coming}, timeout=QUIET_S))[0]:
                    details = await asyncio.to_thread(ask)
                    if JobStatus(details.status).is_terminal():
                        return
                    continue
                try:
                    self._take(coming.result())
                except (StopAsyncIteration, RuntimeError, OSError, aiohttp.ClientError):
                    # The job ended, or the connection did, or a new head refuses the log of a job
                    # that it does not know: whoever called finds out.
                    return
                coming = asyncio.ensure_future(anext(lines))
        finally:
            coming.cancel()

    def _take(self, text: str) -> None:
        fresh = text[max(self.written - self._seen, 0) :]
        self._seen += len(text)
        if fresh:
            self.write(fresh)
            self.written = self._seen


def _details(client: JobClient, address: str, submission: str) -> JobDetails:
    try:
        return client.get_job_info(submission)
    except RuntimeError as error:
        if _status(error) == requests.codes.not_found:
            raise ClusterLostError(
                f"the cluster at {address} knows no job {submission} any more: its head was "
                "started anew; run the same command again, it goes on from what was committed"
            ) from error
        raise SurroundingsError(first_line(error)) from error


class ClusterLostError(SurroundingsError):
    """The head was started anew, and has lost its jobs."""


def _status(error: RuntimeError) -> int:
    """Return the HTTP status of which Ray's client tells, 0 if of none."""
    found = re.match(r"Request failed with status code (\d+)", str(error))
    return int(found[1]) if found else 0
