"""The page of a review: slices one at a time, in any window, and a reader's decisions on them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from ich_ray.display import (
    BONE,
    BRAIN,
    STROKE,
    SUBDURAL,
    greys_of_levels,
    to_levels,
    windows_within,
)
from ich_ray.reporting.html import data_uri, render
from ich_ray.reporting.outlines import COLOURS, UNNAMED, outlines
from ich_ray.review_decisions import COLUMNS, FORMAT, VERDICTS

WINDOWS = (BRAIN, SUBDURAL, STROKE, BONE)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReviewedSlice:
    """One slice of the page."""

    key: str
    picture: bytes
    """As of `png_of_levels`: encoded when it is read, since 600 slices in HU would be 0.6 GB."""

    center: float | None
    width: float | None
    """Of the window that is all there is of the pixels; None: they are in HU."""

    mask: UInt8[np.ndarray, "rows columns"]
    """What the teacher would mark on the slice's own pixels: 1, IGNORED, or 0."""

    facts: Sequence[tuple[str, str]]
    """What stands beside it: name and value. Nothing that tells its rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewPage:
    """All that the page says beside its slices."""

    name: str
    """Of the pseudo-labels."""

    predictions: str
    sample: str
    """What the decisions are about."""

    positive_above: float
    negative_below: float
    """Between the two a pixel would be ignored."""


def to_html(page: ReviewPage, slices: Sequence[ReviewedSlice]) -> str:
    """Return the page, which needs no other file and no network.

    Pixels are PNG on the scale of `display.SCALE_HU`, each picture in an element of its own, which
    the page's script decodes when it comes to it.
    """
    meanings = {
        UNNAMED: f"teacher's p above {page.positive_above:g}",
        "ignored": f"between {page.negative_below:g} and {page.positive_above:g}: ignored",
    }
    shown = [windows_within(item.center, item.width, of=WINDOWS) for item in slices]
    windows = list(dict.fromkeys(window for of_slice in shown for window in of_slice))
    content = {
        "format": FORMAT,
        "predictions": page.predictions,
        "sample": page.sample,
        "name": page.name,
        "verdicts": list(VERDICTS),
        "columns": list(COLUMNS),
        "windows": [
            {"name": w.name, "levels": f"C {w.center:g} W {w.width:g}", "greys": greys_of_levels(w)}
            for w in windows
        ],
        "slices": [
            _slice(item, [windows.index(window) for window in of_slice])
            for item, of_slice in zip(slices, shown, strict=True)
        ],
    }
    return render(
        "review.html",
        {},
        page=page,
        content=content,
        windows=windows,
        colours={meaning: COLOURS[name] for name, meaning in meanings.items()},
        pictures=[data_uri(item.picture, "image/png") for item in slices],
    )


def png_of_levels(hounsfield: Float32[np.ndarray, "rows columns"]) -> bytes:
    """Encode HU as a grey PNG of 8 bits: without loss where `display.SCALE_HU` is fine."""
    buffer = io.BytesIO()
    Image.fromarray(to_levels(hounsfield)).save(buffer, format="png")
    return buffer.getvalue()


def _slice(item: ReviewedSlice, windows: Sequence[int]) -> dict[str, Any]:
    rows, columns = item.mask.shape
    # The last one is drawn above the others: what would be positive.
    marks = reversed(outlines(item.mask, None))
    return {
        "key": item.key,
        "rows": rows,
        "columns": columns,
        "windows": list(windows),
        "marks": [{"path": mark.path, "colour": COLOURS[mark.name]} for mark in marks],
        "facts": [list(pair) for pair in item.facts],
    }
