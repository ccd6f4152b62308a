"""rules: analytic weights, numpy re-computations of the formulas, silent regions, bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from fusionlib.errors import PairMismatch, UnknownName
from fusionlib.rules import RULES, Rule, get_rule

WEIGHTED = [name for name, rule in RULES.items() if rule.activity is not None]
# A weight is a quotient of float32 numbers: K weights sum to 1 within K roundings of 2**-24.
ROUNDING = 3 * 2**-23

# (K, C, H, W), as they come out of a ReLU: many exact zeros, no subnormals.
features_of_several = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    elements=st.one_of(
        st.just(0.0), st.floats(0, 1e6, width=32, allow_subnormal=False), st.just(1e30)
    ),
)


def pixels(*columns: list[float]) -> list[torch.Tensor]:
    """One feature tensor (1, C, 1, 1) per image from its channel values."""
    return [torch.tensor(c, dtype=torch.float32).view(1, -1, 1, 1) for c in columns]


def random(count: int, *, channels=5, size=(6, 7), seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, channels, *size, generator=generator) * 9 for _ in range(count)]


@pytest.mark.parametrize(
    "rule, columns, expected",
    [
        ("addition", ([1, 2], [3, 5], [10, 20]), [14, 27]),
        ("average", ([1, 2], [3, 5], [8, 2]), [4, 3]),
        ("maximum", ([1, 5], [3, 2], [2, 9]), [3, 9]),
        # Norms 4 and 12, so the weights are 1/4 and 3/4.
        ("l1_norm", ([4, 0], [4, 8]), [4, 6]),
        # The norm takes absolute values: again 4 and 12.
        ("l1_norm", ([-4, 0], [4, -8]), [2, -6]),
        # Norms 2, 2 and 4.
        ("l1_norm", ([2, 0], [0, 2], [4, 0]), [2.5, 0.5]),
        ("mean_eq7", ([2, 0], [0, 2], [4, 0]), [2.5, 0.5]),
        # A map of one pixel is constant: min-max gives 0 for every image, softmax 1/K.
        ("mean", ([3, 0], [0, 3], [6, 6]), [3, 3]),
    ],
)
def test_known_values(rule, columns, expected):
    fused = get_rule(rule)(pixels(*columns)).flatten().tolist()
    assert fused == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("count", [2, 3])
def test_mean_as_released_by_numpy(count):
    """Each map is stretched by itself, those of a batch too."""
    features = random(count)
    values = np.stack([f.numpy().astype(np.float64) for f in features])  # (K, B, C, H, W)
    maps = values.mean(axis=2)
    low, high = (f(maps, axis=(2, 3), keepdims=True) for f in (np.min, np.max))
    stretched = np.exp((maps - low) / (high - low + 1e-5))
    weights = stretched / stretched.sum(axis=0)
    expected = (weights[:, :, None] * values).sum(axis=0)
    assert RULES["mean"](features).numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rule", WEIGHTED)
@given(values=features_of_several)
@settings(max_examples=60)
def test_weights_sum_to_one(rule, values):
    """Where all images are silent, they are equal."""
    values = values.copy()
    values[..., 0, 0] = 0
    weights = RULES[rule].weights(list(torch.from_numpy(values)[:, None]))
    assert weights.shape == (len(values), 1, 1, *values.shape[2:])
    assert torch.all(weights >= 0)
    assert torch.allclose(weights.sum(dim=0), torch.ones(()), rtol=0, atol=ROUNDING)
    if rule != "mean":  # which looks at the whole map
        assert torch.all(weights[..., 0, 0] == np.float32(1 / len(values)))


@pytest.mark.parametrize("rule", RULES)
def test_all_zero_features_stay_zero(rule):
    fused = RULES[rule]([torch.zeros(1, 3, 4, 5)] * 3)
    assert torch.equal(fused, torch.zeros(1, 3, 4, 5))


@given(values=features_of_several)
@settings(max_examples=60)
def test_equation_7_is_equation_5_on_features_after_relu(values):
    """Both are shares of a channel sum; float32 sums of C <= 4 terms differ by rounding."""
    features = list(torch.from_numpy(values)[:, None])
    a, b = RULES["l1_norm"].weights(features), RULES["mean_eq7"].weights(features)
    assert torch.allclose(a, b, rtol=8 * 2**-23, atol=1e-37)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_images_does_not_matter(rule):
    first, *others = [RULES[rule](order) for order in itertools.permutations(random(3))]
    assert all(torch.allclose(first, other, rtol=1e-6) for other in others)


@pytest.mark.parametrize("rule", WEIGHTED)
def test_weights_can_be_given(rule):
    features = random(2)
    weights = torch.stack([torch.ones(2, 1, 6, 7), torch.zeros(2, 1, 6, 7)])
    assert torch.equal(RULES[rule](features, weights), features[0])


def test_only_the_released_mean_needs_the_whole_map():
    """The others give a crop the crop of their result."""
    features = random(2)
    for name, rule in RULES.items():
        crop = rule([f[..., :3, 2:] for f in features])
        same = torch.allclose(crop, rule(features)[..., :3, 2:], rtol=1e-6, atol=0)
        assert same != rule.whole_map, name


@pytest.mark.parametrize("rule", RULES)
def test_bad_features_are_refused(rule):
    with pytest.raises(PairMismatch, match=r"two or more feature maps, not 1"):
        RULES[rule](random(1))
    with pytest.raises(PairMismatch, match=r"\(1, 1, 4, 5\), \(1, 3, 4, 5\)"):  # would broadcast
        RULES[rule]([torch.ones(1, 3, 4, 5), torch.ones(1, 1, 4, 5)])


def test_rules_by_name():
    with pytest.raises(UnknownName, match=r"'l1norm'\. Did you mean 'l1_norm'\? Known: addition"):
        get_rule("l1norm")
    mine = Rule("first", "the first image", combine=lambda features: features[0])
    assert get_rule(mine) is mine
