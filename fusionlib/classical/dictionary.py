"""Dictionaries of 7x7 patches: learnt by K-SVD from a pair, published, or of the user.

M. Aharon, M. Elad, A. Bruckstein, "K-SVD: An Algorithm for Designing Overcomplete Dictionaries
for Sparse Representation", IEEE Trans. Signal Processing 54(11), 2006, doi 10.1109/TSP.2006.881199,
with the approximate update of atoms and the replacement of useless ones of KSVD-Box (Rubinstein,
Zibulevsky and Elad, Technion report CS-2008-08).

A patch is a vector of 49 values, column after column, its mean included. JSR and JSRSD learn 256
atoms from the patches of both images at every third row and column: 50 iterations, from random
patches. Such a dictionary depends on the draw, so results from another one differ a little.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import FusionError, ImageError, WeightsMismatch, WeightsNotFound
from ..files import check_writable
from ..weights import cache_folder, read_weights, write_tensors
from .pursuit import Pursuit

__all__ = [
    *("ATOMS", "SIDE", "DictionarySource", "FixedDictionary", "LearntDictionaries"),
    *("PublishedDictionaries", "check_dictionary", "columns", "learn_dictionary", "patches"),
    *("save_dictionary", "training_patches"),
]

SIDE = 7
ATOMS = 256
ITERATIONS = 50
STRIDE = 3  # between the patches learnt from
SEED = 0
MOST_PATCHES = 300_000
LEARNING = 1  # counts changes of this code after which it learns another dictionary
# KSVD-Box replaces an atom that fewer signals use, or that is as close to another.
FEWEST_USES = 4
CLOSEST = 0.99
# An unused atom becomes the worst represented of so many signals, drawn at random.
DRAWN = 5000
# Patches with a smaller squared norm are black.
BLACK = 1e-6

#: `pair_hash` of a TNO pair -> the published dictionary that was learnt from it: many of its atoms
#: are patches of the two images, to the last bit. The numbers 1 to 10 are not used: their atoms are
#: patches of infrared images alone (of other lists of pairs), since the release's script reads the
#: infrared folder for both, and they do not give the published images.
with (Path(__file__).parent / "jsr_pairs.csv").open(encoding="utf-8") as _file:
    TNO_PAIRS = {row["pair_hash"]: row["dictionary"] for row in csv.DictReader(_file)}


def patches(image: np.ndarray, stride: int = 1) -> np.ndarray:
    """Return all patches (rows, columns, 7, 7) of an image (H, W) as a view."""
    if min(image.shape) < SIDE:
        height, width = image.shape
        raise ImageError(f"an image of {width}x{height} has no patch of {SIDE}x{SIDE}.")
    return sliding_window_view(image, (SIDE, SIDE))[::stride, ::stride]


def columns(grid: np.ndarray, part: slice) -> np.ndarray:
    """Return some of a grid's patches, counted row by row, as vectors (49, N)."""
    places = np.divmod(np.arange(part.start, part.stop), grid.shape[1])
    return np.ascontiguousarray(grid[places].transpose(2, 1, 0).reshape(SIDE**2, -1))


def save_dictionary(
    path: str | os.PathLike[str], dictionary: np.ndarray, facts: Mapping[str, object]
) -> None:
    """Write a dictionary (49, 256), whole or not at all, as a file for `FixedDictionary`."""
    write_tensors(path, {"dictionary": torch.from_numpy(np.ascontiguousarray(dictionary))}, facts)


def check_dictionary(given: Tensor, source: object) -> np.ndarray:
    """Return a dictionary as float64: (49, 256), each column a patch of norm 1."""
    if given.dtype not in (torch.float32, torch.float64):
        raise WeightsMismatch(
            f"{source}: the dictionary is of {given.dtype}, expected float32 or float64."
        )
    dictionary, expected = given.numpy(), (SIDE**2, ATOMS)
    if dictionary.shape != expected:
        raise WeightsMismatch(
            f"{source}: the dictionary has the shape {dictionary.shape}, expected {expected}: "
            f"{ATOMS} atoms as columns, each a patch of {SIDE}x{SIDE}, column after column."
        )
    if not np.isfinite(dictionary).all():
        raise WeightsMismatch(f"{source}: the dictionary has values that are not finite.")
    norms = np.linalg.norm(dictionary, axis=0)
    if np.abs(norms - 1).max() > 1e-5:  # far more than float32 rounds
        raise WeightsMismatch(
            f"{source}: the atoms must have norm 1, theirs are between {norms.min():.6g} and "
            f"{norms.max():.6g}. Divide each column by its norm."
        )
    return dictionary.astype(np.float64)


