"""evaluation: scores equal the metrics' functions; a benchmark continues where it stopped."""

from __future__ import annotations

import math
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import loky
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image

import fusionlib
from fusionlib import evaluation
from fusionlib.errors import (
    DatasetNotFound,
    FusionError,
    ImageError,
    ImageTooSmall,
    MetricWarning,
    PairMismatch,
    UnknownName,
)
from fusionlib.evaluation import (
    COLUMNS,
    COSTS,
    OwnMethod,
    benchmark,
    bootstrap_interval,
    evaluate,
    evaluate_files,
    levels,
    summarise,
)
from fusionlib.images import write_image
from fusionlib.methods import Method
from fusionlib.metrics import METRICS, SELECTIONS, information, structure
from fusionlib.pairs import Pair

GRAY = arrays(np.uint8, (12, 13))
FAST = ["SSIM_a", "EN", "SCD"]


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
@settings(max_examples=25)
def test_scores_are_the_metrics_of_any_type(fused, ir, vis):
    expected = {
        "SSIM_a": structure.ssim_a(fused, ir, vis),
        "EN": information.entropy(fused),
        "SCD": structure.scd(fused, ir, vis),
    }
    assert list(expected) == FAST and evaluate(fused, ir, vis, FAST) == expected
    for convert in (
        lambda image: image.astype(np.float32) / np.float32(255),
        lambda image: image / 255,
        lambda image: image.astype(np.uint16) * 257,
    ):
        assert evaluate(*map(convert, (fused, ir, vis)), FAST) == expected
    assert evaluate(fused, ir / 255, vis.astype(np.uint16) * 257, FAST) == expected


def test_rgb_by_luminance():
    rgb, gray = picture(0, (24, 28, 3)), picture(1)
    luma = np.asarray(Image.fromarray(rgb).convert("L"))  # ITU-R 601, as ours
    # Pillow truncates where we round.
    assert np.abs(levels(rgb).astype(int) - luma).max() <= 1
    expected = evaluate(levels(rgb), gray, levels(picture(2, (24, 28, 3))), FAST)
    assert evaluate(rgb, gray, picture(2, (24, 28, 3)), FAST) == expected


def test_rgb_per_channel():
    """VIFB's way: the mean of three scores, a gray source beside each channel."""
    fused, gray, vis = picture(0, (24, 28, 3)), picture(1), picture(2, (24, 28, 3))
    scores = evaluate(fused, gray, vis, FAST, colour="channels")
    parts = [evaluate(fused[..., k], gray, vis[..., k], FAST) for k in range(3)]
    for name in FAST:
        # One addition of three numbers, perhaps in another order.
        assert scores[name] == pytest.approx(sum(p[name] for p in parts) / 3, rel=1e-15)
    assert scores != evaluate(fused, gray, vis, FAST)
    stored_as_rgb = np.repeat(gray[..., None], 3, axis=2)
    plain = evaluate(gray, gray, picture(3), FAST)
    assert evaluate(stored_as_rgb, gray, picture(3), FAST, colour="channels") == plain


def test_names_and_conventions():
    images = [picture(seed) for seed in range(3)]
    assert list(evaluate(*images, "SCD")) == ["SCD"]
    assert list(evaluate(*images, ["SCD", "EN"])) == ["SCD", "EN"]
    assert evaluate(*images, "MI") == evaluate(*images, ["MI"], "standard")
    assert evaluate(*images, "MI", "li")["MI"] == 2 * evaluate(*images, "EN")["EN"]
    both = evaluate(*images, ["MI:li", "MI"])
    assert list(both) == ["MI:li", "MI"] and both["MI:li"] != both["MI"]
    # What a name says goes before the argument, the argument before the selection.
    assert evaluate(*images, ["MI:li", "MI"], "tang")["MI:li"] == both["MI:li"]
    for metrics, convention, message in (
        (["EN", "Q_CB"], "li", "Q_CB has no convention 'li', only standard, vifb"),
        ([], None, "no metric is named"),
        (["common:tang"], None, "unknown metric 'common'"),
        ("res2netfusion", None, "Did you mean 'res2netfuse'"),
    ):
        with pytest.raises(UnknownName, match=message):
            evaluate(*images, metrics, convention)


