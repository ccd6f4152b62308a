"""methods: creation and its errors, the card, fusion of any image, post-processing."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch

from fusionlib import methods, networks
from fusionlib.errors import (
    FusionError,
    ImageError,
    PairMismatch,
    UnknownName,
    WeightsMismatch,
    WeightsNotFound,
)
from fusionlib.images import merge_luminance, rgb_to_ycbcr
from fusionlib.methods import create, create_available, list_methods, list_weights, registry
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.pipelines import POSTS
from fusionlib.rules import RULES, Rule, get_rule
from fusionlib.tiles import Execution
from fusionlib.weights import digest, read_weights, save_weights

CONFIGURATIONS = [(spec.name, key) for spec in registry().values() for key in spec.configurations]
RULED = [c for c in CONFIGURATIONS if registry()[c[0]].configurations[c[1]].rules]
OWN_RULE = [c for c in CONFIGURATIONS if c not in RULED]
NETWORKS = [c for c in CONFIGURATIONS if registry()[c[0]].configurations[c[1]].has_network]
CLASSICAL = [c for c in CONFIGURATIONS if c not in NETWORKS]
EVERY = pytest.mark.parametrize("name, key", CONFIGURATIONS)
EVERY_NETWORK = pytest.mark.parametrize("name, key", NETWORKS)
DEFAULT = "res2netfuse_1_released_coco86"


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """Dictionaries are learnt in one iteration; AEFusion is one for 32x32 instead of 256x256."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr("fusionlib.classical.dictionary.ITERATIONS", 1)
        patch.setattr("fusionlib.classical.dictionary.cache_folder", lambda: cache)
        patch.setattr("fusionlib.networks.aefusion.SIDE", 32)
        yield


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Only what the package has is on this machine, and what is put into this folder."""
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    return tmp_path


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory, quick):
    """Untrained weights of every configuration, as a user's own files."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name, key in NETWORKS:
        torch.manual_seed(0)
        configuration = registry()[name].configurations[key]
        rules = [get_rule(rule) for rule in configuration.rules[:1]]
        net = configuration.build(*rules)
        if rules:
            for parameter in net.parameters():
                parameter.data.normal_(std=(1 / max(parameter[0].numel(), 1)) ** 0.5)
            # A last ReLU must not hide everything.
            [*net.parameters()][-1].data.fill_(configuration.levels.white / 2.55)
        paths[name, key] = folder / f"{name}_{key}.safetensors"
        save_weights(paths[name, key], net, {})
    atoms = np.random.default_rng(0).random((49, 256))
    atoms /= np.linalg.norm(atoms, axis=0)
    published = [f"pair_{number:02d}" for number in range(1, 22)]
    for name in ("jsr", "jsrsd"):
        for key, names in (("fixed", ["dictionary"]), ("published", published)):
            paths[name, key] = folder / f"{name}_{key}.npz"
            np.savez(paths[name, key], **dict.fromkeys(names, atoms))
    return paths


@pytest.fixture(scope="module")
def make(own_weights):
    def make(name, key, **options):
        axis = registry()[name].axis
        return create(name, weights=own_weights.get((name, key)), **{axis: key}, **options)

    return make


def pair(size=(33, 46), colour=False, seed=0):
    generator = np.random.default_rng(seed)
    ir = generator.integers(0, 256, size, dtype=np.uint8)
    return ir, generator.integers(0, 256, (*size, 3) if colour else size, dtype=np.uint8)


def levels(image):
    """The gray levels of an image that holds exact multiples of 1/255."""
    assert image.dtype == np.float32
    whole = np.rint(image * 255)
    assert np.array_equal(image, whole.astype(np.float32) / np.float32(255))
    return whole