def pair_hash(ir: np.ndarray, vis: np.ndarray) -> str:
    """Hash two images (H, W) in [0, 1] by their size and 8-bit gray levels."""
    levels = (np.rint(image * 255).astype(np.uint8) for image in (ir, vis))
    return _hash(ir.shape, *levels)[:16]


def _hash(settings: object, *images: np.ndarray) -> str:
    sha = hashlib.sha256(str(settings).encode())
    for image in images:
        sha.update(image.tobytes())
    return sha.hexdigest()


class FixedDictionary:
    """One dictionary for all pairs, from a file with one tensor, ``dictionary``."""

    learnt = "none"

    def load(self, tensors: Mapping[str, Tensor], source: object) -> None:
        if set(tensors) != {"dictionary"}:
            raise WeightsMismatch(
                f"{source} must hold one tensor, dictionary, not "
                f"{', '.join(sorted(tensors)) or 'none'}."
            )
        self._dictionary = check_dictionary(tensors["dictionary"], source)

    def find(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        return self._dictionary


class LearntDictionaries:
    """Learns a dictionary from each pair, and keeps it in the user's cache."""

    #: How, for the card; "none" where it is read from a file.
    learnt = f"learnt from the pair: K-SVD, {ITERATIONS} iterations, seed {SEED}"

    def load(self, tensors: Mapping[str, Tensor], source: object) -> None:
        raise WeightsMismatch(
            f"the pipeline 'learnt' learns its dictionaries; for {source} use pipeline='fixed'."
        )

    def find(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Return the pair's dictionary; `FusionError` if the cache cannot be written to."""
        name = _hash((LEARNING, ITERATIONS, STRIDE, SEED, ir.shape), ir, vis)
        path = cache_folder() / "dictionaries" / f"{name}.safetensors"
        try:
            return check_dictionary(read_weights(path)["dictionary"], path)
        except (WeightsNotFound, WeightsMismatch, KeyError):
            pass  # not there, or not whole: it is learnt anew
        try:
            check_writable(path)
        except FusionError as error:
            raise FusionError(
                f"a dictionary would be learnt for minutes and could not be kept: {error} The "
                "user's cache is meant; XDG_CACHE_HOME names another folder for it."
            ) from error
        dictionary, _ = learn_dictionary(training_patches([ir, vis]), iterations=ITERATIONS)
        save_dictionary(path, dictionary, {"learnt": LearntDictionaries.learnt})
        return dictionary


class PublishedDictionaries(LearntDictionaries):
    """The dictionaries that the authors of JSRSD published; for other pairs, learnt ones.

    A pair is recognised by its 8-bit gray levels, whatever its name.
    """

    learnt = f"for other pairs {LearntDictionaries.learnt}"

    def load(self, tensors: Mapping[str, Tensor], source: object) -> None:
        """Take the dictionaries, ``pair_01`` to ``pair_21``."""
        missing = sorted(set(TNO_PAIRS.values()) - set(tensors))
        if missing:
            raise WeightsMismatch(
                f"{source} lacks the dictionaries {', '.join(missing)}. For one dictionary of your "
                "own use pipeline='fixed'."
            )
        self._dictionaries = {
            name: check_dictionary(tensors[name], f"{source}, {name}")
            for name in TNO_PAIRS.values()
        }

    def find(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Return the pair's dictionary."""
        name = TNO_PAIRS.get(pair_hash(ir, vis))
        return self._dictionaries[name] if name else super().find(ir, vis)


#: Where a method gets the dictionary (49, 256) of two images (H, W) in [0, 1] from.
DictionarySource = FixedDictionary | LearntDictionaries


def training_patches(images: Iterable[np.ndarray], seed: int = SEED) -> np.ndarray:
    """Collect the patches (49, N) at every third row and column of images (H, W).

    Of more than 300,000, so many are drawn; a pair of 1.3 megapixels has them all.
    """
    grids = (patches(image, STRIDE) for image in images)
    signals = np.hstack([columns(grid, slice(0, grid.shape[0] * grid.shape[1])) for grid in grids])
    if signals.shape[1] > MOST_PATCHES:
        drawn = np.random.default_rng(seed).choice(signals.shape[1], MOST_PATCHES, replace=False)
        signals = signals[:, np.sort(drawn)]
    return signals


def learn_dictionary(
    signals: np.ndarray, *, iterations: int = ITERATIONS, seed: int = SEED
) -> tuple[np.ndarray, list[float]]:
    """Learn a dictionary with which `SPARSITY` atoms represent each signal as well as possible.

    The seed decides on first atoms, the order of updates, the signals that replace unused atoms.

    Returns
    -------
    dictionary : ndarray of float64, shape (49, 256)
        Columns of norm 1. From fewer than 256 signals (49, N) that are not black, atoms of a
        discrete cosine transform fill it up.
    errors : list of float
        Root mean square of what is not represented, after each iteration.
    """
    random = np.random.default_rng(seed)
    dictionary = _first_atoms(signals, random)
    errors = []
    for _ in tqdm(range(iterations), desc="K-SVD", leave=False):
        learning = _Learning(signals, dictionary, random)
        for atom in random.permutation(ATOMS):
            learning.update(atom)
        errors.append(float(np.sqrt(np.mean(learning.residual**2))))
        learning.replace_useless()
        dictionary = learning.atoms.T.copy()
    return dictionary, errors


def _first_atoms(signals: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw signals that are not black; fill up with products of 16 cosines each way."""
    (usable,) = np.nonzero(np.sum(signals**2, axis=0) > BLACK)
    drawn = signals[:, random.permutation(usable)[:ATOMS]]
    waves = np.cos(np.pi * np.outer(np.arange(SIDE) + 0.5, np.arange(16)) / 16)
    filled = np.hstack([drawn, np.kron(waves, waves)])[:, :ATOMS]
    return filled / np.linalg.norm(filled, axis=0)


class _Learning:
    """One iteration: codes, then better atoms one by one. Signals and atoms are rows here."""

    def __init__(
        self, signals: np.ndarray, dictionary: np.ndarray, random: np.random.Generator
    ) -> None:
        count = signals.shape[1]
        codes = Pursuit(dictionary).code(lambda part: signals[:, part], count)
        self.signals = np.ascontiguousarray(signals.T)
        self.atoms = dictionary.T.copy()
        self.random = random
        picked = codes.atoms.astype(np.intp)
        # All uses of an atom together: places in the flattened codes, sorted by atom.
        order = np.argsort(picked, axis=None, kind="stable")
        order = order[codes.values.ravel()[order] != 0]
        starts = np.searchsorted(picked.ravel()[order], np.arange(ATOMS + 1))
        self.uses = [order[start:stop] for start, stop in pairwise(starts)]
        self.values = codes.values.ravel()
        self.residual = self.signals.copy()
        for atoms, values in zip(picked, codes.values, strict=True):
            self.residual -= self.atoms[atoms] * values[:, None]
        # Signals that may become an atom: each once, black ones never.
        self.unused = np.sum(self.signals**2, axis=1) > BLACK
        self.replaced = np.zeros(ATOMS, bool)

    def update(self, atom: int) -> None:
        """Fit an atom to what the others leave of the signals that use it, then its values."""
        uses = self.uses[atom]
        if not uses.size:
            drawn = self.random.permutation(np.flatnonzero(self.unused))[:DRAWN]
            if drawn.size:
                errors = np.sum(self.residual[drawn] ** 2, axis=1)
                self._replace(atom, int(drawn[errors.argmax()]))
            return
        signals, values = uses % len(self.signals), self.values[uses]
        left = self.residual[signals] + values[:, None] * self.atoms[atom]
        fitted = values @ left
        norm = np.linalg.norm(fitted)
        if norm > 0:
            self.atoms[atom] = fitted / norm
        self.values[uses] = left @ self.atoms[atom]
        self.residual[signals] = left - self.values[uses, None] * self.atoms[atom]

    def replace_useless(self) -> None:
        """Put badly represented signals in place of atoms that few use or nearly doubles."""
        uses = np.array([np.sum(np.abs(self.values[one]) > 1e-7) for one in self.uses])
        errors = np.sum(self.residual**2, axis=1)
        for atom in range(ATOMS):
            closeness = np.abs(self.atoms @ self.atoms[atom])
            closeness[atom] = 0
            useless = uses[atom] < FEWEST_USES or closeness.max() > CLOSEST
            if useless and not self.replaced[atom] and self.unused.any():
                self._replace(atom, int(np.where(self.unused, errors, -1).argmax()))

    def _replace(self, atom: int, signal: int) -> None:
        self.atoms[atom] = self.signals[signal] / np.linalg.norm(self.signals[signal])
        self.unused[signal] = False
        self.replaced[atom] = True
