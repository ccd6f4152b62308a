"""evaluation: scores equal the metrics' functions; a benchmark continues where it stopped."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image

import fusionlib
from fusionlib import evaluation
from fusionlib.datasets import Pair
from fusionlib.errors import FusionError, ImageError, PairMismatch, UnknownName
from fusionlib.evaluation import COLUMNS, benchmark, evaluate, levels
from fusionlib.methods import Method
from fusionlib.metrics import METRICS, information, structure

GRAY = arrays(np.uint8, (12, 13))


def picture(seed, shape=(24, 28), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def pair(name, seed):
    ir, vis = (picture(seed + k).astype(np.float32) / np.float32(255) for k in (0, 1))
    return Pair(name, ir, vis)


PAIRS = [pair("one", 0), pair("two", 10), pair("three", 20)]


@pytest.fixture(scope="module")
def methods():
    return [fusionlib.create("res2netfuse", rule=rule) for rule in ("mean", "average")]


@pytest.fixture
def fuses(monkeypatch):
    """The names of rules, one for every image that is fused."""
    calls = []
    original = Method.fuse

    def fuse(self, *images):
        calls.append(self.rule.name)
        return original(self, *images)

    monkeypatch.setattr(Method, "fuse", fuse)
    return calls


# ---------------------------------------------------------------- one image


@given(GRAY, GRAY, GRAY)
@settings(max_examples=25, deadline=None)
def test_scores_are_the_metrics(fused, ir, vis):
    scores = evaluate(fused, ir, vis)
    expected = {
        "SSIM_a": structure.ssim_a(fused, ir, vis),
        "EN": information.entropy(fused),
        "SCD": structure.scd(fused, ir, vis),
    }
    assert list(scores) == ["SSIM_a", "EN", "SCD"]
    assert scores == pytest.approx(expected, abs=0, rel=0, nan_ok=True)


def test_two_equal_halves_have_one_bit():
    fused = np.repeat(np.array([[0, 255]], np.uint8), 12, axis=0)
    assert evaluate(fused, fused, fused, "EN") == {"EN": 1.0}


@given(GRAY, GRAY, GRAY)
@settings(max_examples=25, deadline=None)
def test_type_does_not_matter(fused, ir, vis):
    images = fused, ir, vis
    expected = evaluate(*images, ["EN", "SCD", "SSIM_a"])
    for convert in (
        lambda image: image.astype(np.float32) / np.float32(255),
        lambda image: image / 255,
        lambda image: image.astype(np.uint16) * 257,
    ):
        scores = evaluate(*map(convert, images), ["EN", "SCD", "SSIM_a"])
        assert scores == pytest.approx(expected, abs=0, rel=0, nan_ok=True)


def test_rgb_by_luminance():
    rgb, gray = picture(0, (24, 28, 3)), picture(1)
    luma = np.asarray(Image.fromarray(rgb).convert("L"))  # ITU-R 601, as ours
    # Pillow truncates where we round.
    assert np.abs(levels(rgb).astype(int) - luma).max() <= 1
    expected = evaluate(levels(rgb), gray, levels(picture(2, (24, 28, 3))))
    assert evaluate(rgb, gray, picture(2, (24, 28, 3))) == expected


def test_metrics_by_name():
    images = [picture(seed) for seed in range(3)]
    assert list(evaluate(*images, "SCD")) == ["SCD"]
    assert list(evaluate(*images, ["SCD", "EN"])) == ["SCD", "EN"]


def test_unknown_metric():
    with pytest.raises(UnknownName, match=r"unknown metric 'SCDD'.*Known: .*SCD.*res2netfuse"):
        evaluate(*[picture(0)] * 3, ["SCDD"])
    with pytest.raises(UnknownName, match="Did you mean 'res2netfuse'"):
        evaluate(*[picture(0)] * 3, "res2netfusion")


def test_sizes_must_be_equal():
    with pytest.raises(PairMismatch, match="28x24 and 30x24"):
        evaluate(picture(0), picture(1), picture(2, (24, 30)))


@pytest.mark.parametrize(
    ("position", "what"), list(enumerate(["fused image", "infrared image", "visible image"]))
)
def test_faulty_image_is_named(position, what):
    images = [picture(seed) / 255 for seed in range(3)]
    images[position][3, 4] = np.nan
    with pytest.raises(ImageError, match=what):
        evaluate(*images)


# ---------------------------------------------------------------- many


def test_tidy_columns_and_values(methods):
    frame = benchmark(methods, PAIRS, metrics=["EN", "SCD"], progress=False)
    assert list(frame) == COLUMNS
    assert len(frame) == 2 * 3 * 2
    assert list(frame["pair"][:6]) == ["one", "one", "two", "two", "three", "three"]
    assert set(frame["convention"]) == {"li"} and set(frame["dataset"]) == {"given pairs"}
    for row in frame.itertuples():
        method = methods[["mean", "average"].index(row.rule)]
        assert row[1:6] == method.identity
        source = next(p for p in PAIRS if p.name == row.pair)
        images = [levels(i) for i in (method.fuse(source.ir, source.vis), source.ir, source.vis)]
        assert row.value == METRICS[row.metric].compute(*images)


def test_one_method_by_name_or_object(methods):
    by_object = benchmark(methods[0], PAIRS, progress=False)
    assert by_object.equals(benchmark([methods[0]], PAIRS, progress=False))
    by_name = benchmark("res2netfuse", PAIRS[:1], progress=False)
    assert by_name["rule"].unique().tolist() == ["l1_norm"]


def test_limit(methods, fuses):
    assert benchmark(methods[0], PAIRS, limit=2, progress=False)["pair"].nunique() == 2
    assert len(fuses) == 2
    frame = benchmark(methods[1], "sample", limit=1, metrics="EN", progress=False)
    assert frame[["dataset", "pair"]].values.tolist() == [["sample", "day_street"]]


def test_unknown_names(methods):
    with pytest.raises(UnknownName, match="'res2netfuse'"):
        benchmark("res2net", PAIRS)
    with pytest.raises(UnknownName, match="'tno20'"):
        benchmark(methods[0], "tno2")


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("done", [1, 2, 4])
def test_interrupted_and_continued(methods, fuses, monkeypatch, tmp_path, done):
    whole = benchmark(methods, PAIRS, progress=False)
    csv = tmp_path / "scores.csv"
    count = 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count > done:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluation, "evaluate", interrupted)
        benchmark(methods, PAIRS, csv=csv, progress=False)
    assert len(pd.read_csv(csv)) == 3 * done
    fuses.clear()
    assert benchmark(methods, PAIRS, csv=csv, progress=False).equals(whole)
    assert len(fuses) == 6 - done
    fuses.clear()
    assert benchmark(methods, PAIRS, csv=csv, progress=False).equals(whole)
    assert fuses == []


def test_only_missing_metrics_are_computed(methods, fuses, tmp_path):
    csv = tmp_path / "scores.csv"
    benchmark(methods[0], PAIRS[:1], metrics="EN", csv=csv, progress=False)
    frame = benchmark(methods[0], PAIRS[:1], metrics=["EN", "SCD"], csv=csv, progress=False)
    assert list(frame["metric"]) == ["EN", "SCD"]
    assert len(fuses) == 2


def test_other_weights_are_measured_anew(methods, fuses, tmp_path):
    csv = tmp_path / "scores.csv"
    benchmark(methods[0], PAIRS[:1], metrics="EN", csv=csv, progress=False)
    other = fusionlib.create("res2netfuse", rule="mean", weights="res2netfuse_1_released_coco34")
    frame = benchmark(other, PAIRS[:1], metrics="EN", csv=csv, progress=False)
    assert frame["weights"].nunique() == 2
    assert len(fuses) == 2


@pytest.mark.parametrize("name", ["NA", "null", "nan", "007", "1e5", "", 'a,"b"\nc', "Größe"])
def test_any_pair_name_survives_the_file(methods, fuses, tmp_path, name):
    csv = tmp_path / "scores.csv"
    frames = [benchmark(methods[0], [pair(name, 0)], csv=csv, progress=False) for _ in range(2)]
    assert frames[0].equals(frames[1])
    assert len(fuses) == 1


def test_undefined_value_survives_the_file(methods, fuses, tmp_path):
    """SCD against a constant source is not defined."""
    csv = tmp_path / "scores.csv"
    constant = Pair("flat", np.zeros((24, 28), np.float32), PAIRS[0].vis)
    first, second = (benchmark(methods[0], [constant], csv=csv, progress=False) for _ in range(2))
    assert math.isnan(first.set_index("metric")["value"]["SCD"])
    assert first.equals(second)
    assert len(fuses) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "No columns"),
        ("a,b\n1,2\n", "columns a, b"),
        (",".join(COLUMNS) + "\na,b,c,d,e,f,g,EN,li,high\n", "high"),
        (",".join(COLUMNS) + "\na,b\n" + "x," * 20 + "\n", "scores"),
        ("\x00\xff", "scores"),
    ],
)
def test_other_files_are_refused(methods, tmp_path, content, words):
    csv = tmp_path / "scores.csv"
    csv.write_text(content, encoding="latin-1")
    with pytest.raises(FusionError, match=rf"scores\.csv does not hold scores.*{words}|{words}"):
        benchmark(methods[0], PAIRS, csv=csv, progress=False)
    assert csv.read_text(encoding="latin-1") == content
