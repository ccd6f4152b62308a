"""SwinFusion: attention in shifted windows, within each image and across the two.

Each image: two convolutions (the same for both), four Swin blocks. Then twice: two Swin blocks per
image, and two in which each image's queries meet the other's keys and values. The two are joined by
a convolution; four Swin blocks and three convolutions give the image. Windows of 8x8, six heads, 60
channels, 973,681 parameters stored, of which 8,430 are never used.

No activation at the end, so the result may leave 0..1. As in the authors' test script both images
are mirrored to the *next* multiple of 8 to the right and below, by a whole window where they
already are one, and the result is cropped back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from .network import FusionNetwork, Names, conv_layers, rename, zero_conv

__all__ = ["METHOD", "CrossBlock", "FusionGroup", "SwinBlock", "SwinFusion", "WindowAttention"]

CHANNELS = 60
HEADS = 6
WINDOW = 8


def _linear(channels_in: int, channels_out: int) -> nn.Linear:
    """Linear layer that starts as the authors' do."""
    layer = nn.Linear(channels_in, channels_out)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class WindowAttention(nn.Module):
    """Multi-head attention within windows of 8x8 pixels, with relative position bias."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = _linear(CHANNELS, CHANNELS)
        self.key_value = _linear(CHANNELS, 2 * CHANNELS)
        self.project = _linear(CHANNELS, CHANNELS)
        self.bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, HEADS))
        nn.init.trunc_normal_(self.bias, std=0.02)
        # Row of `bias` for each query and key: their distance, down and right, counted from 0.
        place = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
        distance = place[:, None] - place + WINDOW - 1
        index = distance[..., 0] * (2 * WINDOW - 1) + distance[..., 1]
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: Tensor, source: Tensor, regions: Tensor) -> Tensor:
        """Look up in `source` what `x` asks for, windows (N, 64, 60), within equal regions."""
        q = self.query(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        k, v = self.key_value(source).unflatten(-1, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias[self.index].permute(2, 0, 1)
        apart = (regions[:, :, None] != regions[:, None, :])[:, None]
        y = (scores - 100.0 * apart).softmax(dim=-1) @ v
        return self.project(y.transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """Window attention and an MLP, each on normalised features and added to its input.

    The windows lie `shift` pixels further right and down; those that would stick out wrap around,
    but pixels from opposite borders do not see each other.
    """

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.attention = WindowAttention()
        self.norm2 = nn.LayerNorm(CHANNELS)
        self.mlp = nn.Sequential(
            _linear(CHANNELS, 2 * CHANNELS), nn.GELU(), _linear(2 * CHANNELS, CHANNELS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, 60) to the same shape; sides are multiples of 8."""

        def within(x: Tensor, regions: Tensor) -> Tensor:
            normed = self.norm1(x)
            return self.update(x, normed, normed, regions)

        return _by_windows(within, x, self.shift)

    def update(self, x: Tensor, query: Tensor, source: Tensor, regions: Tensor) -> Tensor:
        """Add to windows `x` what normalised `query` finds in normalised `source`."""
        x = x + self.attention(query, source, regions)
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Two Swin blocks, each of which looks up in the other image's features."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.ir, self.vis = SwinBlock(shift), SwinBlock(shift)

    def forward(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, H, W, 60) twice to the same shapes; sides are multiples of 8."""

        def across(both: Tensor, regions: Tensor) -> Tensor:
            ir, vis = both.chunk(2, dim=-1)
            # Both sides look up in what the other was before this block.
            a, b = self.ir.norm1(ir), self.vis.norm1(vis)
            updated = self.ir.update(ir, a, b, regions), self.vis.update(vis, b, a, regions)
            return torch.cat(updated, dim=-1)

        both = _by_windows(across, torch.cat([ir, vis], dim=-1), self.shift)
        ir, vis = both.chunk(2, dim=-1)
        return ir, vis


class FusionGroup(nn.Module):
    """Two Swin blocks for each image by itself, then two across the images."""

    def __init__(self) -> None:
        super().__init__()
        self.ir, self.vis = _swin_blocks(2), _swin_blocks(2)
        self.cross = nn.ModuleList(CrossBlock(shift) for shift in (0, WINDOW // 2))

    def forward(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, H, W, 60) twice to the same shapes."""
        ir, vis = self.ir(ir), self.vis(vis)
        for block in self.cross:
            ir, vis = block(ir, vis)
        return ir, vis


