"""Random images, the same in every test, and what holds of many networks."""

from __future__ import annotations

from functools import partial

import torch


def images(size=(9, 11), count=2, *, batch=1, seed=0, levels=(0, 1)):
    """Return tensors (batch, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    low, high = levels
    return [
        torch.rand(batch, 1, *size, generator=generator) * (high - low) + low for _ in range(count)
    ]


gray_images = partial(images, levels=(0, 255))
signed_images = partial(images, levels=(-1, 1))


def assert_order_matters(network, ir, vis, by=0.01):
    """Infrared and visible image are not exchangeable, by more than a share of the range."""
    with torch.inference_mode():
        output, swapped = network(ir, vis), network(vis, ir)
    assert (output - swapped).abs().max() > by * (output.max() - output.min())


def assert_other_first_is_swapped(build, ir, vis):
    """Whichever image is first: the network is the same."""
    with torch.inference_mode():
        assert torch.equal(build("ir")(ir, vis), build("vis")(vis, ir))
    assert_order_matters(build("ir"), ir, vis, by=0.1)
