"""The authors' tensors in our networks, and our output beside theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fusionlib.card import Configuration
from fusionlib.networks.network import FusionNetwork
from fusionlib.pipelines import POSTS
from fusionlib.weights import load_state

# What no network knows. It is kept, so that strict loading reports it.
STRANGERS = {"other.weight": torch.zeros(1), "other/kernel": torch.zeros(1, 1, 1, 1)}


def in_tensorflow(state: dict[str, Tensor], scopes: dict[str, str]) -> dict[str, Tensor]:
    """Our kernels and biases as TensorFlow holds them, (H, W, in, out); scopes by our layers."""
    theirs = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        if part == "weight":
            kernel = torch.from_numpy(tensor.numpy().transpose(2, 3, 1, 0))
            theirs[f"{scopes[layer]}/kernel"] = kernel
        else:
            theirs[f"{scopes[layer]}/{part}"] = tensor
    return theirs


def assert_adapted(
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    given: dict[str, Tensor],
    state: dict[str, Tensor],
) -> None:
    """Each tensor given finds its place in `state`, with its values; strangers are kept.

    `state` itself may be given: our names stay.
    """
    adapted, expected = adapt({**given, **STRANGERS}), {**state, **STRANGERS}
    torch.testing.assert_close(adapted, expected, rtol=0, atol=0)


def loaded(configuration: Configuration, tensors: dict[str, Tensor]) -> FusionNetwork:
    """The network of a configuration, in evaluation, under all of the authors' tensors."""
    net = configuration.build()
    load_state(net, configuration.adapt(tensors), "the authors' tensors")
    return net.eval()


def fuse(net: FusionNetwork, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
    """Fuse images (H, W), or with axes of length 1 around, in the network's levels: (H, W)."""
    pair = (torch.from_numpy(image.squeeze()[None, None]).float() for image in (ir, vis))
    with torch.inference_mode():
        return net(*pair)[0, 0].double().numpy()


def error(raw: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference, relative to the reference's range."""
    return np.abs(raw - reference.squeeze()).max() / np.ptp(reference)


def levels_off(
    raw: np.ndarray, reference: np.ndarray, configuration: Configuration
) -> tuple[float, float]:
    """Post-processed and 8-bit: largest difference in gray levels, share of those that differ."""
    levels = POSTS[configuration.post].apply(raw, configuration.levels)
    levels = {"round": np.rint, "truncate": np.trunc}[configuration.quantise](levels)
    difference = np.abs(levels - reference)
    return difference.max(), np.mean(difference > 0)
