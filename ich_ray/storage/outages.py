"""What an outage of a disk or of a store looks like: one sentence with what to do."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ich_ray.errors import SurroundingsError, first_line
from ich_ray.storage.urls import absolute, is_local, path_of

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the bucket's policy"


@contextlib.contextmanager
def answered(url: str, verb: str) -> Iterator[None]:
    """Turn what a store's clients raise into one sentence with the URL and what to do."""
    try:
        yield
    except FileNotFoundError:
        raise
    except _refusals() as error:
        advice = "give this user access to the folder" if is_local(url) else _KEYS
        raise SurroundingsError(
            f"cannot {verb} {url}: access refused ({_named(error)}); {advice}"
        ) from error
    except _failures() as error:
        if is_local(url) and getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(url) from error
        raise SurroundingsError(
            f"cannot {verb} {url}: {_named(error)}; {advice_on(url, error)}, then run the "
            "same command again"
        ) from error


def advice_on(url: str, error: BaseException) -> str:
    """Return what to check after a failure, as far as its text tells."""
    if is_local(url):
        return "check the disk"
    if "necessary privileges" in str(error):
        return _KEYS
    if re.search("redirect|specified endpoint|AuthorizationHeaderMalformed", str(error)):
        bucket = path_of(url).partition("/")[0]
        return (
            f"the bucket {bucket!r} lies in another region: set AWS_REGION to the bucket's in the "
            "environment of every node, and store.endpoint_url if it names a region"
        )
    return "check that the store runs and store.endpoint_url"


def disk_full(url: str) -> SurroundingsError:
    """Return what to say when a write of a local file found no space; names the disk."""
    disk = Path(absolute(url))
    while not os.path.ismount(disk):
        disk = disk.parent
    return SurroundingsError(
        f"cannot write {url}: the disk mounted at {disk} is full, or your quota of it; make room "
        "there, or set another store.root, then run the same command again: what is committed is "
        "whole, and what is finished is not done again"
    )


def _refusals() -> tuple[type[BaseException], ...]:
    return (
        PermissionError,
        *_raised_by("botocore.exceptions", "NoCredentialsError"),
        *_raised_by("obstore.exceptions", "PermissionDeniedError"),
        *_raised_by("obstore.exceptions", "UnauthenticatedError"),
    )


def _failures() -> tuple[type[BaseException], ...]:
    return (
        OSError,
        *_raised_by("botocore.exceptions", "BotoCoreError"),
        *_raised_by("aiohttp", "ClientError"),
        *_raised_by("obstore.exceptions", "BaseError"),
    )


def _raised_by(module: str, name: str) -> tuple[type[BaseException], ...]:
    """Return an exception of a client of S3: nothing before the client is loaded, which is slow."""
    loaded = sys.modules.get(module)
    return () if loaded is None else (getattr(loaded, name),)


def bucket_missing(url: str) -> SurroundingsError:
    """Return what to say when a bucket is not there."""
    bucket = path_of(url).partition("/")[0]
    return SurroundingsError(
        f"cannot reach {url}: there is no bucket {bucket!r}; make it, or correct the URL"
    )


def _named(error: BaseException) -> str:
    name, said = type(error).__name__, first_line(error)
    return name if said == name else f"{name}: {said}"
