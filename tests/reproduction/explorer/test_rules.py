"""rules: rules in between by hand, and as the properties of rules say."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import fusionlib as fl
from fusionlib.errors import FusionError
from fusionlib.rules import RULES, get_rule
from tests.fusionlib.test_rules import ROUNDING, WEIGHTED, features_of_several, pixels, random

pytest.importorskip("anywidget")
from reproduction.explorer import blend, favour, sharpen


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


def test_a_blend_is_the_blend_of_what_its_parts_fuse():
    images = random(3)
    parts = {name: get_rule(name)(images) for name in ("l1_norm", "mean", "maximum")}
    # Features below 9: a few roundings of 2**-24 of that.
    close = functools.partial(torch.testing.assert_close, rtol=0, atol=9 * 2**-21)
    mixed = blend("l1_norm", "mean", 0.3)
    close(mixed(images), 0.7 * parts["l1_norm"] + 0.3 * parts["mean"])
    weights = 0.7 * get_rule("l1_norm").weights(images) + 0.3 * get_rule("mean").weights(images)
    torch.testing.assert_close(mixed.weights(images), weights, rtol=0, atol=2**-21)
    twice = blend(blend("l1_norm", "maximum", 0.25), "mean", 0.5)
    expected = 0.375 * parts["l1_norm"] + 0.125 * parts["maximum"] + 0.5 * parts["mean"]
    close(twice(images), expected)


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


def test_other_numbers_are_other_names_and_rules_can_be_sent_to_processes():
    """Rows of results know a rule by its name."""
    shares = [blend("l1_norm", "mean", share).name for share in (0.496, 0.504, 1 / 3, 0.333333)]
    assert len({*shares}) == 4 and shares[0] == "blend(l1_norm, mean, 0.496)"
    assert sharpen("mean", 2).name == sharpen("mean", 2.0).name == "sharpen(mean, 2)"
    assert favour("mean", 0.1 + 0.2).name == "favour(mean, 0.30000000000000004)"
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


def test_rules_in_between_in_tiles_are_untiled():
    pair = fl.load_dataset("sample")[0]
    rule = favour(sharpen(blend(blend("l1_norm", "mean", 0.4), "maximum", 0.3), 2), 0.6)
    whole = fl.create("res2netfuse", rule=rule)
    tiled = fl.create("res2netfuse", rule=rule, execution=fl.Execution(tile=48))
    images = pair.ir[60:130, 100:190], pair.vis[60:130, 100:190]
    # On the scale of 255: float32 rounding, as of every rule in tiles.
    np.testing.assert_allclose(tiled.raw(*images), whole.raw(*images), rtol=0, atol=255e-6)
    np.testing.assert_allclose(tiled.weight_maps(*images), whole.weight_maps(*images), atol=1e-6)
