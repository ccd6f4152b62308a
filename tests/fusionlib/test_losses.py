"""losses: against pytorch-msssim, scipy and numpy, and the released formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from scipy import ndimage
from scipy.signal import convolve2d

from fusionlib import losses
from fusionlib.errors import ImageError, PairMismatch, UnknownName, WeightsMismatch
from fusionlib.losses import (
    FusionLoss,
    ReconstructionLoss,
    VGGFeatures,
    contrast_mask,
    correlation,
    laplacian,
    local_contrast,
    ms_ssim_released,
    sobel,
    sobel_gradients,
    source_masks,
    tensor_ssim,
    tensor_ssim_map,
    texture_loss,
)


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
    assert float(tensor_ssim(output, target, 255)) == pytest.approx(
        oracle(output, target), rel=1e-11
    )


@pytest.mark.parametrize("side", [64, 1040])
def test_ssim_without_gradients_and_then_with(side):
    """What is kept from one call serves the other; of large images nothing is kept."""
    x, y = pair((side, 16))
    losses._band.cache_clear()
    with torch.inference_mode():
        expected = tensor_ssim(x, y, 255)
    x.requires_grad_()
    tensor_ssim(x, y, 255).backward()
    assert x.grad.any() and torch.equal(tensor_ssim(x, y, 255), expected)
    assert (losses._band.cache_info().currsize > 0) == (side <= 1024)


def gaussian(taps=11):
    """Around the tap taps // 2; the released code makes windows of an even size so too."""
    axis = np.arange(taps) - taps // 2
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    return window / window.sum()


def valid(image, window):
    """Where a window, centred on its tap taps // 2, lies within the image."""
    taps = len(window)
    return tuple(slice(taps // 2, taps // 2 + n - taps + 1) for n in image.shape)


def released_by_numpy(x, y):
    """spec: valid Gaussian windows, five levels; contrast^w of the first four, each times the
    last level's SSIM^w5, so that this stands there four times; every mean m as (m + 1) / 2.
    A level smaller than the window cuts it."""
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    contrasts, similarities = [], []
    for _ in range(5):
        window = gaussian(min(11, *x.shape[1:]))

        def blur(z, window=window):
            return ndimage.correlate(z, window, origin=0)[valid(z, window)]

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
            z[:, :rows, :columns].reshape(len(z), rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))
            for z in (x, y)
        )
    product = 1.0
    for contrast, weight in zip(contrasts[:4], weights[:4], strict=True):
        product *= contrast**weight * similarities[4] ** weights[4]
    return product


@pytest.mark.parametrize("size", [(16, 16), (40, 175), (176, 176), (180, 203)])
@pytest.mark.parametrize("noise", [5.0, 80.0])
def test_released_ms_ssim_by_numpy(size, noise):
    output, target = pair(size, batch=2, noise=noise)
    expected = released_by_numpy(output[:, 0].numpy(), target[:, 0].numpy())
    value = ms_ssim_released(output, target, small=True)
    assert float(value) == pytest.approx(expected, rel=1e-10)
    if min(size) >= 176:
        assert value == ms_ssim_released(output, target)


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_reconstruction_loss_is_equation_2(variant):
    """As released, the mean squared error is divided once more."""
    output, target = pair((180, 203), batch=2)
    parts = ReconstructionLoss(variant)(output, target)
    mse = np.mean((output.numpy() - target.numpy()) ** 2)
    similarity = oracle(output, target)
    if variant == "released":
        mse, similarity = mse / (180 * 203), float(ms_ssim_released(output, target))
    assert float(parts.pixel) == pytest.approx(mse, rel=1e-12)
    assert float(parts.ssim) == pytest.approx(1 - similarity, rel=1e-11)
    assert float(parts.total) == pytest.approx(float(parts.pixel + parts.ssim), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "size", "least"),
    [
        (ReconstructionLoss("paper"), (10, 64), 11),
        (ReconstructionLoss("released"), (200, 175), 176),
        (lambda x, y: ms_ssim_released(x, y, small=True), (15, 20), 16),
    ],
)
def test_images_below_the_window(loss, size, least):
    message = f"SSIM .*{least}x{least} pixels, not {size[1]}x{size[0]}"
    with pytest.raises(ImageError, match=message):
        loss(*pair(size))


# ---------------------------------------------------------------- parts of other losses


