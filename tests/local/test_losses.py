"""Cross-entropies see what is labelled and nothing else, however items fall to workers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ich_ray.exam import IGNORED, SURE
from ich_ray.learning.epoch import mean_loss, targets
from ich_ray.learning.losses import (
    LossSums,
    loss_sums,
    patch_labels,
    probabilities,
    valid_counts,
)
from ich_ray.learning.patchfcn import Logits


def hard(mask: Tensor) -> Tensor:
    """Masks as a corpus has them, as probabilities."""
    return probabilities(mask, torch.zeros(len(mask), dtype=torch.bool))


def masks(*rows: list[int]) -> Tensor:
    """One mask of 8 x 8 pixels for each list of eight rows."""
    codes = torch.tensor(rows, dtype=torch.uint8)
    return hard(codes[:, :, None].expand(-1, -1, 8).contiguous())


def logits(pixel: list[float], patch: list[float]) -> Logits:
    """Maps of one cell, so that every pixel has its cell's logit."""
    return Logits(
        torch.tensor(pixel, requires_grad=True)[:, None, None],
        torch.tensor(patch, requires_grad=True),
    )


def cross_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def test_the_losses_are_binary_cross_entropies_summed() -> None:
    mask = masks([1, 1, 0, 0, 0, 0, 0, 0])
    sums = loss_sums(logits([0.7], [-1.3]), mask, torch.tensor([SURE], dtype=torch.uint8))
    pixel = 16 * cross_entropy(0.7, 1) + 48 * cross_entropy(0.7, 0)
    assert sums.pixel_sum.item() == pytest.approx(pixel, rel=1e-6)
    assert sums.patch_sum.item() == pytest.approx(cross_entropy(-1.3, 1), rel=1e-6)
    assert valid_counts(mask, torch.tensor([SURE], dtype=torch.uint8)).tolist() == [64, 1]


def test_every_type_of_bleed_is_positive() -> None:
    label = torch.ones(1, dtype=torch.uint8)
    found = [loss_sums(logits([0.7], [0.0]), masks([c] * 8), label).pixel_sum for c in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


def test_ignored_pixels_give_neither_loss_nor_gradient() -> None:
    pixel = torch.randn(1, 2, 1, requires_grad=True)
    mask = torch.full((1, 16, 8), IGNORED, dtype=torch.uint8)
    mask[:, :4] = SURE  # nearer to the first cell's centre than any pixel that mixes both
    ignored = torch.tensor([IGNORED], dtype=torch.uint8)
    sums = loss_sums(Logits(pixel, torch.zeros(1, requires_grad=True)), mask, ignored)
    torch.autograd.backward(sums.pixel_sum + sums.patch_sum)
    assert pixel.grad is not None
    assert pixel.grad[0, 0, 0] != 0
    assert pixel.grad[0, 1, 0] == 0
    assert sums.pixel_sum.item() == pytest.approx(32 * cross_entropy(pixel[0, 0, 0].item(), 1))


def test_a_batch_without_any_label_has_loss_zero_and_no_gradient() -> None:
    pixel, patch = torch.randn(2, 1, 1, requires_grad=True), torch.randn(2, requires_grad=True)
    mask = torch.full((2, 8, 8), IGNORED, dtype=torch.uint8)
    sums = loss_sums(Logits(pixel, patch), mask, patch_labels(mask))
    valid = valid_counts(mask, patch_labels(mask))
    assert valid.tolist() == [0, 0]
    loss = mean_loss(sums, valid, patch_loss_weight=1.0, world=1)
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert pixel.grad is not None
    assert patch.grad is not None
    assert not pixel.grad.any()
    assert not patch.grad.any()


def test_a_patch_is_positive_by_one_pixel_and_ignored_without_any_label() -> None:
    mask = torch.zeros((5, 8, 8), dtype=torch.uint8)
    mask[1, 3, 4] = 1
    mask[2, 3, 4] = 5
    mask[3] = IGNORED
    mask[4, :4] = IGNORED
    assert patch_labels(hard(mask)).tolist() == [0, SURE, SURE, IGNORED, 0]


def test_a_teachers_probabilities_are_targets_and_the_highest_is_the_patchs() -> None:
    codes = [IGNORED, 127, 0, 0, 0, 0, 0, 0]
    mask = torch.tensor([codes], dtype=torch.uint8)[:, :, None].expand(-1, -1, 8).contiguous()
    soft = probabilities(mask, torch.tensor([True]))
    assert torch.equal(soft, mask), "probabilities were made sure"
    labels = patch_labels(soft)
    assert labels.tolist() == [127]
    sums = loss_sums(logits([0.7], [-1.3]), soft, labels)
    pixel = 8 * cross_entropy(0.7, 0.5) + 48 * cross_entropy(0.7, 0)
    assert sums.pixel_sum.item() == pytest.approx(pixel, rel=1e-6)
    assert sums.patch_sum.item() == pytest.approx(cross_entropy(-1.3, 0.5), rel=1e-6)


def test_a_slice_that_is_positive_as_a_whole_labels_only_a_whole_crop() -> None:
    mask = torch.zeros((2, 8, 8), dtype=torch.uint8)
    whole = torch.tensor([1, IGNORED], dtype=torch.uint8)
    assert targets(mask, whole, side=16, crop=8).tolist() == [IGNORED, 0]
    assert targets(mask, whole, side=8, crop=8).tolist() == [SURE, 0]


def test_a_slice_that_is_negative_as_a_whole_has_negative_patches_and_no_pixels() -> None:
    mask = torch.full((2, 8, 8), IGNORED, dtype=torch.uint8)
    whole = torch.tensor([0, IGNORED], dtype=torch.uint8)
    labels = targets(mask, whole, side=16, crop=8)
    assert labels.tolist() == [0, IGNORED]
    assert valid_counts(mask, labels).tolist() == [0, 1]


def test_two_workers_with_unequal_labels_follow_the_gradient_of_one() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=(4, 3, 3)).astype(np.float32))
    mask = torch.from_numpy((SURE * rng.integers(0, 2, (4, 24, 24))).astype(np.uint8))
    mask[0, :20] = IGNORED  # the first worker has far fewer pixels, and one patch
    mask[1] = IGNORED
    weight = torch.tensor([0.3, -0.2], requires_grad=True)

    def sums_of(items: slice) -> LossSums:
        pixel = weight[0] * values[items]
        patch = weight[1] * values[items].amax((1, 2))
        return loss_sums(Logits(pixel, patch), mask[items], patch_labels(mask[items]))

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, weight)[0]

    valid = valid_counts(mask, patch_labels(mask))
    single = mean_loss(sums_of(slice(0, 4)), valid, patch_loss_weight=0.7, world=1)
    parts = [sums_of(slice(0, 2)), sums_of(slice(2, 4))]
    shares = [mean_loss(p, valid, patch_loss_weight=0.7, world=2) for p in parts]
    # DDP averages the workers' gradients.
    averaged = (gradient(shares[0]) + gradient(shares[1])) / 2
    torch.testing.assert_close(averaged, gradient(single))
    torch.testing.assert_close((shares[0] + shares[1]) / 2, single)
