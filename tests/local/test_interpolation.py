"""The core's resizing, in numpy, is that of torch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ich_ray.windows import LEVELS, to_input, upsample


def noise(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize(("cells", "side"), [(4, 32), (30, 240), (1, 8), (5, 43), (6, 6), (32, 20)])
def test_upsampling_is_torch_s_bilinear_interpolation(cells: int, side: int) -> None:
    logits = noise(cells, cells)
    found = upsample(logits, rows=side, columns=side, size=8 * cells)
    expected = F.interpolate(
        torch.from_numpy(logits)[None, None],
        size=(side, side),
        mode="bilinear",
        align_corners=False,
    )
    np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(("side", "size"), [(512, 256), (100, 64), (64, 64), (31, 64), (512, 240)])
def test_resizing_is_torch_s_antialiased_interpolation(side: int, size: int) -> None:
    fraction = np.random.default_rng(0).random((side, side)).astype(np.float32)
    found = to_input(fraction, window=(0.0, 1.0), size=size) / LEVELS
    expected = F.interpolate(
        torch.from_numpy(fraction)[None, None],
        size=(size, size),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=1e-3)
