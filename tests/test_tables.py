"""tables: the print is read as printed, intervals are scipy's, verdicts follow their rules."""

from __future__ import annotations

import csv
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fusionlib.datasets import package_data
from fusionlib.errors import UnknownName
from fusionlib.tables import (
    PAPER_TABLES,
    bootstrap_interval,
    compare,
    paper_values,
    show,
    summarise,
)

# ---------------------------------------------------------------- the print


@pytest.mark.parametrize("table", PAPER_TABLES)
def test_every_printed_number(table):
    """Against the file read by the standard library."""
    with open(package_data(f"paper_tables/{PAPER_TABLES[table]}"), encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    expected = {}
    for line in lines:
        row = f"{line.pop('method')} {line.pop('strategy', '').strip('-')}".strip()
        expected |= {(row, metric): float(text) for metric, text in line.items() if text}
    ours = paper_values(table)
    assert list(ours) == ["row", "metric", "paper"]
    assert ours.set_index(["row", "metric"])["paper"].to_dict() == expected


@pytest.mark.parametrize(
    ("table", "row", "metric", "printed"),
    [  # typed from the papers
        ("table_02", "Res2NetFuse_1 mean", "SSIM_a", 0.74206),
        ("table_02", "DenseFuse", "EN", 6.66296),
        ("table_03", "MSDNet", "PSNR", 52.10881),
        ("table_04_2021", "JSRSD", "MI", 13.33541),
        ("table_04_2023", "MUFusion", "SCD", 1.6934),
        ("table_04_2023", "Res2NetFuse l1_norm", "Qabf", 0.48364),
    ],
)
def test_some_printed_numbers(table, row, metric, printed):
    values = paper_values(table).set_index(["row", "metric"])["paper"]
    assert values[row, metric] == printed


def test_unknown_table():
    with pytest.raises(UnknownName, match=r"Did you mean .*'table_04_2021'"):
        paper_values("table_04_2022")


# ---------------------------------------------------------------- the interval


@pytest.mark.parametrize("seed", range(3))
def test_interval_is_scipys(seed):
    """Two independent sets of resamples estimate the same two quantiles.

    The standard error of a quantile p from n draws is sqrt(p (1 - p) / n) over the density
    there; for a normal law's 2.5 % that is 0.0267 of its deviation at n = 10,000. The
    difference of two such estimates stays below 5 sqrt(2) of it.
    """
    values = np.random.default_rng(seed).normal(3, 2, 20)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=seed + 100
    ).confidence_interval
    deviation = values.std() / np.sqrt(len(values))
    tolerance = 5 * np.sqrt(2) * 0.0267 * deviation
    ours = bootstrap_interval(values)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=tolerance)
    assert ours[0] < values.mean() < ours[1]


