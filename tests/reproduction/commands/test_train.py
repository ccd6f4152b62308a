"""``python -m reproduction train``: folders and data sets in, weights and losses out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fusionlib.__main__ import main as fusionlib
from fusionlib.images import read_image
from fusionlib.weights import digest, read_facts, read_weights
from reproduction.__main__ import main
from tests.line import save, truncated

pytestmark = pytest.mark.usefixtures("here", "one_thread")
PROGRAM = "python -m reproduction"
OUT = ("-o", "mine.safetensors")
TINY = ("--iterations", "2", "--batch-size", "2", "--crop", "16")
REFINE = ("train", "refinefuse", "ir", "vis", "masks", *OUT, *TINY)


def fuse(*arguments, status=0):
    """Fuse a pair with the library's command line and the weights that were learnt."""
    weights = ("--weights", "mine.safetensors", "-o", "mine.png")
    assert fusionlib(["fuse", "ir.png", "vis.png", *arguments, *weights]) == status
    assert status or read_image("mine.png").shape == (24, 28)


def test_one_image(done):
    small = ("--variant", "paper", "--iterations", "2", "--seed", "3")
    out = done("train", "res2netfuse", "ir.png", *OUT, *small)
    assert "wrote mine.safetensors and mine.losses.csv" in out
    assert len(Path("mine.losses.csv").read_text().splitlines()) == 3
    facts = read_facts("mine.safetensors")
    assert facts["learnt_from"].startswith("ir.png of ") and facts["seed"] == "3"
    assert facts["stages"].startswith("reconstruction: 2 iterations (published: 2000) of 1 (1)")
    fuse("--variant", "paper")
    fuse(status=2)


def test_a_dictionary(done, folders, monkeypatch):
    """By the first of several processes."""
    learn = ("train", "jsr", "ir", "vis", *OUT, "--iterations", "2", "--seed", "4")
    learn += ("--device", "cpu", "--every", "1")
    with monkeypatch.context() as second:
        second.setenv("RANK", "1")
        assert not done(*learn) and not Path("mine.safetensors").exists()
    assert "wrote mine.safetensors and mine.losses.csv" in done(*learn)
    facts = read_facts("mine.safetensors")
    assert (facts["learnt_from"], facts["iterations"]) == ("288 patches of 3 pairs of ir", "2")
    assert (facts["seed"], facts["method"]) == ("4", "K-SVD")
    assert read_weights("mine.safetensors")["dictionary"].shape == (49, 256)
    assert list(pd.read_csv("mine.losses.csv")) == ["iteration", "rmse"]
    fuse("-m", "jsrsd", "--pipeline", "fixed")


def test_a_dictionary_is_learnt_on_the_cpu(refused, folders, monkeypatch):
    monkeypatch.setattr("fusionlib.tiles.check_device", lambda _: None)  # as if there were a GPU
    message = refused("train", "jsr", "ir", "vis", *OUT, "--device", "cuda")
    assert "a dictionary is learnt on the CPU, not on 'cuda'" in message


def test_two_folders(done, folders, capsys):
    """An image without partner is left out; the finished run, given again, is written again."""
    Path("vis/2.png").unlink()
    command = ("train", "cddfuse", "ir", "vis", "-o", "new/mine.safetensors", *TINY, "--half")
    assert main([*command]) == 0
    out, error = capsys.readouterr()
    assert "1 images without partner are left out: ir/2.png" in error
    assert "wrote new/mine.safetensors and new/mine.losses.csv" in out
    file = Path("new/mine.safetensors")
    facts, weights = read_facts(file), read_weights(file)
    assert facts["learnt_from"].startswith("2 pairs of ir (published: 128x128 patches of 1083")
    assert facts["stages"].startswith("reconstruction: 1 iterations (published: 32480) of 2 (8)")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float16"}
    assert list(pd.read_csv("new/mine.losses.csv")["stage"]) == ["reconstruction", "fusion"]
    file.unlink()
    done(*command)
    assert digest(read_weights(file)) == digest(weights) and read_facts(file) == facts
    file.rename("mine.safetensors")
    fuse("-m", "cddfuse")


def test_from_one_another(done):
    """RFN-Nest from the auto-encoder that NestFuse learnt from a data set and an image."""
    images = ("sample_images", "ir.png")
    done("train", "nestfuse", *images, "-o", "nestfuse.safetensors", *TINY, "--seed", "2")
    facts = read_facts("nestfuse.safetensors")
    assert "images of sample_images, " in facts["learnt_from"] and facts["departures"] == ""
    done("train", "rfn_nest", "sample", "--option", "autoencoder=nestfuse.safetensors", *OUT, *TINY)
    facts = read_facts("mine.safetensors")
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


def test_three_folders(done, masks):
    options = ("--option", "optimiser=adam", "--option", "scales=2")
    done(*REFINE, "--hold-out", "3", "--every", "1", *options)
    facts = read_facts("mine.safetensors")
    assert facts["learnt_from"].startswith("2 labelled pairs of ir (published: 256x256 squares of")
    assert facts["learnt_from"].endswith("; 1 more held out")
    assert pd.read_csv("mine.losses.csv")["held out total"].notna().all()
    fuse("-m", "refinefuse", "--variant", "scales_2")


