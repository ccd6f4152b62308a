"""The command line: what is given wrong gets one message and status 2, and leaves no trace."""

from __future__ import annotations

import functools
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

import fusionlib
from fusionlib.__main__ import main
from fusionlib.datasets import load_images
from fusionlib.detection.detector import save_detector
from fusionlib.images import read_image, write_image
from fusionlib.methods import Method, registry
from fusionlib.sources import find_source
from fusionlib.weights import digest, read_facts, read_weights, save_weights
from tests.detection.given import detector

OURS = Path(fusionlib.__file__).parent / "weights" / "res2netfuse_1_released_coco86.safetensors"
COMMAND = str(Path(sys.executable).with_name("fusionlib"))


def save(path, shape=(24, 28), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with a pair of images and a pair of folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("FUSIONLIB_WEIGHTS", "FUSIONLIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save(Path("ir.png"))
    save(Path("vis.png"), seed=1)
    return tmp_path


@pytest.fixture
def folders():
    for i in range(3):
        save(Path(f"ir/{i}.png"), seed=i)
        save(Path(f"vis/{i}.png"), (24, 28, 3), seed=10 + i)


def files():
    return {str(path) for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def refused(capsys):
    """Run a command that must fail: status 2, one message, no new file."""

    def refused(*arguments, writes=()):
        before = files()
        assert main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("fusionlib: ") == 1 and "Traceback" not in error
        assert files() - before == set(writes)
        return error[error.index("fusionlib: ") + 11 :]

    return refused


@pytest.fixture
def done(capsys):
    """Run a command that must succeed; return what it printed."""

    def done(*arguments):
        assert main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return done


# ---------------------------------------------------------------- one pair


def test_fuse_writes_what_the_library_gives(done):
    out = done("fuse", "ir.png", "vis.png", "-o", "new/out.png", "--rule", "mean")
    assert out == "wrote new/out.png\n"
    fused = fusionlib.create("res2netfuse", rule="mean").fuse(
        read_image("ir.png"), read_image("vis.png")
    )
    assert np.array_equal(read_image("new/out.png"), fused)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (1, 30)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_any_size(done, shape, channels):
    save(Path("a.png"), shape)
    save(Path("b.png"), (*shape, *channels), seed=1)
    done("fuse", "a.png", "b.png", "-o", "out.png")
    assert read_image("out.png").shape == (*shape, *channels)


@pytest.mark.parametrize("level", [0, 100, 255])
@pytest.mark.parametrize("rule", ["l1_norm", "mean", "average"])
def test_constant_images(done, level, rule):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((24, 28), level, np.uint8)).save(name)
    done("fuse", "a.png", "b.png", "-o", "out.png", "--rule", rule)
    assert read_image("out.png").shape == (24, 28)


def test_sizes_differ(refused):
    save(Path("other.png"), (20, 28))
    message = refused("fuse", "ir.png", "other.png", "-o", "out.png")
    assert "infrared is 28x24" in message and "visible is 28x20" in message


def truncated():
    return Path("vis.png").read_bytes()[:200]


def large():
    """A PNG whose header, with a right checksum, promises 60,000 x 60,000 pixels."""
    data = bytearray(Path("vis.png").read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def float_tiff(value):
    tifffile.imwrite("float.tif", np.full((24, 28), value, np.float32))
    return Path("float.tif").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (truncated, "truncated"),
        (lambda: b"", "0 bytes"),
        (lambda: b"#!/bin/sh\n", "format"),
        (large, "60000x60000"),
        (lambda: float_tiff(np.nan), "NaN"),
        (lambda: float_tiff(np.inf), "inf"),
        (lambda: float_tiff(200), "200"),
        (lambda: float_tiff(-0.5), "-0.5"),
    ],
)
@pytest.mark.parametrize("side", ["ir", "vis"])
def test_bad_image(refused, content, words, side):
    Path("bad.png").write_bytes(content())
    pair = ("bad.png", "vis.png") if side == "ir" else ("ir.png", "bad.png")
    message = refused("fuse", *pair, "-o", "out.png")
    assert "bad.png" in message
    assert words.lower() in message.lower()


def test_infrared_in_colour(refused):
    save(Path("rgb.png"), (24, 28, 3))
    assert "infrared image rgb.png" in refused("fuse", "rgb.png", "vis.png", "-o", "out.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "res2netfus"], "Did you mean 'res2netfuse'"),
        (["--rule", "l1norm"], "Did you mean 'l1_norm'"),
        (["--variant", "papr"], "Did you mean 'paper'"),
        (["--pipeline", "tang"], "has no pipelines"),
        (["--post", "minmx"], "Did you mean 'minmax'"),
        (["--weights", "res2netfuse_1"], "res2netfuse_1_released_coco86"),
        (["--weights", "gone.safetensors"], "no such weight file: gone.safetensors"),
        (["--method", "densefuse"], "FUSIONLIB_WEIGHTS"),
        (["--device", "nonsense"], "device 'nonsense' cannot be used here"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--device", "meta"], "device 'meta' cannot be used here"),
        (["-o", "out.xyz"], "'.xyz' is no image format"),
        (["-o", "ir.png/out.png"], "cannot write ir.png/out.png"),
        (["-o", "."], "suffix '' is no image format"),
    ],
)
def test_bad_option(refused, options, words):
    assert words in refused("fuse", "ir.png", "vis.png", "-o", "out.png", *options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(refused):
    arguments = ("ir.png", "vis.png", "-o", "out.png", "--device", "cuda")
    assert "device 'cuda' cannot be used" in refused("fuse", *arguments)


@pytest.mark.parametrize("pair", [("gone.png", "vis.png"), ("ir.png", "gone.png")])
def test_absent_image(refused, pair):
    assert "gone.png: no such file" in refused("fuse", *pair, "-o", "out.png")


@pytest.mark.parametrize("pair", [("ir.png", "."), (".", "vis.png")])
def test_file_and_folder(refused, pair):
    assert "two files or two folders" in refused("fuse", *pair, "-o", "out.png")


# ---------------------------------------------------------------- weights


def missing(state):
    del state["decoder.0.bias"]


def extra(state):
    state["decoder.9.bias"] = torch.zeros(3)


def misshapen(state):
    state["decoder.0.bias"] = torch.zeros(65)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (missing, "1 missing: decoder.0.bias (64,)"),
        (extra, "1 extra: decoder.9.bias (3,)"),
        (misshapen, "decoder.0.bias is (65,), expected (64,)"),
    ],
)
def test_weights_that_do_not_fit(refused, change, words):
    state = read_weights(OURS)
    change(state)
    save_file(state, "mine.safetensors")
    assert words in refused(
        "fuse", "ir.png", "vis.png", "-o", "out.png", "--weights", "mine.safetensors"
    )


