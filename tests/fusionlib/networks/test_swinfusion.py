"""SwinFusion: re-computed with numpy from the authors' tensors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy.special import softmax

from fusionlib.networks.swinfusion import METHOD, _by_windows
from tests.fusionlib.networks.given import assert_adapted, assert_output, images, loaded
from tests.fusionlib.networks.references import gelu
from tests.recipe import recipe_state


class ByNumpy:
    """The network on a padded image, with attention between all pairs of its pixels.

    Pairs that are not in one window weigh nothing; those of one window that lay at opposite
    borders before the shift get -100.
    """

    def __init__(self, tensors, height, width):
        self.tensors = {name: t.double().numpy() for name, t in tensors.items()}
        self.height, self.width = height, width

    def linear(self, x, name):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, x, name):
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def bias(self, name, shift):
        table = self.tensors[f"{name}.relative_position_bias_table"]
        y, x = np.divmod(np.arange(self.height * self.width), self.width)
        y, x = (y - shift) % self.height, (x - shift) % self.width
        dy, dx = (np.subtract.outer(t, t) for t in (y, x))
        window = y // 8 * self.width + x // 8
        together = np.equal.outer(window, window)
        wrapped = 2 * (y >= self.height - shift) + (x >= self.width - shift)
        apart = np.not_equal.outer(wrapped, wrapped)
        index = np.where(together, (dy + 7) * 15 + dx + 7, 0)
        bias = table[index] - 100 * apart[..., None]
        return np.where(together[..., None], bias, -np.inf).transpose(2, 0, 1)

    def attend(self, q, k, v, name, shift):
        q, k, v = (t.reshape(-1, 6, 10).transpose(1, 0, 2) for t in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(10) + self.bias(name, shift)
        y = softmax(scores, axis=-1) @ v
        return self.linear(y.transpose(1, 0, 2).reshape(-1, 60), f"{name}.proj")

    def mlp(self, x, name):
        return self.linear(gelu(self.linear(x, f"{name}.fc1")), f"{name}.fc2")

    def blocks(self, x, name, count):
        for i in range(count):
            block = f"{name}.blocks.{i}"
            q, k, v = np.split(
                self.linear(self.norm(x, f"{block}.norm1"), f"{block}.attn.qkv"), 3, axis=1
            )
            x = x + self.attend(q, k, v, f"{block}.attn", i % 2 * 4)
            x = x + self.mlp(self.norm(x, f"{block}.norm2"), f"{block}.mlp")
        return x

    def cross(self, a, b, name):
        for i in range(2):
            block = f"{name}.blocks.{i}"
            normed = {"A": self.norm(a, f"{block}.norm1_A"), "B": self.norm(b, f"{block}.norm1_B")}
            updated = []
            for x, own, other in ((a, "A", "B"), (b, "B", "A")):
                attn = f"{block}.attn_{own}"
                q = self.linear(normed[own], f"{attn}.q")
                k, v = np.split(self.linear(normed[other], f"{attn}.kv"), 2, axis=1)
                x = x + self.attend(q, k, v, attn, i * 4)
                x = x + self.mlp(self.norm(x, f"{block}.norm2_{own}"), f"{block}.mlp_{own}")
                updated.append(x)
            a, b = updated
        return a, b

    def convolve(self, x, name):
        """Zero padding: nine shifted products."""
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        x = np.pad(x.reshape(self.height, self.width, -1), ((1, 1), (1, 1), (0, 0)))
        y = sum(
            x[i : i + self.height, j : j + self.width] @ weight[:, :, i, j].T
            for i in range(3)
            for j in range(3)
        )
        return (y + bias).reshape(self.height * self.width, -1)

    def leaky(self, x, name):
        y = self.convolve(x, name)
        return np.where(y > 0, y, 0.2 * y)

    def fuse(self, ir, vis):
        sides = []
        for x, side in ((ir, "A"), (vis, "B")):
            x = self.leaky(self.leaky(x, "conv_first1_A"), "conv_first2_A")
            x = self.norm(x, "patch_embed.norm")
            x = self.blocks(x, f"layers_Ex_{side}.0.residual_group", 4)
            x = self.norm(x, f"norm_Ex_{side}")
            sides.append(self.norm(x, "patch_embed.norm"))
        a, b = sides
        for group in ("layers_Fusion.0", "layers_Fusion.1"):
            a = self.blocks(a, f"{group}.residual_group_A", 2)
            b = self.blocks(b, f"{group}.residual_group_B", 2)
            a, b = self.cross(a, b, f"{group}.residual_group")
        x = np.concatenate([self.norm(a, "norm_Fusion_A"), self.norm(b, "norm_Fusion_B")], axis=1)
        x = self.norm(self.leaky(x, "conv_after_body_Fusion"), "patch_embed.norm")
        x = self.norm(self.blocks(x, "layers_Re.0.residual_group", 4), "norm_Re")
        x = self.convolve(self.leaky(self.leaky(x, "conv_last1"), "conv_last2"), "conv_last3")
        return x.reshape(self.height, self.width)


def test_forward_by_numpy():
    """Both in float64, from the authors' names: about 150 layers of 2**-53 each.

    11x16 is mirrored to 16x24.
    """
    tensors, pictures = recipe_state("swinfusion"), [x.double() for x in images((11, 16))]
    padded = [
        np.pad(x[0, 0].numpy(), ((0, 5), (0, 8)), mode="symmetric").reshape(-1, 1) for x in pictures
    ]
    expected = ByNumpy(tensors, 16, 24).fuse(*padded)[None, :11, :16]
    assert_output(loaded(METHOD.default, tensors).double(), pictures, expected, 1e-11)


@pytest.mark.parametrize("shift", [0, 4])
def test_windows_come_back(shift):
    """162 windows, in three parts: each returns to its place, and has 64 neighbours."""
    x = torch.rand(2, 72, 72, 3)
    seen = []

    def function(windows, regions):
        assert windows.shape[1:] == (64, 3) and regions.shape == windows.shape[:2]
        seen.append(len(windows))
        return windows.mean(dim=1, keepdim=True) + 0 * windows

    means = _by_windows(function, x, shift)
    assert seen == [64, 64, 34]
    rows = slice(8 + shift, 16 + shift)
    # A mean of 64 numbers of about 1 in float32.
    torch.testing.assert_close(
        means[1, rows, rows], x[1, rows, rows].mean(dim=(0, 1)).expand(8, 8, 3), atol=1e-6, rtol=0
    )
    assert torch.equal(_by_windows(lambda windows, regions: windows, x, shift), x)


def test_what_has_no_use_goes():
    """Two convolutions, and what is computed from sizes."""
    block, theirs = "layers_Ex_A.0.residual_group.blocks.1", recipe_state("swinfusion")
    unused = sum(t.numel() for name, t in theirs.items() if re.match("conv_first[12]_B", name))
    assert unused == 8_430
    computed = {
        f"{block}.attn_mask": torch.zeros(256, 64, 64),
        f"{block}.attn.relative_position_index": torch.zeros(64, 64, dtype=torch.long),
    }
    state = loaded(METHOD.default, theirs).state_dict()
    assert_adapted(METHOD.default.adapt, {**theirs, **computed}, state)
