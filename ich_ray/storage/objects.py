"""Objects by URL, local or S3: read, list and write, and what an outage looks like."""

import contextlib
import io
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec
import pyarrow.fs

from ich_ray.config import StoreConfig
from ich_ray.errors import ConfigError, SurroundingsError, first_line
from ich_ray.storage import archive, local_files
from ich_ray.storage.outages import answered, bucket_missing
from ich_ray.storage.urls import absolute, is_local, join, path_of, protocol

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30

_CONFLICT_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""After each answer that another write of the same object was going on."""

_NEVER = ("InvalidRequest", "InvalidArgument", "MethodNotAllowed", "NotImplemented", "405", "501")
"""Answers of a store to a conditional write that it will answer in the same way again."""


class ListedObject(NamedTuple):
    """One object of a listing."""

    key: str
    """Relative to the listed URL, with forward slashes."""

    url: str
    size: int
    etag: str
    """Changes when the content does: the server's, or size and time of a local file."""


@dataclass(frozen=True)
class Store:
    """Where tables and checkpoints live, and how any URL of a run is reached.

    Picklable: each process builds its own file system on first use, since s3fs hangs after a
    fork and loses its retries when it is pickled. Credentials come from the environment.
    """

    root: str
    endpoint_url: str = ""
    max_attempts: int = 10
    _file_systems: dict[str, Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def from_config(cls, config: StoreConfig) -> "Store":
        """Return the store of a run's settings."""
        if "%" in config.root:
            # The log's reader would decode it, and look elsewhere.
            raise ConfigError(f"store.root={config.root} holds a %; choose a name without it")
        return cls(config.root, config.endpoint_url, config.max_attempts)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the file systems behind."""
        return {**self.__dict__, "_file_systems": {}}

    def url(self, *parts: str) -> str:
        """Return the URL of something under the root."""
        return join(absolute(self.root), *parts)

    def exists(self, url: str) -> bool:
        """Tell whether there is an object of this very name."""
        try:
            return bool(self._ask(url, "look for")["type"] == "file")
        except FileNotFoundError:
            return False

    def size(self, url: str) -> int:
        """Return the size of an object in bytes.

        Raises:
            FileNotFoundError: The store answers, and holds no such object.
        """
        return int(self._ask(url, "look for")["size"])

    def age_s(self, url: str) -> float:
        """Return for how many seconds an object has been as it is, by the store's own clock.

        Raises:
            FileNotFoundError: The store answers, and holds no such object.
        """
        with answered(url, "look for"):
            if protocol(url) != "s3":
                written = self._fs(url).modified(path_of(url))
                return float((datetime.now(UTC) - written).total_seconds())
            bucket, _, key = path_of(url).partition("/")
            found = self._fs(url).call_s3("head_object", Bucket=bucket, Key=key)
        asked = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((asked - found["LastModified"]).total_seconds())

    def read_bytes(self, url: str, *, once: bool = False) -> bytes:
        """Return an object's bytes.

        Args:
            url: Of the object.
            once: Nobody will ask for it soon: a disk's cache need not keep it.

        Raises:
            FileNotFoundError: The store answers, and holds no such object.
            SurroundingsError: The store is away, or refuses the credentials.
            InvalidExam: It is a member of an archive that cannot be unpacked.
        """
        if archive.is_member(url):
            return archive.read(self.read_range, archive.Member.of_url(url))
        try:
            with answered(url, "read"):
                if is_local(url):
                    return local_files.read(path_of(url), once=once)
                return self._read_remote(url)
        except FileNotFoundError:
            self._confirm_absent(url)
            raise FileNotFoundError(f"{url} does not exist") from None

    def read_range(self, url: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` to before `end`, fewer where it ends."""
        if archive.is_member(url):
            return archive.read(self.read_range, archive.Member.of_url(url), end=end)[start:]
        try:
            with answered(url, "read"):
                if is_local(url):
                    return local_files.read_range(path_of(url), start, end)
                return self._read_remote(url, start, end)
        except FileNotFoundError:
            self._confirm_absent(url)
            raise FileNotFoundError(f"{url} does not exist") from None

    def announce(self, url: str, *, end: int | None = None) -> None:
        """Say that an object, or its bytes before `end`, will be read soon; a disk then starts."""
        if is_local(url):
            local_files.announce(path_of(url), end=end)

    @contextlib.contextmanager
    def open(self, url: str) -> Iterator[BinaryIO]:
        """Open an object for reading; an outage while it is read is a SurroundingsError."""
        try:
            # Parquet knows the ranges that it wants: a read-ahead would fetch more.
            with (
                answered(url, "read"),
                self._fs(url).open(path_of(url), "rb", cache_type="none") as stream,
            ):
                yield cast(BinaryIO, stream)
        except FileNotFoundError:
            self._confirm_absent(url)
            raise FileNotFoundError(f"{url} does not exist") from None

    def write_bytes(self, url: str, data: bytes) -> None:
        """Write an object as a whole or not at all, over what was there."""
        with self.create(url) as stream:
            stream.write(data)

    def create_once(self, url: str, data: bytes) -> bool:
        """Write an object unless there is one of this name; of several writers one succeeds.

        Returns:
            Whether this call wrote it.

        Raises:
            ConfigError: The store knows no such writes, or refuses them in this bucket.
        """
        if is_local(url):
            with answered(url, "write"):
                return local_files.create_once(Path(path_of(url)), data)
        try:
            for pause_s in _CONFLICT_PAUSES_S:
                with answered(url, "write"):
                    created = self._create_remote(url, data)
                if created is not None:
                    return created
                time.sleep(pause_s)
        except FileNotFoundError:
            raise bucket_missing(url) from None
        raise SurroundingsError(
            f"cannot create {url}: the store answered {len(_CONFLICT_PAUSES_S)} times that another "
            "write of it was going on; see who writes with ich-ray status, then run the same "
            "command again"
        )

    def remove(self, url: str) -> None:
        """Remove an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError), answered(url, "remove"):
            self._fs(url).rm_file(path_of(url))

    @contextlib.contextmanager
    def create(self, url: str, *, once: bool = False) -> Iterator[BinaryIO]:
        """Open an object for writing; it is there, as a whole, when the block ends in peace.

        Args:
            url: Of the object.
            once: This process will not read it soon: a disk's cache need not keep it.
        """
        if is_local(url):
            with (
                answered(url, "write"),
                local_files.create(Path(path_of(url)), once=once) as stream,
            ):
                yield stream
            return
        buffer = io.BytesIO()
        yield buffer
        try:
            with answered(url, "write"):
                self._fs(url).pipe_file(path_of(url), buffer.getvalue())
        except FileNotFoundError:
            raise bucket_missing(url) from None

    def listing(self, url: str) -> list[ListedObject]:
        """Return every object under a URL, by key; empty if there is none.

        A URL through a zip archive, such as `s3://ich/rsna.zip/stage_2_train`, lists its members.

        Raises:
            SurroundingsError: The store is away, refuses the credentials, or has no such bucket.
            ConfigError: The archive is broken.
        """
        url = absolute(url)
        through = archive.split(url)
        if through is not None and self.exists(through[0]):
            return sorted(self._archived(*through), key=lambda item: item.key)
        with answered(url, "list"):
            if is_local(url):
                found = [
                    ListedObject(key, f"{url}/{key}", size, etag)
                    for key, size, etag in local_files.walk(path_of(url))
                ]
            else:
                found = self._remote_objects(url)
        return sorted(found, key=lambda item: item.key)

    def describe(self, url: str) -> ListedObject | None:
        """Return one object as a listing would, or None if there is none."""
        url = absolute(url)
        folder, _, name = url.rpartition("/")
        through = archive.split(folder)
        if through is not None and self.exists(through[0]):
            return next((item for item in self.listing(folder) if item.key == name), None)
        if not self.exists(url):
            return None
        if is_local(url):
            return ListedObject(name, url, *local_files.describe(path_of(url)))
        found = self._ask(url, "look for")
        return ListedObject(name, join(folder, name), int(found["size"]), _remote_etag(found))

    def delta_uri(self, url: str) -> str:
        """Return the URL as `deltalake` wants it."""
        return absolute(url)

    def delta_options(self, url: str) -> dict[str, str]:
        """Return the storage options of `deltalake`; keys and region come from the environment."""
        if is_local(url):
            return {}
        options = {
            "conditional_put": "etag",
            "max_retries": str(self.max_attempts),
            "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
            "timeout": f"{READ_TIMEOUT_S}s",
        }
        if self.endpoint_url:
            options["AWS_ENDPOINT_URL"] = self.endpoint_url
            options["AWS_ALLOW_HTTP"] = str(self.endpoint_url.startswith("http://")).lower()
        return options

    def arrow_file_system(self, url: str) -> tuple[pyarrow.fs.FileSystem | None, str]:
        """Return the file system and the path of a URL as Ray Train wants them."""
        if is_local(url):
            return None, absolute(url)
        handler = pyarrow.fs.FSSpecHandler(self._fs(url))
        return pyarrow.fs.PyFileSystem(handler), path_of(url)

    def _fs(self, url: str) -> Any:
        client = protocol(url)
        if client not in self._file_systems:
            options: dict[str, Any] = {}
            if client == "s3":
                options = {
                    "endpoint_url": self.endpoint_url or None,
                    "use_listings_cache": False,
                    "config_kwargs": {
                        "retries": {"mode": "standard", "max_attempts": self.max_attempts},
                        "connect_timeout": CONNECT_TIMEOUT_S,
                        "read_timeout": READ_TIMEOUT_S,
                    },
                }
            try:
                self._file_systems[client] = fsspec.filesystem(client, **options)
            except (ValueError, ImportError):
                raise ConfigError(
                    f"a URL of the settings names the protocol {client!r}, which is not known "
                    "here; use a local folder or s3://bucket/prefix"
                ) from None
        return self._file_systems[client]

    def _read_remote(self, url: str, start: int | None = None, end: int | None = None) -> bytes:
        if protocol(url) == "s3":
            # Here and not above: botocore takes a while to load.
            from ich_ray.storage import s3_reads

            bucket, _, key = path_of(url).partition("/")
            name = f"s3://{bucket}"
            if name not in self._file_systems:
                self._file_systems[name] = s3_reads.open_bucket(
                    bucket,
                    endpoint_url=self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL", ""),
                    connect_s=CONNECT_TIMEOUT_S,
                    read_s=READ_TIMEOUT_S,
                )
            with contextlib.suppress(s3_reads.Unnameable):
                return s3_reads.read(
                    self._file_systems[name], key, start, end, max_attempts=self.max_attempts
                )
        return cast(bytes, self._fs(url).cat_file(path_of(url), start=start, end=end))

    def _create_remote(self, url: str, data: bytes) -> bool | None:
        """Return whether this call wrote a new object; None where the store must be asked again."""
        try:
            self._fs(url).pipe_file(path_of(url), data, mode="create")
        except OSError as error:
            # By the store's answer: s3fs has one number for it and for any other status 400, and
            # none for a conflict.
            code, status = _answer(error)
            if isinstance(error, FileExistsError) or code == "PreconditionFailed" or status == 412:
                return False
            if code == "ConditionalRequestConflict" or status == 409:
                return None
            if code in _NEVER:
                raise ConfigError(
                    f"cannot create {url}: {first_line(error.__cause__)}; a lease is created only "
                    "where there is none: check that the store knows conditional writes "
                    "(If-None-Match: *) and what the bucket demands of a write (Object Lock, "
                    "encryption), or set another store.root"
                ) from error
            raise
        return True

    def _ask(self, url: str, verb: str) -> Any:
        try:
            with answered(url, verb):
                return self._fs(url).info(path_of(url))
        except FileNotFoundError:
            self._confirm_absent(url)
            raise

    def _confirm_absent(self, url: str) -> None:
        """Ask twice, by another call: s3fs may report an outage as FileNotFoundError."""
        if protocol(url) != "s3":
            return
        bucket, _, key = path_of(url).partition("/")
        try:
            with answered(url, "look for"):
                found = self._fs(url).call_s3(
                    "list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1
                )
        except FileNotFoundError:
            raise bucket_missing(url) from None
        if any(item["Key"] == key for item in found.get("Contents", ())):
            raise SurroundingsError(
                f"{url} was not there a moment ago, and is: the store was away, or another run "
                "wrote it; run the same command again"
            )

    def _archived(self, url: str, prefix: str) -> Iterator[ListedObject]:
        folder = f"{prefix}/" if prefix else ""
        with self.open(url) as stream:
            for name, member in archive.members(stream, url):
                if name.startswith(folder):
                    key = name.removeprefix(folder)
                    yield ListedObject(key, member.url, member.size, member.etag)

    def _remote_objects(self, url: str) -> list[ListedObject]:
        try:
            entries = self._fs(url).find(path_of(url), detail=True)
        except FileNotFoundError:
            entries = {}
        if not entries:
            self._confirm_absent(url)
        base = url.rstrip("/")
        prefix = path_of(base) + "/"
        return [
            ListedObject(
                key=(key := name.removeprefix(prefix)),
                url=f"{base}/{key}",
                size=int(entry["size"]),
                etag=_remote_etag(entry),
            )
            for name, entry in entries.items()
            if entry["type"] == "file" and name.startswith(prefix)
        ]


def _answer(error: OSError) -> tuple[str, int]:
    """Return code and HTTP status of a store's answer, of which s3fs made the error."""
    answer = getattr(error.__cause__, "response", {})
    code = str(answer.get("Error", {}).get("Code", ""))
    return code, int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _remote_etag(entry: Mapping[str, Any]) -> str:
    return str(entry.get("ETag", entry["size"])).strip('"')
