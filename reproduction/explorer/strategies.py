"""Fusion strategies to compare: a method, a rule in between, a post-processing, on one pair.

What the sliders move, without any widget. A pair is encoded once; another rule only fuses and
decodes, another post-processing only finishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusionlib.errors import ImageTooSmall, unknown
from fusionlib.evaluation import evaluate
from fusionlib.methods import Method, create, find_method
from fusionlib.metrics import select
from fusionlib.metrics.plane import notes
from fusionlib.networks.network import AutoEncoder
from fusionlib.pipelines import find_post
from fusionlib.rules import Rule, get_rule
from fusionlib.tiles import Execution, rule_weights, run_network, running

from .rules import blend, exact_text, favour, sharpen

if TYPE_CHECKING:
    from fusionlib.card import Configuration
    from fusionlib.pairs import Pair

__all__ = ["Comparison", "Fused", "Scores", "Strategy"]

# Larger images are run in tiles, each time anew: of a megapixel a pair has half a GiB of features.
KEPT_PIXELS = 1_500_000
KEPT = 16  # of what was fused last


@dataclass(frozen=True)
class Strategy:
    """A way to fuse.

    Parameters
    ----------
    method, setting : str
        Registered name, its variant or pipeline; empty for the default.
    rule, other : str
        Fusion rules; `rule` empty for the published one. Ignored, as are the next three, by
        methods that fuse in their own way.
    share : float
        Of the other rule in the blend of both, in [0, 1].
    power : float
        To which weights are raised, 0 or more; rules without weights ignore it.
    infrared : float
        The infrared image's say, in [0, 1].
    post : str
        Post-processing; empty for the published one.

    Raises
    ------
    FusionError
        If there is no such name, or a number is out of its range.
    """

    method: str
    setting: str = ""
    rule: str = ""
    other: str = "average"
    share: float = 0.0
    power: float = 1.0
    infrared: float = 0.5
    post: str = ""

    def __post_init__(self) -> None:
        self.made_rule()
        if self.post:
            find_post(self.post)

    def configuration(self) -> Configuration:
        """Return how the method is used."""
        spec = find_method(self.method)
        if self.setting not in ("", *spec.configurations):
            raise unknown(f"{spec.axis} of {spec.name}", self.setting, spec.configurations)
        return spec.configurations[self.setting] if self.setting else spec.default

    def made_rule(self) -> Rule | None:
        """Return the rule that the numbers make; None if the method fuses in its own way."""
        return self._rule_and_code()[0]

    def code(self, weights: str = "") -> str:
        """Return the Python that makes this method; weights are named if not the default ones."""
        named = {
            find_method(self.method).axis: self.setting and f'"{self.setting}"',
            "rule": self._rule_and_code()[1],
            "weights": weights and f'"{weights}"',
            "post": self.post and f'"{self.post}"',
        }
        options = "".join(f", {name}={value}" for name, value in named.items() if value)
        return f'fl.create("{self.method}"{options})'

    def _rule_and_code(self) -> tuple[Rule | None, str]:
        rules = self.configuration().rules
        if not rules:
            return None, ""
        rule = get_rule(self.rule or rules[0])
        code = f'"{rule.name}"' if rule.name != rules[0] else ""
        written = f'"{rule.name}"'
        if self.share > 0:
            rule = blend(rule, self.other, self.share)
            code = written = f'blend({written}, "{self.other}", {exact_text(self.share)})'
        if self.power != 1 and rule.weigh:
            rule = sharpen(rule, self.power)
            code = written = f"sharpen({written}, {exact_text(self.power)})"
        if self.infrared != 0.5:
            rule = favour(rule, self.infrared)
            code = f"favour({written}, {exact_text(self.infrared)})"
        return rule, code


class Fused(NamedTuple):
    """What a strategy makes of a pair: the image as `Method.fuse` gives it, and of what.

    `weights` (H, W): the infrared image's weight at each pixel, the mean over the scales of a
    method that has several; None if the rule has no weights. `title`: the method and its rule;
    `code`: the Python that makes the method.
    """

    image: np.ndarray
    weights: np.ndarray | None
    title: str
    code: str


class Scores(NamedTuple):
    """The metrics of a fused pair, NaN where it is too small, and what is to be said of them."""

    values: dict[str, float]
    notes: list[str]


class Comparison:
    """Fuses one pair by many strategies, and keeps what the next one can use.

    Options are ``weights_dir`` and ``device`` of `fusionlib.create`.
    """

    def __init__(self, pair: Pair, **options: Any) -> None:
        self._options = options
        self._method = lru_cache(None)(self._make)
        self.use(pair)

    def use(self, pair: Pair) -> None:
        """Take another pair; methods stay loaded."""
        self.pair = pair
        kept = KEPT if pair.ir.size <= KEPT_PIXELS else 2  # one on either side
        self._encoded = lru_cache(2)(self._encode)
        self._output = lru_cache(kept)(self._run)
        self._fused = lru_cache(kept)(self._finish)
        self._scored = lru_cache(KEPT)(self._score)

    def fuse(self, strategy: Strategy) -> Fused:
        """Fuse the pair; errors are those of `fusionlib.create` and `Method.fuse`."""
        return self._fused(strategy)

    def score(self, strategy: Strategy, metrics: str) -> Scores:
        """Score the fused pair by every metric of a selection that it is large enough for."""
        return self._scored(strategy, metrics)

    def _score(self, strategy: Strategy, metrics: str) -> Scores:
        ask = partial(evaluate, self.fuse(strategy).image, self.pair.ir, self.pair.vis)
        with notes() as found:
            try:
                return Scores(ask(metrics), found)
            except ImageTooSmall:
                values: dict[str, float] = {}
        with notes() as found:
            for one in select(metrics):
                try:
                    (values[one.label],) = ask([one.metric.name], one.convention).values()
                except ImageTooSmall as error:
                    values[one.label] = float("nan")
                    found.append(str(error))
        return Scores(values, found)

    def _finish(self, strategy: Strategy) -> Fused:
        method = self._method(strategy.method, strategy.setting)
        # The same output whatever is done with it afterwards.
        raw, weights = self._output(replace(strategy, post=""))
        image = method.finish(raw, strategy.post or None, self.pair.vis)
        usual = [file.name for file in strategy.configuration().weights[:1]]
        named = method.card.weights if usual and method.card.weights not in usual else ""
        rule = strategy.made_rule()
        title = f"{method.card.method} {rule.name}" if rule else method.card.method
        return Fused(image, weights, title, strategy.code(named))

    def _make(self, name: str, setting: str) -> Method:
        chosen: dict[str, Any] = {find_method(name).axis: setting} if setting else {}
        return create(name, **chosen, retrained=True, **self._options)

    def _encode(self, name: str, setting: str) -> list[Tensor]:
        method = self._method(name, setting)
        assert isinstance(method.network, AutoEncoder)
        tensors = method.inputs(self.pair.ir, self.pair.vis)
        return encode(method.network, tensors, method.execution)

    def _run(self, strategy: Strategy) -> tuple[np.ndarray, np.ndarray | None]:
        ir, vis = self.pair.ir, self.pair.vis
        method = self._method(strategy.method, strategy.setting)
        if not isinstance(method.network, AutoEncoder):
            return method.raw(ir, vis), None
        rule = strategy.made_rule()
        assert rule is not None  # an auto-encoder has rules
        network = method.network.with_rule(rule)
        if ir.size > KEPT_PIXELS:
            tensors = method.inputs(ir, vis)
            output = run_network(network, tensors, method.execution)
            weights = rule_weights(network, tensors, method.execution) if rule.weigh else None
        else:
            maps = self._encoded(strategy.method, strategy.setting)
            output, weights = decode(network, maps, method.execution)
        height, width = ir.shape
        raw = output[0, 0, :height, :width].cpu().numpy()
        if weights is None:
            return raw, None
        return raw, weights[0, :, 0, 0, :height, :width].cpu().numpy().mean(axis=0)


def encode(network: AutoEncoder, images: Sequence[Tensor], how: Execution) -> list[Tensor]:
    """Return the features of whole images (B, 1, H, W), in one piece each."""
    with running(network, images, how, "smaller images"):
        return [network.encode(image) for image in images]


def decode(
    network: AutoEncoder, features: Sequence[Tensor], how: Execution
) -> tuple[Tensor, Tensor | None]:
    """Fuse features by the network's rule; also return its weights, None if it has none."""
    with running(network, features, how, "smaller images"):
        weights = None
        if network.rule.activity is not None:
            weights = network.weigh(torch.stack([network.activity(one) for one in features]))
        return network.decode(network.fuse([*features], weights)), weights
