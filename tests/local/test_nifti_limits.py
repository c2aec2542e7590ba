"""What a deflated NIfTI file may do: it ends with a reason, and the next one is read."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.config import NiftiConfig
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Slice
from ich_ray.identity import PUBLIC_KEY, Pseudonyms
from ich_ray.ingest_plan import Planned, Truth
from ich_ray.storage import nifti, nifti_volume
from ich_ray.storage.corpora.nifti import Nifti
from ich_ray.storage.guarded import Guard
from ich_ray.storage.objects import Store
from ich_ray.storage.part_writer import PartWriter
from tests.local.nifti_corpora import head, image_of, marks, turned

NAMES = Pseudonyms(PUBLIC_KEY)
LAYOUT = Nifti(NiftiConfig(image="{patient}.nii", mask="{patient}_mask.nii"))
MEMBER = gzip.compress(bytes(1 << 24))


def header(**fields: Any) -> bytes:
    """The first 352 bytes of a file of air: its zeros are -1024 HU."""
    made = image_of(head(), slope=1.0, intercept=-1024.0)
    for name, value in fields.items():
        made.header[name] = value
    made.header["vox_offset"] = 352
    return bytes(made.header.binaryblock) + bytes(4)


def deflated_zeros(*shape: int, members: int) -> bytes:
    """16 kB for each member of 16 MiB."""
    dim = [3, *shape, 1, 1, 1, 1]
    return gzip.compress(header(dim=dim)) + members * MEMBER


HOSTILE: dict[str, tuple[bytes, Reason, Reason]] = {
    # 1 MB that unpacks to 1 GiB, and to as many 16-bit slices again; a mask needs 8 bits.
    "a bomb as large as its header says": (
        deflated_zeros(512, 512, 2000, members=64),
        Reason.TOO_LARGE,
        Reason.MASK_MISMATCH,
    ),
    "a bomb of an absurd size": (
        deflated_zeros(30_000, 30_000, 30_000, members=300),
        Reason.TOO_LARGE,
        Reason.TOO_LARGE,
    ),
    "a small file of a large size": (
        deflated_zeros(512, 512, 1000, members=1),
        Reason.TRUNCATED_PIXELS,
        Reason.TRUNCATED_PIXELS,
    ),
    "cut": (
        gzip.compress(image_of(head()).to_bytes())[:-30],
        Reason.TRUNCATED_PIXELS,
        Reason.TRUNCATED_PIXELS,
    ),
    **{
        f"{name} of {value}": (
            gzip.compress(header(**{name: value})),
            Reason.BAD_HEADER,
            Reason.BAD_HEADER,
        )
        for name in ("scl_slope", "scl_inter")
        for value in (np.nan, np.inf, -np.inf)
    },
}


def planned_file(path: Path, role: Literal["slice", "mask"], content: bytes | None) -> Planned:
    """An object of the one exam; without content the file is there already."""
    if content is not None:
        path.write_bytes(content)
    return Planned(
        key=path.name,
        url=str(path),
        source=NAMES.of(path.name),
        etag="",
        size=path.stat().st_size,
        role=role,
        patient="p",
        exam="e",
        slice=path.name,
        truth=Truth(),
    )


def reason_in_ledger(folder: Path, role: Literal["slice", "mask"], data: bytes) -> str | None:
    """Read an exam whose image, or whose mask, is this; None stands for accepted."""
    image = data if role == "slice" else image_of(head()).to_bytes()
    planned = [planned_file(folder / "7.nii", "slice", image)]
    if role == "mask":
        planned.append(planned_file(folder / "7_mask.nii", "mask", data))
    exam = PartWriter(Store(str(folder)), "c", LAYOUT, NAMES).read_exam(planned)
    (entry,) = [entry for entry in exam.entries if entry.role == role]
    assert (entry.outcome == "accepted") == (entry.reason is None)
    return entry.reason


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_file_has_its_reason_and_the_next_is_read(tmp_path: Path, name: str) -> None:
    data, as_image, as_mask = HOSTILE[name]
    assert reason_in_ledger(tmp_path, "slice", data) == as_image
    assert reason_in_ledger(tmp_path, "mask", data) == as_mask
    assert reason_in_ledger(tmp_path, "slice", gzip.compress(image_of(head()).to_bytes())) is None
    assert reason_in_ledger(tmp_path, "mask", gzip.compress(image_of(marks()).to_bytes())) is None


@pytest.fixture
def hasty() -> Iterator[Guard]:
    guard = Guard(limit_s=0.5)
    yield guard
    guard.close()


def gzip_with_name(length: int) -> bytes:
    """Python reads such a name a byte at a time."""
    plain = gzip.compress(image_of(head()).to_bytes())
    return plain[:3] + b"\x08" + plain[4:10] + b"n" * length + b"\0" + plain[10:]


@pytest.mark.parametrize(
    "data",
    [gzip_with_name(20_000_000), gzip.compress(b"") * 500_000],
    ids=["a name of 20 MB", "500,000 empty members"],
)
def test_a_stream_that_yields_nothing_for_long_is_too_slow(hasty: Guard, data: bytes) -> None:
    with pytest.raises(InvalidExam) as caught:
        hasty.call("ich_ray.storage.nifti_volume:decode_image", data)
    assert caught.value.reason == Reason.TOO_SLOW
    assert nifti_volume.promised_bytes(data) == 0


def test_the_limit_of_time_grows_with_what_a_file_can_hold_and_no_further() -> None:
    full = 512 * 512 * 400
    dim = [3, 512, 512, 400, 1, 1, 1, 1]
    # As real CT: 1 byte of the file for 2 of its own.
    honest = gzip.compress(header(dim=dim)) + bytes(full)
    assert nifti_volume.promised_bytes(honest) == 2 * full
    alone = gzip.compress(header(dim=dim))
    assert nifti_volume.promised_bytes(alone) == 1032 * len(alone)
    absurd = gzip.compress(header(dim=[3, *[30_000] * 3, 1, 1, 1, 1])) + bytes(1 << 21)
    assert nifti_volume.promised_bytes(absurd) == nifti_volume.MAX_BYTES
    for nothing in (b"", b"\x1f\x8b", gzip.compress(b"no NIfTI" * 100), honest[:40]):
        assert nifti_volume.promised_bytes(nothing) == 0


def same(a: Slice, b: Slice) -> bool:
    """Tell whether two slices are the same to the last bit."""
    numbers = [struct.pack("2d", s.slope, s.intercept) for s in (a, b)]
    return (
        numbers[0] == numbers[1]
        and (a.key, repr(a.geometry)) == (b.key, repr(b.geometry))
        and (a.stored.dtype, a.stored.tobytes()) == (b.stored.dtype, b.stored.tobytes())
    )


@given(
    st.sampled_from([np.int16, np.uint16, np.uint8, np.int32, np.float32, np.float64]),
    st.sampled_from(["LPS", "RAI", "SAL", "PIR"]),
    st.sampled_from([1.0, 0.5, 1 / 3]),
    st.sampled_from([0.0, -1000.5]),
)
@settings(max_examples=20, deadline=None)
def test_a_guarded_process_gives_the_same_slices_and_masks_to_the_last_bit(
    dtype: type[np.generic], axes: str, slope: float, intercept: float
) -> None:
    stored = np.clip(head() + 20, 0, 200).astype(dtype)
    made = turned(image_of(stored), axes)
    made.header.set_slope_inter(slope, intercept - 1024.0)
    data = made.to_bytes()
    here = LAYOUT.read_slices("7.nii", data, NAMES)
    there = LAYOUT.read_slices("7.nii", gzip.compress(data), NAMES)
    assert len(here) == len(there) == 4
    assert all(map(same, here, there))
    data = turned(image_of(marks(3).astype(dtype)), axes).to_bytes()
    codes = {3: 5}
    mask, guarded_mask = (nifti.read_mask(d, codes=codes) for d in (data, gzip.compress(data)))
    assert np.array_equal(mask.values, guarded_mask.values)
    assert mask.affine.tobytes() == guarded_mask.affine.tobytes()
    assert set(mask.values.ravel().tolist()) == {0, 5}


@pytest.mark.parametrize("role", ["slice", "mask"])
def test_an_object_larger_than_any_volume_is_not_fetched(
    tmp_path: Path, role: Literal["slice", "mask"]
) -> None:
    # A terabyte without a block on the disk: to read it would fail.
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    planned = [planned_file(tmp_path / "7.nii", "slice", image_of(head()).to_bytes())]
    planned = [] if role == "slice" else planned
    planned.append(planned_file(large, role, None))
    exam = PartWriter(Store(str(tmp_path)), "c", LAYOUT, NAMES).read_exam(planned)
    assert [e.reason for e in exam.entries if e.role == role] == [Reason.TOO_LARGE]
