"""Table 4 as it is kept and shown: the print, verdicts, cells, the recorded runs."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from fusionlib.errors import FusionError
from reproduction.detection.report import (
    ALL,
    DetectionTable,
    paper_table,
    recorded,
    show_differences,
    show_precision,
)

# ---------------------------------------------------------------- the print


def test_printed_values():
    """The printed mean is over the three printed classes, of six that M3FD has.

    To the rounding of two decimals of a mean, 0.05, and of three numbers.
    """
    table = paper_table()
    assert table.loc["RefineFuse", "map50"] == 88.4 and table.loc["Infrared", "bus_ap"] == 34.8
    assert len(table) == 13
    for end in ("", "50"):
        means = table[[f"{name}_ap{end}" for name in ("people", "car", "bus")]].mean(axis=1)
        assert (means - table[f"map{end}"]).abs().max() <= 0.1 + 1e-9


# ---------------------------------------------------------------- what is shown


def test_differences_are_shown_with_sign_interval_and_print():
    rows = [
        {"row": row, "class": ALL, "metric": metric, "difference": (low + high) / 2,
         "ci_low": low, "ci_high": high, "paper": paper, "verdict": verdict}
        for row, low, high, paper, verdict in (
            ("Visible", -2, 1, np.nan, "no difference"), ("MST", 0.5, 1.5, 1.0, "better"),
        )
        for metric in ("AP50", "AP")
    ]  # fmt: skip
    html = show_differences(DetectionTable(pd.DataFrame(), pd.DataFrame(rows), {}), "T").to_html()
    assert "RefineFuse − MST" in html and "T" in html
    assert "✓ +1.0\n+0.5 to +1.5\npaper +1.0" in html
    assert "~ −0.5\n−2.0 to +1.0" in html


def test_precision_is_shown_with_interval_and_print():
    rows = [
        {"row": row, "class": ALL, "metric": "AP50", "mean": mean, "ci_low": 40.04,
         "ci_high": 60.0, "paper": paper}
        for row, mean, paper in (("MST", 50.06, 86.9), ("Visible", 49.0, np.nan))
    ]  # fmt: skip
    table = DetectionTable(pd.DataFrame(rows), pd.DataFrame(), {})
    html = show_precision(table, "AP50", "Title").to_html()
    assert "50.1\n40.0 to 60.0\npaper 86.9" in html and "49.0\n40.0 to 60.0<" in html
    assert html.count("font-weight: bold") == 1 and "Title" in html
    (name,) = re.findall(r"#T_(\w+)_row0_col0 {\s*font-weight: bold", html)
    other = show_precision(table, "AP50", "Another on the same page").to_html()
    assert name not in other and "font-weight: bold" in other


# ---------------------------------------------------------------- recorded


def test_no_recorded_run():
    with pytest.raises(FusionError, match="no recorded run"):
        recorded("refinefuse_04_m3fd")
