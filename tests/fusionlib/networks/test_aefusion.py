"""AEFusion: attention and entropy by their definitions in loops, and the authors' code."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from fusionlib.networks import aefusion
from fusionlib.networks.aefusion import METHOD, AEFusion, AxialAttention, AxialBlock
from tests.fusionlib.networks.given import assert_output, gray_images, loaded
from tests.recipe import recipe_state


def randomise(module, seed=0):
    """Random weights and running statistics, in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(1 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return module.eval()


@pytest.fixture
def small(monkeypatch):
    """The network for 32x32, at a sixty-fourth of the cost; lines of 32, 16, 8 and 4."""
    monkeypatch.setattr(aefusion, "SIDE", 32)
    torch.manual_seed(0)
    net = AEFusion().eval()
    net.autoencoder.last.weight.data.abs_()
    return net


def test_axial_attention_in_loops():
    """In float64, the sums in another order: 1e-12."""
    channels, length = 4, 5
    attention = randomise(AxialAttention(channels, length).double())
    lines = torch.randn(2, channels, length, generator=torch.Generator().manual_seed(1)).double()
    p = {name: tensor.numpy() for name, tensor in attention.state_dict().items()}

    def norm(x, name, channel):
        mean, variance = (p[f"{name}.running_{s}"][channel] for s in ("mean", "var"))
        scaled = (x - mean) / np.sqrt(variance + 1e-5)
        return scaled * p[f"{name}.weight"][channel] + p[f"{name}.bias"][channel]

    half, output = channels // 2, np.zeros((2, channels, length))
    for line, result in zip(lines.numpy(), output, strict=True):
        qkv = p["qkv.weight"][:, :, 0] @ line
        qkv = np.array([norm(x, "qkv_norm", c) for c, x in enumerate(qkv)])
        q, k, v = qkv[:half], qkv[half:channels], qkv[channels:]
        q_place, k_place, v_place = np.split(p["relative"], [half, channels])
        for i in range(length):
            logits = np.zeros(length)
            for j in range(length):
                maps = (
                    sum(q[c, i] * k[c, j] for c in range(half)),
                    sum(q[c, i] * q_place[c, i - j + length - 1] for c in range(half)),
                    sum(k[c, j] * k_place[c, j - i + length - 1] for c in range(half)),
                )
                logits[j] = sum(norm(x, "similarity_norm", m) for m, x in enumerate(maps))
            weights = np.exp(logits) / np.exp(logits).sum()
            for c in range(channels):
                content = sum(weights[j] * v[c, j] for j in range(length))
                place = sum(weights[j] * v_place[c, i - j + length - 1] for j in range(length))
                result[c, i] = norm(content, "output_norm", 2 * c) + norm(
                    place, "output_norm", 2 * c + 1
                )
    assert_output(lambda x: attention(x)[None], [lines], output, 1e-12)


def test_axial_attention_in_training():
    """With running statistics it is the same sum; with those of the batch it is another."""
    attention = randomise(AxialAttention(4, 5).double())
    lines = torch.randn(70, 4, 5, generator=torch.Generator().manual_seed(1)).double()
    expected = attention(lines)
    attention.training = True
    torch.testing.assert_close(attention(lines), expected)
    attention.train()
    counted = int(attention.qkv_norm.num_batches_tracked)
    assert not torch.allclose(attention(lines), expected)
    # All 70 lines are one batch, though in evaluation fewer are run at once.
    assert attention.qkv_norm.num_batches_tracked == counted + 1
    attention(lines).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in attention.parameters())


def test_axial_block_goes_down_columns_then_along_rows():
    """Each line by itself, so 1e-12 in float64."""
    block = randomise(AxialBlock(4, 3).double())
    x = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    with torch.inference_mode():
        y = torch.relu(block.down_norm(block.down(x)))
        columns = torch.stack([block.height(y[..., w]) for w in range(3)], dim=3)
        rows = torch.stack([block.width(columns[:, :, h]) for h in range(3)], dim=2)
        expected = torch.relu(block.up_norm(block.up(torch.relu(rows))) + x)
        torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_activation():
    """float32: softplus(2x) is halved, so 1e-6 of the range."""
    x = np.linspace(-30, 30, 241)
    expected = np.maximum((np.logaddexp(0, 2 * x) - np.log(2)) / 2, 0)
    found = aefusion.shifted_softplus(torch.from_numpy(x).float()).numpy()
    assert np.abs(found - expected).max() <= 1e-6 * 30


def test_autoencoder_ends_each_block_with_attention(small):
    """Convolution, activation, convolution, activation, attention; the last layer is active too."""
    net, (image, _) = small.autoencoder, gray_images((32, 32))
    act = aefusion.shifted_softplus
    with torch.inference_mode():
        block = net.encoder[0]
        x = act(block.point(act(block.wide(act(net.first(image))))))
        features = net.encode(image)
        assert torch.equal(features[0], block.attention(x))
        assert net.decode(features).min() > 0
    sides = [block.attention.height.length for block in net.encoder]
    assert sides == [32, 16, 8, 4]
    assert net.decoder["1_2"].attention.width.length == 16


def entropy_in_loops(image):
    """Bits, from the levels in the disc of 149 pixels, those outside the image left out."""
    result = np.zeros(image.shape)
    around = [(y, x) for y, x in itertools.product(range(-7, 8), repeat=2) if y * y + x * x <= 49]
    assert len(around) == 149
    for row, column in np.ndindex(image.shape):
        places = [(row + y, column + x) for y, x in around]
        inside = [
            image[y, x] for y, x in places if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
        ]
        _, counts = np.unique(inside, return_counts=True)
        share = counts / len(inside)
        result[row, column] = -(share * np.log2(share)).sum()
    return result


