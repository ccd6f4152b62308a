"""Orthogonal matching pursuit of many signals at once, in the arithmetic of OMP-Box.

R. Rubinstein, M. Zibulevsky, M. Elad, "Efficient Implementation of the K-SVD Algorithm using
Batch Orthogonal Matching Pursuit", Technion report CS-2008-08.

Each step picks, for every signal of a block, the atom that correlates best with its residual, by
one matrix product for all, and solves for the coefficients by a Cholesky factor that grows by a
row, out of Gram matrices that all signals share.

With a joint dictionary the best atom is often a tie: once an atom is in use as common to both
images, its two private forms correlate equally with the residual but for the sign, and rounding
decides. So coefficients, residuals and the correlations of such twins are added up in the order
of OMP-Box (whose scalar products keep four partial sums): the choices are those of the authors'
runs, on any machine. Matrix products find candidates only; how they round does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

__all__ = ["SPARSITY", "Codes", "JointPursuit", "Pursuit", "scalar_products"]

SPARSITY = 16
# Signals at a time, by one thread: what they need together stays in its caches.
BLOCK = 512
# Correlations of twins that differ by less are equal but for rounding: 1e-15 for patches in [0, 1].
TIE = 1e-12
# OMP-Box stops at a correlation whose square, or a new direction whose squared norm, is below.
NEGLIGIBLE = 1e-14


class Codes(NamedTuple):
    """Sparse codes of N signals, both (SPARSITY, N)."""

    atoms: np.ndarray  # int16, in the order they were picked
    values: np.ndarray  # their coefficients; 0 from where a signal's pursuit stopped early

    def part(self, signals: slice) -> Codes:
        """Return the codes of some of the signals."""
        return Codes(self.atoms[:, signals], self.values[:, signals])


def scalar_products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Multiply columns: sums over the first axis, in the order of OMP-Box.

    Four partial sums take the elements in turn; the last one to four elements are added one by one.
    """
    products = x * y
    whole = (len(products) - 1) // 4 * 4
    # Not NumPy's sums, whose order depends on the shape.
    sums = np.zeros((4, *products.shape[1:]))
    for four in products[:whole].reshape(-1, *sums.shape):
        sums += four
    total: np.ndarray = (sums[0] + sums[1]) + (sums[2] + sums[3])
    for product in products[whole:]:
        total = total + product
    return total


