"""SwinFusion: re-computed with numpy from the authors' tensors, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from fusionlib.networks.swinfusion import METHOD, _by_windows
from tests.fusionlib.networks.authors import assert_adapted, error, fuse, loaded
from tests.fusionlib.networks.given import images
from tests.fusionlib.networks.references import gelu
from tests.recipe import recipe_state

(RELEASED,) = METHOD.configurations.values()


@pytest.fixture(scope="module")
def recipe():
    """The network under the weights of the reference output."""
    return loaded(RELEASED, recipe_state("swinfusion"))


def test_parameters(recipe):
    """The authors' count holds two convolutions that they never use."""
    unused = [t for name, t in recipe_state("swinfusion").items() if name[:10] == "conv_first"]
    unused = sum(t.numel() for t in unused[2:4] + unused[6:])
    assert unused == 8_430
    assert sum(p.numel() for p in recipe.parameters()) == 973_681 - unused
    assert RELEASED.weights[0].parameters == 973_681


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
    tensors = recipe_state("swinfusion")
    ir, vis = (x.double() for x in images((11, 16)))
    padded = [
        np.pad(x[0, 0].numpy(), ((0, 5), (0, 8)), mode="symmetric").reshape(-1, 1)
        for x in (ir, vis)
    ]
    expected = ByNumpy(tensors, 16, 24).fuse(*padded)[:11, :16]
    with torch.inference_mode():
        output = loaded(RELEASED, tensors).double()(ir, vis)[0, 0].numpy()
    assert np.abs(output - expected).max() <= 1e-11 * np.ptp(expected)


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


def test_batch_is_each_by_itself(recipe):
    """Rounding in float32 depends on how many windows are multiplied at once."""
    ir, vis = images((20, 9), batch=2)
    with torch.inference_mode():
        both = recipe(ir, vis)
        each = torch.cat([recipe(ir[i : i + 1], vis[i : i + 1]) for i in range(2)])
    assert (both - each).abs().max() <= 1e-5 * (each.max() - each.min())


def test_authors_names_fill_the_network(recipe):
    """Their names were adapted above; ours stay, and so does what nobody knows.

    What the authors' file holds besides parameters is computed from sizes.
    """
    block = "layers_Ex_A.0.residual_group.blocks.1"
    theirs = {
        **recipe_state("swinfusion"),
        f"{block}.attn_mask": torch.zeros(256, 64, 64),
        f"{block}.attn.relative_position_index": torch.zeros(64, 64, dtype=torch.long),
    }
    for given in (theirs, recipe.state_dict()):
        assert_adapted(RELEASED.adapt, given, recipe.state_dict())


@pytest.mark.realdata
def test_authors_output(recipe, golden):
    """1.8e-6 of the range: rounding in float32."""
    reference = golden("swinfusion_recipe")
    raw = fuse(recipe, reference["ir"], reference["vis"])
    assert error(raw, reference["fused"]) <= 1e-5