def test_local_entropy_in_loops():
    """Each image of a batch is stretched by itself; float32 output."""
    features = torch.rand(2, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    features[0, :, :6] *= 0.02
    found = aefusion.local_entropy(features)
    assert found.shape == (2, 1, 12, 17)
    for maps, entropy in zip(features.numpy(), found[:, 0].numpy(), strict=True):
        total = maps.sum(axis=0)
        levels = np.rint((total - total.min()) / (total.max() - total.min()) * 255)
        np.testing.assert_allclose(entropy, entropy_in_loops(levels), atol=1e-6)


@pytest.mark.parametrize("pooling", METHOD.configurations)
def test_fusion_by_numpy(pooling):
    """float32 against float64, a dozen operations: 1e-6 of the range."""
    rng = np.random.default_rng(0)
    ir, vis = rng.random((2, 3, 20, 17)) * [[[0.5]], [[2]], [[1]]]
    ir[:, :8] *= 0.01

    def weigh(a, b):
        a, b = np.exp(a), np.exp(b)
        return (a * ir + b * vis) / (a + b + 1e-5)

    def entropy(maps):
        total = maps.astype(np.float32).sum(axis=0)
        return entropy_in_loops(np.rint((total - total.min()) / (total.max() - total.min()) * 255))

    pool = {"average": np.mean, "nuclear": lambda x: np.linalg.norm(x + 1e-5, "nuc")}[pooling]
    p, q = (np.array([pool(x) for x in maps])[:, None, None] for maps in (ir, vis))
    by_channel = (p * ir + q * vis) / (p + q + 1e-5)
    expected = (
        by_channel + weigh(ir.mean(axis=0), vis.mean(axis=0)) + weigh(entropy(ir), entropy(vis))
    ) / 3
    tensors = [[torch.from_numpy(x).float()[None]] for x in (ir, vis)]
    (fused,) = METHOD.configurations[pooling].build().fuse_features(*tensors)
    assert np.abs(fused[0].numpy() - expected).max() <= 1e-6 * np.ptp(expected)


def test_other_sizes_are_resized_like_opencv(monkeypatch):
    """Its fixed point, 2**-11 per weight, makes one level of difference at most."""
    net, (ir, vis) = AEFusion(), [x.round() for x in gray_images((40, 300))]
    seen = []

    def fuse(*pair):
        seen.extend(pair)
        return (pair[0] + pair[1]) / 2

    monkeypatch.setattr(net, "fuse_square", fuse)
    output = net(ir, vis)[0, 0].numpy()
    square = [
        cv2.resize(x[0, 0].byte().numpy(), (256, 256), interpolation=cv2.INTER_CUBIC).astype(float)
        for x in (ir, vis)
    ]
    for found, expected in zip(seen, square, strict=True):
        difference = np.abs(found[0, 0].numpy() - expected)
        assert difference.max() <= 1 and np.mean(difference > 0) <= 0.02
    mean = ((seen[0] + seen[1]) / 2)[0, 0].numpy()
    back = cv2.resize(mean, (300, 40), interpolation=cv2.INTER_CUBIC)
    # Positions up to 256 are 2**-16 off in float32, over steps of up to 255 levels.
    assert np.abs(output - back.clip(mean.min(), mean.max())).max() <= 1e-2
    assert back.max() > mean.max(), "no overshoot, so the clipping is not tested"


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (17, 45)])
def test_any_size(small, size):
    ir, vis = gray_images(size)
    with torch.inference_mode():
        output = small(ir, vis)
        assert output.shape == ir.shape and output.isfinite().all()
        torch.testing.assert_close(output, small(vis, ir))


def test_constant_images(small):
    black, white = torch.zeros(1, 1, 32, 32), torch.full((1, 1, 32, 32), 255.0)
    assert small(black, white).isfinite().all() and small(black, black).isfinite().all()
    assert not aefusion.local_entropy(black).any()


def test_authors_names_fill_the_network():
    """Every tensor of the authors finds its place, also by value."""
    theirs = recipe_state("aefusion")
    assert sum(tensor.numel() for tensor in theirs.values()) == 3_593_941
    state = loaded(METHOD.default, theirs).state_dict()
    for ours, name in {
        "first.bias": "conv0.conv2d.bias",
        "encoder.2.attention.down.weight": "DB3_0.denseblock.2.conv_down.weight",
        "encoder.0.attention.up_norm.running_var": "DB1_0.denseblock.2.bn2.running_var",
        "decoder.0_3.wide.bias": "DB1_3.denseblock.0.conv2d.bias",
        "decoder.1_1.attention.height.relative": "DB2_1.denseblock.2.hight_block.relative",
        "decoder.2_1.attention.width.qkv.weight": (
            "DB3_1.denseblock.2.width_block.qkv_transform.weight"
        ),
        "encoder.3.attention.width.similarity_norm.bias": (
            "DB4_0.denseblock.2.width_block.bn_similarity.bias"
        ),
    }.items():
        assert torch.equal(state[f"autoencoder.{ours}"], theirs[name])


@pytest.mark.realdata
def test_authors_output(golden):
    """Single pixels differ by 4e-5 of the range, where a feature's level sits on a rounding
    boundary of the entropy; tests/test_parity.py holds the whole image against theirs.
    """
    reference = golden("aefusion_recipe")
    pair = [
        torch.from_numpy(reference[key].reshape(1, 1, 256, 256)).float() for key in ("ir", "vis")
    ]
    net = loaded(METHOD.default, recipe_state("aefusion"))
    assert_output(net, pair, reference["fused"].reshape(1, 256, 256), 1e-3)
