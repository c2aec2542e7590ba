"""Dilated residual networks, family D: one table, three networks, output stride 8.

Source: Yu, Koltun & Funkhouser, CVPR 2017. Parameter names are those of fyu/drn, so that the
published state dict of a trunk loads strictly.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 8


@dataclass(frozen=True, slots=True)
class DrnTable:
    """Blocks of layers 1 to 8, and channels of layers 1 to 8 (layer 0 has layer 1's)."""

    blocks: tuple[int, int, int, int, int, int, int, int]
    channels: tuple[int, int, int, int, int, int, int, int]


TABLES = {
    "drn_d_38": DrnTable((1, 1, 3, 4, 6, 3, 1, 1), (16, 32, 64, 128, 256, 512, 512, 512)),
    "drn_d_22": DrnTable((1, 1, 2, 2, 2, 2, 1, 1), (16, 32, 64, 128, 256, 512, 512, 512)),
    "drn_d_narrow": DrnTable((1, 1, 1, 1, 1, 1, 1, 1), (8, 16, 24, 48, 64, 64, 64, 64)),
}
"""drn_d_narrow (ours): for a laptop's CPU, the same strides and dilations."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, stride=stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(outputs, outputs, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Float[Tensor, "item inputs rows columns"]) -> Float[Tensor, "item ..."]:
        """Return features of the block's stride."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        activated: Tensor = self.relu(self.bn2(self.conv2(out)) + shortcut)
        return activated


class Drn(nn.Module):
    """The trunk: an image to features at an eighth of its resolution."""

    def __init__(self, table: DrnTable, *, in_channels: int) -> None:
        super().__init__()
        blocks, channels = table.blocks, table.channels
        first = channels[0]
        self.layer0 = nn.Sequential(
            nn.Conv2d(in_channels, first, 7, padding=3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _plain(first, first, blocks[0])
        self.layer2 = _plain(first, channels[1], blocks[1], stride=2)
        self.layer3 = _residual(channels[1], channels[2], blocks[2], stride=2)
        self.layer4 = _residual(channels[2], channels[3], blocks[3], stride=2)
        self.layer5 = _residual(channels[3], channels[4], blocks[4], dilation=2)
        self.layer6 = _residual(channels[4], channels[5], blocks[5], dilation=4)
        self.layer7 = _plain(channels[5], channels[6], blocks[6], dilation=2)
        self.layer8 = _plain(channels[6], channels[7], blocks[7])
        self.out_channels = channels[7]
        initialise(self)

    def forward(
        self, x: Float[Tensor, "item channel rows columns"]
    ) -> Float[Tensor, "item feature cells cells2"]:
        """Return features; rows and columns must be multiples of 8."""
        for layer in self.children():
            x = layer(x)
        return x


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, sqrt(2 / (k^2 * outputs))), as fyu/drn does; BN is 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _conv(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


def _plain(
    inputs: int, outputs: int, count: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    modules: list[nn.Module] = []
    for i in range(count):
        modules += [
            _conv(
                inputs if i == 0 else outputs,
                outputs,
                stride=stride if i == 0 else 1,
                dilation=dilation,
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*modules)


def _residual(
    inputs: int, outputs: int, count: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    # The first block of layers 5 and 6 is fully dilated too (fyu/drn, new_level=False).
    first = BasicBlock(inputs, outputs, stride=stride, dilation=dilation)
    rest = [BasicBlock(outputs, outputs, dilation=dilation) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)
