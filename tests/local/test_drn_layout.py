"""Published weights become our trunk's, ours become published ones, and no others pass."""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from ich_ray.errors import ConfigError
from ich_ray.learning.drn import TABLES, Drn
from ich_ray.learning.drn_layout import published_from_trunk, trunk_from_published
from ich_ray.learning.patchfcn import PatchFCN

WIDE = (16, 32, 64, 128, 256, 512, 512, 512)
# Source: Yu, Koltun & Funkhouser, CVPR 2017, family D; blocks and channels of layers 1 to 8.
BLOCKS = {
    "drn_d_38": ((1, 1, 3, 4, 6, 3, 1, 1), WIDE),
    "drn_d_22": ((1, 1, 2, 2, 2, 2, 1, 1), WIDE),
    "drn_d_narrow": ((1, 1, 1, 1, 1, 1, 1, 1), (8, 16, 24, 48, 64, 64, 64, 64)),
}
STRIDES = (1, 2, 2, 2, 1, 1, 1, 1)
DILATIONS = (1, 1, 1, 1, 2, 4, 2, 1)


def convolution(inputs: int, outputs: int, side: int, stride: int, dilation: int) -> nn.Conv2d:
    reach = dilation * (side // 2)
    return nn.Conv2d(inputs, outputs, side, stride, reach, dilation, bias=False)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3, stride, dilation)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs, 3, 1, dilation)
        self.bn2 = nn.BatchNorm2d(outputs)
        if (inputs, stride) != (outputs, 1):
            shortcut = (convolution(inputs, outputs, 1, stride, 1), nn.BatchNorm2d(outputs))
            self.downsample = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).clamp(min=0)))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Published(nn.Module):
    """fyu/drn's network, family D, from its table alone; `classes` 0 leaves out its classifier."""

    def __init__(self, network: str, *, classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        blocks, channels = BLOCKS[network]
        inputs, first = channels[0], convolution(in_channels, channels[0], 7, 1, 1)
        self.layer0 = nn.Sequential(first, nn.BatchNorm2d(inputs), nn.ReLU())
        for at, (count, outputs) in enumerate(zip(blocks, channels, strict=True)):
            layer = nn.Sequential()
            for place in range(count):
                stride = STRIDES[at] if place == 0 else 1
                if at in (0, 1, 6, 7):
                    layer.append(convolution(inputs, outputs, 3, stride, DILATIONS[at]))
                    layer.extend([nn.BatchNorm2d(outputs), nn.ReLU()])
                else:
                    layer.append(Block(inputs, outputs, stride, DILATIONS[at]))
                inputs = outputs
            self.add_module(f"layer{at + 1}", layer)
        if classes:
            self.fc = nn.Conv2d(inputs, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features, before the classifier."""
        for layer in range(9):
            x = self.get_submodule(f"layer{layer}")(x)
        return x


def eventful(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """A state of a network in which every tensor counts in what it gives."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        state = make().to_empty(device="cpu").state_dict()
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.ndim == 4:
            value.normal_(0, (2 / value[:, 0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
        else:
            value.uniform_(0.5, 1.5, generator=generator)
    return state


@cache
def published(network: str) -> Mapping[str, Tensor]:
    return MappingProxyType(eventful(lambda: Published(network)))


@cache
def ours(network: str, *, in_channels: int) -> Mapping[str, Tensor]:
    return MappingProxyType(eventful(lambda: PatchFCN(network, in_channels=in_channels)))


def features(make: Callable[[], nn.Module], state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What a network gives that loaded a state strictly."""
    with torch.device("meta"):
        network = make()
    network.load_state_dict(state, strict=True, assign=True)
    with torch.inference_mode():
        found: Tensor = network.eval()(x)
    return found


def trunk(network: str, *, in_channels: int) -> Callable[[], Drn]:
    return lambda: Drn(TABLES[network], in_channels=in_channels)


@pytest.mark.parametrize("network", TABLES)
def test_a_published_network_loads_our_trunk_and_gives_its_features(network: str) -> None:
    weights = ours(network, in_channels=3)
    x = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    found = features(lambda: Published(network, classes=0), published_from_trunk(weights), x)
    with torch.device("meta"):
        whole = PatchFCN(network, in_channels=3)
    whole.load_state_dict(weights, strict=True, assign=True)
    with torch.inference_mode():
        expected = whole.eval().trunk(x)
    assert expected.abs().mean() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", TABLES)
def test_our_trunk_loads_a_published_network_and_gives_its_features(network: str) -> None:
    state = published(network)
    x = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    weights = trunk_from_published(state, network=network, in_channels=3)
    found = features(trunk(network, in_channels=3), weights, x)
    expected = features(lambda: Published(network), state, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("network", TABLES)
def test_there_and_back_is_the_same(network: str, in_channels: int) -> None:
    weights = ours(network, in_channels=in_channels)
    state = published_from_trunk(weights)
    back = trunk_from_published(state, network=network, in_channels=in_channels)
    assert {f"trunk.{name}" for name in back} == {
        name for name in weights if name.startswith("trunk.")
    }
    assert all(torch.equal(value, weights[f"trunk.{name}"]) for name, value in back.items())


def test_neither_the_classifier_nor_a_prefix_of_parallel_training_matters() -> None:
    state = published("drn_d_narrow")
    bare = {name: value for name, value in state.items() if not name.startswith("fc.")}
    parallel = {f"module.{name}": value for name, value in state.items()}
    assert {"fc.weight", "fc.bias"} == set(state) - set(bare)
    for other in (state, parallel):
        found = trunk_from_published(other, network="drn_d_narrow", in_channels=3)
        assert all(torch.equal(found[name], value) for name, value in bare.items())


def test_counters_that_are_missing_begin_at_zero() -> None:
    state = published("drn_d_narrow")
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    found = trunk_from_published(old, network="drn_d_narrow", in_channels=3)
    trunk("drn_d_narrow", in_channels=3)().load_state_dict(found, strict=True)
    counters = [value for name, value in found.items() if "num_batches" in name]
    assert len(counters) == len(state) - len(old)
    assert all(value.dtype == torch.int64 and value == 0 for value in counters)


def test_weights_in_half_precision_become_those_of_a_network_in_single() -> None:
    state = published("drn_d_narrow")
    halves = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    found = trunk_from_published(halves, network="drn_d_narrow", in_channels=3)
    assert all(found[name].dtype == state[name].dtype for name in found)
    assert all(torch.equal(found[name], halves[name].to(state[name].dtype)) for name in found)


def test_one_channel_gives_of_a_grey_image_what_three_gave() -> None:
    state = published("drn_d_narrow")
    before = {name: value.clone() for name, value in state.items()}
    grey = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    single = trunk_from_published(state, network="drn_d_narrow", in_channels=1)
    found = features(trunk("drn_d_narrow", in_channels=1), single, grey)
    expected = features(lambda: Published("drn_d_narrow"), state, grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(state[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("held", "wanted", "fault"),
    [
        ("drn_d_22", "drn_d_38", r"missing layer3\.2\.conv1\.weight \[64, 64, 3, 3\], .* more; "),
        ("drn_d_38", "drn_d_22", r"unexpected layer3\.2\.conv1\.weight \[64, 64, 3, 3\], .* more"),
        ("drn_d_38", "drn_d_narrow", r"of another shape layer0\.0\.weight \[16, 3, 7, 7\] for \["),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_another_network_is_named(held: str, wanted: str, fault: str, in_channels: int) -> None:
    with pytest.raises(ConfigError, match=f"not those of {wanted} .*{fault}") as told:
        trunk_from_published(published(held), network=wanted, in_channels=in_channels)
    assert f"they are those of {held}: set network to it" in str(told.value)


@pytest.mark.parametrize(("held", "wanted"), [(1, 3), (3, 2), (2, 1)])
def test_only_three_channels_become_one(held: int, wanted: int) -> None:
    state = Published("drn_d_narrow", in_channels=held).state_dict()
    shapes = rf"layer0\.0\.weight \[8, {held}, 7, 7\] for \[8, {wanted}, 7, 7\]; start from"
    with pytest.raises(ConfigError, match=f"of another shape {shapes}"):
        trunk_from_published(state, network="drn_d_narrow", in_channels=wanted)


def test_what_is_no_such_network_is_refused() -> None:
    state = published("drn_d_narrow")
    with pytest.raises(ConfigError, match=r"missing layer0\.0\.weight .* and .* more; start"):
        trunk_from_published({}, network="drn_d_narrow", in_channels=1)
    with pytest.raises(ConfigError, match=r"unexpected seg\.weight \[2\]; start"):
        trunk_from_published(
            {**state, "seg.weight": torch.zeros(2)}, network="drn_d_narrow", in_channels=3
        )
    with pytest.raises(ConfigError, match=r"unexpected module\.layer0\.0\.weight"):
        trunk_from_published(
            {**state, "module.layer0.0.weight": torch.zeros(2)},
            network="drn_d_narrow",
            in_channels=3,
        )
    with pytest.raises(ConfigError, match=r"no tensor of a trunk among layer0\.0\.weight, "):
        published_from_trunk({name: state[name] for name in sorted(state) if "layer0" in name})