class Pursuit:
    """Codes signals with at most `SPARSITY` atoms, of norm 1, of a dictionary (n, K)."""

    def __init__(self, dictionary: np.ndarray) -> None:
        self._dictionary = np.ascontiguousarray(dictionary)
        self._atoms = np.ascontiguousarray(self._stacked())
        self._gram = np.stack(
            [scalar_products(atom[:, None], self._atoms) for atom in self._atoms.T]
        )

    def _stacked(self) -> np.ndarray:
        """Return all atoms as columns."""
        return self._dictionary

    def code(self, signals: Callable[[slice], np.ndarray], count: int) -> Codes:
        """Code `count` signals: `signals` gives those of a slice as columns (n, ...)."""
        parts = [slice(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]
        # Blocks are too small for threads inside a matrix product; PyTorch's number of threads is
        # what a user, or a pool of processes, sets.
        threads = torch.get_num_threads()
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            blocks = list(pool.map(lambda part: self._code_block(signals(part)), parts))
        return Codes(*(np.concatenate(arrays, axis=1) for arrays in zip(*blocks, strict=True)))

    def _code_block(self, signals: np.ndarray) -> Codes:
        n, count = signals.shape
        columns = np.arange(count)
        picked = np.zeros((SPARSITY, count), np.int16)
        factor = np.zeros((SPARSITY, SPARSITY, count))  # lower triangular, one per signal
        # What solving with the factor leaves to solving with its transpose.
        halfway = np.zeros((SPARSITY, count))
        values = np.zeros((SPARSITY, count))
        atoms = np.empty((SPARSITY, n, count))
        used = np.zeros((count, len(self._gram)), bool)
        going = np.ones(count, bool)
        residual = signals
        for step in range(SPARSITY):
            best, size = self._best(residual)
            going &= (size**2 >= NEGLIGIBLE) & ~used[columns, best]
            used[columns, best] = True  # again only by rounding; OMP-Box stops then, too
            row = self._gram[picked[:step], best]
            _solve_lower(factor, row)
            rest = 1 - sum(row**2, start=np.zeros(count))
            going &= rest > NEGLIGIBLE
            # A signal that has stopped gets atoms of coefficient 0, apart from all others.
            row[:, ~going], rest[~going] = 0, 1
            picked[step], factor[step, :step], factor[step, step] = best, row, np.sqrt(rest)
            np.take(self._atoms, best, axis=1, out=atoms[step], mode="clip")
            new = np.where(going, scalar_products(atoms[step], signals), 0)
            for i in range(step):
                new -= factor[step, i] * halfway[i]
            halfway[step] = new / factor[step, step]
            _solve_upper(factor, halfway, values, step)
            residual = signals - _combined(atoms, values, step + 1)
        return Codes(picked, values)

    def _best(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pick the atom with the largest correlation for each residual, and say how large it is."""
        size = np.abs(residual.T @ self._dictionary)
        best = size.argmax(axis=1)
        return best, size[np.arange(len(size)), best]


class JointPursuit(Pursuit):
    """Codes pairs of signals, stacked, with atoms that are common to both or private to one.

    Of a dictionary D (n, K) the joint atoms are [D; D] / sqrt 2, then [D; 0], then [0; D]. They are
    kept as they are, but correlated as the two halves of a residual with D.
    """

    def _stacked(self) -> np.ndarray:
        private, none = self._dictionary, np.zeros_like(self._dictionary)
        common = private / np.sqrt(2)
        return np.block([[common, private, none], [common, none, private]])

    def _best(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, k = self._dictionary.shape
        columns = np.arange(residual.shape[1])
        first = residual[:n].T @ self._dictionary
        second = residual[n:].T @ self._dictionary
        common = first + second
        for sizes in (first, second, common):
            np.abs(sizes, out=sizes)
        common /= np.sqrt(2)
        kinds = (common, first, second)
        candidates = np.stack([sizes.argmax(axis=1) for sizes in kinds])
        heights = np.stack([s[columns, c] for s, c in zip(kinds, candidates, strict=True)])
        kind = heights.argmax(axis=0)
        best, size = candidates[kind, columns] + k * kind, heights[kind, columns]
        twin = best % k
        near = np.abs(first[columns, twin] - second[columns, twin]) < TIE
        (tied,) = np.nonzero(near & (kind > 0))
        if tied.size:  # between private forms of an atom: OMP-Box compares squares, the first wins
            forms = [k + twin[tied], 2 * k + twin[tied]]
            left = residual[:, tied]
            squares = [scalar_products(self._atoms[:, one], left) ** 2 for one in forms]
            best[tied] = np.where(squares[1] > squares[0], forms[1], forms[0])
        return best, size


def _solve_lower(factor: np.ndarray, x: np.ndarray) -> None:
    """Solve L x = x in place for the leading rows of the factors."""
    for i in range(len(x)):
        x[i] /= factor[i, i]
        x[i + 1 :] -= factor[i + 1 : len(x), i] * x[i]


def _solve_upper(factor: np.ndarray, y: np.ndarray, x: np.ndarray, last: int) -> None:
    """Solve L^T x = y for rows 0 to `last`, each row's terms subtracted in ascending order."""
    for i in range(last, -1, -1):
        below = slice(i + 1, last + 1)
        terms = np.concatenate([y[i : i + 1], factor[below, i] * x[below]])
        x[i] = np.subtract.reduce(terms, axis=0) / factor[i, i]


def _combined(atoms: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Add up the first atoms with their coefficients, one after the other."""
    total = atoms[0] * values[0]
    product = np.empty_like(total)
    for i in range(1, count):
        total += np.multiply(atoms[i], values[i], out=product)
    return total
