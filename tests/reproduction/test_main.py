"""``python -m reproduction``: what is given wrong gets one message and status 2, no trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib.__main__ import main as fusionlib
from fusionlib.datasets import load_images
from fusionlib.images import read_image
from fusionlib.weights import digest, read_facts, read_weights
from reproduction.__main__ import main
from tests.line import save, truncated

pytestmark = pytest.mark.usefixtures("here")
PROGRAM = "python -m reproduction"
TINY = ("--iterations", "2", "--batch-size", "2", "--crop", "16")
TRAIN = ("train", "res2netfuse", "-o", "mine.safetensors", "--iterations", "2")
REFINE = ("train", "refinefuse", "ir", "vis", "masks", "-o", "mine.safetensors", *TINY)


def test_trained_weights_can_be_used(done):
    small = ("--variant", "paper", "--iterations", "2")
    out = done("train", "res2netfuse", "ir.png", "-o", "mine.safetensors", *small, "--seed", "3")
    assert "wrote mine.safetensors and mine.losses.csv" in out
    assert len(Path("mine.losses.csv").read_text().splitlines()) == 3
    facts = read_facts("mine.safetensors")
    assert facts["learnt_from"].startswith("ir.png of ") and facts["seed"] == "3"
    assert facts["stages"].startswith("reconstruction: 2 iterations (published: 2000) of 1 (1)")
    pair = ("ir.png", "vis.png", "--variant", "paper", "--weights", "mine.safetensors")
    fuse(*pair, "-o", "mine.png")
    assert read_image("mine.png").shape == (24, 28)
    assert fusionlib(["fuse", *pair[:2], "-o", "no.png", "--weights", "mine.safetensors"]) == 2


def test_a_dictionary_can_be_learnt_and_used(done, folders):
    learn = ("train", "jsr", "ir", "vis", "-o", "mine.safetensors", "--iterations", "2")
    assert "wrote mine.safetensors and mine.losses.csv" in done(*learn, "--seed", "4")
    facts = read_facts("mine.safetensors")
    assert (facts["learnt_from"], facts["iterations"]) == ("288 patches of 3 pairs of ir", "2")
    assert (facts["seed"], facts["method"]) == ("4", "K-SVD")
    assert read_weights("mine.safetensors")["dictionary"].shape == (49, 256)
    assert list(pd.read_csv("mine.losses.csv")) == ["iteration", "rmse"]
    given = ("--pipeline", "fixed", "--weights", "mine.safetensors")
    fuse("ir.png", "vis.png", "-m", "jsrsd", *given, "-o", "mine.png")
    assert read_image("mine.png").shape == (24, 28)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ir", "vis", "--iterations", "0"], "iterations must be at least 1, not 0"),
        (["ir", "vis", "--half"], "jsr learns a dictionary, without --half"),
        (["ir", "vis", "--crop", "1"], "without --crop"),
        (["ir", "vis", "--learning-rate", "1"], "without --learning-rate"),
        (["ir", "vis", "--checkpoint", "x"], "without --checkpoint"),
        (["ir", "vis", "--seed", "-1"], "seed must be 0 to 2**63 - 1, not -1"),
        (["ir", "vis", "-o", "ir.png/x.safetensors"], "cannot write"),
        (["tiny", "tiny"], "pair a is 6x9 pixels; a dictionary is learnt from patches of 7x7"),
        (["ir.png", "vis.png"], "give two folders, of infrared and of visible"),
        (["sample_images"], "pairs of an infrared and a visible image; the data set"),
    ],
)
def test_bad_learning(refused, folders, arguments, words):
    save(Path("tiny/a.png"), (9, 6))
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "mine.safetensors"]
    assert words in refused("train", "jsr", *arguments)


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


def test_recipe_learns_from_folders(done, folders, one_core):
    out = done("train", "cddfuse", "ir", "vis", "-o", "new/mine.safetensors", *TINY, "--half")
    assert "wrote new/mine.safetensors and new/mine.losses.csv" in out
    facts = read_facts("new/mine.safetensors")
    assert facts["learnt_from"].startswith("3 pairs of ir (published: 128x128 patches of 1083")
    assert facts["stages"].startswith("reconstruction: 1 iterations (published: 32480) of 2 (8)")
    assert all(t.dtype == torch.float16 for t in read_weights("new/mine.safetensors").values())
    losses = pd.read_csv("new/mine.losses.csv")
    assert list(losses["stage"]) == ["reconstruction", "fusion"]
    pair = ("ir.png", "vis.png", "-m", "cddfuse", "--weights", "new/mine.safetensors")
    fuse(*pair, "-o", "mine.png")
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


def test_refinefuse_learns_from_labelled_folders(done, masks, one_core):
    options = ("--option", "optimiser=adam", "--option", "scales=2")
    done(*REFINE, "--hold-out", "3", "--every", "1", *options)
    facts = read_facts("mine.safetensors")
    assert facts["learnt_from"].startswith("2 labelled pairs of ir (published: 256x256 squares of")
    assert facts["learnt_from"].endswith("; 1 more held out")
    losses = pd.read_csv("mine.losses.csv")
    assert losses["held out total"].notna().all()
    pair = ("ir.png", "vis.png", "-m", "refinefuse", "--variant", "scales_2")
    fuse(*pair, "--weights", "mine.safetensors", "-o", "mine.png")
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
    count = len(load_images("sample_images"))
    assert facts["learnt_from"].startswith(f"{count} images of sample_images (")
    # The many-image schedule.
    assert facts["stages"].startswith("reconstruction: 1 iterations (published: 80000) of 1 (4)")


def test_help_on_training_says_what_recipes_take(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    shown = " ".join(" ".join(lines).split())
    assert "images: aefusion, nestfuse, res2netfuse pairs: cddfuse, emma, fusiongan, rfn" in shown
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
    assert "1 images without partner are left out: ir/2.png" in capsys.readouterr().err
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
        (["cddfuse", "ir", "vis", "--variant", "paper"], "cddfuse does not take 'variant'"),
        (["cddfuse", "ir", "vis", "--learning-rate", "1"], "does not take 'learning_rate'"),
        (["densefuse", "ir.png"], "unknown method to train 'densefuse'"),
        (["res2netfuse", "ir.png", "--crop", "9"], "176x176"),
        (["res2netfuse", "ir.png", "--option", "a=1"], "res2netfuse does not take 'a'"),
        (
            ["res2netfuse", "ir.png", "--option", "precision=half"],
            "cannot take 'precision' = half; it is: single or mixed",
        ),
        (
            ["cddfuse", "ir", "vis", "--rate-factor", "-1"],
            "rates must be positive and at most 10000",
        ),
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


def test_run_gets_what_was_given(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "reproduction.commands.run.reproduce", lambda **options: calls.append(options)
    )
    main(["run", "--only", "03", "--seed", "5", "--limit", "2", "--in-place"])
    main(["run"])
    assert calls == [{"only": ["03"], "seed": 5, "limit": 2, "in_place": True}, {}]


def fuse(*arguments):
    """Fuse with the library's command line."""
    assert fusionlib(["fuse", *arguments]) == 0


# ---------------------------------------------------------------- help and names


@pytest.mark.parametrize("command", [[], ["runs"], ["train", "densefuse", "a"]])
def test_usage(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--only", "99"], "unknown notebook '99'"),
        (["run", "--device", "nonsense"], "device 'nonsense'"),
        (["weights", "fetch", "yolov5x"], "Did you mean 'yolov5"),
    ],
)
def test_bad_name(refused, arguments, words):
    assert words in refused(*arguments)


def test_weights_of_detectors_are_among_them(done):
    assert {"yolov5n", "densefuse_tf_1e2"} <= set(done("weights").split())
