"""Attention between channels: re-computed with numpy in float64, channel by channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf, softmax

from fusionlib.networks.attention import (
    AttentionBlock,
    ChannelAttention,
    ChannelNorm,
    GatedMLP,
    block_names,
)

# What Restormer, and what CDDFuse and EMMA call the layers of a block.
RESTORMER = {
    "temperature": "attn.temperature",
    "expand": "attn.qkv.weight",
    "mix": "attn.qkv_dwconv.weight",
    "project": "attn.project_out.weight",
    "mlp_expand": "ffn.project_in.weight",
    "mlp_mix": "ffn.dwconv.weight",
    "mlp_project": "ffn.project_out.weight",
}
PLAIN = {
    "temperature": "attn.scale",
    "expand": "attn.qkv1.weight",
    "mix": "attn.qkv2.weight",
    "project": "attn.proj.weight",
    "mlp_expand": "mlp.project_in.weight",
    "mlp_mix": "mlp.dwconv.weight",
    "mlp_project": "mlp.project_out.weight",
}


def convolve(x, weight, mode="constant", stride=1):
    """(C, H, W) with (D, C / groups, k, k) -> (D, H, W)."""
    side, groups = weight.shape[-1] // 2, len(x) // weight.shape[1]
    x = np.pad(x, ((0, 0), (side, side), (side, side)), mode=mode)
    windows = sliding_window_view(x, weight.shape[-2:], axis=(1, 2))[:, ::stride, ::stride]
    parts = zip(np.split(windows, groups), np.split(weight, groups), strict=True)
    return np.concatenate([np.einsum("chwij,dcij->dhw", x, w, optimize=True) for x, w in parts])


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def normalise(x, weight, bias):
    """Every pixel by itself; biased variance."""
    y = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    return y * weight[:, None, None] + bias[:, None, None]


def attend(x, temperature, expand, mix, project):
    """Each of 8 heads, each output channel: a mean of the head's values, weighted by cosines."""
    q, k, v = np.split(convolve(convolve(x, expand), mix), 3)
    y, size = np.empty_like(x), len(x) // 8
    for head in range(8):
        own = range(head * size, (head + 1) * size)
        for i in own:
            cosines = [
                np.sum(q[i] * k[j]) / max(np.linalg.norm(q[i]), 1e-12) / np.linalg.norm(k[j])
                for j in own
            ]
            shares = softmax(np.array(cosines) * temperature[head, 0, 0])
            y[i] = sum(share * v[j] for share, j in zip(shares, own, strict=True))
    return convolve(y, project)


def block_by_numpy(x, tensors, prefix, names, mlp_mode="constant"):
    """A block on (C, H, W) from the authors' tensors, named `prefix` and what `names` says."""
    t = {ours: tensors[f"{prefix}.{theirs}"] for ours, theirs in names.items()}
    norms = [
        [tensors[f"{prefix}.{norm}.body.{part}"] for part in ("weight", "bias")]
        for norm in ("norm1", "norm2")
    ]
    x = x + attend(
        normalise(x, *norms[0]), *(t[key] for key in ("temperature", "expand", "mix", "project"))
    )
    y = convolve(convolve(normalise(x, *norms[1]), t["mlp_expand"]), t["mlp_mix"], mlp_mode)
    gate, y = np.split(y, 2)
    return x + convolve(gelu(gate) * y, t["mlp_project"])


BLOCKS = {
    "restormer": (
        RESTORMER,
        lambda: AttentionBlock(16, ChannelAttention(16, groups=48), GatedMLP(16, 32, groups=64)),
        "constant",
    ),
    "plain": (
        PLAIN,
        lambda: AttentionBlock(16, ChannelAttention(16), GatedMLP(16, 16, groups=16)),
        "constant",
    ),
    "reflect": (
        PLAIN,
        lambda: AttentionBlock(
            16, ChannelAttention(16), GatedMLP(16, 16, groups=16, padding_mode="reflect")
        ),
        "reflect",
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_block_by_numpy(kind):
    """All in float64, a few dozen operations of 2**-53 each; weights that make scores differ."""
    names, build, mlp_mode = BLOCKS[kind]
    block, rng = build().double(), np.random.default_rng(0)
    ours = block_names("theirs", "ours")
    state = block.state_dict()
    tensors = {
        name: rng.normal(size=tuple(state[ours[name].removeprefix("ours.")].shape))
        for name in (
            *(f"theirs.norm{i}.body.{part}" for i in (1, 2) for part in ("weight", "bias")),
            *(f"theirs.{name}" for name in names.values()),
        )
    }
    block.load_state_dict(
        {ours[k].removeprefix("ours."): torch.from_numpy(v) for k, v in tensors.items()}
    )
    x = rng.normal(size=(16, 5, 7))
    expected = block_by_numpy(x, tensors, "theirs", names, mlp_mode)
    with torch.inference_mode():
        output = block(torch.from_numpy(np.stack([x, -x])))[0].numpy()
    assert np.abs(output - expected).max() <= 1e-12 * np.ptp(expected)


def test_norm_is_per_pixel():
    x = torch.arange(24.0).reshape(1, 4, 2, 3) ** 2
    norm = ChannelNorm(4)
    assert torch.equal(norm(x)[..., 1, 2], norm(x[..., 1:2, 2:3])[..., 0, 0])
    # Rounding in float32, of squares that lose at most three digits to the mean.
    assert norm(x).mean(dim=1).abs().max() <= 1e-4


def test_silent_channels_stay_finite():
    """Queries and keys of no length have no direction; their gradient is not NaN either."""
    block = BLOCKS["plain"][1]()
    output = block(torch.zeros(1, 16, 5, 7))
    output.sum().backward()
    assert torch.isfinite(output).all()
    assert all(torch.isfinite(p.grad).all() for p in block.parameters())
