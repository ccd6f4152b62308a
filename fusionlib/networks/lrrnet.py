"""LRRNet: a low-rank and sparse model of each image, solved by unrolled iterations.

H. Li, T. Xu, X.-J. Wu, J. Lu, J. Kittler, "LRRNet: A Novel Representation Learning Guided
Fusion Network for Infrared and Visible Images", IEEE Trans. Pattern Anal. Mach. Intell.
45(9), 2023, doi 10.1109/TPAMI.2023.3268209.

An image is taken for the sum of a low-rank and a sparse part, each a dictionary applied
to 128 channels of code. Every modality has a branch of its own that finds the codes: a
first guess and four steps of an iterative solver whose dictionaries, thresholds and step
weight are learnt. One map is read from the low-rank and one from the sparse code; two
convolutions fuse the maps of the two modalities, and their sum is the image.

49,204 parameters; every convolution is 3x3 with reflect padding, and soft-thresholding is
the only nonlinearity. Each image is stretched to 0..1 first. The result is stretched to
0..255 with 1e-5 added to its range and truncated, so the brightest pixel becomes 254. With
codes of 256 channels the network is slower than its few parameters suggest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..card import Configuration, MethodSpec
from ..pipelines import Levels, prepare_minmax
from ..weights import weight_files
from .autoencoder import conv, rename_layers
from .network import FusionNetwork

__all__ = ["METHOD", "Branch", "LRRNet", "soft_threshold"]

CODES = 128  # channels of the low-rank code, and of the sparse code
STEPS = 4


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """Move values towards zero by a threshold, those below it to zero.

    A negative threshold, which training does not rule out, moves them away from zero.

    Parameters
    ----------
    x : Tensor, shape (B, C, H, W)
    threshold : Tensor, shape (1, C)

    Returns
    -------
    Tensor, shape (B, C, H, W)
        ``sign(x) max(|x| - threshold, 0)``.
    """
    # In place as far as autograd allows: these tensors are large.
    return x.abs().sub_(threshold[..., None, None]).relu_().mul(x.sign())


class Branch(nn.Module):
    """One modality: codes by unrolled iterations, then a map from each code.

    `inertia` is the weight of a step's input in its result; it and `threshold` are the same
    in every step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 2 * CODES, 3)
        self.synthesis = nn.ModuleList(conv(2 * CODES, 1, 3) for _ in range(STEPS))
        self.analysis = nn.ModuleList(conv(1, 2 * CODES, 3) for _ in range(STEPS))
        self.inertia = nn.Parameter(torch.rand(1, 1))
        self.threshold = nn.Parameter(torch.rand(1, 2 * CODES))
        self.low_rank = conv(CODES, 1, 3)
        self.sparse = conv(CODES, 1, 3)

    def encode(self, image: Tensor) -> Tensor:
        """Turn an image (B, 1, H, W) into codes (B, 256, H, W), the low-rank half first."""
        codes = soft_threshold(self.first(image), self.threshold)
        for synthesis, analysis in zip(self.synthesis, self.analysis, strict=True):
            unexplained = image - synthesis(codes)
            codes = torch.addcmul(analysis(unexplained), self.inertia, codes)
            codes = soft_threshold(codes, self.threshold)
        return codes

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Split an image (B, 1, H, W) into a low-rank and a sparse map of that shape."""
        low_rank, sparse = self.encode(image).chunk(2, dim=1)
        return self.low_rank(low_rank), self.sparse(sparse)


class LRRNet(FusionNetwork):
    """The LRRNet network: a branch for each modality, then one convolution for each part."""

    # In a branch nine 3x3 convolutions for the codes and one for the maps; one fuses them.
    radius = 11
    # Reflect padding by one pixel needs two.
    min_side = 2
    last_layers = ("low_rank", "sparse")

    def __init__(self) -> None:
        super().__init__()
        self.ir = Branch()
        self.vis = Branch()
        self.low_rank = conv(2, 1, 3)
        self.sparse = conv(2, 1, 3)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse (B, 1, H, W) and (B, 1, H, W) in 0..1 into (B, 1, H, W), not clipped."""
        low_rank, sparse = zip(self.ir(ir), self.vis(vis), strict=True)
        return self.low_rank(torch.cat(low_rank, dim=1)) + self.sparse(torch.cat(sparse, dim=1))


def _adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' tensors; they call the parts Z and U, the modalities x and y."""
    layers = {"decoder.conv_ReL": "low_rank", "decoder.conv_ReH": "sparse"}
    names: dict[str, str] = {}
    for ours, theirs, letter in (("ir", "get_ls1", "x"), ("vis", "get_ls2", "y")):
        names |= {f"{theirs}.lamz": f"{ours}.inertia", f"{theirs}.lamj": f"{ours}.threshold"}
        layers[f"{theirs}.conv_W00"] = f"{ours}.first"
        for i in range(STEPS):
            layers[f"{theirs}.lrrblock{i}.conv_Wdz"] = f"{ours}.synthesis.{i}"
            layers[f"{theirs}.lrrblock{i}.conv_Wdtz"] = f"{ours}.analysis.{i}"
        layers[f"decoder.conv_ReZ{letter}"] = f"{ours}.low_rank"
        layers[f"decoder.conv_ReU{letter}"] = f"{ours}.sparse"
    tensors = {names.get(name, name): tensor for name, tensor in tensors.items()}
    layers = {f"{theirs}.conv2d": ours for theirs, ours in layers.items()}
    return rename_layers(tensors, layers)


METHOD = MethodSpec(
    name="lrrnet",
    title="LRRNet",
    paper="Li, Xu, Wu, Lu and Kittler, LRRNet: A Novel Representation Learning Guided Fusion "
    "Network for Infrared and Visible Images, IEEE TPAMI 45(9), 2023",
    doi="10.1109/TPAMI.2023.3268209",
    year=2023,
    kind="convolutional",
    licence="none stated",
    axis="pipeline",
    configurations={
        "released": Configuration(
            summary="PyTorch release; images stretched before, the result after, truncated",
            build=LRRNet,
            weights=weight_files("lrrnet"),
            post="minmax_eps",
            quantise="truncate",
            levels=Levels(0, 1),
            prepare=prepare_minmax,
            adapt=_adapt,
        ),
    },
)
