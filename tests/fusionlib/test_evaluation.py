"""evaluation: scores equal the metrics' functions; a benchmark continues where it stopped."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from fusionlib.pairs import Pair
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image

import fusionlib
from fusionlib import evaluation
from fusionlib.costs import COSTS
from fusionlib.errors import (
    FusionError,
    ImageError,
    ImageTooSmall,
    MetricWarning,
    PairMismatch,
    UnknownName,
)
from fusionlib.evaluation import COLUMNS, benchmark, evaluate, evaluate_files, levels
from fusionlib.images import write_image
from fusionlib.methods import Method
from fusionlib.metrics import METRICS, SELECTIONS, information, structure

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
def test_scores_are_the_metrics(fused, ir, vis):
    scores = evaluate(fused, ir, vis, FAST)
    expected = {
        "SSIM_a": structure.ssim_a(fused, ir, vis),
        "EN": information.entropy(fused),
        "SCD": structure.scd(fused, ir, vis),
    }
    assert list(scores) == FAST
    assert scores == expected


def test_two_equal_halves_have_one_bit():
    fused = np.repeat(np.array([[0, 255]], np.uint8), 12, axis=0)
    assert evaluate(fused, fused, fused, "EN") == {"EN": 1.0}


@given(GRAY, GRAY, GRAY)
@settings(max_examples=25)
def test_type_does_not_matter(fused, ir, vis):
    images = fused, ir, vis
    expected = evaluate(*images, ["EN", "SCD", "SSIM_a"])
    for convert in (
        lambda image: image.astype(np.float32) / np.float32(255),
        lambda image: image / 255,
        lambda image: image.astype(np.uint16) * 257,
    ):
        assert evaluate(*map(convert, images), ["EN", "SCD", "SSIM_a"]) == expected
    mixed = evaluate(fused, ir / 255, vis.astype(np.uint16) * 257, ["EN", "SCD", "SSIM_a"])
    assert mixed == expected


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


def test_unknown_way_to_score_colour():
    with pytest.raises(UnknownName, match=r"'RGB'.*Known: Y, channels"):
        evaluate(*[picture(0)] * 3, "EN", colour="RGB")


def test_conventions():
    images = [picture(seed) for seed in range(3)]
    assert evaluate(*images, "MI") == evaluate(*images, ["MI"], "standard")
    assert evaluate(*images, "MI", "li")["MI"] == 2 * evaluate(*images, "EN")["EN"]
    both = evaluate(*images, ["MI:li", "MI"])
    assert list(both) == ["MI:li", "MI"] and both["MI:li"] != both["MI"]
    # What a name says goes before the argument, the argument before the selection.
    assert evaluate(*images, ["MI:li", "MI"], "tang")["MI:li"] == both["MI:li"]
    with pytest.raises(UnknownName, match="Q_CB has no convention 'li', only standard, vifb"):
        evaluate(*images, ["EN", "Q_CB"], "li")


def test_the_papers_columns():
    images = [picture(seed, (48, 52)) for seed in range(3)]
    for name, columns in SELECTIONS.items():
        if name in ("res2netfuse", "refinefuse"):
            scores = evaluate(*images, name)
            assert list(scores) == [column.split(":")[0] for column in columns]
            for column in columns:
                assert evaluate(*images, column)[column] == scores[column.split(":")[0]]
    assert evaluate(*images, "refinefuse", "standard") == evaluate(
        *images, ["VIF", "AG", "SCD", "Qabf", "SF", "EN", "SSIM"]
    )


def test_default_is_common_in_the_standard_convention():
    images = [picture(seed, (41, 52)) for seed in range(3)]
    assert evaluate(*images) == evaluate(*images, "common", "standard")


def test_too_small_is_named():
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


def test_selections_in_a_list():
    images = [picture(seed, (48, 52)) for seed in range(3)]
    scores = evaluate(*images, ["SD", "refinefuse"])
    assert scores == evaluate(*images, "SD") | evaluate(*images, "refinefuse")
    with pytest.raises(UnknownName, match="no metric is named"):
        evaluate(*images, [])
    with pytest.raises(UnknownName, match="EN has no convention ''"):
        evaluate(*images, ["EN:"])
    with pytest.raises(UnknownName, match="unknown metric 'common'"):
        evaluate(*images, ["common:tang"])


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


def test_one_method_by_name_or_object(methods):
    by_object = benchmark(methods[0], PAIRS, metrics=FAST, progress=False)
    assert by_object.equals(benchmark([methods[0]], PAIRS, metrics=FAST, progress=False))
    by_name = benchmark("res2netfuse", PAIRS[:1], metrics=FAST, progress=False)
    assert by_name["rule"].unique().tolist() == ["l1_norm"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_cost_is_a_row_of_every_image(methods, fuses, tmp_path, jobs):
    options = {"metrics": FAST, "progress": False, "jobs": jobs}
    csv = tmp_path / "scores.csv"
    plain = benchmark(methods[0], PAIRS, **options, csv=tmp_path / "plain.csv")
    frame = benchmark(methods[0], PAIRS, **options, csv=csv, cost=True)
    costs = frame[frame["metric"].isin(COSTS)]
    assert frame.drop(costs.index).reset_index(drop=True).equals(plain)
    assert set(costs["convention"]) == {"wall clock", "resident memory"}
    assert costs.groupby("metric")["pair"].agg(list).to_dict() == {
        name: ["one", "two", "three"] for name in COSTS
    }
    assert (costs["value"] > 0).all()
    # Kept with the scores, and not measured again; what was scored without is.
    del fuses[:]
    again = benchmark(methods[0], PAIRS, **options, csv=csv, cost=True)
    assert again.equals(frame) and not fuses
    assert benchmark(methods[0], PAIRS, **options, csv=csv).equals(plain)


def test_cost_of_images_scored_before(methods, fuses, tmp_path):
    options = {"metrics": FAST, "progress": False, "csv": tmp_path / "scores.csv"}
    benchmark(methods[0], PAIRS, **options)
    frame = benchmark(methods[0], PAIRS, **options, cost=True)
    assert len(fuses) == 6 and (frame["metric"] == "seconds").sum() == 3


def test_limit(methods, fuses):
    frame = benchmark(methods[0], PAIRS, metrics=FAST, limit=2, progress=False)
    assert frame["pair"].nunique() == 2
    assert len(fuses) == 2
    frame = benchmark(methods[1], "sample", limit=1, metrics="EN", progress=False)
    assert frame[["dataset", "pair"]].values.tolist() == [["sample", "day_street"]]
    assert frame["colour"].tolist() == ["Y"]  # its visible image is RGB


def test_unknown_names(methods):
    with pytest.raises(UnknownName, match="'res2netfuse'"):
        benchmark("res2net", PAIRS)
    with pytest.raises(UnknownName, match="'tno20'"):
        benchmark(methods[0], "tno2")


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("done", [1, 2, 4])
def test_interrupted_and_continued(methods, fuses, monkeypatch, tmp_path, done):
    whole = benchmark(methods, PAIRS, metrics=FAST, progress=False)
    csv = tmp_path / "scores.csv"
    count = 0
    score = evaluation._score_task

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count > done:
            raise KeyboardInterrupt
        return score(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluation, "_score_task", interrupted)
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
    score = evaluation._score_task

    def watch(*arguments):
        lengths.append(len(pd.read_csv(csv)) if csv.exists() else 0)
        return score(*arguments)

    monkeypatch.setattr(evaluation, "_score_task", watch)
    monkeypatch.setattr(evaluation, "SECONDS_BETWEEN_SAVES", 0)
    benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert lengths == [0, 3, 6]


def test_processes_give_the_same_rows_in_the_same_order(methods):
    whole = benchmark(methods, PAIRS, metrics=FAST, progress=False)
    options = {"metrics": FAST, "progress": False}
    assert benchmark(methods, PAIRS, jobs=2, **options).equals(whole)
    with ThreadPoolExecutor(3) as executor:
        assert benchmark(methods, PAIRS, executor=executor, **options).equals(whole)


def test_no_space_for_results(methods, monkeypatch, tmp_path):
    """What was written stays whole; with space again, what is missing is measured."""
    csv = tmp_path / "scores.csv"
    benchmark(methods[0], PAIRS[:1], metrics=FAST, csv=csv, progress=False)
    before = csv.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fusionlib.files.os.fsync", full)
        with pytest.raises(FusionError, match=r"cannot write .*scores.csv: No space left on dev"):
            benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert csv.read_bytes() == before and [*tmp_path.iterdir()] == [csv]
    frame = benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert len(frame) == len(PAIRS) * len(FAST)


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_and_errors_come_back_from_a_worker(methods, jobs):
    flat = Pair("flat", np.zeros((24, 28), np.float32), PAIRS[0].vis)
    with pytest.warns(MetricWarning, match="flat: SCD: a correlation with a constant image"):
        frame = benchmark(methods[0], [flat], metrics="SCD", jobs=jobs, progress=False)
    assert len(frame) == 1 and math.isfinite(frame["value"][0])
    with ThreadPoolExecutor(4) as executor, pytest.warns(MetricWarning) as caught:
        flats = [Pair(f"flat{k}", flat.ir, flat.vis) for k in range(20)]
        benchmark(methods[0], flats, metrics="SCD", executor=executor, progress=False)
    assert len(caught) == 20
    with pytest.raises(ImageTooSmall, match="VIF needs images of at least 41x41"):
        benchmark(methods[0], PAIRS, metrics="VIF", jobs=jobs, progress=False)


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
    assert frame["weights"].tolist() == [other.identity.weights]
    assert pd.read_csv(csv)["weights"].nunique() == 2
    assert len(fuses) == 2


def test_only_what_is_asked_for_comes_back(methods, tmp_path):
    """Else a mean over the rows would pool data sets, colours and pairs of other calls."""
    options = {"csv": tmp_path / "scores.csv", "progress": False}
    benchmark(methods[0], "sample", limit=2, metrics=["EN", "SD"], **options)
    benchmark(methods[0], "sample", limit=2, metrics="EN", colour="channels", **options)
    frame = benchmark(methods[0], "sample", limit=1, metrics="EN", **options)
    assert frame[["metric", "colour"]].values.tolist() == [["EN", "Y"]]
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 6


def test_other_pairs_of_the_same_name_are_measured(methods, tmp_path):
    options = {"metrics": "EN", "csv": tmp_path / "scores.csv", "progress": False}
    first, second = (benchmark(methods[0], [pair("1", seed)], **options) for seed in (0, 10))
    expected = benchmark(methods[0], [pair("1", 10)], metrics="EN", progress=False)
    assert second["value"].tolist() == expected["value"].tolist() != first["value"].tolist()


def test_what_is_named_twice_counts_once(methods):
    same = [methods[0], methods[0]]
    frame = benchmark(same, PAIRS[:1], metrics=["MI", "MI:standard"], progress=False)
    assert len(frame) == 1


def test_a_csv_that_cannot_be_written_is_noticed_first(methods, fuses, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match="cannot write"):
        benchmark(methods[0], PAIRS, csv=tmp_path / "file" / "scores.csv", progress=False)
    assert fuses == []


def test_the_bar_counts_what_is_scored(methods, monkeypatch):
    counts = []
    score = evaluation._score_task

    class Bar(evaluation.tqdm):
        def update(self, n=1):
            counts.append("bar")
            return super().update(n)

    monkeypatch.setattr(evaluation, "tqdm", Bar)
    monkeypatch.setattr(evaluation, "_score_task", lambda *a: counts.append("score") or score(*a))
    benchmark(methods[0], PAIRS, metrics="EN", progress=False)
    assert counts == ["score", "bar"] * 3


@pytest.mark.parametrize("name", ["NA", "null", "nan", "007", "1e5", "", 'a,"b"\nc', "Größe"])
def test_any_pair_name_survives_the_file(methods, fuses, tmp_path, name):
    csv = tmp_path / "scores.csv"
    given = [pair(name, 0)]
    frames = [benchmark(methods[0], given, metrics=FAST, csv=csv, progress=False) for _ in range(2)]
    assert frames[0].equals(frames[1])
    assert len(fuses) == 1


def test_infinity_survives_the_file(fuses, tmp_path):
    csv = tmp_path / "scores.csv"
    image = PAIRS[0].ir
    same = [Pair("same", image, image)]
    method = fusionlib.create("res2netfuse", rule="average")
    method.fuse = lambda ir, vis: ir
    options = {"metrics": ["PSNR", "EN"], "csv": csv, "progress": False}
    first, second = (benchmark(method, same, **options) for _ in range(2))
    assert first["value"][0] == math.inf
    assert first.equals(second)


def test_conventions_are_rows_of_their_own(methods, fuses, tmp_path):
    csv = tmp_path / "scores.csv"
    options = {"csv": csv, "progress": False}
    benchmark(methods[0], PAIRS[:1], metrics="MI", **options)
    frame = benchmark(methods[0], PAIRS[:1], metrics=["MI", "MI:li"], **options)
    assert frame[["metric", "convention"]].values.tolist() == [["MI", "standard"], ["MI", "li"]]
    assert len(fuses) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "No columns"),
        ("a,b\n1,2\n", "columns a, b"),
        (",".join(COLUMNS) + "\na,b,c,d,e,f,g,EN,li,gray,high\n", "high"),
        (",".join(COLUMNS) + "\na,b\n" + "x," * 20 + "\n", "scores"),
        ("\x00\xff", "scores"),
    ],
)
def test_other_files_are_refused(methods, tmp_path, content, words):
    csv = tmp_path / "scores.csv"
    csv.write_text(content, encoding="latin-1")
    with pytest.raises(FusionError, match=rf"scores\.csv does not hold scores.*{words}|{words}"):
        benchmark(methods[0], PAIRS, metrics=FAST, csv=csv, progress=False)
    assert csv.read_text(encoding="latin-1") == content


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


def test_one_image(folders):
    files = [folder / "2.png" for folder in folders]
    rows, faults = evaluate_files(*files, metrics="EN", colour="channels", progress=False)
    assert rows[["pair", "colour"]].values.tolist() == [["2", "channels"]] and faults == []
    images = map(fusionlib.read_image, files)
    assert rows["value"][0] == evaluate(*images, "EN", colour="channels")["EN"]


def test_files_with_the_same_content_are_not_scored_again(folders, monkeypatch, tmp_path):
    csv = tmp_path / "scores.csv"
    options = {"metrics": FAST, "csv": csv, "progress": False}
    first = evaluate_files(*folders, **options).rows
    scored = []
    score = evaluation._score_task
    monkeypatch.setattr(evaluation, "_score_task", lambda *a: scored.append(a) or score(*a))
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
    with pytest.raises(ImageError, match=r"x \(not there\)"):
        evaluate_files(folders[0], folders[1], tmp_path / "x")
    with pytest.raises(ImageError, match="three files or three folders"):
        evaluate_files(folders[0], folders[1], folders[2] / "1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairMismatch, match=r"no image of .* has partners of the same name"):
        evaluate_files(folders[0], folders[1], tmp_path / "empty")
    with pytest.raises(UnknownName, match="'ENN'"):
        evaluate_files(*folders, metrics="ENN")
