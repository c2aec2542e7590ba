"""A head without bleeds: scalp, skull, brain, fluid spaces, membranes and what mimics blood."""

from dataclasses import dataclass

import numpy as np

from ich_ray.phantom.head import (
    Geometry,
    Head,
    Point,
    Volume,
    ellipsoid,
    midline,
    paint,
    place,
    share,
    smooth_field,
    tube,
    tube_box,
)
from ich_ray.phantom.mimics import calcify, paint_membranes
from ich_ray.phantom.sites import Site
from ich_ray.phantom.skull_base import paint_base

AIR, FAT, FLUID, WHITE, GREY = -1000.0, -90.0, 6.0, 27.0, 36.5  # HU

# Left half of the lateral ventricles: start, stop, radii in mm. The right half mirrors it.
VENTRICLE: tuple[tuple[Point, Point, tuple[float, float]], ...] = (
    ((13.0, -40.0, 7.0), (6.0, -26.0, 14.0), (3.0, 4.5)),
    ((6.0, -26.0, 14.0), (9.0, -8.0, 23.0), (4.5, 5.0)),
    ((9.0, -8.0, 23.0), (16.0, 18.0, 24.0), (5.0, 5.5)),
    ((16.0, 18.0, 24.0), (25.0, 33.0, 13.0), (5.5, 7.0)),
    ((25.0, 33.0, 13.0), (19.0, 52.0, 8.0), (6.0, 2.0)),
    ((25.0, 33.0, 12.0), (32.0, 4.0, -10.0), (4.5, 2.0)),
)
DEEP_GREY: tuple[tuple[Point, Point], ...] = (  # centre, radii in mm, of the left half
    ((9.0, 8.0, 9.0), (7.0, 14.0, 10.0)),  # thalamus
    ((23.0, -8.0, 7.0), (6.5, 17.0, 11.0)),  # lentiform nucleus
    ((13.0, -20.0, 15.0), (5.0, 9.0, 11.0)),  # head of the caudate nucleus
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Anatomy:
    """A head in HU, and the spaces that blood can fill."""

    head: Head
    hu: Volume
    inside: Volume
    """Share of each voxel within the dura, where a bleed may lie."""
    ventricles: Volume
    """Share of each voxel in ventricular fluid."""
    ridges: Volume
    """Zero along the middle of a sulcus, of unit variance; see `sulcus_width`."""
    cisterns: Volume
    """Share of each voxel in the basal cisterns and Sylvian fissures."""
    atrophy: float


def grow(site: Site, geometry: Geometry, rng: np.random.Generator) -> Anatomy:
    """Draw one patient's head.

    Args:
        site: The population it comes from.
        geometry: Where its slices lie.
        rng: Consumed; the same state gives the same head.
    """
    half_length = rng.normal(84.0, 3.0)
    half_width = half_length * np.clip(rng.normal(site.breadth, 0.02), 0.72, 0.92)
    lobes = np.stack([rng.normal(0, [0.012, 0.012, 0.007, 0.004]), rng.uniform(0, 6.3, 4)], axis=1)
    head = place(geometry, half_mm=(half_width, half_length), lobes=lobes)
    # The inner table is not smooth: gyri and vessels leave their marks on it.
    np.add(head.depth, np.float32(0.7) * smooth_field(rng, head, 13.0), out=head.depth)
    atrophy = float(np.clip(site.atrophy * rng.lognormal(0, 0.22), 0.6, 2.0))
    hu = np.full(head.depth.shape, AIR, np.float32)
    inside = share(head.depth + np.float32(0.5), head.blur)
    ridges = smooth_field(rng, head, 8.5)
    texture = smooth_field(rng, head, 4.5)

    _cover(hu, head, texture, rng)
    _fill(hu, head, ridges, atrophy, inside)
    _deepen(hu, head, rng)
    cisterns = _cisterns(hu, head, atrophy)
    ventricles = _ventricles(hu, head, atrophy, rng) * inside
    paint_membranes(hu, head, inside, rng)
    calcify(hu, head, rng)
    # Spectrum hardened by the skull: a bright band beneath it, over a slow unevenness.
    hu += inside * (rng.uniform(4, 9) / (1 + (head.depth / np.float32(5)) ** 2))
    hu += inside * (np.float32(1.5) * smooth_field(rng, head, 45.0))
    paint_base(hu, head, texture, rng)
    # Where the base of the skull is painted into the vault, there is no brain to bleed.
    inside *= (hu > 0) & (hu < 100)
    return Anatomy(
        head=head,
        hu=hu,
        inside=inside,
        ventricles=ventricles,
        ridges=ridges,
        cisterns=cisterns * inside,
        atrophy=atrophy,
    )


def sulcus_width(head: Head, atrophy: float) -> Volume:
    """Return the half width of the sulci on the scale of `Anatomy.ridges`, by depth."""
    shallow = np.clip(1 + head.depth / np.float32(25), 0, 1)
    width: Volume = np.float32(0.24 * atrophy) * shallow
    return width


def _cover(hu: Volume, head: Head, texture: Volume, rng: np.random.Generator) -> None:
    """Paint the head rest, the scalp with its muscles, and the skull with its diploe."""
    rest = abs(np.hypot(head.x, head.y + 20.0) - np.float32(rng.uniform(128, 140))) - 1.5
    hu += (share(rest, head.pixel_mm) * (head.y > 75) * rng.uniform(850, 1300)).astype(np.float32)

    angle = head.angle
    waves = 1 + 0.10 * np.cos(2 * angle + rng.uniform(0, 6.3)) + 0.06 * np.cos(3 * angle)
    bone = (rng.normal(6.8, 0.9) * waves * (1 + 0.15 * abs(np.sin(angle)))).astype(np.float32)
    temporal = np.exp(-(((abs(np.cos(angle)) - 1) / 0.12) ** 2)).astype(np.float32)
    low = np.clip((35 - head.z) / 40, 0, 1)
    nape = np.exp(-(((np.sin(angle) - 1) / 0.25) ** 2)).astype(np.float32)
    lowest = np.clip((2 - head.z) / 30, 0, 1)
    scalp = np.float32(rng.uniform(2.5, 8.0)) + np.float32(rng.uniform(5, 13)) * temporal * low
    scalp = scalp + np.float32(rng.uniform(8, 22)) * nape * lowest
    muscle = np.clip(
        rng.uniform(0.5, 0.85) + 0.12 * texture + 0.9 * (temporal * low + nape * lowest), 0, 1
    )
    soft = FAT + muscle * np.float32(rng.uniform(140, 160))

    above = head.depth - bone
    paint(hu, share(above - scalp, head.blur), soft)
    skin = np.float32(rng.uniform(25, 55))
    paint(hu, share(abs(above - scalp + 1) - 1, head.blur), skin)
    paint(hu, share(above, head.blur), np.float32(rng.normal(1350, 90)))
    marrow = abs(head.depth - bone / 2) - bone * np.float32(rng.uniform(0.12, 0.2))
    paint(hu, share(marrow, head.blur), np.float32(rng.normal(650, 60)) + 90 * texture)


def _fill(hu: Volume, head: Head, ridges: Volume, atrophy: float, inside: Volume) -> None:
    """Paint white matter, the cortex folded along the sulci, and the fluid within them."""
    fold = abs(ridges)
    soft = np.float32(0.16)
    cortex = share(fold - 0.75 * np.clip(1 + head.depth / np.float32(42), 0, 1), np.float32(0.3))
    # The cerebellum and the lowest slices show little contrast between grey and white.
    vault = np.clip((head.z + 36) / 24, 0.45, 1).astype(np.float32)
    brain = np.float32(WHITE) + np.float32(GREY - WHITE) * (vault * cortex + (1 - vault) * 0.6)
    width = sulcus_width(head, atrophy)
    sulci = share(fold - width, soft) * (width > 0)
    sulci = np.maximum(sulci, np.float32(0.7) * share(-head.depth - 1.6 * atrophy, np.float32(1.5)))
    paint(brain, sulci * vault, np.float32(FLUID))
    paint(hu, inside, brain)


def _deepen(hu: Volume, head: Head, rng: np.random.Generator) -> None:
    """Paint the deep grey nuclei of both halves."""
    for centre, radii in DEEP_GREY:
        for side in (-1, 1):
            middle = (side * centre[0], centre[1], centre[2])
            box = head.box(middle, (radii[1], radii[1], radii[2]))
            inner = share(ellipsoid(head, box, middle, radii, -side * 0.35), np.float32(4.5))
            paint(hu[box], inner, np.float32(GREY - 1.5 + rng.normal(0, 0.7)))


def _cisterns(hu: Volume, head: Head, atrophy: float) -> Volume:
    """Paint the fluid at the base of the brain, in the Sylvian and the hemispheric fissures."""
    cisterns = np.zeros_like(hu)
    shapes: list[tuple[Point, Point]] = [
        ((0.0, -14.0, -14.0), (13.0, 7.0, 6.0)),  # suprasellar
        ((0.0, 27.0, -3.0), (11.0, 3.5, 7.0)),  # quadrigeminal
        ((0.0, -1.0, -24.0), (9.0, 3.0, 9.0)),  # prepontine
    ]
    for centre, radii in shapes:
        radii = (radii[0] * atrophy**0.5, radii[1] * atrophy**0.5, radii[2])
        box = head.box(centre, radii)
        _merge(cisterns[box], share(ellipsoid(head, box, centre, radii), np.float32(2.5)))
    for side in (-1, 1):
        for start, stop, radius in (
            ((22.0, -17.0, -12.0), (44.0, -16.0, 0.0), 1.7),
            ((44.0, -16.0, 0.0), (58.0, 6.0, 12.0), 2.0),
            ((12.0, -2.0, -13.0), (15.0, 22.0, -6.0), 1.2),
        ):
            reach = radius * atrophy
            _tube_both(cisterns, head, side, (start, stop, (reach, reach)))
    fissure = share(abs(midline(head)) - np.float32(0.5 * atrophy), np.float32(head.pixel_mm + 0.5))
    far = abs(head.y) - 38 + np.float32(0.4) * abs(head.z - 20)
    np.maximum(cisterns, 0.8 * fissure * share(-far, np.float32(6)) * (head.z > -8), out=cisterns)
    cisterns *= head.depth < -1
    paint(hu, cisterns, np.float32(FLUID))
    return cisterns


def _ventricles(hu: Volume, head: Head, atrophy: float, rng: np.random.Generator) -> Volume:
    """Paint the four ventricles; return the share of each voxel in them."""
    filled = np.zeros_like(hu)
    for side in (-1, 1):
        size = atrophy**0.8 * rng.uniform(0.85, 1.15)
        for start, stop, radii in VENTRICLE:
            _tube_both(filled, head, side, (start, stop, (radii[0] * size, radii[1] * size)))
    single: tuple[tuple[Point, Point], ...] = (
        ((0.0, 5.0, 3.0), (1.6 * atrophy, 13.0, 8.0)),
        ((0.0, 42.0, -26.0), (6.0 * atrophy**0.5, 4.0, 8.0)),
    )
    for centre, scale in single:
        box = head.box(centre, scale)
        _merge(filled[box], share(ellipsoid(head, box, centre, scale), np.float32(1.5)))
    paint(hu, filled, np.float32(FLUID))
    return filled


def _merge(covered: Volume, more: Volume) -> None:
    """Unite two shares, in place."""
    np.maximum(covered, more, out=covered)


def _tube_both(
    covered: Volume, head: Head, side: int, shape: tuple[Point, Point, tuple[float, float]]
) -> None:
    """Unite the tube, given for the left half, with what is covered on one side, in place."""
    start, stop, radii = shape
    a, b = (side * start[0], start[1], start[2]), (side * stop[0], stop[1], stop[2])
    box = tube_box(head, a, b, max(radii))
    _merge(covered[box], share(tube(head, box, a, b, radii), np.float32(2)))