# ---------------------------------------------------------------- creation


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("res2netfus", {}, r"method 'res2netfus'. Did you mean 'res2netfuse'"),
        ("res2netfuse", {"rule": "l1"}, r"fusion rule 'l1'.* l1_norm"),
        ("densefuse", {"pipeline": "torch"}, r"pipeline of densefuse 'torch'.*'pytorch'"),
        ("densefuse", {"variant": "paper"}, r"no variants .*'paper'.* pipelines: tensorflow, py"),
        ("res2netfuse", {"post": "minimax"}, r"post-processing 'minimax'.*'minmax'"),
        ("res2netfuse", {"weights": "coco86"}, r"weights 'coco86'.*res2netfuse_1_released_coco86"),
        ("sdnet", {"weights": 5}, r"weights 5\..*sdnet_irvis"),
        ("jsr", {"rule": "mean"}, r"own way to fuse \(l1 norms.*takes no rule"),
        ("sdnet", {"pipeline": "medical", "weights": "sdnet_irvis"}, r"'tang' of sdnet.*='tang'"),
    ],
)
def test_unknown_names(name, options, message):
    with pytest.raises(UnknownName, match=message):
        create(name, **options)


def test_weights_of_another_network(own_weights):
    for name, path, message in (
        ("res2netfuse", own_weights["msdnet", "released"], "does not fit Res2NetFuse .*missing"),
        ("mst", own_weights["jsr", "fixed"], "MST takes no weights"),
        ("jsr", own_weights["jsr", "fixed"], "use pipeline='fixed'"),
    ):
        with pytest.raises(WeightsMismatch, match=message):
            create(name, weights=path)
    with pytest.raises(WeightsNotFound, match=r"no such weight file: gone\.npz"):
        create("mst", weights="gone.npz")


def test_a_folder_of_weights_that_is_not_there(tmp_path, own_weights):
    """Whatever would be taken without it, a slip of the pen must not pass."""
    gone = tmp_path / "gone"
    for use in (
        lambda: create("res2netfuse", weights_dir=gone),
        lambda: create("cddfuse", weights=own_weights["cddfuse", "released"], weights_dir=gone),
        lambda: create_available(str(gone)),
        lambda: list_weights(gone),
    ):
        with pytest.raises(FusionError, match=f"no such folder of weights: {gone}"):
            use()


def test_damaged_weights_are_refused(nowhere):
    """A file of the registered name comes first, but must hold the registered tensors.

    Among all methods it stops no other, and no sound weights take its place silently.
    """
    save_weights(nowhere / f"{DEFAULT}.safetensors", Res2NetFuse(), {})
    with pytest.raises(WeightsMismatch, match="does not hold the registered weights"):
        create("res2netfuse", weights_dir=nowhere)
    found, missing = create_available(nowhere)
    assert "does not hold the registered weights" in missing["res2netfuse"]
    assert {m.name for m in found} == set(registry()) - set(missing)


def test_weights_that_are_not_finite_are_reported(tmp_path):
    net = Res2NetFuse()
    net.encoder[0].bias.data[3] = torch.nan
    save_weights(tmp_path / "nan.safetensors", net, {})
    method = create("res2netfuse", weights=tmp_path / "nan.safetensors")
    with pytest.raises(FusionError, match=r"not finite; its weights \(nan\.safetensors\)"):
        method.fuse(*pair())


@EVERY_NETWORK
def test_own_weights_are_loaded_as_saved(make, own_weights, name, key):
    method = make(name, key)
    saved = read_weights(own_weights[name, key])
    assert digest(method.network.state_dict()) == digest(saved) == method.card.weights_sha256
    assert method.card.weights == own_weights[name, key].name
    assert method.card.weights_trained == method.card.weights_licence == "unknown"
    assert method.card.parameters == sum(tensor.numel() for tensor in saved.values())


def test_every_choice_shows_in_the_identity(own_weights):
    own = own_weights["res2netfuse", "released"]
    choices = [
        {},
        {"rule": "mean"},
        {"post": "clip"},
        {"variant": "paper"},
        {"weights": "res2netfuse_1_released_coco34"},
        {"weights": own},
    ]
    made = [create("res2netfuse", **choice) for choice in choices]
    assert len({method.identity for method in made}) == len(choices)
    assert made[0].identity[:4] == ("res2netfuse", "released", "l1_norm", "minmax")
    assert made[0].card.weights == DEFAULT
    assert made[-1].identity[4] == f"{own.name}@{made[-1].card.weights_sha256[:8]}"


