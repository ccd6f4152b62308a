"""Our means beside the papers': difference, verdict and rank."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from fusionlib.metrics import METRICS

from .papers import paper_values, printed_decimals

__all__ = ["CLOSE", "PRINT_TOLERANCE", "SYMBOLS", "compare", "rank"]

# Means over 20 images, five decimals, from the authors' MATLAB: those of the same pictures lie
# up to 1.1e-5 from ours (Table II, EN of DenseFuse).
PRINT_TOLERANCE = 2e-5
CLOSE = 0.02
#: Verdict on a value beside the print -> its sign.
SYMBOLS = {"exact": "✓", "within 2 %": "≈", "differs": "≠", "for orientation": "○"}


def compare(
    summary: pd.DataFrame,
    table: str,
    *,
    papers: Mapping[str, str],
    comparable: bool,
    orientation: Collection[str] = (),
) -> pd.DataFrame:
    """Put the paper's values of a table beside ours and judge the difference.

    `summary` is from `fusionlib.evaluation.summarise`, `papers` our row -> the paper's row, if it
    has one. No difference is given unless ours is `comparable`: measured on the paper's images, or
    a sample of the same data set. Rows for `orientation` are no reproduction of the paper's row.

    Returns
    -------
    DataFrame
        The summary with paper, difference, verdict and paper_rank (1 to 3 for the best three
        values of the paper's own column, else 0). A verdict is "exact" (rounded as printed,
        within 2e-5: two units of Res2NetFuse's last digit, equal digits of RefineFuse's four;
        and within 0.1 %), "within 2 %", "differs", "for orientation", "other data" or "not in
        the paper".
    """
    paper = paper_values(table)
    decimals = printed_decimals(paper["paper"])
    paper["paper_rank"] = paper.groupby("metric")["paper"].transform(lambda v: rank(v, str(v.name)))
    frame = summary.assign(beside=summary["row"].map(dict(papers)))
    paper = paper.rename(columns={"row": "beside"})
    frame = frame.merge(paper, "left", on=["beside", "metric"]).drop(columns="beside")
    frame["difference"] = (frame["mean"] - frame["paper"]) if comparable else np.nan
    frame["verdict"] = [
        _verdict(mean, value, decimals) if comparable or np.isnan(value) else "other data"
        for mean, value in zip(frame["mean"], frame["paper"], strict=True)
    ]
    if comparable:
        other = frame["row"].isin(list(orientation)) & frame["paper"].notna()
        frame.loc[other, "verdict"] = "for orientation"
    return frame.assign(paper_rank=frame.pop("paper_rank").fillna(0).astype(int))


def _verdict(mean: float, printed: float, decimals: int) -> str:
    if np.isnan(printed):
        return "not in the paper"
    # Both as printed. Where a print has few digits of a small value it tells little, so the
    # mean itself must be near it too. 1e-9: for the rounding of the difference.
    as_printed = abs(round(mean, decimals) - printed) <= PRINT_TOLERANCE + 1e-9
    if as_printed and abs(mean - printed) <= 1e-3 * abs(printed):
        return "exact"
    return "within 2 %" if abs(mean / printed - 1) <= CLOSE else "differs"


def rank(values: pd.Series, metric: str) -> pd.Series:
    """Return 1 to 3 for the best three, ties sharing the better one, and 0 for the others.

    The registry says which end is best; of a metric that is not there (a label may end in
    ":convention") nothing is best.
    """
    known = METRICS.get(metric.partition(":")[0])
    if known is None:
        return pd.Series(0, values.index)
    ranks = values.rank(ascending=not known.higher_is_better, method="min")
    return ranks.where(ranks <= 3, 0).astype(int)
