"""Small pictures of exams, for pages that show many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ich_ray.reporting.gallery import crop, jpeg
from ich_ray.reporting.html import data_uri
from ich_ray.reporting.outlines import COLOURS, outlines

SIDE = 192


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Thumbnail:
    """One slice that stands for its exam."""

    corpus: str
    exam: str
    image: UInt8[np.ndarray, "rows columns"]
    """Grey levels of a display window."""

    mask: UInt8[np.ndarray, "rows columns"] | None
    subtypes: tuple[bool, ...] | None
    lines: Sequence[str]
    """What stands below the picture."""

    gravity: str = ""
    """Of the worst finding; empty where there is none."""


def drawn(thumbnail: Thumbnail) -> dict[str, Any]:
    """Return what a template needs: the whole slice, never cropped, and the mask over it."""
    side = max(thumbnail.image.shape)
    small = crop(thumbnail.image, (0, 0, side, side), max_side=SIDE)
    return {
        "shown": thumbnail,
        "picture": data_uri(jpeg(small, quality=80), "image/jpeg"),
        "side": side,
        "outlines": [
            {"path": outline.path, "colour": COLOURS[outline.name]}
            for outline in outlines(thumbnail.mask, thumbnail.subtypes)
        ],
    }