def test_rows_say_what_changes_results(make):
    method = make("cddfuse", "released")
    before = method.identity
    method.execution = Execution(channels_last=True, threads=1)
    assert method.identity == before
    method.execution = Execution(precision="bfloat16", tile=128, overlap=32)
    assert method.identity.variant == "released, bfloat16, tiles 128+32"


def test_a_rule_of_ones_own():
    mine = Rule("first", "the first image", combine=lambda features: features[0])
    method, (ir, vis) = create("res2netfuse", rule=mine), pair()
    assert np.array_equal(method.fuse(ir, vis), method.reconstruct(ir))
    assert "first: the first image" in str(method.card)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name, key",
    [
        (name, key)
        for name, key in CONFIGURATIONS
        for weights in [registry()[name].configurations[key].weights]
        if name != "res2netfuse" and weights and weights[0].digest
    ],
)
def test_the_card_states_the_registered_hash(weights_root, name, key):
    """That of the authors' tensors, as they are in the file."""
    configuration = registry()[name].configurations[key]
    try:
        method = create(name, **{registry()[name].axis: key})
    except WeightsNotFound as missing:
        pytest.skip(str(missing))
    assert method.card.weights_sha256 == configuration.weights[0].digest


def test_available_methods_take_our_weights_where_the_authors_are_missing(nowhere):
    found, missing = create_available()
    assert {m.name for m in found} == set(registry()) - set(missing)
    for method in found:
        configuration = registry()[method.name].default
        named = [f for f in configuration.weights if f.name == method.card.weights]
        assert [f.origin for f in named] == ([""] if configuration.weights else [])
    assert {"dchwt", "jsr", "jsrsd", "mst"} <= {m.name for m in found}
    assert "densefuse_tf_1e2" in missing["densefuse"]
    assert create("cddfuse", retrained=True).card.weights == "cddfuse_retrained"
    for name, options in (
        ("cddfuse", {}),
        ("densefuse", {"retrained": True}),
        ("sdnet", {"pipeline": "released", "weights": "sdnet_irvis"}),  # shared with another
    ):
        with pytest.raises(WeightsNotFound, match=options.get("weights", name)):
            create(name, **options)


@pytest.mark.realdata
def test_available_methods_take_the_authors_weights(weights_root):
    found, _ = create_available()
    names = {m.name: m.card.weights for m in found}
    assert names["densefuse"] == "densefuse_tf_1e2" and names["mufusion"] == "mufusion_tno"


# ---------------------------------------------------------------- what enters a network


@pytest.mark.parametrize("name, key", OWN_RULE)
def test_what_has_no_rule_says_so(make, name, key):
    method, (ir, vis) = make(name, key), pair()
    own = registry()[name].configurations[key].own_rule
    assert method.rule is None and method.identity.rule == own
    assert own in repr(method) and method.card.rule == own
    for error, use, message in (
        (UnknownName, lambda: make(name, key, rule="mean"), "takes no rule"),
        (PairMismatch, lambda: method.fuse(ir, vis, ir), "fuses two images, 3 were given"),
        (FusionError, lambda: method.weight_maps(ir, vis), "no weight maps"),
        (FusionError, lambda: method.reconstruct(ir), "cannot reconstruct"),
    ):
        with pytest.raises(error, match=message):
            use()


@pytest.mark.parametrize("name, key", CLASSICAL)
def test_the_algorithm_sees_exact_levels(make, monkeypatch, name, key):
    """Whole levels over 255, in float64, as the authors' code reads them."""
    method = make(name, key)
    seen = []
    monkeypatch.setattr(method._fuser, "fuse", lambda *x: seen.extend(x) or x[0])
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    raw = method.raw(ramp, ramp / np.float32(255))
    assert method.network is None and raw.dtype == np.float64
    for image in seen:
        assert np.array_equal(image, ramp / 255 * method.levels.white)


@EVERY_NETWORK
def test_the_network_sees_its_levels(make, name, key):
    """Black and white become those of the card, after the preparation."""
    method = make(name, key)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for tensor in method.inputs(ramp, ramp):
        image = tensor[0, 0, :16, :16]
        assert (float(image.min()), float(image.max())) == tuple(method.levels)


