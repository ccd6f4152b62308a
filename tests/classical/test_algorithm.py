"""algorithm: weighted averages with weights of any scale, and weights that nobody takes."""

from __future__ import annotations

import numpy as np
import pytest

from fusionlib.classical.algorithm import mixed
from fusionlib.classical.mst import MST
from fusionlib.errors import WeightsMismatch


def test_averages():
    x, y = np.array([0.0, 8, 8, 8]), np.array([4.0, 0, 0, 0])
    weights = np.array([0, 3, 1e-300, 0]), np.array([0, 1, 1e-300, 5])
    assert mixed(x, y, *weights).tolist() == [2, 6, 4, 0]


def test_weights_that_a_method_does_not_take():
    with pytest.raises(WeightsMismatch, match=r"MST takes no weights \(given: x\.npz\)"):
        MST().load({}, "x.npz")
