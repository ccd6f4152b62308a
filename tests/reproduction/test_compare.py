"""compare: verdicts follow their rules, ranks are the print's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fusionlib.evaluation import summarise
from reproduction.compare import compare, rank

PRINTED = 6.66296  # DenseFuse, EN, table II


def summary(metric="EN", **rows):
    """Every row once measured."""
    return summarise(
        pd.DataFrame(
            {"row": row, "metric": metric, "pair": "0", "value": [value]}
            for row, value in rows.items()
        ).explode("value")
    )


def judged(mean, *, paper="DenseFuse", comparable=True):
    papers = {"ours": paper}
    return compare(summary(ours=mean), "table_02", papers=papers, comparable=comparable).iloc[0]


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (PRINTED, "exact"),
        (PRINTED + 1.9e-5, "exact"),
        (PRINTED - 1.9e-5, "exact"),
        (PRINTED + 2.4e-5, "exact"),  # rounds to two units more
        (PRINTED + 2.6e-5, "within 2 %"),
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


@pytest.mark.parametrize(
    ("table", "row", "metric", "mean", "verdict"),
    [  # 1.0554 and 0.72 are printed
        ("refinefuse_01", "RefineFuse", "VIF", 1.0554 + 4.9e-5, "exact"),
        ("refinefuse_01", "RefineFuse", "VIF", 1.0554 - 4.9e-5, "exact"),
        ("refinefuse_01", "RefineFuse", "VIF", 1.0554 + 5.1e-5, "within 2 %"),
        # Two decimals allow 0.005, but 0.1 % of the value is less.
        ("refinefuse_09", "Ours", "Qabf", 0.7207, "exact"),
        ("refinefuse_09", "Ours", "Qabf", 0.7208, "within 2 %"),
    ],
)
def test_tolerance_follows_the_printed_decimals(table, row, metric, mean, verdict):
    found = compare(summary(metric, ours=mean), table, papers={"ours": row}, comparable=True)
    assert [*found["verdict"]] == [verdict]


@pytest.mark.parametrize(
    ("table", "metric", "ranks"),
    [  # JSRSD is third, which is no row of ours
        ("table_04_2021", "EN",
         {"Res2NetFuse l1_norm": 1, "Res2NetFuse mean": 2, "DenseFuse": 0, "": 0}),
        # The smallest error is best; the two that print 0.99560 are both third.
        ("table_03", "MSE", {"MSDNet": 1, "Res2NetFuse_80000": 2, "DenseFuse": 3,
                             "Res2NetFuse_1": 0}),
        ("table_03", "SSIM", {"MSDNet": 1, "Res2NetFuse_80000": 2, "DenseFuse": 3,
                              "Res2NetFuse_1": 3}),
    ],
)  # fmt: skip
def test_best_three_of_the_paper(table, metric, ranks):
    ours = summary(metric, **{f"our {paper}": 1.0 for paper in ranks})
    papers = {f"our {paper}": paper for paper in ranks}
    frame = compare(ours, table, papers=papers, comparable=False)
    assert dict(zip(ranks, frame["paper_rank"], strict=True)) == ranks


@pytest.mark.parametrize("paper", ["", "RefineFuse"])
@pytest.mark.parametrize("comparable", [True, False])
def test_not_in_the_paper(paper, comparable):
    row = judged(1.0, paper=paper, comparable=comparable)
    assert row["verdict"] == "not in the paper"
    assert np.isnan(row["paper"]) and np.isnan(row["difference"])
    other = judged(PRINTED, comparable=False)
    assert (other["verdict"], other["paper"]) == ("other data", PRINTED)
    assert np.isnan(other["difference"])


@pytest.mark.parametrize(
    ("metric", "verdicts"),
    [("EN", ["exact", "for orientation"]), ("MI:standard", ["not in the paper"] * 2)],
)
def test_orientation_is_no_verdict_on_a_reproduction(metric, verdicts):
    """And none on what the paper does not print."""
    papers = {"ours": "DenseFuse", "other": "DenseFuse"}
    ours = summary(metric, ours=PRINTED, other=PRINTED)
    compared = compare(ours, "table_02", papers=papers, comparable=True, orientation=["other"])
    assert list(compared["verdict"]) == verdicts
    assert compared["difference"].notna().all() == (metric == "EN")


def test_rows_keep_their_order_and_their_columns():
    ours = summary(b=1.0, a=2.0)
    compared = compare(ours, "table_02", papers={"a": "DenseFuse"}, comparable=True)
    added = ["paper", "difference", "verdict", "paper_rank"]
    assert list(compared) == [*ours, *added] and compared[list(ours)].equals(ours)
    assert list(compare(ours[:0], "table_02", papers={}, comparable=True)) == list(compared)


@pytest.mark.parametrize(
    ("metric", "values", "ranks"),
    [
        ("EN", [1.0, 4.0, 3.0, 2.0], [0, 1, 2, 3]),
        ("EN:li", [1.0, 2.0], [2, 1]),  # a convention in the label
        ("MSE", [1.0, 4.0, 3.0, 2.0], [1, 0, 3, 2]),  # lower is better
        ("EN", [2.0, 2.0, 1.0, np.nan], [1, 1, 3, 0]),
        ("seconds", [1.0, 2.0], [0, 0]),  # an unknown metric has no best
    ],
)
def test_best_three(metric, values, ranks):
    assert list(rank(pd.Series(values), metric)) == ranks
