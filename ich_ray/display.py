"""HU to grey levels for a person's eye: the usual windows, and which of them a corpus can show."""

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


def windows_within(center: float | None, width: float | None) -> tuple[Window, ...]:
    """Return the windows that pixels can be shown in.

    Args:
        center: Of the window that is all there is of the pixels; None: they are in HU.
        width: Of it.

    >>> [window.name for window in windows_within(40.0, 120.0)]
    ['as published', 'brain']
    """
    usual = (BRAIN, SUBDURAL, BONE)
    if center is None or width is None:
        return usual
    only = Window("as published", center, width)
    return (only, *(w for w in usual if only.low <= w.low and w.high <= only.high))


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