def test_pillows_levels_enter_sdnet(make):
    """Of a constant image of level 11, SDNet sees level 10."""
    images = [np.full((8, 8), level, np.uint8) for level in (11, 10)]
    read, plain = (make("sdnet", key) for key in ("tang", "released"))
    assert np.array_equal(read.raw(images[0], images[0]), plain.raw(images[1], images[1]))
    assert not np.array_equal(read.raw(images[0], images[0]), plain.raw(images[0], images[0]))
    assert read.card.preprocessing.startswith("read as the luminance of Pillow's YCbCr")


# ---------------------------------------------------------------- many pairs


def pictures(*sizes):
    generator = np.random.default_rng(1)
    return [
        (generator.random((h, w), np.float32), generator.random((h, w, 3), np.float32))
        for h, w in sizes
    ]


@EVERY_NETWORK
def test_pairs_that_run_together_are_fused_as_alone(make, name, key):
    """No pixel of one pair depends on the other: some roundings of float32 at most."""
    method = make(name, key)
    pairs = pictures((33, 46), (33, 46))
    alone = [method.raw(*pair) for pair in pairs]
    together = method._run_all([method._sources(*pair) for pair in pairs])
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()


def test_groups_of_one_size_run_together(make, monkeypatch):
    method = make("res2netfuse", "released")
    method.execution = Execution(batch=2)
    sizes = [(9, 8), (9, 8), (9, 8), (7, 8), (9, 8)]
    batches = []
    run = methods.run_network

    def watch(network, images, how):
        batches.append(images[0].shape)
        return run(network, images, how)

    monkeypatch.setattr(methods, "run_network", watch)
    fused = list(method.fuse_all(pictures(*sizes)))
    assert [image.shape for image in fused] == [(*size, 3) for size in sizes]
    assert [(len_, h) for len_, _, h, _ in batches] == [(2, 9), (1, 9), (1, 7), (1, 9)]


@EVERY
def test_a_method_survives_the_way_to_another_process(make, name, key):
    method = make(name, key)
    other = pickle.loads(pickle.dumps(method))
    assert (other.identity, other.card) == (method.identity, method.card)
    ((ir, vis),) = pictures((17, 20))
    assert np.array_equal(other.fuse(ir, vis), method.fuse(ir, vis))


@EVERY_NETWORK
def test_bfloat16_ends_in_more_than_8_bits(make, name, key):
    """Of every network: the last layer computes in float32."""
    method = make(name, key)
    method.execution = Execution(precision="bfloat16")
    raw = torch.from_numpy(method.raw(*pictures((17, 20))[0]))
    raw = raw[raw != 0]  # an untrained network that ends in a ReLU may leave nothing else
    assert not len(raw) or (raw != raw.bfloat16()).float().mean() > 0.5


# ---------------------------------------------------------------- the card


def test_card(make):
    method = create("res2netfuse", variant="paper", rule="mean", post="clip")
    (entry,) = registry()["res2netfuse"].configurations["paper"].weights
    card = method.card
    assert card.parameters == entry.parameters == 101_217 and card.weights_sha256 == entry.digest
    assert (card.weights, card.weights_trained, card.weights_licence) == (
        entry.name,
        entry.trained,
        entry.licence,
    )
    assert card.variant.startswith("paper: ") and card.rule.startswith("mean: ")
    assert card.postprocessing.startswith("clipped to 0..255, truncated to 8 bits")
    assert "0..255" in card.preprocessing and card.size == "any"
    assert "res2netfuse paper, rule mean, post clip" in repr(method)
    card = make("densefuse", "tensorflow").card
    assert card.postprocessing.startswith("stretched per image to 0..255, rounded to 8 bits")
    assert card.size == "any; sides below 2 are padded"


