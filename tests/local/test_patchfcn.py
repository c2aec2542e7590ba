"""A slice is scored by its worst patch; a patch is scored as in training."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ich_ray.learning.patchfcn import PRIOR_LOGIT, PatchFCN

CELL = 8


@pytest.fixture
def network() -> PatchFCN:
    """With statistics and weights that make every part of the patch branch count."""
    torch.manual_seed(0)
    found = PatchFCN("drn_d_narrow", in_channels=1).eval()
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)  # type: ignore[arg-type]  # never None
    nn.init.normal_(found.patch.weight)
    nn.init.normal_(found.pixel.weight)
    return found


def slices(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows + columns)
    return torch.rand((2, 1, rows, columns), generator=generator)


def scores_of_windows(network: PatchFCN, x: Tensor, *, crop: int) -> np.ndarray:
    """Every window's logit, each cut from the features and pooled by hand."""
    features = network.trunk(x)
    both = torch.cat([network.patch_features(features), network.pixel(features)], 1).numpy()
    cells = both.shape[2:]
    window = [min(crop // CELL, n) for n in cells]
    step = [max(w // 2, 1) for w in window]
    starts = [range(0, n - w + s, s) for n, w, s in zip(cells, window, step, strict=True)]
    scores = []
    for top in starts[0]:
        for left in starts[1]:
            # What lies beyond the edge repeats the edge.
            rows = np.minimum(np.arange(top, top + window[0]), cells[0] - 1)
            columns = np.minimum(np.arange(left, left + window[1]), cells[1] - 1)
            cut = torch.from_numpy(both[:, :, rows][:, :, :, columns])
            pooled = [cut[:, :-1].mean((2, 3)), cut[:, :-1].amax((2, 3)), cut[:, -1:].amax((2, 3))]
            scores.append(network.patch(torch.cat(pooled, 1))[:, 0].numpy())
    return np.stack(scores)


@torch.inference_mode()
def test_a_slice_of_one_patch_is_scored_as_the_patch(network: PatchFCN) -> None:
    x = slices(64, 64)
    whole, patch = network.whole_slice(x, crop=64), network(x)
    torch.testing.assert_close(whole.patch, patch.patch, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole.pixel, patch.pixel)


@pytest.mark.parametrize(
    ("rows", "columns", "crop"),
    [
        (96, 96, 48),  # windows end at the edge
        (88, 104, 48),  # they do not
        (64, 120, 48),
        (32, 96, 64),  # lower than a patch
        (40, 24, 240),  # smaller than a patch
        (24, 24, 8),  # a patch is a cell
    ],
)
@torch.inference_mode()
def test_a_slice_is_scored_by_its_highest_window(
    network: PatchFCN, rows: int, columns: int, crop: int
) -> None:
    x = slices(rows, columns)
    found = network.whole_slice(x, crop=crop)
    expected = scores_of_windows(network, x, crop=crop).max(0)
    np.testing.assert_allclose(found.patch.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert found.pixel.shape == (2, rows // CELL, columns // CELL)


@pytest.mark.parametrize(("rows", "columns"), [(11, 13), (13, 11), (6, 7), (4, 12)])
@torch.inference_mode()
def test_every_cell_lies_in_a_window(network: PatchFCN, rows: int, columns: int) -> None:
    nn.init.zeros_(network.pixel.weight)
    network.pixel.weight[0, 0] = 1
    nn.init.zeros_(network.patch.weight)
    network.patch.weight[0, -1] = 1
    width = network.trunk.out_channels
    network.trunk = nn.Identity()  # type: ignore[assignment]  # the input is the features
    places = torch.eye(rows * columns).reshape(-1, 1, rows, columns)
    features = F.pad(places, (0, 0, 0, 0, 0, width - 1))  # one bright cell in each item
    found = network.whole_slice(features, crop=6 * CELL)
    bias = network.pixel.bias + network.patch.bias  # type: ignore[operator]  # never None
    torch.testing.assert_close(found.patch, torch.ones(rows * columns) + bias)


@torch.inference_mode()
def test_an_untrained_network_says_that_few_pixels_bleed() -> None:
    torch.manual_seed(0)
    logits = PatchFCN("drn_d_narrow", in_channels=1).eval()(slices(64, 64))
    assert abs(logits.pixel.mean().item() - PRIOR_LOGIT) < 1
    assert torch.sigmoid(logits.patch).max() < 0.5
