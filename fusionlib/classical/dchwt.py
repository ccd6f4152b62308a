"""DCHWT: discrete cosine harmonic wavelets, averaged by the significance of each coefficient.

B. K. Shreyamsha Kumar, "Multifocus and multispectral image fusion based on pixel significance
using discrete cosine harmonic wavelet transform", Signal, Image and Video Processing 7, 2013,
doi 10.1007/s11760-012-0361-x.

One orthonormal DCT of the whole image; its plane of coefficients is split dyadically, three
times; each block, brought back by its own inverse DCT, is a sub-band. A coefficient weighs what
it and all its descendants in the finer bands of its orientation have in magnitude; in the
finest bands, which have none, the mean square of 3x3 neighbours (the authors' text calls the
border periodic; their code mirrors it). The approximation weighs what the three coarsest
details at its place weigh together. Every sub-band becomes the weighted average of the two.

Sides must be divisible by 8. Of others, the authors' code leaves out the highest frequencies: the
result has the next smaller size, a little too bright, is rounded to 8 bits and enlarged by
MATLAB's bicubic ``imresize``. That lowers both FMI in Res2NetFuse's Table IV by 5 to 8 %.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import uniform_filter

from ..card import Configuration, MethodSpec
from . import Algorithm

__all__ = ["DCHWT", "METHOD", "analyse", "average", "bicubic", "significance", "synthesise"]

LEVELS = 3
STEP = 1 << LEVELS
WHITE = 255

# Three sub-bands of one level: top right, bottom left and bottom right of the coefficients.
Details = list[np.ndarray]


def analyse(image: np.ndarray) -> tuple[np.ndarray, list[Details]]:
    """Decompose an image (H, W), at least 8 a side, into an approximation and three `Details`.

    The approximation is (H // 8, W // 8), the first, finest details are of half the height and
    width. Frequencies beyond the next smaller multiples of 8 are left out.
    """
    plane = dctn(image, norm="ortho")
    height, width = (side // STEP * STEP for side in image.shape)
    details = []
    for _ in range(LEVELS):
        low, high = slice(0, height // 2), slice(height // 2, height)
        left, right = slice(0, width // 2), slice(width // 2, width)
        blocks = (plane[low, right], plane[high, left], plane[high, right])
        details.append([idctn(block, norm="ortho") for block in blocks])
        height, width = height // 2, width // 2
    return idctn(plane[:height, :width], norm="ortho"), details


def synthesise(approximation: np.ndarray, details: list[Details]) -> np.ndarray:
    """Undo `analyse`, but for the frequencies that it left out."""
    plane = dctn(approximation, norm="ortho")
    for level in reversed(details):
        top_right, bottom_left, bottom_right = (dctn(band, norm="ortho") for band in level)
        plane = np.block([[plane, top_right], [bottom_left, bottom_right]])
    return idctn(plane, norm="ortho")


def significance(details: list[Details]) -> tuple[np.ndarray, list[Details]]:
    """Weigh every coefficient; shapes as from `analyse`, values of 0 or greater."""
    weights = [[uniform_filter(band**2, 3, mode="mirror") for band in details[0]]]
    below = [np.abs(band) for band in details[0]]
    for level in details[1:]:
        below = [np.abs(band) + _quads(finer) for band, finer in zip(level, below, strict=True)]
        weights.append(below)
    top_right, bottom_left, bottom_right = weights[-1]
    return top_right + bottom_left + bottom_right, weights


def _quads(band: np.ndarray) -> np.ndarray:
    """Sum each block of 2x2."""
    height, width = band.shape
    return band.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3))


def average(x: np.ndarray, y: np.ndarray, of_x: np.ndarray, of_y: np.ndarray) -> np.ndarray:
    """Average two arrays with weights 0 or greater of any scale; the mean where both are 0."""
    total = of_x + of_y
    share = np.divide(of_x, total, out=np.full_like(total, 0.5), where=total > 0)
    return share * x + (1 - share) * y


def bicubic(levels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarge an image of whole gray levels as MATLAB's ``imresize`` does, to whole levels.

    Cubic convolution with a = -0.5, pixels by their centres, the border mirrored, one axis after
    the other (the less enlarged first), each rounded and clipped to 0..255. A smaller `shape`
    would need a wider kernel.
    """
    axes = sorted((0, 1), key=lambda axis: shape[axis] / levels.shape[axis])
    for axis in axes:
        if shape[axis] != levels.shape[axis]:
            matrix = _interpolation(levels.shape[axis], shape[axis])
            levels = _rounded(matrix @ levels if axis == 0 else levels @ matrix.T)
    return levels


def _interpolation(old: int, new: int) -> np.ndarray:
    """Make the matrix (new, old) that interpolates one axis."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    places = np.floor(centres).astype(int)[:, None] + np.arange(-1, 3)
    weights = _cubic(np.abs(centres[:, None] - places))
    mirrored = np.concatenate([np.arange(old), np.arange(old)[::-1]])
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], mirrored[places % (2 * old)]), weights)
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5 at distances 0..2."""
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, far)


def _rounded(levels: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(levels, 0, WHITE) + 0.5)


class DCHWT(Algorithm):
    """The DCHWT method, on gray levels 0..255."""

    min_side = STEP
    size = "sides not divisible by 8 lose their highest frequencies and are enlarged again"

    def fuse(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Fuse two images (H, W), at least 8 a side, into one; whole levels if it is enlarged."""
        bands = [analyse(image) for image in (ir, vis)]
        coarse, fine = zip(*bands, *(significance(details) for _, details in bands), strict=True)
        details = [list(map(average, *level)) for level in zip(*fine, strict=True)]
        fused = synthesise(average(*coarse), details)
        height, width = ir.shape
        return fused if fused.shape == ir.shape else bicubic(_rounded(fused), (height, width))


METHOD = MethodSpec(
    name="dchwt",
    title="DCHWT",
    paper="Shreyamsha Kumar, Multifocus and multispectral image fusion based on pixel significance "
    "using discrete cosine harmonic wavelet transform, Signal, Image and Video Processing 7, 2013",
    doi="10.1007/s11760-012-0361-x",
    year=2013,
    kind="wavelet transform",
    licence="permissive, with attribution",
    axis="pipeline",
    configurations={
        "released": Configuration(
            summary="MATLAB release; three levels, rounded",
            build=DCHWT,
            own_rule="significance",
            weights=(),
            post="clip",
            quantise="round",
        ),
    },
)