@pytest.mark.parametrize("size", [(5, 9), (40, 33)])
def test_ssim_map_by_scipy(size):
    """The images, and their products, continued by zeros."""
    x, y = (z / 255 for z in pair(size, batch=2))

    def blur(z):
        return convolve2d(z, gaussian(), mode="same")

    found = tensor_ssim_map(x, y, 1)
    for a, b, one in zip(x[:, 0].numpy(), y[:, 0].numpy(), found[:, 0].numpy(), strict=True):
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        bright = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)  # (0.01 * 1)^2
        expected = bright * (2 * cov + 9e-4) / (va + vb + 9e-4)  # (0.03 * 1)^2
        assert np.abs(one - expected).max() < 1e-10


def by_scipy(x, function):
    return np.stack([function(z) for z in x[:, 0].numpy()])


ZEROS = {"mode": "constant"}


@pytest.mark.parametrize(
    ("function", "channel", "oracle"),
    [
        (sobel, 0, lambda z: sum(np.abs(ndimage.sobel(z, axis, **ZEROS)) for axis in (0, 1))),
        (sobel_gradients, 0, lambda z: ndimage.sobel(z, 1, mode="nearest") / 8),
        (sobel_gradients, 1, lambda z: ndimage.sobel(z, 0, mode="nearest") / 8),
        (laplacian, 0, lambda z: ndimage.laplace(z, **ZEROS)),
    ],
)
def test_derivatives_by_scipy(function, channel, oracle):
    x, _ = pair((12, 17), batch=2)
    found = function(x)[:, channel].numpy()
    assert np.abs(found - by_scipy(x, oracle)).max() < 1e-10


def test_correlation_by_numpy():
    random = np.random.default_rng(0)
    x, y = random.random((2, 3, 5, 6, 7))
    expected = np.mean(
        [np.corrcoef(x[i, c].ravel(), y[i, c].ravel())[0, 1] for i in range(3) for c in range(5)]
    )
    found = correlation(torch.from_numpy(x), torch.from_numpy(y))
    # What keeps it finite, 1.2e-7 beside sums of squares of about 3.
    assert float(found) == pytest.approx(expected, abs=1e-7)


# ---------------------------------------------------------------- VGG

VGG_LAYERS = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
VGG_LAYERS |= {12: (256, 256), 14: (256, 256), 17: (512, 256), 19: (512, 512), 21: (512, 512)}


