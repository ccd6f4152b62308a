"""algorithm: weights that nobody takes."""

from __future__ import annotations

import pytest

from fusionlib.classical.mst import MST
from fusionlib.errors import WeightsMismatch


def test_weights_that_a_method_does_not_take():
    with pytest.raises(WeightsMismatch, match=r"MST takes no weights \(given: x\.npz\)"):
        MST().load({}, "x.npz")