def test_selections():
    images = [picture(seed, (48, 52)) for seed in range(3)]
    for name in ("res2netfuse", "refinefuse"):
        scores = evaluate(*images, name)
        assert list(scores) == [column.split(":")[0] for column in SELECTIONS[name]]
        assert [*scores.values()] == [evaluate(*images, one)[one] for one in SELECTIONS[name]]
    textbook = evaluate(*images, "refinefuse", "standard")
    assert textbook == evaluate(*images, [*textbook]) != scores
    assert evaluate(*images) == evaluate(*images, "common", "standard")
    assert evaluate(*images, ["SD", "refinefuse"]) == evaluate(*images, "SD") | scores


def test_sizes():
    with pytest.raises(PairMismatch, match="28x24 and 30x24"):
        evaluate(picture(0), picture(1), picture(2, (24, 30)))
    images = [picture(seed, (40, 52)) for seed in range(3)]
    with pytest.raises(ImageTooSmall, match=r"VIF needs images of at least 41x41 pixels.*52x40"):
        evaluate(*images)


def test_constant_images_have_values_and_warnings():
    images = [np.full((180, 180), level, np.uint8) for level in (9, 50, 200)]
    with pytest.warns(MetricWarning):
        scores = evaluate(*images, "all")
    assert all(map(math.isfinite, scores.values()))


def test_channels_of_infinite_score_and_the_reverse():
    """PSNR (cddfuse): equal black channels give +inf, a black one against a source -inf."""
    fused = np.zeros((4, 5, 3), np.uint8)
    fused[..., 0] = 9
    source = np.zeros((4, 5, 3), np.uint8)
    source[..., 0], source[..., 2] = 9, 7
    with pytest.warns(MetricWarning, match="infinite values of both signs"):
        score = evaluate(fused, source, source, "PSNR", "cddfuse", colour="channels")
    assert score == {"PSNR": -math.inf}


@pytest.mark.parametrize(
    ("position", "what"), list(enumerate(["fused image", "infrared image", "visible image"]))
)
def test_faulty_image_is_named(position, what):
    images = [picture(seed) / 255 for seed in range(3)]
    images[position][3, 4] = np.nan
    with pytest.raises(ImageError, match=what):
        evaluate(*images)
    images[position] = np.full((24, 28), 128.0)
    with pytest.raises(ImageError, match=rf"{what}.*128.*floats in \[0, 1\].*Divide by 255"):
        evaluate(*images)


# ---------------------------------------------------------------- many


def test_tidy_columns_and_values(methods):
    frame = benchmark(methods, PAIRS, metrics=["EN", "SCD"], progress=False)
    assert list(frame) == COLUMNS
    assert len(frame) == 2 * 3 * 2
    assert list(frame["pair"][:6]) == ["one", "one", "two", "two", "three", "three"]
    assert set(frame["convention"]) == {"standard"} and set(frame["dataset"]) == {"given pairs"}
    assert set(frame["colour"]) == {"gray"}
    for row in frame.itertuples():
        method = methods[["mean", "average"].index(row.rule)]
        assert row[1:6] == method.identity
        source = next(p for p in PAIRS if p.name == row.pair)
        images = [levels(i) for i in (method.fuse(source.ir, source.vis), source.ir, source.vis)]
        assert row.value == METRICS[row.metric].compute(*images)


def test_what_is_named_once_or_twice(methods):
    by_name = benchmark("res2netfuse", PAIRS[:1], metrics=FAST, progress=False)
    assert by_name["rule"].unique().tolist() == ["l1_norm"]
    twice, metrics = [methods[0]] * 2, ["MI", "MI:standard"]
    assert len(benchmark(twice, PAIRS[:1], metrics=metrics, progress=False)) == 1
    with pytest.raises(FusionError, match="several pairs of given pairs have one name"):
        benchmark(methods[0], [pair("one", 0), pair("one", 1)], progress=False)
    with pytest.raises(UnknownName, match="'res2netfuse'"):
        benchmark("res2net", PAIRS)
    with pytest.raises(UnknownName, match="'tno20'"):
        benchmark(methods[0], "tno2")