@pytest.fixture(scope="module")
def vgg_tensors():
    """Random weights under the names and shapes of torchvision's VGG-16, a later layer too."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"classifier.0.bias": torch.zeros(3)}
    for layer, (channels, channels_in) in VGG_LAYERS.items():
        # As large as keeps the size of the features.
        scale = (2 / (9 * channels_in)) ** 0.5
        shape = (channels, channels_in, 3, 3)
        tensors[f"features.{layer}.weight"] = scale * torch.randn(shape, generator=generator)
        tensors[f"features.{layer}.bias"] = 0.1 * torch.randn(channels, generator=generator)
    return tensors


def test_vgg_features_layer_by_layer(vgg_tensors):
    """In float64, by the names of the weights."""
    image, _ = pair((16, 24), dtype=torch.float32)
    found = VGGFeatures(vgg_tensors)(image)
    mean, std = (torch.tensor(v).double() for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = (image.double() / 255 - mean[:, None, None]) / std[:, None, None]
    for layers, features in zip(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21)), found, strict=True):
        if layers[0]:
            x = F.max_pool2d(x, 2)
        for layer in layers:
            parts = (vgg_tensors[f"features.{layer}.{part}"] for part in ("weight", "bias"))
            x = F.conv2d(x, *(part.double() for part in parts), padding=1).relu()
        # Ten layers in float32 on values of about 1.
        assert (features - x).abs().max() < 1e-4 * x.abs().max()


def test_vgg_stays_as_it_is(vgg_tensors):
    image, _ = pair((16, 16), dtype=torch.float32)
    network = VGGFeatures(vgg_tensors)
    sum(f.mean() for f in network(image.requires_grad_())).backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("fault", ["missing", "shape"])
def test_weights_that_are_not_vggs(vgg_tensors, fault):
    tensors = dict(vgg_tensors)
    weight = tensors.pop("features.14.weight")
    if fault == "shape":
        tensors["features.14.weight"] = weight[:1]
    with pytest.raises(WeightsMismatch, match=r"VGG-16: features\.14\.weight missing"):
        VGGFeatures(tensors)


# ---------------------------------------------------------------- contrast


@pytest.mark.parametrize("window", [3, 11])
def test_local_contrast_by_scipy(window):
    """Sums of at most 121 float32 values in 0..1: 1e-6."""
    x = noise()
    expected = by_scipy(x.double(), lambda z: (z - blurred(z, window)) ** 2)
    assert np.abs(local_contrast(x, window)[:, 0].numpy() - expected).max() < 1e-6


def blurred(array, window):
    return ndimage.uniform_filter(array, window, mode="nearest")


def noise(size=(20, 24)):
    return torch.rand((1, 1, *size), generator=torch.Generator().manual_seed(0))


def test_contrast_mask_prefers_the_more_varied():
    flat, varied = torch.full((1, 1, 20, 24), 0.5), noise()
    assert contrast_mask(varied, flat).float().mean() > 0.99
    assert not contrast_mask(flat, varied).any() and not contrast_mask(varied, varied).any()


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_exactly_one_image_is_followed_everywhere(seed, share):
    generator = torch.Generator().manual_seed(seed)
    ir, vis = torch.randint(4, (2, 1, 1, 9, 12), generator=generator) / 3
    objects = torch.rand((1, 1, 9, 12), generator=generator) < share
    ir_mask, vis_mask = source_masks(ir, vis, objects)
    assert torch.equal(ir_mask + vis_mask, torch.ones_like(ir))
    assert torch.equal(ir_mask == 1, objects | contrast_mask(ir, vis))


def test_masks_of_another_size():
    objects = torch.zeros(1, 1, 20, 24, dtype=torch.bool)
    with pytest.raises(PairMismatch, match=r"\(1, 1, 20, 23\).*do not belong together"):
        source_masks(noise(), noise((20, 23)), objects)
    with pytest.raises(PairMismatch, match=r"objects of \(1, 1, 20, 23\)"):
        source_masks(noise(), noise(), objects[..., 1:])


# ---------------------------------------------------------------- RefineFuse


def ramp(across, down, size=(9, 11)):
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    return (across * x + down * y)[None, None]


def test_texture_of_ramps():
    """Of slopes 2 and 5 the larger counts, eight times; half of it at the borders it meets."""
    flat, gentle, steep = ramp(0, 0), ramp(0, -2), ramp(5, 0)
    columns = torch.full((11,), 1.0, dtype=torch.float64)
    columns[[0, -1]] = 0.5
    expected = (8 * 5 * columns).mean()
    rows = torch.full((9,), 1.0, dtype=torch.float64)
    rows[[0, -1]] = 0.5
    larger = torch.maximum(40 * columns[None, :], 16 * rows[:, None])
    assert texture_loss(flat, steep, flat).item() == pytest.approx(expected.item())
    assert texture_loss(flat, gentle, steep).item() == pytest.approx(larger.mean().item())
    assert texture_loss(steep, steep, flat).item() == 0
    assert texture_loss(-steep, steep, flat).item() == 0  # the sign is not told


def test_fusion_loss_of_flat_images():
    """One flat image at 0.2, one at 0.8, the result at 0.3: no texture, equal contrast."""
    ir, vis, fused = (torch.full((1, 1, 8, 8), level) for level in (0.2, 0.8, 0.3))
    objects = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    objects[..., :2, :] = True  # a quarter
    expected = {"plain": 0.1 + 0.5, "maximum": 0.5, "masked": 0.25 * 0.1 + 0.75 * 0.5}
    for name, value in expected.items():
        parts = FusionLoss(name)(fused, ir, vis, objects)
        assert parts.intensity.item() == pytest.approx(value)
        assert parts.texture.item() == pytest.approx(0, abs=1e-6)
        assert parts.total.item() == pytest.approx(value, abs=1e-5)


def test_weights_of_the_fusion_loss():
    ir, vis = (image / 255 for image in pair((20, 24)))
    fused, objects = (ir + vis) / 2, torch.zeros(1, 1, 20, 24, dtype=torch.bool)
    for weight, share in ((5.0, 1.0), (2.0, 1.0), (5.0, 0.25), (0.0, 1.0)):
        parts = FusionLoss(texture_weight=weight)(fused, ir, vis, objects, share)
        total = parts.intensity + weight * share * parts.texture
        assert parts.total.item() == pytest.approx(total.item())
    assert FusionLoss().texture_weight == 5


def test_unknown_names():
    with pytest.raises(UnknownName, match=r"intensity loss 'max'.*'maximum'"):
        FusionLoss("max")
    with pytest.raises(UnknownName, match=r"loss variant 'papers'.*'paper'"):
        ReconstructionLoss("papers")
