"""What is known about a metric, as data: source, range, and what each convention changes."""

from __future__ import annotations

import functools
import html
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UnknownName
from .plane import Plane, as_planes

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
        The shortest side that an image may have; 0: that given to `metric`.
    """

    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., float] | None = None
    smallest: int = 0


@dataclass(frozen=True, eq=False)
class Metric:
    """A registered metric. ``print`` it or show it in a notebook: it is its own card.

    Attributes
    ----------
    name, title : str
        The column of the published tables, and the name in words.
    definition : str
        What it measures, formula included.
    function : callable
        (fused) or (fused, ir, vis), uint8 (H, W) or `Plane` -> float.
    range : str
        Values it can take, with the unit.
    higher_is_better : bool
    doi : str
        Of the source; empty if it has none.
    paper : str
        The source.
    conventions : mapping of str to Convention
        By name; the first is "standard".
    version : int
        Raise it when a change of the code moves its results: kept scores of another version are
        not taken for its own.
    """

    name: str
    title: str
    definition: str
    function: Callable[..., float]
    range: str
    higher_is_better: bool
    paper: str
    doi: str
    conventions: Mapping[str, Convention]
    version: int = field(default=1, repr=False)

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

    def rows(self) -> dict[str, str]:
        """Return the facts as label -> value, in reading order."""
        facts = {
            "metric": f"{self.name}: {self.title}",
            "definition": self.definition,
            "range": self.range,
            "better": "higher" if self.higher_is_better else "lower",
            "source": self.paper + f", doi {self.doi}" * bool(self.doi),
        }
        for summary, names in self.definitions().items():
            side = self.conventions[names[0]].smallest
            size = f"; images of at least {side}x{side} pixels" if side > 1 else ""
            facts[f"convention {', '.join(names)}"] = summary + size
        return facts

    def __str__(self) -> str:
        return _listed(self.rows())

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(fact)}</td></tr>"
            for label, fact in self.rows().items()
        )
        return f"<table>{cells}</table>"


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
    version: int = 1,
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register a function as a metric and add these facts to its docstring.

    The decorated function takes gray levels, uint8 (H, W), or planes, and checks them. Its
    arguments for images are called fused, ir and vis; its docstring begins with the definition.
    Processes that score at the same time know the metrics of this package only.

    Parameters
    ----------
    name, title, range, paper, doi, higher_is_better, version
        As the attributes of `Metric`.
    smallest : int
        The shortest side that an image may have, unless a convention says otherwise.
    conventions : mapping of str to Convention
        Key: one name, or several that share a definition, separated by spaces.
    """

    def register(function: Callable[..., float]) -> Callable[..., float]:
        every = {}
        for names, chosen in conventions.items():
            side = chosen.smallest or smallest
            other = chosen.function and _checked(chosen.function, name, side)
            for one in names.split():
                every[one] = Convention(chosen.summary, chosen.options, other, side)
        checked = _checked(function, name, every["standard"].smallest)
        text = inspect.cleandoc(function.__doc__ or "")
        entry = Metric(
            name,
            title,
            _definition(text),
            checked,
            range,
            higher_is_better,
            paper,
            doi,
            every,
            version,
        )
        METRICS[name] = entry
        facts = {label: fact for label, fact in entry.rows().items() if label != "definition"}
        checked.__doc__ = f"{text}\n\nNotes\n-----\n{_listed(facts)}\n"
        return checked

    return register


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(
        textwrap.fill(f"{label}: {fact}", 92, initial_indent="- ", subsequent_indent="  ")
        for label, fact in facts.items()
    )


def _definition(text: str) -> str:
    """Return what a docstring says before its parameters, formulas between dollars."""
    text = text.split("\n\nParameters\n")[0]
    text = re.sub(r"\.\. math:: (.*)", r"$\1$", text)
    return " ".join(re.sub(r":math:`([^`]*)`", r"$\1$", text).split())


def _inputs(function: Callable[..., float]) -> int:
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind is not p.KEYWORD_ONLY for p in parameters)


def _checked(function: Callable[..., float], name: str, smallest: int) -> Callable[..., float]:
    """Turn arrays into planes, and refuse images of other sizes or smaller than the windows."""
    signature = inspect.signature(function)
    images = list(signature.parameters)[: _inputs(function)]

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> float:
        given = signature.bind(*args, **options).arguments
        planes = as_planes(
            {NAMES[image]: given.pop(image) for image in images}, metric=name, smallest=smallest
        )
        return float(function(*planes, **given))

    return checked
