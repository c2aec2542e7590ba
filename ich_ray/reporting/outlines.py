"""Masks as outlines: which type a mask's value is, its colour, and its edge as an SVG path."""

from collections.abc import Iterator
from dataclasses import dataclass

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
    """Return the edge of a region as an SVG path of straight runs along the pixels' borders.

    >>> edge_path(np.array([[True, True]]))
    'M0 0h2M0 1h2M0 0v1M2 0v1'
    """
    around = np.pad(mask, 1)
    across = around[1:, 1:-1] != around[:-1, 1:-1]
    down = (around[1:-1, 1:] != around[1:-1, :-1]).T
    runs = [f"M{x} {y}h{length}" for y, x, length in _runs(across)]
    runs += [f"M{x} {y}v{length}" for x, y, length in _runs(down)]
    return "".join(runs)


def _runs(lines: Bool[np.ndarray, "line place"]) -> Iterator[tuple[int, int, int]]:
    """Yield line, first place and length of each run of what is true."""
    turns = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(turns == 1), np.argwhere(turns == -1)
    for (line, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True):
        yield line, start, end - start
