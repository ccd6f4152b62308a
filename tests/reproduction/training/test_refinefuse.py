"""RefineFuse's recipe: its loss written out, its settings, what it learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import fusionlib as fl
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.pairs import Box, Pair
from reproduction.training.recipe import Moment
from reproduction.training.refinefuse import SETTINGS, RefineFuseRecipe
from reproduction.training.samples import batches, samples
from tests.reproduction.training.conftest import (
    SMALL,
    batch,
    objects,
    pair,
    run_step,
    slopes,
    smooth,
)

REFINEFUSE = SMALL["refinefuse"]


def gradient(x):
    """Magnitudes of both Sobel derivatives."""
    return np.abs(slopes(x, "nearest")).sum(0)[:, None]


def contrast(x):
    means = [ndimage.uniform_filter(z, 11, mode="nearest") for z in x[:, 0]]
    return (x - np.stack(means)[:, None]) ** 2


@pytest.mark.parametrize("setting", SETTINGS)
def test_loss_written_out(setting):
    """Equations 7 to 11, with the masks of equation 6; sums of float32 to 1e-5."""
    torch.manual_seed(0)
    recipe = RefineFuseRecipe(setting=setting)
    masks = np.stack([objects(16, seed) for seed in (4, 5)])[:, None]
    ir, vis = batch(0, 1), batch(2, 3)
    losses = run_step(recipe, "fusion", (ir, vis, torch.from_numpy(masks * np.float32(255))))
    with torch.no_grad():
        output = recipe.network(ir / 255, vis / 255)
    f, a, b = (x.double().numpy() for x in (output, ir / 255, vis / 255))
    texture = np.abs(gradient(f) - np.maximum(gradient(a), gradient(b))).mean()
    follow = masks | (contrast(a) > contrast(b))
    intensity = {
        "A": np.abs(f - a).mean() + np.abs(f - b).mean(),
        "B": np.abs(f - np.maximum(a, b)).mean(),
    }.get(setting, np.where(follow, np.abs(f - a), np.abs(f - b)).mean())
    assert 0.05 < follow.mean() < 0.95
    assert losses["intensity"].item() == pytest.approx(intensity, rel=1e-5)
    assert losses["texture"].item() == pytest.approx(texture, rel=1e-5)
    weight = 0 if setting == "C" else 5
    assert losses["total"].item() == pytest.approx(intensity + weight * texture, rel=1e-5)


def test_as_published():
    """Stochastic gradient descent without momentum from 1e-3, four scales, all modules."""
    recipe = RefineFuseRecipe()
    optimiser = recipe.optimiser([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimiser, torch.optim.SGD)
    assert optimiser.defaults["momentum"] == 0
    (stage,) = recipe.stages
    rates = [stage.fall(stage.rates["network"], progress) for progress in (0, 0.025, 0.05, 0.5, 1)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5e-4, 0], rel=0.01)
    assert recipe.network.state_dict().keys() == RefineFuse().state_dict().keys()


def test_options_as_text():
    texts = {"scales": "2", "psim": "off", "momentum": "0.9"}
    result = REFINEFUSE.train(iterations=1, options=texts)
    expected = RefineFuse(2, psim=False).state_dict()
    assert result.network.state_dict().keys() == expected.keys()
    assert (result.facts["scales"], result.facts["psim"]) == (2, False)


def test_the_texture_s_weight_rises():
    """From an eighth, by equal factors, over the first tenth of the iterations."""
    recipe = RefineFuseRecipe(rise=0.1)
    shares = [recipe._share(Moment(None, i, 30)) for i in range(5)]
    assert shares == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1, 1])
    assert RefineFuseRecipe()._share(Moment(None, 0, 30)) == 1


def test_begins_with_weights():
    """Whatever the seed; those of another network do not fit."""
    start = REFINEFUSE.train(iterations=4).network.state_dict()
    options = {"optimiser": "adam", "start": start}
    first = REFINEFUSE.train(iterations=1, options=options).history["total"][0]
    assert first < REFINEFUSE.train(iterations=1).history["total"][0]
    torch.manual_seed(9)
    recipe = RefineFuseRecipe(start=start)
    assert all(torch.equal(t, start[name]) for name, t in recipe.network.state_dict().items())
    with pytest.raises(fl.WeightsMismatch, match="the weights to begin with"):
        RefineFuseRecipe(scales=2, start=start)


def test_mixed_precision_learns_the_same(monkeypatch):
    """bfloat16 has 8 bits, 0.4 % of each feature: the first losses agree to 1 %, then they part."""
    has_bfloat16 = "reproduction.training.loop.has_bfloat16"
    monkeypatch.setattr(has_bfloat16, lambda _: True)  # emulated, slowly
    single, mixed = (
        REFINEFUSE.train(iterations=9, options={"optimiser": "adam", "precision": one}).history
        for one in ("single", "mixed")
    )
    assert single["total"][0] != mixed["total"][0]
    assert single["total"][0] == pytest.approx(mixed["total"][0], rel=0.01)
    assert mixed["total"].tail(3).mean() < mixed["total"].head(3).mean()


# ---------------------------------------------------------------- labels


def labelled(name="a", **labels):
    ir, vis = (smooth(24, seed) / np.float32(255) for seed in (0, 1))
    return Pair(name, ir, vis, **labels)


#: A box that lies outside of the images.
OUTSIDE = (Box("car", 30, 30, 40, 40),)


def test_masks_are_cut_with_their_pairs():
    """The mask is where the infrared image is 0 here: so it is in every square."""
    ir = np.where(objects(30), 0, smooth(30) // 2 + 100).astype(np.uint8)
    given = samples([pair(ir, smooth(30, 1), ir == 0)], "labelled pairs")
    settings = {"size": 16, "batch_size": 1, "iterations": range(6), "seed": 0}
    for drawn in batches(given, sampling="crop and turn", **settings):
        image, _, mask = drawn.images
        assert torch.equal(mask == 255, image == 0)
        assert 0 < mask.sum() < mask.numel() * 255


def test_boxes_give_the_mask():
    boxes = (Box("person", 2, 3, 9, 12),)
    (sample,) = samples([labelled(boxes=boxes)], "labelled pairs")
    mask = sample.read()[2]
    assert set(np.unique(mask)) == {0, 255}
    assert mask[3:12, 2:9].any() and not mask[12:].any()


def test_no_objects():
    """An empty list of boxes and a black mask say so; learning goes on."""
    data = [labelled("a", boxes=()), labelled("b", mask=np.zeros((24, 24), bool))]
    assert np.isfinite(REFINEFUSE.train(data, iterations=1).history["total"]).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([labelled()], "pair a has no labels"),
        # All are read before anything is learnt.
        ([labelled("good", boxes=()), labelled("bad", boxes=OUTSIDE)], "^pair bad: the box of car"),
        (fl.load_dataset("sample"), "has no labels"),
        ([smooth(24)], "with object masks; .* Give three folders"),
    ],
)
def test_labels_that_are_not_there(data, words):
    with pytest.raises(fl.FusionError, match=words):
        REFINEFUSE.train(data)
