"""Attention between channels: re-computed with numpy in float64, channel by channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.attention import BLOCK_NAMES, AttentionBlock, ChannelNorm
from fusionlib.networks.network import rename
from tests.fusionlib.networks.given import assert_output
from tests.fusionlib.networks.references import PLAIN, RESTORMER, block_by_numpy


@pytest.mark.parametrize(
    "names, options, mlp_mode",
    [
        (RESTORMER, {"depthwise": True}, "constant"),
        (PLAIN, {"depthwise": False}, "constant"),
        (PLAIN, {"depthwise": False, "padding_mode": "reflect"}, "reflect"),
    ],
)
def test_block_by_numpy(names, options, mlp_mode):
    """All in float64, a few dozen operations of 2**-53 each; weights that make scores differ."""
    block, rng = AttentionBlock(16, **options).double(), np.random.default_rng(0)
    norms = (f"norm{i}.body.{part}" for i in (1, 2) for part in ("weight", "bias"))
    theirs = [f"theirs.{name}" for name in (*norms, *names.values())]
    renamed = rename(BLOCK_NAMES, dict.fromkeys(theirs, torch.zeros(1)))
    ours = [name.removeprefix("theirs.") for name in renamed]
    values = [rng.normal(size=tuple(block.state_dict()[name].shape)) for name in ours]
    block.load_state_dict({n: torch.from_numpy(v) for n, v in zip(ours, values, strict=True)})
    x = rng.normal(size=(16, 5, 7))
    tensors = dict(zip(theirs, values, strict=True))
    expected = block_by_numpy(x, tensors, "theirs", names, mlp_mode)
    assert_output(block, [torch.from_numpy(np.stack([x, -x]))], expected, 1e-12)


def test_norm_is_per_pixel():
    x = torch.arange(24.0).reshape(1, 4, 2, 3) ** 2
    norm = ChannelNorm(4)
    assert torch.equal(norm(x)[..., 1, 2], norm(x[..., 1:2, 2:3])[..., 0, 0])
    # Rounding in float32, of squares that lose at most three digits to the mean.
    assert norm(x).mean(dim=1).abs().max() <= 1e-4


def test_silent_channels_stay_finite():
    """Queries and keys of no length have no direction; their gradient is not NaN either."""
    block = AttentionBlock(16, depthwise=False)
    output = block(torch.zeros(1, 16, 5, 7))
    output.sum().backward()
    assert torch.isfinite(output).all()
    assert all(torch.isfinite(p.grad).all() for p in block.parameters())