@pytest.mark.parametrize("jobs", [1, 2])
def test_cost_is_a_row_of_every_image(methods, fuses, tmp_path, jobs):
    options = {"metrics": FAST, "progress": False, "jobs": jobs}
    csv = tmp_path / "scores.csv"
    plain = benchmark(methods[0], PAIRS, **options, csv=csv)  # their cost is measured later
    frame = benchmark(methods[0], PAIRS, **options, csv=csv, cost=True)
    costs = frame[frame["metric"].isin(COSTS)]
    assert frame.drop(costs.index).reset_index(drop=True).equals(plain)
    assert set(costs["convention"]) == {"wall clock", "resident memory"}
    assert costs.groupby("metric")["pair"].agg(list).to_dict() == {
        name: ["one", "two", "three"] for name in COSTS
    }
    assert (costs["value"] > 0).all()
    assert len(fuses) == 6
    del fuses[:]
    again = benchmark(methods[0], PAIRS, **options, csv=csv, cost=True)
    assert again.equals(frame) and not fuses
    assert benchmark(methods[0], PAIRS, **options, csv=csv).equals(plain)


def test_limit(methods):
    frame = benchmark(methods[1], "sample", limit=1, metrics="EN", progress=False)
    assert frame[["dataset", "pair"]].values.tolist() == [["sample", "day_street"]]
    assert frame["colour"].tolist() == ["Y"]  # its visible image is RGB


# ---------------------------------------------------------------- interrupted


def test_interrupted_and_continued(methods, fuses, monkeypatch, tmp_path, done=4):
    whole = benchmark(methods, PAIRS, metrics=FAST, progress=False)
    csv = tmp_path / "scores.csv"
    count = 0
    score = evaluation._score

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count > done:
            raise KeyboardInterrupt
        return score(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluation, "_score", interrupted)
        benchmark(methods, PAIRS, metrics=FAST, csv=csv, progress=False)
    assert len(pd.read_csv(csv)) == 3 * done
    fuses.clear()
    for expected in (6 - done, 0):
        again = benchmark(methods, PAIRS, metrics=FAST, csv=csv, progress=False)
        # With a file, pairs of no registered data set are told apart by their content.
        assert again["dataset"].str.fullmatch("given pairs [0-9a-f]{12}").all()
        assert again.drop(columns="dataset").equals(whole.drop(columns="dataset"))
        assert len(fuses) == expected
        fuses.clear()


def test_rows_are_saved_while_others_are_measured(methods, monkeypatch, tmp_path):
    csv = tmp_path / "scores.csv"
    lengths = []
    score = evaluation._score

    def watch(*arguments):
        lengths.append(len(pd.read_csv(csv)) if csv.exists() else 0)
        return score(*arguments)

    monkeypatch.setattr(evaluation, "_score", watch)
    monkeypatch.setattr(evaluation, "SECONDS_BETWEEN_SAVES", 0)
    benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert lengths == [0, 3, 6]


def test_no_space_for_results(methods, monkeypatch, tmp_path):
    """What was written stays whole."""
    csv = tmp_path / "scores.csv"
    benchmark(methods[0], PAIRS[:1], metrics=FAST, csv=csv, progress=False)
    before = csv.read_bytes()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("fusionlib.files.os.fsync", mock.Mock(side_effect=full))
    with pytest.raises(FusionError, match=r"cannot write .*scores.csv: No space left on dev"):
        benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert csv.read_bytes() == before and [*tmp_path.iterdir()] == [csv]


@pytest.mark.parametrize("where", [{"jobs": 1}, {"jobs": 2}, {"executor": ThreadPoolExecutor(4)}])
def test_warnings_and_errors_come_back_from_a_worker(methods, where):
    flats = [Pair(f"{k}", np.zeros((24, 28), np.float32), PAIRS[0].vis) for k in range(6)]
    with pytest.warns(MetricWarning, match="[0-5]: SCD: a correlation with a const") as caught:
        frame = benchmark(methods[0], flats, metrics="SCD", progress=False, **where)
    assert len(frame) == len(caught) == 6 and np.isfinite(frame["value"]).all()
    with pytest.raises(ImageTooSmall, match="VIF needs images of at least 41x41"):
        benchmark(methods[0], PAIRS, metrics="VIF", progress=False, **where)


