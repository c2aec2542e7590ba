"""A zip archive as a folder of objects: listed once, then one range request a member.

The Kaggle archive of RSNA 2019 has 870,000 members in 181 GB: its directory is read once, by who
lists it, and what a worker needs to find one member travels in that member's URL.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ich_ray.errors import ConfigError, InvalidExam, Reason

_SCHEME = "zip://"
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, lengths of the name and of the extra field; APPNOTE 4.3.7."""

_HEADER_ROOM = 1024
"""Bytes of a local header that are read with its member: a name and an extra field fit."""

_ENCRYPTED = -1
"""In the place of the method."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where one member of an archive lies, and what it must be."""

    archive: str
    """URL of the archive."""

    offset: int
    """Of its local header, bytes."""

    packed: int
    """Bytes in the archive."""

    size: int
    """Bytes when it is unpacked."""

    method: int
    crc: int

    @property
    def url(self) -> str:
        """Everything above, as a URL that `of_url` reads; the member's name is not in it."""
        facts = f"{self.offset},{self.packed},{self.size},{self.method},{self.crc}"
        return f"{_SCHEME}{facts}::{self.archive}"

    @classmethod
    def of_url(cls, url: str) -> "Member":
        """Read what `url` wrote."""
        facts, _, archive = url.removeprefix(_SCHEME).partition("::")
        offset, packed, size, method, crc = (int(fact) for fact in facts.split(","))
        return cls(archive, offset, packed, size, method, crc)

    @property
    def etag(self) -> str:
        """Changes when the content does; not when the same content is packed anew."""
        return f"{self.crc:08x}-{self.size}"


def is_member(url: str) -> bool:
    """Tell whether a URL names a member of an archive."""
    return url.startswith(_SCHEME)


def split(url: str) -> tuple[str, str] | None:
    """Return the archive that a URL goes through and the path within it, or None.

    >>> split("s3://ich/rsna.zip/stage_2_train")
    ('s3://ich/rsna.zip', 'stage_2_train')
    >>> split("s3://ich/rsna")
    """
    parts = url.split("/")
    for number, part in enumerate(parts, 1):
        if part.lower().endswith(".zip"):
            return "/".join(parts[:number]), "/".join(parts[number:])
    return None


def members(stream: Any, archive: str) -> Iterator[tuple[str, Member]]:
    """Yield path and place of every file of an archive; of equal paths the last, as unzip does.

    Args:
        stream: The archive: a binary file that can seek, local or of fsspec.
        archive: Its URL.

    Raises:
        ConfigError: It is no whole zip archive.
    """
    try:
        directory = zipfile.ZipFile(stream)
    # Streams that cannot seek raise ValueError, foreign versions NotImplementedError.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ConfigError(
            # Not its name, which may be a patient's.
            f"the source's zip archive cannot be read ({type(error).__name__}): it is broken, "
            "or its server does not give ranges; fetch it again, or unpack it"
        ) from None
    for name, found in directory.NameToInfo.items():
        if not found.is_dir():
            method = _ENCRYPTED if found.flag_bits & 0x1 else found.compress_type
            yield (
                name,
                Member(
                    archive,
                    found.header_offset,
                    found.compress_size,
                    found.file_size,
                    method,
                    found.CRC,
                ),
            )


def read(
    fetch: Callable[[str, int, int], bytes], member: Member, *, end: int | None = None
) -> bytes:
    """Return a member's bytes, or its first `end` bytes.

    Args:
        fetch: Returns the bytes of a URL from a start to before an end.
        member: Of an archive that `fetch` reaches.
        end: Without it the whole member is read, and its checksum compared.

    Raises:
        InvalidExam: It is encrypted, packed by another method than deflate, or damaged.
    """
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        what = "encrypted" if member.method == _ENCRYPTED else f"packed by method {member.method}"
        raise InvalidExam(
            Reason.UNSUPPORTED_MEMBER, f"the member is {what}; unpack the archive, or pack it anew"
        )
    # Deflate grows what it cannot shrink by its blocks' headers and code tables, no more.
    wanted = member.packed if end is None else min(member.packed, end + end // 1024 + 1024)
    raw = fetch(member.archive, member.offset, member.offset + _HEADER_ROOM + wanted)
    if len(raw) < _LOCAL_HEADER.size or raw[:4] != b"PK\3\4":
        raise _damaged("the archive changed since it was listed")
    _, name_length, extra_length = _LOCAL_HEADER.unpack_from(raw)
    start = _LOCAL_HEADER.size + name_length + extra_length
    if start > _HEADER_ROOM:
        raw = fetch(member.archive, member.offset, member.offset + start + wanted)
    packed = raw[start : start + wanted]
    limit = member.size + 1 if end is None else end
    data = packed[:limit] if member.method == zipfile.ZIP_STORED else _inflated(packed, limit)
    if end is None and (len(data) != member.size or zlib.crc32(data) != member.crc):
        raise _damaged("its checksum is wrong")
    return data


def _inflated(packed: bytes, limit: int) -> bytes:
    try:
        # A limit of 0 is none to zlib.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)[:limit]
    except zlib.error:
        raise _damaged("it cannot be inflated") from None


def _damaged(why: str) -> InvalidExam:
    return InvalidExam(Reason.UNREADABLE, f"the member of the archive is damaged: {why}")
