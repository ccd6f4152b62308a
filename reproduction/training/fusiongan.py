"""FusionGAN's training: a generator close to both images, against a discriminator.

As the authors' ``model.py``: two steps of the discriminator, which tells visible images from
fused ones, then one of the generator. Least squares with labels that are drawn anew: 0.7 to
1.2 for visible images and for what the generator wants, 0 to 0.3 for fused ones.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from fusionlib.losses import laplacian
from fusionlib.networks.fusiongan import BORDER, NORM_EPS, SLOPE, FusionGAN

from .recipe import LARGE, Descend, Images, Losses, Moment, Recipe, Stage

#: Ranges from which labels are drawn.
REAL, FAKE = (0.7, 1.2), (0.0, 0.3)
DISCRIMINATOR_STEPS = 2
CONTENT, GRADIENT = 100, 5
# Of truncated normal initial weights, as released.
INITIAL = 1e-3
# Side of the features that the discriminator weighs at the end.
LAST_SIDE = 6
# The discriminator's last normalisation needs more than a pixel of a single image.
SMALLEST = 47 + 2 * BORDER


class Discriminator(nn.Module):
    """Four convolutions of stride 2 and a linear layer: how real an image looks."""

    def __init__(self) -> None:
        super().__init__()
        channels = (1, 32, 64, 128, 256)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, NORM_EPS) for c in channels[2:])
        self.last = nn.Linear(channels[-1] * LAST_SIDE**2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Rate images (B, 1, H, W) in -1..1: (B, 1)."""
        x = image
        for layer, norm in zip(self.layers, (nn.Identity(), *self.norms), strict=True):
            x = F.leaky_relu(norm(layer(x)), SLOPE)
        # Nothing is pooled at the published 120x120.
        return self.last(F.adaptive_avg_pool2d(x, LAST_SIDE).flatten(1))


class FusionGANRecipe(Recipe):
    """Adversarial loss and 100 times the distance to infrared levels and visible gradients."""

    method = "fusiongan"
    learns_from = "pairs"
    sampling = "crop"
    sizes = range(SMALLEST, LARGE)
    published = (
        "64,381 patches of 45 pairs of TNO 10 times; the weights of the published tables are "
        "those after 3 times"
    )
    departures = (
        "Patches from random places instead of a grid.",
        "The generator normalises each patch by its own statistics, without learnt scale and "
        "offset, as it does when used; the authors by the batch's, with them.",
        "The weights are kept divided by their spectral norms, as the generator was trained; the "
        "authors' test reads them undivided.",
    )

    def __init__(self) -> None:
        super().__init__()
        self.network = FusionGAN()
        self.discriminator = Discriminator()
        for layer in _layers(self):
            nn.init.trunc_normal_(layer.weight, std=INITIAL, a=-2 * INITIAL, b=2 * INITIAL)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            spectral_norm(layer)

    def trained(self) -> nn.Module:
        """Return the generator, its weights divided by their norms."""
        self.eval()  # in training every look at a weight moves its norm on
        network = FusionGAN()
        with torch.no_grad():
            for layer, source in zip(_layers(network), _layers(self.network), strict=True):
                assert layer.bias is not None and source.bias is not None
                layer.weight.copy_(source.weight)
                layer.bias.copy_(source.bias)
        self.train()
        return network

    def compete(self, images: Images, moment: Moment, descend: Descend) -> Losses:
        """Improve the discriminator, then the generator."""
        ir, vis = (image / 127.5 - 1 for image in images)
        fused = self.network.fuse_padded(ir, vis)
        inner = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
        ir, vis = ir[inner], vis[inner]

        def miss(scores: Tensor, labels: tuple[float, float]) -> Tensor:
            drawn = moment.random.uniform(*labels, scores.shape)
            return F.mse_loss(scores, torch.from_numpy(drawn).to(scores))

        for _ in range(DISCRIMINATOR_STEPS):
            with parametrize.cached():
                real, fake = self.discriminator(vis), self.discriminator(fused.detach())
            discriminator = miss(real, REAL) + miss(fake, FAKE)
            descend(discriminator, "discriminator")
        adversarial = miss(self.discriminator(fused), REAL)
        content = F.mse_loss(fused, ir) + GRADIENT * F.mse_loss(laplacian(fused), laplacian(vis))
        total = adversarial + CONTENT * content
        descend(total, "network")
        losses = {"adversarial": adversarial, "content": content, "discriminator": discriminator}
        return {"total": total, **losses}

    # 64,381 patches, 10 times.
    stages = (
        Stage(
            *("adversarial", compete, 10 * (64_381 // 32), 32, 132),
            {"network": 1e-4, "discriminator": 1e-4},
        ),
    )


def _layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


RECIPE = FusionGANRecipe
