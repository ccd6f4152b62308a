"""A dictionary and images for the tests of JSR and JSRSD."""

from __future__ import annotations

import numpy as np


def pair(shape, seed=0):
    """Two related images of whole levels, as float64 in [0, 1]."""
    random = np.random.default_rng(seed)
    common = random.random(shape)
    images = (0.6 * common + 0.4 * random.random(shape) for _ in range(2))
    return [np.rint(255 * image) / 255 for image in images]


def atoms(seed=0):
    """Positive, as patches with their mean; the first is flat."""
    values = np.random.default_rng(seed).random((49, 256))
    values[:, 0] = 1
    return values / np.linalg.norm(values, axis=0)


class GivenDictionary:
    """Returns `atoms()` for any pair."""

    learnt = "none"

    def find(self, ir, vis):
        return atoms()

    def load(self, tensors, source):
        raise NotImplementedError
