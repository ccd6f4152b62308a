"""rules: analytic weights, numpy re-computations of the formulas, silent regions, bad input."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from fusionlib.errors import FusionError, PairMismatch, UnknownName
from fusionlib.rules import RULES, Rule, blend, favour, get_rule, sharpen

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
        ("addition", ([1, 2], [3, 5]), [4, 7]),
        ("addition", ([1, 2], [3, 5], [10, 20]), [14, 27]),
        ("average", ([1, 2], [3, 5]), [2, 3.5]),
        ("average", ([1, 2], [3, 5], [8, 2]), [4, 3]),
        ("maximum", ([1, 5], [3, 2]), [3, 5]),
        ("maximum", ([1, 5], [3, 2], [2, 9]), [3, 9]),
        # Norms 4 and 12, so the weights are 1/4 and 3/4.
        ("l1_norm", ([4, 0], [4, 8]), [4, 6]),
        # The norm takes absolute values: again 4 and 12.
        ("l1_norm", ([-4, 0], [4, -8]), [2, -6]),
        # Norms 2, 2 and 4.
        ("l1_norm", ([2, 0], [0, 2], [4, 0]), [2.5, 0.5]),
        ("mean_eq7", ([4, 0], [4, 8]), [4, 6]),
        ("mean_eq7", ([2, 0], [0, 2], [4, 0]), [2.5, 0.5]),
        # A map of one pixel is constant: min-max gives 0 for every image, softmax 1/K.
        ("mean", ([4, 0], [4, 8]), [4, 4]),
        ("mean", ([3, 0], [0, 3], [6, 6]), [3, 3]),
    ],
)
def test_known_values(rule, columns, expected):
    fused = get_rule(rule)(pixels(*columns)).flatten().tolist()
    assert fused == pytest.approx(expected, rel=ROUNDING)


def test_mean_on_a_known_map():
    """Channel means 0.5 and 1.5 are stretched to 0 and 1; the other image is flat, so 0 and 0."""
    ramp = torch.tensor([[0.0, 0.0], [1.0, 3.0]]).view(1, 2, 1, 2)
    flat = torch.full_like(ramp, 7.0)
    weights = RULES["mean"].weights([ramp, flat])
    assert weights is not None
    top = 1 / (1 + 1e-5)  # the released epsilon stands in the denominator
    expected = [0.5, np.exp(top) / (np.exp(top) + 1)]
    assert weights[0].flatten().tolist() == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("count", [2, 3])
def test_mean_as_released_by_numpy(count):
    features = random(count)
    values = np.stack([f.numpy().astype(np.float64) for f in features])  # (K, B, C, H, W)
    maps = values.mean(axis=2)
    low, high = (f(maps, axis=(2, 3), keepdims=True) for f in (np.min, np.max))
    stretched = np.exp((maps - low) / (high - low + 1e-5))
    weights = stretched / stretched.sum(axis=0)
    expected = (weights[:, :, None] * values).sum(axis=0)
    assert RULES["mean"](features).numpy() == pytest.approx(expected, rel=1e-5)


def test_mean_stretches_each_image_of_a_batch_by_itself():
    features = random(2)
    alone = [RULES["mean"]([f[i : i + 1] for f in features]) for i in range(2)]
    assert torch.allclose(RULES["mean"](features), torch.cat(alone), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rule", WEIGHTED)
@given(values=features_of_several)
@settings(max_examples=60)
def test_weights_sum_to_one(rule, values):
    weights = RULES[rule].weights(list(torch.from_numpy(values)[:, None]))
    assert weights is not None and weights.shape == (len(values), 1, 1, *values.shape[2:])
    assert torch.all(weights >= 0)
    assert torch.allclose(weights.sum(dim=0), torch.ones(()), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("rule", ["l1_norm", "mean_eq7"])
@given(values=features_of_several)
@settings(max_examples=60)
def test_silent_pixels_get_equal_weights(rule, values):
    values = values.copy()
    values[..., 0, 0] = 0
    weights = RULES[rule].weights(list(torch.from_numpy(values)[:, None]))
    assert weights is not None
    assert torch.all(weights[..., 0, 0] == np.float32(1 / len(values)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [2, 3])
def test_all_zero_features_stay_zero(rule, count):
    fused = RULES[rule]([torch.zeros(1, 3, 4, 5)] * count)
    assert torch.equal(fused, torch.zeros(1, 3, 4, 5))


@given(values=features_of_several)
@settings(max_examples=60)
def test_equation_7_is_equation_5_on_features_after_relu(values):
    """Both are shares of a channel sum; float32 sums of C <= 4 terms differ by rounding."""
    features = list(torch.from_numpy(values)[:, None])
    a, b = RULES["l1_norm"].weights(features), RULES["mean_eq7"].weights(features)
    assert torch.allclose(a, b, rtol=8 * 2**-23, atol=1e-37)


@pytest.mark.parametrize("rule", [name for name in RULES if name != "addition"])
@pytest.mark.parametrize("count", [2, 3])
def test_equal_images_are_kept(rule, count):
    feature = random(1)[0]
    assert torch.allclose(RULES[rule]([feature] * count), feature, rtol=4 * 2**-23, atol=0)


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


def test_rules_without_activity_have_no_weights():
    assert all(RULES[name].weights(random(2)) is None for name in RULES if name not in WEIGHTED)


@pytest.mark.parametrize("rule", RULES)
def test_one_image_is_refused(rule):
    with pytest.raises(PairMismatch, match=r"two or more feature maps, not 1"):
        RULES[rule](random(1))


@pytest.mark.parametrize("rule", RULES)
def test_other_shapes_are_refused(rule):
    features = [torch.ones(1, 3, 4, 5), torch.ones(1, 3, 4, 6)]
    with pytest.raises(PairMismatch, match=r"\(1, 3, 4, 5\), \(1, 3, 4, 6\)"):
        RULES[rule](features)
    with pytest.raises(PairMismatch):  # would broadcast
        RULES[rule]([torch.ones(1, 3, 4, 5), torch.ones(1, 1, 4, 5)])


def test_unknown_rule_lists_the_nearest():
    with pytest.raises(UnknownName, match=r"'l1norm'\. Did you mean 'l1_norm'\? Known: addition"):
        get_rule("l1norm")


def test_a_rule_object_passes_through():
    mine = Rule("first", "the first image", combine=lambda features: features[0])
    assert get_rule(mine) is mine
    features = random(2)
    assert torch.equal(mine(features), features[0])


# ---------------------------------------------------------------- rules in between


def shares(rule, *columns):
    """Weights of one pixel as numbers, one per image."""
    weights = get_rule(rule).weights(pixels(*columns))
    return weights.flatten().tolist()


def test_known_blends():
    images = pixels([4, 0], [4, 8])
    # l1_norm gives [4, 6] (weights 1/4 and 3/4), average [4, 4], maximum [4, 8].
    for rule, expected in (
        (blend("l1_norm", "average", 0.5), [4, 5]),
        (blend("average", "l1_norm", 0.25), [4, 4.5]),
        (blend("average", "maximum", 0.25), [4, 5]),
        (blend("l1_norm", "maximum", 0.5), [4, 7]),
    ):
        torch.testing.assert_close(
            rule(images).flatten(), torch.tensor(expected, dtype=torch.float32)
        )


def test_a_blend_of_weights_is_the_blend_of_what_they_fuse():
    images = random(3)
    mixed = blend("l1_norm", "mean", 0.3)
    expected = 0.7 * get_rule("l1_norm")(images) + 0.3 * get_rule("mean")(images)
    # Features below 9: a few roundings of 2**-24 of that.
    torch.testing.assert_close(mixed(images), expected, rtol=0, atol=9 * 2**-21)
    weights = 0.7 * get_rule("l1_norm").weights(images) + 0.3 * get_rule("mean").weights(images)
    torch.testing.assert_close(mixed.weights(images), weights, rtol=0, atol=2**-21)


def test_blends_can_be_blended():
    images = random(2)
    inner = blend("l1_norm", "maximum", 0.25)
    outer = blend(inner, "mean", 0.5)
    expected = (
        0.375 * get_rule("l1_norm")(images)
        + 0.125 * get_rule("maximum")(images)
        + 0.5 * get_rule("mean")(images)
    )
    torch.testing.assert_close(outer(images), expected, rtol=0, atol=9 * 2**-21)


def test_sharper_weights_by_hand():
    # Norms 4 and 12: weights 1/4 and 3/4; squared and divided by their sum, 1/10 and 9/10.
    assert shares(sharpen("l1_norm", 2), [4, 0], [4, 8]) == pytest.approx([0.1, 0.9], abs=1e-6)
    assert shares(sharpen("l1_norm", 0), [4, 0], [4, 8]) == [0.5, 0.5]
    # So high a power of either weight is 0 in float32; the larger one wins all the same.
    assert shares(sharpen("l1_norm", 500), [4, 0], [4, 8]) == [0, 1]


def test_a_favoured_image_by_hand():
    # Weights 1/4 and 3/4, times 3/4 and 1/4: equal.
    assert shares(favour("l1_norm", 0.75), [4, 0], [4, 8]) == pytest.approx([0.5, 0.5], abs=1e-6)
    assert shares(favour("l1_norm", 1), [4, 0], [4, 8]) == [1, 0]
    assert favour("average", 0.75)(pixels([8, 0], [4, 8])).flatten().tolist() == [7, 2]
    assert favour("maximum", 0.25)(pixels([8, 0], [4, 8])).flatten().tolist() == [6, 12]
    # Three images: says of 0.2, 0.8 and 0.8 are 1/9, 4/9 and 4/9.
    fused = favour("average", 0.2)(pixels([9], [18], [27])).item()
    assert fused == pytest.approx(1 + 8 + 12, rel=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_neutral_settings_are_the_rule_itself(name):
    rule = get_rule(name)
    assert favour(name, 0.5) is rule
    assert blend(name, "average", 0) is rule
    assert blend("average", name, 1) is rule
    assert blend(name, name, 0.5) is rule
    if rule.weigh:
        assert sharpen(name, 1) is rule


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(sorted(RULES)),
    st.sampled_from(WEIGHTED),
    st.floats(0, 1),
    st.floats(0, 8),
    st.floats(0, 1),
    features_of_several,
)
def test_weights_of_any_rule_in_between_sum_to_one(first, second, share, power, say, values):
    features = [torch.from_numpy(f)[None] for f in values]
    rule = (
        favour(sharpen(blend(second, first, share), power), say) if share < 1 else get_rule(second)
    )
    weights = rule.weights(features)
    assert torch.isfinite(weights).all()
    # Three quotients, products and sums of up to three images.
    torch.testing.assert_close(
        weights.sum(dim=0), torch.ones_like(weights[0]), rtol=0, atol=4 * ROUNDING
    )


def test_other_numbers_are_other_names():
    """Rows of results know a rule by its name."""
    shares = [blend("l1_norm", "mean", share).name for share in (0.496, 0.504, 1 / 3, 0.333333)]
    assert len({*shares}) == 4 and shares[0] == "blend(l1_norm, mean, 0.496)"
    assert sharpen("mean", 2).name == sharpen("mean", 2.0).name == "sharpen(mean, 2)"
    assert favour("mean", 0.1 + 0.2).name == "favour(mean, 0.30000000000000004)"


def test_a_rule_in_between_can_be_sent_to_other_processes():
    rule = favour(sharpen(blend("l1_norm", "mean", 0.3), 2), 0.6)
    images = random(2)
    assert torch.equal(pickle.loads(pickle.dumps(rule))(images), rule(images))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: blend("l1_norm", "mean", 1.5), "share of the second rule is 1.5"),
        (lambda: favour("l1_norm", -0.1), "share of the first image is -0.1"),
        (lambda: sharpen("l1_norm", -1), "power of the weights is -1"),
        (lambda: sharpen("l1_norm", float("nan")), "power of the weights is nan"),
        (lambda: sharpen("maximum", 2), "'maximum' has no weights to sharpen"),
        (lambda: blend("l1_norm", "maen", 0.5), "Did you mean"),
    ],
)
def test_rules_in_between_refuse(make, message):
    with pytest.raises(FusionError, match=message):
        make()
