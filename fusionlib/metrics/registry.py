"""What is known about a metric, as data: source, range, and what each convention changes."""

from __future__ import annotations

import functools
import html
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import UnknownName
from .plane import Plane, as_planes

__all__ = ["METRICS", "Convention", "Metric", "metric"]

Image = Plane | np.ndarray
Function = Callable[..., float]

#: Parameters of a metric's function that take an image, and what messages call it.
NAMES = {"fused": "fused image", "ir": "infrared image", "vis": "visible image"}


@dataclass(frozen=True)
class Convention:
    """One definition in circulation.

    Attributes
    ----------
    summary : str
        What it computes, how that differs from the textbook and why it exists.
    options : mapping
        Arguments for the function.
    function : callable, optional
        Computes it instead of the metric's function, where the two have little in common.
    smallest : int
        The shortest side that an image may have; 0: that given to `metric`.
    """

    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Function | None = field(default=None, repr=False)
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
    conventions : mapping of str to Convention
        By name; the first is "standard".
    paper, doi : str
        The source; the second is empty if it has none.
    higher_is_better : bool
    version : int
        Raise it when a change of the code moves its results: kept scores of another version are
        not taken for its own.
    """

    name: str
    title: str
    definition: str
    function: Function = field(repr=False)
    range: str
    conventions: Mapping[str, Convention]
    paper: str
    doi: str = ""
    higher_is_better: bool = True
    version: int = field(default=1, repr=False)

    def compute(self, fused: Image, ir: Image, vis: Image, convention: str = "standard") -> float:
        """Score a fused image; all three are uint8, shape (H, W), or planes.

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
        alone = not {"ir", "vis"} & inspect.signature(function).parameters.keys()
        return function(*((fused,) if alone else (fused, ir, vis)), **chosen.options)

    def convention(self, name: str) -> Convention:
        """Return a convention by name; `UnknownName` if the metric has none of that name."""
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
    conventions: Mapping[str, Convention],
    smallest: int = 1,
    **facts: Any,
) -> Callable[[Function], Function]:
    """Register a function as a metric and add these facts to its docstring.

    The decorated function takes gray levels, uint8 (H, W), or planes, and checks them. Its
    arguments for images are called fused, ir and vis; its docstring begins with the definition.
    Processes that score at the same time know the metrics of this package only.

    Parameters
    ----------
    name, title, **facts
        As the attributes of `Metric`: range and paper, perhaps doi, higher_is_better, version.
    conventions : mapping of str to Convention
        Key: one name, or several that share a definition, separated by spaces.
    smallest : int
        The shortest side that an image may have, unless a convention says otherwise.
    """

    def register(function: Function) -> Function:
        every = {}
        for names, chosen in conventions.items():
            side = chosen.smallest or smallest
            checked = _checked(chosen.function or function, name, side)
            full = replace(chosen, function=checked, smallest=side)
            every.update(dict.fromkeys(names.split(), full))
        standard = every["standard"].function
        assert standard is not None
        text = inspect.cleandoc(function.__doc__ or "")
        METRICS[name] = entry = Metric(
            name, title, _definition(text), standard, conventions=every, **facts
        )
        listed = {label: fact for label, fact in entry.rows().items() if label != "definition"}
        images = "Images are gray levels, uint8 of shape (H, W).\n"
        standard.__doc__ = f"{text}\n\nNotes\n-----\n{images}\n{_listed(listed)}\n"
        return standard

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


def _checked(function: Function, name: str, smallest: int) -> Function:
    """Turn arrays into planes, and refuse images of other sizes or smaller than the windows."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> float:
        given = signature.bind(*args, **options)
        images = [key for key in given.arguments if key in NAMES]
        named = {NAMES[key]: given.arguments[key] for key in images}
        planes = as_planes(named, metric=name, smallest=smallest)
        given.arguments.update(zip(images, planes, strict=True))
        return float(function(*given.args, **given.kwargs))

    return checked
