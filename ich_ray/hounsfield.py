"""Stored CT pixel values to Hounsfield units (HU), and the known repairs."""

import math

import numpy as np
from jaxtyping import Bool, Float32, Integer

from ich_ray.errors import InvalidExam, Reason

AIR_HU = -1000.0


def to_hounsfield(
    stored: Integer[np.ndarray, "*shape"],
    *,
    slope: float,
    intercept: float,
    padding: int | None = None,
) -> Float32[np.ndarray, "*shape"]:
    """Rescale stored pixel values to Hounsfield units.

    Args:
        stored: Decoded pixel values, any shape.
        slope: Rescale Slope (0028,1053), HU per stored unit.
        intercept: Rescale Intercept (0028,1052), HU.
        padding: Pixel Padding Value (0028,0120), in stored units; padded pixels become air.

    Returns:
        A new array in HU; `stored` is left untouched.

    Raises:
        InvalidExam: `slope` is 0, which would erase the image, or not finite.

    Source: DICOM PS3.3 C.11.1 (rescale), C.7.5.1.1.2 (padding).

    >>> to_hounsfield(np.array([0, 1024, 1064]), slope=1.0, intercept=-1024.0)
    array([-1024.,     0.,    40.], dtype=float32)
    """
    check_rescale(slope, intercept)
    hounsfield = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if padding is not None:
        # Padding is defined before the rescale, so compare stored values, not HU.
        hounsfield[stored == padding] = AIR_HU
    return hounsfield


def check_rescale(slope: float, intercept: float) -> None:
    """Refuse a rescale that erases the image or makes it no number.

    Raises:
        InvalidExam: `slope` is 0, or one of the two is not finite.
    """
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise InvalidExam(
            Reason.BAD_HEADER,
            f"Rescale Slope (0028,1053) is {slope} and Intercept (0028,1052) {intercept}; "
            "re-export the series, or exclude it",
        )


def needs_12_bit_repair(*, bits_stored: int, signed: bool, intercept: float) -> bool:
    """Tell whether an exporter took 1000 off the values, and let them wrap at 12 bits.

    Source: RSNA 2019 competition, J. Howard, "Cleaning the data for rapid prototyping"; such
    files store 12 unsigned bits with an intercept that would make air water.

    >>> needs_12_bit_repair(bits_stored=12, signed=False, intercept=0.0)
    True
    """
    return bits_stored == 12 and not signed and intercept > -100


def repair_12_bit(
    stored: Integer[np.ndarray, "*shape"],
) -> tuple[Integer[np.ndarray, "*shape"], float]:
    """Return the values that the scanner stored, and their intercept, -1000 HU.

    >>> repair_12_bit(np.array([3096, 40], np.uint16))
    (array([   0, 1040], dtype=int32), -1000.0)
    """
    shifted = stored.astype(np.int32) + 1000
    return np.where(shifted >= 4096, shifted - 4096, shifted), -1000.0


def padded_pixels(
    stored: Integer[np.ndarray, "*shape"], *, padding: int, limit: int | None = None
) -> Bool[np.ndarray, "*shape"]:
    """Return which stored values are padding.

    Args:
        stored: Decoded pixel values, before any repair.
        padding: Pixel Padding Value (0028,0120).
        limit: Pixel Padding Range Limit (0028,0121): all between the two is padding.

    Source: DICOM PS3.3 C.7.5.1.1.2.

    >>> padded_pixels(np.array([-2000, 0], np.int16), padding=63536)
    array([ True, False])
    """
    low, high = sorted(
        _as_stored(value, stored) for value in (padding, padding if limit is None else limit)
    )
    padded: Bool[np.ndarray, "*shape"] = stored == low
    return padded if low == high else (stored >= low) & (stored <= high)


def with_air(
    stored: Integer[np.ndarray, "*shape"],
    padded: Bool[np.ndarray, "*shape"],
    *,
    slope: float,
    intercept: float,
) -> Integer[np.ndarray, "*shape"]:
    """Return stored values in which padding is the value nearest to air.

    >>> pixels = np.array([-2000, 1064], np.int16)
    >>> with_air(pixels, pixels == -2000, slope=1.0, intercept=-1024.0)
    array([  24, 1064], dtype=int16)
    """
    air = round((AIR_HU - intercept) / slope)
    limits = np.iinfo(stored.dtype)
    filled = stored.copy() if limits.min <= air <= limits.max else stored.astype(np.int64)
    np.putmask(filled, padded, air)
    return filled


def narrowed(stored: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
    """Return the same values as int16, or else as uint16; they may share memory with `stored`.

    Raises:
        InvalidExam: They fit neither.

    >>> narrowed(np.array([0, 40000])).dtype
    dtype('uint16')
    """
    if stored.dtype == np.int16:
        return stored
    low, high = int(stored.min(initial=0)), int(stored.max(initial=0))
    if stored.dtype == np.uint16:
        return stored.view(np.int16) if high <= np.iinfo(np.int16).max else stored
    for dtype in (np.int16, np.uint16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return stored.astype(dtype)
    raise InvalidExam(
        Reason.BAD_HEADER, f"stored values from {low} to {high} do not fit 16 bits: no CT"
    )


def _as_stored(value: int, stored: Integer[np.ndarray, "*shape"]) -> int:
    # Some exporters write the padding of signed pixels with an unsigned VR.
    signed = np.issubdtype(stored.dtype, np.signedinteger)
    bits = 8 * stored.dtype.itemsize
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value
