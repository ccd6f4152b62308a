"""losses: against pytorch-msssim, and against the released formula written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
from scipy.signal import convolve2d

from fusionlib.errors import ImageError, UnknownName
from fusionlib.losses import ReconstructionLoss, ms_ssim_released, ssim


def pair(size=(64, 71), batch=1, noise=20.0, seed=0, dtype=torch.float64):
    """Smooth pictures and noisy copies of them, gray levels 0..255."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=dtype) for n in size), indexing="ij")
    phases = torch.arange(1, batch + 1, dtype=dtype).view(-1, 1, 1, 1)
    target = 127 + 100 * torch.sin(x / 7 + phases) * torch.cos(y / 5 - phases)
    output = target + noise * torch.randn(target.shape, generator=generator, dtype=dtype)
    return output.clamp(0, 255), target


def oracle(output, target):
    """pytorch-msssim, given its window in float64, for its own is rounded to float32."""
    window = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = (window / window.sum()).view(1, 1, 1, 11)
    value = pytorch_msssim.ssim(output, target, data_range=255, win=window, nonnegative_ssim=False)
    return float(value)


@pytest.mark.parametrize("size", [(11, 11), (64, 71), (12, 40)])
@pytest.mark.parametrize("noise", [0.0, 5.0, 200.0])
def test_ssim_is_that_of_pytorch_msssim(size, noise):
    """The same formula in float64; only the order of sums differs."""
    output, target = pair(size, batch=3, noise=noise)
    assert float(ssim(output, target)) == pytest.approx(oracle(output, target), rel=1e-11)


def test_ssim_of_opposite_images_is_negative():
    _, target = pair()
    assert float(ssim(255 - target, target)) < -0.5


def test_ssim_scales_with_the_data_range():
    output, target = pair()
    scaled = ssim(output / 255, target / 255, data_range=1)
    assert float(scaled) == pytest.approx(float(ssim(output, target)), rel=1e-12)


def released_by_numpy(x, y):
    """spec: valid Gaussian windows, five levels; contrast^w of the first four, each times the
    last level's SSIM^w5, so that this stands there four times; every mean m as (m + 1) / 2."""
    axis = np.arange(-5, 6)
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    window /= window.sum()
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]

    def blur(z):
        return convolve2d(z, window, mode="valid")

    contrasts, similarities = [], []
    for _ in range(5):
        terms = []
        for a, b in zip(x, y, strict=True):
            ma, mb = blur(a), blur(b)
            va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
            contrast = (2 * cov + 58.5225) / (va + vb + 58.5225)  # (0.03 * 255)^2
            bright = (2 * ma * mb + 6.5025) / (ma**2 + mb**2 + 6.5025)  # (0.01 * 255)^2
            terms.append((np.mean(contrast), np.mean(bright * contrast)))
        contrasts.append((np.mean([t[0] for t in terms]) + 1) / 2)
        similarities.append((np.mean([t[1] for t in terms]) + 1) / 2)
        rows, columns = (n // 2 * 2 for n in x.shape[1:])
        x, y = (
            z[:, :rows, :columns].reshape(-1, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))
            for z in (x, y)
        )
    product = 1.0
    for contrast, weight in zip(contrasts[:4], weights[:4], strict=True):
        product *= contrast**weight * similarities[4] ** weights[4]
    return product


@pytest.mark.parametrize("size", [(176, 176), (180, 203)])
@pytest.mark.parametrize("noise", [5.0, 80.0])
def test_released_ms_ssim_by_numpy(size, noise):
    output, target = pair(size, batch=2, noise=noise)
    expected = released_by_numpy(output[:, 0].numpy(), target[:, 0].numpy())
    assert float(ms_ssim_released(output, target)) == pytest.approx(expected, rel=1e-10)


def test_released_ms_ssim_is_not_the_textbook_one():
    """One of the two departures alone would show: the textbook value is far away."""
    output, target = pair((180, 203), noise=80)
    textbook = pytorch_msssim.ms_ssim(output, target, data_range=255)
    assert abs(float(ms_ssim_released(output, target)) - float(textbook)) > 0.05


def test_paper_loss_is_equation_2():
    output, target = pair((40, 50), batch=2)
    parts = ReconstructionLoss("paper")(output, target)
    mse = np.mean((output.numpy() - target.numpy()) ** 2)
    assert float(parts.pixel) == pytest.approx(mse, rel=1e-12)
    assert float(parts.ssim) == pytest.approx(1 - oracle(output, target), rel=1e-11)
    assert float(parts.total) == pytest.approx(float(parts.pixel + parts.ssim), rel=1e-12)


def test_released_loss_divides_the_error_once_more():
    output, target = pair((180, 203), batch=2)
    parts = ReconstructionLoss("released")(output, target)
    mse = np.mean((output.numpy() - target.numpy()) ** 2)
    assert float(parts.pixel) == pytest.approx(mse / (180 * 203), rel=1e-12)
    assert float(parts.ssim) == pytest.approx(1 - float(ms_ssim_released(output, target)))
    assert float(parts.total) == pytest.approx(float(parts.pixel + parts.ssim), rel=1e-12)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("level", [0, 128, 255, None])
def test_equal_images_have_no_loss(variant, level):
    """Exactly 0 in theory; differences of float64 moments of size 255^2 leave 1e-11."""
    target = pair((176, 180))[1] if level is None else torch.full((1, 1, 176, 180), float(level))
    parts = ReconstructionLoss(variant)(target.double(), target.double())
    assert float(parts.pixel) == 0 and abs(float(parts.total)) <= 1e-11


@pytest.mark.parametrize("size", [(11, 11), (12, 14)])
def test_gradient_of_the_paper_loss(size):
    output, target = pair(size)
    loss = ReconstructionLoss("paper")
    assert torch.autograd.gradcheck(lambda x: loss(x, target).total, output.requires_grad_())


def test_gradient_of_the_released_loss():
    """gradcheck needs every pixel of 176x176; a few directions do."""
    output, target = pair((176, 176))
    loss = ReconstructionLoss("released")
    output.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(output, target).total, output)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        step = torch.randn(output.shape, generator=generator, dtype=torch.float64) * 1e-3
        with torch.no_grad():
            ahead, back = (loss(output + s * step, target).total for s in (1, -1))
        assert float((gradient * step).sum()) == pytest.approx(float(ahead - back) / 2, rel=1e-4)


@pytest.mark.parametrize("size", [(10, 64), (64, 10)])
def test_ssim_refuses_images_below_its_window(size):
    with pytest.raises(ImageError, match=rf"11x11 pixels.*not {size[1]}x{size[0]}"):
        ssim(*pair(size))
    with pytest.raises(ImageError):
        ReconstructionLoss("paper")(*pair(size))


@pytest.mark.parametrize("size", [(175, 200), (200, 175)])
def test_ms_ssim_refuses_images_below_its_window(size):
    with pytest.raises(ImageError, match=rf"176x176 pixels, not {size[1]}x{size[0]}"):
        ReconstructionLoss("released")(*pair(size))


def test_unknown_variant():
    with pytest.raises(UnknownName, match=r"loss variant 'papers'.*'paper'"):
        ReconstructionLoss("papers")
