"""An exam as one HTML page: its slices in display windows, masks, geometry and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ich_ray.reporting.gallery import crop, jpeg
from ich_ray.reporting.html import data_uri, render
from ich_ray.reporting.outlines import COLOURS, outlines

SIDES = (512, 384, 320, 256, 192)
"""Of a picture, pixels: the largest whose pictures fit the page."""

PAGE_BYTES = 24_000_000
BYTES_PER_PIXEL = 0.2
"""Of a JPEG in base64, generously: 0.09 on an RSNA 2019 exam, 0.13 on a CT-ICH exam."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShownSlice:
    """One slice of an exam's page."""

    key: str
    pictures: Mapping[str, UInt8[np.ndarray, "rows columns"]]
    """Name of the window -> grey levels."""

    mask: UInt8[np.ndarray, "rows columns"] | None
    subtypes: tuple[bool, ...] | None
    label: bool | None
    facts: Sequence[tuple[str, str]]
    """What stands beside it: name and value."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExamPage:
    """All that the page of an exam says."""

    corpus: str
    exam: str
    facts: Sequence[tuple[str, str]]
    windows: Sequence[tuple[str, str]]
    """Name, and center and width in words."""

    slices: Sequence[ShownSlice]
    """In order along the normal, at least one."""

    notes: Sequence[str] = ()


def to_html(page: ExamPage) -> str:
    """Return the page, which needs no other file and no network."""
    side = side_of(len(page.slices) * len(page.windows))
    drawn = [_slice(item, side) for item in page.slices]
    names = [name for name in COLOURS if any(o["name"] == name for s in drawn for o in s["marks"])]
    return render(
        "exam.html",
        {},
        page=page,
        slices=drawn,
        first=_first(page.slices),
        colours={name: COLOURS[name] for name in names},
    )


def side_of(pictures: int) -> int:
    """Return the side of a page's pictures, so that all of them fit it.

    >>> side_of(96), side_of(1200)
    (512, 256)
    """
    fitting = (s for s in SIDES if pictures * s * s * BYTES_PER_PIXEL <= PAGE_BYTES)
    return next(fitting, SIDES[-1])


def _first(slices: Sequence[ShownSlice]) -> int:
    """Return the slice to open with: the one with the largest mask, else the middle one."""
    marked = [0 if s.mask is None else int(np.count_nonzero(s.mask)) for s in slices]
    return int(np.argmax(marked)) if any(marked) else len(slices) // 2


def _slice(item: ShownSlice, side: int) -> dict[str, Any]:
    longest = max(next(iter(item.pictures.values())).shape)
    box = (0, 0, longest, longest)
    return {
        "key": item.key,
        "label": item.label,
        "longest": longest,
        "pictures": {
            name: data_uri(jpeg(crop(picture, box, max_side=side)), "image/jpeg")
            for name, picture in item.pictures.items()
        },
        "marks": [
            {"name": mark.name, "path": mark.path, "colour": COLOURS[mark.name]}
            for mark in outlines(item.mask, item.subtypes)
        ],
        "facts": [list(pair) for pair in item.facts],
    }
