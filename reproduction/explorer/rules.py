"""Rules in between, made of those of `fusionlib.rules`.

`blend` mixes two, `sharpen` makes weights more or less decided, `favour` gives an image more or
less of a say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce

import torch
from torch import Tensor

from fusionlib.errors import FusionError
from fusionlib.rules import Rule, get_rule, normalised

__all__ = ["blend", "exact_text", "favour", "sharpen"]


def blend(rule: str | Rule, other: str | Rule, share: float) -> Rule:
    """Mix two rules: what they fuse is added, (1 - share) of the first and `share` of the other.

    A share of 0 is the first rule itself, 1 the other itself.

    Raises
    ------
    FusionError
        If there is no such rule, or the share is not in [0, 1].
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

    A power of 0 gives equal weights, 1 the rule itself; the higher, the nearer to a choice of the
    most active image. Of a blend only what weighs is sharpened.

    Raises
    ------
    FusionError
        If there is no such rule, it has no weights, or the power is negative or not finite.
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
    sum to 1 again; 0.5 changes nothing. Where a rule has none, the features are multiplied so, and
    `average` becomes a weighted average.

    Raises
    ------
    FusionError
        If there is no such rule, or `first` is not in [0, 1].
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
