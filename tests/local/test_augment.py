"""Crops are exact without noise, and masks stay masks with it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ich_ray.exam import IGNORED
from ich_ray.learning.augment import crops
from ich_ray.learning.sampling import Item, Noise

few = settings(max_examples=30)

SIDE, CROP = 48, 24


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def masks() -> Tensor:
    codes = torch.tensor([0, 1, IGNORED], dtype=torch.uint8)
    drawn = torch.randint(3, (1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    return codes[drawn]


def item(top: int, left: int, noise: Noise = Noise()) -> Item:  # noqa: B008  (it is frozen)
    return Item(0, 0, top, left, noise)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (5, 17), (24, 24)])
def test_without_noise_a_crop_is_exact(images: Tensor, masks: Tensor, top: int, left: int) -> None:
    cut, cut_masks = crops(images, masks, [item(top, left)], crop=CROP)
    here = (slice(top, top + CROP), slice(left, left + CROP))
    torch.testing.assert_close(cut, images[:, :, here[0], here[1]], rtol=0, atol=1e-5)
    assert torch.equal(cut_masks, masks[:, here[0], here[1]])


def test_a_flip_mirrors_the_crop_in_its_place(images: Tensor, masks: Tensor) -> None:
    plain, plain_masks = crops(images, masks, [item(3, 9)], crop=CROP)
    flipped, flipped_masks = crops(images, masks, [item(3, 9, Noise(flip=True))], crop=CROP)
    torch.testing.assert_close(flipped, plain.flip(3), rtol=0, atol=1e-5)
    assert torch.equal(flipped_masks, plain_masks.flip(2))


def test_outside_the_slice_lies_air_and_nothing_is_labelled(images: Tensor) -> None:
    bleeds = torch.ones((1, SIDE, SIDE), dtype=torch.uint8)
    cut, cut_masks = crops(images, bleeds, [item(-8, -8)], crop=64)
    inside = torch.zeros((64, 64), dtype=torch.bool)
    inside[8:56, 8:56] = True
    assert (cut_masks[0][inside] == 1).all()
    assert (cut_masks[0][~inside] == IGNORED).all()
    assert not cut[0][:, ~inside].any()
    torch.testing.assert_close(cut[:, :, 8:56, 8:56], images, rtol=0, atol=1e-5)


def test_scaling_enlarges_the_head_about_the_crop_s_centre() -> None:
    mask = torch.zeros((1, SIDE, SIDE), dtype=torch.uint8)
    mask[:, 14:34, 14:34] = 1
    image = mask[:, None].float()
    stretched = Noise(height=1.1, width=0.9)
    cut, cut_masks = crops(image, mask, [item(0, 0, stretched)], crop=SIDE)
    bleeding = cut_masks[0] == 1
    assert bleeding.any(1).sum() == 22
    assert bleeding.any(0).sum() == 18
    assert cut.sum().item() == pytest.approx(20 * 20 * 1.1 * 0.9, rel=0.01)


@few
@given(
    noise=st.builds(
        Noise, height=st.floats(0.9, 1.1), width=st.floats(0.9, 1.1), flip=st.booleans()
    ),
    top=st.integers(-4, SIDE - CROP + 4),
    left=st.integers(-4, SIDE - CROP + 4),
)
def test_masks_hold_no_value_in_between(noise: Noise, top: int, left: int) -> None:
    drawn = torch.randint(3, (1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    masks = torch.tensor([0, 1, IGNORED], dtype=torch.uint8)[drawn]
    _, cut = crops(torch.zeros(1, 1, SIDE, SIDE), masks, [item(top, left, noise)], crop=CROP)
    assert set(cut.flatten().tolist()) <= {0, 1, IGNORED}


@pytest.mark.parametrize("gamma", [0.85, 1.1])
def test_the_power_law_is_a_power(images: Tensor, masks: Tensor, gamma: float) -> None:
    cut, _ = crops(images, masks, [item(0, 0, Noise(gamma=gamma))], crop=SIDE)
    torch.testing.assert_close(cut, images**gamma, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gain", [0.7, 1.1])
def test_the_logarithm_is_of_one_plus_x_and_stays_in_the_window(
    images: Tensor, masks: Tensor, gain: float
) -> None:
    cut, _ = crops(images, masks, [item(0, 0, Noise(gain=gain))], crop=SIDE)
    expected = (gain * torch.log2(1 + images)).clamp(0, 1)
    torch.testing.assert_close(cut, expected, rtol=1e-4, atol=1e-4)


def test_each_item_of_a_batch_has_its_own_noise(images: Tensor, masks: Tensor) -> None:
    both = [item(0, 0, Noise(gamma=0.9)), item(4, 8, Noise(flip=True, gain=0.8))]
    cut, cut_masks = crops(images.expand(2, -1, -1, -1), masks.expand(2, -1, -1), both, crop=CROP)
    for i, one in enumerate(both):
        alone, alone_mask = crops(images, masks, [one], crop=CROP)
        torch.testing.assert_close(cut[i : i + 1], alone)
        assert torch.equal(cut_masks[i : i + 1], alone_mask)
