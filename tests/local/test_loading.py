"""A window holds all that a crop can see; a minibatch is what its items name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.config import ModelConfig
from ich_ray.learning.augment import crops
from ich_ray.learning.loading import Minibatch, fractions, minibatch, slice_loader, window_side
from ich_ray.learning.sampling import ZOOM, Item, Noise, SlicePool, Worker
from ich_ray.windows import LEVELS
from tests.local.slice_pools import pool, pool_of

SIDE = 128
SLICES = pool(6, side=SIDE, positive=3)


def whole(pools: tuple[SlicePool, ...], items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices as they are, single channel."""
    images = np.stack([pools[item.pool].images[item.slice] for item in items])
    masks = np.stack([pools[item.pool].masks[item.slice] for item in items])
    scaled = torch.from_numpy(images.astype(np.float32)).div_(LEVELS)
    return scaled[:, None], torch.from_numpy(masks)


@settings(max_examples=60)
@given(
    crop=st.sampled_from([8, 24, 64, 104, 128, 136]),
    corner=st.tuples(st.integers(-8, SIDE), st.integers(-8, SIDE)),
    zoom=st.tuples(st.floats(*ZOOM), st.floats(*ZOOM)),
    flip=st.booleans(),
    row=st.integers(0, 5),
)
def test_a_crop_of_a_window_is_that_of_the_slice(
    *, crop: int, corner: tuple[int, int], zoom: tuple[float, float], flip: bool, row: int
) -> None:
    room = SIDE - crop
    top, left = (min(max(at, 0), room) if room > 0 else room // 2 for at in corner)
    item = Item(0, row, top, left, Noise(height=zoom[0], width=zoom[1], flip=flip))
    found = minibatch((SLICES,), [item], channels=1, crop=crop)
    expected, expected_mask = crops(*whole((SLICES,), [item]), [item], crop=crop)
    cut, mask = crops(
        fractions(found.images), found.masks, [item], crop=crop, corners=found.corners
    )
    torch.testing.assert_close(cut, expected, rtol=0, atol=2e-5)
    # A pixel half way between two may fall to either.
    assert (mask != expected_mask).float().mean() < 0.001


@pytest.mark.parametrize("crop", [24, 64])
def test_a_window_is_no_larger_than_a_crop_needs(crop: int) -> None:
    side = window_side(crop, side=512)
    assert crop / ZOOM[0] <= side <= crop / ZOOM[0] + 5


def test_a_minibatch_holds_the_slice_between_its_neighbours() -> None:
    images = np.arange(3, dtype=np.uint16)[:, None, None].repeat(8, 1).repeat(8, 2)
    slices = pool_of(images, np.zeros((3, 8, 8), np.uint8))
    items = [Item(0, i, 0, 0, Noise()) for i in (0, 1, 2)]
    batch = minibatch((slices,), items, channels=3, crop=8)
    assert batch.images[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    single = minibatch((slices,), items, channels=1, crop=8)
    assert torch.equal(single.images[:, 0], batch.images[:, 1])
    assert batch.names == ("exam e slice 0", "exam e slice 1", "exam e slice 2")


def test_every_level_becomes_its_fraction() -> None:
    levels = np.arange(LEVELS + 1, dtype=np.uint16).reshape(1, 1, 256, 256)
    found = fractions(torch.from_numpy(levels.view(np.int16)))
    expected = torch.from_numpy(levels.astype(np.float32)) / LEVELS
    assert torch.equal(found, expected)


def test_processes_together_load_the_minibatch_of_one() -> None:
    config = ModelConfig(labelled=("a",), crop=64, batch=8)

    def of(worker: Worker) -> Minibatch:
        (found,) = slice_loader(config, (SLICES,), channels=3, worker=worker)(5)
        return found

    alone, parts = of(Worker()), [of(Worker(rank=rank, world=4)) for rank in range(4)]
    assert [item for part in parts for item in part.items] == list(alone.items)
    assert torch.equal(torch.cat([part.images for part in parts]), alone.images)
    assert torch.equal(torch.cat([part.masks for part in parts]), alone.masks)
