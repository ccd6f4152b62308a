"""Table 4 as it is kept and shown: the print, verdicts, cells, the recorded runs."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fusionlib.errors import FusionError
from reproduction.detection import report
from reproduction.detection.report import (
    ALL,
    DetectionTable,
    boxes_of,
    claims,
    mean_losses,
    paper_values,
    recorded,
    show_claims,
    show_differences,
    show_precision,
    show_uncertainty,
)

# ---------------------------------------------------------------- the print


def test_printed_values():
    printed = paper_values()
    assert len(printed) == 13 * 4 * 2 and set(printed["class"]) == {"person", "car", "bus", ALL}
    values = printed.set_index(["row", "class", "metric"])["paper"]
    assert values["RefineFuse", ALL, "AP50"] == 88.4
    assert values["Infrared", "bus", "AP"] == 34.8


def test_the_printed_mean_is_over_the_three_printed_classes():
    """M3FD has six; to the rounding of two decimals of a mean, 0.05, and of three numbers."""
    values = paper_values().set_index(["row", "metric", "class"])["paper"].unstack()
    means = values[["person", "car", "bus"]].mean(axis=1)
    assert (means - values[ALL]).abs().max() <= 0.1 + 1e-9


# ---------------------------------------------------------------- verdicts


def made_up(**intervals):
    """Differences of all classes, both metrics alike, of rows with these intervals."""
    rows = [
        {
            "row": row.replace("_", " "),
            "class": ALL,
            "metric": metric,
            "difference": sum(ends) / 2,
            "ci_low": ends[0],
            "ci_high": ends[1],
            "spread": 0.0,
            "paper": 1.0 if row == "MST" else np.nan,
            "verdict": report._verdict(*ends),
        }
        for row, ends in intervals.items()
        for metric in ("AP50", "AP")
    ]
    return DetectionTable(pd.DataFrame(), pd.DataFrame(rows), {}, {})


@pytest.mark.parametrize(
    ("infrared", "visible", "expected", "by"),
    [
        ((1, 3), (2, 4), "holds", "Infrared +2.0 (+1.0 to +3.0), Visible +3.0 (+2.0 to +4.0)"),
        ((-1, 3), (2, 4), "not shown", "Infrared +1.0 (−1.0 to +3.0)"),
        ((1, 3), (-4, -2), "refuted", "Visible −3.0 (−4.0 to −2.0)"),
        ((-1, 3), (-4, -2), "refuted", "Visible −3.0 (−4.0 to −2.0)"),
    ],
)
def test_claims(infrared, visible, expected, by):
    found = claims(made_up(Infrared=infrared, Visible=visible, MST=(-1, 1)))
    first = found[found["claim"].str.startswith("detection improves")]
    assert set(first["verdict"]) == {expected} and set(first["by"]) == {by}
    second = found[found["claim"].str.contains("best of all fusion")]
    assert set(second["verdict"]) == {"not shown"}
    assert set(second["by"]) == {"MST +0.00 (−1.0 to +1.0)"}


def test_claims_about_rows_that_are_not_there():
    found = claims(made_up(Infrared=(1, 3))).set_index("claim")["verdict"]
    assert set(found) == {"not measured"} and len(found) == 4


def test_claims_name_what_speaks_most_against_them():
    rows = {name: (i - 5.0, i - 3.0) for i, name in enumerate("ABCDE")}
    by = claims(made_up(**rows)).set_index(["claim", "metric"])["by"]
    text = by["RefineFuse is the best of all fusion methods, of 5 measured", "AP"]
    # A to C are worse, D and E hold 0.
    assert text == "A −4.0 (−5.0 to −3.0), B −3.0 (−4.0 to −2.0), C −2.0 (−3.0 to −1.0)"
    rows = {name: (-1.0 - i, 1.0) for i, name in enumerate("ABCDE")}
    by = claims(made_up(**rows)).set_index(["claim", "metric"])["by"]
    text = by["RefineFuse is the best of all fusion methods, of 5 measured", "AP"]
    assert text.startswith("E −2.0 (−5.0 to +1.0), D") and text.endswith(", and 2 more")


def test_claims_of_tables_are_shown_below_each_other():
    table = made_up(Infrared=(1, 3), Visible=(2, 4), MST=(-1, 1))
    html = show_claims({"first": table, "second": table}).to_html()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
    assert cells[1::5] == ["first", "first", "second", "second"] * 2
    assert cells[3::5] == ["holds"] * 4 + ["not shown"] * 4


def test_differences_are_shown_with_sign_interval_and_print():
    html = show_differences(made_up(Visible=(-2, 1), MST=(0.5, 1.5)), "Title").to_html()
    assert "RefineFuse − MST" in html and "Title" in html
    assert "✓ +1.0\n+0.5 to +1.5\npaper +1.0" in html
    assert "~ −0.5\n−2.0 to +1.0" in html


def test_precision_is_shown_with_interval_and_print():
    rows = [
        {"row": row, "class": ALL, "metric": "AP50", "mean": mean, "ci_low": 40.04,
         "ci_high": 60.0, "paper": paper}
        for row, mean, paper in (("MST", 50.06, 86.9), ("Visible", 49.0, np.nan))
    ]  # fmt: skip
    table = DetectionTable(pd.DataFrame(rows), pd.DataFrame(), {}, {})
    html = show_precision(table, "AP50", "Title").to_html()
    assert "50.1\n40.0 to 60.0\npaper 86.9" in html and "49.0\n40.0 to 60.0<" in html
    assert html.count("font-weight: bold") == 1 and "Title" in html
    (name,) = re.findall(r"#T_(\w+)_row0_col0 {\s*font-weight: bold", html)
    other = show_precision(table, "AP50", "Another on the same page").to_html()
    assert name not in other and "font-weight: bold" in other


def test_uncertainty_of_a_lead():
    table = made_up(Infrared=(-90, 90), MST=(-1, 3), DenseFuse=(0, 2), SeAFusion=(-3, 3))
    table = replace(table, summary=pd.DataFrame({"n": [100]}))
    shown = show_uncertainty(table, pictures=400).data
    assert list(shown.index) == ["AP50", "AP"]
    assert shown.to_numpy().tolist() == [[2, 0, 1]] * 2  # half of 4 of 2, 4, 6; sources apart


def test_boxes_of_a_table_without_boxes():
    assert boxes_of(made_up(MST=(-1, 1)), "MST", "a") == []


def test_losses_are_means_over_trainings():
    runs = pd.DataFrame({"row": ["b", "b", "b", "a"], "epoch": [1, 1, 2, 1], "block": [1, 2, 1, 1]})
    runs = runs.assign(box=[1.0, 3, 5, 7], objectness=0.0, classes=[2.0, 2, 2, 2])
    found = mean_losses(replace(made_up(), runs=runs))
    assert list(found) == ["b", "a"]
    assert found["b"][["epoch", "box", "classes"]].to_numpy().tolist() == [[1, 2, 2], [2, 5, 2]]
    with pytest.raises(FusionError, match="was not trained"):
        mean_losses(made_up())


# ---------------------------------------------------------------- recorded


def test_no_recorded_run():
    with pytest.raises(FusionError, match="no recorded run"):
        recorded("refinefuse_04_m3fd")
