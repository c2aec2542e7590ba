"""Files of this machine: read, listed, and written as a whole or not at all."""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def read(path: str, *, once: bool) -> bytes:
    """Return a file's bytes; `once` tells the system that nobody will ask for them soon."""
    with open(path, "rb", buffering=0) as stream:
        data = stream.read()
        if once:
            # A corpus of hundreds of GB would fill the memory with pages that nobody wants again.
            _advise(stream, "POSIX_FADV_DONTNEED")
        return data


def read_range(path: str, start: int, end: int) -> bytes:
    """Return the bytes of a file from `start` to before `end`, fewer where it ends."""
    with open(path, "rb", buffering=0) as stream:
        # Else Linux reads ahead, 128 KiB for a header of 2.
        _advise(stream, "POSIX_FADV_RANDOM")
        return os.pread(stream.fileno(), end - start, start)


def announce(path: str, *, end: int | None = None) -> None:
    """Have the system fetch a file, or its bytes before `end`, while this process goes on.

    Of a file that cannot be opened nothing is said here: reading it will.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError), open(path, "rb", buffering=0) as stream:
            os.posix_fadvise(stream.fileno(), 0, end or 0, os.POSIX_FADV_WILLNEED)


def _advise(stream: BinaryIO, advice: str) -> None:
    """Tell the system how a file is read, where it listens: macOS has no such call."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, getattr(os, advice))


@contextlib.contextmanager
def create(path: Path, *, once: bool) -> Iterator[BinaryIO]:
    """Open a file for writing; it is there, as a whole, when the block ends in peace."""
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


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with create(path, once=False) as stream:
        stream.write(data)


def create_once(path: Path, data: bytes) -> bool:
    """Write a file unless there is one of this name; return whether this call did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        # A link is made with its content, and fails where the name is taken.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def walk(folder: str) -> Iterator[tuple[str, int, str]]:
    """Yield key, size and etag of every file below a folder; links to folders are not followed."""
    # As text, and with what the folder itself knows of its entries: a Path and a look at the name
    # for each of a million files would cost more than all the rest of a run without work.
    pending = [(folder, "")]
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
                        yield key, status.st_size, _etag(status)


def describe(path: str) -> tuple[int, str]:
    """Return size and etag of a file."""
    status = os.stat(path)
    return status.st_size, _etag(status)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"
