"""MST: a Laplacian pyramid whose low frequencies favour hot targets.

J. Chen, X. Li, L. Luo, X. Mei, J. Ma, "Infrared and visible image fusion based on target-enhanced
multiscale transform decomposition", Information Sciences 508, 2020, doi 10.1016/j.ins.2019.08.066.

Both images are taken apart into a Laplacian pyramid. Of the details, the larger in magnitude is
kept. Of the low frequencies, the infrared ones weigh arctan(10 R) / arctan(10), R their magnitude
over its maximum: a pixel of 30 % of the brightest weighs 85 %; the visible ones weigh the rest.

No code was released, and the text at hand is the abstract. This reading has one level and OpenCV's
filter and borders. It gives RefineFuse's Table 3 (TNO), all seven columns to 3e-5. Its Table 1
(MSRS) comes out within 1.2 % on a third of the pairs, but with the images exchanged, so that the
visible one decides (pipeline "exchanged"); as the text says, it is up to 34 % off. `python -m
benchmarks.mst` lists other levels and weights that were tried.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from ..card import Configuration, MethodSpec
from . import Algorithm

__all__ = ["METHOD", "MST", "decompose", "low_weight", "reconstruct"]

REGULARISATION = 10.0


def decompose(image: np.ndarray, levels: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Take an image (H, W) apart into a Laplacian pyramid.

    Returns the low frequencies, H and W halved `levels` times, rounded up, and the details, the
    finest first, of the image's own size.
    """
    details = []
    for _ in range(levels):
        low = cv2.pyrDown(image)
        details.append(image - _enlarged(low, image))
        image = low
    return image, details


def reconstruct(low: np.ndarray, details: list[np.ndarray]) -> np.ndarray:
    """Undo `decompose`."""
    for detail in reversed(details):
        low = _enlarged(low, detail) + detail
    return low


def _enlarged(low: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.pyrUp(low, dstsize=like.shape[::-1])


def low_weight(low: np.ndarray, regularisation: float = REGULARISATION) -> np.ndarray:
    """Weigh low frequencies by how bright they are, from 0 for black to 1 for the brightest.

    The greater the regularisation is, above 0, the more moderately bright pixels count.
    """
    magnitude = np.abs(low)
    most = magnitude.max()
    relative = magnitude / most if most > 0 else magnitude
    return np.arctan(regularisation * relative) / np.arctan(regularisation)


class MST(Algorithm):
    """The MST method, on gray levels 0..255, by a pyramid of `levels`.

    `exchanged`: the visible image's brightness decides instead of the infrared one's.
    """

    def __init__(
        self, exchanged: bool = False, levels: int = 1, regularisation: float = REGULARISATION
    ) -> None:
        self._exchanged = exchanged
        self._levels = levels
        self._regularisation = regularisation

    def fuse(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Fuse two images (H, W) into one, not clipped."""
        first, second = (vis, ir) if self._exchanged else (ir, vis)
        low, details = decompose(first, self._levels)
        other_low, other_details = decompose(second, self._levels)
        weight = low_weight(low, self._regularisation)
        fused = [
            np.where(np.abs(one) >= np.abs(other), one, other)
            for one, other in zip(details, other_details, strict=True)
        ]
        return reconstruct(weight * low + (1 - weight) * other_low, fused)


SUMMARIES = {
    "text": "the infrared image decides, as the paper says",
    "exchanged": "the visible image decides, as RefineFuse seems to have used it on MSRS",
}

METHOD = MethodSpec(
    name="mst",
    title="MST",
    paper="Chen, Li, Luo, Mei and Ma, Infrared and visible image fusion based on target-enhanced "
    "multiscale transform decomposition, Information Sciences 508, 2020",
    doi="10.1016/j.ins.2019.08.066",
    year=2020,
    kind="Laplacian pyramid",
    licence="no code released",
    axis="pipeline",
    configurations={
        name: Configuration(
            summary=summary,
            build=partial(MST, name == "exchanged"),
            own_rule="target-enhanced",
            weights=(),
            post="clip",
            quantise="round",
        )
        for name, summary in SUMMARIES.items()
    },
)
