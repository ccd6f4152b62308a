"""Fusion rules: how the feature maps of several images become one.

A rule weighs the features of K >= 2 images at every pixel. Where it measures
how active an image is there, it does so in two steps that `fusionlib.tiles`
can take apart: `Rule.activity` turns features (B, C, H, W) into one map
(B, 1, H, W), and `Rule.weigh` turns the stacked maps (K, B, 1, H, W) into
weights of the same shape that sum to 1 over K.

======================  =======================================================
name                    weight of image i at a pixel
======================  =======================================================
``addition``            1 (the features are summed)
``average``             1 / K
``maximum``             the largest value per channel wins (no weights)
``l1_norm``             L1 norm over channels, divided by its sum over images
``mean``                channel mean, min-max over the map, softmax over images
``mean_eq7``            channel mean, divided by its sum over images
======================  =======================================================

Rules in between are made of these: `blend` mixes two, `sharpen` makes weights more or less
decided, `favour` gives an image more or less of a say.

References
----------
.. [1] X. Song, X.-J. Wu, H. Li, J. Sun, V. Palade, "Res2NetFuse: A Fusion Method
   for Infrared and Visible Images", arXiv:2112.14540, 2021, equations 5 to 8.
.. [2] H. Li, X.-J. Wu, "DenseFuse: A Fusion Approach to Infrared and Visible
   Images", IEEE Trans. Image Process. 28(5), 2019, doi 10.1109/TIP.2018.2887342.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from .errors import FusionError, PairMismatch, unknown

__all__ = ["RULES", "Rule", "blend", "exact_text", "favour", "get_rule", "sharpen"]

# Keeps the min-max normalisation of `mean` finite on a constant map, as released.
MINMAX_EPS = 1e-5


@dataclass(frozen=True)
class Rule:
    """A fusion rule for K >= 2 feature tensors of one shape (B, C, H, W).

    Attributes
    ----------
    name : str
        The name under which it is registered.
    summary : str
        One line: what it does and where it comes from.
    activity : callable or None
        Features (B, C, H, W) -> activity maps (B, maps, H, W); None if the rule does not
        look at the features to weigh them.
    weigh : callable or None
        Activity maps (K, B, maps, H, W) -> weights (K, B, 1, H, W), which sum to 1 over K.
    combine : callable or None
        For rules without weights: sequence of K features -> fused features.
    whole_map : bool
        Whether a weight depends on the whole activity map and not on its pixel
        alone, so that an image processed in tiles needs all tiles first.
    combined : float
        Of a blend of a rule that weighs and one that combines: the share of what is combined.
    maps : int
        How many activity maps it looks at: 1, of a blend one per rule that weighs.
    """

    name: str
    summary: str
    activity: Callable[[Tensor], Tensor] | None = None
    weigh: Callable[[Tensor], Tensor] | None = None
    combine: Callable[[Sequence[Tensor]], Tensor] | None = None
    whole_map: bool = False
    combined: float = 1.0
    maps: int = 1

    def weights(self, features: Sequence[Tensor]) -> Tensor | None:
        """Return the weights (K, B, 1, H, W) of the images, None if the rule has none.

        Of a blend with a rule that has none they are those of the other.
        """
        if self.activity is None or self.weigh is None:
            return None
        _check(features)
        return self.weigh(torch.stack([self.activity(f) for f in features]))

    def __call__(self, features: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """Fuse K feature tensors (B, C, H, W) into one.

        Parameters
        ----------
        features : sequence of Tensor
            Two or more tensors of one shape.
        weights : Tensor, shape (K, B, 1, H, W), optional
            Weights computed beforehand; by default those of `weights`.

        Raises
        ------
        PairMismatch
            If there are fewer than two tensors, or their shapes differ.
        """
        _check(features)
        if weights is None:
            weights = self.weights(features)
        if weights is None:
            assert self.combine is not None
            return self.combine(features)
        fused = features[0] * weights[0]
        for feature, weight in zip(features[1:], weights[1:], strict=True):
            fused = torch.addcmul(fused, feature, weight)
        return fused if self.combine is None else fused.lerp(self.combine(features), self.combined)


def _check(features: Sequence[Tensor]) -> None:
    if len(features) < 2:
        raise PairMismatch(f"a fusion rule takes two or more feature maps, not {len(features)}.")
    shapes = {tuple(f.shape) for f in features}
    if len(shapes) > 1:
        raise PairMismatch(
            f"a fusion rule takes feature maps of one shape, not {sorted(shapes)}; "
            "the images must have one size."
        )


def _l1_activity(features: Tensor) -> Tensor:
    return features.abs().sum(dim=1, keepdim=True)


def _mean_activity(features: Tensor) -> Tensor:
    return features.mean(dim=1, keepdim=True)


def _ratio(activity: Tensor) -> Tensor:
    """Divide by the sum over images; equal weights where all activity is zero."""
    total = activity.sum(dim=0, keepdim=True)
    silent = total == 0
    share = activity / total.masked_fill(silent, 1.0)
    return share.masked_fill(silent, 1.0 / len(activity))


def _minmax_softmax(activity: Tensor) -> Tensor:
    """Stretch each map to 0..1, then softmax over images (the released `mean` rule)."""
    low = activity.amin(dim=(-2, -1), keepdim=True)
    high = activity.amax(dim=(-2, -1), keepdim=True)
    return torch.softmax((activity - low).div_(high - low + MINMAX_EPS), dim=0)


def _sum(features: Sequence[Tensor]) -> Tensor:
    fused = features[0]
    for feature in features[1:]:
        fused = fused + feature
    return fused


def _average(features: Sequence[Tensor]) -> Tensor:
    return _sum(features) / len(features)


def _maximum(features: Sequence[Tensor]) -> Tensor:
    fused = torch.maximum(features[0], features[1])
    for feature in features[2:]:
        fused = torch.maximum(fused, feature)
    return fused


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "addition",
            "Sum of the features (DenseFuse's TensorFlow release); the output range doubles.",
            combine=_sum,
        ),
        Rule(
            "average",
            "Mean of the features (what DenseFuse's PyTorch release calls addition).",
            combine=_average,
        ),
        Rule("maximum", "Largest value per channel and pixel.", combine=_maximum),
        Rule(
            "l1_norm",
            "Res2NetFuse eq. 5: share of the channel-wise L1 norm, without block averaging.",
            activity=_l1_activity,
            weigh=_ratio,
        ),
        Rule(
            "mean",
            "Res2NetFuse as released: channel mean, min-max over the map, softmax over images.",
            activity=_mean_activity,
            weigh=_minmax_softmax,
            whole_map=True,
        ),
        Rule(
            "mean_eq7",
            "Res2NetFuse eq. 7 as printed: share of the channel mean. On features that are "
            "non-negative (after ReLU) it is eq. 5 exactly.",
            activity=_mean_activity,
            weigh=_ratio,
        ),
    )
}


def get_rule(rule: str | Rule) -> Rule:
    """Look a rule up by name; a `Rule` is returned as it is.

    Raises
    ------
    UnknownName
        If no rule has that name; the message lists the nearest ones.
    """
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise unknown("fusion rule", rule, RULES)
    return RULES[rule]


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
    return _sum(weights) / sum(part for _, part in parts)


def _blended(parts: Sequence[tuple[Rule, float]], features: Sequence[Tensor]) -> Tensor:
    fused = [rule.combine(features) * part for rule, part in parts if rule.combine]
    return _sum(fused) / sum(part for _, part in parts)


def _sharpened(weigh: Callable[[Tensor], Tensor], power: float, activity: Tensor) -> Tensor:
    weights = weigh(activity)
    # To the largest first: a high power of small weights would be 0 everywhere.
    return _ratio((weights / weights.amax(dim=0, keepdim=True)) ** power)


def _favoured_weights(weigh: Callable[[Tensor], Tensor], first: float, activity: Tensor) -> Tensor:
    weights = weigh(activity)
    says = weights.new_tensor([first] + [1 - first] * (len(weights) - 1))
    return _ratio(weights * says.view(-1, 1, 1, 1, 1))


def _favoured(
    combine: Callable[[Sequence[Tensor]], Tensor], first: float, features: Sequence[Tensor]
) -> Tensor:
    says = [first] + [1 - first] * (len(features) - 1)
    factors = [say * len(says) / sum(says) for say in says]
    return combine([f * factor for f, factor in zip(features, factors, strict=True)])
