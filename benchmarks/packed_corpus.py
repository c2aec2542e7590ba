"""A whole labelled corpus in one small file, read by numpy alone.

It takes a corpus to a machine that has no Ray, pyarrow or pydicom: a GPU that is lent for minutes.
It is lossy, for benchmarks only. A slice lies on the grid of the network's input, and its 16-bit
fractions of the window become `LEVELS + 1` steps; masks, neighbours and boxes are exact.

The file is a zip of arrays (`numpy.load` reads it) packed by bzip2. For CT-ICH's 2,486 slices on
the grid of 320, samples of 60 to 250 slices promised, in MiB: 38.1 as they are, 36.8 as differences
of rows; by deflate 48.9 and 43.5, by lzma 38.2; of 2-D gradients by deflate 43.9, by its runs alone
39.1. With 128 steps lzma needs 49.3. A step is 1.9 HU of a window of 120, its error 0.5 HU (rms).
"""

import zipfile
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt8, UInt16

from ich_ray.exam import IGNORED
from ich_ray.learning.sampling import SlicePool, SliceStack
from ich_ray.windows import LEVELS as INPUT_LEVELS

LEVELS = 63


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSlices:
    """The arrays of a file, one entry a slice, in the order of (exam, index)."""

    images: UInt8[np.ndarray, "slice side side2"]
    """0 .. LEVELS over the input's window."""

    masks: UInt8[np.ndarray, "slice side eighth"]
    """0 and 1, eight to a byte."""

    previous: Integer[np.ndarray, " slice"]
    next: Integer[np.ndarray, " slice"]
    boxes: Integer[np.ndarray, "slice 4"]
    names: np.ndarray
    """Exam and slice, pseudonyms as SlicePool has them."""

    patient: Integer[np.ndarray, " slice"]
    """Number of the patient, 0 .. patients - 1."""

    fold: Integer[np.ndarray, " slice"]
    label: Bool[np.ndarray, " slice"]
    """Whether the slice bleeds, by the corpus's labels."""


def coarse(images: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Return 16-bit fractions of the window in the file's steps."""
    return np.rint(images * (LEVELS / INPUT_LEVELS)).astype(np.uint8)


def fine(images: UInt8[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Return the file's steps as 16-bit fractions of the window."""
    steps = np.rint(np.arange(LEVELS + 1) * (INPUT_LEVELS / LEVELS)).astype(np.uint16)
    return np.asarray(steps[images])


def packed(
    pool: SlicePool,
    *,
    patient: Integer[np.ndarray, " slice"],
    fold: Integer[np.ndarray, " slice"],
    label: Bool[np.ndarray, " slice"],
) -> PackedSlices:
    """Return the arrays of a pool, whose slices all have masks of 0 and 1."""
    masks = np.stack([pool.masks[i] for i in range(len(pool))])
    assert masks.max() <= 1, "ignored pixels, or types of hemorrhage: the file holds one bit"
    assert (pool.whole_label == IGNORED).all(), "a slice without a mask"
    return PackedSlices(
        images=np.stack([coarse(pool.images[i]) for i in range(len(pool))]),
        masks=np.packbits(masks, axis=-1),
        previous=pool.previous.astype(np.int32),
        next=pool.next.astype(np.int32),
        boxes=pool.boxes.astype(np.int16),
        names=np.array(pool.names),
        patient=patient.astype(np.int16),
        fold=fold.astype(np.int8),
        label=label,
    )


def write_pack(slices: PackedSlices, path: Path) -> None:
    """Write the file; it appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_BZIP2) as archive:
        for field in fields(slices):
            with archive.open(f"{field.name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, getattr(slices, field.name))
    temporary.replace(path)


def open_pack(path: Path, *, folds: Collection[int] | None = None) -> PackedSlices:
    """Read the file, or some folds of it, neighbours renumbered: an exam lies in one fold."""
    with np.load(path) as archive:
        found = PackedSlices(**{f.name: archive[f.name] for f in fields(PackedSlices)})
    if folds is None:
        return found
    kept = np.flatnonzero(np.isin(found.fold, list(folds)))
    arrays = {f.name: getattr(found, f.name)[kept] for f in fields(PackedSlices)}
    for name in ("previous", "next"):
        arrays[name] = np.searchsorted(kept, arrays[name])
    return PackedSlices(**arrays)


def pool_of(slices: PackedSlices) -> SlicePool:
    """Return the pool that a training draws from."""
    side = slices.images.shape[-1]
    masks = np.unpackbits(slices.masks, axis=-1, count=side)
    rows = np.arange(len(masks))
    one = np.zeros_like(rows)
    return SlicePool(
        images=SliceStack((fine(slices.images),), one, rows),
        masks=SliceStack((masks,), one, rows),
        previous=slices.previous,
        next=slices.next,
        positive=masks.any((1, 2)),
        whole_label=np.full(len(masks), IGNORED, np.uint8),
        boxes=slices.boxes,
        names=slices.names.tolist(),
    )


def read_pack(path: Path) -> SlicePool:
    """Return the whole file as a pool."""
    return pool_of(open_pack(path))


def differences(ours: SlicePool, theirs: SlicePool) -> int:
    """Count slices of which the file says anything else than the cache, at its precision."""
    columns = ("previous", "next", "positive", "whole_label", "boxes")
    same = np.array(
        [
            np.array_equal(coarse(ours.images[i]), coarse(theirs.images[i]))
            and np.array_equal(ours.masks[i], theirs.masks[i])
            and ours.names[i] == theirs.names[i]
            and all(np.array_equal(getattr(ours, c)[i], getattr(theirs, c)[i]) for c in columns)
            for i in range(len(theirs))
        ]
    )
    return int((~same).sum()) + abs(len(ours) - len(theirs))