def test_bad_labels(refused, masks):
    mask = next(Path("masks").iterdir())
    good = mask.read_bytes()
    message = refused("train", "refinefuse", "ir", "vis", *OUT, *TINY)
    assert "with object masks; ir, vis were given. Give three folders" in message
    mask.unlink()
    assert f"1 pairs have no mask in masks, such as {mask.stem}" in refused(*REFINE)
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(mask)
    assert "the mask and the images must have one size, not 4x5 and" in refused(*REFINE)
    Image.fromarray(np.full((24, 28), 7, np.uint8)).save(mask)
    assert "is not black and white" in refused(*REFINE)
    mask.write_bytes(good[:60])
    assert str(mask) in refused(*REFINE)


def test_help_says_what_recipes_take(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    shown = " ".join(" ".join(lines).split())
    assert "images: aefusion, nestfuse, res2netfuse pairs: cddfuse, emma, fusiongan, rfn" in shown
    assert "labelled pairs: refinefuse On one" in shown
    # An option a line.
    start = lines.index("values of --option:") + 1
    takes = [line.split(maxsplit=2) for line in lines[start : lines.index("", start)]]
    assert ["emma", "width"] in [words[:2] for words in takes]
    (needed,) = (about for *_, about in takes if about.startswith("needed: "))
    assert needed.startswith("needed: weights of nestfuse")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("jsr ir vis --iterations 0", "iterations must be at least 1, not 0"),
        ("jsr ir vis --half", "jsr learns a dictionary, without --half"),
        ("jsr ir vis --learning-rate 1", "without --learning-rate"),
        ("jsr ir vis --seed -1", "seed must be 0 to 2**63 - 1, not -1"),
        ("jsr tiny tiny", "pair a is 6x9 pixels; a dictionary is learnt from patches of 7x7"),
        ("jsr ir.png vis.png", "pairs of an infrared and a visible image; ir.png, vis.png were"),
        ("jsr sample_images", "the data set sample_images holds single images. Give two folders"),
        ("res2netfuse ir.png -o mine.pt", "must end in .safetensors, not 'mine.pt'"),
        ("res2netfuse gone.png", "no such training image: gone.png"),
        ("res2netfuse empty", "no image in the folder empty"),
        ("res2netfuse bad.png bad.png ir.png", "bad.png"),
        ("res2netfuse ir.png --variant papers", "Did you mean 'paper'"),
        ("res2netfuse ir.png --batch-size -1", "batch_size must be at least 1"),
        ("res2netfuse ir.png --learning-rate nan", "learning rate must be positive"),
        ("res2netfuse ir.png --device nonsense", "device 'nonsense'"),
        ("res2netfuse ir.png --checkpoint vis.png", "vis.png is not a checkpoint"),
        ("res2netfuse ir.png --crop 9", "176x176"),
        ("res2netfuse ir.png --option precision=half", "= half; it is: single or mixed"),
        ("res2netfuse tno20", "from single images; the data set tno20 holds pairs. Give image"),
        ("cddfuse ir vis -o ir.png/x.safetensors", "cannot write"),
        ("cddfuse ir vis -o blocked.safetensors", "write blocked.losses.csv"),
        ("cddfuse ir", "ir were given. Give two folders"),
        ("cddfuse ir other", "no infrared image has a visible partner"),
        ("cddfuse ir vis --option vgg=a", "cddfuse does not take 'vgg'"),
        ("cddfuse ir vis --variant paper", "cddfuse does not take 'variant'"),
        ("cddfuse ir vis --checkpoint mine.safetensors", "checkpoint cannot be"),
        ("cddfuse ir vis --checkpoint ./mine.losses.csv", "checkpoint cannot be"),
        ("cddfuse ir vis --checkpoint ir.png/a", "cannot write ir.png/a"),
        ("cddfuse ir vis --rate-factor -1", "rates must be positive and at most 10000"),
        ("cddfuse ir vis --crop 25", "28x24, smaller than the 25x25"),
        ("nestfuse samples", "Did you mean 'sample"),
        ("rfn_nest ir vis", "rfn_nest needs 'autoencoder'"),
        ("rfn_nest ir vis --option autoencoder=gone", "no such weight file: gone"),
        ("rfn_nest ir vis --option autoencoder=ir.png", "not a readable safetensors"),
        ("emma ir vis --option width", "takes NAME=VALUE, not 'width'"),
        ("emma ir vis --option width=0", "at least 1 channel, not 0"),
        ("aefusion ir.png --crop 128", "only of 256"),
        ("densefuse ir.png", "unknown method to train 'densefuse'"),
    ],
)
def test_bad_input(refused, folders, arguments, words):
    Path("empty").mkdir()
    Path("blocked.losses.csv").mkdir()
    Path("bad.png").write_bytes(truncated())
    save(Path("other/a.png"))
    save(Path("tiny/a.png"), (9, 6))
    given = arguments.split()
    assert words in refused("train", *given, *(() if "-o" in given else OUT))
