"""pursuit: bit for bit OMP-Box, of one signal and of many; ties; signals that need few atoms."""

from __future__ import annotations

import numpy as np
import pytest

from fusionlib.classical import pursuit
from fusionlib.classical.pursuit import SPARSITY, JointPursuit, Pursuit, scalar_products
from tests.fusionlib.classical.ompbox import dot, pursue


def dictionary(rows=49, count=64, seed=0):
    """Positive atoms, as of patches with their mean."""
    atoms = np.random.default_rng(seed).random((rows, count))
    return atoms / np.linalg.norm(atoms, axis=0)


def joint(atoms):
    none = np.zeros_like(atoms)
    common = atoms / np.sqrt(2)
    return np.block([[common, atoms, none], [common, none, atoms]])


def code(pursuit, signals):
    return pursuit.code(lambda part: signals[:, part], signals.shape[1])


def check(codes, atoms, signals):
    for i, signal in enumerate(signals.T):
        picked, values = pursue(atoms, signal, SPARSITY)
        assert codes.atoms[: len(picked), i].tolist() == picked.tolist()
        assert codes.values[: len(picked), i].tolist() == values.tolist()  # every bit
        assert not codes.values[len(picked) :, i].any()


@pytest.mark.parametrize("n", [1, 4, 5, 49, 98])
def test_scalar_products(n):
    x, y = np.random.default_rng(n).random((2, n, 3))
    assert scalar_products(x, y).tolist() == [dot(*pair) for pair in zip(x.T, y.T, strict=True)]


def test_one_dictionary():
    atoms, signals = dictionary(), np.random.default_rng(1).random((49, 20))
    check(code(Pursuit(atoms), signals), atoms, signals)


def test_joint_dictionary():
    """Pairs of patches that have much in common, so that twins are often tied."""
    atoms, random = dictionary(), np.random.default_rng(2)
    common = random.random((49, 30))
    signals = np.vstack([common + 0.02 * random.random((49, 30)) for _ in range(2)])
    check(code(JointPursuit(atoms), signals), joint(atoms), signals)


def test_ties_are_decided_by_rounding(monkeypatch):
    """Without the order of OMP-Box, some ties fall to the other twin: the test above can fail."""
    atoms, random = dictionary(), np.random.default_rng(3)
    # Once the first atom is in use as common, what remains of it is opposite in the two halves.
    first, second = 3.5 * atoms[:, :1], 2.5 * atoms[:, :1]
    signals = np.vstack([first, second]) + 0.01 * random.random((98, 200))
    ours = code(JointPursuit(atoms), signals)
    monkeypatch.setattr(pursuit, "TIE", -1.0)
    assert not np.array_equal(ours.atoms, code(JointPursuit(atoms), signals).atoms)
    check(ours.part(slice(10)), joint(atoms), signals[:, :10])


def test_the_split_into_blocks_does_not_matter(monkeypatch):
    atoms, signals = dictionary(), np.random.default_rng(4).random((98, 37))
    whole = code(JointPursuit(atoms), signals)
    for size in (1, 5, 36):
        monkeypatch.setattr(pursuit, "BLOCK", size)
        parts = code(JointPursuit(atoms), signals)
        assert np.array_equal(whole.atoms, parts.atoms)
        assert np.array_equal(whole.values, parts.values)


def test_signals_of_few_atoms():
    """Exactly rebuilt from fewer atoms, or from none; the rest of their codes is 0."""
    atoms = np.eye(49)[:, :32]
    signals = np.zeros((49, 4))
    signals[[3, 7], 0] = 2, -1
    signals[40, 1] = 1  # orthogonal to all atoms
    signals[:20, 3] = np.arange(1, 21)
    codes = code(Pursuit(atoms), signals)
    assert codes.values[:3, 0].tolist() == [2, -1, 0] and codes.atoms[:2, 0].tolist() == [3, 7]
    assert not codes.values[:, 1:3].any()
    assert codes.atoms[:, 3].tolist() == list(range(19, 3, -1))
