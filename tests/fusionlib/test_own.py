"""own: a user's function and a user's folder, scored beside registered methods."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import fusionlib as fl
from fusionlib.__main__ import main
from fusionlib.errors import DatasetNotFound, FusionError, ImageError, PairMismatch


@pytest.fixture(scope="module")
def pairs():
    return [
        fl.Pair(pair.name, pair.ir[60:130, 100:190], pair.vis[60:130, 100:190])
        for pair in fl.load_dataset("sample", limit=2)
    ]


def brighter(ir, vis):
    return np.maximum(ir, fl.luminance(vis))


def scores(frame):
    return frame.drop(columns=["method", "variant", "rule", "post", "weights"])


def test_a_function_is_scored_like_its_image(pairs):
    frame = fl.benchmark([fl.OwnMethod("mine", brighter), "mst"], pairs, progress=False)
    assert frame["method"].unique().tolist() == ["mine", "mst"]
    mine = frame[frame["method"] == "mine"]
    for pair in pairs:
        expected = fl.evaluate(brighter(pair.ir, pair.vis), pair.ir, pair.vis)
        values = mine[mine["pair"] == pair.name].set_index("metric")["value"]
        assert values.to_dict() == expected


def test_a_folder_of_images_is_its_function(pairs, tmp_path):
    for pair, suffix in zip(pairs, ("png", "bmp"), strict=True):
        fl.write_image(tmp_path / f"{pair.name}.{suffix}", brighter(pair.ir, pair.vis))
    folder, function = fl.OwnMethod("mine", tmp_path), fl.OwnMethod("mine", brighter)
    for pair in pairs:
        assert np.array_equal(folder.fuse_pair(pair), function.fuse_pair(pair))
    frames = [fl.benchmark(method, pairs, progress=False) for method in (folder, function)]
    pd.testing.assert_frame_equal(*map(scores, frames))


def test_images_may_be_of_any_kind(pairs):
    pair = pairs[0]
    levels = np.rint(pair.vis * 255).astype(np.uint8)
    kinds = {
        "float": (levels + 0.4).clip(0, 255) / 255,  # between two levels: rounded
        "uint8": levels,
        "uint16": levels.astype(np.uint16) * 257,
    }
    made = {
        name: fl.OwnMethod(name, lambda ir, vis, k=k: k).fuse_pair(pair)
        for name, k in kinds.items()
    }
    for image in made.values():
        assert image.dtype == np.float32 and image.shape == pair.vis.shape
        assert np.array_equal(np.rint(image * 255), levels)


def test_a_function_may_write_into_what_it_gets(pairs):
    pair = pairs[0]
    before = pair.ir.copy()

    def careless(ir, vis):
        ir *= 0.5
        return ir

    fl.OwnMethod("careless", careless).fuse_pair(pair)
    assert np.array_equal(pair.ir, before)


def test_rows_of_a_version_are_kept(pairs, tmp_path):
    csv, calls = tmp_path / "scores.csv", []

    def counted(name, **options):
        def fuse(ir, vis):
            calls.append(name)
            return ir

        method = fl.OwnMethod("mine", fuse, **options)
        return fl.benchmark([method, "mst"], pairs, metrics=["EN"], csv=csv, progress=False)

    first = counted("first", version="2026-11-29")
    assert counted("again", version="2026-11-29").equals(first)
    counted("changed", version="2026-11-30")
    assert calls == ["first"] * 2 + ["changed"] * 2
    assert set(pd.read_csv(csv)["weights"]) == {"own@2026-11-29", "own@2026-11-30", "none"}


def test_rows_of_no_version_are_not_kept(pairs, tmp_path, recwarn):
    csv = tmp_path / "scores.csv"
    options = {"metrics": ["EN"], "progress": False}
    methods = [fl.OwnMethod("mine", brighter), "mst"]
    whole = fl.benchmark(methods, pairs, **options)
    assert not recwarn.list
    for function, same in ((brighter, True), (lambda ir, vis: ir, False)):
        methods[0] = fl.OwnMethod("mine", function)
        with pytest.warns(UserWarning, match=r"rows of mine are not kept .*Give .* a version"):
            frame = fl.benchmark(methods, pairs, csv=csv, **options)
        assert frame["method"].tolist() == ["mine", "mine", "mst", "mst"]
        assert (frame["value"] == whole["value"]).all() == same
        assert set(pd.read_csv(csv)["method"]) == {"mst"}


def test_another_image_in_the_folder_is_another_state(pairs, tmp_path):
    fl.write_image(tmp_path / "a.png", pairs[0].ir)
    first = fl.OwnMethod("mine", tmp_path).identity
    assert fl.OwnMethod("mine", tmp_path).identity == first
    fl.write_image(tmp_path / "a.png", pairs[1].ir)
    assert fl.OwnMethod("mine", tmp_path).identity != first


@pytest.mark.parametrize(
    "function, kind, message",
    [
        (lambda ir, vis: None, ImageError, "mine returned NoneType"),
        (lambda ir, vis: ir * 300, ImageError, "image that mine made of"),
        (lambda ir, vis: ir[:-1], PairMismatch, "is 90x69, the pair 90x70"),
        (lambda ir, vis: ir[..., None, None], ImageError, "image that mine made of"),
    ],
)
def test_images_that_cannot_be_scored(pairs, function, kind, message):
    with pytest.raises(kind, match=message):
        fl.benchmark(fl.OwnMethod("mine", function), pairs, progress=False)


def test_folders_that_cannot_be_used(pairs, tmp_path):
    with pytest.raises(DatasetNotFound, match="no such folder"):
        fl.OwnMethod("mine", tmp_path / "gone")
    with pytest.raises(FusionError, match="has no image of the pair 'day_street'"):
        fl.OwnMethod("mine", tmp_path).fuse_pair(pairs[0])
    with pytest.raises(FusionError, match="'mst' is the name of a registered method"):
        fl.OwnMethod("mst", tmp_path)


def test_on_the_command_line(tmp_path, capsys):
    for pair in fl.load_dataset("sample", limit=2):
        fl.write_image(tmp_path / f"{pair.name}.png", pair.ir)
    arguments = ["sample", "-m", "EN,SSIM", "--limit", "2"]
    assert main(["benchmark", f"mine={tmp_path},mst", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "mine" in printed and "mst" in printed
    assert main(["benchmark", f"mine={tmp_path / 'gone'}", *arguments]) == 2
    assert "no such folder" in capsys.readouterr().err
