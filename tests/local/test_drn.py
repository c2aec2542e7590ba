"""The trunk is that of the paper's table: parameters, names, stride, and the numbers it gives."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ich_ray.learning.drn import TABLES, Drn
from ich_ray.learning.patchfcn import PatchFCN, count_parameters

# Source: Yu, Koltun & Funkhouser, CVPR 2017, DRN-D-38; kind, blocks, channels, stride, dilation.
D_38 = [
    ("plain", 1, 16, 1, 1),
    ("plain", 1, 16, 1, 1),
    ("plain", 1, 32, 2, 1),
    ("residual", 3, 64, 2, 1),
    ("residual", 4, 128, 2, 1),
    ("residual", 6, 256, 1, 2),
    ("residual", 3, 512, 1, 4),
    ("plain", 1, 512, 1, 2),
    ("plain", 1, 512, 1, 1),
]
PARAMETERS = [2_384, 2_336, 4_672, 205_696, 1_116_416, 6_822_400, 13_114_368, 2_360_320, 2_360_320]


def convolution_names() -> Iterator[tuple[str, str]]:
    """Convolution and its batch normalisation, as fyu/drn names them."""
    for layer, (kind, blocks, _, _, _) in enumerate(D_38):
        for block in range(blocks):
            if kind == "plain":
                yield f"layer{layer}.0", f"layer{layer}.1"
                continue
            place = f"layer{layer}.{block}"
            yield from ((f"{place}.conv{i}", f"{place}.bn{i}") for i in (1, 2))
            if block == 0:
                yield f"{place}.downsample.0", f"{place}.downsample.1"


def by_the_table(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The trunk in plain arithmetic, from the table and a state dict."""

    def normalised(x: Tensor, conv: str, norm: str, *, stride: int, dilation: int) -> Tensor:
        weight = weights[f"{conv}.weight"]
        padding = dilation * (weight.shape[2] // 2)
        x = F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
        mean, var, scale, shift = (
            weights[f"{norm}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    for layer, (kind, blocks, _, stride, dilation) in enumerate(D_38):
        if kind == "plain":
            names = (f"layer{layer}.0", f"layer{layer}.1")
            x = normalised(x, *names, stride=stride, dilation=dilation).clamp(min=0)
            continue
        for block in range(blocks):
            at, step = f"layer{layer}.{block}", stride if block == 0 else 1
            y = normalised(x, f"{at}.conv1", f"{at}.bn1", stride=step, dilation=dilation)
            y = normalised(y.clamp(min=0), f"{at}.conv2", f"{at}.bn2", stride=1, dilation=dilation)
            if block == 0:
                names = (f"{at}.downsample.0", f"{at}.downsample.1")
                x = normalised(x, *names, stride=step, dilation=1)
            x = (x + y).clamp(min=0)
    return x


@pytest.mark.parametrize(("in_channels", "expected"), [(3, 25_988_912), (1, 25_987_344)])
def test_drn_d_38_has_the_table_s_parameters(in_channels: int, expected: int) -> None:
    trunk = Drn(TABLES["drn_d_38"], in_channels=in_channels)
    assert count_parameters(trunk) == expected
    by_layer = [count_parameters(layer) for layer in trunk.children()]
    assert by_layer == [816 if in_channels == 1 else 2_384, *PARAMETERS[1:]]


def test_the_state_dict_has_the_names_of_fyu_drn() -> None:
    expected = set()
    for conv, norm in convolution_names():
        roles = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        expected |= {f"{conv}.weight"} | {f"{norm}.{role}" for role in roles}
    assert set(Drn(TABLES["drn_d_38"], in_channels=3).state_dict()) == expected


def test_a_forward_pass_is_that_of_the_table() -> None:
    torch.manual_seed(0)
    trunk = Drn(TABLES["drn_d_38"], in_channels=3).double().eval()
    for name, value in trunk.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 32, 40, dtype=torch.float64)
    with torch.inference_mode():
        found, expected = trunk(x), by_the_table(x, trunk.state_dict())
    assert expected.abs().mean() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", TABLES)
def test_features_lie_at_an_eighth_of_the_resolution(network: str) -> None:
    trunk = Drn(TABLES[network], in_channels=1).eval()
    with torch.inference_mode():
        assert trunk(torch.zeros(1, 1, 48, 64)).shape == (1, trunk.out_channels, 6, 8)


@pytest.mark.parametrize("layer", ["layer0.0", "layer5.2.conv1", "layer8.0"])
def test_convolutions_start_with_the_deviation_of_their_fan_out(layer: str) -> None:
    weight = Drn(TABLES["drn_d_38"], in_channels=3).get_parameter(f"{layer}.weight")
    expected = (2 / (weight.shape[0] * weight.shape[2] * weight.shape[3])) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.05)
    assert abs(weight.mean().item()) < expected / 5


def test_the_shipped_network_is_small_enough_for_a_laptop() -> None:
    assert count_parameters(PatchFCN("drn_d_narrow", in_channels=3)) < 500_000
