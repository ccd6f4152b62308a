"""What is known about a metric, as data: source, range, and what each convention changes."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..card import Sheet
from ..errors import ImageTooSmall, UnknownName
from ..images import check_one_size
from .plane import Plane, as_plane

__all__ = ["METRICS", "Convention", "Metric", "metric"]

Image = Plane | np.ndarray

NAMES = {"fused": "fused image", "ir": "infrared image", "vis": "visible image"}


@dataclass(frozen=True)
class Convention:
    """One definition in circulation.

    Attributes
    ----------
    summary : str
        What it computes, how that differs from the textbook and why it exists.
    options : mapping
        Arguments for the metric's function.
    function : callable or None
        Computes it instead of the metric's function, where the two have little in common.
    smallest : int
        The shortest side that an image may have; 0: that of the metric.
    """

    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., float] | None = None
    smallest: int = 0


@dataclass(frozen=True)
class Metric(Sheet):
    """A registered metric. ``print`` it or show it in a notebook: it is its own card.

    Attributes
    ----------
    name, title : str
        The column of the published tables, and the name in words.
    function : callable
        (fused) or (fused, ir, vis), uint8 (H, W) or `Plane` -> float.
    range : str
        Values it can take, with the unit.
    higher_is_better : bool
    doi : str
        Of the source; empty if it has none.
    paper : str
        The source.
    smallest : int
        The shortest side that an image may have.
    conventions : mapping of str to Convention
        By name; the first is "standard".
    """

    name: str
    title: str
    function: Callable[..., float]
    range: str
    higher_is_better: bool
    paper: str
    doi: str
    smallest: int
    conventions: Mapping[str, Convention]

    def compute(self, fused: Image, ir: Image, vis: Image, convention: str = "standard") -> float:
        """Score a fused image.

        Parameters
        ----------
        fused, ir, vis : ndarray of uint8, shape (H, W), or Plane
        convention : str
            One of `conventions`.

        Raises
        ------
        UnknownName
            If the metric has no such convention.
        ImageError
            If an image is not of gray levels, or is smaller than the metric's windows.
        PairMismatch
            If the sizes differ.
        """
        chosen = self.convention(convention)
        function = chosen.function or self.function
        return function(*(fused, ir, vis)[: _inputs(function)], **chosen.options)

    def convention(self, name: str) -> Convention:
        """Return a convention by name.

        Raises
        ------
        UnknownName
            If the metric has none of that name.
        """
        if name not in self.conventions:
            raise UnknownName(
                f"metric {self.name} has no convention {name!r}, only "
                f"{', '.join(self.conventions)}. Name it per metric, as in "
                f"'{self.name}:standard', or leave the metric out."
            )
        return self.conventions[name]

    def definitions(self) -> dict[str, list[str]]:
        """Return what the conventions compute -> those that share it."""
        same: dict[str, list[str]] = {}
        for name, convention in self.conventions.items():
            same.setdefault(convention.summary, []).append(name)
        return same

    def rows(self) -> dict[str, Any]:
        """Return the facts as label -> value, in reading order."""
        return {
            "metric": f"{self.name}: {self.title}",
            "range": self.range,
            "better": "higher" if self.higher_is_better else "lower",
            "smallest image": f"{self.smallest}x{self.smallest} pixels",
            "source": self.paper + f", doi {self.doi}" * bool(self.doi),
        } | {
            f"convention {', '.join(names)}": summary
            for summary, names in self.definitions().items()
        }


#: Name -> metric, in the order of the families' files.
METRICS: dict[str, Metric] = {}


def metric(
    name: str,
    title: str,
    *,
    range: str,
    paper: str,
    doi: str = "",
    higher_is_better: bool = True,
    smallest: int = 1,
    conventions: Mapping[str, Convention],
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register a function as a metric and add these facts to its docstring.

    The decorated function takes gray levels, uint8 (H, W), or planes, and checks them.

    Parameters
    ----------
    name, title, range, paper, doi, higher_is_better, smallest
        As the attributes of `Metric`.
    conventions : mapping of str to Convention
        Key: one name, or several that share a definition, separated by spaces.
    """

    def register(function: Callable[..., float]) -> Callable[..., float]:
        checked = _checked(function, name, smallest)
        every = {one: chosen for names, chosen in conventions.items() for one in names.split()}
        every = {
            one: Convention(
                chosen.summary,
                chosen.options,
                chosen.function and _checked(chosen.function, name, chosen.smallest or smallest),
                chosen.smallest or smallest,
            )
            for one, chosen in every.items()
        }
        entry = Metric(name, title, checked, range, higher_is_better, paper, doi, smallest, every)
        METRICS[name] = entry
        facts = [f"{label}: {text}" for label, text in entry.rows().items()]
        notes = "\n".join(
            textwrap.fill(fact, 92, initial_indent="- ", subsequent_indent="  ") for fact in facts
        )
        checked.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nNotes\n-----\n{notes}\n"
        return checked

    return register


def _inputs(function: Callable[..., float]) -> int:
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind is not p.KEYWORD_ONLY for p in parameters)


def _checked(function: Callable[..., float], name: str, smallest: int) -> Callable[..., float]:
    """Turn arrays into planes, and refuse images of other sizes or smaller than the windows."""
    names = [NAMES.get(p, p) for p in inspect.signature(function).parameters]

    @functools.wraps(function)
    def checked(*images: Image, **options: Any) -> float:
        planes = [as_plane(image, what) for image, what in zip(images, names, strict=False)]
        check_one_size([plane.given for plane in planes], " and ".join(names[: len(planes)]))
        height, width = planes[0].shape
        if min(height, width) < smallest:
            raise ImageTooSmall(
                f"{name} needs images of at least {smallest}x{smallest} pixels, these have "
                f"{width}x{height}. Leave this metric out, or score the images before they are "
                "cropped or scaled down."
            )
        return float(function(*planes, **options))

    return checked
