"""golden: our metrics equal reference values of the authors' codes, and the comparison notices."""

from __future__ import annotations

import pandas as pd
import pytest

from fusionlib.errors import ImageError
from tests import golden
from tests.golden.__main__ import main


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    golden.write_images(folder)
    return folder


def check(comparisons):
    """Every value within its tolerance; one assertion that lists all that are not."""
    table = golden.worst(comparisons)
    beyond = table[table["worst"] > table["allowed"]]
    assert beyond.empty, beyond.to_string()
    return table


def test_values_for_pictures_of_scikit_image(pictures):
    references = golden.read_references(golden.SKIMAGE)
    table = check(golden.compare(references, pictures))
    # Nothing is skipped: 48 variants on nine triples.
    assert len(table) == 48 and set(table["triples"]) == {9} and len(references) == 432


@pytest.mark.realdata
def test_values_for_real_images(golden_root):
    folder = golden_root / "metrics"
    references = golden.read_references(folder / "golden.csv")
    table = check(golden.compare(references, folder / "images"))
    assert table["triples"].sum() == len(references) == 1496
    assert set(zip(table["metric"], table["variant"], strict=True)) == set(golden.DEFINITIONS)


def written(path, rows):
    frame = pd.DataFrame(rows, columns=["triple", "metric", "variant", "value"])
    frame.to_csv(path, index=False)
    return str(path)


TRUE = ("coins_page_avg", "EN", "log2_256bins", "7.22320514025")


@pytest.mark.parametrize(
    ("rows", "status", "words"),
    [
        ([TRUE], 0, "0 variants beyond"),
        ([(*TRUE[:3], "7.2232051")], 1, "1 variants beyond"),  # off by 6e-9 of it
        ([TRUE, ("coins_page_avg", "EN", "base_10", "1")], 0, "not compared: EN base_10"),
    ],
)
def test_main(pictures, tmp_path, capsys, rows, status, words):
    assert main([written(tmp_path / "g.csv", rows), str(pictures)]) == status
    assert words in capsys.readouterr().out


def test_main_with_what_cannot_be_compared(pictures, tmp_path, capsys):
    for arguments, words in (
        ([], "usage"),
        ([str(tmp_path / "none.csv"), str(pictures)], "none.csv"),
        ([written(tmp_path / "a.csv", [("x_avg", *TRUE[1:])]), str(pictures)], "x_avg"),
        ([written(tmp_path / "b.csv", [(*TRUE[:3], "high")]), str(pictures)], "high"),
        ([written(tmp_path / "c.csv", [(*TRUE[:2], "base_10", 1)]), str(pictures)], "no value"),
        ([str(golden.SKIMAGE.with_name("yolov5n_coco.csv")), str(pictures)], "does not hold"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


def test_main_makes_its_own_pictures(tmp_path, monkeypatch, capsys):
    short = golden.read_references(golden.SKIMAGE).query("metric == 'SD'")
    monkeypatch.setattr("tests.golden.__main__.read_references", lambda _: short)
    assert main(["skimage", str(tmp_path / "new")]) == 0
    assert "18 values, 2 variants" in capsys.readouterr().out


def test_names_with_underscores(pictures, tmp_path):
    for part in ("ir", "vi"):
        (tmp_path / f"a_b_{part}.png").write_bytes(
            (pictures / f"coins_page_{part}.png").read_bytes()
        )
    (tmp_path / "a_b_f_c_d.png").write_bytes((pictures / "coins_page_f_avg.png").read_bytes())
    assert golden.read_triple(tmp_path, "a_b_c_d")[0].shape == (191, 384)
    with pytest.raises(ImageError, match="a_b_x"):
        golden.read_triple(tmp_path, "a_b_x")


def test_relative_error():
    assert golden.relative(2.0, 1.0) == 1 and golden.relative(0.5, 0) == 0.5
    inf = float("inf")
    assert golden.relative(inf, inf) == 0 and golden.relative(1, inf) == inf
    assert golden.relative(float("nan"), 1) == inf
