"""Fused images that authors published: rows of tables where trained weights cannot be had."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np

from fusionlib.card import Identity, Origin
from fusionlib.datasets import load_images, package_data
from fusionlib.errors import FusionError

if TYPE_CHECKING:
    from fusionlib.pairs import Pair

__all__ = ["PublishedImages", "fused_dataset"]


def fused_dataset(method: str, images: str) -> str:
    """Return the data set whose pairs ``published_<data set>_<method>`` are fused from."""
    return images.removeprefix("published_").removesuffix(f"_{method}")


class PublishedImages:
    """The authors' fused images of a data set, in place of a `fusionlib.methods.Method`.

    `images` is a data set of single images, named as the pairs are:
    ``published_<data set>_<method>``; if it is not here, `DatasetNotFound` is raised.
    """

    def __init__(
        self, method: str, images: str, *, data_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self.dataset = fused_dataset(method, images)
        self.name = method
        self._images = load_images(images, data_dir=data_dir)
        self._places = {name: i for i, name in enumerate(self._images.names)}
        hashes = hashlib.sha256(package_data(f"splits/{images}.csv").read_bytes()).hexdigest()
        self.card = Origin("authors' images", hashes)
        self.identity = Identity(method, "authors' images", "", "", f"authors' images@{hashes[:8]}")

    def fuse_pair(self, pair: Pair) -> np.ndarray:
        """Return the published image of a pair, float32 in [0, 1]."""
        if pair.name not in self._places:
            raise FusionError(
                f"the authors of {self.name} published no image of the pair {pair.name!r}; "
                f"theirs are of the data set {self.dataset}."
            )
        return self._images[self._places[pair.name]][1]
