"""``python -m reproduction detect``: on a detector without training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fusionlib.images import read_image
from fusionlib.weights import read_facts
from reproduction.__main__ import main
from reproduction.detection.detector import save_detector
from tests.line import save
from tests.reproduction.detection.given import detector

PROGRAM = "python -m reproduction"
SOME = ("-w", "some.safetensors")


@pytest.fixture(autouse=True)
def some(here):
    save_detector("some.safetensors", detector(), {})


@pytest.fixture
def scenes(done):
    """Built-in scenes in the layout of YOLO, in two parts."""
    # Training on one thread of a few small pictures takes a second.
    done("detect", "export", "vis", "sample", "-o", "set", "--limit", "4", "--block", "2/2")
    return Path("set")


def test_run_writes_boxes_and_pictures(done):
    save(Path("in/a, b.png"), (48, 64, 3))
    save(Path("in/c.png"), (30, 40))
    arguments = ("detect", "run", "in", *SOME, "--confidence", "0.2")
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


def test_run_says_which_images_cannot_be_used(capsys):
    save(Path("in/a.png"))
    Path("in/b.png").write_bytes(b"\x89PNG broken")
    assert main(["detect", "run", "in", *SOME]) == 2
    out, error = capsys.readouterr()
    assert out.startswith("image,class") and "1 could not be searched" in error and "b.png" in error


def test_run_writes_nothing_if_the_only_image_cannot_be_used(capsys):
    Path("b.png").write_bytes(b"\x89PNG broken")
    assert main(["detect", "run", "b.png", *SOME, "--csv", "found.csv"]) == 2
    out, error = capsys.readouterr()
    assert not out and "b.png" in error and not Path("found.csv").exists()


def test_classes_count_once(done, scenes):
    for command in (("run", "ir.png"), ("evaluate", scenes, "--draws", "0")):
        once, twice = (
            done("detect", *command, *SOME, "--classes", names) for names in ("car", "car,car")
        )
        assert once == twice


def test_evaluate_and_train(done, scenes):
    shown = done("detect", "evaluate", scenes, *SOME, "--draws", "5")
    assert "2 images" in shown and "AP50 low" in shown and "\n    all" in shown
    out = done(
        *("detect", "train", scenes, *SOME, "-o", "new.safetensors"),
        *("--short", "--epochs", "1", "--input", "64", "--batch", "2"),
    )
    assert "wrote new.safetensors and new.losses.csv" in out
    # data.yaml names the images for testing as those for validation: they must not choose.
    assert list(pd.read_csv("new.losses.csv")) == ["epoch", "total", "box", "objectness", "classes"]
    assert "epochs=1" in read_facts("new.safetensors")["schedule"]
    done("detect", "evaluate", scenes, "-w", "new.safetensors", "--csv", "ap.csv", "--draws", "0")
    assert list(pd.read_csv("ap.csv")) == ["class", "AP50", "AP"]


def test_evaluate_by_annotations_of_coco(done, refused):
    save(Path("in/a.png"), (48, 64, 3))
    Path("a.json").write_text(
        '{"images": [{"id": 5, "file_name": "a.png"}], "categories": [{"id": 7, "name": "car"}], '
        '"annotations": [{"image_id": 5, "category_id": 7, "iscrowd": 0, "bbox": [1, 2, 30, 20]}]}'
    )
    shown = done("detect", "evaluate", "in", *SOME, "--annotations", "a.json", "--draws", "0")
    assert "\n  car" in shown and "1 images" in shown
    Path("in/a.png").unlink()
    words = "1 of 1 images that are listed are not in in, such as a.png"
    assert words in refused("detect", "evaluate", "in", *SOME, "--annotations", "a.json")


def test_bad_images(refused):
    run = ("detect", "run")
    Path("empty").mkdir()
    Path("file").write_text("x")
    for words, arguments in (
        ("no such file", ("none.png",)),
        ("no image in", ("empty",)),
        ("between 0 and 1", ("ir.png", "--confidence", "1")),
        ("between 0 and 1", ("ir.png", "--overlap", "0")),
        ("'bus'", ("ir.png", "--classes", "bus")),
        ("one of the images", ("ir.png", "-o", ".")),
        ("one of the images", ("ir.png", "--csv", "ir.png")),
        ("written twice", ("ir.png", "-o", "new", "--csv", "new/ir.png")),
        ("it is a folder", ("ir.png", "--csv", ".")),
        ("cannot write", ("ir.png", "-o", "out", "--csv", "file/a.csv")),
        ("positive multiple of 32", ("ir.png", "--input", "100")),
    ):
        assert words in refused(*run, *arguments, *SOME)
    assert not Path("new").exists()
    assert "weights fetch yolov5n" in refused(*run, "ir.png")


def test_bad_data_sets(refused, scenes):
    Path("empty").mkdir()
    for words, arguments in (
        ("no data.yaml", ("evaluate", "empty", *SOME)),
        ("--draws must", ("evaluate", scenes, *SOME, "--draws", "-1")),
        ("leave --classes", ("evaluate", scenes, *SOME, "--classes", "x", "--annotations", "a")),
        ("no such file: none.json", ("evaluate", scenes, *SOME, "--annotations", "none.json")),
        ("Did you mean 'car'?", ("evaluate", scenes, *SOME, "--classes", "Car")),
        ("unknown class of set 'bus'", ("evaluate", scenes, *SOME, "--classes", "bus")),
        ("K/N", ("export", "vis", "sample", "-o", "new", "--block", "two")),
        ("no block 9 of 3", ("export", "ir", "sample", "-o", "n", "--block", "9/3")),
        ("another export", ("export", "ir", "sample", "-o", scenes)),
        ("'infrared'", ("export", "infrared", "sample", "-o", "new")),
        ("has no boxes", ("export", "ir", "sample_mri_ct", "-o", "new")),
        (".safetensors file", ("train", scenes, *SOME, "-o", "new.pt")),
        ("epochs must be", ("train", scenes, *SOME, "-o", "n.safetensors", "--epochs", "0")),
    ):
        assert words in refused("detect", *arguments)
    (scenes / "labels" / "train" / "day_street.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    message = refused("detect", "train", scenes, *SOME, "-o", "n.safetensors")
    assert "day_street.txt, line 1" in message and "a class (0 to 2)" in message
