"""What is known about a method, as data: papers, weights, published ways of use.

A method's file ends with one `MethodSpec`, which is all that `fusionlib.methods` needs to offer it.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from .pipelines import GRAY_LEVELS, Levels, Step, prepare_luminance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .checkpoints import Checkpoint
    from .classical import Algorithm
    from .networks.network import FusionNetwork

__all__ = [
    "Card",
    "Configuration",
    "Identity",
    "MethodSpec",
    "Origin",
    "WeightFile",
    "WeightUser",
]

#: How the card calls its facts, where not by their names.
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
    """One set of trained weights, as ``weights.toml`` has it.

    Attributes
    ----------
    name : str
        File name without ``.safetensors`` or ``.npz``.
    digest : str
        `fusionlib.weights.digest` of its tensors; empty if it is unknown.
    parameters : int
        Number of trained values.
    trained : str
        By whom, on what, how long, on which hardware.
    licence : str
        "none stated" forbids redistribution.
    origin : str
        Authors' repository and path, for people. Empty for weights trained by this project.
    made_by : str
        The command that trains them, where they are this project's and not in the package.
    checkpoints : tuple of Checkpoint
        The files that the authors publish, and how they are read.
    """

    name: str
    digest: str
    parameters: int
    trained: str
    licence: str
    origin: str = ""
    made_by: str = ""
    checkpoints: tuple[Checkpoint, ...] = ()

    @property
    def packaged(self) -> bool:
        """Whether the package has it: trained by this project, and not left to the user."""
        return not (self.origin or self.made_by)


class WeightUser(Protocol):
    """What weights are loaded into: a `Configuration`, or what has these attributes of it."""

    @property
    def rules(self) -> tuple[str, ...]: ...
    @property
    def build(self) -> Callable[..., nn.Module | Algorithm]: ...
    @property
    def adapt(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None: ...


#: Weight sets, each with what it is for by the name of the method, or of what else loads it.
WeightUsers = dict[WeightFile, dict[str, WeightUser]]


@dataclass(frozen=True)
class Configuration:
    """One named way of using a method: network, weights, rule, pre- and post-processing.

    Attributes
    ----------
    summary : str
        What distinguishes it.
    build : callable
        Rule -> network without trained weights, or `Algorithm`; without `rules` it is called with
        nothing.
    weights : tuple of WeightFile
        The sets that fit the network; the first is the default. Empty if it needs none.
    post : str
        Default post-processing, a key of `fusionlib.pipelines.POSTS`.
    quantise : {"truncate", "round"}
        How gray levels become 8 bits.
    rules : tuple of str
        Fusion rules that make sense; the first is the default. Empty where the method fuses in
        its own way, of which `own_rule` is the name.
    levels : Levels
        The values of black and white in the network's input and output.
    prepare : Step
        Image in [0, 1] -> gray image in [0, 1]. By default the luminance.
    chroma : {"after", "before"}
        Whether the chroma of a colour image joins after post-processing or before it, which
        then acts on the RGB image.
    adapt : callable or None
        Turns the authors' tensors into the network's state dict.
    """

    summary: str
    build: Callable[..., FusionNetwork | Algorithm]
    weights: tuple[WeightFile, ...]
    post: str
    quantise: Literal["truncate", "round"]
    rules: tuple[str, ...] = ()
    own_rule: str = "learnt"
    levels: Levels = GRAY_LEVELS
    prepare: Step = prepare_luminance
    chroma: Literal["after", "before"] = "after"
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None

    @property
    def has_network(self) -> bool:
        """Whether it fuses by a network, not by a classical algorithm."""
        return bool(self.rules) or self.own_rule == "learnt"


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method and its configurations.

    Attributes
    ----------
    name, title, paper, doi, year, kind, licence : str or int
        Registered name and the name in print; where it was published, what it is, the licence of
        the authors' code.
    axis : {"variant", "pipeline"}
        What its configurations are: readings of a paper, or published ways of use.
    configurations : mapping of str to Configuration
        The first is the default: the one that produced the published tables.
    version : int
        Raise it when a change of the code moves its results: kept scores of another version are
        not taken for its own.
    """

    name: str
    title: str
    paper: str
    doi: str
    year: int
    kind: str
    licence: str = "none stated"
    axis: Literal["variant", "pipeline"] = "pipeline"
    configurations: Mapping[str, Configuration]
    version: int = 1

    @property
    def default(self) -> Configuration:
        """The configuration that produced the published tables."""
        return next(iter(self.configurations.values()))


class Identity(NamedTuple):
    """What distinguishes a method's results: the first columns of every table of scores.

    ``variant`` is the configuration's name and what changes results of `Execution`, ``weights``
    their name and the start of their hash.
    """

    method: str
    variant: str
    rule: str
    post: str
    weights: str


class Origin(NamedTuple):
    """What provenance states of a row that no registered method made; named as in `Card`."""

    weights: str
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class Card:
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
    weights_trained: str = "none"
    weights_sha256: str = ""
    weights_licence: str = "none"
    parameters: int = 0
    preprocessing: str
    postprocessing: str
    size: str

    def rows(self) -> dict[str, Any]:
        """Return the facts as label -> value, in reading order, without empty ones."""
        facts = {name: value for name, value in asdict(self).items() if value != ""}
        facts["parameters"] = f"{self.parameters:,}"
        return {LABELS.get(name, name): value for name, value in facts.items()}

    def __str__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows)) + 2
        return "\n".join(
            textwrap.fill(f"{label:<{width}}{value}", 100, subsequent_indent=" " * width)
            for label, value in rows.items()
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for label, value in self.rows().items()
        )
        return f"<table>{cells}</table>"
