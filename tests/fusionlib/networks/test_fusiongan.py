"""FusionGAN: re-computed with numpy, and against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.networks.fusiongan import METHOD, FusionGAN
from fusionlib.weights import read_weights
from tests.fusionlib.networks.authors import assert_adapted, error, loaded
from tests.fusionlib.networks.given import signed_images

(RELEASED,) = METHOD.configurations.values()


def network():
    torch.manual_seed(0)
    return FusionGAN()


def test_forward_by_numpy(convolve):
    """float32 against float64: five layers of 2**-24 each, normalised, so 1e-5 of the range."""
    net, pictures = network(), signed_images((5, 7))
    x = np.stack([np.pad(p[0, 0].double().numpy(), 6, mode="edge") for p in pictures])
    for layer in net.layers:
        side = layer.kernel_size[0] // 2
        x = convolve(x, layer, "constant")[:, side:-side, side:-side]
        x -= x.mean(axis=(1, 2), keepdims=True)
        x /= np.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + 1e-5)
        x = np.maximum(x, 0.2 * x)
    expected = np.tanh(convolve(x, net.last, "constant"))
    with torch.inference_mode():
        output = net(*pictures)[0].numpy()
    assert [layer.kernel_size for layer in net.layers] == [(5, 5), (5, 5), (3, 3), (3, 3)]
    assert output.shape == expected.shape == (1, 5, 7)
    assert np.ptp(expected) > 0.1
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


def test_statistics_are_of_the_whole_image():
    """Why there is no radius: a corner changes the opposite one. Other images do not."""
    net, (ir, vis) = network().double(), [x.double() for x in signed_images((30, 30))]
    changed = ir.clone()
    changed[..., -1, -1] += 1
    with torch.inference_mode():
        alone, other = net(ir, vis), net(changed, vis)
        both = net(torch.cat([ir, changed]), torch.cat([vis, vis]))
    assert FusionGAN.radius is None and alone[0, 0, 0, 0] != other[0, 0, 0, 0]
    assert torch.allclose(both, torch.cat([alone, other]), rtol=0, atol=1e-12)


def test_smallest_side():
    """The stated minimum works; a single pixel has no variance."""
    net, side = network(), FusionGAN.min_side
    assert net(*signed_images((side, side))).shape == (1, 1, side, side)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        net(*signed_images((1, 1)))


def test_constant_images_are_finite():
    with torch.inference_mode():
        output = network()(torch.full((1, 1, 6, 9), 0.3), torch.zeros(1, 1, 6, 9))
    assert output.shape == (1, 1, 6, 9) and output.isfinite().all()


def test_tensorflow_names_fill_the_network():
    """The generator's tensors find their place, the checkpoint's others are dropped, ours stay."""
    state = network().state_dict()
    theirs = {"discriminator/layer_1/w_1": torch.zeros(3, 3, 1, 32)}
    for number, layer in enumerate([*(f"layers.{i}" for i in range(4)), "last"], start=1):
        scope = f"fusion_model/layer{number}"
        kernel = state[f"{layer}.weight"].numpy().transpose(2, 3, 1, 0)
        theirs[f"{scope}/w{number}"] = torch.from_numpy(kernel)
        theirs[f"{scope}/b{number}"] = state[f"{layer}.bias"]
        theirs[f"{scope}/BatchNorm/gamma"] = torch.ones(4)
    found = loaded(RELEASED, theirs).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert_adapted(RELEASED.adapt, state, state)


@pytest.mark.realdata
def test_authors_output_under_random_weights(golden, golden_root):
    """Measured: 3.3e-6 of the range. The images carry the authors' padding already."""
    reference = golden("fusiongan_random")
    path = golden_root / "networks" / "fusiongan_random.safetensors"
    net = loaded(RELEASED, read_weights(path))
    ir, vis = (torch.from_numpy(reference[key].transpose(0, 3, 1, 2)) for key in ("ir", "vis"))
    with torch.inference_mode():
        raw = net.fuse_padded(ir, vis).squeeze().numpy()
        inner = [image[..., 6:-6, 6:-6] for image in (ir, vis)]
        assert np.array_equal(net(*inner).squeeze().numpy(), raw)
    assert error(raw, reference["fused"]) <= 1e-4
