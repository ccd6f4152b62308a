"""What every registered network must do, whichever it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionlib.errors import FusionError
from fusionlib.methods import registry
from fusionlib.networks.autoencoder import AutoEncoder
from fusionlib.networks.network import FusionNetwork
from fusionlib.weights import weight_sets
from tests.fusionlib.networks.authors import assert_adapted
from tests.fusionlib.networks.given import images

NETWORKS = {spec.name: spec.default for spec in registry().values() if spec.default.has_network}
#: Trained values that the weight file counts and the network, since it never uses them, has not.
UNUSED = {"swinfusion": 8_430, "seafusion": 226}
#: Trained values that do not take part in fusing a pair.
IDLE = {
    # Attention between the channels of which there is one.
    "atgan": ("attention.0.query.", "attention.0.key."),
    "sdnet": ("expand.", "outputs."),
    # On the finest level heads of one channel weigh it with 1, whatever their temperature.
    "emma": tuple(
        f"{block}.attention.attention.temperature"
        for block in ("infrared.blocks.0", "visible.blocks.0", "fuse.0", "decode.0")
    ),
}
#: Where infrared and visible image are treated alike.
SYMMETRIC = ("nestfuse", "aefusion")


def names(*without):
    """All networks but some that have a test of their own in their file."""
    return [name for name in NETWORKS if name not in without]


def build(name: str) -> FusionNetwork:
    """Fresh weights, apart from those under which features would be dead."""
    torch.manual_seed(0)
    configuration = NETWORKS[name]
    net = configuration.build(*configuration.rules[:1]).eval()
    if name == "atgan":
        for module in net.attention:
            nn.init.constant_(module.strength, 0.7)
    if name in ("nestfuse", "rfn_nest"):
        for parameter in net.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        net.autoencoder.last.weight.data.abs_()
    return net


def pair(net: FusionNetwork, name: str) -> list[torch.Tensor]:
    side = max(net.min_side, 16)
    return images((side, side + 1), levels=tuple(NETWORKS[name].levels))


@pytest.mark.parametrize("method", NETWORKS)
def test_parameters_are_those_of_the_weights(method):
    """Of every configuration."""
    for configuration in registry()[method].configurations.values():
        net = configuration.build(*configuration.rules[:1])
        count = sum(p.numel() for p in net.parameters())
        for file in configuration.weights:
            assert file == weight_sets()[file.name]
            assert file.parameters == count + UNUSED.get(file.name, 0)


@pytest.mark.parametrize("name", names("aefusion", "fusiongan"))
def test_smallest_side(name):
    """Pairs of the stated minimum work, in batches too; one pixel less on either axis does not."""
    net = build(name)
    side = net.min_side
    with torch.inference_mode():
        output = net(*torch.rand(2, 2, 1, side, side))
        assert output.shape == (2, 1, side, side) and output.isfinite().all()
        for size in ((side, side - 1), (side - 1, side)):
            with pytest.raises((RuntimeError, FusionError)):
                net(*torch.rand(2, 1, 1, *size))


@pytest.mark.parametrize("name", NETWORKS)
def test_our_names_are_kept(name):
    """What was trained here loads as it is, and strict loading sees what is of no network."""
    configuration, state = NETWORKS[name], build(name).state_dict()
    if configuration.adapt:
        assert_adapted(configuration.adapt, state, state)


@pytest.mark.parametrize("name", names("aefusion", "cufd"))
def test_order_of_the_images(name):
    net = build(name)
    ir, vis = pair(net, name)
    with torch.inference_mode():
        output, swapped = net(ir, vis), net(vis, ir)
    difference = (output - swapped).abs().max() / (output.max() - output.min())
    if isinstance(net, AutoEncoder) or name in SYMMETRIC:
        assert difference <= 1e-5  # rounding of float32
    else:
        assert difference > 0.01


@pytest.mark.parametrize("name", names("aefusion"))
@pytest.mark.parametrize("black", [True, False])
def test_every_weight_learns(name, black):
    """Gradients are finite, of black images too, and none of them is missing."""
    net = build(name)
    pictures = pair(net, name)
    if black:
        pictures = [torch.full_like(x, NETWORKS[name].levels[0]) for x in pictures]
    output = net(*pictures)
    output.square().mean().backward()
    assert output.isfinite().all()
    idle = IDLE.get(name, ())
    used = {key: p for key, p in net.named_parameters() if not key.startswith(idle)}
    assert all(p.grad.isfinite().all() for p in used.values())
    assert black or not [key for key, p in used.items() if not p.grad.any()]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", [name for name in names("cufd") if build(name).radius is not None])
def test_radius_is_exact(name, which, linearise, reach):
    net = linearise(build(name))
    pictures = [x.double() for x in images((2 * net.radius + 5, 2 * net.radius + 7))]
    assert reach(lambda a, b: net(*((a, b) if which == 0 else (b, a))), pictures) == net.radius