def test_damaged_weights(refused, done):
    assert done("weights", "verify").count("verified") >= 4
    data = OURS.read_bytes()
    Path(OURS.name).write_bytes(data[:5000])
    words = "not a readable safetensors file"
    arguments = ("fuse", "ir.png", "vis.png", "-o", "out.png", "--weights-dir", ".")
    assert words in refused(*arguments)
    assert f"damaged: {OURS.stem}" in refused("weights", "verify", "--weights-dir", ".")
    Path(OURS.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "does not hold the registered weights" in refused(*arguments)


def test_verified_without_a_hash(refused):
    """Another network's weights under the name of a set of which no hash is known."""
    for name, source in (("cddfuse", "seafusion"), ("emma", "emma")):
        network = registry()[source].configurations["released"].build()
        save_weights(f"{name}.safetensors", network, {})
    error = refused("weights", "verify", "--weights-dir", ".")
    assert error == "does not fit: cddfuse. Get these files again.\n"
    Path(OURS.name).write_bytes(b"half a fi")
    error = refused("weights", "verify", "--weights-dir", ".")
    assert error == f"damaged: {OURS.stem}; does not fit: cddfuse. Get these files again.\n"


def test_all_about_a_weight_set(done, refused):
    """One fact per line, nothing cut off."""
    shown = done("weights", "list", "densefuse_tf_1e2").splitlines()
    entry = registry()["densefuse"].configurations["tensorflow"].weights[0]
    (file,) = find_source("densefuse_tf_1e2").files
    for line in (
        "name: densefuse_tf_1e2",
        "method: densefuse",
        "state: not found",
        f"licence: {entry.licence}",
        "parameters: 74193",
        f"origin: {entry.origin}",
        "path: none",
        f"hash of the tensors: {entry.digest}",
        f"published file: {file.url}",
        "  size: unknown",
        "  sha256: unknown",
        "  git blob: unknown",
    ):
        assert line in shown
    shown = done("weights", "list", OURS.stem).splitlines()
    assert f"path: {OURS}" in shown and not any("published file" in line for line in shown)
    facts = [f"  {fact}: {value}" for fact, value in sorted(read_facts(OURS).items())]
    assert facts and shown[-len(facts) :] == facts
    assert "Did you mean 'nestfuse'" in refused("weights", "list", "nestfus")


@pytest.mark.parametrize("action", ["list", "verify"])
def test_a_folder_of_weights_that_is_not_there(refused, action):
    error = refused("weights", action, "--weights-dir", "gone")
    assert error.startswith("no such folder of weights: gone.")
    error = refused("fuse", "ir.png", "vis.png", "-o", "out.png", "--weights-dir", "gone")
    assert error.startswith("no such folder of weights: gone.")


# ---------------------------------------------------------------- folders


def test_folders(done, folders):
    assert "wrote 3 images to out" in done("fuse", "ir", "vis", "-o", "out")
    assert {path.name for path in Path("out").iterdir()} == {"0.png", "1.png", "2.png"}
    assert read_image("out/1.png").shape == (24, 28, 3)


def test_missing_partner(refused, folders):
    Path("vis/1.png").unlink()
    save(Path("vis/7.png"))
    message = refused("fuse", "ir", "vis", "-o", "out", writes={"out/0.png", "out/2.png"})
    assert message.startswith("2 could not be fused:")
    assert "1.png: only in ir" in message and "7.png: only in vis" in message


def test_damaged_file_in_a_folder(refused, folders):
    Path("ir/1.png").write_bytes(truncated())
    message = refused("fuse", "ir", "vis", "-o", "out", writes={"out/0.png", "out/2.png"})
    assert "1 could not be fused:" in message and "ir/1.png" in message


def test_skip_existing(done, folders, monkeypatch):
    done("fuse", "ir", "vis", "-o", "out")
    Path("out/1.png").unlink()
    calls = []
    original = Method.fuse_all
    monkeypatch.setattr(
        Method, "fuse_all", lambda self, pairs: calls.extend(pairs) or original(self, pairs)
    )
    out = done("fuse", "ir", "vis", "-o", "out", "--skip-existing")
    assert "wrote 1 images to out, 2 were there" in out
    assert len(calls) == 1


def test_how_networks_are_run(done, refused, folders):
    done("fuse", "ir", "vis", "-o", "out")
    ways = ("--tile", "16", "--threads", "1", "--channels-last", "--batch", "3", "--overlap", "8")
    done("fuse", "ir", "vis", "-o", "other", *ways)
    far = np.abs(read_image("other/1.png") - read_image("out/1.png"))
    assert far.max() <= 1.01 / 255
    assert "tile must be a whole number from 1, not 0" in refused(
        "fuse", "ir", "vis", "-o", "more", "--tile", "0"
    )
    assert "unknown precision 'half'" in refused(
        "fuse", "ir", "vis", "-o", "more", "--precision", "half"
    )


def test_no_bfloat16_here(refused, folders, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    message = refused("fuse", "ir", "vis", "-o", "out", "--precision", "bfloat16")
    assert "has no bfloat16 arithmetic here" in message


def test_jobs_below_one(refused, folders):
    assert "jobs must be at least 1" in refused("fuse", "ir", "vis", "-o", "out", "-j", "0")


def test_no_partner_at_all(refused):
    save(Path("ir/a.png"))
    save(Path("vis/b.png"))
    assert "no infrared image has a visible partner" in refused("fuse", "ir", "vis", "-o", "out")


def test_output_folder_is_a_file(refused, folders):
    Path("out").touch()
    assert "cannot write out/0.png" in refused("fuse", "ir", "vis", "-o", "out")


@pytest.mark.parametrize("option", ["--jobs", "--batch"])
def test_options_of_folders_are_refused_for_files(refused, option):
    message = refused("fuse", "ir.png", "vis.png", "-o", "x.png", option, "2")
    assert message.startswith("--jobs and --batch are of folders")


def test_a_scheduler_and_processes_here(refused):
    options = ["--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"]
    message = refused("benchmark", "res2netfuse", "sample", *options)
    assert message.startswith("--jobs is of this machine, and with --scheduler")


def test_a_scheduler_that_is_not_there(refused, monkeypatch):
    monkeypatch.setattr("fusionlib.scale.connect.__defaults__", (0.5,))  # seconds
    message = refused("benchmark", "res2netfuse", "sample", "--scheduler", "tcp://127.0.0.1:9")
    assert message.startswith("no Dask scheduler answers at tcp://127.0.0.1:9.")


# ---------------------------------------------------------------- training


def test_trained_weights_can_be_used(done):
    small = ("--variant", "paper", "--iterations", "2")
    out = done("train", "res2netfuse", "ir.png", "-o", "mine.safetensors", *small, "--seed", "3")
    assert "wrote mine.safetensors and mine.losses.csv" in out
    assert len(Path("mine.losses.csv").read_text().splitlines()) == 3
    facts = read_facts("mine.safetensors")
    assert (facts["images"], facts["iterations"], facts["seed"]) == ("ir.png", "2", "3")
    fuse = ("fuse", "ir.png", "vis.png", "--variant", "paper", "--weights", "mine.safetensors")
    done(*fuse, "-o", "mine.png")
    assert read_image("mine.png").shape == (24, 28)
    assert main(["fuse", *fuse[1:3], "-o", "no.png", "--weights", "mine.safetensors"]) == 2


def test_a_dictionary_can_be_learnt_and_used(done, folders):
    learn = ("train", "jsr", "ir", "vis", "-o", "mine.safetensors", "--iterations", "2")
    assert "wrote mine.safetensors and mine.losses.csv" in done(*learn, "--seed", "4")
    facts = read_facts("mine.safetensors")
    assert (facts["learnt_from"], facts["iterations"]) == ("288 patches of 3 pairs of ir", "2")
    assert (facts["seed"], facts["method"]) == ("4", "K-SVD")
    assert read_weights("mine.safetensors")["dictionary"].shape == (49, 256)
    assert list(pd.read_csv("mine.losses.csv")) == ["iteration", "rmse"]
    given = ("--pipeline", "fixed", "--weights", "mine.safetensors")
    done("fuse", "ir.png", "vis.png", "-m", "jsrsd", *given, "-o", "mine.png")
    assert read_image("mine.png").shape == (24, 28)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ir", "vis", "--iterations", "0"], "--iterations must be 1 or more, not 0"),
        (["ir", "vis", "--half"], "jsr learns a dictionary, without --half"),
        (["ir", "vis", "--budget", "1"], "without --budget"),
        (["ir", "vis", "--learning-rate", "1"], "without --learning-rate"),
        (["ir", "vis", "--checkpoint", "x"], "without --checkpoint"),
        (["ir", "vis", "--seed", "-1"], "seed must be 0 to 2**63 - 1, not -1"),
        (["ir", "vis", "-o", "ir.png/x.safetensors"], "cannot write"),
        (["tiny", "tiny"], "a.png is 6x9 pixels; a dictionary is learnt from patches of 7x7"),
        (["ir.png", "vis.png"], "give two folders, of infrared and of visible"),
        (["sample_images"], "pairs of an infrared and a visible image; the data set"),
    ],
)
def test_bad_learning(refused, folders, arguments, words):
    save(Path("tiny/a.png"), (9, 6))
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "mine.safetensors"]
    assert words in refused("train", "jsr", *arguments)


