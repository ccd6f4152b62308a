"""Attention between channels: re-computed with numpy in float64, channel by channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.attention import (
    AttentionBlock,
    ChannelAttention,
    ChannelNorm,
    GatedMLP,
    block_names,
)
from tests.fusionlib.networks.references import PLAIN, RESTORMER, block_by_numpy

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
