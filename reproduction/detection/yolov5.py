"""YOLOv5, release 6: the detector of RefineFuse's Table 4.

Published by Ultralytics (G. Jocher et al., YOLOv5, DOI 10.5281/zenodo.3908559): a backbone of C3
blocks and spatial pyramid pooling, a path aggregation net over strides 8, 16 and 32, and one
convolution per scale that gives, for each of three anchors in each cell, a box, an objectness and
a score per class. Own code; layers keep the published numbers, so that weights load by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Pixels between neighbouring cells, per scale.
STRIDES = (8, 16, 32)

#: Width and height in pixels of the published anchors, per scale.
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)

#: Published models: factors of the number of channels and of the number of bottlenecks.
SIZES = {"n": (0.25, 0.33), "s": (0.50, 0.33)}


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, SiLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        # The stem alone has an even kernel: 6x6, padded by 2.
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.bn(self.conv(x)), inplace=True)


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution, added to the input if `shortcut`."""

    def __init__(self, channels: int, shortcut: bool):
        super().__init__()
        self.cv1 = Conv(channels, channels)
        self.cv2 = Conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    """Half of the channels through bottlenecks, half past them, then both joined."""

    def __init__(self, channels_in: int, channels_out: int, repeats: int, shortcut: bool = True):
        super().__init__()
        hidden = channels_out // 2
        self.cv1 = Conv(channels_in, hidden)
        self.cv2 = Conv(channels_in, hidden)
        self.cv3 = Conv(2 * hidden, channels_out)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling: maxima over 5x5, 9x9 and 13x13 pixels, each from the last."""

    def __init__(self, channels: int):
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(nn.functional.max_pool2d(maps[-1], 5, stride=1, padding=2))
        return self.cv2(torch.cat(maps, 1))


class Detect(nn.Module):
    """One 1x1 convolution per scale."""

    anchors: Tensor

    def __init__(self, classes: int, channels: Sequence[int]):
        super().__init__()
        self.outputs = 5 + classes
        per_cell = len(ANCHORS[0])
        self.m = nn.ModuleList(nn.Conv2d(some, per_cell * self.outputs, 1) for some in channels)
        with torch.no_grad():
            # First scores are rare: 8 objects in 640x640 pixels, 0.6 in all classes.
            for layer, stride in zip(self.m, STRIDES, strict=True):
                bias = layer.bias.view(per_cell, -1)  # type: ignore[operator]
                bias[:, 4] += math.log(8 / (640 / stride) ** 2)
                bias[:, 5:] += math.log(0.6 / (classes - 0.99999))
        anchors = torch.tensor(ANCHORS) / torch.tensor(STRIDES).view(-1, 1, 1)
        self.register_buffer("anchors", anchors)  # in cells

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        for layer, x in zip(self.m, maps, strict=True):
            y = layer(x)
            batch, _, height, width = y.shape
            y = y.view(batch, -1, self.outputs, height, width).permute(0, 1, 3, 4, 2)
            outputs.append(y)
        return outputs


class YOLOv5(nn.Module):
    """The network of one of the `SIZES`, for `classes` kinds of objects."""

    def __init__(self, size: str = "n", classes: int = 80):
        super().__init__()
        self.size = size
        width, depth = SIZES[size]
        c64, c128, c256, c512, c1024 = (
            math.ceil(channels * width / 8) * 8 for channels in (64, 128, 256, 512, 1024)
        )
        three, six, nine = (max(round(repeats * depth), 1) for repeats in (3, 6, 9))
        # Numbers 11, 12, 15, 16, 19 and 22 are layers without parameters, in `forward`.
        self.model = nn.ModuleDict(
            {
                "0": Conv(3, c64, 6, 2),
                "1": Conv(c64, c128, 3, 2),
                "2": C3(c128, c128, three),
                "3": Conv(c128, c256, 3, 2),
                "4": C3(c256, c256, six),
                "5": Conv(c256, c512, 3, 2),
                "6": C3(c512, c512, nine),
                "7": Conv(c512, c1024, 3, 2),
                "8": C3(c1024, c1024, three),
                "9": SPPF(c1024),
                "10": Conv(c1024, c512),
                "13": C3(2 * c512, c512, three, shortcut=False),
                "14": Conv(c512, c256),
                "17": C3(2 * c256, c256, three, shortcut=False),
                "18": Conv(c256, c256, 3, 2),
                "20": C3(2 * c256, c512, three, shortcut=False),
                "21": Conv(c512, c512, 3, 2),
                "23": C3(2 * c512, c1024, three, shortcut=False),
                "24": Detect(classes, (c256, c512, c1024)),
            }
        )

    @property
    def head(self) -> Detect:
        return self.model["24"]  # type: ignore[return-value]

    @property
    def classes(self) -> int:
        return self.head.outputs - 5

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute what the layers give, before any sigmoid.

        Of RGB images (B, 3, H, W) in [0, 1], H and W multiples of 32, an output per scale of shape
        (B, 3, H / stride, W / stride, 5 + classes): x, y, width, height, objectness, classes.
        """
        layer, upsample = self.model, nn.Upsample(scale_factor=2)
        x = layer["2"](layer["1"](layer["0"](images)))
        eighth = layer["4"](layer["3"](x))
        sixteenth = layer["6"](layer["5"](eighth))
        x = layer["10"](layer["9"](layer["8"](layer["7"](sixteenth))))
        coarse = x
        x = layer["14"](layer["13"](torch.cat([upsample(x), sixteenth], 1)))
        middle = x
        fine = layer["17"](torch.cat([upsample(x), eighth], 1))
        medium = layer["20"](torch.cat([layer["18"](fine), middle], 1))
        large = layer["23"](torch.cat([layer["21"](medium), coarse], 1))
        return self.head([fine, medium, large])

    def decode(self, outputs: Sequence[Tensor]) -> Tensor:
        """Turn outputs of `forward` into shape (B, N, 5 + classes), one of N per cell and anchor.

        Centre x and y, width and height in pixels of the input, objectness and classes in [0, 1].
        """
        decoded = []
        for y, anchors, stride in zip(outputs, self.head.anchors, STRIDES, strict=True):
            batch, _, height, width, _ = y.shape
            s = y.sigmoid()
            sides = [torch.arange(side, device=y.device) for side in (width, height)]
            cells = torch.stack(torch.meshgrid(*sides, indexing="xy"), -1)
            centres = (2 * s[..., :2] - 0.5 + cells) * stride
            sizes = (2 * s[..., 2:4]) ** 2 * anchors.view(1, -1, 1, 1, 2) * stride
            boxes = torch.cat([centres, sizes, s[..., 4:]], -1)
            decoded.append(boxes.reshape(batch, -1, self.head.outputs))
        return torch.cat(decoded, 1)