def test_a_dictionary_of_another_shape(refused):
    np.savez("other.npz", dictionary=np.full((64, 256), 1 / 8))
    given = ("--pipeline", "fixed", "--weights", "other.npz")
    message = refused("fuse", "ir.png", "vis.png", "-m", "jsr", *given, "-o", "no.png")
    assert "other.npz: the dictionary has the shape (64, 256), expected (49, 256)" in message


TRAIN = ("train", "res2netfuse", "-o", "mine.safetensors", "--iterations", "2")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ir.png", "-o", "mine.pt"], "must end in .safetensors, not 'mine.pt'"),
        (["gone.png"], "no such training image: gone.png"),
        (["empty"], "no image in the folder empty"),
        (["bad.png"], "bad.png"),
        (["bad.png", "bad.png", "ir.png"], "bad.png"),
        (["ir.png", "--variant", "papers"], "Did you mean 'paper'"),
        (["ir.png", "--iterations", "0"], "iterations must be at least 1"),
        (["ir.png", "--batch-size", "-1"], "batch_size must be at least 1"),
        (["ir.png", "--learning-rate", "nan"], "learning rate must be positive"),
        (["ir.png", "--every", "0"], "every must be at least 1"),
        (["ir.png", "--device", "nonsense"], "device 'nonsense'"),
        (["ir.png", "--checkpoint", "vis.png"], "vis.png is not a checkpoint"),
    ],
)
def test_bad_training(refused, arguments, words):
    Path("empty").mkdir()
    Path("bad.png").write_bytes(truncated())
    assert words in refused(*TRAIN, *arguments)