@pytest.mark.parametrize("name, key", CLASSICAL)
def test_the_card_of_a_classical_method(make, name, key):
    card = make(name, key).card
    expected = {"fixed": 49 * 256, "published": 21 * 49 * 256}.get(key, 0)
    assert card.parameters == expected and bool(card.weights_sha256) == bool(expected)
    if key == "published":
        assert "for other pairs learnt from the pair" in card.weights_trained
    if not expected:
        learnt = "learnt from the pair: K-SVD, 50 iterations, seed 0" if key == "learnt" else "none"
        assert card.weights == make(name, key).identity.weights == learnt


# ---------------------------------------------------------------- fusion


@EVERY
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 46)])
@pytest.mark.parametrize("colour", [False, True])
def test_fused_has_the_size_of_the_visible_image(make, name, key, size, colour):
    ir, vis = pair(size, colour)
    fused = make(name, key).fuse(ir, vis)
    assert fused.shape == vis.shape
    assert levels(fused).min() >= 0 and levels(fused).max() <= 255


@EVERY
@pytest.mark.parametrize("ir, vis", [(0, 0), (255, 255), (0, 255), (17, 0)])
def test_constant_images(make, name, key, ir, vis):
    fused = make(name, key).fuse(np.full((9, 12), ir, np.uint8), np.full((9, 12), vis, np.uint8))
    assert np.isfinite(levels(fused)).all()


def test_padding_of_small_images_is_cut_off(make):
    """Images below the minimum are continued by their last row and column."""
    method, (ir, vis) = make("msdnet", "released"), pair((1, 2))
    grown = [np.pad(image, ((0, 2), (0, 1)), mode="edge") for image in (ir, vis)]
    assert np.array_equal(method.raw(ir, vis), method.raw(*grown)[:1, :2])


def test_types_are_equal():
    method, (ir, vis) = create("res2netfuse"), pair()
    expected = method.fuse(ir, vis)
    for change in (
        lambda x: x.astype(np.uint16) * 257,
        lambda x: x / np.float32(255),
        lambda x: x / 255.0,
        lambda x: x[..., None],
    ):
        given = change(ir), change(vis)
        before = [image.copy() for image in given]
        assert np.array_equal(method.fuse(*given), expected)
        assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))


def test_colour_is_kept():
    """The fused luminance is that of the gray pair, Cb and Cr are the visible image's.

    Moderate colours, so that no channel is clipped; 8 bits leave half a level in
    each of R, G and B, hence in Y, Cb and Cr.
    """
    generator = np.random.default_rng(1)
    vis = generator.uniform(0.4, 0.6, (30, 31, 3)).astype(np.float32)
    ir = generator.uniform(0.4, 0.6, (30, 31)).astype(np.float32)
    method = create("res2netfuse", post="clip")
    y = rgb_to_ycbcr(vis)[..., 0]
    fused, gray = method.fuse(ir, vis), method.fuse(ir, y)
    assert fused.min() > 0 and fused.max() < 1
    ours, given = rgb_to_ycbcr(fused), rgb_to_ycbcr(vis)
    # Half a level times the absolute sum of a row of the matrix: 1 for Y, Cb and Cr.
    assert np.abs(ours[..., 0] - gray).max() <= 0.501 / 255
    assert np.abs(ours[..., 1:] - given[..., 1:]).max() <= 0.501 / 255
    assert np.array_equal(method.reconstruct(vis), method.reconstruct(y))


def test_chroma_before_post_processing(make):
    """SeAFusion: colour joins the clipped luminance, then the whole RGB image is stretched."""
    method, (ir, vis) = make("seafusion", "released"), pair(colour=True)
    gray = np.clip(method.raw(ir, vis), 0, 1)
    rgb = merge_luminance(gray, vis / np.float32(255)).astype(np.float64)
    expected = np.floor((rgb - rgb.min()) / (rgb.max() - rgb.min()) * 255)
    assert np.array_equal(levels(method.fuse(ir, vis)), expected)
    assert method.card.postprocessing.startswith("chroma of the visible image; stretched")


