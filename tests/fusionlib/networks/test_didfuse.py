"""DIDFuse: against the authors' code, under weights by formula and under the trained ones."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from fusionlib.errors import WeightsNotFound
from fusionlib.networks.didfuse import METHOD
from fusionlib.weights import find_weights, verify_weights
from tests.fusionlib.networks.given import assert_output, loaded

(RELEASED,) = METHOD.configurations.values()

# What the authors' code (VIF-Benchmark @23f2e51, on a CPU) gives for `pair`: every other pixel.
RECIPE = {
    "addition": [
        [0.344909, 0.380665, 0.331070, 0.282412, 0.290325],
        [0.315470, 0.382675, 0.330008, 0.291436, 0.282975],
        [0.290389, 0.307940, 0.356354, 0.232136, 0.381341],
        [0.399971, 0.366557, 0.441716, 0.397882, 0.429655],
    ],
    "average": [
        [0.422795, 0.440737, 0.413711, 0.385460, 0.391662],
        [0.402963, 0.437831, 0.409860, 0.387841, 0.385552],
        [0.389514, 0.398676, 0.424430, 0.352822, 0.438749],
        [0.447291, 0.428718, 0.469710, 0.446515, 0.463894],
    ],
}
TRAINED = {
    "addition": [
        [0.091410, 0.265685, 0.577054, 0.223722, 0.524395],
        [0.177186, 0.466117, 0.768374, 0.464518, 0.751074],
        [0.541167, 0.830076, 0.445019, 0.854972, 0.950906],
        [0.482949, 0.774188, 0.940280, 0.025511, 0.172530],
    ],
    "average": [
        [0.246478, 0.387112, 0.561432, 0.344849, 0.523339],
        [0.322816, 0.499985, 0.666314, 0.492800, 0.657366],
        [0.538168, 0.713031, 0.478240, 0.734790, 0.832199],
        [0.519805, 0.674027, 0.824066, 0.135389, 0.317914],
    ],
}


def assert_fused(net, expected):
    """Gray levels in 0..1, of 8x9 pixels; six digits in print."""
    y, x = np.mgrid[:8, :9]
    pair = (y * 29 + x * 17) % 256 / 255, (y * y * 7 + x * 41 + 60) % 256 / 255
    pictures = [torch.from_numpy(image).float()[None, None] for image in pair]
    assert_output(lambda *given: net(*given)[..., ::2, ::2], pictures, np.array([expected]))


def authors_names():
    """Layers and shapes of the authors' convolutions; theirs that mirror come second."""
    for i in range(1, 8):
        shape = (1 if i == 7 else 64, 1 if i == 1 else 64 if i < 5 else 128, 3, 3)
        yield f"cov{i}.cov{i}", int(i in (1, 7)), shape, i in (1, 2, 5, 6)


def recipe():
    """Weights that follow from each tensor's name, under the authors' names."""
    tensors = {}

    def put(name, shape):
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        part = name.rpartition(".")[2]
        if part == "running_var":
            values = 1 + 0.2 * np.abs(noise)
        elif len(shape) > 1:
            values = 2 * noise / math.sqrt(math.prod(shape[1:]))
        else:
            values = 0.1 * noise + (0.5 if part == "weight" else 0)
        tensors[name] = torch.from_numpy(values.astype(np.float32))

    for block, first, shape, learnt_slope in authors_names():
        put(f"{block}.{first}.weight", shape)
        put(f"{block}.{first}.bias", shape[:1])
        for part in ("weight", "bias", "running_mean", "running_var"):
            put(f"{block}.{first + 1}.{part}", shape[:1])
        tensors[f"{block}.{first + 1}.num_batches_tracked"] = torch.zeros(1, dtype=torch.long)
        if learnt_slope:
            put(f"{block}.{first + 2}.weight", (1,))
    return tensors


@pytest.mark.parametrize("rule", RECIPE)
def test_authors_code(rule):
    assert_fused(loaded(RELEASED, recipe(), rule), RECIPE[rule])


@pytest.mark.realdata
@pytest.mark.parametrize("rule", TRAINED)
def test_authors_output(rule, weights_root):
    """A pair of TNO, 360x270, differed by 3e-8 of the range and in no gray level."""
    (entry,) = RELEASED.weights
    try:
        tensors = verify_weights(entry, find_weights(entry, weights_root))
    except WeightsNotFound as missing:
        pytest.skip(str(missing))
    assert_fused(loaded(RELEASED, tensors, rule), TRAINED[rule])