def test_only_what_is_missing_is_computed(methods, fuses, tmp_path):
    """Metrics, conventions and weights are told apart; rows come in the order that is asked for."""
    options = {"csv": tmp_path / "scores.csv", "progress": False}
    benchmark(methods[0], PAIRS[:1], metrics="MI", **options)
    asked = [["MI", "MI:li"], ["EN", "MI:li", "MI"], ["EN", "MI"]]
    rows = [["MI", "standard"], ["MI", "li"]]
    for metrics, expected in zip(
        asked, [rows, [["EN", "standard"], *rows[::-1]], [["EN", "standard"], rows[0]]], strict=True
    ):
        frame = benchmark(methods[0], PAIRS[:1], metrics=metrics, **options)
        assert frame[["metric", "convention"]].values.tolist() == expected
    assert len(fuses) == 3
    other = fusionlib.create("res2netfuse", rule="mean", weights="res2netfuse_1_released_coco34")
    frame = benchmark(other, PAIRS[:1], metrics="EN", **options)
    assert frame["weights"].tolist() == [other.identity.weights]
    assert pd.read_csv(options["csv"])["weights"].nunique() == 2
    assert len(fuses) == 4


def test_only_what_is_asked_for_comes_back(methods, tmp_path):
    """Else a mean over the rows would pool data sets, colours and pairs of other calls."""
    options = {"csv": tmp_path / "scores.csv", "progress": False}
    benchmark(methods[0], "sample", limit=2, metrics=["EN", "SD"], colour="channels", **options)
    frame = benchmark(methods[0], "sample", limit=1, metrics="EN", **options)
    assert frame[["metric", "colour"]].values.tolist() == [["EN", "Y"]]
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 5


def test_other_pairs_of_the_same_name_are_measured(methods, tmp_path):
    options = {"metrics": "EN", "csv": tmp_path / "scores.csv", "progress": False}
    first, second = (benchmark(methods[0], [pair("1", seed)], **options) for seed in (0, 10))
    expected = benchmark(methods[0], [pair("1", 10)], metrics="EN", progress=False)
    assert second["value"].tolist() == expected["value"].tolist() != first["value"].tolist()


@pytest.mark.parametrize("name", ["NA", "007", "", 'a,"b"\nc', "Größe"])
def test_any_pair_name_and_infinity_survive_the_file(tmp_path, name):
    made = []
    method = OwnMethod("mine", lambda ir, vis: made.append(name) or ir, version="1")
    same = [Pair(name, PAIRS[0].ir, PAIRS[0].ir)]
    options = {"metrics": ["PSNR", "EN"], "csv": tmp_path / "scores.csv", "progress": False}
    first, second = (benchmark(method, same, **options) for _ in range(2))
    assert first["value"][0] == math.inf
    assert first.equals(second) and len(made) == 1


@pytest.mark.parametrize(
    "content",
    ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\na,b,c,d,e,f,g,EN,li,gray,high\n", "\x00\xff"],
)
def test_other_files_are_refused(methods, tmp_path, content):
    csv = tmp_path / "scores.csv"
    csv.write_text(content, encoding="latin-1")
    with pytest.raises(FusionError, match=r"scores\.csv does not hold scores: .*; expected"):
        benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert csv.read_text(encoding="latin-1") == content


# ---------------------------------------------------------------- on other processes

CROPS = {"limit": 3, "metrics": ["EN", "SD"], "progress": False}


@pytest.fixture(scope="module")
def crops():
    return [Pair(p.name, p.ir[:96, :96], p.vis[:96, :96]) for p in fusionlib.load_dataset("sample")]


def cluster(workers):
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)


@pytest.fixture(scope="module")
def dask(processes):
    with cluster(2) as two, Client(two) as client:
        yield client.get_executor(pure=False)


