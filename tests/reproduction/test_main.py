"""``python -m reproduction``: what is given wrong gets one message and status 2, no trace."""

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

pytestmark = pytest.mark.usefixtures("here")
PROGRAM = "python -m reproduction"


def test_run_gets_what_was_given(monkeypatch):
    calls = []
    monkeypatch.setattr("reproduction.run.reproduce", lambda **options: calls.append(options))
    main(["run", "--only", "03", "--seed", "5", "--limit", "2", "--in-place"])
    main(["run"])
    assert calls == [{"only": ["03"], "seed": 5, "limit": 2, "in_place": True}, {}]


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
    assert "weights fetch yolov5n" in refused("detect", "run", "ir.png")
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
