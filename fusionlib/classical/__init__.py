"""The methods without a network, one file each: the algorithm, its facts and its `METHOD`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ..errors import WeightsMismatch

__all__ = ["Algorithm"]


class Algorithm(ABC):
    """A fusion method that computes what it needs from the two images.

    Attributes
    ----------
    min_side : int
        The smallest height and width that `fuse` takes; the method pads smaller images.
    size : str
        What `fuse` does with sizes that it cannot take, for the card.
    learnt : str
        What it learns from each pair, how; for the card, in place of weights.
    """

    min_side: int = 1
    size: str = "any"
    learnt: str = "none"

    @abstractmethod
    def fuse(self, ir: np.ndarray, vis: np.ndarray) -> np.ndarray:
        """Fuse two images (H, W), float64 in the levels of the method, into one, not clipped."""

    def load(self, tensors: Mapping[str, Tensor], source: object) -> None:
        """Take weights from a file; `WeightsMismatch` if they do not fit."""
        raise WeightsMismatch(f"{type(self).__name__} takes no weights (given: {source}).")
