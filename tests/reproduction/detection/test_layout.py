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
from reproduction.detection import layout
from reproduction.detection.layout import (
    EVERYTHING,
    check_boxes,
    export,
    facts_of,
    parts_by_block,
    read_layout,
    render,
)
from tests.reproduction.detection.given import NAMES, dataset, pair


def pairs():
    """Of two sizes, one without objects."""
    large = pair("b", width=80, height=60, seed=1)
    return [pair("a"), large, pair("c", boxes=False), pair("d", seed=2)]


def write(folder, some=None, parts=None, source="vis"):
    return export(source, dataset(*(some or pairs())), folder, parts=parts)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def rendered(monkeypatch):
    """The names of pairs, as they are rendered."""
    names = []
    monkeypatch.setattr(layout, "render", lambda _, pair: names.append(pair.name) or pair.vis)
    return names


def test_written_and_read_back(folder):
    found = read_layout(folder)
    assert found.names == NAMES and set(found.parts) == {EVERYTHING}
    for given, example in zip(pairs(), found.parts[EVERYTHING], strict=True):
        picture, boxes = example.load()
        assert example.name == given.name
        np.testing.assert_array_equal(picture, quantise(given.vis))
        assert [box.label for box in boxes] == [box.label for box in given.boxes]
        for box, expected in zip(boxes, given.boxes, strict=True):
            assert box[1:] == pytest.approx(expected[1:], abs=1e-4)
    assert (folder / "labels" / "all" / "c.txt").read_text() == ""


def test_data_yaml_is_what_ultralytics_wants(folder, tmp_path):
    """Where a relative path begins differs between its releases; 6.1 wants nc; all want val."""
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert content == {
        "path": str(folder), "train": "images/all", "val": "images/all", "nc": 3,
        "names": [*NAMES],
    }  # fmt: skip
    found = write(tmp_path / "two", parts={**dict.fromkeys("abc", "train"), "d": "test"})
    content = yaml.safe_load((tmp_path / "two" / "data.yaml").read_text())
    # Never those for testing: the best epoch would be chosen by them. The stopgap is no part.
    assert (content["val"], content["test"]) == ("images/train", "images/test")
    assert set(found.parts) == {"train", "test"}
    found = write(tmp_path / "three", parts={"a": "train", "b": "train", "c": "val", "d": "test"})
    names = {part: [example.name for example in some] for part, some in found.parts.items()}
    assert names == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def test_other_pixels_of_the_same_name_are_rendered_again(folder, rendered):
    before = {p.name: p.read_bytes() for p in (folder / "images" / "all").iterdir()}
    changed = pairs()
    changed[1] = pair("b", width=80, height=60, seed=7)
    for _ in range(2):
        write(folder, changed)
    after = {p.name: p.read_bytes() for p in (folder / "images" / "all").iterdir()}
    assert rendered == ["b"] and [n for n in after if after[n] != before[n]] == ["b.png"]


def test_continues_where_it_stopped(tmp_path, rendered, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(layout, "render", lambda _, one: one.vis if one.name < "c" else 1 / 0)
        write(tmp_path / "set")
    assert not (tmp_path / "set" / "data.yaml").exists()
    write(tmp_path / "set")
    assert rendered == ["c", "d"]


def test_another_export_is_not_continued(folder, tmp_path):
    with pytest.raises(FusionError, match="holds another export"):
        write(folder, source="ir")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "sources.txt").touch()
    for place in ("full", "full/mine.txt", "cut"):
        with pytest.raises(FusionError, match="is not empty, and no export"):
            write(tmp_path / place)


def test_pictures_of_methods_and_sources():
    method, one = create("mst"), pair()
    np.testing.assert_array_equal(render(method, one), method.fuse(one.ir, one.vis))
    assert render("ir", one) is one.ir and render("vis", one) is one.vis
    assert facts_of(method) == {**method.identity._asdict(), "version": 1}


def test_pairs_without_annotation_are_left_out_with_a_warning(tmp_path):
    some = [pair("a"), pair("b")]
    object.__setattr__(some[1], "boxes", None)
    with pytest.warns(UserWarning, match="1 of 2 pairs are not annotated, such as b"):
        found = write(tmp_path / "set", some)
    assert [example.name for example in found.parts[EVERYTHING]] == ["a"]
    object.__setattr__(some[0], "boxes", None)
    with pytest.raises(FusionError, match="some has no boxes"):
        write(tmp_path / "none", some)
    with pytest.raises(FusionError, match="sample_mri_ct has no boxes"):
        export("vis", load_dataset("sample_mri_ct"), tmp_path / "none")


# ---------------------------------------------------------------- boxes and blocks


