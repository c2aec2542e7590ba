"""The pixel grid of one exam in the frame of the head, and how shapes are painted on it.

The frame is in mm with its origin in the middle of the brain: x to the patient's left, y to the
back, z to the vertex. Shapes are signed distances in mm, negative inside, so that a pixel on an
edge takes its share of both sides.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

Plane = Float32[np.ndarray, "row col"]
Column = Float32[np.ndarray, "slice row 1"]
Volume = Float32[np.ndarray, "slice row col"]
Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]

DOME_MM = 84.0  # from the origin to the inner table at the vertex
BASE_MM = 62.0  # how fast the vault narrows below the origin


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Where the slices of one exam lie, before anything is painted."""

    matrix: int
    pixel_mm: float
    thickness_mm: float
    tilt_deg: float
    first_z_mm: float
    """Height of the centre of the lowest slice."""
    num_slices: int
    rotation_deg: float
    """Rotation of the head within the slice."""
    shift_mm: tuple[float, float]
    """Centre of the head in the field of view: to the left, to the back."""

    @property
    def step_mm(self) -> float:
        """Table feed between slices; `thickness_mm` is measured along the normal of a slice."""
        return self.thickness_mm / float(np.cos(np.deg2rad(self.tilt_deg)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """Coordinates of every pixel, mm."""

    x: Plane
    y: Plane
    z: Column
    angle: Plane
    """Around the vertical axis, radians: 0 is the patient's left, pi / 2 the back."""
    radius: Plane
    depth: Volume
    """Distance from the inner table of the skull, mm; negative inside."""
    blur: Column
    """Width over which the slanted skull is averaged within one slice, mm."""
    pixel_mm: float
    thickness_mm: float

    def box(self, centre: Point, reach: Point) -> Box:
        """Return the smallest block of voxels within `reach` mm of `centre` along each axis."""
        margin = 2 * self.pixel_mm
        flat = (abs(self.x - centre[0]) < reach[0] + margin) & (
            abs(self.y - centre[1]) < reach[1] + margin
        )
        rows, cols = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
        if not len(rows):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        near = abs(self.z[:, rows[0] : rows[-1] + 1, 0] - centre[2]).min(axis=1)
        slices = np.flatnonzero(near < reach[2] + self.thickness_mm / 2)
        if not len(slices):
            return slice(0, 0), slice(0, 0), slice(0, 0)
        return (
            slice(slices[0], slices[-1] + 1),
            slice(rows[0], rows[-1] + 1),
            slice(cols[0], cols[-1] + 1),
        )

    def at(self, box: Box) -> tuple[Plane, Plane, Column]:
        """Return x, y and z of one block; they broadcast to its shape."""
        return self.x[box[1:]], self.y[box[1:]], self.z[box[:2]]


def place(
    geometry: Geometry,
    *,
    half_mm: tuple[float, float],
    lobes: Float[np.ndarray, "harmonic 2"],
) -> Head:
    """Lay the slices through a head.

    Args:
        geometry: Where the slices lie.
        half_mm: Half width and half length of the inside of the skull at its widest.
        lobes: Amplitude and phase of each harmonic of the outline, one row a harmonic from 2 on.

    Returns:
        The coordinates of every pixel, all float32.
    """
    tilt, turn = np.deg2rad(geometry.tilt_deg), np.deg2rad(geometry.rotation_deg)
    along = (np.arange(geometry.matrix) - (geometry.matrix - 1) / 2) * geometry.pixel_mm
    left = (along - geometry.shift_mm[0])[None, :]
    back = (along * np.cos(tilt) - geometry.shift_mm[1])[:, None]
    x = left * np.cos(turn) + back * np.sin(turn)
    y = back * np.cos(turn) - left * np.sin(turn)
    heights = geometry.first_z_mm + geometry.step_mm * np.arange(geometry.num_slices)
    z = heights[:, None, None] - (along * np.sin(tilt))[None, :, None]

    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    outline = 1 / np.hypot(np.cos(angle) / half_mm[0], np.sin(angle) / half_mm[1])
    for order, (amplitude, phase) in enumerate(lobes, start=2):
        outline *= 1 + amplitude * np.cos(order * angle - phase)
    # An ellipsoid on a warped height: steep sides, flat vertex, narrower towards the base.
    up, down = np.maximum(z, 0) / DOME_MM, np.maximum(-z, 0) / BASE_MM
    lift = up**2.4 + down**2.4
    slope = 1.2 * (up**1.4 / DOME_MM + down**1.4 / BASE_MM)
    ring = ((radius / outline) ** 2).astype(np.float32)
    flat = (ring / outline**2).astype(np.float32)
    level = ring + lift.astype(np.float32)
    reach = np.sqrt(level)
    depth = (level - reach) / np.sqrt(flat + (slope**2).astype(np.float32) + np.float32(1e-9))
    slant = slope / np.hypot(slope, 1 / 75.0)
    return Head(
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        z=z.astype(np.float32),
        angle=angle.astype(np.float32),
        radius=radius.astype(np.float32),
        depth=depth.astype(np.float32),
        blur=(geometry.pixel_mm + 0.8 * geometry.thickness_mm * slant).astype(np.float32),
        pixel_mm=geometry.pixel_mm,
        thickness_mm=geometry.thickness_mm,
    )


def share(distance: Any, width: Any) -> Any:
    """Return the share of a pixel that lies inside, from 0 to 1, for a signed distance in mm."""
    return np.clip(np.float32(0.5) - distance / width, np.float32(0), np.float32(1))


def paint(hu: Volume, covered: Volume, value: Any) -> None:
    """Replace the covered share of every pixel by `value` HU, in place."""
    hu += covered * (value - hu)


def ellipsoid(head: Head, box: Box, centre: Point, radii: Point, turn: float = 0.0) -> Volume:
    """Return the distance in mm, by first order, to an ellipsoid turned about the vertical axis."""
    x, y, z = head.at(box)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    flat = ((x * cos + y * sin) / radii[0]) ** 2 + ((y * cos - x * sin) / radii[1]) ** 2
    scaled = np.sqrt(flat + ((z - np.float32(centre[2])) / radii[2]) ** 2)
    distance: Volume = (scaled - 1) * np.float32(np.prod(radii) ** (1 / 3))
    return distance.astype(np.float32)


def tube(head: Head, box: Box, start: Point, stop: Point, radii: tuple[float, float]) -> Volume:
    """Return the distance in mm to a straight tube whose radius runs from the first to the last."""
    x, y, z = head.at(box)
    ahead = [b - a for a, b in zip(start, stop, strict=True)]
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    length = sum(a * a for a in ahead)
    part = np.clip((dx * ahead[0] + dy * ahead[1] + dz * ahead[2]) / length, 0, 1)
    off = (dx - part * ahead[0]) ** 2 + (dy - part * ahead[1]) ** 2 + (dz - part * ahead[2]) ** 2
    distance: Volume = np.sqrt(off) - (radii[0] + part * (radii[1] - radii[0]))
    return distance.astype(np.float32)


def midline(head: Head) -> Plane:
    """Return the distance in mm to the plane between the hemispheres, which is not quite flat."""
    return head.x - np.float32(0.8) * np.sin(head.y / np.float32(27))


def tube_box(head: Head, start: Point, stop: Point, radius: float) -> Box:
    """Return the block of voxels around one tube."""
    middle = tuple((a + b) / 2 for a, b in zip(start, stop, strict=True))
    reach = tuple(abs(a - b) / 2 + radius for a, b in zip(start, stop, strict=True))
    return head.box((middle[0], middle[1], middle[2]), (reach[0], reach[1], reach[2]))


def smooth_field(rng: np.random.Generator, head: Head, scale_mm: float) -> Volume:
    """Draw a random field of mean 0 and variance 1 which changes over `scale_mm` in all axes."""
    num_slices, rows, cols = head.depth.shape
    along_z = _spline(num_slices, scale_mm / head.thickness_mm)
    along_y, along_x = (_spline(size, scale_mm / head.pixel_mm) for size in (rows, cols))
    knots = rng.standard_normal(
        (along_z.shape[1], along_y.shape[1], along_x.shape[1]), dtype=np.float32
    )
    coarse = np.tensordot(along_z, knots, axes=1)
    field: Volume = along_y @ (coarse @ along_x.T)
    return field


def _spline(size: int, step: float) -> Float32[np.ndarray, "size knot"]:
    """Return cubic B-spline weights on knots `step` apart, scaled to keep unit variance."""
    knots = np.arange(-1, int(np.ceil(size / step)) + 2)
    off = abs(np.arange(size)[:, None] / step - knots)
    weights = np.where(off < 1, 4 - 6 * off**2 + 3 * off**3, np.clip(2 - off, 0, None) ** 3)
    scaled: Float32[np.ndarray, "size knot"] = weights / np.linalg.norm(
        weights, axis=1, keepdims=True
    )
    return scaled.astype(np.float32)
