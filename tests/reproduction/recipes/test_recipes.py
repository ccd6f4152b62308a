"""All recipes: a run is one function of its settings, and trains what it says it trains."""

from __future__ import annotations

import re

import pytest
import torch

from fusionlib.errors import FusionError, UnknownName, WeightsMismatch
from fusionlib.methods import registry
from fusionlib.weights import digest, load_state, read_facts, read_weights, save_weights
from reproduction import training
from reproduction.recipes import RECIPES, find_recipe
from reproduction.recipes.recipe import halved, rate_at
from tests.reproduction.recipes.conftest import SMALL, batch, run_step, smooth

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


# Here AEFusion's size is not its own.
@pytest.mark.parametrize("method", sorted({*RECIPES} - {"aefusion"}))
def test_published_sizes_can_be_learnt_from(method):
    recipe = find_recipe(method)
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


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def whole():
    """Uninterrupted runs of every recipe, made when first asked for."""
    made = {}

    def get(small):
        if small.method not in made:
            made[small.method] = small.train()
        return made[small.method]

    return get


def same(a, b):
    weights = digest(a.network.state_dict()) == digest(b.network.state_dict())
    return weights and a.history.equals(b.history)


def stop_at(monkeypatch, call):
    """Raise KeyboardInterrupt in the given iteration (from 1) of a run."""
    original, seen = training._Run.step, 0

    def step(self, number, drawn):
        nonlocal seen
        seen += 1
        if seen == call:
            raise KeyboardInterrupt
        return original(self, number, drawn)

    monkeypatch.setattr(training._Run, "step", step)


def test_interrupted_and_resumed(small, whole, monkeypatch, tmp_path):
    """In every stage: after two iterations, and in the last one."""
    checkpoint = tmp_path / "checkpoint"
    for call in (3, 2):  # the second run begins with the third iteration
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_at(patch, call)
            small.train(checkpoint=checkpoint)
    assert same(small.train(checkpoint=checkpoint), whole(small))


def test_longer_run(small, whole, tmp_path):
    """Half of it, then all: as all at once, or refused."""
    checkpoint = tmp_path / "checkpoint"
    half = small.train(iterations=2, checkpoint=checkpoint)
    if len(small.recipe.stages) == 1 and small.recipe.stages[0].extensible:
        assert same(small.train(checkpoint=checkpoint), whole(small))
        return
    with pytest.raises(FusionError, match=r"a run of (2|1 \+ 1) iterations, this run asks for"):
        small.train(checkpoint=checkpoint)
    assert same(small.train(iterations=2, checkpoint=checkpoint), half)


