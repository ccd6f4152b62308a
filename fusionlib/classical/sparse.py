"""Fusion of jointly sparse patches, shared by JSR and JSRSD, which weigh the private parts.

The patches of both images at the same place are coded together (`JointPursuit`): 16 atoms for
what is common and what is private to either. All 7x7 patches, one pixel apart, mean included.
The fused patches are put back in raster order, each averaged with what is there already: a later
patch counts twice as much as the one before it, and the first ones meet the black of an empty
image, so the corners are darker. That is what the authors' code does, and kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor

from .algorithm import Algorithm
from .dictionary import ATOMS, SIDE, DictionarySource, columns, patches
from .pursuit import SPARSITY, Codes, JointPursuit

__all__ = ["JointSparseFusion", "average_patches", "l1_norms", "relative"]

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

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Changed in place.
    strip : ndarray, shape (49, rows, W - 6)
        The patches of some rows of the grid as vectors, column after column.
    top : int
        The first of these rows.
    """
    rows, width = strip.shape[1:]
    pixels = strip.reshape(SIDE, SIDE, rows, width)
    # Of the patches over a pixel, the first in raster order show it farthest down, then right.
    for down in reversed(range(SIDE)):
        for right in reversed(range(SIDE)):
            part = image[top + down : top + down + rows, right : right + width]
            part += pixels[right, down]
            part /= 2


class JointSparseFusion(Algorithm):
    """A method that fuses the codes of joint patches.

    Parameters
    ----------
    source : DictionarySource
        Where the dictionaries come from.
    """

    min_side = SIDE
    #: What the common coefficients are multiplied by: D, not D / sqrt 2, rebuilds the common part.
    common: float

    def __init__(self, source: DictionarySource) -> None:
        self._source = source
        self.learnt = source.learnt

    def load(self, tensors: Mapping[str, Tensor], source: object) -> None:
        """Take dictionaries from a file; errors as the `DictionarySource`'s."""
        self._source.load(tensors, source)

    @abstractmethod
    def weigh(self, codes: Codes, shape: tuple[int, int], rows: slice) -> np.ndarray:
        """Weigh the private parts of some rows of patches.

        Parameters
        ----------
        codes : Codes
            Of all patches of the grid, row by row.
        shape : tuple of int
            The grid's rows and columns.
        rows : slice

        Returns
        -------
        ndarray, shape (2, N)
            For the patches of these rows: infrared, visible.
        """

    def fuse(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Fuse two images (H, W) in [0, 1], at least 7 a side, into one, not clipped.

        Raises
        ------
        FusionError
            If a dictionary must be learnt and cannot be kept.
        """
        dictionary = self._source.find(ir, vis)
        grids = patches(ir), patches(vis)
        height, width = grids[0].shape[:2]
        codes = JointPursuit(dictionary).code(
            lambda part: np.vstack([columns(grid, part) for grid in grids]), height * width
        )
        fused = np.zeros_like(ir)
        for rows in _strips(height, width):
            part = slice(rows.start * width, rows.stop * width)
            weights = self.weigh(codes, (height, width), rows)
            strip = self._combine(dictionary, codes.part(part), weights)
            average_patches(fused, strip.reshape(SIDE**2, -1, width), rows.start)
        return fused

    def _combine(self, dictionary: np.ndarray, codes: Codes, weights: np.ndarray) -> np.ndarray:
        """Add up weighted atoms into fused patches (49, N)."""
        common = np.full_like(weights[:1], self.common)
        by_kind = np.concatenate([common, weights])
        kinds, atoms = np.divmod(codes.atoms.astype(np.intp), ATOMS)
        values = codes.values * np.take_along_axis(by_kind, kinds, axis=0)
        total = np.zeros((SIDE**2, values.shape[1]))
        for i in range(SPARSITY):
            total += dictionary[:, atoms[i]] * values[i]
        return total


def _strips(height: int, width: int) -> Iterator[slice]:
    """Split the rows of a grid into strips of about `STRIP` patches."""
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
