"""gradients: faster ones are those of PyTorch but rounding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionlib.networks.res2netfuse import Res2NetFuse
from reproduction.training.gradients import FastGradients


@pytest.mark.parametrize("last", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype, rounding", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_fast_gradients_are_the_same(last, dtype, rounding):
    """But rounding, also where a ReLU overwrites the output and where layers share weights.

    float32 has 6e-8; sums of 1000 pixels through 14 layers lose three digits of it at most.
    """
    torch.manual_seed(0)
    net = Res2NetFuse("released").to(dtype, memory_format=last)
    image = torch.rand(2, 1, 20, 24, dtype=dtype)

    def gradients(*names):
        output = net.decode(net.encode(image))
        parameters = [net.get_parameter(name) for name in names]
        return torch.autograd.grad((output**2).mean(), parameters)

    names = [name for name, _ in net.named_parameters()]
    plain = gradients(*names)
    with FastGradients():
        apart = gradients(*names)
        bias, weight = gradients("block.expand.bias", "encoder.0.weight")
    expected = dict(zip(names, plain, strict=True))
    pairs = [*zip(apart, plain, strict=True), (bias, expected["block.expand.bias"])]
    for ours, theirs in [*pairs, (weight, expected["encoder.0.weight"])]:
        assert (ours - theirs).norm() < rounding * theirs.norm()


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 2)])
def test_half_gradients_are_near(stride, groups):
    """What is computed stays; gradients keep the 8 bits of bfloat16, a 256th for each factor."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, padding=1, stride=stride, groups=groups).double()
    plain = torch.rand(2, 4, 20, 24, dtype=torch.float64, requires_grad=True)
    half = plain.detach().clone().requires_grad_()
    expected = conv(plain)
    way = torch.randn_like(expected)
    of_plain = torch.autograd.grad((expected * way).sum(), [plain, *conv.parameters()])
    with FastGradients(half=True):
        output = conv(half)
        assert torch.equal(output, expected)
        of_half = torch.autograd.grad((output * way).sum(), [half, *conv.parameters()])
    for ours, theirs in zip(of_half[:2], of_plain[:2], strict=True):
        assert ours.dtype == torch.float64
        assert 0 < (ours - theirs).norm() / theirs.norm() < 2 / 256
    torch.testing.assert_close(of_half[2], of_plain[2])


def test_fast_gradients_leave_the_rest_alone():
    conv, image = nn.Conv2d(1, 2, 3), torch.rand(1, 1, 5, 5)
    frozen = nn.Conv2d(1, 2, 3).requires_grad_(False)
    with FastGradients():
        assert "_BiasGradient" in type(conv(image).grad_fn).__name__
        assert frozen(image).grad_fn is None
        assert nn.Conv2d(1, 2, 3, bias=False)(image).shape == (1, 2, 3, 3)
        conv(image[0]).sum().backward()
    assert "_BiasGradient" not in type(conv(image).grad_fn).__name__
    with FastGradients(half=True):
        nn.Conv2d(1, 2, 3, padding="same")(image).sum().backward()
