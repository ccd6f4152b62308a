"""Data sets in the layout of YOLO: written and read back, continued, refused."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from fusionlib.datasets import load_dataset
from fusionlib.errors import DatasetNotFound, FusionError
from fusionlib.images import quantise
from fusionlib.methods import create
from fusionlib.pairs import Box
from reproduction.detection.layout import (
    EVERYTHING,
    Renderer,
    export,
    parts_by_block,
    read_layout,
)
from tests.reproduction.detection.given import NAMES, dataset, pair

VIS = Renderer(lambda pair: pair.vis, {"source": "visible"})


def pairs():
    """Of two sizes, one without objects."""
    return [
        pair("a"),
        pair("b", width=80, height=60, seed=1),
        pair("c", boxes=False),
        pair("d", seed=2),
    ]


def write(folder, some=None, renderer=VIS, parts=None):
    return export(renderer, dataset(*(some or pairs())), folder, parts=parts, progress=False)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "set")
    return tmp_path / "set"


def test_written_and_read_back(folder):
    layout = read_layout(folder)
    assert layout.names == NAMES and set(layout.parts) == {EVERYTHING}
    for given, example in zip(pairs(), layout.parts[EVERYTHING], strict=True):
        picture, boxes = example.load()
        assert example.name == given.name
        np.testing.assert_array_equal(picture, quantise(given.vis))
        assert [box.label for box in boxes] == [box.label for box in given.boxes]
        for box, expected in zip(boxes, given.boxes, strict=True):
            assert box[1:] == pytest.approx(expected[1:], abs=1e-4)
    assert (folder / "labels" / "all" / "c.txt").read_text() == ""


def test_parts(tmp_path):
    parts = {"a": "train", "b": "train", "c": "val", "d": "test"}
    layout = write(tmp_path / "set", parts=parts)
    found = {part: [e.name for e in examples] for part, examples in layout.parts.items()}
    assert found == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def test_data_yaml_is_what_ultralytics_wants(folder, tmp_path):
    """Where a relative path begins differs between its releases; 6.1 wants nc; all want val."""
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert content == {
        "path": str(folder), "train": "images/all", "val": "images/all", "nc": 3,
        "names": [*NAMES],
    }  # fmt: skip
    layout = write(tmp_path / "other", parts={**dict.fromkeys("abc", "train"), "d": "test"})
    content = yaml.safe_load((tmp_path / "other" / "data.yaml").read_text())
    # Never those for testing: the best epoch would be chosen by them. The stopgap is no part.
    assert (content["val"], content["test"]) == ("images/train", "images/test")
    assert set(layout.parts) == {"train", "test"}


def test_other_pixels_of_the_same_name_are_rendered_again(tmp_path):
    write(tmp_path / "set")
    before = {p.name: p.read_bytes() for p in (tmp_path / "set" / "images" / "all").iterdir()}
    changed = pairs()
    changed[1] = pair("b", width=80, height=60, seed=7)
    calls = []
    renderer = VIS._replace(render=lambda pair: calls.append(pair.name) or pair.vis)
    write(tmp_path / "set", changed, renderer)
    after = {p.name: p.read_bytes() for p in (tmp_path / "set" / "images" / "all").iterdir()}
    assert calls == ["b"] and [n for n in after if after[n] != before[n]] == ["b.png"]
    write(tmp_path / "set", changed, renderer)
    assert calls == ["b"]


def test_continues_where_it_stopped(tmp_path):
    calls = []

    def render(pair):
        calls.append(pair.name)
        if pair.name == "c" and calls.count("c") == 1:
            raise KeyboardInterrupt
        return pair.vis

    renderer = VIS._replace(render=render)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", renderer=renderer)
    assert not (tmp_path / "set" / "data.yaml").exists()
    write(tmp_path / "set", renderer=renderer)
    assert calls == ["a", "b", "c", "c", "d"]


def test_another_export_is_not_continued(folder, tmp_path):
    with pytest.raises(FusionError, match="holds another export"):
        write(folder, renderer=Renderer.of("ir"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(FusionError, match="not empty"):
        write(tmp_path / "full")
    with pytest.raises(FusionError, match="is a file"):
        write(tmp_path / "full" / "mine.txt")


def test_a_renderer_is_known_by_its_method_and_version():
    method = create("mst")
    fused = Renderer.of(method)
    one = pair()
    np.testing.assert_array_equal(fused.render(one), method.fuse(one.ir, one.vis))
    assert fused.facts == {**method.identity._asdict(), "version": 1}


def test_pairs_without_annotation_are_left_out_with_a_warning(tmp_path):
    some = [pair("a"), pair("b")]
    object.__setattr__(some[1], "boxes", None)
    with pytest.warns(UserWarning, match="1 of 2 pairs are not annotated, such as b"):
        layout = write(tmp_path / "set", some)
    assert [example.name for example in layout.parts[EVERYTHING]] == ["a"]
    object.__setattr__(some[0], "boxes", None)
    with pytest.raises(FusionError, match="some has no boxes"):
        write(tmp_path / "none", some)
    with pytest.raises(FusionError, match="sample_mri_ct has no boxes"):
        export(VIS, load_dataset("sample_mri_ct"), tmp_path / "none", progress=False)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box("car", 10, 10, 90, 20), "a of some: box 1 .car.* leaves the picture of 64x48"),
        (Box("bus", 10, 10, 20, 20), "class in a 'bus'"),
    ],
)
def test_boxes_that_cannot_be_written(tmp_path, box, message):
    bad = pair("a")
    object.__setattr__(bad, "boxes", (box,))
    with pytest.raises(FusionError, match=message):
        write(tmp_path / "set", [bad])


# ---------------------------------------------------------------- blocks


def test_blocks_are_contiguous_equal_and_cover_all():
    names = [f"{i:03}" for i in range(121)]
    tested = []
    for block in (1, 2, 3):
        parts = parts_by_block(names, block, 3)
        test = [name for name in names if parts[name] == "test"]
        first = names.index(test[0])
        assert test == names[first : first + len(test)] and len(test) in (40, 41)
        tested += test
    assert tested == names


@pytest.mark.parametrize(("block", "blocks"), [(0, 3), (4, 3), (1, 1), (1, 9)])
def test_blocks_that_cannot_be(block, blocks):
    with pytest.raises(FusionError, match=f"no block {block} of {blocks} of 4"):
        parts_by_block("abcd", block, blocks)


# ---------------------------------------------------------------- what others wrote


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "is no label"),
        ("person 0.5 0.5 0.1 0.1", "is no label"),
        ("3 0.5 0.5 0.1 0.1", "expected a class .0 to 2: person, bicycle, car"),
        ("-1 0.5 0.5 0.1 0.1", "is no label"),
        ("0 0.5 0.5 0 0.1", "has no area"),
        ("0 0.5 nan 0.1 0.1", "has no area"),
    ],
)
def test_labels_that_cannot_be(folder, line, message):
    file = folder / "labels" / "all" / "a.txt"
    file.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(FusionError, match=f"a.txt, line 3.*{message}"):
        read_layout(folder)


def test_a_label_outside_the_picture_is_found_when_it_is_loaded(folder):
    (folder / "labels" / "all" / "a.txt").write_text("0 0.95 0.5 0.4 0.1\n")
    example = read_layout(folder).parts[EVERYTHING][0]
    with pytest.raises(FusionError, match=r"a: box 1 .person.* leaves the picture"):
        example.load()


def test_a_picture_without_label_file_shows_nothing(folder):
    (folder / "labels" / "all" / "a.txt").unlink()
    assert read_layout(folder).parts[EVERYTHING][0].fractions == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, a]\ntrain: images/all\n", "each once"),
        ("names: {1: a}\ntrain: images/all\n", "numbered from 0"),
        ("names: {0: a, x: b}\ntrain: images/all\n", "numbered from 0"),
        ("names: [person, bicycle]\ntrain: [images/all]\n", "must be one folder"),
        ("train: images/all\n", "names must be"),
        ("names: [a, b]\nnc: 3\ntrain: images/all\n", "nc is 3, but there are 2"),
        ("names: [person, bicycle]\n", "names no pictures"),
        ("- a\n", "holds no keys"),
        ("a: [\n", "no YAML"),
        ("names: [person, bicycle]\ntrain: pictures\n", "not in a folder images"),
    ],
)
def test_data_yaml_that_cannot_be(folder, text, message):
    (folder / "data.yaml").write_text(text)
    with pytest.raises(FusionError, match=message):
        read_layout(folder)


def test_names_may_be_numbered_and_the_path_of_another_machine(folder):
    text = "path: /nowhere/set\ntrain: images/all\nval: images/all\nnames: {0: x, 1: y}\n"
    (folder / "data.yaml").write_text(text)
    assert read_layout(folder).names == ("x", "y")


def test_no_data_set(tmp_path, folder):
    with pytest.raises(DatasetNotFound, match=r"there is no data.yaml"):
        read_layout(tmp_path)
    (folder / "data.yaml").write_text("names: [person, bicycle]\ntrain: images/none\n")
    with pytest.raises(DatasetNotFound, match="no such folder"):
        read_layout(folder)
    (folder / "images" / "none").mkdir()
    with pytest.raises(DatasetNotFound, match="no pictures in"):
        read_layout(folder)
