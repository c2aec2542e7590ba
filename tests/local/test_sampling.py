"""Which items come is decided by seed, step and place alone, and favours what bleeds."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich_ray.config import ModelConfig
from ich_ray.exam import IGNORED
from ich_ray.learning.loading import sampling_rule
from ich_ray.learning.sampling import Item, Noise, SamplingRule, Worker, draw
from tests.local.slice_pools import pool, pool_of

few = settings(max_examples=30)

RULE = SamplingRule(seed=7, crop=24, labelled_share=0.6)
POOLS = (pool(12, positive=4), pool(20, positive=5, seed=1))


def drawn(rule: SamplingRule, count: int = 400) -> list[Item]:
    return [draw(rule, POOLS, step=i // 8, item=i % 8) for i in range(count)]


def within(share: float, count: int) -> float:
    """Four standard deviations of a share."""
    return 4 * math.sqrt(share * (1 - share) / count)


def holds_positive(item: Item, *, crop: int) -> bool:
    mask = POOLS[item.pool].masks[item.slice]
    return bool((mask[item.top : item.top + crop, item.left : item.left + crop] == 1).any())


def test_the_same_step_draws_the_same_items() -> None:
    assert drawn(RULE) == drawn(RULE)


def test_another_seed_step_or_place_draws_another_item() -> None:
    items = drawn(RULE, 100) + drawn(dataclasses.replace(RULE, seed=8), 100)
    assert len(set(items)) == len(items)


@given(batch=st.integers(1, 64), world=st.integers(1, 64))
def test_the_workers_shares_are_the_minibatch_and_as_equal_as_can_be(
    batch: int, world: int
) -> None:
    shares = [Worker(rank=rank, world=world).items(batch) for rank in range(world)]
    assert [item for share in shares for item in share] == list(range(batch))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= batch // world


def test_six_of_ten_items_are_labelled() -> None:
    items = drawn(RULE, 1_000)
    share = sum(item.pool == 0 for item in items) / len(items)
    assert share == pytest.approx(0.6, abs=within(0.6, len(items)))


def test_a_teacher_has_labelled_items_only() -> None:
    config = ModelConfig(labelled=("a",))
    assert sampling_rule(config).labelled_share == 1
    assert sampling_rule(dataclasses.replace(config, pseudo_labelled=("p",))).labelled_share == 0.6


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_patches_of_a_positive_slice_hold_a_positive_pixel_at_least_that_often(
    share: float,
) -> None:
    rule = dataclasses.replace(RULE, positive_patch_share=share, positive_slice_share=1.0)
    items = drawn(rule)
    assert all(POOLS[item.pool].positive[item.slice] for item in items)
    found = sum(holds_positive(item, crop=rule.crop) for item in items) / len(items)
    assert found >= share - within(share, len(items))


def test_slices_are_uniform_unless_positive_ones_are_asked_for() -> None:
    items = [item for item in drawn(RULE, 1_000) if item.pool == 1]
    share = sum(POOLS[1].positive[item.slice] for item in items) / len(items)
    assert share == pytest.approx(0.25, abs=within(0.25, len(items)))


@few
@given(side=st.integers(3, 8), crop=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_crops_lie_inside_the_slice(side: int, crop: int, seed: int) -> None:
    slices = pool(3, side=8 * side, positive=1, lesion=3, seed=seed)
    rule = SamplingRule(seed=seed, crop=8 * crop)
    for item in (draw(rule, (slices,), step=step, item=0) for step in range(10)):
        for corner in (item.top, item.left):
            if crop <= side:
                assert 0 <= corner <= 8 * (side - crop)
            else:
                assert corner == (8 * (side - crop)) // 2  # centred


def test_crops_of_a_negative_slice_touch_the_head() -> None:
    image = np.zeros((1, 64, 64), np.uint16)
    image[0, 50:60, 5:15] = 1
    slices = (pool_of(image, np.zeros((1, 64, 64), np.uint8)),)
    for step in range(50):
        item = draw(SamplingRule(seed=0, crop=8), slices, step=step, item=0)
        assert 50 <= item.top <= 52
        assert 5 <= item.left <= 7


def test_ignored_pixels_are_no_place_for_a_patch() -> None:
    mask = np.full((1, 64, 64), IGNORED, np.uint8)
    mask[0, 40, 9] = 1
    slices = (pool_of(np.ones((1, 64, 64), np.uint16), mask),)
    rule = SamplingRule(seed=0, crop=8, positive_patch_share=1.0)
    for step in range(50):
        item = draw(rule, slices, step=step, item=0)
        assert item.top <= 40 < item.top + 8
        assert item.left <= 9 < item.left + 8


def test_the_noise_is_that_of_the_paper() -> None:
    noises = [item.noise for item in drawn(RULE, 1_000)]
    for sizes in ([n.height for n in noises], [n.width for n in noises]):
        assert 0.9 <= min(sizes) < 0.91
        assert 1.09 < max(sizes) <= 1.1
    power = [n.gamma for n in noises if n.gamma != 1]
    gains = [n.gain for n in noises if n.gain > 0]
    assert 0.85 <= min(power) < max(power) <= 1.1
    assert 0.7 <= min(gains) < max(gains) <= 1.1
    assert not any(n.gamma != 1 and n.gain > 0 for n in noises)
    assert len(power) / 1_000 == pytest.approx(1 / 3, abs=within(1 / 3, 1_000))
    assert len(gains) / 1_000 == pytest.approx(1 / 3, abs=within(1 / 3, 1_000))
    assert sum(n.flip for n in noises) / 1_000 == pytest.approx(0.5, abs=within(0.5, 1_000))


@pytest.mark.parametrize(
    ("contrast", "power", "log"), [("power", 1, 0), ("log", 0, 1), ("none", 0, 0)]
)
def test_one_kind_of_contrast_is_that_of_every_item_and_changes_nothing_else(
    contrast: Any, power: int, log: int
) -> None:
    items = drawn(dataclasses.replace(RULE, contrast=contrast))
    assert {int(item.noise.gamma != 1) for item in items} == {power}
    assert {int(item.noise.gain > 0) for item in items} == {log}
    for item, before in zip(items, drawn(RULE), strict=True):
        noise = dataclasses.replace(item.noise, gamma=before.noise.gamma, gain=before.noise.gain)
        assert dataclasses.replace(item, noise=noise) == before


def test_without_augmentation_there_is_no_noise() -> None:
    items = drawn(dataclasses.replace(RULE, augment=False), 50)
    assert all(item.noise == Noise() for item in items)
