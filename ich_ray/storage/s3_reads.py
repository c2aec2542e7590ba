"""Reads of S3 objects by obstore, at a quarter of what s3fs takes of the CPU.

Credentials are those that botocore finds, as for s3fs: the environment, a profile, or a role.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session  # type: ignore[import-untyped]  # it has no stubs
import obstore
import pyarrow.fs
import tenacity
from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]
from obstore.exceptions import GenericError
from obstore.store import S3Store

from ich_ray.storage import retries

_FRESH = timedelta(minutes=5)
"""Those of a role end; botocore renews them when it is asked in time."""


_LONGEST_S = 180
"""That one read may be asked for again."""


class Unnameable(Exception):
    """A key that obstore has no name for, with an empty part or a dot for one."""


def open_bucket(bucket: str, *, endpoint_url: str, connect_s: int, read_s: int) -> S3Store:
    """Return a client for one bucket.

    Args:
        bucket: Its name.
        endpoint_url: Of a server of one's own; empty: AWS.
        connect_s: Time for a connection, s.
        read_s: Time for an answer, s.

    Raises:
        BotoCoreError: There are no credentials.
        OSError: AWS does not tell the bucket's region.
    """
    session = botocore.session.get_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError

    def now() -> Any:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _FRESH,
        }

    options: dict[str, Any] = {"region": session.get_config_variable("region") or "us-east-1"}
    if endpoint_url:
        options["endpoint"] = endpoint_url
    else:
        # A source may lie in another region than the one that is configured.
        options["region"] = pyarrow.fs.resolve_s3_region(bucket)
    return S3Store(
        bucket,
        **options,
        credential_provider=now,
        client_options={
            "allow_http": endpoint_url.startswith("http://"),
            "connect_timeout": f"{connect_s}s",
            "timeout": f"{read_s}s",
        },
        # `read` asks again itself: the client would not say that it did.
        retry_config={"max_retries": 0},
    )


def read(
    client: S3Store,
    key: str,
    start: int | None = None,
    end: int | None = None,
    *,
    max_attempts: int,
) -> bytes:
    """Return the bytes of an object, or those from `start` to before `end`.

    Args:
        client: Of its bucket.
        key: Of the object.
        start: First byte; None reads all.
        end: Byte after the last.
        max_attempts: Before the store counts as away; those after the first are counted
            (storage/retries.py).

    Raises:
        FileNotFoundError: There is no such object, or no such bucket.
        BaseError: The store failed, or refuses the credentials.
        Unnameable: Ask another client.
    """
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(max_attempts) | tenacity.stop_after_delay(_LONGEST_S),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=15),
        before_sleep=lambda _: retries.add(),
        reraise=True,
    )
    try:
        return again(_read_once, client, key, start, end)
    except ValueError:
        raise Unnameable from None


def _read_once(client: S3Store, key: str, start: int | None, end: int | None) -> bytes:
    if start is None or end is None:
        return obstore.get(client, key).bytes().to_bytes()
    return obstore.get_range(client, key, start=start, end=end).to_bytes()


def _may_pass(error: BaseException) -> bool:
    """Tell whether the same request may succeed later: no answer, or one of a server in trouble."""
    refused = re.search(r"status code: 4(?!08|29)", str(error))
    return isinstance(error, GenericError) and refused is None
