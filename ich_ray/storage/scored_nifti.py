"""NIfTI files of probabilities, or of masks, by what their values are."""

import numpy as np
from jaxtyping import Float32, Num, UInt8

from ich_ray.errors import InvalidExam, Reason
from ich_ray.exam import IGNORED
from ich_ray.storage.guarded import Answer
from ich_ray.storage.nifti_volume import read_volume

ROUNDING = 1e-6
"""How far outside 0 to 1 a probability of 32 bits, or a slope of them, may come by rounding."""

MOST_CLASSES = 64
"""Values of a mask: types of bleeds, or numbers of lesions. A heat map in 8 bits, or in percent,
has more, and would be a bleed wherever it is not 0."""


def decode_scores(data: bytes, *, ignored: int | None) -> Answer:
    """Return probabilities as they are, or a mask of 0, 1 and IGNORED in 8 bits.

    Whole numbers are a mask, of which every value but 0 and `ignored` is a bleed; anything else
    must be probabilities.

    Args:
        data: The file.
        ignored: Value of voxels that take part in no count; None: there are none.

    Raises:
        InvalidExam: It cannot be read (see `nifti_volume.read_volume`), or is neither.
    """
    volume = read_volume(data)
    values = _real(volume.values, volume.slope, volume.intercept)
    low, high = float(values.min()), float(values.max())
    # NaN fails these comparisons.
    if low >= 0 and high <= 255 and _are_whole(values):
        values = _mask(values.astype(np.uint8), ignored)
    elif low >= -ROUNDING and high <= 1 + ROUNDING:
        np.clip(values, 0, 1, out=values)
    else:
        raise InvalidExam(
            Reason.MASK_MISMATCH,
            "it holds values that are neither probabilities from 0 to 1 nor whole numbers from 0 "
            "to 255: NaN, logits, percent, or an image? write probabilities, or a mask",
        )
    facts = {"slope": 1.0, "intercept": 0.0, "numbers": volume.numbers}
    return facts, [values, volume.affine]


def _real(
    stored: Num[np.ndarray, "slice row column"], slope: float, intercept: float
) -> Float32[np.ndarray, "slice row column"]:
    values = np.empty(stored.shape, np.float32)
    # Slice by slice: 64 bits of the whole would be more than a guarded process may hold.
    with np.errstate(over="ignore", invalid="ignore"):
        for into, plane in zip(values, stored, strict=True):
            into[:] = plane * slope + intercept
    return values


def _are_whole(values: Float32[np.ndarray, "slice row column"]) -> bool:
    return all(np.array_equal(plane, np.rint(plane)) for plane in values)


def _mask(
    values: UInt8[np.ndarray, "slice row column"], ignored: int | None
) -> UInt8[np.ndarray, "slice row column"]:
    present = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    if len(present) > MOST_CLASSES:
        raise InvalidExam(
            Reason.MASK_MISMATCH,
            f"it holds {len(present)} whole numbers, more than a mask has classes: a heat map? "
            "write probabilities as fractions from 0 to 1",
        )
    if ignored is not None and ignored in present and set(present) <= {0, ignored}:
        raise InvalidExam(
            Reason.MASK_MISMATCH,
            f"it holds {ignored} and nothing else that is marked: is that the hemorrhage? it "
            f"would be ignored; write 1 for a hemorrhage, and {ignored} where nobody can tell",
        )
    meaning = np.ones(256, np.uint8)
    meaning[0] = 0
    if ignored is not None:
        meaning[ignored] = IGNORED
    mask: UInt8[np.ndarray, "slice row column"] = meaning[values]
    return mask
