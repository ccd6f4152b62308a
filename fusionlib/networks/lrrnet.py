"""LRRNet: a low-rank and sparse model of each image, solved by unrolled iterations.

An image is taken for the sum of a low-rank and a sparse part, each a dictionary applied to 128
channels of code. Every modality has a branch of its own that finds the codes: a first guess and
four steps of an iterative solver whose dictionaries, thresholds and step weight are learnt. One map
is read from the low-rank and one from the sparse code; two convolutions fuse the maps of the two
modalities, and their sum is the image.

49,204 parameters; every convolution is 3x3 with reflect padding, and soft-thresholding is the only
nonlinearity. As the range is widened by 1e-5 in the end, the brightest pixel becomes 254.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_minmax
from ..weights import weight_files
from .network import FusionNetwork, conv, rename

__all__ = ["METHOD", "Branch", "LRRNet", "soft_threshold"]

CODES = 128  # channels of the low-rank code, and of the sparse code
STEPS = 4


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """Return ``sign(x) max(|x| - threshold, 0)`` of (B, C, H, W) and thresholds (1, C).

    A negative threshold, which training does not rule out, moves values away from zero.
    """
    # In place as far as autograd allows: these tensors are large.
    return x.abs().sub_(threshold[..., None, None]).relu_().mul(x.sign())


class Branch(nn.Module):
    """One modality: codes by unrolled iterations, then a map from each code."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 2 * CODES, 3)
        self.synthesis = nn.ModuleList(conv(2 * CODES, 1, 3) for _ in range(STEPS))
        self.analysis = nn.ModuleList(conv(1, 2 * CODES, 3) for _ in range(STEPS))
        # Of a step's input in its result; as the threshold, the same in every step.
        self.inertia = nn.Parameter(torch.rand(1, 1))
        self.threshold = nn.Parameter(torch.rand(1, 2 * CODES))
        self.low_rank = conv(CODES, 1, 3)
        self.sparse = conv(CODES, 1, 3)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Split an image (B, 1, H, W) into a low-rank and a sparse map of that shape."""
        codes = soft_threshold(self.first(image), self.threshold)
        for synthesis, analysis in zip(self.synthesis, self.analysis, strict=True):
            unexplained = image - synthesis(codes)
            codes = torch.addcmul(analysis(unexplained), self.inertia, codes)
            codes = soft_threshold(codes, self.threshold)
        low_rank, sparse = codes.chunk(2, dim=1)
        return self.low_rank(low_rank), self.sparse(sparse)


class LRRNet(FusionNetwork):
    """The LRRNet network: a branch for each modality, then one convolution for each part."""

    radius = 11  # in a branch nine 3x3 convolutions for the codes, one for the maps; one fuses
    min_side = 2
    last_layers = ("low_rank", "sparse")

    def __init__(self) -> None:
        super().__init__()
        self.ir, self.vis = Branch(), Branch()
        self.low_rank = conv(2, 1, 3)
        self.sparse = conv(2, 1, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W), not clipped."""
        low_rank, sparse = zip(self.ir(ir), self.vis(vis), strict=True)
        return self.low_rank(torch.cat(low_rank, dim=1)) + self.sparse(torch.cat(sparse, dim=1))


# The authors call the parts Z and U, the modalities x and y.
NAMES = {
    r"\.conv2d\.": ".",
    r"^get_ls1\.": "ir.",
    r"^get_ls2\.": "vis.",
    r"\.lamz$": ".inertia",
    r"\.lamj$": ".threshold",
    r"\.conv_W00\.": ".first.",
    r"\.lrrblock(\d)\.conv_Wdz\.": r".synthesis.\1.",
    r"\.lrrblock(\d)\.conv_Wdtz\.": r".analysis.\1.",
    r"^decoder\.conv_ReZx\.": "ir.low_rank.",
    r"^decoder\.conv_ReUx\.": "ir.sparse.",
    r"^decoder\.conv_ReZy\.": "vis.low_rank.",
    r"^decoder\.conv_ReUy\.": "vis.sparse.",
    r"^decoder\.conv_ReL\.": "low_rank.",
    r"^decoder\.conv_ReH\.": "sparse.",
}

METHOD = MethodSpec(
    name="lrrnet",
    title="LRRNet",
    paper="Li, Xu, Wu, Lu and Kittler, LRRNet: A Novel Representation Learning Guided Fusion "
    "Network for Infrared and Visible Images, IEEE TPAMI 45(9), 2023",
    doi="10.1109/TPAMI.2023.3268209",
    year=2023,
    kind="convolutional",
    configurations={
        "released": Configuration(
            summary="PyTorch release; images stretched before, the result after, truncated",
            build=LRRNet,
            weights=weight_files("lrrnet"),
            post="minmax_eps",
            quantise="truncate",
            levels=Levels(0, 1),
            prepare=prepare_minmax,
            adapt=partial(rename, NAMES),
        ),
    },
)
