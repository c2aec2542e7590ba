"""Masks as outlines: which type a mask's value is, its colour, and its edge as an SVG path."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Bool, UInt8

from ich_ray.exam import HEMORRHAGE_TYPES, IGNORED

_OF_TYPE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7")
"""Source: Okabe & Ito, colours that the colour-blind tell apart; epidural to subdural."""

UNNAMED = "hemorrhage, type not named"
COLOURS = {
    **dict(zip(HEMORRHAGE_TYPES, _OF_TYPE, strict=True)),
    UNNAMED: "#ff6a3d",
    "ignored": "#b0b7bd",
}


@dataclass(frozen=True, slots=True)
class Outline:
    """The edge of what a mask marks with one value."""

    name: str
    """Key in `COLOURS`."""

    path: str
    """Of an SVG whose unit is the slice's pixel; the edges lie between pixels."""

    pixels: int


def outlines(
    mask: UInt8[np.ndarray, "rows columns"] | None, subtypes: tuple[bool, ...] | None
) -> list[Outline]:
    """Return the outlines of a mask, by value.

    Args:
        mask: As in `exam.Slice`; None draws nothing.
        subtypes: Of the slice's labels: value 1 is epidural only where they say so.
    """
    if mask is None:
        return []
    values = [int(value) for value in np.flatnonzero(np.bincount(mask.ravel())) if value]
    return [
        Outline(name_of(value, subtypes), edge_path(mask == value), int(np.sum(mask == value)))
        for value in values
    ]


def name_of(value: int, subtypes: tuple[bool, ...] | None) -> str:
    """Return what a mask's value marks.

    >>> name_of(5, None), name_of(1, None)
    ('subdural', 'hemorrhage, type not named')
    """
    if value == IGNORED:
        return "ignored"
    if value == 1 and not (subtypes and subtypes[0]):
        return UNNAMED
    return HEMORRHAGE_TYPES[value - 1] if value <= len(HEMORRHAGE_TYPES) else UNNAMED


def edge_path(mask: Bool[np.ndarray, "rows columns"]) -> str:
    """Return the edge of a region as an SVG path: closed loops along the pixels' borders.

    Pixels that touch at a corner alone are apart; by either rule of filling the path is the mask.

    >>> edge_path(np.array([[True, True], [False, True]]))
    'M0 0h2v2h-1v-1h-1z'
    """
    leaving = _edges(mask)
    # Every loop goes right somewhere: it begins with the first such edge.
    rightward = [(corner, _RIGHT) for corner, ways in leaving.items() if _RIGHT in ways]
    drawn: set[_Edge] = set()
    path = ""
    for start in rightward:
        if start not in drawn:
            loop = list(_loop(leaving, start))
            drawn.update(loop)
            (x, y), _ = start
            runs = [(way, len(list(same))) for way, same in groupby(way for _, way in loop)]
            # What closes the path draws its last run.
            path += f"M{x} {y}" + "".join(_run(*run) for run in runs[:-1]) + "z"
    return path


_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Of x and y, clockwise as seen on the screen: right, down, left, up."""

_RIGHT = 0
_Corner = tuple[int, int]
_Edge = tuple[_Corner, int]


def _edges(mask: Bool[np.ndarray, "rows columns"]) -> dict[_Corner, set[int]]:
    """Return corner (x, y) -> directions of the edges that leave it, marked pixels to the right."""
    around = np.pad(mask, 1)
    outside = (around[:-2, 1:-1], around[1:-1, 2:], around[2:, 1:-1], around[1:-1, :-2])
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))
    leaving: dict[_Corner, set[int]] = {}
    for direction, (beyond, (right, down)) in enumerate(zip(outside, starts, strict=True)):
        for y, x in np.argwhere(mask & ~beyond).tolist():
            leaving.setdefault((x + right, y + down), set()).add(direction)
    return leaving


def _loop(leaving: dict[_Corner, set[int]], start: _Edge) -> Iterator[_Edge]:
    """Yield the edges of the loop that begins with one."""
    edge = start
    while True:
        yield edge
        (x, y), way = edge
        corner = (x + _STEPS[way][0], y + _STEPS[way][1])
        # To the right first: that goes round the same pixel.
        turns = ((way + turn) % 4 for turn in (1, 0, -1))
        edge = corner, next(turn for turn in turns if turn in leaving[corner])
        if edge == start:
            return


def _run(way: int, length: int) -> str:
    return f"{'hv'[way % 2]}{length if way < 2 else -length}"