@pytest.mark.usefixtures("processes", "one_thread")
@pytest.mark.parametrize("place", ["loky", "threads", "dask"])
def test_the_same_rows_in_the_same_order(methods, crops, request, place):
    here = benchmark(methods, crops, **CROPS)
    executor = ThreadPoolExecutor(3) if place == "threads" else None
    if place == "dask":
        executor = request.getfixturevalue("dask")
    assert benchmark(methods, crops, jobs=2, executor=executor, **CROPS).equals(here)


@pytest.mark.usefixtures("one_thread")
def test_costs_of_a_worker(methods, dask):
    options = {"limit": 1, "metrics": "EN", "progress": False}
    here = benchmark(methods[0], "sample", **options)
    frame = benchmark(methods[0], "sample", executor=dask, cost=True, **options)
    assert frame["metric"].tolist()[:2] == ["EN", "seconds"]
    assert frame[:1].equals(here)


@pytest.fixture
def kill(monkeypatch):
    """Kill a process when the first row is written."""

    def kill_at_first_row(victim):
        save, victims = evaluation._Table._save, [victim]

        def save_and_kill(table):
            save(table)
            if victims:
                os.kill(victims.pop(), signal.SIGKILL)

        monkeypatch.setattr(evaluation._Table, "_save", save_and_kill)

    monkeypatch.setattr(evaluation, "SECONDS_BETWEEN_SAVES", 0)
    return kill_at_first_row


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.usefixtures("processes")
class TestAProcessThatIsKilled:
    """Calls are under way then, and more to come."""

    METHODS = tuple(OwnMethod(f.__name__, f, version="1") for f in (np.maximum, np.minimum))
    MANY = tuple(pair(f"{number}", number) for number in range(12))

    def run(self, folder, name="scores.csv", **options):
        options |= {"csv": folder / name, "metrics": ["EN", "SD"], "progress": False}
        return benchmark(self.METHODS, self.MANY, **options)

    def test_of_dask_costs_no_row_and_doubles_none(self, kill, tmp_path):
        with cluster(2) as two, Client(two) as client:
            victim = next(iter(client.run(os.getpid).values()))
            kill(victim)
            frame = self.run(tmp_path, executor=client.get_executor(pure=False), jobs=2)
            assert victim not in client.run(os.getpid).values()
        assert frame.equals(self.run(tmp_path, "here.csv"))
        files = [(tmp_path / name).read_bytes() for name in ("scores.csv", "here.csv")]
        assert files[0] == files[1]

    def test_of_loky_is_told_and_what_is_finished_stays(self, kill, tmp_path):
        executor = loky.get_reusable_executor(1)
        kill(executor.submit(os.getpid).result())
        with pytest.raises(FusionError, match=r"a process was killed.*What is finished is kept"):
            self.run(tmp_path, executor=executor, jobs=2)
        found = pd.read_csv(tmp_path / "scores.csv")
        assert 2 <= len(found) < 48 and not found.duplicated().any()
        assert self.run(tmp_path, jobs=2).equals(self.run(tmp_path, "here.csv"))


# ---------------------------------------------------------------- a user's own methods


def brighter(ir, vis):
    return np.maximum(ir, vis)


def test_a_function_and_a_folder_of_its_images(tmp_path):
    """Each is scored as the image itself; its folder may have any suffixes."""
    for one, suffix in zip(PAIRS, ("png", "bmp", "tif"), strict=True):
        write_image(tmp_path / f"{one.name}.{suffix}", brighter(one.ir, one.vis))
    own = [OwnMethod("function", brighter), OwnMethod("folder", tmp_path)]
    frame = benchmark([*own, "mst"], PAIRS, metrics=FAST, progress=False)
    assert frame["method"].unique().tolist() == ["function", "folder", "mst"]
    for (_, name), part in frame[frame["method"] != "mst"].groupby(["method", "pair"]):
        one = next(one for one in PAIRS if one.name == name)
        expected = evaluate(brighter(one.ir, one.vis), one.ir, one.vis, FAST)
        assert dict(zip(part["metric"], part["value"], strict=True)) == expected
    write_image(tmp_path / "one.png", PAIRS[1].ir)  # another image, another state
    assert OwnMethod("folder", tmp_path).identity != own[1].identity


