"""HU to grey levels for a person's eye: the usual windows, and which of them a corpus can show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True, slots=True)
class Window:
    """A display window: levels from center - width / 2 (black) to center + width / 2 (white)."""

    name: str
    center: float
    width: float

    @property
    def low(self) -> float:
        """HU of black."""
        return self.center - self.width / 2

    @property
    def high(self) -> float:
        """HU of white."""
        return self.center + self.width / 2


BRAIN = Window("brain", 40.0, 80.0)
SUBDURAL = Window("subdural", 80.0, 200.0)
BONE = Window("bone", 480.0, 2500.0)
"""The three windows that a head CT is usually read in."""

STROKE = Window("stroke", 40.0, 40.0)
"""Narrow: what differs little from brain, as thin or old blood does."""

USUAL = (BRAIN, SUBDURAL, BONE)

SCALE_HU = np.array([-1000.0, -100.0, -20.0, 100.0, 200.0, 700.0, 2000.0])
SCALE_LEVELS = np.array([0.0, 20.0, 40.0, 160.0, 200.0, 230.0, 255.0])
"""HU, and the level there of 256, straight between. A level is 1 HU where brain and blood lie, so
that whole HU are exact there, 2.5 to 4 HU next to it, and up to 52 in the densest bone."""


def windows_within(
    center: float | None, width: float | None, *, of: Sequence[Window] = USUAL
) -> tuple[Window, ...]:
    """Return the windows that pixels can be shown in.

    Args:
        center: Of the window that is all there is of the pixels; None: they are in HU.
        width: Of it.
        of: The windows to choose from.

    >>> [window.name for window in windows_within(40.0, 120.0)]
    ['as published', 'brain']
    """
    if center is None or width is None:
        return tuple(of)
    only = Window("as published", center, width)
    return (only, *(w for w in of if only.low <= w.low and w.high <= only.high))


def grey_levels(
    hounsfield: Float32[np.ndarray, "rows columns"], window: Window
) -> UInt8[np.ndarray, "rows columns"]:
    """Return 0 (black) to 255 (white); HU outside the window are cut to it.

    >>> grey_levels(np.array([[-50.0, 0.0, 40.0, 80.0, 900.0]], np.float32), BRAIN)
    array([[  0,   0, 128, 255, 255]], dtype=uint8)
    """
    share = np.clip((hounsfield - window.low) / window.width, 0, 1)
    levels: UInt8[np.ndarray, "rows columns"] = np.rint(share * 255).astype(np.uint8)
    return levels


def to_levels(
    hounsfield: Float32[np.ndarray, "rows columns"],
) -> UInt8[np.ndarray, "rows columns"]:
    """Return HU on the scale of `SCALE_HU`: one byte a pixel, for every window of a head CT.

    >>> to_levels(np.array([[-2000.0, 0.0, 41.0, 3000.0]], np.float32))
    array([[  0,  60, 101, 255]], dtype=uint8)
    """
    levels: UInt8[np.ndarray, "rows columns"] = np.rint(
        np.interp(hounsfield, SCALE_HU, SCALE_LEVELS)
    ).astype(np.uint8)
    return levels


def greys_of_levels(window: Window) -> list[int]:
    """Return the grey level of each of the 256 levels in a window.

    >>> greys_of_levels(BRAIN)[60], greys_of_levels(BRAIN)[100], greys_of_levels(BRAIN)[140]
    (0, 128, 255)
    """
    hounsfield = np.interp(np.arange(256), SCALE_LEVELS, SCALE_HU).astype(np.float32)
    greys: list[int] = grey_levels(hounsfield[None], window)[0].tolist()
    return greys
