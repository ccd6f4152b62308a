"""strategies: what the sliders make is what their line of Python makes, bit by bit."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import fusionlib as fl
from fusionlib.errors import FusionError, UnknownName, WeightsNotFound
from fusionlib.rules import RULES, get_rule
from reproduction import strategies
from reproduction.strategies import Comparison, Strategy, blend, favour, sharpen
from tests.fusionlib.test_rules import ROUNDING, WEIGHTED, features_of_several, pixels, random


@pytest.fixture(scope="module", autouse=True)
def only_our_weights(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FUSIONLIB_WEIGHTS", raising=False)
        patch.setattr("pooch.os_cache", lambda name: tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def pair():
    images = fl.load_dataset("sample")[0]
    return fl.Pair("part", images.ir[60:130, 100:190], images.vis[60:130, 100:190])


def made(code):
    """The method that a line of Python makes, as a user would run it."""
    return eval(code, {"fl": fl, "blend": blend, "sharpen": sharpen, "favour": favour})


@pytest.mark.parametrize(
    "strategy, code",
    [
        (Strategy("res2netfuse"), 'fl.create("res2netfuse")'),
        (Strategy("res2netfuse", rule="mean"), 'fl.create("res2netfuse", rule="mean")'),
        (
            Strategy("res2netfuse", "paper", infrared=0.7),
            'fl.create("res2netfuse", variant="paper", rule=favour("l1_norm", 0.7))',
        ),
        (
            Strategy("res2netfuse", rule="l1_norm", other="mean", share=0.3, power=2, infrared=0.6,
                     post="stretch:0.5"),
            'fl.create("res2netfuse", '
            'rule=favour(sharpen(blend("l1_norm", "mean", 0.3), 2), 0.6), post="stretch:0.5")',
        ),
        # Nothing to sharpen.
        (
            Strategy("res2netfuse", rule="maximum", power=3),
            'fl.create("res2netfuse", rule="maximum")',
        ),
        # Fuses in its own way: the rule's numbers do nothing.
        (Strategy("mst", share=0.5, power=2, infrared=0.2), 'fl.create("mst")'),
        (Strategy("mst", "exchanged", post="minmax"),
         'fl.create("mst", pipeline="exchanged", post="minmax")'),
        # The authors' weights are not here: ours are named.
        (Strategy("fusiongan"), 'fl.create("fusiongan", weights="fusiongan_retrained")'),
    ],
)  # fmt: skip
def test_what_is_shown_is_what_the_code_makes(pair, strategy, code):
    fused = Comparison(pair).fuse(strategy)
    assert fused.code == code
    method = made(code)
    assert np.array_equal(fused.image, method.fuse(pair.ir, pair.vis))
    assert fused.title.startswith(method.card.method)
    if fused.weights is not None:
        assert np.array_equal(fused.weights, method.weight_maps(pair.ir, pair.vis)[0].mean(axis=0))
        assert method.rule.name in fused.title


def test_rules_without_weights_have_no_map(pair):
    comparison = Comparison(pair)
    assert comparison.fuse(Strategy("res2netfuse", rule="maximum")).weights is None
    assert comparison.fuse(Strategy("mst")).weights is None


def test_a_pair_is_encoded_once(pair, monkeypatch):
    comparison, calls = Comparison(pair), []
    for name in ("encode", "decode"):
        run = getattr(strategies, name)
        monkeypatch.setattr(
            strategies, name, lambda *a, name=name, run=run: calls.append(name) or run(*a)
        )
    first = comparison.fuse(Strategy("res2netfuse"))
    assert comparison.fuse(Strategy("res2netfuse")) is first
    comparison.fuse(Strategy("res2netfuse", share=0.5))
    comparison.fuse(Strategy("res2netfuse", share=0.5, post="clip"))
    assert calls == ["encode", "decode", "decode"]
    comparison.pair = fl.Pair("turned", pair.ir[::-1].copy(), pair.vis[::-1].copy())
    turned = comparison.fuse(Strategy("res2netfuse"))
    assert calls[3:] == ["encode", "decode"]
    # Another picture, not the kept one; convolutions are not symmetric, so not the turned one.
    assert not np.array_equal(turned.image, first.image)


def test_large_images_are_run_in_tiles(pair, monkeypatch):
    monkeypatch.setattr(strategies, "KEPT_PIXELS", pair.ir.size - 1)
    monkeypatch.setattr(strategies, "encode", None)
    comparison = Comparison(pair)
    for strategy in (Strategy("res2netfuse", share=0.5), Strategy("res2netfuse", rule="maximum")):
        fused, method = comparison.fuse(strategy), made(strategy.code())
        assert np.array_equal(fused.image, method.fuse(pair.ir, pair.vis))
        if strategy.rule == "maximum":
            assert fused.weights is None
        else:
            maps = method.weight_maps(pair.ir, pair.vis)
            assert np.array_equal(fused.weights, maps[0].mean(axis=0))


def test_only_the_newest_are_kept():
    kept = strategies._Newest(2)
    made_ = []
    for key in "abacb":  # "b" is asked for again when it has made room for "c"
        kept.get(key, lambda key=key: made_.append(key) or key.upper())
    assert made_ == ["a", "b", "c", "b"]


def test_scores_are_those_of_evaluate(pair):
    comparison, strategy = Comparison(pair), Strategy("mst", post="minmax")
    image = fl.create("mst", post="minmax").fuse(pair.ir, pair.vis)
    for metrics in ("common", "refinefuse"):
        expected = fl.evaluate(image, pair.ir, pair.vis, metrics)
        assert comparison.score(strategy, metrics) == (expected, [])


def test_metrics_that_a_pair_is_too_small_for_are_left_out():
    rng = np.random.default_rng(0)
    small = fl.Pair("small", rng.random((30, 30), np.float32), rng.random((30, 30), np.float32))
    values, notes = Comparison(small).score(Strategy("mst"), "common")
    image = fl.create("mst").fuse(small.ir, small.vis)
    assert np.isnan(values["VIF"]) and any("VIF needs" in note for note in notes)
    assert values["EN"] == fl.evaluate(image, small.ir, small.vis, ["EN"])["EN"]
    assert {name for name, value in values.items() if np.isnan(value)} == {"VIF"}


def test_what_is_set_by_rule_is_noted():
    flat = fl.Pair("flat", np.full((48, 48), 0.5, np.float32), np.full((48, 48), 0.5, np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # noted, not warned of
        values, notes = Comparison(flat).score(Strategy("mst"), "common")
    assert any("its value is set to" in note for note in notes)
    assert np.isfinite([*values.values()]).all()


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"method": "res2net"}, UnknownName, "Did you mean"),
        ({"method": "mst", "setting": "paper"}, UnknownName, "pipeline of mst"),
        ({"method": "res2netfuse", "rule": "l2"}, UnknownName, "fusion rule"),
        ({"method": "res2netfuse", "share": 2}, FusionError, "must be in"),
        ({"method": "mst", "post": "stretch:2"}, UnknownName, "number from 0"),
    ],
)
def test_strategies_that_cannot_be(options, kind, message):
    with pytest.raises(kind, match=message):
        Strategy(**options)


def test_missing_weights_are_named(pair):
    with pytest.raises(WeightsNotFound, match="densefuse_tf_1e2"):
        Comparison(pair).fuse(Strategy("densefuse"))


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


def test_rules_in_between_in_tiles_are_untiled(pair):
    rule = favour(sharpen(blend(blend("l1_norm", "mean", 0.4), "maximum", 0.3), 2), 0.6)
    whole = fl.create("res2netfuse", rule=rule)
    tiled = fl.create("res2netfuse", rule=rule, execution=fl.Execution(tile=48))
    images = pair.ir, pair.vis
    # On the scale of 255: float32 rounding, as of every rule in tiles.
    np.testing.assert_allclose(tiled.raw(*images), whole.raw(*images), rtol=0, atol=255e-6)
    np.testing.assert_allclose(tiled.weight_maps(*images), whole.weight_maps(*images), atol=1e-6)
