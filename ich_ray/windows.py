"""HU to network input and back to the slice: one window, one square grid."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8, UInt16

from ich_ray.config import InputConfig
from ich_ray.exam import IGNORED
from ich_ray.identity import content_hash
from ich_ray.settings import resolved

LEVELS = 65535
"""Inputs are kept as 16-bit fractions of the window: 0.003 HU in a window of 200."""


def preprocessing_id(config: InputConfig) -> str:
    """Return the hash of all that decides what a network sees of a slice."""
    return content_hash({"input": resolved(config), "rules": 1})


def to_input(
    hounsfield: Float32[np.ndarray, "rows columns"],
    *,
    window: tuple[float, float],
    size: int,
) -> UInt16[np.ndarray, "side side2"]:
    """Clip HU to the window, resize to the grid, and keep 16-bit fractions of the window.

    Args:
        hounsfield: One slice in HU, any shape; padded with air to a square first.
        window: (low, high) HU.
        size: Side of the grid in pixels; 0 keeps the slice's own, padded to the stride 8.

    >>> int(to_input(np.full((16, 16), 60, np.float32), window=(-40.0, 160.0), size=8)[0, 0])
    32768
    """
    low, high = window
    fraction = (np.clip(hounsfield, low, high) - np.float32(low)) / np.float32(high - low)
    square = _to_square(fraction, fill=0.0, side=side_of(hounsfield.shape, size=size))
    if size and square.shape[0] != size:
        matrix = _resize_matrix(square.shape[0], size)
        square = matrix @ square @ matrix.T
    return np.asarray(np.rint(np.clip(square, 0, 1) * LEVELS), dtype=np.uint16)


def mask_to_grid(
    mask: UInt8[np.ndarray, "rows columns"], *, size: int
) -> UInt8[np.ndarray, "side side2"]:
    """Resize a mask to the grid: a pixel is 1 where at least half of it is bleed of any type.

    Pixels that are IGNORED stay ignored where they prevail; outside the slice nothing bleeds.
    """
    side = side_of(mask.shape, size=size)
    positive = _to_square(((mask > 0) & (mask != IGNORED)).astype(np.float32), fill=0.0, side=side)
    ignored = _to_square((mask == IGNORED).astype(np.float32), fill=0.0, side=side)
    if size and side != size:
        matrix = _resize_matrix(side, size)
        positive, ignored = (matrix @ share @ matrix.T for share in (positive, ignored))
    on_grid = (positive >= 0.5).astype(np.uint8)
    on_grid[ignored >= 0.5] = IGNORED
    return on_grid


def upsample(
    logits: Float[np.ndarray, "cells cells2"], *, rows: int, columns: int, size: int
) -> Float32[np.ndarray, "rows columns"]:
    """Bring a map of stride 8 back to its slice's own rows and columns, bilinearly.

    The fixed up-sampler of stored maps; equal to torch's `interpolate(mode="bilinear",
    align_corners=False)` where the slice is as large as the grid.
    """
    side = side_of((rows, columns), size=size)
    matrix = _bilinear_matrix(logits.shape[0], side)
    square = matrix @ logits.astype(np.float32) @ matrix.T
    top, left = (side - rows) // 2, (side - columns) // 2
    return np.ascontiguousarray(square[top : top + rows, left : left + columns])


def side_of(shape: tuple[int, ...], *, size: int) -> int:
    """Return the side of the square that a slice is padded to, in its own pixels."""
    longest = max(shape)
    return longest if size else -(-longest // 8) * 8


def head_box(fraction: Integer[np.ndarray, "side side2"]) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right) of what is not air; the whole grid where all is air.

    >>> head_box(np.pad(np.full((2, 3), 9), ((1, 4), (2, 3))))
    (1, 2, 3, 5)
    """
    tissue: Bool[np.ndarray, "side side2"] = fraction > 0
    rows, columns = np.flatnonzero(tissue.any(1)), np.flatnonzero(tissue.any(0))
    if not len(rows):
        return 0, 0, fraction.shape[0], fraction.shape[1]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _to_square(
    image: Float32[np.ndarray, "rows columns"], *, fill: float, side: int
) -> Float32[np.ndarray, "side side2"]:
    rows, columns = image.shape
    if rows == columns == side:
        return image
    square = np.full((side, side), fill, np.float32)
    top, left = (side - rows) // 2, (side - columns) // 2
    square[top : top + rows, left : left + columns] = image
    return square


@lru_cache(maxsize=32)
def _resize_matrix(source: int, target: int) -> Float32[np.ndarray, "target source"]:
    """Weights of an antialiased triangle filter, as in PIL's and torch's antialiased bilinear."""
    scale = source / target
    support = max(scale, 1.0)
    centers = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(source)[None, :] - centers[:, None]) / support
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)


@lru_cache(maxsize=32)
def _bilinear_matrix(source: int, target: int) -> Float32[np.ndarray, "target source"]:
    """Weights of bilinear interpolation, pixel centres aligned, edges repeated."""
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    lower = np.minimum(np.floor(place).astype(int), source - 1)
    upper = np.minimum(lower + 1, source - 1)
    matrix = np.zeros((target, source), np.float32)
    np.add.at(matrix, (np.arange(target), lower), 1 - (place - lower))
    np.add.at(matrix, (np.arange(target), upper), place - lower)
    return matrix
