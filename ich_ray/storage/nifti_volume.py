"""Bytes of one NIfTI file -> voxels in DICOM's order and axes, or why not.

NIfTI's axes point right, anterior and superior, DICOM's left, posterior and superior; a file's
array may be permuted and flipped against either. Here every volume is turned to [slice, row,
column] with slices from the feet to the head and rows and columns as DICOM shows an axial slice.
Only the header's geometry and rescale are read: its free text names patients.

What is deflated may be anything; `nifti` has it read in a guarded process.
"""

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer, Num, UInt8
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from ich_ray import hounsfield
from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import Plane
from ich_ray.storage.decoding import decoding
from ich_ray.storage.guarded import Answer

MAX_BYTES = 1 << 30
"""Of an unpacked file: 1,000 slices of 512 x 512 in 16 bits are half of it. Of 8-bit voxels half as
many bytes, since in 16 bits they are twice as many."""

GZIP = b"\x1f\x8b"

NO_AIR_ABOVE_HU = -200.0
"""A head CT holds air; a volume that stays above this is a window, or shifted, and not HU."""

_LARGEST_IN_PLANE_RATIO = 1.5
_HEADER_BYTES = 544
_FIRST_BYTES = 1 << 16
_DEFLATE_RATIO = 1032
"""Source: zlib's technical details, maximum compression factor."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels as DICOM orders them, and where they lie."""

    values: Num[np.ndarray, "slice row column"]
    """As they are stored: value = slope * stored + intercept."""

    slope: float
    intercept: float
    affine: Float64[np.ndarray, "4 4"]
    """(column, row, slice, 1) -> (left, posterior, superior, 1), mm."""

    numbers: tuple[int, ...]
    """Of each slice: its number in the file's own order, from 1."""

    def plane(self, index: int) -> Plane:
        """Return where the pixels of a slice lie."""
        corner = self.affine @ (0, 0, index, 1)
        return Plane(_vector(corner), _vector(self.affine[:, 0]), _vector(self.affine[:, 1]))


def read_volume(data: bytes) -> Volume:
    """Read a single-file NIfTI-1 or -2, deflated or not.

    Raises:
        InvalidExam: It is none, not of three dimensions, cut, or larger than `MAX_BYTES`.
    """
    stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if data.startswith(GZIP) else None
    with decoding(Reason.NOT_NIFTI, "it cannot be read as NIfTI"):
        head = data[:_HEADER_BYTES] if stream is None else stream.read(_HEADER_BYTES)
        header = _header(head)
    with decoding(Reason.BAD_HEADER, "its header cannot be read"):
        shape, dtype = _shape(header), header.get_data_dtype()
        offset = int(header.get_data_offset())
        if offset < header.single_vox_offset:
            raise InvalidExam(Reason.BAD_HEADER, "its voxels would begin within its header")
        if dtype.kind not in "iuf":
            raise InvalidExam(Reason.NOT_AN_IMAGE, "its voxels are colours or complex numbers")
        if not math.isfinite(header["scl_slope"]):
            # nibabel takes it for none, and so would guess at every value.
            raise InvalidExam(Reason.BAD_HEADER, "its slope is not finite; write 1 if it has none")
        slope, intercept = header.get_slope_inter()
        affine = _affine(header)
        end = offset + math.prod(shape) * dtype.itemsize
    if max(end, 2 * math.prod(shape)) > MAX_BYTES:
        raise InvalidExam(Reason.TOO_LARGE, f"{end} bytes unpacked; at most {MAX_BYTES} are read")
    with decoding(Reason.UNDECODABLE_PIXELS, "it cannot be inflated"):
        content = data if stream is None else _inflated(stream, head, end)
    if len(content) < end:
        raise InvalidExam(Reason.TRUNCATED_PIXELS, f"{len(content)} bytes, its header says {end}")
    with decoding(Reason.BAD_HEADER, "its voxels cannot be placed"):
        voxels = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape, order="F")
        return _turned(
            voxels,
            affine,
            # A slope of 0 stands for none: the values are what they are.
            slope=1.0 if slope is None else float(slope),
            intercept=0.0 if intercept is None else float(intercept),
        )


def decode_image(data: bytes) -> Answer:
    """Return an axial volume as 16-bit integers, plainly (see `nifti.read_image`)."""
    volume = read_volume(data)
    check_axial(volume)
    return _plain(volume, stored_values(volume))


def decode_mask(data: bytes, *, codes: Sequence[Sequence[int]]) -> Answer:
    """Return a mask's codes, plainly (see `nifti.read_mask`); `codes` are pairs, as JSON knows."""
    volume = read_volume(data)
    return _plain(volume, coded(volume, {value: code for value, code in codes}))


def promised_bytes(data: bytes) -> int:
    """Return how many bytes a file says that it unpacks to, as far as that may be true.

    No more than `MAX_BYTES`, nor than deflate can make of so few; 0 if its start does not say.
    Takes next to no time or memory, whatever the bytes.
    """
    with contextlib.suppress(InvalidExam), decoding(Reason.NOT_NIFTI, "it says nothing"):
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        header = _header(inflate.decompress(data[:_FIRST_BYTES], _HEADER_BYTES))
        promised = math.prod(_shape(header)) * int(header.get_data_dtype().itemsize)
        return min(promised, MAX_BYTES, _DEFLATE_RATIO * len(data))
    return 0


