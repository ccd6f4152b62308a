"""JSR: joint sparse representation, private parts weighted by their l1 norms.

Q. Zhang, Y. Fu, H. Li, J. Zou, "Dictionary learning method for joint sparse representation-based
image fusion", Optical Engineering 52(5), 2013, doi 10.1117/1.OE.52.5.057006; as distributed with
JSRSD (C. Liu, Y. Qi, W. Ding, 2017) and compared with in Res2NetFuse's Table IV.

The patches of both images at the same place are coded together (`JointPursuit`): 16 atoms for
what is common and what is private to either. All 7x7 patches, one pixel apart, mean included.
The codes common to both images are kept; those private to one are multiplied by their l1 norm over
the larger of the two norms. The common atoms of the joint dictionary are D / sqrt 2, but the fused
patch is made with D: what is common comes out brighter by sqrt 2. The result saturates at black and
white.

The fused patches are put back in raster order, each averaged with what is there already: a later
patch counts twice as much as the one before it, and the first ones meet the black of an empty
image, so the corners are darker. That is what the authors' code does, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from ..card import Configuration, MethodSpec
from ..pipelines import Levels
from ..weights import weight_files
from . import Algorithm
from .dictionary import (
    ATOMS,
    SIDE,
    DictionarySource,
    FixedDictionary,
    LearntDictionaries,
    PublishedDictionaries,
    columns,
    patches,
)
from .pursuit import SPARSITY, Codes, JointPursuit

__all__ = ["JSR", "METHOD", "average_patches", "dictionary_configurations", "l1_norms", "relative"]

# Patches whose fused versions are held at once; JSRSD holds all coefficients of as many.
STRIP = 8192


def l1_norms(codes: Codes) -> np.ndarray:
    """Return the l1 norms (2, N) of the coefficients that are private to either image."""
    kinds, sizes = codes.atoms // ATOMS, np.abs(codes.values)
    return np.stack([np.sum(sizes, axis=0, where=kinds == kind) for kind in (1, 2)])


def relative(activities: np.ndarray) -> np.ndarray:
    """Divide activities (2, ...) by the larger one at each place; both 0 stay 0."""
    largest = activities.max(axis=0)
    return np.divide(activities, largest, out=np.zeros_like(activities), where=largest > 0)


def average_patches(image: np.ndarray, strip: np.ndarray, top: int) -> None:
    """Put fused patches into an image in raster order, each averaged with what is there.

    `strip` (49, rows, W - 6) has the patches of some rows of the grid, `top` the first of them, as
    vectors, column after column.
    """
    rows, width = strip.shape[1:]
    pixels = strip.reshape(SIDE, SIDE, rows, width)
    # Of the patches over a pixel, the first in raster order show it farthest down, then right.
    for down in reversed(range(SIDE)):
        for right in reversed(range(SIDE)):
            part = image[top + down : top + down + rows, right : right + width]
            part += pixels[right, down]
            part /= 2


class JSR(Algorithm):
    """The JSR method, on gray levels 0..1, with a dictionary from `source`."""

    min_side = SIDE
    #: What the common coefficients are multiplied by: D, not D / sqrt 2, rebuilds the common part.
    common = 1.0

    def __init__(self, source: DictionarySource) -> None:
        self._source = source
        self.learnt = source.learnt

    def load(self, tensors: Mapping[str, Tensor], source: object) -> None:
        """Take dictionaries from a file; errors as the source's."""
        self._source.load(tensors, source)

    def weigh(self, codes: Codes, shape: tuple[int, int], rows: slice) -> np.ndarray:
        """Weigh the private parts (2, N), infrared and visible, of some rows of patches.

        `codes` are those of all patches of a grid of that shape, row by row.
        """
        part = slice(rows.start * shape[1], rows.stop * shape[1])
        return relative(l1_norms(codes.part(part)))

    def fuse(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Fuse two images (H, W) in [0, 1], at least 7 a side, into one, not clipped.

        `FusionError` if a dictionary must be learnt and cannot be kept.
        """
        dictionary = self._source.find(ir, vis)
        grids = patches(ir), patches(vis)
        height, width = grids[0].shape[:2]
        codes = JointPursuit(dictionary).code(
            lambda part: np.vstack([columns(grid, part) for grid in grids]), height * width
        )
        fused = np.zeros_like(ir)
        step = max(1, STRIP // width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            part = slice(rows.start * width, rows.stop * width)
            weights = self.weigh(codes, (height, width), rows)
            strip = self._combine(dictionary, codes.part(part), weights)
            average_patches(fused, strip.reshape(SIDE**2, -1, width), top)
        return fused

    def _combine(self, dictionary: np.ndarray, codes: Codes, weights: np.ndarray) -> np.ndarray:
        """Add up weighted atoms into fused patches (49, N)."""
        by_kind = np.concatenate([np.full_like(weights[:1], self.common), weights])
        kinds, atoms = np.divmod(codes.atoms.astype(np.intp), ATOMS)
        values = codes.values * np.take_along_axis(by_kind, kinds, axis=0)
        total = np.zeros((SIDE**2, values.shape[1]))
        for i in range(SPARSITY):
            total += dictionary[:, atoms[i]] * values[i]
        return total


def dictionary_configurations(
    build: Callable[[DictionarySource], JSR], own_rule: str
) -> dict[str, Configuration]:
    """Make the configurations of a method that takes its dictionary from different places."""

    def configuration(summary: str, source: type[DictionarySource], *weights: str) -> Configuration:
        return Configuration(
            summary=summary,
            build=lambda: build(source()),
            own_rule=own_rule,
            weights=weight_files(*weights),
            levels=Levels(0, 1),
            post="clip",
            quantise="round",
        )

    return {
        "learnt": configuration(
            "the dictionary learnt from each pair, as published; kept in the cache",
            LearntDictionaries,
        ),
        "published": configuration(
            "the dictionaries that the authors published, for 11 pairs of TNO; learnt for others",
            PublishedDictionaries,
            "jsr_dictionaries",
        ),
        "fixed": configuration(
            "one dictionary for all pairs: quick, not as published",
            FixedDictionary,
            "jsr_dictionary_sample",
        ),
    }


METHOD = MethodSpec(
    name="jsr",
    title="JSR",
    paper="Zhang, Fu, Li and Zou, Dictionary learning method for joint sparse representation-based "
    "image fusion, Optical Engineering 52(5), 2013",
    doi="10.1117/1.OE.52.5.057006",
    year=2013,
    kind="sparse representation",
    licence="none stated",
    axis="pipeline",
    configurations=dictionary_configurations(JSR, "l1 norms of private codes"),
)
