"""Fusion rules: how the feature maps of several images become one.

A rule fuses the features of K >= 2 images at every pixel. Where it weighs them by how active an
image is there, it does so in two steps that `fusionlib.tiles` can take apart: `Rule.activity` and
`Rule.weigh`. `RULES` has the rules by name, each with what it does.

References
----------
.. [1] X. Song, X.-J. Wu, H. Li, J. Sun, V. Palade, "Res2NetFuse: A Fusion Method
   for Infrared and Visible Images", arXiv:2112.14540, 2021, equations 5 to 8.
.. [2] H. Li, X.-J. Wu, "DenseFuse: A Fusion Approach to Infrared and Visible
   Images", IEEE Trans. Image Process. 28(5), 2019, doi 10.1109/TIP.2018.2887342.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor

from .errors import PairMismatch, unknown

__all__ = ["RULES", "Rule", "get_rule", "normalised"]

# Keeps the min-max normalisation of `mean` finite on a constant map, as released.
MINMAX_EPS = 1e-5


@dataclass(frozen=True)
class Rule:
    """A fusion rule for K >= 2 feature tensors of one shape (B, C, H, W).

    Attributes
    ----------
    name, summary : str
        The name under which it is registered; what it does and where it comes from.
    activity : callable or None
        Features (B, C, H, W) -> activity maps (B, maps, H, W); None if the rule does not
        look at the features to weigh them.
    weigh : callable or None
        Activity maps (K, B, maps, H, W) -> weights (K, B, 1, H, W), which sum to 1 over K.
    combine : callable or None
        For rules without weights: sequence of K features -> fused features.
    whole_map : bool
        Whether a weight depends on the whole activity map and not on its pixel alone.
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


def normalised(activity: Tensor) -> Tensor:
    """Divide activity (K, ...) by its sum over K images; equal weights where all is zero."""
    total = activity.sum(dim=0, keepdim=True)
    silent = total == 0
    share = activity / total.masked_fill(silent, 1.0)
    return share.masked_fill(silent, 1.0 / len(activity))


def _minmax_softmax(activity: Tensor) -> Tensor:
    """Stretch each map to 0..1, then softmax over images (the released `mean` rule)."""
    low = activity.amin(dim=(-2, -1), keepdim=True)
    high = activity.amax(dim=(-2, -1), keepdim=True)
    return torch.softmax((activity - low).div_(high - low + MINMAX_EPS), dim=0)


def _average(features: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, features) / len(features)


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "addition",
            "Sum of the features (DenseFuse's TensorFlow release); the output range doubles.",
            combine=partial(reduce, torch.add),
        ),
        Rule(
            "average",
            "Mean of the features (what DenseFuse's PyTorch release calls addition).",
            combine=_average,
        ),
        Rule(
            "maximum",
            "Largest value per channel and pixel.",
            combine=partial(reduce, torch.maximum),
        ),
        Rule(
            "l1_norm",
            "Res2NetFuse eq. 5: share of the channel-wise L1 norm, without block averaging.",
            activity=_l1_activity,
            weigh=normalised,
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
            weigh=normalised,
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
