"""recipe: published settings of all recipes, what each of them changes, options."""

from __future__ import annotations

import pytest
import torch

from fusionlib.errors import FusionError, UnknownName, WeightsMismatch
from fusionlib.weights import digest, save_weights
from reproduction.training import RECIPES, find_recipe
from reproduction.training.recipe import halved, rate_at
from tests.reproduction.training.conftest import SMALL, batch, run_step, same

# ---------------------------------------------------------------- settings

COCO = KAIST = 80_000  # images, pairs
TNO_PATCHES = 64_381
MSRS = 1083
MSRS_PATCHES = MSRS * 6  # pairs, patches of each at most


def epochs(count, samples, batch):
    """The iterations of some epochs; a batch that is not full is left out."""
    return count * (samples // batch)


#: What the papers and the authors' code say: data, stages, iterations, batch, side, first rates.
PUBLISHED = {
    "res2netfuse": ("images", [("reconstruction", 2000, 1, 256, [5e-4])]),
    "nestfuse": ("images", [("auto-encoder", epochs(2, COCO, 4), 4, 256, [1e-4])]),
    "aefusion": ("images", [("auto-encoder", epochs(2, COCO, 4), 4, 256, [1e-4])]),
    "rfn_nest": ("pairs", [("fusion", epochs(2, KAIST, 4), 4, 256, [1e-4])]),
    "swinfusion": ("pairs", [("fusion", 10_000, 12, 128, [2e-5])]),
    "refinefuse": ("labelled pairs", [("fusion", epochs(300, MSRS, 8), 8, 256, [1e-3])]),
    "fusiongan": ("pairs", [("adversarial", epochs(10, TNO_PATCHES, 32), 32, 132, [1e-4, 1e-4])]),
    "cddfuse": (
        "pairs",
        [
            ("reconstruction", epochs(40, MSRS_PATCHES, 8), 8, 128, [1e-4, 1e-4]),
            ("fusion", epochs(80, MSRS_PATCHES, 8), 8, 128, [2.5e-5, 2.5e-5, 1e-4, 1e-4]),
        ],
    ),
    "emma": (
        "pairs",
        [
            # Two fused images of each patch.
            ("sensing", epochs(40, 2 * MSRS_PATCHES, 64), 64, 128, [1e-4, 1e-4]),
            ("fusion", epochs(120, MSRS_PATCHES, 4), 4, 128, [1e-4]),
        ],
    ),
}


@pytest.mark.parametrize("method", RECIPES)
def test_published_settings(method):
    recipe = find_recipe(method)
    start = 1 / 20 if method == "refinefuse" else 0  # whose rates rise first, and then fall a bit
    stages = [
        (
            *(s.name, s.iterations, s.batch_size, s.size),
            pytest.approx([rate_at(r, start) for r in s.rates.values()], rel=0.01),
        )
        for s in recipe.stages
    ]
    assert (recipe.learns_from, stages) == PUBLISHED[method]
    assert recipe.method == method and recipe.published
    if method != "aefusion":  # whose size is not its own here
        assert all(stage.size in recipe.sizes for stage in recipe.stages)


def test_rates_are_halved_in_equal_parts():
    rate = halved(1.0, 4)
    assert [rate(p) for p in (0, 0.249, 0.25, 0.5, 0.75, 0.999)] == [1, 1, 0.5, 0.25, 0.125, 0.125]


def test_cddfuse_keeps_its_rates_over_both_phases():
    """Epoch by epoch as the authors' schedulers step: every 20, the fusion layers' from 40 on."""
    first, second = find_recipe("cddfuse").stages
    for epoch in range(120):
        stage, progress = (first, epoch / 40) if epoch < 40 else (second, (epoch - 40) / 80)
        rates = {part: rate_at(rate, progress) for part, rate in stage.rates.items()}
        assert rates["network.encoder"] == rates["network.decoder"]
        assert rates["network.encoder"] == pytest.approx(max(1e-4 * 0.5 ** (epoch // 20), 1e-6))
        if epoch >= 40:
            expected = 1e-4 * 0.5 ** ((epoch - 40) // 20)
            assert rates["network.fuse_base"] == pytest.approx(expected)
            assert rates["network.fuse_detail"] == pytest.approx(expected)


def test_unknown_recipe():
    with pytest.raises(UnknownName, match=r"recipe 'rfnnest'.*'rfn_nest'"):
        find_recipe("rfnnest")


# ---------------------------------------------------------------- what changes


#: By stage, the parts of a recipe that are changed; all others are not.
CHANGED = {
    "aefusion": {"auto-encoder": ["network."]},
    "res2netfuse": {"reconstruction": ["network."]},
    "nestfuse": {"auto-encoder": ["network."]},
    "refinefuse": {"fusion": ["network."]},
    "rfn_nest": {"fusion": ["network.fusion."]},
    "swinfusion": {"fusion": ["network.", "average."]},
    "fusiongan": {"adversarial": ["network.", "discriminator."]},
    "cddfuse": {
        "reconstruction": ["network.encoder.", "network.decoder."],
        "fusion": ["network."],
    },
    "emma": {"sensing": ["infrared.", "visible."], "fusion": ["network."]},
}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("method", "number"),
    [(name, i) for name, stages in CHANGED.items() for i in range(len(stages))],
)
def test_parts_that_change(method, number, monkeypatch, tmp_path):
    """Every tensor of a trained part changes in two iterations, none of a fixed part.

    The first alone may have a learning rate of 0.
    """
    small = SMALL[method]
    stage = small.recipe.stages[number]
    monkeypatch.setattr(small.recipe, "stages", (stage,))
    before = small.build().state_dict()
    small.train(iterations=2, checkpoint=tmp_path / "checkpoint")
    after = torch.load(tmp_path / "checkpoint")["networks"]
    moved = changed(before, after)
    parts = tuple(CHANGED[small.method][stage.name])
    assert all(name.startswith(parts) for name in moved)
    still = {name for name in before if name.startswith(parts)} - moved
    assert still <= idle(small.method, before)


def idle(method, state):
    """Tensors of trained parts that two iterations may leave as they are, and why."""
    if method == "aefusion":
        # What is added to all logits of a softmax is without effect.
        return {name for name in state if name.endswith("similarity_norm.bias")}
    if method == "fusiongan":
        # So is a bias before a normalisation by the mean, and the power iteration converges.
        names = {f"network.layers.{i}.bias" for i in range(4)}
        names |= {f"discriminator.layers.{i}.bias" for i in (1, 2, 3)}
        return names | {name for name in state if ".parametrizations.weight.0." in name}
    if method == "refinefuse":
        # What is added to all keys adds the same to all logits of a query.
        return {name for name in state if name.endswith(("key_ir.bias", "key_vis.bias"))}
    if method == "emma":
        # Eight heads of one channel each attend to themselves alone, whatever the temperature.
        blocks = ("infrared.blocks.0", "visible.blocks.0", "fuse.0", "decode.0")
        return {f"network.{block}.attention.attention.temperature" for block in blocks}
    return set()


def test_smallest_sizes(small):
    """One iteration on one of the smallest squares the recipe says it takes."""
    size = small.recipe.sizes[0] if small.method != "res2netfuse" else 11
    recipe = small.build()
    count = {"images": 1, "pairs": 2, "labelled pairs": 3}[recipe.learns_from]
    for stage in recipe.stages:
        losses = run_step(recipe, stage.name, (batch(0, size=size),) * count)
        assert all(loss.isfinite() for loss in losses.values())


# ---------------------------------------------------------------- options


def test_option_of_another_recipe():
    with pytest.raises(FusionError, match="cddfuse does not take 'vgg'; its options: none"):
        SMALL["cddfuse"].train(options={"vgg": {}})


def test_number_as_text():
    emma = SMALL["emma"]
    assert same(emma.train(options={"width": "2"}, iterations=2), emma.train(iterations=2))
    with pytest.raises(FusionError, match="emma cannot take 'width' = two; it is: channels"):
        emma.train(options={"width": "two"})


def test_required_option():
    with pytest.raises(FusionError, match="rfn_nest needs 'autoencoder': weights of nestfuse"):
        SMALL["rfn_nest"].train(options={})


def test_autoencoder_is_read_from_a_file_and_named(tmp_path):
    small = SMALL["nestfuse"]
    trained = small.train(iterations=1)
    path = tmp_path / "nestfuse.safetensors"
    save_weights(path, trained.network, {})
    result = SMALL["rfn_nest"].train(iterations=1, options={"autoencoder": path})
    state = trained.network.autoencoder.state_dict()
    assert digest(result.network.autoencoder.state_dict()) == digest(state)
    assert result.facts["autoencoder"] == f"sha256 {digest(trained.network.state_dict())}"


def test_autoencoder_of_another_network():
    with pytest.raises(WeightsMismatch, match="the auto-encoder given does not fit"):
        SMALL["rfn_nest"].train(options={"autoencoder": {"a": torch.zeros(1)}})
