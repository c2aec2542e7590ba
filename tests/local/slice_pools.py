"""Pools of random slices for the tests of learning."""

import numpy as np

from ich_ray.exam import IGNORED
from ich_ray.learning.sampling import SlicePool, SliceStack
from ich_ray.windows import LEVELS, head_box


def pool(
    num_slices: int, *, side: int = 64, positive: int = 0, seed: int = 0, lesion: int = 6
) -> SlicePool:
    """One exam of slices with a disc of tissue; the first ones hold a square, bright lesion."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    head = np.hypot(y, x) < 0.4 * side
    images = head * rng.integers(LEVELS // 8, LEVELS // 2, (num_slices, side, side))
    masks = np.zeros((num_slices, side, side), np.uint8)
    for i in range(positive):
        top, left = rng.integers(side // 4, side // 2, 2)
        inside = (i, slice(top, top + lesion), slice(left, left + lesion))
        images[inside], masks[inside] = LEVELS, 1
    return pool_of(images.astype(np.uint16), masks)


def pool_of(images: np.ndarray, masks: np.ndarray) -> SlicePool:
    """The slices of one exam, neighbours in the order given."""
    rows = np.arange(len(images))
    places = (np.zeros(len(images), np.int64), rows)
    return SlicePool(
        images=SliceStack((images,), *places),
        masks=SliceStack((masks,), *places),
        previous=np.maximum(rows - 1, 0),
        next=np.minimum(rows + 1, len(rows) - 1),
        positive=((masks > 0) & (masks != IGNORED)).any((1, 2)),
        whole_label=np.full(len(images), IGNORED, np.uint8),
        boxes=np.array([head_box(image) for image in images]),
        names=[f"exam e slice {row}" for row in rows],
    )
