"""A user's own method, beside the registered ones: a function, or a folder of its images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .card import Identity, Origin
from .errors import FusionError, ImageError, PairMismatch
from .images import check_image, quantise, read_image
from .pairs import Pair, images_by_stem

__all__ = ["OwnMethod"]


class OwnMethod:
    """A method of one's own, for `fusionlib.benchmark`.

    Parameters
    ----------
    name : str
        What rows call it.
    fuse : callable or path
        A function ``(ir, vis) -> fused`` on arrays of float32 in [0, 1], infrared (H, W), visible
        (H, W) or (H, W, 3); or the folder of images that the method made, named as the pairs are.
        The function's image may be uint8, uint16 or float in [0, 1], gray or RGB; it is rounded
        to the 8 bits that would be saved.
    version : str
        Of a function: rows of the same version in a CSV file are taken for its own. Without one
        its rows are not kept. Of a folder it is a hash of the images.

    Raises
    ------
    FusionError
        If there is no such folder, or a registered method has that name.
    """

    def __init__(
        self,
        name: str,
        fuse: Callable[[np.ndarray, np.ndarray], np.ndarray] | str | os.PathLike[str],
        *,
        version: str = "",
    ) -> None:
        from .methods import registry

        if name in registry():
            raise FusionError(f"{name!r} is the name of a registered method; choose another one.")
        self.name = name
        self._fuse = fuse
        self._files = {} if callable(fuse) else images_by_stem(Path(fuse))
        self.version = version if callable(fuse) else _content(self._files)
        self.card = Origin("own", self.version)
        self.identity = Identity(name, "own", "", "", "@".join(filter(None, self.card)))

    def fuse_pair(self, pair: Pair) -> np.ndarray:
        """Return the fused image of a pair: float32 in [0, 1], multiples of 1/255.

        Raises
        ------
        ImageError
            If the image cannot be used.
        PairMismatch
            If it has another size than the pair.
        FusionError
            If the folder has no image of the pair's name.
        """
        image = self._image(pair)
        if image.shape[:2] != pair.ir.shape:
            height, width = image.shape[:2]
            raise PairMismatch(
                f"the image of {self.name} for the pair {pair.name!r} is {width}x{height}, the "
                f"pair {pair.ir.shape[1]}x{pair.ir.shape[0]} (width x height)."
            )
        return quantise(image).astype(np.float32) / np.float32(255)

    def _image(self, pair: Pair) -> np.ndarray:
        if not callable(self._fuse):
            if pair.name not in self._files:
                raise FusionError(
                    f"the folder {self._fuse} has no image of the pair {pair.name!r}. Its files "
                    "must be named as the pairs are, with any suffix; or give those pairs only."
                )
            return read_image(self._files[pair.name])
        made = self._fuse(pair.ir.copy(), pair.vis.copy())
        if not isinstance(made, np.ndarray):
            raise ImageError(
                f"{self.name} returned {type(made).__name__} for the pair {pair.name!r}; it must "
                "return a numpy array (H, W) or (H, W, 3)."
            )
        return check_image(made, f"image that {self.name} made of {pair.name!r}")


def _content(files: dict[str, Path]) -> str:
    sha = hashlib.sha256()
    for name, path in sorted(files.items()):
        sha.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:16]