@pytest.mark.parametrize("name, key", RULED)
def test_three_images(make, name, key):
    """Also: the order of the further images does not matter beyond rounding."""
    method, (a, b), (c, _) = make(name, key), pair(), pair(seed=5)
    one, other = method.raw(a, b, c), method.raw(c, b, a)
    assert one.shape == a.shape
    assert np.allclose(one, other, rtol=1e-4, atol=1e-4 * np.ptp(one))
    assert not np.allclose(one, method.raw(a, b), rtol=1e-3)


def test_raw_is_the_network():
    method, (ir, vis) = create("res2netfuse"), pair()
    tensors = [torch.from_numpy(x.astype(np.float32))[None, None] for x in (ir, vis)]
    with torch.inference_mode():
        expected = method.network(*tensors)[0, 0].numpy()
        alone = method.network(tensors[0])[0, 0].numpy()
    assert method.raw(ir, vis) == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert method.raw_reconstruction(ir) == pytest.approx(alone, rel=1e-4, abs=1e-3)
    assert np.array_equal(method.fuse(ir, vis), method.finish(method.raw(ir, vis)))
    assert np.array_equal(method.reconstruct(ir), method.finish(method.raw_reconstruction(ir)))


@pytest.mark.parametrize("position", [0, 1])
def test_bad_images(position):
    method, images = create("res2netfuse"), [image / np.float32(255) for image in pair()]
    images[position][3, 4] = 1.01
    with pytest.raises(ImageError, match=["infrared image", "visible image"][position]):
        method.fuse(*images)
    ir, vis = pair(colour=True)
    with pytest.raises(ImageError, match="infrared image: it is in colour"):
        method.fuse(vis, ir)
    for others, message in ([], "46x33 and 40x30"), ([ir], "46x33 and 40x30 and 46x33"):
        with pytest.raises(PairMismatch, match=message):
            method.fuse(ir, pair((30, 40))[1], *others)


# ---------------------------------------------------------------- post-processing


def test_finish_on_known_values(make):
    """One method truncates, the other rounds; "minmax" and "clip" are told in test_pipelines."""
    truncates, rounds = create("res2netfuse"), make("densefuse", "tensorflow")
    raw = np.array([[-3.0, 0.4, 0.5, 99.5, 254.6, 300.0]], np.float32)
    assert levels(truncates.finish(raw, "clip")).tolist() == [[0, 0, 0, 99, 254, 255]]
    assert levels(rounds.finish(raw, "clip")).tolist() == [[0, 0, 1, 100, 255, 255]]
    ramp = np.array([[10.0, 20.0, 30.0]], np.float32)
    assert levels(truncates.finish(ramp)).tolist() == [[0, 127, 255]]
    assert levels(rounds.finish(ramp)).tolist() == [[0, 128, 255]]
    with pytest.raises(UnknownName, match=r"post-processing 'min-max'.*'minmax'"):
        rounds.finish(raw, "min-max")
    with pytest.raises(FusionError, match="not finite"):
        rounds.finish(raw * np.nan)


def test_finished_with_colour_and_another_post_processing():
    ir, vis = pair(colour=True)
    method, other = create("res2netfuse"), create("res2netfuse", post="stretch:0.4")
    raw = method.raw(ir, vis)
    assert np.array_equal(method.finish(raw, vis=vis), method.fuse(ir, vis))
    assert np.array_equal(method.finish(raw, "stretch:0.4", vis), other.fuse(ir, vis))
    assert "stretched per image to 0..255 by 0.4 of the way" in other.card.postprocessing


# ---------------------------------------------------------------- weight maps


@pytest.mark.parametrize(
    "name, key, rule",
    [
        (name, key, rule)
        for name, key in RULED
        for rule in registry()[name].configurations[key].rules
        if RULES[rule].activity
    ],
)
@pytest.mark.parametrize("size", [(2, 2), (20, 17)])
def test_weight_maps(make, name, key, rule, size):
    method = make(name, key, rule=rule)
    for images in (pair(size), (*pair(size), pair(size, seed=5)[0])):
        maps = method.weight_maps(*images)
        assert maps.shape == (len(images), method.network.groups, *size)
        assert maps.min() >= 0 and np.abs(maps.sum(axis=0) - 1).max() <= 3 * 2**-23


