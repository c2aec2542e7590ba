import numpy as np
import pytest
import torch

from ich_ray.learning.patchfcn import PatchFCN
from ich_ray.learning.predictor import predictor_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_a_gpu_predicts_what_a_cpu_predicts() -> None:
    torch.manual_seed(0)
    weights = PatchFCN("drn_d_narrow", in_channels=3).state_dict()
    slices = np.random.default_rng(0).integers(0, 65536, (4, 3, 96, 96)).astype(np.uint16)
    on = {
        device: predictor_of(weights, network="drn_d_narrow", in_channels=3, crop=64, device=device)
        for device in ("cpu", "cuda")
    }
    here, there = on["cpu"].predict(slices), on["cuda"].predict(slices)
    np.testing.assert_allclose(there.p, here.p, atol=2e-3)
    np.testing.assert_allclose(there.maps, here.maps, atol=2e-2)