def test_own_images_may_be_of_any_kind():
    made = picture(5, (24, 28, 3))
    for image in (made, made.astype(np.uint16) * 257, (made + 0.4).clip(0, 255) / 255):
        fused = OwnMethod("mine", lambda ir, vis, image=image: image).fuse_pair(PAIRS[0])
        assert np.array_equal(fused, made / np.float32(255)) and fused.dtype == np.float32


def test_a_function_may_write_into_what_it_gets():
    before = PAIRS[0].ir.copy()
    OwnMethod("careless", lambda ir, vis: np.multiply(ir, 0.5, out=ir)).fuse_pair(PAIRS[0])
    assert np.array_equal(PAIRS[0].ir, before)


def test_only_rows_of_a_version_are_kept(tmp_path, recwarn):
    csv, calls = tmp_path / "scores.csv", []

    def run(name, **options):
        method = OwnMethod("mine", lambda ir, vis: calls.append(name) or ir, **options)
        return benchmark([method, "mst"], PAIRS[:1], metrics="EN", csv=csv, progress=False)

    first = run("first", version="2026-11-29")
    assert run("again", version="2026-11-29").equals(first)
    run("changed", version="2026-11-30")
    assert calls == ["first", "changed"] and not recwarn.list
    kept = pd.read_csv(csv)
    assert set(kept["weights"]) == {"own@2026-11-29", "own@2026-11-30", "none"}
    with pytest.warns(UserWarning, match=r"rows of mine are not kept .*Give .* a version"):
        frame = run("no version")
    assert calls[2:] == ["no version"] and len(frame) == 2
    assert pd.read_csv(csv).equals(kept)


@pytest.mark.parametrize(
    "function, kind, message",
    [
        (lambda ir, vis: None, ImageError, "mine returned NoneType"),
        (lambda ir, vis: ir * 300, ImageError, "image that mine made of"),
        (
            lambda ir, vis: ir[:-1],
            PairMismatch,
            "image of mine and its pair .* not 28x23 and 28x24",
        ),
        (lambda ir, vis: ir[..., None, None], ImageError, "image that mine made of"),
    ],
)
def test_own_images_that_cannot_be_scored(function, kind, message):
    with pytest.raises(kind, match=message):
        benchmark(OwnMethod("mine", function), PAIRS, progress=False)


def test_own_methods_that_cannot_be(tmp_path):
    with pytest.raises(DatasetNotFound, match="no such folder"):
        OwnMethod("mine", tmp_path / "gone")
    with pytest.raises(FusionError, match="has no image of the pair 'one'"):
        OwnMethod("mine", tmp_path).fuse_pair(PAIRS[0])
    with pytest.raises(FusionError, match="'mst' is the name of a registered method"):
        OwnMethod("mst", tmp_path)


# ---------------------------------------------------------------- files and folders


@pytest.fixture
def folders(tmp_path):
    """Fused, infrared and visible images of three pairs; one visible image is RGB."""
    paths = [tmp_path / name for name in ("fused", "ir", "vis")]
    for k, name in enumerate(("1", "2", "10")):
        for path, seed in zip(paths, (3 * k, 3 * k + 1, 3 * k + 2), strict=True):
            shape = (24, 28, 3) if (path.name, name) == ("vis", "2") else (24, 28)
            write_image(path / f"{name}.png", picture(seed, shape))
    return paths


def test_folders(folders):
    rows, faults = evaluate_files(*folders, metrics=FAST, progress=False)
    assert faults == []
    assert rows["pair"].tolist() == [name for name in ("1", "2", "10") for _ in FAST]
    assert rows["colour"].tolist() == ["gray"] * 3 + ["Y"] * 3 + ["gray"] * 3
    for name, part in rows.groupby("pair"):
        images = [fusionlib.read_image(folder / f"{name}.png") for folder in folders]
        assert dict(zip(part["metric"], part["value"], strict=True)) == evaluate(*images, FAST)
    assert evaluate_files(*folders, metrics=FAST, jobs=2, progress=False).rows.equals(rows)


