"""Other readings of a phantom: the same bleeds, outlined by someone else.

Readers who outline the same bleed twice agree about its middle and differ along its edge. Here the
edge is moved by a smooth random field, and a little to one side as a whole.
"""

import numpy as np
from jaxtyping import Float64, UInt8
from scipy import ndimage

from ich_ray.exam import HEMORRHAGE_TYPES

EDGE_MM, BIAS_MM = 1.0, 0.4
"""Standard deviations: of the edge from place to place, and of the reading as a whole."""

REACH_MM = 5.0
"""Over which a reader stays on the same side of the edge."""


def read_again(
    mask: UInt8[np.ndarray, "slice row col"],
    *,
    spacing_mm: tuple[float, float],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "slice row col"]:
    """Outline the bleeds of a mask as another reading would.

    Args:
        mask: 0, or 1 + the place of the bleed's type in `HEMORRHAGE_TYPES`.
        spacing_mm: Between rows, and between columns.
        rng: Consumed.

    Returns:
        A new mask. A type that another reading would lose in all slices is as it was: readings
        differ in outlines, not in what they say of the exam.

    >>> mask = np.zeros((1, 40, 40), np.uint8)
    >>> mask[0, 10:30, 10:30] = 5
    >>> again = read_again(mask, spacing_mm=(1.0, 1.0), rng=np.random.default_rng(0))
    >>> bool((again != mask).any()), bool((again[0, 14:26, 14:26] == 5).all())
    (True, True)
    """
    found = np.zeros_like(mask)
    bias_mm = rng.normal(0, BIAS_MM)
    for code in range(1, len(HEMORRHAGE_TYPES) + 1):
        marked = mask == code
        again = np.zeros(mask.shape, np.bool_)
        for number in np.flatnonzero(marked.any(axis=(1, 2))):
            moved_mm = bias_mm + EDGE_MM * _smooth(rng, mask.shape[1:], spacing_mm)
            again[number] = _inside_mm(marked[number], spacing_mm) + moved_mm > 0
        seen = again if again.any() else marked
        found[seen & (found == 0)] = code
    return found


def _inside_mm(
    marked: np.ndarray, spacing_mm: tuple[float, float]
) -> Float64[np.ndarray, "row col"]:
    """Return how far each pixel lies within the edge; negative outside of it."""
    inside = ndimage.distance_transform_edt(marked, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~marked, sampling=spacing_mm)
    # The edge runs between pixels: half a pixel from the centres on either side.
    half = min(spacing_mm) / 2
    found: Float64[np.ndarray, "row col"] = np.where(marked, inside - half, half - outside)
    return found


def _smooth(
    rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, float]
) -> Float64[np.ndarray, "row col"]:
    """Return a field of mean 0 and standard deviation 1 that changes over `REACH_MM`."""
    reach = [REACH_MM / one for one in spacing_mm]
    field = ndimage.gaussian_filter(rng.standard_normal(shape), reach)
    return np.asarray(field / field.std(), np.float64)