@pytest.mark.parametrize(
    "box",
    [
        *((5, 5, 5, 9), (5, 9, 9, 5), (0, 0, float("nan"), 5), (float("nan"), 0, 5, 5)),
        *((-3, 0, 5, 5), (0, 0, 22, 5), (0, 0, 5, 12), (-0.9, 2, -0.5, 5), (20.2, 2, 20.8, 5)),
    ],
)
def test_boxes_that_cannot_be(box):
    words = "set: box 2 .car.* has no area, or leaves the picture of 20x10"
    with pytest.raises(FusionError, match=words):
        check_boxes([Box("person", 0, 0, 1, 1), Box("car", *box)], 20, 10, "set")


def test_boxes_that_rounding_put_outside_are_cut_off():
    (box,) = check_boxes([Box("car", -0.4, 0, 20.3, 10.9)], 20, 10, "set")
    assert box == ("car", 0, 0, 20, 10)


def test_a_box_outside_its_picture_is_neither_written_nor_loaded(tmp_path, folder):
    bad = pair("a")
    object.__setattr__(bad, "boxes", (Box("car", 10, 10, 90, 20),))
    with pytest.raises(FusionError, match=r"a of some: box 1 .car.* leaves the picture of 64x48"):
        write(tmp_path / "bad", [bad])
    (folder / "labels" / "all" / "a.txt").write_text("0 0.95 0.5 0.4 0.1\n")
    with pytest.raises(FusionError, match=r"a: box 1 .person.* leaves the picture"):
        read_layout(folder).parts[EVERYTHING][0].load()


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
    for block, blocks in ((0, 3), (4, 3), (1, 1), (1, 9)):
        with pytest.raises(FusionError, match=f"no block {block} of {blocks} of 4"):
            parts_by_block("abcd", block, blocks)


# ---------------------------------------------------------------- what others wrote


def test_labels_of_others(folder):
    file = folder / "labels" / "all" / "a.txt"
    file.unlink()
    assert read_layout(folder).parts[EVERYTHING][0].fractions == ()
    file.write_text("0 0.5 0.5 0.1 0.1\n\n3 0.5 0.5 0.1 0.1\n")
    with pytest.raises(FusionError, match=r"a.txt, line 3.*expected a class .0 to 2"):
        read_layout(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: {1: a}\ntrain: images/all\n", "names, a list or numbered from 0"),
        ("train: images/all\n", "KeyError: 'names'"),
        ("names: [a, b]\nnc: 3\ntrain: images/all\n", "nc is 3, but there are 2"),
        ("names: [person, bicycle]\n", "names no pictures"),
        ("names: person\ntrain: images/all\n", "names is 'person'"),
        ("names: [a, a]\ntrain: images/all\n", "the classes, each once"),
        ("names: []\ntrain: images/all\n", "the classes, each once"),
        ("names: [person, bicycle]\ntrain: [a, b]\n", "a part must be one folder"),
        ("- a\n", "not as YOLO has it"),
        ("", "not as YOLO has it"),
        ("a: [\n", "not as YOLO has it"),
        ("names: [person, bicycle]\ntrain: pictures\n", "not in a folder images"),
    ],
)
def test_data_yaml_that_cannot_be(folder, text, message):
    (folder / "data.yaml").write_text(text)
    with pytest.raises(FusionError, match=message):
        read_layout(folder)


def test_names_may_be_numbered_and_the_path_that_of_another_machine(folder, tmp_path, monkeypatch):
    text = "train: images/all\nval: images/all\nnames: {0: x, 1: y}\n"
    (folder / "data.yaml").write_text(f"path: /nowhere/set\n{text}")
    assert read_layout(folder).names == ("x", "y")
    (folder / "data.yaml").write_text("path:\nnames: [x, y]\ntrain: images/none\n")
    with pytest.raises(DatasetNotFound, match=f"{folder}/images/none: no such"):
        read_layout(folder)
    (folder / "data.yaml").write_text(f"path:\n{text}")
    monkeypatch.chdir(folder)
    assert read_layout(".").parts[EVERYTHING][0].fractions
    (tmp_path / "data.yaml").write_text(f"path: set\n{text}")
    assert len(read_layout(tmp_path).parts[EVERYTHING]) == 4


def test_no_data_set(tmp_path, folder):
    with pytest.raises(DatasetNotFound, match=r"there is no data.yaml"):
        read_layout(tmp_path)
    (folder / "data.yaml").write_text("names: [person, bicycle]\ntrain: images/none\n")
    with pytest.raises(DatasetNotFound, match="no such folder"):
        read_layout(folder)
    (folder / "images" / "none").mkdir()
    with pytest.raises(DatasetNotFound, match="no pictures in"):
        read_layout(folder)
