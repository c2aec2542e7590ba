"""Objects by URL, local or S3: read, list and write, and what an outage looks like."""

import contextlib
import errno
import io
import os
import stat
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow.fs

from ich_ray.config import StoreConfig
from ich_ray.errors import ConfigError, SurroundingsError
from ich_ray.storage import archive

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class ListedObject:
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
            with _answered(url, "read"):
                if is_local(url):
                    return _read_local(_path(url), once=once)
                return cast(bytes, self._fs(url).cat_file(_path(url)))
        except FileNotFoundError:
            self._confirm_absent(url)
            raise FileNotFoundError(f"{url} does not exist") from None

    def read_range(self, url: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` to before `end`, fewer where it ends."""
        if archive.is_member(url):
            return archive.read(self.read_range, archive.Member.of_url(url), end=end)[start:]
        try:
            with _answered(url, "read"):
                if is_local(url):
                    with open(_path(url), "rb", buffering=0) as stream:
                        # Else Linux reads ahead, 128 KiB for a header of 2.
                        _advise(stream, "POSIX_FADV_RANDOM")
                        return os.pread(stream.fileno(), end - start, start)
                return cast(bytes, self._fs(url).cat_file(_path(url), start=start, end=end))
        except FileNotFoundError:
            self._confirm_absent(url)
            raise FileNotFoundError(f"{url} does not exist") from None

    @contextlib.contextmanager
    def open(self, url: str) -> Iterator[BinaryIO]:
        """Open an object for reading; an outage while it is read is a SurroundingsError."""
        try:
            # Parquet knows the ranges that it wants: a read-ahead would fetch more.
            with (
                _answered(url, "read"),
                self._fs(url).open(_path(url), "rb", cache_type="none") as stream,
            ):
                yield cast(BinaryIO, stream)
        except FileNotFoundError:
            self._confirm_absent(url)
            raise FileNotFoundError(f"{url} does not exist") from None

    def write_bytes(self, url: str, data: bytes) -> None:
        """Write an object as a whole or not at all, over what was there."""
        with self.create(url) as stream:
            stream.write(data)

    @contextlib.contextmanager
    def create(self, url: str, *, once: bool = False) -> Iterator[BinaryIO]:
        """Open an object for writing; it is there, as a whole, when the block ends in peace.

        Args:
            url: Of the object.
            once: This process will not read it soon: a disk's cache need not keep it.
        """
        if is_local(url):
            with _answered(url, "write"), _local_file(Path(_path(url)), once=once) as stream:
                yield stream
            return
        buffer = io.BytesIO()
        yield buffer
        try:
            with _answered(url, "write"):
                self._fs(url).pipe_file(_path(url), buffer.getvalue())
        except FileNotFoundError:
            raise _bucket_missing(url) from None

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
        with _answered(url, "list"):
            if is_local(url):
                found = list(_local_objects(Path(_path(url)), url))
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
            return _listed(Path(_path(url)), name, url)
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
        return pyarrow.fs.PyFileSystem(handler), _path(url)

    def _fs(self, url: str) -> Any:
        protocol = _protocol(url)
        if protocol not in self._file_systems:
            options: dict[str, Any] = {}
            if protocol == "s3":
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
                self._file_systems[protocol] = fsspec.filesystem(protocol, **options)
            except (ValueError, ImportError):
                raise ConfigError(
                    f"a URL of the settings names the protocol {protocol!r}, which is not known "
                    "here; use a local folder or s3://bucket/prefix"
                ) from None
        return self._file_systems[protocol]

    def _ask(self, url: str, verb: str) -> Any:
        try:
            with _answered(url, verb):
                return self._fs(url).info(_path(url))
        except FileNotFoundError:
            self._confirm_absent(url)
            raise

    def _confirm_absent(self, url: str) -> None:
        """Ask twice, by another call: s3fs may report an outage as FileNotFoundError."""
        if _protocol(url) != "s3":
            return
        bucket, _, key = _path(url).partition("/")
        try:
            with _answered(url, "look for"):
                self._fs(url).call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
        except FileNotFoundError:
            raise _bucket_missing(url) from None

    def _archived(self, url: str, prefix: str) -> Iterator[ListedObject]:
        folder = f"{prefix}/" if prefix else ""
        with self.open(url) as stream:
            for name, member in archive.members(stream, url):
                if name.startswith(folder):
                    key = name.removeprefix(folder)
                    yield ListedObject(key, member.url, member.size, member.etag)

    def _remote_objects(self, url: str) -> list[ListedObject]:
        try:
            entries = self._fs(url).find(_path(url), detail=True)
        except FileNotFoundError:
            entries = {}
        if not entries:
            self._confirm_absent(url)
        prefix = _path(url).rstrip("/") + "/"
        return [
            ListedObject(
                key=name.removeprefix(prefix),
                url=join(url, name.removeprefix(prefix)),
                size=int(entry["size"]),
                etag=_remote_etag(entry),
            )
            for name, entry in entries.items()
            if entry["type"] == "file" and name.startswith(prefix)
        ]


def is_local(url: str) -> bool:
    """Tell whether a URL is a path of this machine.

    >>> is_local("out/demo"), is_local("s3://ich/demo")
    (True, False)
    """
    return _protocol(url) == "file"


def absolute(url: str) -> str:
    """Return a URL that means the same in every process.

    >>> absolute("s3://ich/demo/")
    's3://ich/demo'
    """
    return os.path.abspath(_path(url)) if is_local(url) else url.rstrip("/")


def join(url: str, *parts: str) -> str:
    """Return the URL of something below another.

    >>> join("s3://ich/demo", "corpora", "a")
    's3://ich/demo/corpora/a'
    """
    return "/".join([url.rstrip("/"), *parts])


def _protocol(url: str) -> str:
    head, separator, _ = url.partition("://")
    return {"s3a": "s3"}.get(head, head) if separator else "file"


def _path(url: str) -> str:
    # fsspec's paths of the web are whole URLs.
    if "://" not in url or _protocol(url) in ("http", "https"):
        return url
    return url.partition("://")[2]


@contextlib.contextmanager
def _answered(url: str, verb: str) -> Iterator[None]:
    """Turn what a store's clients raise into one sentence with the URL and what to do."""
    try:
        yield
    except FileNotFoundError:
        raise
    except _refusals() as error:
        advice = (
            "give this user access to the folder"
            if is_local(url)
            else "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the bucket's policy"
        )
        raise SurroundingsError(
            f"cannot {verb} {url}: access refused ({_first_line(error)}); {advice}"
        ) from error
    except _failures() as error:
        if is_local(url) and getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(url) from error
        advice = (
            "check the disk"
            if is_local(url)
            else "check that the store runs and store.endpoint_url"
        )
        raise SurroundingsError(
            f"cannot {verb} {url}: {_first_line(error)}; {advice}, then run the same command again"
        ) from error


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
    return PermissionError, *_raised_by("botocore.exceptions", "NoCredentialsError")


def _failures() -> tuple[type[BaseException], ...]:
    clients = _raised_by("botocore.exceptions", "BotoCoreError") + _raised_by(
        "aiohttp", "ClientError"
    )
    return OSError, *clients


def _raised_by(module: str, name: str) -> tuple[type[BaseException], ...]:
    """Return an exception of a client of S3: nothing before the client is loaded, which is slow."""
    loaded = sys.modules.get(module)
    return () if loaded is None else (getattr(loaded, name),)


def _bucket_missing(url: str) -> SurroundingsError:
    bucket = _path(url).partition("/")[0]
    return SurroundingsError(
        f"cannot reach {url}: there is no bucket {bucket!r}; make it, or correct the URL"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _read_local(path: str, *, once: bool) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        data = stream.read()
        if once:
            # A corpus of hundreds of GB would fill the memory with pages that nobody wants again.
            _advise(stream, "POSIX_FADV_DONTNEED")
        return data


def _advise(stream: BinaryIO, advice: str) -> None:
    """Tell the system how a file is read, where it listens: macOS has no such call."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, getattr(os, advice))


@contextlib.contextmanager
def _local_file(path: Path, *, once: bool) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if once:
                _advise(stream, "POSIX_FADV_DONTNEED")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _local_objects(folder: Path, url: str) -> Iterator[ListedObject]:
    """Walk a folder; links to folders are not followed."""
    # As text, and with what the folder itself knows of its entries: a Path and a look at the name
    # for each of a million files would cost more than all the rest of a run without work.
    pending = [(str(folder), "")]
    while pending:
        parent, prefix = pending.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(parent) as entries:
            for entry in entries:
                key = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{key}/"))
                    continue
                # A dangling link, or a file that went away since, is nothing to read.
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    if not stat.S_ISDIR(status.st_mode):
                        yield ListedObject(key, f"{url}/{key}", status.st_size, _etag(status))


def _listed(path: Path, key: str, url: str) -> ListedObject:
    status = path.stat()
    return ListedObject(key, url, status.st_size, _etag(status))


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _remote_etag(entry: Mapping[str, Any]) -> str:
    return str(entry.get("ETag", entry["size"])).strip('"')
