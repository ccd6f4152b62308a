"""Fusion strategies to compare: a method, a rule in between, a post-processing, on one pair.

What moves the sliders of `reproduction.explorer`, without any widget. A pair is encoded once;
another rule only fuses and decodes, another post-processing only finishes. Rules in between are
made of those of `fusionlib.rules`: `blend` mixes two, `sharpen` makes weights more or less decided,
`favour` gives an image more or less of a say.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from fusionlib.errors import FusionError, ImageTooSmall, unknown
from fusionlib.evaluation import evaluate
from fusionlib.methods import Method, create, find_method
from fusionlib.metrics import select
from fusionlib.metrics.plane import notes
from fusionlib.networks.autoencoder import AutoEncoder
from fusionlib.pipelines import find_post
from fusionlib.rules import Rule, get_rule, normalised
from fusionlib.tiles import decode, encode, rule_weights, run_network

if TYPE_CHECKING:
    from fusionlib.card import Configuration
    from fusionlib.pairs import Pair

__all__ = ["Comparison", "Fused", "Scores", "Strategy", "blend", "favour", "sharpen"]

# Larger images are run in tiles, each time anew: of a megapixel a pair has half a GiB of features.
KEPT_PIXELS = 1_500_000
KEPT = 16  # of what was fused last

Value = TypeVar("Value")


@dataclass(frozen=True)
class Strategy:
    """A way to fuse.

    Attributes
    ----------
    method : str
        Registered name.
    setting : str
        Its variant or pipeline; empty for the default.
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
    UnknownName
        If there is no such method, setting, rule or post-processing.
    FusionError
        If a number is out of its range.
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
        """Return the Python that makes this method, whose ``fuse(ir, vis)`` gives the image.

        Parameters
        ----------
        weights : str
            Name of the weights, if they are not the default ones.
        """
        _, rule = self._rule_and_code()
        named = {
            find_method(self.method).axis: self.setting and f'"{self.setting}"',
            "rule": rule,
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
    """What a strategy makes of a pair.

    Attributes
    ----------
    image : ndarray of float32, shape of the visible image, values in [0, 1]
        As `Method.fuse` gives it.
    weights : ndarray of float32, shape (H, W), or None
        The infrared image's weight at each pixel, the mean over the scales of a method that has
        several; None if the rule has no weights.
    title : str
        The method and its rule in print.
    code : str
        The Python that makes the method.
    """

    image: np.ndarray
    weights: np.ndarray | None
    title: str
    code: str


class Scores(NamedTuple):
    """The metrics of a fused pair.

    Attributes
    ----------
    values : dict of str to float
        Metric -> value; NaN where the pair is too small for it.
    notes : list of str
        What is to be said of values: too small a pair, or 0/0 set by rule.
    """

    values: dict[str, float]
    notes: list[str]


class _Features(NamedTuple):
    """What an encoder makes of a pair, and where the pair is in it: small images are padded."""

    maps: list[Tensor]
    crop: tuple[slice, slice]


class Comparison:
    """Fuses one pair by many strategies, and keeps what the next one can use.

    Parameters
    ----------
    pair : Pair
    weights_dir : path, optional
        Where to look for weights first.
    device : str
        "cpu", "cuda", ...

    Attributes
    ----------
    pair : Pair
        May be changed; methods stay loaded.
    """

    def __init__(
        self,
        pair: Pair,
        *,
        weights_dir: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> None:
        self._options: dict[str, Any] = {"weights_dir": weights_dir, "device": device}
        self._methods: dict[tuple[str, str], Method] = {}
        self.pair = pair

    @property
    def pair(self) -> Pair:
        """The pair that is fused."""
        return self._pair

    @pair.setter
    def pair(self, pair: Pair) -> None:
        self._pair = pair
        self._features: _Newest[_Features] = _Newest(2)  # one method on either side
        kept = KEPT if pair.ir.size <= KEPT_PIXELS else 2  # one on either side
        self._outputs: _Newest[tuple[np.ndarray, np.ndarray | None]] = _Newest(kept)
        self._fused: _Newest[Fused] = _Newest(kept)
        self._scores: _Newest[Scores] = _Newest(KEPT)

    def fuse(self, strategy: Strategy) -> Fused:
        """Fuse the pair.

        Raises
        ------
        WeightsNotFound, WeightsMismatch
            If the method's weights are missing or damaged.
        ImageError, PairMismatch, MemoryError
            As `Method.fuse` does.
        """
        return self._fused.get(strategy, lambda: self._finish(strategy))

    def score(self, strategy: Strategy, metrics: str) -> Scores:
        """Score the fused pair by every metric that it is large enough for.

        Parameters
        ----------
        strategy : Strategy
        metrics : str
            A selection, as of `fusionlib.evaluate`.

        Raises
        ------
        FusionError
            As `fuse` does.
        """
        return self._scores.get(
            (strategy, metrics), lambda: self._score(self.fuse(strategy).image, metrics)
        )

    def _score(self, image: np.ndarray, metrics: str) -> Scores:
        chosen = select(metrics)
        ask = partial(evaluate, image, self.pair.ir, self.pair.vis)
        with notes() as found:
            try:
                return Scores(ask(metrics), found)
            except ImageTooSmall:
                values: dict[str, float] = {}
                for one in chosen:
                    try:
                        values |= {
                            one.label: ask([one.metric.name], one.convention)[one.metric.name]
                        }
                    except ImageTooSmall as error:
                        values[one.label] = float("nan")
                        found.append(str(error))
        return Scores(values, found)

    def _finish(self, strategy: Strategy) -> Fused:
        method = self._method(strategy)
        # The same output whatever is done with it afterwards.
        raw, weights = self._outputs.get(
            replace(strategy, post=""), lambda: self._fuse(method, strategy)
        )
        image = method.finish(raw, strategy.post or None, self.pair.vis)
        usual = [file.name for file in strategy.configuration().weights[:1]]
        named = method.card.weights if usual and method.card.weights not in usual else ""
        rule = strategy.made_rule()
        title = f"{method.card.method} {rule.name}" if rule else method.card.method
        return Fused(image, weights, title, strategy.code(named))

    def _method(self, strategy: Strategy) -> Method:
        key = strategy.method, strategy.setting
        if key not in self._methods:
            axis = find_method(strategy.method).axis
            setting: dict[str, Any] = {axis: strategy.setting} if strategy.setting else {}
            self._methods[key] = create(strategy.method, **setting, retrained=True, **self._options)
        return self._methods[key]

    def _fuse(self, method: Method, strategy: Strategy) -> tuple[np.ndarray, np.ndarray | None]:
        ir, vis = self.pair.ir, self.pair.vis
        if not isinstance(method.network, AutoEncoder):
            return method.raw(ir, vis), None
        rule = strategy.made_rule()
        assert rule is not None  # an auto-encoder has rules
        network = method.network.with_rule(rule)
        if ir.size > KEPT_PIXELS:
            tensors, crop = method.inputs(ir, vis)
            output = run_network(network, tensors, method.execution)
            weights = rule_weights(network, tensors, method.execution) if rule.weigh else None
        else:
            key = strategy.method, strategy.setting
            features = self._features.get(key, lambda: self._encode(method))
            output, weights = decode(network, features.maps, method.execution)
            crop = features.crop
        raw = output[0, 0].cpu().numpy()[crop]
        if weights is None:
            return raw, None
        return raw, weights[0, :, 0, 0].cpu().numpy()[..., *crop].mean(axis=0)

    def _encode(self, method: Method) -> _Features:
        assert isinstance(method.network, AutoEncoder)
        tensors, crop = method.inputs(self.pair.ir, self.pair.vis)
        return _Features(encode(method.network, tensors, method.execution), crop)


class _Newest(Generic[Value]):
    """Keeps the values that were asked for last, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        value = self._values.pop(key, None)
        self._values[key] = make() if value is None else value
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return self._values[key]


# ---------------------------------------------------------------- rules in between


def blend(rule: str | Rule, other: str | Rule, share: float) -> Rule:
    """Mix two rules: what they fuse is added, (1 - share) of the first and `share` of the other.

    Parameters
    ----------
    rule, other : str or Rule
    share : float
        From 0, the first rule itself, to 1, the other itself.

    Raises
    ------
    UnknownName
        If there is no such rule.
    FusionError
        If the share is not in [0, 1].
    """
    first, second = get_rule(rule), get_rule(other)
    _check_share("share of the second rule", share)
    if share == 0 or first == second:
        return first
    if share == 1:
        return second
    parts = [(first, 1 - share), (second, share)]
    weighing = [(one, part * (1 - _combined(one))) for one, part in parts if one.weigh]
    combining = [(one, part * _combined(one)) for one, part in parts if one.combine]
    return Rule(
        f"blend({first.name}, {second.name}, {exact_text(share)})",
        f"{1 - share:g} of what {first.name} fuses and {share:g} of what {second.name} fuses.",
        activity=partial(_activities, [one for one, _ in weighing]) if weighing else None,
        weigh=partial(_blended_weights, weighing) if weighing else None,
        combine=partial(_blended, combining) if combining else None,
        whole_map=first.whole_map or second.whole_map,
        combined=sum(part for _, part in combining),
        maps=sum(one.maps for one, _ in weighing),
    )


def sharpen(rule: str | Rule, power: float) -> Rule:
    """Raise a rule's weights to a power and let them sum to 1 again.

    Parameters
    ----------
    rule : str or Rule
        A rule that weighs; of a blend only what weighs is sharpened.
    power : float
        0 gives equal weights, 1 the rule itself; the higher, the nearer to a choice of the most
        active image.

    Raises
    ------
    UnknownName
        If there is no such rule.
    FusionError
        If the power is negative or not finite, or the rule has no weights.
    """
    rule = get_rule(rule)
    if not 0 <= power < float("inf"):
        raise FusionError(f"the power of the weights is {power}; it must be 0 or more, and finite.")
    if rule.weigh is None:
        raise FusionError(f"the rule {rule.name!r} has no weights to sharpen; use l1_norm or mean.")
    if power == 1:
        return rule
    return replace(
        rule,
        name=f"sharpen({rule.name}, {exact_text(power)})",
        summary=f"{rule.summary.rstrip('.')}; weights to the power of {power:g}.",
        weigh=partial(_sharpened, rule.weigh, power),
    )


def favour(rule: str | Rule, first: float) -> Rule:
    """Give the first image, the infrared one, more or less of a say than the others.

    Weights are multiplied by `first` for the first image and by 1 - `first` for each other, and
    sum to 1 again. Where a rule has none, the features are multiplied so, and `average` becomes a
    weighted average.

    Parameters
    ----------
    rule : str or Rule
    first : float
        From 0 to 1; 0.5 changes nothing.

    Raises
    ------
    UnknownName
        If there is no such rule.
    FusionError
        If `first` is not in [0, 1].
    """
    rule = get_rule(rule)
    _check_share("share of the first image", first)
    if first == 0.5:
        return rule
    return replace(
        rule,
        name=f"favour({rule.name}, {exact_text(first)})",
        summary=f"{rule.summary.rstrip('.')}; the first image's say is {first:g}.",
        weigh=rule.weigh and partial(_favoured_weights, rule.weigh, first),
        combine=rule.combine and partial(_favoured, rule.combine, first),
    )


def exact_text(number: float) -> str:
    """Return the shortest text that gives the number again: rules of equal names are equal."""
    text = f"{number:g}"
    return text if float(text) == number else repr(float(number))


def _check_share(what: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise FusionError(f"the {what} is {share}; it must be in [0, 1].")


def _combined(rule: Rule) -> float:
    return rule.combined if rule.combine else 0.0


def _activities(rules: Sequence[Rule], features: Tensor) -> Tensor:
    return torch.cat([rule.activity(features) for rule in rules if rule.activity], dim=1)


def _blended_weights(parts: Sequence[tuple[Rule, float]], activity: Tensor) -> Tensor:
    """Mix the weights of rules, each from its own of the maps that `_activities` gave."""
    maps = activity.split([rule.maps for rule, _ in parts], dim=2)
    weights = [
        rule.weigh(own) * part for (rule, part), own in zip(parts, maps, strict=True) if rule.weigh
    ]
    return reduce(torch.add, weights) / sum(part for _, part in parts)


def _blended(parts: Sequence[tuple[Rule, float]], features: Sequence[Tensor]) -> Tensor:
    fused = [rule.combine(features) * part for rule, part in parts if rule.combine]
    return reduce(torch.add, fused) / sum(part for _, part in parts)


def _sharpened(weigh: Callable[[Tensor], Tensor], power: float, activity: Tensor) -> Tensor:
    weights = weigh(activity)
    # To the largest first: a high power of small weights would be 0 everywhere.
    return normalised((weights / weights.amax(dim=0, keepdim=True)) ** power)


def _favoured_weights(weigh: Callable[[Tensor], Tensor], first: float, activity: Tensor) -> Tensor:
    weights = weigh(activity)
    says = weights.new_tensor([first] + [1 - first] * (len(weights) - 1))
    return normalised(weights * says.view(-1, 1, 1, 1, 1))


def _favoured(
    combine: Callable[[Sequence[Tensor]], Tensor], first: float, features: Sequence[Tensor]
) -> Tensor:
    says = [first] + [1 - first] * (len(features) - 1)
    factors = [say * len(says) / sum(says) for say in says]
    return combine([f * factor for f, factor in zip(features, factors, strict=True)])
