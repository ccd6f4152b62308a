"""What every registered network must do, whichever it is; auto-encoders and renaming by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fusionlib.errors import FusionError, UnknownName
from fusionlib.methods import create, registry
from fusionlib.networks.aefusion import AEFusion
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.nestfuse import NestFuse
from fusionlib.networks.network import AutoEncoder, FusionNetwork, conv, rename, rename_tensorflow
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.networks.sdnet import SDNet
from fusionlib.networks.u2fusion import U2Fusion
from fusionlib.rules import RULES
from fusionlib.weights import weight_sets
from tests import golden
from tests.fusionlib.networks.given import assert_adapted, images, linearise, reach

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
#: Weight set -> the authors' names of its tensors -> ours, empty where there is no use for one.
AUTHORS = json.loads((Path(golden.__file__).parent / "names.json").read_text())


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


def pair(net: FusionNetwork, name: str, batch: int = 1) -> list[torch.Tensor]:
    side = max(net.min_side, 16)
    return images((side, side + 1), batch=batch, levels=tuple(NETWORKS[name].levels))


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


@pytest.mark.parametrize("name", names("aefusion"))
def test_a_batch_is_its_images(name):
    """Rounding in float32 depends on how much is multiplied at once."""
    net = build(name)
    ir, vis = pair(net, name, batch=2)
    with torch.inference_mode():
        both = net(ir, vis)
        each = torch.cat([net(ir[i : i + 1], vis[i : i + 1]) for i in range(2)])
    assert (both - each).abs().max() <= 1e-5 * (each.max() - each.min())


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


@pytest.mark.parametrize(
    "network, firsts",
    [
        (SDNet, {"tang": "ir", "released": "ir", "medical": "vis"}),
        (U2Fusion, {"tang": "ir", "released": "vis"}),
    ],
)
def test_the_other_image_first_is_the_images_swapped(network, firsts):
    pictures, outputs = images((16, 17)), []
    for first in ("ir", "vis"):
        torch.manual_seed(0)
        with torch.inference_mode():
            outputs.append(network(first)(*pictures))
        pictures.reverse()
    assert torch.equal(*outputs)
    method = registry()[network.__name__.lower()]
    assert {name: c.build().first for name, c in method.configurations.items()} == firsts


@pytest.mark.parametrize(
    "network, given, message",
    [
        (DenseFuse, "torch", r"release of DenseFuse 'torch'.*'pytorch'"),
        (Res2NetFuse, "release", r"variant of Res2NetFuse 'release'.*'released'"),
        (SDNet, "vi", r"first image of SDNet 'vi'.*'vis'"),
        (U2Fusion, "visible", r"first image of U2Fusion 'visible'.*'vis'"),
        (NestFuse, "median", "pooling of NestFuse 'median'"),
        (AEFusion, "median", "pooling of AEFusion 'median'"),
    ],
)
def test_unknown_options(network, given, message):
    with pytest.raises(UnknownName, match=message):
        network(given)


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
def test_radius_is_exact(name, which):
    net = linearise(build(name))
    pictures = [x.double() for x in images((2 * net.radius + 5, 2 * net.radius + 7))]
    assert reach(lambda a, b: net(*((a, b) if which == 0 else (b, a))), pictures) == net.radius


# ---------------------------------------------------------------- the authors' tensors


@pytest.mark.parametrize("name", NETWORKS)
def test_our_names_are_kept(name):
    """What was trained here loads as it is, and strict loading sees what is of no network."""
    configuration, state = NETWORKS[name], build(name).state_dict()
    if configuration.adapt:
        assert_adapted(configuration.adapt, state, state)


@pytest.mark.parametrize("name", AUTHORS)
def test_authors_names_fill_the_network(name):
    """Every tensor finds its place, with its values; TensorFlow's kernels are (H, W, in, out)."""
    file = weight_sets()[name]
    (configuration, *_) = (
        configuration
        for spec in registry().values()
        for configuration in spec.configurations.values()
        if file in configuration.weights
    )
    state = configuration.build(*configuration.rules[:1]).state_dict()
    generator = torch.Generator().manual_seed(0)
    for tensor in state.values():
        if tensor.is_floating_point():  # else a count of batches, which TensorFlow has not
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    theirs = {name: state.get(ours, torch.zeros(1)) for name, ours in AUTHORS[name].items()}
    if file.checkpoints[0].format == "tensorflow":
        theirs = {n: t.permute(2, 3, 1, 0) if t.ndim == 4 else t for n, t in theirs.items()}
    theirs = {n: t if t.ndim else t.reshape(1) for n, t in theirs.items()}
    assert_adapted(configuration.adapt, theirs, state)


