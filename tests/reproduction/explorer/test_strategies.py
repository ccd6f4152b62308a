"""strategies: what the sliders make is what their line of Python makes, bit by bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fusionlib as fl
from fusionlib.errors import FusionError, UnknownName
from fusionlib.networks.res2netfuse import Res2NetFuse

pytest.importorskip("anywidget")
from reproduction.explorer import Comparison, Strategy, blend, favour, sharpen, strategies


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
    if fused.weights is None:
        assert strategy.rule == "maximum" or strategy.method != "res2netfuse"
    else:
        assert np.array_equal(fused.weights, method.weight_maps(pair.ir, pair.vis)[0].mean(axis=0))
        assert method.rule.name in fused.title


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
    comparison.use(fl.Pair("turned", pair.ir[::-1].copy(), pair.vis[::-1].copy()))
    turned = comparison.fuse(Strategy("res2netfuse"))
    assert calls[3:] == ["encode", "decode"]
    # Another picture, not the kept one; convolutions are not symmetric, so not the turned one.
    assert not np.array_equal(turned.image, first.image)


@pytest.mark.parametrize("part", ["encode", "decode"])
def test_not_enough_memory_for_one_piece(pair, monkeypatch, part):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(Res2NetFuse, part, full)
    with pytest.raises(MemoryError, match=r"memory for Res2NetFuse on .*; give smaller images\."):
        Comparison(pair).fuse(Strategy("res2netfuse"))


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


def test_scores_are_those_of_evaluate(pair):
    comparison, strategy = Comparison(pair), Strategy("mst", post="minmax")
    image = fl.create("mst", post="minmax").fuse(pair.ir, pair.vis)
    for metrics in ("common", "refinefuse"):
        expected = fl.evaluate(image, pair.ir, pair.vis, metrics)
        assert comparison.score(strategy, metrics) == (expected, [])


def test_too_small_a_pair_and_what_is_set_by_rule_are_noted():
    rng = np.random.default_rng(0)
    small = fl.Pair("small", rng.random((30, 30), np.float32), rng.random((30, 30), np.float32))
    values, notes = Comparison(small).score(Strategy("mst"), "common")
    image = fl.create("mst").fuse(small.ir, small.vis)
    assert any("VIF needs" in note for note in notes)
    assert values["EN"] == fl.evaluate(image, small.ir, small.vis, ["EN"])["EN"]
    assert {name for name, value in values.items() if np.isnan(value)} == {"VIF"}
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
