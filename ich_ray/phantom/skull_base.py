"""The base of the skull with the orbits and the air in its cells."""

import numpy as np

from ich_ray.phantom.head import Head, Volume, ellipsoid, paint, share, tube, tube_box

AIR, FAT = -940.0, -90.0  # HU; thin walls raise that of air


def paint_base(hu: Volume, head: Head, texture: Volume, rng: np.random.Generator) -> None:
    """Paint the base of the skull: petrous and sphenoid bone, orbits, sinuses, mastoid cells."""
    bone = np.float32(rng.normal(900, 80))
    for side in (-1, 1):
        for start, stop, radii in (
            ((60.0, 32.0, -33.0), (17.0, 6.0, -37.0), (8.5, 6.0)),
            ((62.0, -34.0, -22.0), (14.0, -27.0, -24.0), (3.5, 3.0)),
        ):
            a, b = (side * start[0], *start[1:]), (side * stop[0], *stop[1:])
            box = tube_box(head, a, b, max(radii))
            paint(hu[box], share(tube(head, box, a, b, radii), np.float32(2.5)), bone)
        orbit, cells = (side * 31.0, -66.0, -38.0), (side * 60.0, 36.0, -36.0)
        for centre, radii3, value in (
            (orbit, (23.0, 24.0, 19.0), bone),
            (orbit, (20.0, 23.0, 17.0), FAT),
            ((side * 31.0, -76.0, -36.0), (12.0, 12.0, 12.0), 14.0),
            ((side * 31.0, -85.0, -36.0), (4.5, 2.5, 4.5), 70.0),
            (cells, (9.0, 12.0, 11.0), -350.0),
        ):
            box = head.box(centre, radii3)
            inner = share(ellipsoid(head, box, centre, radii3), np.float32(2))
            fill = np.float32(value) + (500 * texture[box] if centre is cells else np.float32(0))
            paint(hu[box], inner, fill)
        start, stop = (side * 18.0, -46.0, -39.0), (side * 30.0, -66.0, -36.0)
        box = tube_box(head, start, stop, 3.0)
        paint(hu[box], share(tube(head, box, start, stop, (2.0, 2.0)), np.float32(2)), 40.0)
    frontal = rng.uniform(0.5, 1.2)
    for centre, radii3, value in (
        ((0.0, -64.0, -38.0), (13.0, 26.0, 14.0), bone),
        ((0.0, -64.0, -38.0), (11.0, 24.0, 12.0), AIR),
        ((0.0, -30.0, -40.0), (16.0, 12.0, 12.0), bone),
        ((0.0, -31.0, -40.0), (12.0, 8.0, 9.0), AIR),
        ((0.0, -1.0, -44.0), (14.0, 9.0, 14.0), bone),
        ((0.0, -86.0, -20.0), (18.0 * frontal, 5.0, 12.0 * frontal), AIR),
    ):
        box = head.box(centre, radii3)
        paint(hu[box], share(ellipsoid(head, box, centre, radii3), np.float32(2)), value)
    # Cells of the ethmoid and mastoid have walls.
    low = head.box((0.0, -64.0, -38.0), (11.0, 24.0, 12.0))
    hu[low] += np.where(hu[low] < -300, 700 * (abs(texture[low]) < 0.25), 0).astype(np.float32)
