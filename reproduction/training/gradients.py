"""Gradients of convolutions in less time, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["FastGradients"]


class FastGradients(TorchFunctionMode):
    """Within this context gradients of the layers `nn.Conv2d` that have a bias are computed faster.

    Gradients of biases are plain sums: oneDNN adds them up next to those of the weights, with
    slower kernels than without. They differ by rounding. For a CPU.

    With `half` gradients are also computed in bfloat16, from images and weights in bfloat16: those
    of one layer change by less than a hundredth, what layers compute stays as it is.
    """

    def __init__(self, *, half: bool = False) -> None:
        super().__init__()
        self.half = half

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # So a layer calls it: images, weight, bias, stride, padding, dilation and groups.
        bias = args[2] if func is torch.conv2d and len(args) == 7 and args[0].ndim == 4 else None
        if bias is None or not bias.requires_grad or not torch.is_grad_enabled():
            return func(*args, **(kwargs or {}))
        if self.half and not isinstance(args[4], str):
            return _HalfGradients.apply(*args)
        return _BiasGradient.apply(func(*args[:2], bias.detach(), *args[3:]), bias)


class _BiasGradient(torch.autograd.Function):
    """Give the gradient of a bias (C,) that has been added to (B, C, H, W) already."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient.sum((0, 2, 3))


class _HalfGradients(torch.autograd.Function):
    """A convolution whose gradients come from bfloat16 copies of what it is given."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor, *how: Any) -> Tensor:
        ctx.save_for_backward(image.bfloat16(), weight.bfloat16())
        ctx.how = how
        return torch.conv2d(image, weight, bias, *how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *how, groups = ctx.how
        needed = [*ctx.needs_input_grad[:2], False]
        given = gradient.bfloat16(), *ctx.saved_tensors, None, *how, False, [0, 0], groups, needed
        of_image, of_weight, _ = torch.ops.aten.convolution_backward(*given)
        # PyTorch turns them to the type of what they are gradients of.
        return of_image, of_weight, gradient.sum((0, 2, 3)), None, None, None, None
