"""AutoEncoder: groups of channels, single images, TensorFlow's tensors."""

from __future__ import annotations

import pytest
import torch

from fusionlib.errors import UnknownName
from fusionlib.networks.autoencoder import AutoEncoder, conv, tensorflow_tensors
from fusionlib.rules import RULES
from tests.fusionlib.networks.given import images


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
    net, generator = Passing(rule, groups), torch.Generator().manual_seed(1)
    features = [torch.rand(2, 6, 4, 5, generator=generator) for _ in range(count)]
    parts = zip(*(f.chunk(groups, dim=1) for f in features), strict=True)
    expected = torch.cat([RULES[rule](list(part)) for part in parts], dim=1)
    assert torch.equal(net.fuse(features), expected)


@pytest.mark.parametrize("rule", ["l1_norm", "mean", "mean_eq7"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_weights_in_two_steps_are_the_weights_in_one(rule, groups):
    net, generator = Passing(rule, groups), torch.Generator().manual_seed(2)
    features = [torch.rand(2, 6, 4, 5, generator=generator) for _ in range(3)]
    weights = net.weigh(torch.stack([net.activity(f) for f in features]))
    assert weights.shape == (3, groups, 2, 1, 4, 5)
    assert torch.equal(net.fuse(features, weights), net.fuse(features))


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


def test_tensorflow_kernels_are_turned():
    """TensorFlow holds (row, column, in, out), PyTorch (out, in, row, column)."""
    kernel = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    state = tensorflow_tensors({"a/b/kernel": kernel, "a/b/bias": torch.ones(7)}, {"a/b": "x.0"})
    assert set(state) == {"x.0.weight", "x.0.bias"}
    turned = state["x.0.weight"]
    assert turned.shape == (7, 5, 2, 3) and turned.is_contiguous()
    assert all(
        turned[o, i, r, c] == kernel[r, c, i, o]
        for r in range(2)
        for c in range(3)
        for i in range(5)
        for o in range(7)
    )


@pytest.mark.parametrize("name", ["first.weight", "other/kernel", "other/bias"])
def test_names_that_are_not_tensorflows_are_kept(name):
    """Our own tensors pass unchanged, strangers are reported by strict loading."""
    tensor = torch.ones(2, 3)
    assert tensorflow_tensors({name: tensor}, {"encoder/conv1": "first"}) == {name: tensor}


def test_a_kernel_of_another_rank_is_no_crash():
    state = tensorflow_tensors({"encoder/conv1/kernel": torch.ones(3)}, {"encoder/conv1": "first"})
    assert "first.weight" not in state
