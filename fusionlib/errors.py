"""The errors that fusionlib raises on purpose.

Every message says what was given, what was expected and what to do. The command line prints it
without a traceback, and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DatasetNotFound",
    "FusionError",
    "CannotWrite",
    "ImageError",
    "ImageTooSmall",
    "MetricWarning",
    "PairMismatch",
    "UnknownName",
    "WeightsMismatch",
    "WeightsNotFound",
    "unknown",
]


class FusionError(Exception):
    """Base class of every error that fusionlib raises on purpose."""


class ImageError(FusionError, ValueError):
    """An image cannot be read, written or used: format, size, range or channels."""


class CannotWrite(FusionError):
    """A file cannot be written where it is to be."""


class ImageTooSmall(ImageError):
    """An image is smaller than a window that must fit into it."""


class MetricWarning(UserWarning):
    """A metric's formula is not defined for these images; the value is one set by rule."""


class PairMismatch(FusionError, ValueError):
    """The two images of a pair do not belong together: other sizes, or no partner."""


class UnknownName(FusionError, ValueError):
    """No method, rule, variant, metric or data set has the name that was given."""


class WeightsNotFound(FusionError):
    """The trained weights of a method are nowhere in the places that were searched.

    ``remedy`` says where to get them and what to do, without the places of this machine.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.remedy = remedy


class WeightsMismatch(FusionError, ValueError):
    """A weight file does not fit: missing, extra or misshapen tensors, or a wrong hash."""


class DatasetNotFound(FusionError):
    """A data set, or a file of it, is nowhere in the places that were searched."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownName:
    """Build the error for a name that is not registered, with the nearest ones and all."""
    names = sorted(known)
    folded = {known.lower(): known for known in names}
    near = difflib.get_close_matches(str(name).lower(), folded, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(folded[one]) for one in near)}? " if near else ""
    return UnknownName(f"unknown {kind} {name!r}. {hint}Known: {', '.join(names)}.")
