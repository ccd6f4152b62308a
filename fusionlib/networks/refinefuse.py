"""RefineFuse: four scales, modules for shallow and for deep features, and one between them.

No code was released: this is a reading of the text, with channel widths and a grid of attention
that have the size and the cost of Table 11 (``python -m benchmarks.refinefuse_widths``).

Each modality has an encoder of its own: 3x3 convolutions of stride 1, 2, 2, 2, zero padding. `SFIM`
joins the two finest scales, `PSIM` the two coarsest; decoders lead back from scale to scale, and
`FIM` takes the second scale in. Where the text is open:

- *Downsampling in PSIM*: "to 1/4 and 1/8 of the original resolution" is what the third and the
  fourth scale have anyway. The printed cost grows by less than the pixels, so attention works on a
  fixed grid, of 32x32 and 16x16 cells (half of those scales at the training's 256x256), or fewer
  where the scale has fewer; each the mean of its area.
- *Decoders*: the 1x1 convolution keeps the number of channels, the 3x3 changes it (the other way
  round, no widths of multiples of 16 are within 3 % of Table 11). Two scales are concatenated.
- *FIM* (equation 5, which our copy of the text lacks): "deep and shallow features are separately
  input into channel attention blocks" of a mean and a sigmoid. So channels' weights are the sum of
  the sigmoids of both maps' means over the image, and places' weights, which the text only names,
  the same over the channels; both scale the shallow map, then the enlarged deep one is added.
- *Activations*: ReLU wherever the text names none but a layer needs one.
- *Output*: tanh(x), cut to 0..1 after the network. With tanh(x)/2 + 1/2 black is not reached,
  and in pairs with PET and SPECT, half black, SSIM is far below the printed one (notebook 08).
- *Two scales* (Table 9, IV): SFIM at the first, PSIM at the second; FIM needs three. A module that
  is off is a concatenation and a 3x3 convolution; FIM, the concatenation that the decoder mixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..errors import FusionError
from ..pipelines import Levels
from ..weights import weight_files
from .network import PyramidNetwork, zero_conv

__all__ = [
    *("FIM", "GRIDS", "METHOD", "PSIM", "SFIM", "VARIANTS", "WIDTHS"),
    *("Concatenation", "Decoder", "RefineFuse"),
]

WIDTHS = (64, 96, 96, 96, 96)  #: channels of each scale, the finest first
GRIDS = (128, 64, 32, 16, 8)  #: PSIM's cells along each side; half of each scale at 256x256


class Concatenation(nn.Module):
    """What stands in place of a module that is off: concatenation and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fuse = zero_conv(2 * channels, channels, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Join (B, channels, H, W) and (B, channels, H, W) to (B, channels, H, W)."""
        return F.relu(self.fuse(torch.cat([ir, vis], dim=1)))


class SFIM(nn.Module):
    """Superficial feature interaction: spatial attention, then channel by channel (eqs. 1, 2).

    The grouped convolution of channels that alternate between the modalities is the sum of two
    that see one channel each, which is several times as fast.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = zero_conv(2, 2, 3)
        self.fuse_ir = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.fuse_vis = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Join (B, channels, H, W) and (B, channels, H, W) to (B, channels, H, W)."""
        largest = torch.maximum(ir.amax(1, keepdim=True), vis.amax(1, keepdim=True))
        mean = (ir.mean(1, keepdim=True) + vis.mean(1, keepdim=True)) / 2
        gains = 1 + torch.sigmoid(self.attention(torch.cat([largest, mean], dim=1)))
        return F.relu(self.fuse_ir(ir * gains[:, :1]) + self.fuse_vis(vis * gains[:, 1:]))


class PSIM(nn.Module):
    """Profound semantic interaction: a common query in each modality, on a grid (eqs. 3, 4)."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.query = zero_conv(2 * channels, channels, 3)
        self.key_ir, self.key_vis = (zero_conv(channels, channels, 3) for _ in range(2))
        self.value_ir, self.value_vis = (zero_conv(channels, channels, 3) for _ in range(2))
        self.fuse = zero_conv(2 * channels, channels, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Join (B, channels, H, W) and (B, channels, H, W) to (B, channels, H, W)."""
        height, width = ir.shape[-2:]
        cells = min(self.grid, height), min(self.grid, width)
        ir_cells, vis_cells = (F.adaptive_avg_pool2d(x, cells) for x in (ir, vis))
        query = self.query(torch.cat([ir_cells, vis_cells], dim=1))
        ir = ir + self._context(query, self.key_ir(ir_cells), self.value_ir(ir_cells), ir)
        vis = vis + self._context(query, self.key_vis(vis_cells), self.value_vis(vis_cells), vis)
        return F.relu(self.fuse(torch.cat([ir, vis], dim=1)))

    def _context(self, query: Tensor, key: Tensor, value: Tensor, like: Tensor) -> Tensor:
        """Attend on the cells and enlarge the result to the features' size."""
        q, k, v = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        context = context.unflatten(2, query.shape[-2:])
        return F.interpolate(context, like.shape[-2:], mode="bilinear")


class FIM(nn.Module):
    """Feature interaction: both weigh the shallow features, which the deep ones join (eq. 5)."""

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """Join (B, C, H, W), a decoder's output, and (B, C, H, W) to (B, C, H, W)."""
        channels, places = (
            torch.sigmoid(deep.mean(axes, keepdim=True))
            + torch.sigmoid(shallow.mean(axes, keepdim=True))
            for axes in ((2, 3), (1,))
        )
        return deep + shallow * channels * places


class Decoder(nn.Module):
    """From one scale to the next finer one."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mix = zero_conv(channels_in, channels_in, 1)
        self.refine = zero_conv(channels_in, channels_out, 3)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Turn (B, channels_in, h, w) into (B, channels_out, H, W), `size`: 2h x 2w or one less."""
        x = F.relu(self.refine(self.mix(x)))
        # Twice the size, then cut: so the place of a pixel does not depend on the image's size.
        height, width = size
        return F.interpolate(x, scale_factor=2, mode="bilinear")[..., :height, :width]


class RefineFuse(PyramidNetwork):
    """The RefineFuse network and what its ablations leave of it.

    Parameters
    ----------
    scales : int
        1 to 5; each after the first has half the size of the one before, rounded up.
    sfim, psim, fim : bool
        Whether each module is there.
    """

    # A 3x3 convolution of an encoder, SFIM's attention and fusion, the last decoder's four; or
    # the bilinear enlargement's reach, 3, and the same four.
    halo = 8

    def __init__(
        self, scales: int = 4, *, sfim: bool = True, psim: bool = True, fim: bool = True
    ) -> None:
        super().__init__()
        if not 1 <= scales <= len(WIDTHS):
            raise FusionError(f"RefineFuse has 1 to {len(WIDTHS)} scales, not {scales}.")
        if scales == 1:
            self.radius = self.halo - 1
        widths = WIDTHS[:scales]
        shallow = 1 if scales == 2 else 2
        self.encode_ir, self.encode_vis = (
            nn.ModuleList(
                nn.Conv2d(a, b, 3, stride=1 if a == 1 else 2, padding=1)
                for a, b in pairwise((1, *widths))
            )
            for _ in range(2)
        )
        self.joins = nn.ModuleList(
            (SFIM(width) if sfim else Concatenation(width))
            if level < shallow
            else (PSIM(width, grid) if psim else Concatenation(width))
            for level, (width, grid) in enumerate(zip(widths, GRIDS, strict=False))
        )
        self.fim = FIM() if fim and scales > 2 else None
        # Of each scale what enters its decoder: the coarsest alone, the second as FIM joined it.
        alone = {scales - 1, 1} if self.fim is not None else {scales - 1}
        self.decoders = nn.ModuleList(
            Decoder(widths[level] * (1 if level in alone else 2), widths[level - 1])
            for level in range(1, scales)
        )
        first = widths[0]
        channels = (first if scales == 1 else 2 * first, first, first // 2, first // 4)
        self.last = nn.ModuleList(zero_conv(a, b, 3) for a, b in pairwise((*channels, 1)))

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W) in -1..1."""
        finest = self._encode((ir, vis), 0)
        if len(self.joins) == 1:
            return self._finish(finest, None)
        return self._finish(finest, self.join(*self._encode(finest, 1)))

    def _encode(self, features: tuple[Tensor, ...], level: int) -> tuple[Tensor, ...]:
        ir, vis = features
        return F.relu(self.encode_ir[level](ir)), F.relu(self.encode_vis[level](vis))

    def descend(self, ir: Tensor, vis: Tensor) -> tuple[Tensor, ...]:
        """Turn images (B, 1, H, W) into both modalities' features of the second scale."""
        return self._encode(self._encode((ir, vis), 0), 1)

    def join(self, *features: Tensor) -> Tensor:
        """Go on to the coarsest scale and come back to the second."""
        fused = [self.joins[1](*features)]
        for level in range(2, len(self.joins)):
            features = self._encode(features, level)
            fused.append(self.joins[level](*features))
        x = fused.pop()
        for level in range(len(self.joins) - 1, 1, -1):
            shallow = fused.pop()
            x = self.decoders[level - 1](x, shallow.shape[-2:])
            if level == 2 and self.fim is not None:
                x = self.fim(x, shallow)
            else:
                x = torch.cat([x, shallow], dim=1)
        return x

    def finish(self, ir: Tensor, vis: Tensor, coarse: Tensor) -> Tensor:
        """Fuse images (B, 1, H, W) in 0..1 into (B, 1, H, W) in -1..1."""
        return self._finish(self._encode((ir, vis), 0), coarse)

    def _finish(self, finest: tuple[Tensor, ...], coarse: Tensor | None) -> Tensor:
        x = self.joins[0](*finest)
        if coarse is not None:
            x = torch.cat([self.decoders[0](coarse, x.shape[-2:]), x], dim=1)
        for layer in self.last[:-1]:
            x = F.relu(layer(x))
        # In mixed precision the image itself stays in single. Autocast does not know "meta".
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            last = self.last[-1]
            return torch.tanh(last(x.to(last.weight.dtype)))


#: Variant -> how its network departs from the paper's, and in words.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "paper": ({}, "the text; widths and grid that have the printed size and cost"),
    "scales_1_no_sfim": ({"scales": 1, "sfim": False}, "Table 9 I: one scale, concatenation"),
    "scales_1": ({"scales": 1}, "Table 9 II: one scale"),
    "scales_2_no_psim": ({"scales": 2, "psim": False}, "Table 9 III: two scales without PSIM"),
    "scales_2": ({"scales": 2}, "Table 9 IV: two scales"),
    "no_fim": ({"fim": False}, "Table 9 V: without FIM"),
    "scales_3": ({"scales": 3}, "Table 10 A: three scales"),
    "scales_5": ({"scales": 5}, "Table 10 B: five scales"),
}
#: The sets of the network as it is: the default one, and those that Tables 8 to 10 compare.
PAPER = weight_files(
    "refinefuse",
    *("refinefuse_short", "refinefuse_short_seed_1", "refinefuse_short_seed_2"),
    *("refinefuse_setting_a", "refinefuse_setting_b", "refinefuse_setting_c"),
)


METHOD = MethodSpec(
    name="refinefuse",
    title="RefineFuse",
    paper="Song, Li, Xu, Wu and Kittler, RefineFuse: an end-to-end network for multi-scale "
    "refinement fusion of multi-modality images, Visual Intelligence 3, 2025",
    doi="10.1007/s44267-025-00087-w",
    year=2025,
    kind="convolutional with cross-attention",
    licence="no code was released",
    axis="variant",
    configurations={
        variant: Configuration(
            summary=summary,
            build=partial(RefineFuse, **departs),
            weights=PAPER if variant == "paper" else weight_files(f"refinefuse_{variant}"),
            post="clip",
            quantise="round",
            levels=Levels(0, 1),
        )
        for variant, (departs, summary) in VARIANTS.items()
    },
)
