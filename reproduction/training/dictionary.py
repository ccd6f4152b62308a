"""JSR's and JSRSD's dictionary, learnt by K-SVD from the patches of many pairs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fusionlib.classical.dictionary import ITERATIONS, SIDE, learn_dictionary, training_patches
from fusionlib.errors import ImageError
from fusionlib.weights import training_facts

from .loop import Config
from .samples import Sample, samples

__all__ = ["train_dictionary"]


def train_dictionary(
    data: Sequence[Any], *, iterations: int = ITERATIONS, seed: int = 0
) -> tuple[np.ndarray, pd.DataFrame, dict[str, object]]:
    """Learn a dictionary (49, 256) from pairs, which `samples` takes.

    Returns that, for `fusionlib.classical.dictionary.save_dictionary`; a row per iteration:
    iteration, rmse; and what its file should say of it. The seed decides which patches are learnt
    from, and the first atoms.
    """
    Config(iterations=iterations, seed=seed)  # are they possible?
    pairs = samples(data, "pairs")
    patches = training_patches(_levels_of(pairs), seed)
    dictionary, errors = learn_dictionary(patches, iterations=iterations, seed=seed)
    sources = ", ".join(dict.fromkeys(pair.source for pair in pairs))
    facts = {
        "method": "K-SVD",
        "learnt_from": f"{patches.shape[1]} patches of {len(pairs)} pairs of {sources}",
        "iterations": iterations,
        "seed": seed,
    }
    history = pd.DataFrame({"iteration": range(1, iterations + 1), "rmse": errors})
    return dictionary, history, training_facts(facts, "cpu")


def _levels_of(pairs: Sequence[Sample]) -> Iterator[np.ndarray]:
    """Read the images of pairs one by one, in [0, 1]."""
    for pair in pairs:
        for levels in pair.read():
            if min(levels.shape) < SIDE:
                height, width = levels.shape
                raise ImageError(
                    f"pair {pair.name} is {width}x{height} pixels; a dictionary is learnt from "
                    f"patches of {SIDE}x{SIDE}. Leave it out."
                )
            yield levels / 255