def test_files_with_the_same_content_are_not_scored_again(folders, monkeypatch, tmp_path):
    csv = tmp_path / "scores.csv"
    options = {"metrics": FAST, "csv": csv, "progress": False}
    first = evaluate_files(*folders, **options).rows
    scored = []
    score = evaluation._score
    monkeypatch.setattr(evaluation, "_score", lambda *a: scored.append(a) or score(*a))
    assert evaluate_files(*folders, **options).rows.equals(first)
    assert scored == []
    write_image(folders[0] / "2.png", picture(99))
    second = evaluate_files(*folders, **options).rows
    assert len(scored) == 1
    assert len(second) == len(first)  # without the old image's rows, which the file keeps
    assert not set(second["value"]) <= set(first["value"])
    assert len(pd.read_csv(csv)) == len(first) + len(FAST)


def test_faulty_files_are_listed_and_the_rest_is_scored(folders):
    (folders[1] / "1.png").write_bytes(b"no image")
    (folders[2] / "10.png").unlink()
    write_image(folders[0] / "lonely.png", picture(0))
    rows, faults = evaluate_files(*folders, metrics=FAST, progress=False)
    assert set(rows["pair"]) == {"2"}
    assert sorted(fault.split(":")[0] for fault in faults) == ["1", "10", "lonely"]
    with pytest.raises(ImageError, match=r"1\.png"):
        evaluate_files(*[folder / "1.png" for folder in folders], progress=False)


def test_what_cannot_be_matched(folders, tmp_path):
    with pytest.raises(ImageError, match=r"three files or three folders.*x \(not there\)"):
        evaluate_files(folders[0], folders[1], tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairMismatch, match=r"no image of .* has partners of the same name"):
        evaluate_files(folders[0], folders[1], tmp_path / "empty")


# ---------------------------------------------------------------- means


def test_interval():
    """The mean of two draws from {0, 1} is 0, 1/2 or 1, the ends with a quarter each."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    assert np.isnan([bootstrap_interval([]), bootstrap_interval([1.0])]).all()
    values = np.random.default_rng(0).normal(3, 2, 20)
    assert bootstrap_interval(values)[0] < values.mean() < bootstrap_interval(values)[1]
    assert (
        bootstrap_interval(values)
        == bootstrap_interval(values)
        != bootstrap_interval(values, seed=1)
    )


# ---------------------------------------------------------------- the summary


def per_pair(metric="EN", **rows):
    return pd.DataFrame(
        {"row": row, "metric": metric, "pair": str(i), "value": value}
        for row, values in rows.items()
        for i, value in enumerate(values)
    )


def test_summary():
    """NaN is not counted."""
    frame = summarise(per_pair(b=[1.0, np.nan, 2.0, 6.0], a=[5.0], c=[np.nan]))
    assert list(frame) == ["row", "metric", "n", "mean", "ci_low", "ci_high"]
    assert frame["row"].tolist() == ["b", "a", "c"] and frame["n"].tolist() == [3, 1, 0]
    assert frame["mean"].tolist()[:2] == [3.0, 5.0] and np.isnan(frame["mean"][2])
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 2.0, 6.0])
    assert frame.loc[1:, ["ci_low", "ci_high"]].isna().all(axis=None)


def test_summary_by_other_columns_and_of_nothing():
    frame = summarise(per_pair(a=[1.0, 2.0]), by=["pair"])
    assert frame[["pair", "n", "mean"]].values.tolist() == [["0", 1, 1.0], ["1", 1, 2.0]]
    assert len(summarise(per_pair(a=[1.0]).iloc[:0])) == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([np.inf] * 3, (np.inf, np.inf)), ([-np.inf] * 2, (-np.inf, -np.inf))],
)
def test_infinite_values_have_no_interval_but_themselves(recwarn, values, expected):
    assert bootstrap_interval(values) == expected
    assert np.isnan(bootstrap_interval([*values, 3.0])).all()
    assert not recwarn
