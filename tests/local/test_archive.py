"""Zip archives as sources; the copy of Kaggle's archive is made here, as its listing documents it.

No file of the real archive is at hand: the writer makes its folder names, its CSV beside the
slices, members stored and deflated, and the 64-bit records that 181 GB need.
"""

import io
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_ray.errors import ConfigError, InvalidExam, Reason
from ich_ray.storage import archive
from ich_ray.storage.objects import Store

KAGGLE = "rsna-intracranial-hemorrhage-detection"
RANDOM = bytes(zlib.crc32(bytes([i % 251, i // 251 % 251])) & 255 for i in range(200_000))


def kaggle_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{KAGGLE}/stage_2_train.csv", "ID,Label\n")
        made.mkdir(f"{KAGGLE}/stage_2_train")
        made.writestr(f"{KAGGLE}/stage_2_train/ID_1.dcm", RANDOM)
        made.writestr(f"{KAGGLE}/stage_2_train/ID_2.dcm", b"2" * 500_000)
        made.writestr(f"{KAGGLE}/stage_2_train/ID_3.dcm", RANDOM, zipfile.ZIP_STORED)
        # Written as a stream, its local header is of 64 bits and its sizes stand behind it.
        with made.open(f"{KAGGLE}/stage_2_test/ID_4.dcm", "w", force_zip64=True) as member:
            member.write(b"4" * 10)
    return path


@pytest.fixture
def zipped(tmp_path: Path) -> str:
    return str(kaggle_zip(tmp_path / f"{KAGGLE}.zip"))


def test_members_are_listed_and_read_like_files(zipped: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    listed = store.listing(zipped)
    with zipfile.ZipFile(zipped) as reference:
        reference.extractall(tmp_path / "unpacked")
    unpacked = store.listing(str(tmp_path / "unpacked"))
    assert [(a.key, a.size) for a in listed] == [(b.key, b.size) for b in unpacked]
    for member, file in zip(listed, unpacked, strict=True):
        whole = store.read_bytes(file.url)
        assert store.read_bytes(member.url) == whole
        for end in (0, 1, 100, 65_536, 10**6):
            assert store.read_range(member.url, 0, end) == whole[:end]
        assert store.read_range(member.url, 5, 9) == whole[5:9]


def test_a_prefix_within_the_archive_is_a_source(zipped: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    listed = store.listing(f"{zipped}/{KAGGLE}/stage_2_train")
    assert [item.key for item in listed] == ["ID_1.dcm", "ID_2.dcm", "ID_3.dcm"]
    assert store.listing(f"{zipped}/{KAGGLE}/stage_2") == []
    labels = store.describe(f"{zipped}/{KAGGLE}/stage_2_train.csv")
    assert labels is not None
    assert store.read_bytes(labels.url) == b"ID,Label\n"
    assert store.describe(f"{zipped}/{KAGGLE}/none.csv") is None


def test_names_of_members_stay_out_of_their_urls(zipped: str, tmp_path: Path) -> None:
    for item in Store(str(tmp_path)).listing(zipped):
        assert item.key not in item.url
        assert "ID_" not in item.url


def test_a_member_costs_one_range_of_about_its_own_size(
    zipped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    listed = {item.key.rpartition("/")[2]: item for item in store.listing(zipped)}
    ranges: list[int] = []
    read_range = Store.read_range

    def counted(self: Store, url: str, start: int, end: int) -> bytes:
        if not archive.is_member(url):
            ranges.append(end - start)
        return read_range(self, url, start, end)

    monkeypatch.setattr(Store, "read_range", counted)
    for name in ("ID_1.dcm", "ID_2.dcm", "ID_3.dcm"):
        store.read_bytes(listed[name].url)
    assert len(ranges) == 3
    assert ranges[1] < 2_000  # of 500,000 bytes that deflate to next to nothing
    assert ranges[2] < len(RANDOM) + 2_000
    ranges.clear()
    store.read_range(listed["ID_3.dcm"].url, 0, 65_536)
    assert len(ranges) == 1
    assert ranges[0] < 65_536 + 3_000


def test_the_directory_of_an_archive_is_read_by_a_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as made:
        for number in range(70_000):  # more than 16 bits count
            made.writestr(f"ID_{number}.dcm", b"x")
    reads: list[int] = []

    class Counted(io.FileIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            raise AssertionError("every read has its length")

        def read(self, size: int = -1) -> bytes:
            reads.append(size)
            return super().read(size)

    with Counted(path) as stream:
        assert sum(1 for _ in archive.members(stream, str(path))) == 70_000
    assert len(reads) <= 8


def test_the_same_content_packed_anew_is_unchanged(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    before = [(i.key, i.etag) for i in store.listing(str(kaggle_zip(tmp_path / "a.zip")))]
    with (
        zipfile.ZipFile(tmp_path / "a.zip") as old,
        zipfile.ZipFile(tmp_path / "b.zip", "w") as new,
    ):
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    assert [(i.key, i.etag) for i in store.listing(str(tmp_path / "b.zip"))] == before
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as changed, pytest.warns(match="Duplicate name"):
        changed.writestr(f"{KAGGLE}/stage_2_train/ID_1.dcm", RANDOM[1:])
    after = store.listing(str(tmp_path / "b.zip"))
    changed_keys = [i.key for i, old in zip(after, before, strict=True) if i.etag != old[1]]
    assert changed_keys == [f"{KAGGLE}/stage_2_train/ID_1.dcm"]
    (now,) = (item for item in after if item.key == changed_keys[0])
    assert store.read_bytes(now.url) == RANDOM[1:]


def refused(store: Store, url: str) -> Reason:
    with pytest.raises(InvalidExam) as caught:
        store.read_bytes(url)
    return caught.value.reason


def test_damage_is_found_by_the_checksum(zipped: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    listed = store.listing(f"{zipped}/{KAGGLE}/stage_2_train")
    data = bytearray(Path(zipped).read_bytes())
    for item in listed:
        offset = archive.Member.of_url(item.url).offset
        data[offset + 200] ^= 1
    Path(zipped).write_bytes(data)
    assert {refused(store, item.url) for item in listed} == {Reason.UNREADABLE}
    Path(zipped).write_bytes(b"replaced while it was read" * 10_000)
    assert {refused(store, item.url) for item in listed} == {Reason.UNREADABLE}


def test_what_deflate_did_not_pack_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as made:
        made.writestr("ID_1.dcm", RANDOM)
    store = Store(str(tmp_path))
    (item,) = store.listing(str(path))
    with pytest.raises(InvalidExam, match="packed by method 12; unpack the archive"):
        store.read_bytes(item.url)
    # Bit 0 of the flags, in the directory: encrypted.
    data = bytearray(path.read_bytes())
    flags = data.rindex(b"PK\1\2") + 8
    data[flags : flags + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    (item,) = store.listing(str(path))
    with pytest.raises(InvalidExam, match="the member is encrypted"):
        store.read_bytes(item.url)
    assert refused(store, item.url) == Reason.UNSUPPORTED_MEMBER


def test_a_broken_archive_is_named_and_an_absent_one_is_empty(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "half.zip").write_bytes(kaggle_zip(tmp_path / "a.zip").read_bytes()[:-30])
    with pytest.raises(ConfigError, match=r"zip archive cannot be read .* fetch it"):
        store.listing(str(tmp_path / "half.zip"))
    assert store.listing(str(tmp_path / "none.zip")) == []
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "folder.zip" / "ID_1.dcm").write_bytes(b"x")
    assert [item.key for item in store.listing(str(tmp_path / "folder.zip"))] == ["ID_1.dcm"]


@given(
    st.builds(
        archive.Member,
        st.sampled_from(["s3://ich/a.zip", "/data/a::b/c,d.zip"]),
        st.integers(0, 2**63),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.integers(-1, 99),
        st.integers(0, 2**32 - 1),
    )
)
def test_a_member_survives_its_url(member: archive.Member) -> None:
    assert archive.is_member(member.url)
    assert archive.Member.of_url(member.url) == member


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of this folder that gives ranges."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            self.answer(send=True)

        def answer(self, *, send: bool) -> None:
            path = tmp_path / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            start, end = 0, len(data)
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start = int(first) if first else max(len(data) - int(last), 0)
                end = min(int(last) + 1, len(data)) if first and last else len(data)
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if send:
                self.wfile.write(data[start:end])

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_archive_on_the_web_is_a_source(zipped: str, tmp_path: Path, web: str) -> None:
    store = Store(str(tmp_path))
    listed = store.listing(f"{web}/{Path(zipped).name}/{KAGGLE}/stage_2_train")
    assert [store.read_bytes(item.url) for item in listed] == [RANDOM, b"2" * 500_000, RANDOM]
