"""What is known about a method, as data: papers, weights, published ways of use.

A network's file ends with one `MethodSpec`; that is all the registry in
`fusionlib.methods` needs to offer the method.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from .networks.autoencoder import AutoEncoder
    from .rules import Rule

__all__ = ["Card", "Configuration", "Identity", "MethodSpec", "Sheet", "WeightFile"]


LABELS = {
    "licence": "licence of the authors' code",
    "weights_trained": "trained",
    "weights_sha256": "sha256 of the weights",
    "weights_licence": "licence of the weights",
    "preprocessing": "pre-processing",
    "postprocessing": "post-processing",
}


@dataclass(frozen=True)
class WeightFile:
    """One set of trained weights.

    Attributes
    ----------
    name : str
        File name without ``.safetensors``.
    digest : str
        `fusionlib.weights.digest` of its tensors.
    parameters : int
        Number of trained values.
    trained : str
        By whom, on what, how long, on which hardware.
    licence : str
        Licence of the weights; "none stated" forbids redistribution.
    origin : str
        Authors' repository, commit and path; empty for weights trained by this project.
    """

    name: str
    digest: str
    parameters: int
    trained: str
    licence: str
    origin: str = ""


@dataclass(frozen=True)
class Configuration:
    """One named way of using a method: network, weights, rule, post-processing.

    Attributes
    ----------
    summary : str
        What distinguishes it.
    build : callable
        Rule -> network without trained weights.
    weights : tuple of WeightFile
        The sets that fit the network; the first is the default.
    rules : tuple of str
        Rules that make sense; the first is the default.
    post : {"minmax", "clip"}
        Default post-processing: per-image stretch to 0..255, or clipping to 0..255.
    quantise : {"truncate", "round"}
        How gray levels become 8 bits.
    scale : float
        The network's gray levels run from 0 to this.
    adapt : callable or None
        Turns the authors' tensors into the network's state dict.
    """

    summary: str
    build: Callable[[Rule], AutoEncoder]
    weights: tuple[WeightFile, ...]
    rules: tuple[str, ...]
    post: Literal["minmax", "clip"]
    quantise: Literal["truncate", "round"]
    scale: float = 255.0
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


@dataclass(frozen=True)
class MethodSpec:
    """A method and its configurations.

    Attributes
    ----------
    name, title : str
        Registered name and the name in print.
    paper, doi, year, kind, licence : str or int
        Where it was published, what it is, the licence of the authors' code.
    axis : {"variant", "pipeline"}
        What its configurations are: readings of a paper, or published ways of use.
    configurations : mapping of str to Configuration
        The first is the default: the one that produced the published tables.
    """

    name: str
    title: str
    paper: str
    doi: str
    year: int
    kind: str
    licence: str
    axis: Literal["variant", "pipeline"]
    configurations: Mapping[str, Configuration]


class Identity(NamedTuple):
    """What distinguishes a method's results: the first columns of every table of scores.

    ``variant`` is the configuration's name, ``weights`` their name and the start of their hash.
    """

    method: str
    variant: str
    rule: str
    post: str
    weights: str


class Sheet:
    """Facts that can be printed and shown in a notebook; a subclass says which, in `rows`."""

    def rows(self) -> dict[str, Any]:
        """Return the facts as label -> value, in reading order."""
        raise NotImplementedError

    def __str__(self) -> str:
        rows = {label: str(value) for label, value in self.rows().items()}
        width = max(map(len, rows))
        indent = " " * (width + 2)
        return "\n".join(
            textwrap.fill(
                value, 100, initial_indent=f"{label:<{width}}  ", subsequent_indent=indent
            )
            for label, value in rows.items()
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for label, value in self.rows().items()
        )
        return f"<table>{cells}</table>"


@dataclass(frozen=True)
class Card(Sheet):
    """The facts about one created method, for people: ``print`` it or show it in a notebook."""

    method: str
    paper: str
    doi: str
    year: int
    kind: str
    licence: str
    variant: str
    rule: str
    weights: str
    weights_trained: str
    weights_sha256: str
    weights_licence: str
    parameters: int
    preprocessing: str
    postprocessing: str
    size: str

    def rows(self) -> dict[str, Any]:
        """Return the facts as label -> value, in reading order."""
        facts = asdict(self)
        facts["parameters"] = f"{self.parameters:,}"
        return {LABELS.get(name, name): value for name, value in facts.items()}