def test_weight_maps_are_those_of_the_fusion():
    method, (ir, vis) = create("res2netfuse"), pair()
    with torch.inference_mode():
        encoded = [method.network.encode(tensor) for tensor in method.inputs(ir, vis)]
        norms = [features[0].abs().sum(dim=0).numpy() for features in encoded]
    expected = norms[0] / (norms[0] + norms[1])
    assert method.weight_maps(ir, vis)[0, 0] == pytest.approx(expected, rel=1e-5)
    levels = [(image / 255).tolist() for image in (ir, vis)]
    assert method.weight_maps(*levels)[0, 0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(FusionError, match="'average' has no weight maps"):
        create("res2netfuse", rule="average").weight_maps(ir, vis)


# ---------------------------------------------------------------- lists, discovery


def test_list_methods():
    frame = list_methods()
    assert list(zip(frame["method"], frame["variant or pipeline"], strict=True)) == CONFIGURATIONS
    for _, row in frame.iterrows():
        configuration = registry()[row["method"]].configurations[row["variant or pipeline"]]
        assert set(configuration.rules) <= set(RULES) and configuration.post in POSTS
        assert row["rules"].split(", ") == list(configuration.rules or [configuration.own_rule])
        assert (row["weights found"] == "none needed") == (not configuration.weights)
    assert frame.set_index("method")["weights found"]["res2netfuse"].iloc[0] == "4 of 4"


def test_list_weights(nowhere, own_weights):
    damaged = nowhere / "res2netfuse_1_paper_coco86.safetensors"
    save_weights(damaged, Res2NetFuse("paper"), {})
    for name, source in (("cddfuse", "seafusion"), ("emma", "emma")):  # no hash is known of these
        key = next(iter(registry()[source].configurations))
        shutil.copy(own_weights[source, key], nowhere / f"{name}.safetensors")
    (nowhere / "nestfuse.safetensors").write_bytes(b"garbage")
    plain = list_weights(nowhere).set_index("name")
    checked = list_weights(nowhere, verify=True).set_index("name")
    assert set(plain["state"]) == {"found", "not found"} and plain.index.is_unique
    assert checked.loc[damaged.stem, ["state", "path"]].tolist() == ["damaged", str(damaged)]
    assert checked.loc["msdnet", ["state", "path"]].tolist() == ["not found", ""]
    for name, state in (
        (DEFAULT, "verified"),
        ("cddfuse", "does not fit"),
        ("nestfuse", "damaged"),
        ("emma", "fits, no hash known"),
    ):
        assert checked.loc[name, "state"] == state
    assert checked.loc["msdnet", "origin"].startswith("github.com/")
    assert checked.loc[DEFAULT, "origin"] == "this project"
    assert plain.loc["jsr_dictionaries", "method"] == "jsr, jsrsd"


NEW_NETWORK = """
from fusionlib.card import Configuration, MethodSpec, WeightFile
from fusionlib.networks.res2netfuse import Res2NetFuse

METHOD = MethodSpec(
    name="newfuse", title="NewFuse", paper="", doi="", year=2030, kind="auto-encoder",
    licence="MIT", axis="variant",
    configurations={
        "only": Configuration(
            summary="one file", build=lambda rule: Res2NetFuse("released", rule),
            weights=(WeightFile("newfuse", "0" * 64, 89_617, "", "MIT", "github.com/x model.pt"),),
            rules=("mean",), post="clip", quantise="round",
        )
    },
)
"""


def test_a_new_method_is_one_new_file(tmp_path, monkeypatch, own_weights):
    """Nothing says where its published file is: that stops no listing."""
    (tmp_path / "newfuse.py").write_text(NEW_NETWORK)
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    registry.cache_clear()
    try:
        assert list_methods().set_index("method").loc["newfuse", "weights found"] == "0 of 1"
        assert list_weights().set_index("name").loc["newfuse", "state"] == "not found"
        method = create("newfuse", weights=own_weights["res2netfuse", "released"])
        assert method.fuse(*pair()).shape == (33, 46)
        assert "weights convert newfuse FILE" in create_available()[1]["newfuse"]
    finally:
        registry.cache_clear()
