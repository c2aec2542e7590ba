"""What is as bright as blood and is none: membranes, venous sinuses, calcium."""

import numpy as np

from ich_ray.phantom.head import Head, Point, Volume, ellipsoid, midline, paint, share


def paint_membranes(hu: Volume, head: Head, inside: Volume, rng: np.random.Generator) -> None:
    """Paint falx, tentorium and venous sinuses, whose blood is nearly as dense as a bleed."""
    dense = np.float32(rng.uniform(42, 62))
    pixel = np.float32(head.pixel_mm + 0.5)
    above = share(12 - head.z, np.float32(6))
    ends = share(np.float32(22) - abs(head.y - 2), np.float32(8))
    falx = share(abs(midline(head)) - np.float32(rng.uniform(0.4, 1.2)), pixel) * ends
    paint(hu, falx * above * inside, dense)

    roof = head.z - 10 + np.float32(0.75) * abs(head.x) - np.float32(0.45) * (55 - head.y)
    leaf = share(abs(roof) - 0.9, np.float32(2.5)) * share(20 - head.y, np.float32(6))
    paint(hu, leaf * (abs(head.x) > 3) * inside, dense - 4)

    behind = np.where(head.y > 0, abs(head.x), np.float32(99))
    width = np.float32(rng.uniform(4, 7))
    sagittal = behind + np.float32(1.1) * (-head.depth) - width
    paint(hu, share(sagittal, np.float32(2)) * share(-12 - head.z, np.float32(6)) * inside, dense)
    lateral = -head.depth - np.float32(rng.uniform(3, 6))
    level = abs(head.z + 14 - 0.12 * abs(head.x)) - 5
    transverse = share(np.maximum(lateral, level), np.float32(2.5)) * (head.y > 25)
    paint(hu, transverse * inside, dense)


def calcify(hu: Volume, head: Head, rng: np.random.Generator) -> None:
    """Paint calcium in the pineal gland, the choroid plexus and the basal ganglia of some heads."""
    spots: list[tuple[Point, float]] = []
    if rng.random() < 0.6:
        spots.append(((rng.normal(0, 0.7), 24.0, 4.0), rng.uniform(1.5, 3.0)))
    if rng.random() < 0.5:
        spots += [((side * 25.0, 34.0, 12.0), rng.uniform(2.0, 4.5)) for side in (-1, 1)]
    if rng.random() < 0.2:
        spots += [((side * 20.0, -9.0, 5.0), rng.uniform(1.5, 3.5)) for side in (-1, 1)]
    if rng.random() < 0.2:
        spots.append(((rng.normal(0, 1.0), rng.uniform(-60, -40), 40.0), rng.uniform(2.0, 4.0)))
    for centre, radius in spots:
        radii = (radius, radius * rng.uniform(0.8, 1.6), radius * rng.uniform(1.0, 1.8))
        box = head.box(centre, radii)
        paint(
            hu[box],
            share(ellipsoid(head, box, centre, radii), np.float32(1.5)),
            np.float32(rng.uniform(80, 300)),
        )