class SwinFusion(FusionNetwork):
    """The SwinFusion network for gray images."""

    min_side = WINDOW // 2  # mirrored, four pixels make a window; three do not
    size = "any; mirrored to the next multiple of 8 and cropped back"

    def __init__(self) -> None:
        super().__init__()
        leaky = partial(nn.LeakyReLU, 0.2)
        self.shallow = nn.Sequential(*conv_layers((1, 30, 60), leaky))
        # One normalisation before extraction, fusion and reconstruction.
        self.norm = nn.LayerNorm(CHANNELS)
        self.extract_ir = nn.Sequential(*_swin_blocks(4), nn.LayerNorm(CHANNELS))
        self.extract_vis = nn.Sequential(*_swin_blocks(4), nn.LayerNorm(CHANNELS))
        self.fuse = nn.ModuleList(FusionGroup() for _ in range(2))
        self.norm_ir, self.norm_vis = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.merge = zero_conv(2 * CHANNELS, CHANNELS, 3)
        self.reconstruct = nn.Sequential(*_swin_blocks(4), nn.LayerNorm(CHANNELS))
        self.last = nn.Sequential(*conv_layers((60, 30, 15, 1), leaky)[:-1])

    def core(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in 0..1 whose sides are multiples of 8."""
        ir, vis = (self.norm(self.shallow(image).movedim(1, -1)) for image in (ir, vis))
        ir, vis = self.norm(self.extract_ir(ir)), self.norm(self.extract_vis(vis))
        for group in self.fuse:
            ir, vis = group(ir, vis)
        x = torch.cat([self.norm_ir(ir), self.norm_vis(vis)], dim=-1).movedim(-1, 1)
        x = F.leaky_relu(self.merge(x), 0.2)
        x = self.reconstruct(self.norm(x.movedim(1, -1)))
        return self.last(x.movedim(-1, 1))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1, at least 4 a side, into (B, 1, H, W)."""
        height, width = ir.shape[-2:]
        return self.core(_mirror(ir), _mirror(vis))[..., :height, :width]


def _swin_blocks(count: int) -> nn.Sequential:
    """Swin blocks, every other with windows shifted by half a window."""
    return nn.Sequential(*(SwinBlock(i % 2 * WINDOW // 2) for i in range(count)))


def _by_windows(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, shift: int) -> Tensor:
    """Apply (windows, regions) -> windows to shifted windows of (B, H, W, C)."""
    x = x.roll((-shift, -shift), dims=(1, 2))
    shape, regions = x.shape, _regions(x, shift)
    # The chunks bound the memory; on a CPU, those that fit its cache take half the time.
    chunk = 64 if x.device.type == "cpu" else 4096
    parts = zip(_windows(x).split(chunk), regions.split(chunk), strict=True)
    windows = torch.cat([function(*part) for part in parts])
    grid = (shape[0], shape[1] // WINDOW, shape[2] // WINDOW, WINDOW, WINDOW, shape[3])
    return windows.view(grid).transpose(2, 3).reshape(shape).roll((shift, shift), dims=(1, 2))


def _windows(x: Tensor) -> Tensor:
    """Cut (B, H, W, C) into windows (N, 64, C), row by row."""
    x = x.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _regions(x: Tensor, shift: int) -> Tensor:
    """Number the parts of shifted (B, H, W, C) that were apart before: windows (N, 64)."""
    rows, columns = (torch.zeros(side, dtype=torch.long, device=x.device) for side in x.shape[1:3])
    for labels in (rows, columns):
        # The last windows hold both borders, the pixels that wrapped around last.
        labels[-WINDOW:] = 1
        labels[-shift:] = 2
    regions = (3 * rows[:, None] + columns).expand(len(x), -1, -1)
    return _windows(regions[..., None])[..., 0]


def _mirror(image: Tensor) -> Tensor:
    """Continue (B, 1, H, W) to the next multiples of 8, the border's pixels doubled."""
    for axis in (-2, -1):
        side = image.shape[axis]
        missing = WINDOW - side % WINDOW
        strip = image.narrow(axis, side - missing, missing).flip(axis)
        image = torch.cat([image, strip], dim=axis)
    return image


NAMES: Names = {
    # Convolutions that the authors' network holds but does not use, and what it computes itself.
    r"^conv_first\d_B\..*|.*\.(relative_position_index|attn_mask)$": "",
    r"^conv_first(\d)_A\.": lambda found: f"shallow.{2 * int(found[1]) - 2}.",
    r"^patch_embed\.norm\.": "norm.",
    r"^norm_Ex_A\.": "extract_ir.4.",
    r"^norm_Ex_B\.": "extract_vis.4.",
    r"^norm_Fusion_A\.": "norm_ir.",
    r"^norm_Fusion_B\.": "norm_vis.",
    r"^norm_Re\.": "reconstruct.4.",
    r"^conv_after_body_Fusion\.": "merge.",
    r"^conv_last(\d)\.": lambda found: f"last.{2 * int(found[1]) - 2}.",
    r"^layers_Ex_A\.0\.residual_group\.blocks\.": "extract_ir.",
    r"^layers_Ex_B\.0\.residual_group\.blocks\.": "extract_vis.",
    r"^layers_Re\.0\.residual_group\.blocks\.": "reconstruct.",
    r"^layers_Fusion\.(\d)\.residual_group": r"fuse.\1",
    r"^(fuse\.\d)_A\.blocks\.": r"\1.ir.",
    r"^(fuse\.\d)_B\.blocks\.": r"\1.vis.",
    # Across the two images, each layer says whose it is.
    r"^(fuse\.\d)\.blocks\.(\d)\.(\w+)_A\.": r"\1.cross.\2.ir.\3.",
    r"^(fuse\.\d)\.blocks\.(\d)\.(\w+)_B\.": r"\1.cross.\2.vis.\3.",
    r"\.attn\.relative_position_bias_table$": ".attention.bias",
    r"\.attn\.q\.": ".attention.query.",
    r"\.attn\.kv\.": ".attention.key_value.",
    r"\.attn\.proj\.": ".attention.project.",
    r"\.mlp\.fc1\.": ".mlp.0.",
    r"\.mlp\.fc2\.": ".mlp.2.",
}


def _adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, and cut the layers for queries, keys and values, which are two in our blocks."""
    state = rename(NAMES, tensors)
    for name in [name for name in state if ".attn.qkv." in name]:
        both = state.pop(name)
        state[name.replace("attn.qkv", "attention.query")] = both[:CHANNELS]
        state[name.replace("attn.qkv", "attention.key_value")] = both[CHANNELS:]
    return state


METHOD = MethodSpec(
    name="swinfusion",
    title="SwinFusion",
    paper="Ma et al., SwinFusion: Cross-domain Long-range Learning for General Image Fusion "
    "via Swin Transformer, IEEE/CAA J. Autom. Sinica 9(7), 2022",
    doi="10.1109/JAS.2022.105686",
    year=2022,
    kind="transformer",
    configurations={
        "released": Configuration(
            summary="the authors' release for infrared and visible images",
            build=SwinFusion,
            weights=weight_files("swinfusion", "swinfusion_retrained"),
            post="clip",
            quantise="round",
            levels=Levels(0, 1),
            adapt=_adapt,
        ),
    },
)
