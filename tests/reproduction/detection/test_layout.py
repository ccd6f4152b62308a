"""Data sets in the layout of YOLO: written and read back, continued, refused."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from fusionlib.datasets import load_dataset
from fusionlib.errors import DatasetNotFound, FusionError, UnknownName
from fusionlib.images import quantise
from fusionlib.pairs import Box
from reproduction.detection.layout import (
    EVERYTHING,
    Renderer,
    class_names,
    export,
    parts_by_block,
    read_layout,
)
from tests.reproduction.detection.given import NAMES, pair

VIS = Renderer(lambda pair: pair.vis, {"source": "visible"})


def pairs():
    """Of two sizes, one without objects."""
    return [
        pair("a"),
        pair("b", width=80, height=60, seed=1),
        pair("c", boxes=False),
        pair("d", seed=2),
    ]


@pytest.fixture
def folder(tmp_path):
    export(VIS, pairs(), tmp_path / "set", progress=False)
    return tmp_path / "set"


def test_written_and_read_back(folder):
    layout = read_layout(folder)
    assert layout.names == ("person", "bicycle") and set(layout.parts) == {EVERYTHING}
    for given, example in zip(pairs(), layout.part(EVERYTHING), strict=True):
        picture, boxes = example.load()
        assert example.name == given.name
        np.testing.assert_array_equal(picture, quantise(given.vis))
        assert [box.label for box in boxes] == [box.label for box in given.boxes]
        for box, expected in zip(boxes, given.boxes, strict=True):
            assert box[1:] == pytest.approx(expected[1:], abs=1e-4)
    assert (folder / "labels" / "all" / "c.txt").read_text() == ""


def test_parts(tmp_path):
    parts = {"a": "train", "b": "train", "c": "val", "d": "test"}
    layout = export(VIS, pairs(), tmp_path / "set", parts=parts, progress=False)
    found = {part: [e.name for e in examples] for part, examples in layout.parts.items()}
    assert found == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    with pytest.raises(UnknownName, match=r"part of .*'all'"):
        layout.part(EVERYTHING)


def test_data_yaml_is_what_ultralytics_wants(folder, tmp_path):
    """Where a relative path begins differs between its releases; 6.1 wants nc; all want val."""
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert content == {
        "path": str(folder), "train": "images/all", "val": "images/all", "nc": 2,
        "names": ["person", "bicycle"],
    }  # fmt: skip
    parts = {"a": "train", "b": "train", "c": "train", "d": "test"}
    export(VIS, pairs(), tmp_path / "other", parts=parts, progress=False)
    content = yaml.safe_load((tmp_path / "other" / "data.yaml").read_text())
    # Never those for testing: the best epoch would be chosen by them.
    assert (content["val"], content["test"]) == ("images/train", "images/test")


def test_a_stopgap_for_validation_is_no_part(tmp_path):
    parts = {"a": "train", "b": "train", "c": "train", "d": "test"}
    layout = export(VIS, pairs(), tmp_path / "set", parts=parts, progress=False)
    assert set(layout.parts) == {"train", "test"}


def test_other_pixels_of_the_same_name_are_rendered_again(tmp_path):
    export(VIS, pairs(), tmp_path / "set", progress=False)
    before = {p.name: p.read_bytes() for p in (tmp_path / "set" / "images" / "all").iterdir()}
    changed = pairs()
    changed[1] = pair("b", width=80, height=60, seed=7)
    calls = []
    renderer = VIS._replace(render=lambda pair: calls.append(pair.name) or pair.vis)
    export(renderer, changed, tmp_path / "set", progress=False)
    after = {p.name: p.read_bytes() for p in (tmp_path / "set" / "images" / "all").iterdir()}
    assert calls == ["b"] and [n for n in after if after[n] != before[n]] == ["b.png"]
    export(renderer, changed, tmp_path / "set", progress=False)
    assert calls == ["b"]


def test_digest(folder, tmp_path):
    layout = read_layout(folder)
    before = layout.digest()
    assert export(VIS, pairs(), tmp_path / "again", progress=False).digest() == before
    label = folder / "labels" / "all" / "a.txt"
    label.write_text(label.read_text().replace("0 ", "1 ", 1))
    assert read_layout(folder).digest() != before


def test_continues_where_it_stopped(tmp_path):
    calls = []

    def render(pair):
        calls.append(pair.name)
        if pair.name == "c" and calls.count("c") == 1:
            raise KeyboardInterrupt
        return pair.vis

    renderer = Renderer(render, {"source": "visible"})
    with pytest.raises(KeyboardInterrupt):
        export(renderer, pairs(), tmp_path / "set", progress=False)
    assert not (tmp_path / "set" / "data.yaml").exists()
    export(renderer, pairs(), tmp_path / "set", progress=False)
    assert calls == ["a", "b", "c", "c", "d"]


def test_another_export_is_not_continued(folder, tmp_path):
    other = Renderer(lambda pair: pair.ir, {"source": "infrared"})
    with pytest.raises(FusionError, match="holds another export"):
        export(other, pairs(), folder, progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(FusionError, match="not empty"):
        export(VIS, pairs(), tmp_path / "full", progress=False)
    with pytest.raises(FusionError, match="is a file"):
        export(VIS, pairs(), tmp_path / "full" / "mine.txt", progress=False)


def test_pairs_without_annotation_are_left_out_with_a_warning(tmp_path):
    some = [pair("a"), pair("b")]
    object.__setattr__(some[1], "boxes", None)
    with pytest.warns(UserWarning, match="1 of 2 pairs are not annotated, such as b"):
        layout = export(VIS, some, tmp_path / "set", progress=False)
    assert [example.name for example in layout.part(EVERYTHING)] == ["a"]
    object.__setattr__(some[0], "boxes", None)
    with pytest.raises(FusionError, match="has no boxes"):
        export(VIS, some, tmp_path / "none", progress=False)
    with pytest.raises(FusionError, match="sample_mri_ct has no boxes"):
        export(VIS, load_dataset("sample_mri_ct"), tmp_path / "none", progress=False)


def test_a_box_outside_its_picture_is_refused(tmp_path):
    bad = pair("a")
    object.__setattr__(bad, "boxes", (Box("car", 10, 10, 90, 20),))
    with pytest.raises(
        FusionError, match=r"a of 1 pairs: box 1 .car.* leaves the picture of 64x48"
    ):
        export(VIS, [bad], tmp_path / "set", progress=False)


def test_classes():
    assert class_names(load_dataset("sample")) == NAMES
    assert class_names(pairs()) == ("person", "bicycle")


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
        ("2 0.5 0.5 0.1 0.1", "expected a class .0 to 1: person, bicycle"),
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
    example = read_layout(folder).part(EVERYTHING)[0]
    with pytest.raises(FusionError, match=r"a: box 1 .person.* leaves the picture"):
        example.load()


def test_a_picture_without_label_file_shows_nothing(folder):
    (folder / "labels" / "all" / "a.txt").unlink()
    assert read_layout(folder).part(EVERYTHING)[0].fractions == ()


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


def test_files_of_classes_that_disagree(folder):
    (folder / "classes.txt").write_text("person\nbicycle\n")
    assert read_layout(folder).names == ("person", "bicycle")
    (folder / "classes.txt").write_text("bicycle\nperson\n")
    with pytest.raises(FusionError, match="disagree: person, bicycle and bicycle, person"):
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
