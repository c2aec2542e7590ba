"""Windows and whole slices say the same where a pixel's whole field is seen in both."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ich_ray.config import PredictConfig
from ich_ray.learning import drn
from ich_ray.learning.drn import DrnTable
from ich_ray.learning.inference import InferenceRule, slice_logits
from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.predictor import predictor_of
from ich_ray.windows import LEVELS

NEAR = DrnTable((1, 1, 1, 1, 0, 0, 0, 0), (4, 4, 6, 6, 6, 6, 6, 6))
"""A receptive field of 79 pixels: layers 5 to 8, which see far, are left out."""


def network_of(table: str = "drn_d_narrow") -> PatchFCN:
    torch.manual_seed(0)
    network = PatchFCN(table, in_channels=1)
    network.train()(torch.rand(4, 1, 64, 64))  # moves the statistics
    return network.eval()


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> PatchFCN:
    """A network that sees less than 100 pixels far."""
    monkeypatch.setitem(drn.TABLES, "near", NEAR)
    monkeypatch.setattr(drn, "_residual", residual_or_nothing)
    monkeypatch.setattr(drn, "_plain", plain_or_nothing)
    return network_of("near")


_residual, _plain = drn._residual, drn._plain


def residual_or_nothing(inputs: int, outputs: int, count: int, **how: int) -> torch.nn.Module:
    return _residual(inputs, outputs, count, **how) if count else torch.nn.Identity()


def plain_or_nothing(inputs: int, outputs: int, count: int, **how: int) -> torch.nn.Module:
    return _plain(inputs, outputs, count, **how) if count else torch.nn.Identity()


def field_of(network: PatchFCN, side: int) -> int:
    """Measure how far the network sees: side of the square of pixels that move the centre cell."""
    x = torch.rand(1, 1, side, side, requires_grad=True)
    cell = side // 16
    torch.autograd.backward(network(x).pixel[0, cell, cell])
    assert x.grad is not None
    rows = torch.nonzero(x.grad[0, 0].abs().amax(1))
    return int(rows[-1] - rows[0]) + 1


def test_windows_and_whole_slices_agree_in_the_interior_of_a_near_sighted_network(
    near: PatchFCN,
) -> None:
    field = field_of(near, 240)
    assert 40 < field < 100
    images = torch.rand(2, 1, 320, 320)
    with torch.inference_mode():
        whole = slice_logits(near, images, InferenceRule(crop=240)).pixel
        windows = slice_logits(near, images, InferenceRule(crop=240, windows=True)).pixel
    # Windows begin at 0 and 80: these cells see no window's edge but the slice's own.
    edge = -(-(field // 2 + 1) // 8)
    inside = slice(80 // 8 + edge, 240 // 8 - edge)
    difference = (whole - windows)[:, inside, inside].abs().max()
    assert difference < 1e-5, difference
    assert (whole - windows).abs().max() > 1e-3, "windows have no edges of their own"


def test_a_slice_no_larger_than_a_window_is_one_patch() -> None:
    network, images = network_of(), torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        found = slice_logits(network, images, InferenceRule(crop=64, windows=True))
        expected = network(images)
    torch.testing.assert_close(found.pixel, expected.pixel, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.patch, expected.patch)


def test_windows_average_probabilities_and_score_by_their_highest_patch() -> None:
    network, images = network_of(), torch.rand(2, 1, 96, 96)
    total, count, patches = np.zeros((2, 12, 12)), np.zeros((12, 12)), []
    with torch.inference_mode():
        for top in (0, 32):
            for left in (0, 32):
                logits = network(images[:, :, top : top + 64, left : left + 64])
                cells = np.s_[top // 8 : top // 8 + 8, left // 8 : left // 8 + 8]
                total[:, *cells] += torch.sigmoid(logits.pixel).numpy()
                count[cells] += 1
                patches.append(torch.sigmoid(logits.patch).numpy())
        found = slice_logits(network, images, InferenceRule(crop=64, windows=True))
    np.testing.assert_allclose(torch.sigmoid(found.pixel), total / count, rtol=1e-4)
    np.testing.assert_allclose(torch.sigmoid(found.patch), np.max(patches, 0), rtol=1e-4)


@pytest.mark.parametrize("windows", [False, True])
def test_a_flipped_slice_has_the_same_score_and_a_flipped_map(*, windows: bool) -> None:
    network, images = network_of(), torch.rand(2, 1, 96, 96)
    rule = InferenceRule(crop=64, windows=windows, flip=True)
    with torch.inference_mode():
        found, turned = (slice_logits(network, x, rule) for x in (images, images.flip(-1)))
        plain = slice_logits(network, images, InferenceRule(crop=64, windows=windows))
    torch.testing.assert_close(found.patch, turned.patch)
    torch.testing.assert_close(found.pixel, turned.pixel.flip(-1))
    assert not torch.allclose(found.pixel, plain.pixel)


def test_an_all_but_sure_pixel_keeps_a_finite_logit_in_sixteen_bits() -> None:
    network = network_of()
    with torch.no_grad():
        assert network.pixel.bias is not None
        network.pixel.bias.fill_(1e4)
        rule = InferenceRule(crop=64, flip=True)
        logits = slice_logits(network, torch.rand(1, 1, 64, 64), rule)
    assert torch.isfinite(logits.pixel.to(torch.float16)).all()


def test_bfloat16_is_near_float32_and_a_setting_reaches_the_network() -> None:
    network = network_of()
    levels = np.random.default_rng(0).integers(0, LEVELS, (3, 1, 88, 88)).astype(np.uint16)

    def predicted(**settings: object) -> np.ndarray:
        config = PredictConfig(**settings)  # type: ignore[arg-type]
        weights = network.state_dict()
        name = "drn_d_narrow"
        ready = predictor_of(weights, network=name, in_channels=1, crop=48, config=config)
        return ready.predict(levels).maps.astype(np.float32)

    plain = predicted()
    for settings in ({"precision": "bfloat16"}, {"inference": "windows"}, {"flip": True}):
        found = predicted(**settings)
        assert 0 < np.abs(found - plain).max() < 2, settings


COMPILED = """
import json
import numpy as np
import torch
from ich_ray.config import PredictConfig
from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.predictor import predictor_of

torch.manual_seed(0)
torch.set_num_threads(1)
network = PatchFCN("drn_d_narrow", in_channels=1)
network.train()(torch.rand(4, 1, 64, 64))
levels = np.random.default_rng(0).integers(0, 65535, (3, 1, 48, 48)).astype(np.uint16)
for compiled in (False, True):
    config = PredictConfig(compiled=compiled, batch=4)
    named = {"network": "drn_d_narrow", "in_channels": 1, "crop": 48}
    found = predictor_of(network.state_dict(), config=config, **named).predict(levels)
    print(json.dumps([found.p.tolist(), found.maps.astype(float).tolist()]))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_pads_its_last_batch_and_says_the_same(tmp_path: Path) -> None:
    # In a process of its own: the checks of types that tests have cannot be compiled.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            # Processes that compile beside it would each import torch first.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        },
    )
    eager, fused = (json.loads(line) for line in done.stdout.splitlines())
    assert len(fused[0]) == 3
    np.testing.assert_allclose(fused[0], eager[0], rtol=1e-4)
    np.testing.assert_allclose(fused[1], eager[1], rtol=1e-2, atol=1e-2)