@pytest.fixture
def one_core():
    """On small images, threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TINY = ("--iterations", "2", "--batch-size", "2", "--crop", "16")


def test_recipe_learns_from_folders(done, folders, one_core):
    out = done("train", "cddfuse", "ir", "vis", "-o", "new/mine.safetensors", *TINY, "--half")
    assert "wrote new/mine.safetensors and new/mine.losses.csv" in out
    facts = read_facts("new/mine.safetensors")
    assert facts["learnt_from"].startswith("3 pairs of ir (published: 128x128 patches of 1083")
    assert facts["stages"].startswith("reconstruction: 1 iterations (published: 32480) of 2 (8)")
    assert all(t.dtype == torch.float16 for t in read_weights("new/mine.safetensors").values())
    losses = pd.read_csv("new/mine.losses.csv")
    assert list(losses["stage"]) == ["reconstruction", "fusion"]
    fuse = ("fuse", "ir.png", "vis.png", "-m", "cddfuse", "--weights", "new/mine.safetensors")
    done(*fuse, "-o", "mine.png")
    assert read_image("mine.png").shape == (24, 28)
    # Given again, the finished run is written again.
    before = digest(read_weights("new/mine.safetensors"))
    Path("new/mine.safetensors").unlink()
    done("train", "cddfuse", "ir", "vis", "-o", "new/mine.safetensors", *TINY, "--half")
    assert digest(read_weights("new/mine.safetensors")) == before
    assert read_facts("new/mine.safetensors") == facts


def test_recipes_learn_from_one_another(done, folders, one_core):
    """RFN-Nest from the auto-encoder that NestFuse learnt from a data set and an image."""
    images = ("sample_images", "ir.png")
    done("train", "nestfuse", *images, "-o", "nestfuse.safetensors", *TINY, "--seed", "2")
    facts = read_facts("nestfuse.safetensors")
    assert "images of sample_images, " in facts["learnt_from"] and facts["departures"] == ""
    rest = ("--option", "autoencoder=nestfuse.safetensors", "-o", "rfn.safetensors", *TINY)
    done("train", "rfn_nest", "sample", *rest)
    facts = read_facts("rfn.safetensors")
    assert "pairs of sample (" in facts["learnt_from"]
    assert facts["autoencoder"].startswith("sha256 ")


@pytest.fixture
def masks(folders):
    """A folder of masks beside those of the images: a white patch on black."""
    Path("masks").mkdir()
    for path in Path("ir").iterdir():
        white = np.zeros(read_image(path).shape[:2], np.uint8)
        white[3:9, 4:12] = 255
        Image.fromarray(white).save(Path("masks") / f"{path.stem}.png")


REFINE = ("train", "refinefuse", "ir", "vis", "masks", "-o", "mine.safetensors", *TINY)


def test_refinefuse_learns_from_labelled_folders(done, masks, one_core):
    options = ("--option", "optimiser=adam", "--option", "scales=2")
    done(*REFINE, "--hold-out", "3", "--every", "1", *options)
    facts = read_facts("mine.safetensors")
    assert facts["learnt_from"].startswith("2 labelled pairs of ir (published: 256x256 squares of")
    assert facts["learnt_from"].endswith("; 1 more held out")
    losses = pd.read_csv("mine.losses.csv")
    assert losses["held out total"].notna().all()
    fuse = ("fuse", "ir.png", "vis.png", "-m", "refinefuse", "--variant", "scales_2")
    done(*fuse, "--weights", "mine.safetensors", "-o", "mine.png")
    assert read_image("mine.png").shape == (24, 28)


def test_bad_labels(refused, masks, one_core):
    mask = next(Path("masks").iterdir())
    good = mask.read_bytes()
    message = refused("train", "refinefuse", "ir", "vis", "-o", "mine.safetensors", *TINY)
    assert "learns from pairs with labels: give three folders" in message
    mask.unlink()
    assert f"1 pairs have no mask in masks, such as {mask.stem}" in refused(*REFINE)
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(mask)
    assert "the mask is 4x5 but the images are" in refused(*REFINE)
    Image.fromarray(np.full((24, 28), 7, np.uint8)).save(mask)
    assert "is not black and white" in refused(*REFINE)
    mask.write_bytes(good[:60])
    assert str(mask) in refused(*REFINE)
    assert not Path("mine.safetensors").exists()


def test_res2netfuse_learns_from_a_data_set(done, one_core):
    small = ("--variant", "paper", "--iterations", "1", "--batch-size", "1")
    done("train", "res2netfuse", "sample_images", "-o", "mine.safetensors", *small)
    facts = read_facts("mine.safetensors")
    images = [name for name, _ in load_images("sample_images")]
    # The rate is that of the many-image schedule.
    assert (facts["images"], facts["learning_rate"]) == (", ".join(images), "0.0001")


def test_help_on_training_says_what_recipes_take(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    shown = " ".join(" ".join(lines).split())
    assert "aefusion, nestfuse; from pairs: cddfuse, emma, fusiongan, rfn_nest, swinf" in shown
    # An option a line.
    start = lines.index("values of --option:") + 1
    takes = [line.split(maxsplit=2) for line in lines[start : lines.index("examples:") - 1]]
    assert ["emma", "width"] in [words[:2] for words in takes]
    (needed,) = (about for *_, about in takes if about.startswith("needed: "))
    assert needed.startswith("needed: weights of nestfuse")


def test_images_without_partner_are_left_out(folders, capsys, one_core):
    Path("vis/2.png").unlink()
    command = ["train", "cddfuse", "ir", "vis", "-o", "mine.safetensors", *TINY]
    assert main(command) == 0
    assert "1 images without partner are left out, such as ir/2.png" in capsys.readouterr().err
    assert read_facts("mine.safetensors")["learnt_from"].startswith("2 pairs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cddfuse", "ir", "vis", "-o", "mine.pt"], "must end in .safetensors"),
        (["cddfuse", "ir", "vis", "-o", "ir.png/mine.safetensors"], "cannot write"),
        (["cddfuse", "ir.png", "vis.png"], "give two folders, of infrared and of visible"),
        (["cddfuse", "ir"], "give two folders"),
        (["cddfuse", "ir", "other"], "no infrared image has a visible partner"),
        (["cddfuse", "sample_images"], "pairs of an infrared and a visible image; the data set"),
        (["nestfuse", "sample"], "from single images; the data set sample holds pairs. Give"),
        (["res2netfuse", "tno20"], "from single images; the data set tno20 holds pairs. Give"),
        (["nestfuse", "samples"], "Did you mean 'sample"),
        (["nestfuse", "gone.png"], "no such training image: gone.png"),
        (["nestfuse", "empty"], "no image in the folder empty"),
        (["rfn_nest", "ir", "vis"], "rfn_nest needs 'autoencoder'"),
        (["rfn_nest", "ir", "vis", "--option", "autoencoder=gone"], "no such weight file: gone"),
        (["rfn_nest", "ir", "vis", "--option", "autoencoder=ir.png"], "not a readable safetensors"),
        (["cddfuse", "ir", "vis", "--option", "vgg=a"], "cddfuse does not take 'vgg'"),
        (["emma", "ir", "vis", "--option", "width"], "takes NAME=VALUE, not 'width'"),
        (["emma", "ir", "vis", "--option", "width=a"], "emma cannot take 'width' = a; it is"),
        (["emma", "ir", "vis", "--option", "width=0"], "at least 1 channel, not 0"),
        (["cddfuse", "ir", "vis", "--checkpoint", "mine.safetensors"], "checkpoint cannot be"),
        (["cddfuse", "ir", "vis", "--checkpoint", "./mine.losses.csv"], "checkpoint cannot be"),
        (["cddfuse", "ir", "vis", "--checkpoint", "ir.png/a"], "cannot write ir.png/a"),
        (["cddfuse", "ir", "vis", "-o", "blocked.safetensors"], "write blocked.losses.csv"),
        (["cddfuse", "ir", "vis", "--variant", "paper"], "--variant is for res2netfuse"),
        (["cddfuse", "ir", "vis", "--learning-rate", "1"], "--learning-rate is for res2netfuse"),
        (["res2netfuse", "ir.png", "--budget", "1"], "res2netfuse is trained without --budget"),
        (["res2netfuse", "ir.png", "--crop", "1"], "res2netfuse is trained without --crop"),
        (["res2netfuse", "ir.png", "--option", "a=1"], "res2netfuse does not take 'a'"),
        (["res2netfuse", "ir.png", "--option", "precision=half"], "unknown precision of training"),
        (["res2netfuse", "ir.png", "--rate-factor", "2"], "trained without --rate-factor"),
        (
            ["cddfuse", "ir", "vis", "--rate-factor", "-1"],
            "rates must be positive and at most 10000",
        ),
        (["cddfuse", "ir", "vis", "--budget", "0"], "budget must be positive minutes"),
        (["cddfuse", "ir", "vis", "--crop", "25"], "28x24, smaller than the 25x25"),
        (["aefusion", "ir.png", "--crop", "128"], "only of 256"),
        (["cddfuse", "ir", "vis", "--checkpoint", "vis.png"], "vis.png is not a checkpoint"),
    ],
)
def test_bad_recipe(refused, folders, one_core, arguments, words):
    Path("empty").mkdir()
    Path("blocked.losses.csv").mkdir()
    save(Path("other/a.png"))
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "mine.safetensors"]
    assert words in refused("train", *arguments)


def test_iterations_and_budget_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "cddfuse", "ir", "vis", "-o", "o.safetensors", "--budget", "1", *TINY])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


# ---------------------------------------------------------------- scores


@pytest.fixture
def scored():
    """A fused image and a folder of them, their sources, in colour where the name is 2."""
    for k, folder in enumerate(("fused", "a", "b")):
        for name in range(3):
            shape = (48, 50, 3) if (folder, name) == ("b", 2) else (48, 50)
            save(Path(f"{folder}/{name}.png"), shape, seed=3 * k + name)


ONE = ("evaluate", "fused/0.png", "a/0.png", "b/0.png")
ALL = ("evaluate", "fused", "a", "b")


def test_evaluate_prints_the_librarys_values(done, scored):
    lines = done(*ONE, "--metrics", "EN,MI:tang", "-c", "li").splitlines()
    assert lines[0].split() == ["metric", "convention", "value", "better"]
    images = [read_image(path) for path in ONE[1:]]
    for line, (name, convention) in zip(lines[1:], [("EN", "li"), ("MI", "tang")], strict=True):
        expected = fusionlib.evaluate(*images, f"{name}:{convention}")[f"{name}:{convention}"]
        assert line.split() == [name, convention, f"{expected:.6g}", "higher"]


def test_evaluate_folders(done, scored, tmp_path):
    out = done(*ALL, "-m", "refinefuse", "--csv", "new/scores.csv", "-j", "2")
    rows = pd.read_csv("new/scores.csv", dtype={"pair": str})
    assert rows.groupby("pair").size().to_dict() == {"0": 7, "1": 7, "2": 7}
    assert set(rows["convention"]) == {"cddfuse", "tang"}
    mean = rows.loc[rows["metric"] == "VIF", "value"].mean()
    assert f"{mean:.6g}" in out and "wrote new/scores.csv" in out
    assert "scored on the luminance Y" in out
    before = Path("new/scores.csv").read_bytes()
    assert done(*ALL, "-m", "refinefuse", "--csv", "new/scores.csv", "-j", "1") == out
    assert Path("new/scores.csv").read_bytes() == before


def test_evaluate_says_what_could_not_be_scored(refused, scored):
    Path("a/1.png").write_bytes(truncated())
    save(Path("b/7.png"))
    message = refused(*ALL, "-m", "EN", "--csv", "s.csv", writes={"s.csv"})
    assert message.startswith("2 could not be scored:")
    assert "a/1.png" in message and "7: not in fused and a" in message
    assert set(pd.read_csv("s.csv")["pair"]) == {0, 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*ONE[:3], "b"), "three files or three folders"),
        ((*ONE[:3], "b/9.png"), "b/9.png"),
        ((*ONE[:3], "vis.png"), "50x48 and 50x48 and 28x24"),
        ((*ONE, "-m", "EM"), "Did you mean 'MI' or 'EN'"),
        ((*ONE, "-m", "Q_CB", "-c", "li"), "Q_CB has no convention 'li'"),
        ((*ONE, "-c", "textbook"), "'textbook'"),
        ((*ONE, "-m", "MS_SSIM"), "MS_SSIM needs images of at least 176x176"),
        ((*ONE, "--colour", "RGB"), "Known: Y, channels"),
        ((*ONE, "--csv", "ir.png"), "ir.png does not hold scores"),
        ((*ONE, "--csv", "ir.png/s.csv"), "cannot write ir.png/s.csv"),
        ((*ALL, "-j", "0"), "jobs must be at least 1, not 0"),
        (("evaluate", "fused", "a", "no"), "three files or three folders"),
        (("benchmark", "densfuse", "sample"), "Did you mean 'densefuse'"),
        (("benchmark", ",", "sample"), "no method is given"),
        (("benchmark", "res2netfuse", "sampel"), "Did you mean 'sample"),
        (("benchmark", "res2netfuse", "sample", "--limit", "0"), "limit is 0"),
    ],
)
def test_bad_scoring(refused, scored, arguments, words):
    assert words in refused(*arguments)


def test_benchmark(done):
    out = done("benchmark", "res2netfuse", "sample", "--limit", "1", "-m", "EN,SCD", "-j", "1")
    frame = fusionlib.benchmark("res2netfuse", "sample", limit=1, metrics=["EN", "SCD"])
    assert all(f"{value:.6g}" in out for value in frame["value"])
    assert "scored on the luminance Y" in out


# ---------------------------------------------------------------- listings and the rest


def test_listings(done, tmp_path):
    assert all(name in done("methods") for name in ("densefuse", "msdnet", "res2netfuse"))
    card = done("methods", "res2netfuse")
    assert "10.48550/arXiv.2112.14540" in card and "89617" in card.replace(",", "")
    assert all(name in done("datasets") for name in ("sample", "tno20"))
    assert done("datasets") == done("datasets", "list")
    (tmp_path / "tno20").mkdir()
    assert str(tmp_path / "tno20") in done("datasets", "list", "--data-dir", str(tmp_path))
    assert all(name in done("metrics") for name in ("SSIM_a", "Q_NCIE", "cddfuse"))
    assert "saturates at 255" in done("metrics", "MI")
    assert max(map(len, done("methods").splitlines())) <= 120
    assert "weights: densefuse_tf_1e2\n  weights found: 0 of 1" in done("methods", "densefuse")
    assert OURS.stem in done("weights")
    assert done("weights") == done("weights", "list")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["methods", "res2net"], "Did you mean 'res2netfuse'"),
        (["metrics", "Qabff"], "Did you mean 'Qabf'"),
        (["datasets", "fetch", "roadscen"], "Did you mean 'roadscene'"),
        (["datasets", "fetch", "sample"], "sample"),
        (["reproduce", "--only", "99"], "unknown notebook '99'"),
        (["reproduce", "--device", "nonsense"], "device 'nonsense'"),
    ],
)
def test_bad_name(refused, arguments, words):
    assert words in refused(*arguments)


COMMANDS = [
    *([], ["fuse"], ["evaluate"], ["benchmark"], ["train"], ["reproduce"], ["methods"]),
    *(["metrics"], ["claims"], ["datasets"], ["datasets", "list"]),
    *(["datasets", "fetch"], ["weights"], ["weights", "list"], ["weights", "verify"]),
    *(["weights", "fetch"], ["weights", "convert"], ["detect"], ["detect", "run"]),
    *(["detect", "export"], ["detect", "evaluate"], ["detect", "train"]),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: fusionlib", *command]))


def test_reproduce_gets_what_was_given(monkeypatch):
    given = {}
    monkeypatch.setattr("fusionlib.reproduce.reproduce", lambda **options: given.update(options))
    main(["reproduce", "--only", "03", "--seed", "5", "--limit", "2", "--keep"])
    assert (given["only"], given["seed"], given["limit"], given["keep"]) == (["03"], 5, 2, True)
    main(["reproduce"])
    assert (given["only"], given["seed"], given["limit"], given["keep"]) == (None, 0, None, False)


@pytest.mark.parametrize(
    "command", [[], ["fusee"], ["fuse"], ["fuse", "a", "b"], ["train", "densefuse", "a"]]
)
def test_usage(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_ctrl_c(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Method, "fuse", interrupted)
    before = files()
    assert main(["fuse", "ir.png", "vis.png", "-o", "out.png"]) == 130
    assert "nothing is half-written" in capsys.readouterr().err
    assert files() == before


# ---------------------------------------------------------------- detect


@pytest.fixture
def scenes(done):
    """A detector without training, and built-in scenes in the layout of YOLO, in two parts."""
    save_detector("some.safetensors", detector(), {})
    # Training on one thread of a few small pictures takes a second.
    done("detect", "export", "vis", "sample", "-o", "set", "--limit", "4", "--block", "2/2")
    return Path("set")


def test_detect_run_writes_boxes_and_pictures(done):
    save_detector("some.safetensors", detector(), {})
    save(Path("in/a, b.png"), (48, 64, 3))
    save(Path("in/c.png"), (30, 40))
    arguments = ("detect", "run", "in", "-w", "some.safetensors", "--confidence", "0.2")
    lines = done(*arguments).splitlines()
    assert lines[0] == "image,class,score,x0,y0,x1,y1" and len(lines) > 2
    out = done(*arguments, "--csv", "found.csv", "-o", "out")
    assert f"wrote {len(lines) - 1} boxes to found.csv" in out and "wrote 2 images" in out
    found = pd.read_csv("found.csv")
    assert set(found["image"]) == {"a, b.png", "c.png"} and found["score"].min() >= 0.2
    cars = done(*arguments, "--classes", "Car, bicycle", "--overlap", "0.9").splitlines()[1:]
    assert {line.split(",")[-6] for line in cars} <= {"car", "bicycle"}
    assert read_image("out/c.png").shape == (30, 40, 3)
    assert (found.loc[found["image"] == "c.png", "x1"] <= 40).all()


def test_detect_run_says_which_images_cannot_be_used(capsys):
    save_detector("some.safetensors", detector(), {})
    save(Path("in/a.png"))
    Path("in/b.png").write_bytes(b"\x89PNG broken")
    assert main(["detect", "run", "in", "-w", "some.safetensors"]) == 2
    out, error = capsys.readouterr()
    assert out.startswith("image,class") and "1 could not be searched" in error and "b.png" in error


def test_detect_evaluate_and_train(done, scenes):
    shown = done("detect", "evaluate", scenes, "-w", "some.safetensors", "--draws", "5")
    assert "2 images" in shown and "AP50 low" in shown and "\n    all" in shown
    out = done(
        *("detect", "train", scenes, "-w", "some.safetensors", "-o", "new.safetensors"),
        *("--short", "--epochs", "1", "--input", "64", "--batch", "2"),
    )
    assert "wrote new.safetensors and new.losses.csv" in out
    # data.yaml names the images for testing as those for validation: they must not choose.
    assert list(pd.read_csv("new.losses.csv")) == ["epoch", "total", "box", "objectness", "classes"]
    assert read_facts("new.safetensors")["epochs"] == "1" and not list(Path().glob("*.checkpoint"))
    done("detect", "evaluate", scenes, "-w", "new.safetensors", "--csv", "ap.csv", "--draws", "0")
    assert list(pd.read_csv("ap.csv")) == ["class", "AP50", "AP"]


def test_detect_bad_input(refused, scenes):
    weights = ("-w", "some.safetensors")
    assert "no such file" in refused("detect", "run", "none.png", *weights)
    Path("empty").mkdir()
    assert "no image in" in refused("detect", "run", "empty", *weights)
    assert "between 0 and 1" in refused("detect", "run", "ir.png", *weights, "--confidence", "1")
    assert "between 0 and 1" in refused("detect", "run", "ir.png", *weights, "--overlap", "0")
    assert "'bus'" in refused("detect", "run", "ir.png", *weights, "--classes", "bus")
    assert "one of the images" in refused("detect", "run", "ir.png", *weights, "-o", ".")
    assert "one of the images" in refused("detect", "run", "ir.png", *weights, "--csv", "ir.png")
    assert "it is a folder" in refused("detect", "run", "ir.png", *weights, "--csv", ".")
    Path("file").write_text("x")
    message = refused("detect", "run", "ir.png", *weights, "-o", "out", "--csv", "file/a.csv")
    assert "cannot write" in message
    assert "positive multiple" in refused("detect", "run", "ir.png", *weights, "--input", "0")
    assert "fusionlib weights fetch yolov5n" in refused("detect", "run", "ir.png")
    assert "multiple of 32" in refused("detect", "run", "ir.png", *weights, "--input", "100")
    assert "no data.yaml" in refused("detect", "evaluate", "empty", *weights)
    assert "--draws must" in refused("detect", "evaluate", scenes, *weights, "--draws", "-1")
    assert "Known: test, train" in refused("detect", "evaluate", scenes, "--part", "x", *weights)
    message = refused("detect", "evaluate", scenes, "--part", "x", "--annotations", "a", *weights)
    assert "leave them out" in message
    assert "K/N" in refused("detect", "export", "vis", "sample", "-o", "new", "--block", "two")
    assert "no block 9 of 3" in refused(
        "detect", "export", "ir", "sample", "-o", "n", "--block", "9/3"
    )
    assert "another export" in refused("detect", "export", "ir", "sample", "-o", scenes)
    assert ", ir, " in refused("detect", "export", "infrared", "sample", "-o", "new")
    assert "has no boxes" in refused("detect", "export", "ir", "sample_mri_ct", "-o", "new")
    message = refused("detect", "train", scenes, *weights, "-o", "n.safetensors", "--head", "old")
    assert "'old'" in message
    same = ("-o", "n.safetensors", "--checkpoint", "n.safetensors")
    assert "written twice" in refused("detect", "train", scenes, *weights, *same)
    assert "class of set 'bus'" in refused(
        "detect", "evaluate", scenes, *weights, "--classes", "bus"
    )
    assert ".safetensors file" in refused("detect", "train", scenes, *weights, "-o", "new.pt")
    message = refused("detect", "train", scenes, *weights, "-o", "n.safetensors", "--epochs", "0")
    assert "epochs must be at least 1" in message
    (scenes / "labels" / "train" / "day_street.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    message = refused("detect", "train", scenes, *weights, "-o", "n.safetensors")
    assert "day_street.txt, line 1" in message and "0 to 2: person, bicycle, car" in message


# ---------------------------------------------------------------- the real command


def test_version():
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"fusionlib {fusionlib.__version__}\n")


def test_real_failure():
    command = [COMMAND, "fuse", "ir.png", "gone.png", "-o", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "fusionlib: gone.png: no such file. Check the spelling and the folder."
    ]


def test_real_ctrl_c():
    """What is finished stays and is whole; nothing else is there."""
    for i in range(200):
        save(Path(f"ir/{i}.png"), (150, 150), seed=i)
    Path("vis").symlink_to("ir")
    command = [COMMAND, "fuse", "ir", "vis", "-o", "out"]
    # A shell that runs the tests in the background lets them ignore the signal.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, preexec_fn=heed)
    while not Path("out/1.png").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "nothing is half-written" in error and "Traceback" not in error
    finished = list(Path("out").iterdir())
    assert 2 <= len(finished) < 200
    assert all(path.suffix == ".png" and not path.name.startswith(".") for path in finished)
    assert all(read_image(path).shape == (150, 150) for path in finished)


def test_closed_pipe_is_silent():
    """As in "fusionlib methods | head -1", where head has gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([COMMAND, "methods"], stdout=writer, stderr=-1, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_file_name_that_is_no_text():
    """Linux allows any bytes in a name; printing them must not fail."""
    name = b"out\xff.png"
    command = [COMMAND, "fuse", "ir.png", "vis.png", "-o", name]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=strict)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path(os.fsdecode(name)).exists()


