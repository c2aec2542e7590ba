"""Pixel scores as 16-bit levels of the logit: fine enough for every figure, half the bytes."""

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt16

from ich_ray.errors import QualityError

LOGIT_GRID = "min(65535, rint(2048 * (clip(logit, -16, 16) + 16)))"
"""How a logit becomes a level, for the record; probability 0.5 is level 32768 exactly."""

NUM_LEVELS = 2**16
LEVELS_PER_LOGIT = 2048
LARGEST_LOGIT = 16


def quantise_logits(logits: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Logits to 16-bit levels on the fixed grid `LOGIT_GRID`; monotone.

    The error is at most 1/4096 of a logit within [-16, 16); beyond, logits share the last level.

    Raises:
        QualityError: A logit is NaN.

    >>> quantise_logits(np.array([-99.0, -0.001, 0.0, 99.0]))
    array([    0, 32766, 32768, 65535], dtype=uint16)
    """
    num_nan = int(np.count_nonzero(np.isnan(logits)))
    if num_nan > 0:
        raise QualityError(
            f"{num_nan} of {logits.size} logits are NaN; predict again, or leave the slice out"
        )
    # Clipped before the cast, since a large 64-bit logit would overflow in 32 bits.
    clipped = np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float32)
    levels = np.rint((clipped + LARGEST_LOGIT) * LEVELS_PER_LOGIT)
    return np.asarray(np.minimum(levels, NUM_LEVELS - 1), dtype=np.uint16)


def logit_of_level(level: UInt16[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The logit that a level stands for, exactly.

    >>> logit_of_level(np.array([0, 32768, 65535], dtype=np.uint16)).tolist()
    [-16.0, 0.0, 15.99951171875]
    """
    return level.astype(np.float32) / np.float32(LEVELS_PER_LOGIT) - np.float32(LARGEST_LOGIT)


def probability_of_level(level: UInt16[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """The probability that a level stands for, the logistic function of its logit.

    >>> probability_of_level(np.array([32768], dtype=np.uint16))
    array([0.5])
    """
    return 1 / (1 + np.exp(-logit_of_level(level).astype(np.float64)))