def test_moving_average_of_another_length_is_another_run(tmp_path):
    """SwinFusion's average reaches over a share of all iterations, though its rate is constant."""
    swinfusion, checkpoint = SMALL["swinfusion"], tmp_path / "checkpoint"
    swinfusion.train(iterations=15, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(FusionError, match="a run of 15 iterations, this run asks for 30; what an"):
        swinfusion.train(iterations=30, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_extensible_stages_have_constant_rates(small):
    for stage in small.recipe.stages:
        assert not (stage.extensible and any(map(callable, stage.rates.values())))


def test_history_and_facts(small, whole):
    history, facts = whole(small).history, whole(small).facts
    assert list(history)[:2] == ["stage", "iteration"]
    for stage in small.recipe.stages:
        rows = history[history["stage"] == stage.name]
        assert list(rows["iteration"]) == list(range(1, len(rows) + 1))
        assert rows["total"].notna().all()
    assert len(history) == 4
    assert facts["method"] == small.method
    count = f"3 {small.recipe.learns_from} of given arrays (published: {small.recipe.published})"
    assert facts["learnt_from"] == count
    for stage in small.recipe.stages:
        text = rf"{stage.name}: \d iterations \(published: {stage.iterations}\) of 2 "
        assert re.search(text, facts["stages"])
    assert facts["trained_by"] == "python -m reproduction train" and facts["threads"] == 1


@pytest.mark.parametrize("method", ["emma", "nestfuse", "refinefuse"])
def test_held_out(method, whole, monkeypatch, tmp_path):
    """What is held out is judged and not learnt from; stopping changes nothing of that."""
    small = SMALL[method]
    data = small.data(4)
    settings = {"hold_out": 4, "every": 2, "data": data}
    run = small.train(**settings)
    # The same three, in the same order, as without the first: so the same weights.
    assert digest(run.network.state_dict()) == digest(small.train(data[1:]).network.state_dict())
    losses = [name for name in whole(small).history if name not in ("stage", "iteration")]
    assert [name for name in run.history if name.startswith("held out ")] == [
        f"held out {name}" for name in losses
    ]
    measured = run.history[run.history["held out total"].notna()]
    stages = run.history.groupby("stage", sort=False)["iteration"].max().cumsum()
    assert set(measured.index + 1) == {2, 4, *stages}
    assert (
        run.facts["learnt_from"].startswith("3 ") and "1 more held out" in run.facts["learnt_from"]
    )
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 4)
        small.train(**settings, checkpoint=checkpoint)
    assert same(small.train(**settings, checkpoint=checkpoint), run)


@pytest.mark.parametrize("hold_out", [0, 1, 4])
def test_impossible_to_hold_out(hold_out):
    with pytest.raises(FusionError, match=f"of 3 pairs every {hold_out}th cannot be held out"):
        SMALL["cddfuse"].train(hold_out=hold_out)


def test_seed_decides(small, whole):
    first = small.train(seed=1, iterations=1).history["total"]
    assert first[0] != whole(small).history["total"][0]


@pytest.mark.parametrize("half", [False, True])
def test_weights_fit_the_method(small, whole, half, tmp_path):
    """Written, read and adapted as the method does it, strictly."""
    path = tmp_path / "mine.safetensors"
    network = whole(small).network
    save_weights(path, network, whole(small).facts, half=half)
    configuration = next(iter(registry()[small.method].configurations.values()))
    built = configuration.build(*configuration.rules[:1])
    tensors = read_weights(path)
    load_state(built, configuration.adapt(tensors) if configuration.adapt else tensors, path)
    expected = network.state_dict()
    for name, tensor in built.state_dict().items():
        if half and tensor.is_floating_point():
            assert torch.equal(tensor, expected[name].half().float())
        else:
            assert torch.equal(tensor, expected[name])
    assert read_facts(path)["method"] == small.method


# ---------------------------------------------------------------- what changes


#: By stage, the parts of a recipe that are changed; all others are not.
CHANGED = {
    "aefusion": {"auto-encoder": ["network."]},
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


@pytest.mark.parametrize("number", [0, 1])
def test_parts_that_change(small, number):
    """Every tensor of a trained part changes in two iterations, none of a fixed part.

    The first alone may have a learning rate of 0.
    """
    if number == len(small.recipe.stages):
        pytest.skip("one stage")
    stage = small.recipe.stages[number]
    setup = training._Setup(
        small.build, {}, training.samples(small.data(), small.recipe.learns_from), 0, "cpu"
    )
    plans = [training._Plan(s, 4, 2, small.size) for s in small.recipe.stages]
    run = training._Run(setup, plans)
    before = {name: t.clone() for name, t in run.recipe.state_dict().items()}
    for drawn in run.batches(number, range(2)):
        run.step(number, drawn)
    moved = changed(before, run.recipe.state_dict())
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


def test_loss_falls_on_one_sample(small):
    image = smooth(small.size)
    # Not a pair of two: of one image twice mean and maximum, which EMMA draws from, are equal.
    parts = {
        "images": image,
        "pairs": (image, image),
        "labelled pairs": (image, image, image > 170),
    }
    data = [parts[small.recipe.learns_from]]
    # NestFuse's output is dead with other seeds, see below.
    history = small.train(data, iterations=9, batch_size=1, seed=2).history
    loss = "content" if small.method == "fusiongan" else "total"
    for _, rows in history.groupby("stage"):
        assert rows[loss].iloc[-1] < rows[loss].iloc[0]


def test_dead_output_is_given_up(monkeypatch):
    """Seed 1 gives an output below zero, which the last ReLU cuts off with its gradient."""
    small, image = SMALL["nestfuse"], smooth(16)
    output = small.build(seed=1).network.autoencoder(torch.from_numpy(image).float()[None, None])
    assert not output.any()
    monkeypatch.setattr(training, "IDLE", 4)
    with pytest.raises(FusionError, match=r"nothing to go by in 4 iterations up to 4 .* seed"):
        small.train([image], iterations=5, seed=1)
    assert len(small.train([image], iterations=3, seed=1).history) == 3


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


@pytest.mark.parametrize(
    ("method", "size", "words"),
    [
        ("nestfuse", 15, "cannot learn from squares of 15, only of 16 and more"),
        ("emma", 40, "only of 32 and more by 16"),
        ("swinfusion", 12, "only of 8 and more by 8"),
        ("fusiongan", 58, "only of 59 and more"),
        ("aefusion", 128, "only of 16"),
    ],
)
def test_impossible_size(method, size, words):
    with pytest.raises(FusionError, match=words):
        SMALL[method].train(size=size)


def test_smallest_sizes(small):
    """One iteration on one of the smallest squares the recipe says it takes."""
    size = small.recipe.sizes[0]
    recipe = small.build()
    images = [batch(0, size=size)] * {"images": 1, "pairs": 2, "labelled pairs": 3}[
        recipe.learns_from
    ]
    for stage in recipe.stages:
        losses = run_step(recipe, stage.name, tuple(images))
        assert all(loss.isfinite() for loss in losses.values())


def test_stopped_while_it_judges(monkeypatch, tmp_path):
    """Nothing that was learnt is lost, and what was not judged is judged before it goes on."""
    small, checkpoint = SMALL["nestfuse"], tmp_path / "checkpoint"
    settings = {"hold_out": 3, "every": 2, "checkpoint": checkpoint}
    expected = small.train(**settings | {"checkpoint": None})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def interrupted(self, number):
            if self.iteration == 4:
                raise KeyboardInterrupt
            return held_out_losses(self, number)

        held_out_losses = training._Run.held_out_losses
        patch.setattr(training._Run, "held_out_losses", interrupted)
        small.train(**settings)
    state = training._read_checkpoint(checkpoint)
    assert sum(map(len, state["losses"])) == 4 and list(state["validations"][0]) == [2]
    assert same(small.train(**settings), expected)


def test_held_out_losses_are_checked(monkeypatch):
    """A loss that is no number does not look like one that was not computed."""
    small = SMALL["nestfuse"]
    step = training._Run._run_step

    def broken(self, recipe, number, batch, descend):
        losses = step(self, recipe, number, batch, descend)
        if recipe is not self.recipe:
            losses = {name: loss * torch.nan for name, loss in losses.items()}
        return losses

    monkeypatch.setattr(training._Run, "_run_step", broken)
    with pytest.raises(FusionError, match=r"loss became nan .* on "):
        small.train(hold_out=3, every=2)


def test_held_out_images_belong_to_a_checkpoint(tmp_path):
    small, checkpoint = SMALL["nestfuse"], tmp_path / "checkpoint"
    settings = {"hold_out": 3, "every": 2, "checkpoint": checkpoint}
    first, *others = small.data()
    small.train([first, *others], **settings)
    with pytest.raises(FusionError, match=r"belongs to another run.*images differ"):
        small.train([255 - first, *others], **settings)
