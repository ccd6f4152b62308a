"""Layers and blocks in numpy, in float64: what networks are compared with."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf, softmax
from torch import Tensor, nn


def double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def correlate(
    x: np.ndarray, weight: np.ndarray, mode: str = "constant", stride: int = 1
) -> np.ndarray:
    """(C, H, W) with (D, C / groups, k, k) -> (D, H, W): numpy pads and sums over windows."""
    side, groups = weight.shape[-1] // 2, len(x) // weight.shape[1]
    x = np.pad(x, ((0, 0), (side, side), (side, side)), mode=mode)
    windows = sliding_window_view(x, weight.shape[-2:], axis=(1, 2))[:, ::stride, ::stride]
    parts = zip(np.split(windows, groups), np.split(weight, groups), strict=True)
    return np.concatenate([np.einsum("chwij,dcij->dhw", x, w, optimize=True) for x, w in parts])


def convolve(x: np.ndarray, layer: nn.Conv2d, mode: str) -> np.ndarray:
    """(C, H, W) -> (D, H, W), padded by that mode of numpy's to keep the size."""
    return correlate(x, double(layer.weight), mode) + double(layer.bias)[:, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def leaky(x: np.ndarray, slope: float = 0.2) -> np.ndarray:
    return np.where(x > 0, x, slope * x)


def normalise_batch(x: np.ndarray, norm: nn.BatchNorm2d, eps: float) -> np.ndarray:
    """(C, H, W) by the running statistics."""
    mean, variance, scale, offset = (
        double(t)[:, None, None]
        for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(variance + eps) * scale + offset


def give_statistics(net: nn.Module, *images: Tensor) -> nn.Module:
    """Batch statistics of real features, so that none die or saturate; no scale is 1."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    net.train()(*images)
    return net.eval()


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2))) / 2


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


def normalise_pixels(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Every pixel by itself; biased variance."""
    y = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    return y * weight[:, None, None] + bias[:, None, None]


def attend(
    x: np.ndarray,
    temperature: np.ndarray,
    expand: np.ndarray,
    mix: np.ndarray,
    project: np.ndarray,
) -> np.ndarray:
    """Each of 8 heads, each output channel: a mean of the head's values, weighted by cosines."""
    q, k, v = np.split(correlate(correlate(x, expand), mix), 3)
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
    return correlate(y, project)


def block_by_numpy(
    x: np.ndarray,
    tensors: dict[str, np.ndarray],
    prefix: str,
    names: dict[str, str],
    mlp_mode: str = "constant",
) -> np.ndarray:
    """A block on (C, H, W) from the authors' tensors, named `prefix` and what `names` says."""
    t = {ours: tensors[f"{prefix}.{theirs}"] for ours, theirs in names.items()}
    norms = [
        [tensors[f"{prefix}.{norm}.body.{part}"] for part in ("weight", "bias")]
        for norm in ("norm1", "norm2")
    ]
    x = x + attend(
        normalise_pixels(x, *norms[0]),
        *(t[key] for key in ("temperature", "expand", "mix", "project")),
    )
    y = correlate(normalise_pixels(x, *norms[1]), t["mlp_expand"])
    gate, y = np.split(correlate(y, t["mlp_mix"], mlp_mode), 2)
    return x + correlate(gelu(gate) * y, t["mlp_project"])
