"""Bleeds of the five types, each where its anatomy allows."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ich_ray.exam import HEMORRHAGE_TYPES
from ich_ray.phantom.anatomy import Anatomy, sulcus_width
from ich_ray.phantom.head import Box, Volume, paint, share, smooth_field

FREQUENCY = (0.15, 0.34, 0.13, 0.20, 0.18)  # of each type, in the order of HEMORRHAGE_TYPES
SMALL_SHARE = 0.15
VISIBLE = 4  # voxels that a bleed must cover

Covered = Float32[np.ndarray, "slice row col"]
Draw = Callable[[Anatomy, np.random.Generator, float], Covered]


def bleed(anatomy: Anatomy, rng: np.random.Generator) -> UInt8[np.ndarray, "slice row col"]:
    """Draw one or two bleeds into a head.

    Args:
        anatomy: The head; its `hu` is painted in place.
        rng: Consumed.

    Returns:
        The mask: 0, or 1 + the place of the type in `HEMORRHAGE_TYPES`. It may be empty: small
        bleeds can miss all slices.
    """
    mask = np.zeros(anatomy.hu.shape, np.uint8)
    num_types = 1 + int(rng.random() < 0.35)
    types = rng.choice(len(HEMORRHAGE_TYPES), num_types, replace=False, p=FREQUENCY)
    for kind in types:
        small = bool(rng.random() < SMALL_SHARE)
        size = (
            float(rng.uniform(0.2, 0.35)) if small else float(min(rng.lognormal(-0.18, 0.33), 1.6))
        )
        covered = DRAW[kind](anatomy, rng, size) * anatomy.inside
        seen = (covered > 0.5) & (anatomy.hu < 100)
        if seen.sum() < VISIBLE:
            continue
        density = rng.uniform(50, 56) if small else rng.uniform(56, 74)
        if HEMORRHAGE_TYPES[kind] == "subarachnoid":
            density = rng.uniform(50, 66)
        clot = np.float32(density) + np.float32(2.5) * smooth_field(rng, anatomy.head, 6.0)
        paint(anatomy.hu, covered, clot)
        mask[seen] = kind + 1
    return mask


def _epidural(anatomy: Anatomy, rng: np.random.Generator, size: float) -> Covered:
    """A lens between skull and dura: bound by the sutures, so short and thick."""
    head = anatomy.head
    away = _away(anatomy, rng, (rng.uniform(22, 34) * size**0.7, rng.uniform(16, 24) * size**0.7))
    lens = rng.uniform(11, 20) * size * np.clip(1 - away, 0, None)
    covered: Covered = share(-head.depth - lens, np.float32(1.5)) * (away < 1)
    return covered


def _subdural(anatomy: Anatomy, rng: np.random.Generator, size: float) -> Covered:
    """A crescent over one hemisphere: long, thin and tapering, never across the midline."""
    head = anatomy.head
    extent = (rng.uniform(55, 90) * size**0.5, rng.uniform(24, 42) * size**0.5)
    away = _away(anatomy, rng, extent)
    crescent = max(rng.uniform(5, 9) * size, 2.5) * np.sqrt(np.clip(1 - away, 0, None))
    side = np.sign(head.x[np.unravel_index(np.argmin(away), away.shape)[1:]])
    within = (away < 1) & (head.x * side > 2)
    covered: Covered = share(-head.depth - crescent, np.float32(1.5)) * within
    return covered


def _intraparenchymal(anatomy: Anatomy, rng: np.random.Generator, size: float) -> Covered:
    """An irregular ball in the brain, deep or lobar, within a rim of edema."""
    head = anatomy.head
    side = rng.choice((-1.0, 1.0))
    centre = (
        (side * rng.uniform(16, 27), rng.uniform(-15, 18), _height(anatomy, rng, 0.0, 18.0))
        if rng.random() < 0.5
        else (side * rng.uniform(22, 46), rng.uniform(-45, 48), _height(anatomy, rng, -10.0, 45.0))
    )
    radii = rng.uniform((9, 10, 8), (17, 20, 16)) * size
    box = head.box(centre, (1.8 * radii.max(),) * 3)
    ball = _ball(anatomy, box, (centre, radii, rng.uniform(0, np.pi)))
    ball += np.float32(0.28) * smooth_field(rng, head, 9.0)[box]
    mean = np.float32(radii.mean())
    rim = share((ball - rng.uniform(1.25, 1.55)) * mean, np.float32(4)) * anatomy.inside[box]
    paint(anatomy.hu[box], rim * np.float32(0.75), np.float32(20))
    covered = np.zeros_like(anatomy.hu)
    covered[box] = share((ball - 1) * mean, np.float32(1.8))
    return covered


def _intraventricular(anatomy: Anatomy, rng: np.random.Generator, size: float) -> Covered:
    """Blood in the ventricles: a level behind, or a cast of one side."""
    head = anatomy.head
    if size > 0.9 and rng.random() < 0.4:
        cast: Covered = anatomy.ventricles * (head.x * np.float32(rng.choice((-1.0, 1.0))) > -2)
        return cast
    level = head.y - np.float32(rng.uniform(28, 40) - 24 * min(size, 1.3))
    covered: Covered = anatomy.ventricles * share(-level, np.float32(1.5))
    return covered


def _subarachnoid(anatomy: Anatomy, rng: np.random.Generator, size: float) -> Covered:
    """Blood in the sulci of one region, and often in the cisterns."""
    head = anatomy.head
    away = _away(anatomy, rng, (rng.uniform(50, 85) * size**0.7, rng.uniform(28, 45) * size**0.7))
    near = np.clip(1.6 * (1 - away), 0, 1)
    width = 1.9 * sulcus_width(head, 1.0) + np.float32(0.04)
    filled = share(abs(anatomy.ridges) - width, np.float32(0.16)) * (head.depth > -26)
    film = share(-head.depth - 2.2, np.float32(1.5))
    covered: Covered = (np.maximum(filled, film) * near).astype(np.float32)
    if rng.random() < 0.55 and size > 0.5:
        covered = np.maximum(covered, anatomy.cisterns)
    return covered


DRAW: tuple[Draw, ...] = (
    _epidural,
    _intraparenchymal,
    _intraventricular,
    _subarachnoid,
    _subdural,
)


def _height(anatomy: Anatomy, rng: np.random.Generator, low: float, high: float) -> float:
    """Draw the height of a bleed, mm: that of one slice, lest a small one fall between two."""
    middle = anatomy.head.z[:, anatomy.head.z.shape[1] // 2, 0]
    within = middle[(middle >= low) & (middle <= high)]
    return float(rng.choice(within if len(within) else middle))


def _away(anatomy: Anatomy, rng: np.random.Generator, extent_mm: tuple[float, float]) -> Volume:
    """Draw a place on the side of the skull; return squared distances, 1 at the extent.

    The extent is along the skull and up; the distance is that along the inner table.
    """
    head = anatomy.head
    angle = rng.choice((0.0, np.pi)) + rng.uniform(-0.8, 0.8)
    turn = head.angle - np.float32(angle)
    turn = abs((turn + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi))
    flat = (turn * head.radius / extent_mm[0]) ** 2
    away: Volume = flat + ((head.z - _height(anatomy, rng, -5.0, 42.0)) / extent_mm[1]) ** 2
    return away.astype(np.float32)


def _ball(
    anatomy: Anatomy,
    box: Box,
    shape: tuple[tuple[float, float, float], Float64[np.ndarray, " 3"], float],
) -> Volume:
    """Return the scaled distance to the centre of a turned ellipsoid: 1 on its surface."""
    centre, radii, turn = shape
    x, y, z = anatomy.head.at(box)
    x, y = x - centre[0], y - centre[1]
    flat = ((x * np.cos(turn) + y * np.sin(turn)) / radii[0]) ** 2
    flat = flat + ((y * np.cos(turn) - x * np.sin(turn)) / radii[1]) ** 2
    ball: Volume = np.sqrt(flat + ((z - centre[2]) / radii[2]) ** 2).astype(np.float32)
    return ball