@pytest.mark.skipif(
    not fusionlib.__file__.isascii(),
    reason="in the locale C, Python 3.11 cannot read the path of a clone with other letters",
)
def test_any_locale_home_and_folder(folders):
    """A locale that is not UTF-8, no home to write to, a folder with a space and other letters."""
    home, out = Path("home"), Path("\u00f6 ut/\u00e4 b")
    home.write_bytes(b"")
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"HOME": str(home.absolute())}
    command = [COMMAND, "fuse", "ir", "vis", "-o", os.fspath(out)]
    subprocess.run(command, env=environment, check=True)
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png"]


def test_sources_are_not_overwritten(tmp_path, capsys):
    image = np.zeros((20, 20), np.uint8)
    for name in ("ir", "vis"):
        write_image(tmp_path / f"{name}.png", image)
    before = (tmp_path / "vis.png").read_bytes()
    arguments = [str(tmp_path / "ir.png"), str(tmp_path / "vis.png")]
    assert main(["fuse", *arguments, "-o", str(tmp_path / "vis.png")]) == 2
    assert "one of the sources" in capsys.readouterr().err
    assert (tmp_path / "vis.png").read_bytes() == before


def test_name_too_long_for_the_system(tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((20, 20), np.uint8))
    file = str(tmp_path / "a.png")
    assert main(["fuse", file, file, "-o", str(tmp_path / ("x" * 300 + ".png"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_card_without_weights_says_where_to_get_them(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["methods", "densefuse"]) == 0
    shown = capsys.readouterr().out
    assert "10.1109/TIP.2018.2887342" in shown and "pipeline pytorch" in shown
    assert "FUSIONLIB_WEIGHTS" in shown
