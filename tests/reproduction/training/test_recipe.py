"""recipe: published settings of all recipes, what each of them changes, options."""

from __future__ import annotations

import pytest
import torch

from fusionlib.errors import FusionError, UnknownName
from reproduction.training import RECIPES, find_recipe
from reproduction.training.recipe import halved
from tests.reproduction.training.conftest import SMALL, batch, run_step

# ---------------------------------------------------------------- settings

COCO = KAIST = 80_000  # images, pairs
TNO_PATCHES = 64_381
MSRS = 1083
MSRS_PATCHES = MSRS * 6  # pairs, patches of each at most


def epochs(count, samples, batch):
    """The iterations of some epochs; a batch that is not full is left out."""
    return count * (samples // batch)


CODER = ("network.encoder", "network.decoder")
LAYERS = ("network.fuse_base", "network.fuse_detail")
SENSES = dict.fromkeys(("infrared", "visible"), 1e-4)
PHASES = dict.fromkeys(CODER, 1e-4), dict.fromkeys(CODER, 2.5e-5) | dict.fromkeys(LAYERS, 1e-4)
RIVALS = dict.fromkeys(("network", "discriminator"), 1e-4)
#: What the papers and the authors' code say of every stage: iterations, batch, side, the parts that
#: are changed and their first rates. Of each of MSRS's patches EMMA senses in two fused images.
PUBLISHED = {
    ("res2netfuse", "reconstruction"): (2000, 1, 256, {"network": 5e-4}),
    ("nestfuse", "auto-encoder"): (epochs(2, COCO, 4), 4, 256, {"network.autoencoder": 1e-4}),
    ("aefusion", "auto-encoder"): (epochs(2, COCO, 4), 4, 256, {"network.autoencoder": 1e-4}),
    ("rfn_nest", "fusion"): (epochs(2, KAIST, 4), 4, 256, {"network.fusion": 1e-4}),
    ("swinfusion", "fusion"): (10_000, 12, 128, {"network": 2e-5}),
    ("refinefuse", "fusion"): (epochs(300, MSRS, 8), 8, 256, {"network": 1e-3}),
    ("fusiongan", "adversarial"): (epochs(10, TNO_PATCHES, 32), 32, 132, RIVALS),
    ("cddfuse", "reconstruction"): (epochs(40, MSRS_PATCHES, 8), 8, 128, PHASES[0]),
    ("cddfuse", "fusion"): (epochs(80, MSRS_PATCHES, 8), 8, 128, PHASES[1]),
    ("emma", "sensing"): (epochs(40, 2 * MSRS_PATCHES, 64), 64, 128, SENSES),
    ("emma", "fusion"): (epochs(120, MSRS_PATCHES, 4), 4, 128, {"network": 1e-4}),
}


def test_published_settings():
    # RefineFuse's rates rise first, over a twentieth, and then fall a bit.
    found = {
        (method, stage.name): (
            *(stage.iterations, stage.batch_size, stage.size),
            pytest.approx({k: stage.fall(v, 1 / 20) for k, v in stage.rates.items()}, rel=0.01),
        )
        for method in RECIPES
        for stage in find_recipe(method).stages
    }
    assert found == PUBLISHED
    for recipe in map(find_recipe, RECIPES):
        assert recipe.published
        if recipe.method != "aefusion":  # whose size is not its own here
            assert all(stage.size in recipe.sizes for stage in recipe.stages)


def test_rates_are_halved_in_equal_parts():
    rates = [halved(4)(8, p) for p in (0, 0.249, 0.25, 0.5, 0.75, 0.999)]
    assert rates == [8, 8, 4, 2, 1, 1]


def test_unknown_recipe():
    with pytest.raises(UnknownName, match=r"recipe 'rfnnest'.*'rfn_nest'"):
        find_recipe("rfnnest")


# ---------------------------------------------------------------- what changes


@pytest.mark.parametrize(("method", "name"), PUBLISHED)
def test_parts_that_change(method, name, monkeypatch, tmp_path):
    """Most parameters of a trained part change in two iterations, none of a fixed part.

    The first alone may have a learning rate of 0. What is added to all logits of a softmax or
    before a normalisation is without effect, and so is EMMA's temperature of a single channel.
    """
    small = SMALL[method]
    (stage,) = (one for one in small.recipe.stages if one.name == name)
    monkeypatch.setattr(small.recipe, "stages", (stage,))
    recipe = small.build()
    before, names = recipe.state_dict(), [name for name, _ in recipe.named_parameters()]
    small.train(iterations=2, checkpoint=tmp_path / "checkpoint")
    after = torch.load(tmp_path / "checkpoint")["networks"]
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    parts = (*stage.rates, *(["average"] if method == "swinfusion" else []))
    assert all(name.startswith(parts) for name in moved)
    for part in parts:
        trained = [name for name in names if name.startswith(part)]
        assert sum(name in moved for name in trained) > 0.5 * len(trained)


def test_smallest_sizes(small):
    """One iteration on one of the smallest squares the recipe says it takes."""
    size = small.recipe.sizes[0] if small.method != "res2netfuse" else 11
    recipe = small.build()
    count = {"images": 1, "pairs": 2, "labelled pairs": 3}[recipe.learns_from]
    for stage in recipe.stages:
        losses = run_step(recipe, stage.name, (batch(0, size=size),) * count)
        assert all(loss.isfinite() for loss in losses.values())


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("aefusion", {"vgg": {"a": torch.zeros(1)}}, "VGG-16"),
        ("cddfuse", {"vgg": {}}, "cddfuse does not take 'vgg'; its options: none"),
        ("emma", {"width": "two"}, "emma cannot take 'width' = two; it is: channels"),
        ("emma", {"width": 0}, "at least 1 channel, not 0"),
        ("refinefuse", {"setting": "D"}, "setting' = D; it is: loss of Table 8: ours, A, B or C"),
        ("refinefuse", {"sfim": "maybe"}, "sfim' = maybe; it is: shallow modules: on or off"),
        ("refinefuse", {"optimiser": ["adam"]}, r"optimiser' = \['adam'\]"),
        ("refinefuse", {"momentum": "1.5"}, "momentum must be 0 to below 1, not 1.5"),
        ("refinefuse", {"rise": "2"}, "rise in a share of 0 to 1 of the iterations, not 2.0"),
        ("refinefuse", {"scales": "9"}, "1 to 5 scales, not 9"),
        ("refinefuse", {"scales": 2.5}, "scales' = 2.5; it is: 1 to 5"),
        ("res2netfuse", {"learning_rate": "nan"}, "rate must be positive and at most 1, not nan"),
        ("res2netfuse", {"learning_rate": "fast"}, "cannot take 'learning_rate' = fast"),
        ("res2netfuse", {"rate": 1}, "take 'rate'; its options: variant, learning_rate, prec"),
        ("res2netfuse", {"variant": "papers"}, "Did you mean 'paper'"),
        ("rfn_nest", {}, "rfn_nest needs 'autoencoder': weights of nestfuse"),
        ("rfn_nest", {"autoencoder": {"a": torch.zeros(1)}}, "the auto-encoder given does not fit"),
    ],
)
def test_impossible_options(method, options, words):
    with pytest.raises(FusionError, match=words):
        SMALL[method].train(options=options)