def stored_values(volume: Volume) -> Integer[np.ndarray, "slice row column"]:
    """Return the values of an image as integers of 16 bits, each exactly what the file holds.

    Raises:
        InvalidExam: They are fractions, not finite, of more than 16 bits, or no HU.
    """
    hounsfield.check_rescale(volume.slope, volume.intercept)
    low, high = float(volume.values.min()), float(volume.values.max())
    # NaN fails this comparison too.
    if not -32768 <= low <= high <= 65535 or high - low > 65535:
        raise InvalidExam(
            Reason.INEXACT_PIXELS, "its voxels do not fit 16 bits; store HU as 16-bit integers"
        )
    if min(volume.slope * low, volume.slope * high) + volume.intercept > NO_AIR_ABOVE_HU:
        raise InvalidExam(
            Reason.NO_RESCALE,
            f"nothing in it is below {NO_AIR_ABOVE_HU:g} HU, as air is: a window, or shifted "
            "values; convert the volume from the DICOM again",
        )
    stored = np.empty(volume.values.shape, np.int16 if high <= 32767 else np.uint16)
    for into, values in zip(stored, volume.values, strict=True):
        into[:] = values
        if volume.values.dtype.kind == "f" and not np.array_equal(into, values):
            raise InvalidExam(
                Reason.INEXACT_PIXELS,
                "its voxels are fractions, which 16-bit integers do not hold: resampled? "
                "convert the volume from the DICOM again, as integers",
            )
    return stored


def check_axial(volume: Volume) -> None:
    """Refuse a volume whose slices were taken along the body: its axial planes are no slices.

    Raises:
        InvalidExam: The axial planes' pixels are far from square.
    """
    steps = np.linalg.norm(volume.affine[:3, :2], axis=0)
    if steps.max() > _LARGEST_IN_PLANE_RATIO * steps.min():
        raise InvalidExam(
            Reason.NOT_AXIAL, "its slices are coronal or sagittal; convert the axial series"
        )


def coded(volume: Volume, codes: Mapping[int, int]) -> UInt8[np.ndarray, "slice row column"]:
    """Return the values of a mask as codes of `Slice.mask`.

    Args:
        volume: The mask.
        codes: Value of the mask -> code; empty: every value above 0 is 1.

    Raises:
        InvalidExam: Its values are no whole numbers from 0 to 255, or one is not named.
    """
    meaning = np.zeros(256, np.uint8)
    if codes:
        for value, code in codes.items():
            meaning[value] = code
    else:
        meaning[1:] = 1
    planes = np.empty(volume.values.shape, np.uint8)
    present = np.zeros(256, np.int64)
    for into, stored in zip(planes, volume.values, strict=True):
        values = stored
        if (volume.slope, volume.intercept) != (1.0, 0.0):
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.round(stored * volume.slope + volume.intercept, 6)
        if not (values.min() >= 0 and values.max() <= 255):
            raise InvalidExam(Reason.MASK_MISMATCH, "it holds values outside 0 to 255: no mask")
        into[:] = values
        if not np.array_equal(into, values):
            raise InvalidExam(Reason.MASK_MISMATCH, "it holds fractions: a resampled mask, or none")
        present += np.bincount(into.ravel(), minlength=256)
        into[:] = meaning[into]
    unknown = np.flatnonzero((present > 0) & (meaning == 0))
    if (unknown > 0).any():
        raise InvalidExam(
            Reason.MASK_MISMATCH, f"nifti.mask_values does not name the value {unknown.max()}"
        )
    return planes


def _plain(volume: Volume, values: Num[np.ndarray, "slice row column"]) -> Answer:
    facts = {"slope": volume.slope, "intercept": volume.intercept, "numbers": volume.numbers}
    return facts, [values, volume.affine]


def _header(head: bytes) -> Any:
    kind: Any = Nifti2Header if Nifti2Header.may_contain_header(head) else Nifti1Header
    return kind(head[: kind.template_dtype.itemsize])


def _shape(header: Nifti1Header) -> tuple[int, int, int]:
    shape = [int(length) for length in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    shape += [1] * (3 - len(shape))
    if len(shape) != 3 or min(shape) < 1:
        raise InvalidExam(Reason.NOT_AN_IMAGE, "it is no single volume of three dimensions")
    return shape[0], shape[1], shape[2]


def _affine(header: Nifti1Header) -> Float64[np.ndarray, "4 4"]:
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise InvalidExam(Reason.BAD_HEADER, "its unit of length is not mm; convert it")
    # The sform, else the qform, else (method 1 of the standard) the spacings alone.
    affine = np.asarray(header.get_best_affine(), np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise InvalidExam(Reason.BAD_HEADER, "its affine gives the voxels no places")
    return affine


def _inflated(stream: gzip.GzipFile, head: bytes, end: int) -> memoryview:
    """Return the first `end` bytes of a stream whose first were read, or fewer where it is cut."""
    data = bytearray(end)
    data[: len(head)] = head[:end]
    filled = min(len(head), end)
    with contextlib.suppress(EOFError):
        # One chunk more than is needed reaches the stream's end, where its checksum is compared.
        while chunk := stream.read(1 << 20):
            room = min(len(chunk), end - filled)
            data[filled : filled + room] = chunk[:room]
            filled += room
            if room < len(chunk):
                break
    return memoryview(data)[:filled]


def _turned(
    voxels: Num[np.ndarray, "i j k"],
    affine: Float64[np.ndarray, "4 4"],
    *,
    slope: float,
    intercept: float,
) -> Volume:
    """Turn an array of RAS affine to [slice, row, column] of axes left, posterior, superior."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine @ inv_ornt_aff(turn, voxels.shape)
    (along,) = np.flatnonzero(turn[:, 0] == 2)
    numbers = tuple(range(1, voxels.shape[along] + 1))
    return Volume(
        values=apply_orientation(voxels, turn).T,
        slope=slope,
        intercept=intercept,
        affine=lps,
        numbers=numbers if turn[along, 1] == 1 else numbers[::-1],
    )


def _vector(values: Float64[np.ndarray, " axis"]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values[:3])
    return x, y, z
