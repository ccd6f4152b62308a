"""The papers' tables beside ours: paper values, means with intervals, verdicts, styling."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .datasets import package_data
from .errors import unknown

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = ["PAPER_TABLES", "bootstrap_interval", "compare", "paper_values", "show", "summarise"]

#: Table name -> file with its printed values.
PAPER_TABLES = {
    "table_02": "res2netfuse_table_02_training_strategy.csv",
    "table_03": "res2netfuse_table_03_reconstruction.csv",
    "table_04_2021": "res2netfuse_table_04_2021.csv",
    "table_04_2023": "res2netfuse_table_04_2023.csv",
}

# Five printed decimals, summed over 20 images in the authors' MATLAB.
PRINT_TOLERANCE = 2e-5
CLOSE = 0.02
# Best, second, third: a mark and a weight besides the colour, which are those of Okabe and Ito.
RANKS = (
    ("①", "font-weight: bold; color: #9d4400"),
    ("②", "font-weight: bold; color: #00567d"),
    ("③", "font-style: italic; color: #006b4d"),
)


def paper_values(table: str) -> pd.DataFrame:
    """Return a paper's table, tidy: columns row (the printed method and strategy), metric, paper.

    Raises
    ------
    UnknownName
        If there is no such table.
    """
    if table not in PAPER_TABLES:
        raise unknown("paper table", table, PAPER_TABLES)
    frame = pd.read_csv(package_data(f"paper_tables/{PAPER_TABLES[table]}"))
    strategy = frame.pop("strategy") if "strategy" in frame else pd.Series("", frame.index)
    method = frame.pop("method")
    frame.insert(0, "row", (method + " " + strategy.fillna("").replace("-", "")).str.strip())
    return frame.melt("row", var_name="metric", value_name="paper").dropna(ignore_index=True)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : sequence of float
        One value per image.
    draws : int
        Resamples.
    seed : int
        Of the resampling, so that the same values give the same interval.

    Returns
    -------
    (float, float)
        NaN, NaN for fewer than two values.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def summarise(per_pair: pd.DataFrame, by: Sequence[str] = ("row", "metric")) -> pd.DataFrame:
    """Reduce one value per pair to n, mean, ci_low and ci_high (95 % bootstrap).

    A metric that is not defined for a pair (NaN) is left out, and n does not count it.

    Parameters
    ----------
    per_pair : DataFrame
        With the columns `by` and ``value``.
    by : sequence of str
        What identifies a cell of the table; the order of appearance is kept.
    """
    rows = []
    for key, group in per_pair.groupby(list(by), sort=False):
        values = group["value"].dropna()
        low, high = bootstrap_interval(values.to_numpy())
        rows.append(
            dict(zip(by, key, strict=True))
            | {"n": len(values), "mean": values.mean(), "ci_low": low, "ci_high": high}
        )
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "ci_low", "ci_high"])


def compare(
    summary: pd.DataFrame,
    table: str,
    *,
    papers: Mapping[str, str],
    comparable: bool,
    orientation: Collection[str] = (),
) -> pd.DataFrame:
    """Put the paper's values beside ours and judge the difference.

    Parameters
    ----------
    summary : DataFrame
        From `summarise`.
    table : str
        A key of `PAPER_TABLES`.
    papers : mapping of str to str
        Our row -> the paper's row. Rows without a partner keep an empty paper value.
    comparable : bool
        Whether ours was measured on the paper's images, or a sample of the same data set.
        If not, no difference is given.
    orientation : collection of str
        Rows of ours that are no reproduction of the paper's row beside them.

    Returns
    -------
    DataFrame
        The summary with paper, difference and verdict: "exact" (within 2e-5, the
        printed precision, and within 0.1 %), "within 2 %", "differs", "for orientation",
        "other data" or "not in the paper".
    """
    paper = paper_values(table).set_index(["row", "metric"])["paper"]
    keys = [(papers.get(row, ""), metric) for row, metric in summary[["row", "metric"]].to_numpy()]
    frame = summary.copy()
    frame["paper"] = [paper.get(key, np.nan) for key in keys]
    frame["difference"] = (frame["mean"] - frame["paper"]) if comparable else np.nan
    frame["verdict"] = [
        _verdict(mean, printed, comparable)
        for mean, printed in zip(frame["mean"], frame["paper"], strict=True)
    ]
    if comparable:
        frame.loc[frame["row"].isin(list(orientation)), "verdict"] = "for orientation"
    return frame


def _verdict(mean: float, printed: float, comparable: bool) -> str:
    if np.isnan(printed):
        return "not in the paper"
    if not comparable:
        return "other data"
    # Of a value as small as the last printed digit the print tells nothing.
    if abs(mean - printed) <= min(PRINT_TOLERANCE, 1e-3 * abs(printed)):
        return "exact"
    return "within 2 %" if abs(mean / printed - 1) <= CLOSE else "differs"


def show(
    compared: pd.DataFrame,
    *,
    decimals: int | Mapping[str, int] = 5,
    lower_is_better: Sequence[str] = (),
    caption: str = "",
) -> Styler:
    """Style a compared table for a notebook: per metric the paper, ours and the difference.

    Below each mean stands its 95 % interval, below each difference the verdict. The best
    three means of a column are marked by a digit, weight and colour.

    Parameters
    ----------
    compared : DataFrame
        From `compare`.
    decimals : int or mapping
        Digits after the point, also per metric.
    lower_is_better : sequence of str
        Metrics whose smallest value is best.
    caption : str
        Shown above the table.
    """
    metrics = list(dict.fromkeys(compared["metric"]))
    order = list(dict.fromkeys(compared["row"]))
    comparable = compared["difference"].notna().any()
    cells: dict[tuple[str, str], list[str]] = {}
    styles: dict[tuple[str, str], list[str]] = {}
    for metric in metrics:
        digits = decimals if isinstance(decimals, int) else decimals[metric]
        part = compared[compared["metric"] == metric].set_index("row").reindex(order)
        ranks = part["mean"].rank(ascending=metric in lower_is_better, method="min")
        marks = [RANKS[int(r) - 1] if r <= len(RANKS) else ("", "") for r in ranks.fillna(99)]
        cells[metric, "paper"] = [_number(v, digits) for v in part["paper"]]
        cells[metric, "ours"] = [
            f"{_number(mean, digits)} {mark}{_interval(low, high, digits)}"
            for mean, (mark, _), low, high in zip(
                part["mean"], marks, part["ci_low"], part["ci_high"], strict=True
            )
        ]
        styles[metric, "ours"] = [style for _, style in marks]
        if comparable:
            cells[metric, "difference"] = [
                f"{_number(v, digits, sign=True)}{_small(verdict)}"
                for v, verdict in zip(part["difference"], part["verdict"].fillna(""), strict=True)
            ]
    wide = pd.DataFrame(cells, index=pd.Index(order, name=""))
    colours = pd.DataFrame("", index=wide.index, columns=wide.columns)
    for column, values in styles.items():
        colours[column] = values
    if not comparable:
        caption += " (other data than the paper's, so no differences)"
    styler = wide.style.apply(lambda _: colours, axis=None).set_caption(caption)
    # A fixed identifier, since a random one would change the notebook at every run.
    styler.set_uuid("fusionlib").set_table_styles(
        [
            {"selector": "th, td", "props": "text-align: right; padding: 0.2em 0.6em"},
            {"selector": "th.col_heading.level0", "props": "text-align: center"},
            {"selector": "th.row_heading", "props": "text-align: left; white-space: nowrap"},
            {"selector": "td", "props": "white-space: nowrap; font-variant-numeric: tabular-nums"},
            {"selector": "caption", "props": "text-align: left; font-weight: bold"},
        ]
    )
    return styler


def _interval(low: float, high: float, digits: int) -> str:
    if np.isnan(low):
        return ""
    return _small(f"{_number(low, digits)} to {_number(high, digits)}")


def _small(text: str) -> str:
    return f"<br><small style='color: #555; font-weight: normal'>{text}</small>" if text else ""


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")
