"""A prediction is a function of the slice and the weights, not of its batch."""

import numpy as np
import pytest
import torch

from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.predictor import Predictor, predictor_of
from ich_ray.windows import LEVELS


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network = PatchFCN("drn_d_narrow", in_channels=3)
    network.train()(torch.rand(4, 3, 64, 64))  # moves the statistics
    return network.state_dict()


@pytest.fixture
def predictor(weights: dict[str, torch.Tensor]) -> Predictor:
    return predictor_of(weights, network="drn_d_narrow", in_channels=3, crop=48)


def inputs(num_slices: int, side: int = 88) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, LEVELS, (num_slices, 3, side, side)).astype(np.uint16)


def test_a_prediction_is_that_of_the_network(
    predictor: Predictor, weights: dict[str, torch.Tensor]
) -> None:
    network = PatchFCN("drn_d_narrow", in_channels=3).eval()
    network.load_state_dict(weights)
    levels = inputs(2)
    with torch.inference_mode():
        images = torch.from_numpy(levels.astype(np.float32)) / LEVELS
        logits = network.whole_slice(images, crop=48)
    found = predictor.predict(levels)
    np.testing.assert_allclose(found.p, torch.sigmoid(logits.patch).numpy(), rtol=1e-4)
    np.testing.assert_allclose(found.maps, logits.pixel.numpy(), rtol=2e-3, atol=2e-3)


def test_a_prediction_does_not_depend_on_its_batch(predictor: Predictor) -> None:
    levels = inputs(3)
    together = predictor.predict(levels)
    for i in range(3):
        alone = predictor.predict(levels[i : i + 1])
        np.testing.assert_allclose(alone.p[0], together.p[i], rtol=1e-5)
        np.testing.assert_allclose(alone.maps[0], together.maps[i], rtol=2e-3, atol=2e-3)


def test_predicting_twice_gives_the_same_and_leaves_the_weights(
    predictor: Predictor, weights: dict[str, torch.Tensor]
) -> None:
    first, second = predictor.predict(inputs(2)), predictor.predict(inputs(2))
    np.testing.assert_array_equal(first.p, second.p)
    np.testing.assert_array_equal(first.maps, second.maps)
    after = predictor.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())


def test_the_map_is_half_precision_at_stride_8(predictor: Predictor) -> None:
    found = predictor.predict(inputs(2, side=40))
    assert found.maps.shape == (2, 5, 5)
    assert found.maps.dtype == np.float16
    assert found.p.shape == (2,)
    assert found.p.dtype == np.float32
    assert ((found.p > 0) & (found.p < 1)).all()


def test_weights_of_another_network_are_refused(weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        predictor_of(weights, network="drn_d_narrow", in_channels=1, crop=48)
