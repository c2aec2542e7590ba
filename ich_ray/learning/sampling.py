"""Which item comes at which step: a pure function of (seed, step, item).

So a run resumes with exactly the items that would have come, for any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer, UInt8, UInt16

from ich_ray.exam import IGNORED, SURE

ZOOM = (0.9, 1.1)
"""Range of the factors by which the head's height and width are scaled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """This process's place among those that share a minibatch."""

    rank: int = 0
    world: int = 1

    def items(self, batch: int) -> range:
        """Return the places of the minibatch that are this worker's; shares differ by at most 1."""
        return range(self.rank * batch // self.world, (self.rank + 1) * batch // self.world)

    def shares(self, batch: int, *, num_workers: int) -> list[range]:
        """Return the places that are this worker's as a group of `num_workers` divides them.

        >>> Worker(rank=1, world=2).shares(8, num_workers=3)
        [range(2, 5), range(5, 8)]
        """
        if self.world >= num_workers:
            return [self.items(batch)]
        whole = [Worker(rank=rank, world=num_workers) for rank in self.items(num_workers)]
        return [worker.items(batch) for worker in whole]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicePool:
    """Slices on one grid, in the order of (exam, index); arrays may be memory-mapped.

    `previous` and `next` are rows of this pool; a slice without a neighbour names itself.
    `positive` slices hold a positive pixel.
    """

    images: "SliceStack"
    masks: "SliceStack"
    previous: Integer[np.ndarray, " slice"]
    next: Integer[np.ndarray, " slice"]
    positive: Bool[np.ndarray, " slice"]
    whole_label: UInt8[np.ndarray, " slice"]
    """0 or 1 where the slice is known as a whole, and no pixel says where; else IGNORED. A 1 is the
    label only of a crop that holds the whole slice."""

    names: Sequence[str]
    """Exam and slice, for whoever must look at one: their pseudonyms."""

    boxes: Integer[np.ndarray, "slice 4"]
    """Of the head: top, left, bottom and right, as windows.head_box finds them."""

    soft: bool = False
    """Masks hold a teacher's probabilities, 0 to SURE, and not 0 and 1."""

    positives: Integer[np.ndarray, " positive"] = field(init=False)
    """Rows of the positive slices."""

    positive_wholes: Integer[np.ndarray, " positive"] = field(init=False)
    """Rows of these, and of what is positive as a whole."""

    def __post_init__(self) -> None:
        """Find the positive slices once: there may be a million others."""
        object.__setattr__(self, "positives", np.flatnonzero(self.positive))
        wholes = np.flatnonzero(self.positive | (self.whole_label == 1))
        object.__setattr__(self, "positive_wholes", wholes)

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self.previous)


def bleeding(mask: UInt8[np.ndarray, "*shape"], *, soft: bool) -> Bool[np.ndarray, "*shape"]:
    """Return which pixels of a mask bleed, or do so more likely than not.

    >>> bleeding(np.array([0, 1, 200, 255], np.uint8), soft=True)
    array([False, False,  True, False])
    """
    least = SURE // 2 if soft else 0
    return np.asarray((mask > least) & (mask != IGNORED), np.bool_)


@dataclass(frozen=True, slots=True)
class SliceStack:
    """Slices of several arrays in one order, read where they lie."""

    pieces: tuple[np.ndarray, ...]
    piece: Integer[np.ndarray, " slice"]
    row: Integer[np.ndarray, " slice"]

    def __getitem__(
        self, index: int
    ) -> UInt16[np.ndarray, "side side2"] | UInt8[np.ndarray, "side side2"]:
        """Return one slice."""
        return np.asarray(self.pieces[self.piece[index]][self.row[index]])


@dataclass(frozen=True, slots=True)
class Noise:
    """The augmentation of one item (method.md 1.4); identity by default."""

    height: float = 1.0
    width: float = 1.0
    flip: bool = False
    gamma: float = 1.0
    """Power law x^gamma, 1 for none."""

    gain: float = 0.0
    """Logarithm gain * log2(1 + x), 0 for none."""


@dataclass(frozen=True, slots=True)
class Item:
    """One crop: which slice of which pool, where, and with which noise."""

    pool: int
    slice: int
    top: int
    left: int
    noise: Noise


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRule:
    """How items are drawn; see config.ModelConfig for each field."""

    seed: int
    crop: int
    pseudo_crop: int = 0
    labelled_share: float = 1.0
    positive_patch_share: float = 0.5
    positive_slice_share: float = 0.0
    augment: bool = True
    contrast: Literal["all", "power", "log", "none"] = "all"

    def crop_of(self, pool: int) -> int:
        """Return the side of the crops of a pool: 0 is the labelled one.

        >>> SamplingRule(seed=0, crop=240, pseudo_crop=512).crop_of(1)
        512
        """
        return self.pseudo_crop if pool and self.pseudo_crop else self.crop


def draw(rule: SamplingRule, pools: tuple[SlicePool, ...], *, step: int, item: int) -> Item:
    """Draw one item.

    Args:
        rule: How.
        pools: Labelled slices, and the pseudo-labelled ones where there are any.
        step: Step of the run, from 0.
        item: Place in the minibatch over all workers.
    """
    rng = np.random.default_rng([rule.seed, step, item])
    pool = int(len(pools) > 1 and rng.random() >= rule.labelled_share)
    slices = pools[pool]
    crop = rule.crop_of(pool)
    is_whole = crop >= slices.images.pieces[0].shape[1]
    positives = slices.positive_wholes if is_whole else slices.positives
    if len(positives) and rng.random() < rule.positive_slice_share:
        index = int(rng.choice(positives))
    else:
        index = int(rng.integers(len(slices)))
    top, left = _place(rng, slices, index, crop, rule.positive_patch_share)
    return Item(pool, index, top, left, _noise(rng, rule.contrast) if rule.augment else Noise())


def _place(
    rng: np.random.Generator,
    slices: SlicePool,
    index: int,
    crop: int,
    positive_patch_share: float,
) -> tuple[int, int]:
    """Choose the crop's corner: around a positive pixel, or uniform over the head's box."""
    side = slices.images.pieces[0].shape[1]
    room = side - crop
    if room <= 0:
        return room // 2, room // 2
    if slices.positive[index] and rng.random() < positive_patch_share:
        bleeds = bleeding(slices.masks[index], soft=slices.soft)
        row, column = divmod(int(rng.choice(np.flatnonzero(bleeds))), side)
        corner = np.array([row, column]) - rng.integers(0, crop, 2)
    else:
        top, left, bottom, right = slices.boxes[index].tolist()
        corner = np.array(
            [
                rng.integers(top, max(bottom - crop, top) + 1),
                rng.integers(left, max(right - crop, left) + 1),
            ]
        )
    row, column = np.clip(corner, 0, room)
    return int(row), int(column)


def _noise(rng: np.random.Generator, contrast: str) -> Noise:
    height, width = rng.uniform(*ZOOM, 2)
    flip = bool(rng.random() < 0.5)
    # Drawn whatever the setting: runs that differ in it see the same items otherwise.
    drawn = ("power", "log", "none")[rng.integers(3)]
    used = drawn if contrast == "all" else contrast
    gamma, gain = rng.uniform(0.85, 1.1), rng.uniform(0.7, 1.1)
    return Noise(
        height=float(height),
        width=float(width),
        flip=flip,
        gamma=float(gamma) if used == "power" else 1.0,
        gain=float(gain) if used == "log" else 0.0,
    )