def test_interval_of_two_values():
    """The mean of two draws from {0, 1} is 0, 1/2 or 1, the ends with a quarter each."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_interval_properties(values, scale):
    low, high = bootstrap_interval(values, draws=500)
    slack = 1e-9 * (1 + max(map(abs, values)))  # rounding of a mean
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert bootstrap_interval(values, draws=500) == (low, high)
    scaled = bootstrap_interval(np.array(values) * scale, draws=500)
    assert scaled == pytest.approx((low * scale, high * scale), rel=1e-9, abs=10 * slack)


def test_seed_changes_the_interval():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_of_fewer_than_two(values):
    assert np.isnan(bootstrap_interval(values)).all()


# ---------------------------------------------------------------- the summary


def per_pair(**rows):
    return pd.DataFrame(
        {"row": row, "metric": "EN", "pair": str(i), "value": value}
        for row, values in rows.items()
        for i, value in enumerate(values)
    )


def test_summary():
    frame = summarise(per_pair(b=[1.0, 2.0, 6.0], a=[5.0]))
    assert list(frame) == ["row", "metric", "n", "mean", "ci_low", "ci_high"]
    assert frame[["row", "n", "mean"]].values.tolist() == [["b", 3, 3.0], ["a", 1, 5.0]]
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 2.0, 6.0])
    assert frame.loc[1, ["ci_low", "ci_high"]].isna().all()


def test_undefined_values_are_not_counted():
    frame = summarise(per_pair(a=[1.0, np.nan, 3.0], b=[np.nan]))
    assert frame[["n", "mean"]].fillna(-1).values.tolist() == [[2, 2.0], [0, -1]]
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 3.0])


def test_summary_by_other_columns():
    frame = summarise(per_pair(a=[1.0, 2.0]), by=["pair"])
    assert frame[["pair", "n", "mean"]].values.tolist() == [["0", 1, 1.0], ["1", 1, 2.0]]


def test_summary_of_nothing():
    empty = per_pair(a=[1.0]).iloc[:0]
    assert len(summarise(empty)) == 0
    assert len(compare(summarise(empty), "table_02", papers={}, comparable=True)) == 0


# ---------------------------------------------------------------- verdicts

PRINTED = 6.66296  # DenseFuse, EN, table II


def judged(mean, *, paper="DenseFuse", comparable=True):
    summary = summarise(per_pair(ours=[mean]))
    return compare(summary, "table_02", papers={"ours": paper}, comparable=comparable).iloc[0]


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (PRINTED, "exact"),
        (PRINTED + 1.9e-5, "exact"),
        (PRINTED - 1.9e-5, "exact"),
        (PRINTED + 2.1e-5, "within 2 %"),
        (PRINTED * 1.0199, "within 2 %"),
        (PRINTED * 0.9801, "within 2 %"),
        (PRINTED * 1.0201, "differs"),
        (PRINTED * 0.9799, "differs"),
        (np.nan, "differs"),
    ],
)
def test_verdict(mean, verdict):
    row = judged(mean)
    assert row["verdict"] == verdict
    assert row["paper"] == PRINTED
    assert row["difference"] == pytest.approx(mean - PRINTED, nan_ok=True)


def test_other_data_have_no_difference():
    row = judged(PRINTED, comparable=False)
    assert (row["verdict"], row["paper"]) == ("other data", PRINTED)
    assert np.isnan(row["difference"])


@pytest.mark.parametrize("paper", ["", "RefineFuse"])
@pytest.mark.parametrize("comparable", [True, False])
def test_not_in_the_paper(paper, comparable):
    row = judged(1.0, paper=paper, comparable=comparable)
    assert row["verdict"] == "not in the paper"
    assert np.isnan(row["paper"]) and np.isnan(row["difference"])


# ---------------------------------------------------------------- styling


def compared(*means, comparable=True):
    rows = {f"row {i}": [mean, mean] for i, mean in enumerate(means)}
    return compare(
        summarise(per_pair(**rows)),
        "table_02",
        papers={"row 0": "DenseFuse"},
        comparable=comparable,
    )


def marks(html):
    """Row -> mark of its mean."""
    rows = re.findall(r">(row \d)</th>(.*?)</tr>", html, re.DOTALL)
    found = {row: re.search("[①②③]", cells) for row, cells in rows}
    return {row: mark and mark.group() for row, mark in found.items()}


def test_best_three_are_marked_by_more_than_colour():
    html = show(compared(1.0, 4.0, 3.0, 2.0)).to_html()
    assert marks(html) == {"row 1": "①", "row 2": "②", "row 3": "③", "row 0": None}
    styles = re.findall(r"\{\s*(font-[^}]*)\}", html)
    assert len(styles) == 3
    assert all(re.search("font-weight: bold|font-style: italic", style) for style in styles)
    assert len({re.search(r"color: (#\w+)", style)[1] for style in styles}) == 3


def test_lower_is_better():
    html = show(compared(1.0, 4.0, 3.0, 2.0), lower_is_better=["EN"]).to_html()
    assert marks(html) == {"row 0": "①", "row 3": "②", "row 2": "③", "row 1": None}


def test_ties_share_a_mark():
    assert list(marks(show(compared(2.0, 2.0, 1.0)).to_html()).values()) == ["①", "①", "③"]


def test_undefined_mean_has_no_mark():
    html = show(compared(np.nan, 2.0)).to_html()
    assert marks(html) == {"row 0": None, "row 1": "①"}
    assert "nan" not in html


def test_html_is_the_same_every_time():
    frame = compared(1.0, 2.0)
    assert show(frame, caption="Table").to_html() == show(frame, caption="Table").to_html()


def texts(cell):
    """The lines of a cell, without their markup."""
    return [re.sub("<[^>]*>", "", line) for line in cell.split("<br>")]


def test_cells():
    frame = show(compared(6.5, 7.0), decimals=2).data
    assert list(frame.columns) == [("EN", "paper"), ("EN", "ours"), ("EN", "difference")]
    assert [texts(cell) for cell in frame.loc["row 0"]] == [
        ["6.66"],
        ["6.50 ②", "6.50 to 6.50"],
        ["−0.16", "differs"],
    ]
    assert [texts(cell) for cell in frame.loc["row 1"]] == [
        [""],
        ["7.00 ①", "7.00 to 7.00"],
        ["", "not in the paper"],
    ]


def test_other_data_in_the_caption():
    styler = show(compared(6.5, comparable=False), decimals={"EN": 1}, caption="Table II")
    assert list(styler.data.columns) == [("EN", "paper"), ("EN", "ours")]
    assert [texts(cell)[0] for cell in styler.data.loc["row 0"]] == ["6.7", "6.5 ①"]
    assert re.search("<caption>Table II .*other data", styler.to_html())


def test_orientation_is_no_verdict_on_a_reproduction():
    summary = summarise(per_pair(ours=[PRINTED], other=[PRINTED]))
    papers = {"ours": "DenseFuse", "other": "DenseFuse"}
    compared = compare(summary, "table_02", papers=papers, comparable=True, orientation=["other"])
    assert list(compared["verdict"]) == ["exact", "for orientation"]
    assert compared["difference"].notna().all()
