"""Volumes of probabilities: where they lie, and whether or how two of an exam lie on one grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64

from ich_ray import volume
from ich_ray.errors import QualityError
from ich_ray.exam import Plane
from ich_ray.volume import OFF_GRID, same_pixels

_ADVICE = "write both on the grid of the exam's own series"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredVolume:
    """Probabilities of an exam's voxels, or its reference mask, as DICOM shows an axial volume."""

    values: Float32[np.ndarray, "slice row column"]
    """0 to 1; slices from the feet to the head, rows to the back, columns to the left."""

    ignored: Bool[np.ndarray, "slice row column"] | None
    """Voxels that take part in no count; None: all do."""

    planes: tuple[Plane, ...]
    """Where each slice lies."""

    sparse: bool
    """Slices may be missing, and are 0: a DICOM SEG leaves out frames of zeros."""

    automatic: bool = False
    """Its file says that an algorithm alone has made it: a prediction, and no reference."""

    @property
    def positions_mm(self) -> list[float]:
        """Return where the slices lie along the normal of the first."""
        normal = _normal(self.planes[0])
        return [volume.position_along(normal, plane.corner_mm) for plane in self.planes]

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Return the steps between slices (the median, along the normal), rows and columns.

        None where the first is not known: of one slice, or where slices may be missing.
        """
        step = volume.spacing_mm(self.positions_mm)
        if self.sparse or step is None:
            return None
        return step, _length(self.planes[0].row_step_mm), _length(self.planes[0].column_step_mm)


def mismatch(a: ScoredVolume, b: ScoredVolume) -> str | None:
    """Return why the voxels of two volumes are not the same, or None if they are.

    They are if there are as many, and each slice's pixels lie on the other's to `OFF_GRID` of a
    pixel, in the slice and along its normal.

    Args:
        a: A volume.
        b: Another; of neither are slices missing (see `on_grid_of`).

    Returns:
        A sentence of numbers and advice, that names nothing.
    """
    if a.values.shape != b.values.shape:
        return (
            f"{_times(a.values.shape)} voxels (slices x rows x columns) against "
            f"{_times(b.values.shape)}; {_ADVICE}"
        )
    rows, columns = a.values.shape[1:]
    pairs = enumerate(zip(a.planes, b.planes, strict=True), 1)
    apart = [(i, p, q) for i, (p, q) in pairs if not same_pixels(p, q, (rows, columns))]
    if not apart:
        return None
    steps = [_rounded(one.spacing_mm) for one in (a, b)]
    if steps[0] != steps[1]:
        return f"a spacing of {steps[0]} (slice x row x column) against {steps[1]}; {_ADVICE}"
    number, p, q = apart[0]
    far_mm = float(np.linalg.norm(np.subtract(p.corner_mm, q.corner_mm)))
    return (
        f"{len(apart)} of {len(a.planes)} slices lie elsewhere, the first of them number {number} "
        f"from the feet, whose corners are {far_mm:.2f} mm apart; {_ADVICE}, and keep its affine "
        "or its positions"
    )


def on_grid_of(sparse: ScoredVolume, grid: ScoredVolume) -> ScoredVolume:
    """Put a volume of which slices may be missing on the slices of another; the missing are 0.

    A slice goes where its pixels lie on those of the grid to `OFF_GRID` of a pixel. A slice of
    zeros that lies on none is left out.

    Args:
        sparse: As a DICOM SEG holds it.
        grid: Of whatever values.

    Raises:
        QualityError: Something is marked where the grid has no slice, or between its pixels.
    """
    shape = grid.values.shape
    if sparse.values.shape[1:] != shape[1:]:
        raise QualityError(
            f"{_times(sparse.values.shape[1:])} pixels (rows x columns) against "
            f"{_times(shape[1:])}; {_ADVICE}"
        )
    values = np.zeros(shape, np.float32)
    ignored = None if sparse.ignored is None else np.zeros(shape, np.bool_)
    for number, plane in enumerate(sparse.planes):
        at = _slice_at(plane, grid)
        if at is not None:
            np.maximum(values[at], sparse.values[number], out=values[at])
            if ignored is not None and sparse.ignored is not None:
                ignored[at] |= sparse.ignored[number]
        elif sparse.values[number].any():
            raise QualityError(
                f"slice {number + 1} of {len(sparse.planes)}, counted from the feet, marks pixels "
                f"where the other volume has none (to {OFF_GRID:g} of a pixel); {_ADVICE}"
            )
    return replace(sparse, values=values, ignored=ignored, planes=grid.planes, sparse=False)


def aligned(a: ScoredVolume, b: ScoredVolume) -> tuple[ScoredVolume, ScoredVolume]:
    """Return two volumes of one exam on one grid, slices that one leaves out filled with 0.

    Of two that may both leave slices out the grid is all slices that either has: what neither marks
    takes part in no count. That changes no overlap, but what is counted over all pixels, such as a
    specificity: compare with a whole volume where it matters.

    Raises:
        QualityError: Their voxels are not the same (see `mismatch` and `on_grid_of`).
    """
    if a.sparse and b.sparse:
        grid = _together(a, b)
        return replace(on_grid_of(a, grid), sparse=True), replace(on_grid_of(b, grid), sparse=True)
    if a.sparse:
        return on_grid_of(a, b), b
    if b.sparse:
        return a, on_grid_of(b, a)
    why = mismatch(a, b)
    if why is not None:
        raise QualityError(why)
    return a, b


def _together(a: ScoredVolume, b: ScoredVolume) -> ScoredVolume:
    """Return a grid of the slices of two volumes, without values."""
    others = [plane for plane in b.planes if _slice_at(plane, a) is None]
    normal = _normal(a.planes[0])
    planes = sorted(
        (*a.planes, *others), key=lambda plane: volume.position_along(normal, plane.corner_mm)
    )
    values = np.zeros((len(planes), *a.values.shape[1:]), np.float32)
    return ScoredVolume(values=values, ignored=None, planes=tuple(planes), sparse=True)


def _slice_at(plane: Plane, grid: ScoredVolume) -> int | None:
    """Return which slice of a grid has the pixels of a plane."""
    corners = np.array([one.corner_mm for one in grid.planes])
    nearest = int(np.argmin(np.linalg.norm(corners - np.array(plane.corner_mm), axis=1)))
    rows, columns = grid.values.shape[1:]
    return nearest if same_pixels(grid.planes[nearest], plane, (rows, columns)) else None


def _normal(plane: Plane) -> Float64[np.ndarray, " axis"]:
    """Return the unit normal, from the feet to the head for a canonical volume."""
    normal = np.cross(plane.column_step_mm, plane.row_step_mm)
    unit: Float64[np.ndarray, " axis"] = normal / np.linalg.norm(normal)
    return unit


def _length(step: Sequence[float]) -> float:
    return float(np.linalg.norm(step))


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _rounded(spacing: tuple[float, float, float] | None) -> str:
    """Return a spacing to a hundredth of a mm, coarser than what a header rounds."""
    return (
        "unknown mm" if spacing is None else " x ".join(f"{step:.2f}" for step in spacing) + " mm"
    )
