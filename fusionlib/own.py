"""A user's own method, beside the registered ones: a function, or a folder of its images."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from .card import Identity, Origin
from .errors import FusionError, ImageError, PairMismatch
from .images import check_image, quantise, read_image

if TYPE_CHECKING:
    from .pairs import Pair

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
        Of a function: rows of another version in a CSV file are not taken for its own. By default
        a hash of its code, of what it encloses and of its defaults, which does not see changes in
        what it calls; where that cannot be hashed, a new one every time, so that nothing is taken
        from the file. Of a folder it is always a hash of the images.

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
        from .pairs import images_by_stem

        if name in registry():
            raise FusionError(f"{name!r} is the name of a registered method; choose another one.")
        self.name = name
        self._function = fuse if callable(fuse) else None
        self._files: dict[str, Path] = {} if callable(fuse) else images_by_stem(Path(fuse))
        self._folder = "" if callable(fuse) else str(fuse)
        state = (version or _source(fuse)) if callable(fuse) else _content(self._files)
        self.card = Origin("own", state)
        self.identity = Identity(name, "own", "", "", f"own@{state[:8]}")

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
        if self._function is not None:
            made = self._function(pair.ir.copy(), pair.vis.copy())
            if not isinstance(made, np.ndarray):
                raise ImageError(
                    f"{self.name} returned {type(made).__name__} for the pair {pair.name!r}; it "
                    "must return a numpy array (H, W) or (H, W, 3)."
                )
            image = check_image(made, f"image that {self.name} made of {pair.name!r}")
        elif pair.name in self._files:
            image = read_image(self._files[pair.name])
        else:
            raise FusionError(
                f"the folder {self._folder} has no image of the pair {pair.name!r}. Its files must "
                "be named as the pairs are, with any suffix; or give those pairs only."
            )
        if image.shape[:2] != pair.ir.shape:
            height, width = image.shape[:2]
            raise PairMismatch(
                f"the image of {self.name} for the pair {pair.name!r} is {width}x{height}, the "
                f"pair {pair.ir.shape[1]}x{pair.ir.shape[0]} (width x height)."
            )
        return quantise(image).astype(np.float32) / np.float32(255)


def _source(function: Callable[..., object]) -> str:
    """Hash what a function does; of what cannot be hashed no two are the same."""
    try:
        facts = repr(_facts(function))
    except TypeError:
        facts = uuid.uuid4().hex
    return hashlib.sha256(facts.encode()).hexdigest()


def _facts(value: Any) -> Any:
    """Return what tells a value from others, as texts.

    Raises
    ------
    TypeError
        If it is of a kind whose text may not tell all.
    """
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return _facts([value.__code__, cells, value.__defaults__, value.__kwdefaults__])
    if isinstance(value, CodeType):
        return value.co_code.hex(), value.co_names, _facts(value.co_consts)
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, list | tuple):
        return [_facts(one) for one in value]
    if value is None or value is ... or isinstance(value, bool | int | float | str | bytes):
        return value
    raise TypeError(type(value))


def _content(files: dict[str, Path]) -> str:
    sha = hashlib.sha256()
    for name, path in sorted(files.items()):
        sha.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