@pytest.mark.parametrize("name", ["first.weight", "other/kernel", "other/bias"])
def test_names_that_are_not_tensorflows_are_kept(name):
    """Our own tensors pass unchanged, strangers are reported by strict loading."""
    tensor = torch.ones(2, 3)
    assert rename_tensorflow({"^encoder/conv1/": "first."}, {name: tensor}) == {name: tensor}


def test_the_second_tensor_of_one_name_is_a_stranger():
    first, second = torch.zeros(1), torch.ones(1)
    state = rename({r"[ab]\.": "x."}, {"a.w": first, "b.w": second})
    assert state == {"x.w": first, "b.w": second}


def test_counts_of_batches_that_are_none_are_left_for_strict_loading():
    counts = torch.zeros(2)
    assert rename({}, {"x.num_batches_tracked": counts})["x.num_batches_tracked"] is counts


def test_a_kernel_of_another_rank_is_no_crash():
    state = rename_tensorflow({"^encoder/": "first."}, {"encoder/kernel": torch.ones(3)})
    assert "first.weight" not in state


@pytest.mark.realdata
def test_authors_medical_weights_fit(weights_root):
    """tests/test_parity.py holds the others against the authors' images."""
    assert create("sdnet", pipeline="medical", weights_dir=weights_root).network.first == "vis"


# ---------------------------------------------------------------- auto-encoders


class Passing(AutoEncoder):
    """Six channels, 1 to 6 times the image, in groups; the decoder sums them."""

    radius = 0

    def __init__(self, rule, groups=1):
        super().__init__(rule)
        self.groups = groups

    def encode(self, image):
        return torch.cat([image * (i + 1) for i in range(6)], dim=1)

    def decode(self, features):
        return features.sum(dim=1, keepdim=True)


def test_one_image_is_decoded_without_a_rule():
    (image,) = images((4, 5), 1, batch=2)
    assert torch.allclose(Passing("addition")(image), 21 * image)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("groups", [1, 3])
def test_groups_are_fused_by_themselves(rule, count, groups):
    """And weights in two steps are the weights in one."""
    net, generator = Passing(rule, groups), torch.Generator().manual_seed(1)
    features = [torch.rand(2, 6, 4, 5, generator=generator) for _ in range(count)]
    parts = zip(*(f.chunk(groups, dim=1) for f in features), strict=True)
    expected = torch.cat([RULES[rule](list(part)) for part in parts], dim=1)
    assert torch.equal(net.fuse(features), expected)
    if net.rule.activity:
        weights = net.weigh(torch.stack([net.activity(f) for f in features]))
        assert weights.shape == (count, groups, 2, 1, 4, 5)
        assert torch.equal(net.fuse(features, weights), expected)


def test_convolution_keeps_size_and_reflects():
    layer = conv(1, 1, 3)
    torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 0, 0] = 1  # the neighbour above and to the left
        shifted = layer(torch.arange(12.0).view(1, 1, 3, 4))[0, 0]
    # Reflection: above row 0 is row 1, left of column 0 is column 1.
    assert shifted.tolist() == [[5, 4, 5, 6], [1, 0, 1, 2], [5, 4, 5, 6]]


def test_unknown_rule():
    with pytest.raises(UnknownName, match=r"'maxmum'.*'maximum'"):
        Passing("maxmum")
