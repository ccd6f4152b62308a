"""Random images, the same in every test; the authors' tensors; what is checked of many networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fusionlib.card import Configuration
from fusionlib.networks.network import FusionNetwork
from fusionlib.weights import load_state

# What no network knows. It is kept, so that strict loading reports it.
STRANGERS = {"other.weight": torch.zeros(1), "other/kernel": torch.zeros(1, 1, 1, 1)}


def images(size=(9, 11), count=2, *, batch=1, seed=0, levels=(0, 1)):
    """Return tensors (batch, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(batch, 1, *size, generator=generator) * (levels[1] - levels[0]) + levels[0]
        for _ in range(count)
    ]


gray_images = partial(images, levels=(0, 255))
signed_images = partial(images, levels=(-1, 1))


def arrays(pictures: Sequence[Tensor]) -> list[np.ndarray]:
    """Return the first of each batch, (1, H, W), in float64."""
    return [picture[0].double().numpy() for picture in pictures]


def assert_output(
    net: Callable[..., Tensor],
    pictures: Sequence[Tensor],
    expected: np.ndarray,
    tolerance: float = 1e-5,
) -> None:
    """Compare with (1, H, W): of some dozen layers of 2**-24 each, within 1e-5 of the range."""
    with torch.inference_mode():
        output = net(*pictures)[0].double().numpy()
    span = np.ptp(expected)
    assert output.shape == expected.shape and span > 0
    assert np.abs(output - expected).max() <= tolerance * span


def assert_adapted(
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    given: dict[str, Tensor],
    state: dict[str, Tensor],
) -> None:
    """Each tensor given finds its place in `state`, with its values; strangers are kept."""
    adapted, expected = adapt({**given, **STRANGERS}), {**state, **STRANGERS}
    torch.testing.assert_close(adapted, expected, rtol=0, atol=0)


def loaded(configuration: Configuration, tensors: dict[str, Tensor], *rule: str) -> FusionNetwork:
    """The network of a configuration, in evaluation, under all of the authors' tensors."""
    net = configuration.build(*rule)
    load_state(net, configuration.adapt(tensors), "the authors' tensors")
    return net.eval()


def linearise(network: nn.Module) -> nn.Module:
    """Positive weights: positive images then never meet the flat side of a ReLU."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        fan_in = parameter[0].numel()
        parameter.data = torch.rand(parameter.shape, generator=generator).double() / fan_in
    return network.double()


def reach(network: Callable[..., Tensor], pictures: list[Tensor]) -> int:
    """Radius of the square of output pixels that change with the first image's middle pixel."""
    changed = pictures[0].clone()
    row, column = (side // 2 for side in changed.shape[-2:])
    changed[..., row, column] += 200
    with torch.inference_mode():
        found = (network(*pictures) != network(changed, *pictures[1:]))[0, 0]
    radius = (int(found.any(dim=0).sum()) - 1) // 2
    square = torch.zeros_like(found)
    square[row - radius : row + radius + 1, column - radius : column + radius + 1] = True
    assert torch.equal(found, square)
    return radius
