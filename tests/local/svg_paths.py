"""SVG paths of closed loops, read and filled by other means than they were made."""

import re
from itertools import pairwise

import numpy as np


def corners(path: str) -> list[list[tuple[int, int]]]:
    """Return the corners of every closed loop of a path, its first one at the end again."""
    loops = []
    for loop in path.split("z")[:-1]:
        start, *steps = re.findall(r"M\d+ \d+|[hv]-?\d+", loop)
        assert "".join((start, *steps)) == loop
        x, y = (int(value) for value in start[1:].split())
        found = [(x, y)]
        for step in steps:
            way, length = step[0], int(step[1:])
            x, y = (x + length, y) if way == "h" else (x, y + length)
            found.append((x, y))
        loops.append([*found, found[0]])
    return loops


def filled(path: str, shape: tuple[int, ...], *, winding: bool = False) -> np.ndarray:
    """Fill a path as a renderer does: by the number of edges crossed, or by their sense."""
    crossed = np.zeros(shape, int)
    for loop in corners(path):
        for (x, y), (next_x, next_y) in pairwise(loop):
            assert x == next_x or y == next_y
            if x == next_x:
                crossed[min(y, next_y) : max(y, next_y), x:] += np.sign(next_y - y)
    return crossed != 0 if winding else crossed % 2 == 1
