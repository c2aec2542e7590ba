"""An exam of the report to scroll through: small pictures, and what is marked on them as outlines.

Made where the pixels lie: only these few bytes a slice travel to the driver.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from ich_ray.display import BRAIN, SUBDURAL, Window, grey_levels, to_levels, windows_within
from ich_ray.reporting.gallery import Box, crop, square_around_head, webp
from ich_ray.reporting.outlines import edge_path

WINDOWS = (BRAIN, SUBDURAL)
SIDE = 256

Pixels = Bool[np.ndarray, "rows columns"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedSlice:
    """What one slice holds, whole."""

    number: int
    """Its place in the exam, from 1."""

    hounsfield: Float32[np.ndarray, "rows columns"]
    reference: Pixels | None
    """None: nobody outlined this slice."""

    predictions: Mapping[str, Pixels]
    """Model -> pixels it marks."""

    p: Mapping[str, float]
    """Model -> probability of the slice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Pixels that a model marks on a slice."""

    found: int
    """Those that the reference marks too."""

    wrong: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScrolledSlice:
    """The same, as a page needs it."""

    number: int
    picture: bytes
    """WebP, grey, of 8 bits on `display.SCALE_HU`, from which each window is made."""

    reference: int | None
    """Pixels."""

    edge: str
    """SVG path of the reference's outline, in pixels of the slice; empty where there is none."""

    edges: Mapping[str, str]
    """Model -> the same of what it marks."""

    overlaps: Mapping[str, Overlap]
    p: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScrolledExam:
    """An exam, or slices evenly chosen from it."""

    of: int
    """Slices of the exam."""

    box: Box
    """Top, left, bottom, right of the square of each slice that the pictures show."""

    windows: tuple[Window, ...]
    first: int
    """Place in `slices` of the one that the report shows to whoever cannot scroll."""

    slices: Sequence[ScrolledSlice]


def scrolled_exam(
    slices: Sequence[MarkedSlice],
    *,
    first: int,
    of: int,
    center: float | None = None,
    width: float | None = None,
) -> ScrolledExam:
    """Make the pictures and outlines of an exam, all cut to one square around the head.

    Args:
        slices: In order, at least one.
        first: Place in them of the slice to open with.
        of: Slices of the exam, of which these were chosen.
        center: Of the window that is all there is of the pixels; None: they are in HU.
        width: Of it.
    """
    # The brightest of all slices: the box must not jump from one to the next.
    shapes = np.array([item.hounsfield.shape for item in slices]).max(axis=0)
    brightest = np.zeros(shapes, np.uint8)
    marked = np.zeros(shapes, np.bool_)
    for item in slices:
        rows, columns = item.hounsfield.shape
        part = np.s_[:rows, :columns]
        brightest[part] = np.maximum(brightest[part], grey_levels(item.hounsfield, BRAIN))
        for mask in (item.reference, *item.predictions.values()):
            if mask is not None:
                marked[part] |= mask
    box = square_around_head(brightest, marked)
    return ScrolledExam(
        of=of,
        box=box,
        windows=windows_within(center, width, of=WINDOWS),
        first=first,
        slices=[_scrolled(item, box) for item in slices],
    )


def _scrolled(item: MarkedSlice, box: Box) -> ScrolledSlice:
    reference = item.reference
    if reference is None:
        reference = np.zeros(item.hounsfield.shape, np.bool_)
    return ScrolledSlice(
        number=item.number,
        picture=webp(crop(to_levels(item.hounsfield), box, max_side=SIDE)),
        reference=None if item.reference is None else int(reference.sum()),
        edge=edge_path(reference),
        edges={name: edge_path(mask) for name, mask in item.predictions.items()},
        overlaps={name: overlap(mask, reference) for name, mask in item.predictions.items()},
        p=item.p,
    )


def overlap(prediction: Pixels, reference: Pixels) -> Overlap:
    """Count what a model marks, apart by whether the reference marks it too."""
    found = int(np.sum(prediction & reference))
    return Overlap(found=found, wrong=int(np.sum(prediction)) - found)
