"""Table 4 as it is kept and shown: precision with intervals, the print, differences, claims."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.errors import FusionError
from fusionlib.files import write_text
from fusionlib.pairs import Box

from .. import results
from ..show import show_lines
from .average_precision import DRAWS, Matches, Truth, interval, mean_over_classes

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "ALL",
    "INFRARED",
    "LOSSES",
    "METRICS",
    "OURS",
    "VISIBLE",
    "DetectionTable",
    "boxes_of",
    "claims",
    "mean_losses",
    "paper_values",
    "recorded",
    "save_table",
    "show_claims",
    "show_differences",
    "show_precision",
    "show_uncertainty",
]

#: Name of the rows that are no fusion.
INFRARED, VISIBLE = "Infrared", "Visible"
OURS = "RefineFuse"

#: How a row's mean over the classes is called.
ALL = "all"

METRICS = ("AP50", "AP")

#: The parts of a detector's loss.
LOSSES = ("box", "objectness", "classes")


def paper_values() -> pd.DataFrame:
    """Return the paper's Table 4, tidy: row, class, metric ("AP50" or "AP"), paper, in percent.

    The last class is `ALL`. Classes are called as those of COCO.
    """
    printed = pd.read_csv(package_data("paper_tables/refinefuse_table_04_detection.csv"))
    columns = {
        f"{theirs}_{end}": (ours, metric)
        for theirs, ours in (("people", "person"), ("car", "car"), ("bus", "bus"))
        for end, metric in (("ap50", "AP50"), ("ap", "AP"))
    } | {"map50": (ALL, "AP50"), "map": (ALL, "AP")}
    tidy = printed.melt("method", var_name="column", value_name="paper")
    pairs = [columns[name] for name in tidy["column"]]
    return pd.DataFrame(
        {
            "row": tidy["method"],
            "class": [label for label, _ in pairs],
            "metric": [metric for _, metric in pairs],
            "paper": tidy["paper"],
        }
    )


@dataclass(frozen=True)
class DetectionTable:
    """A measured part of Table 4.

    Attributes
    ----------
    summary : DataFrame
        Columns row, class (the last is "all", the mean), metric ("AP50", "AP"), n (pictures),
        objects, mean, ci_low, ci_high, in percent, spread (between the random starts: the largest
        less the smallest), paper.
    differences : DataFrame
        RefineFuse less each other row: row, class, metric, difference, ci_low, ci_high, spread,
        paper, verdict.
    missing : mapping of str to str
        Row that could not be measured -> why, and what to do.
    facts : mapping
        The provenance.
    runs : DataFrame or None
        Of retraining: row, block, seed, epoch and its losses.
    boxes : DataFrame or None
        Without retraining: row, pair, class, score and corners of the boxes that one would show.
    """

    summary: pd.DataFrame
    differences: pd.DataFrame
    missing: Mapping[str, str]
    facts: Mapping[str, Any]
    runs: pd.DataFrame | None = None
    boxes: pd.DataFrame | None = None


def save_table(
    folder: Path,
    matches: Mapping[str, Sequence[Matches]],
    truths: Mapping[str, Truth],
    *,
    papers: Mapping[str, str],
    missing: Mapping[str, str],
    facts: Mapping[str, Any],
    seed: int,
    runs: pd.DataFrame | None = None,
    boxes: pd.DataFrame | None = None,
) -> DetectionTable:
    """Compute precision with intervals, set the print beside it and save both.

    Parameters
    ----------
    folder : Path
    matches : mapping of str to sequence of Matches
        Row -> what its detectors found in the same pictures, one per seed of training.
    truths : mapping of str to Truth
        What is in these pictures.
    papers : mapping of str to str
        Row -> the row of the paper's Table 4 that stands beside it, if any.
    missing : mapping of str to str
        Row that could not be measured -> why, and what to do.
    facts : mapping
        The provenance.
    seed : int
        Of the intervals.
    runs, boxes : DataFrame, optional
        As of `DetectionTable`.

    Raises
    ------
    FusionError
        If a file cannot be written.
    """
    scores = {label: _score(some, seed) for label, some in matches.items()}
    names = (*next(iter(matches.values()))[0].names, ALL)
    counts = pd.Series([box.label for one in truths.values() for box in one.boxes]).value_counts()
    printed = _Printed(papers)
    summary = [
        {"row": label, "class": name, "metric": metric}
        | {"n": len(truths), "objects": int(counts.sum() if name == ALL else counts.get(name, 0))}
        | score.at(c, m)
        | {"paper": printed.value(label, name, metric)}
        for label, score in scores.items()
        for c, name in enumerate(names)
        for m, metric in enumerate(METRICS)
    ]
    differences = [
        {"row": label, "class": name, "metric": metric}
        | scores[OURS].less(score).at(c, m)
        | {"paper": printed.value(OURS, name, metric) - printed.value(label, name, metric)}
        for label, score in scores.items()
        for c, name in enumerate(names)
        for m, metric in enumerate(METRICS)
        if label != OURS and OURS in scores
    ]
    apart = pd.DataFrame(differences, columns=_DIFFERENCES[:-1])
    apart["verdict"] = [
        _verdict(low, high) for low, high in zip(apart["ci_low"], apart["ci_high"], strict=True)
    ]
    apart = apart.rename(columns={"mean": "difference"})
    facts = {**facts, "missing": dict(missing)}
    table = DetectionTable(pd.DataFrame(summary), apart, missing, facts, runs, boxes)
    # A column called "paper" would make it a table with verdicts on differences from the print.
    plain = table.summary.rename(columns={"paper": "printed"})
    results.save(folder, summary=plain, facts=table.facts)
    write_text(folder / "differences.csv", apart.to_csv(index=False, float_format="%.8g"))
    for name, frame in (("runs", runs), ("boxes", boxes)):
        if frame is not None:
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.8g"))
    return table


#: Columns of differences as they are computed.
_DIFFERENCES = ["row", "class", "metric", "mean", "ci_low", "ci_high", "spread", "paper", "verdict"]


class _Score(NamedTuple):
    """Average precision in percent: per seed (seeds, classes, 2) and of resampled pictures."""

    values: np.ndarray
    draws: np.ndarray

    def less(self, other: _Score) -> _Score:
        """Subtract, for the same seeds and the same pictures."""
        return _Score(self.values - other.values, self.draws - other.draws)

    def at(self, place: int, metric: int) -> dict[str, float]:
        values = self.values[:, place, metric]
        low, high = interval(self.draws[:, place, metric])
        return {
            "mean": float(values.mean()),
            "ci_low": float(low),
            "ci_high": float(high),
            "spread": float(np.ptp(values)),
        }


def _score(matches: Sequence[Matches], seed: int) -> _Score:
    """Compute precision; that of resampled pictures is the mean over the seeds of training."""
    values = np.stack([one.average_precision() for one in matches])
    draws = np.mean([mean_over_classes(one.bootstrap(DRAWS, seed)) for one in matches], axis=0)
    return _Score(100 * mean_over_classes(values), 100 * draws)


class _Printed:
    """The paper's values for our rows; NaN where it has none."""

    def __init__(self, papers: Mapping[str, str]) -> None:
        self._papers = papers
        self._values = paper_values().set_index(["row", "class", "metric"])["paper"].to_dict()

    def value(self, label: str, name: str, metric: str) -> float:
        name = {"People": "person"}.get(name, name.lower())
        return self._values.get((self._papers.get(label, ""), name, metric), float("nan"))


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return ""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference"


def recorded(table: str) -> DetectionTable:
    """Return a part of Table 4 as the committed run of profile "paper" measured it.

    Parameters
    ----------
    table : {"refinefuse_04", "refinefuse_04_pretrained", "refinefuse_04_scenes"}

    Raises
    ------
    FusionError
        If its results are not there: they are part of the repository, not of the package.
    """
    names = ("summary", "differences", "runs", "boxes")
    (summary, differences, runs, boxes), facts = results.read_recorded(table, *names, only="11")
    assert summary is not None and differences is not None  # every part of Table 4 has both
    summary = summary.rename(columns={"printed": "paper"})
    return DetectionTable(summary, differences, facts["missing"], facts, runs, boxes)


# ---------------------------------------------------------------- showing

#: Sign of a verdict in a table.
SIGNS = {"better": "✓", "worse": "✗", "no difference": "~", "": ""}


def show_precision(table: DetectionTable, metric: str, caption: str = "") -> Styler:
    """Style average precision: a column per class, intervals below, the best of each bold.

    Parameters
    ----------
    table : DetectionTable
    metric : {"AP50", "AP"}
    caption : str
        Shown above the table.
    """
    part = table.summary[table.summary["metric"] == metric]
    columns = {str(name): some.set_index("row") for name, some in part.groupby("class", sort=False)}
    cells = {
        name: [_precision_cell(one) for one in some.to_dict("records")]
        for name, some in columns.items()
    }
    means = pd.DataFrame({name: some["mean"].round(1) for name, some in columns.items()})
    best = means.eq(means.max()).reindex(list(dict.fromkeys(part["row"])))
    styler = show_lines(cells, list(best.index), caption)
    return styler.apply(lambda _: best.map({True: "font-weight: bold", False: ""}.get), axis=None)


def _precision_cell(one: Mapping[Hashable, Any]) -> str:
    lines = [f"{one['mean']:.1f}", f"{one['ci_low']:.1f} to {one['ci_high']:.1f}"]
    if not pd.isna(one["paper"]):
        lines.append(f"paper {one['paper']:.1f}")
    return "\n".join(lines)


def show_differences(table: DetectionTable, caption: str = "") -> Styler:
    """Style what RefineFuse's mean over the classes is above or below each other row's."""
    part = table.differences[table.differences["class"] == ALL]
    cells = {
        metric: [_difference_cell(one) for one in part[part["metric"] == metric].to_dict("records")]
        for metric in METRICS
    }
    rows = [f"{OURS} − {row}" for row in dict.fromkeys(part["row"])]
    return show_lines(cells, rows, caption)


def _difference_cell(one: Mapping[Hashable, Any]) -> str:
    lines = [
        f"{SIGNS[one['verdict']]} {_signed(one['difference'])}",
        f"{_signed(one['ci_low'])} to {_signed(one['ci_high'])}",
    ]
    if not pd.isna(one["paper"]):
        lines.append(f"paper {_signed(one['paper'])}")
    return "\n".join(lines)


def _signed(value: float) -> str:
    # An end of an interval that is not 0 does not read as 0.
    digits = 2 if abs(value) < 0.05 else 1
    return f"{value:+.{digits}f}".replace("-", "−")


def claims(table: DetectionTable) -> pd.DataFrame:
    """Judge what the paper says of Table 4, by the intervals of the mean over the classes.

    Returns
    -------
    DataFrame
        Columns claim, metric, verdict: "holds" if RefineFuse is better than every row that the
        claim names and no interval holds 0; "refuted" if it is worse than one of them; else
        "not shown"; "not measured" if one of them is not there; and by, the rows that decide,
        with RefineFuse's difference from each and its interval.
    """
    part = table.differences[table.differences["class"] == ALL]
    fusions = [row for row in dict.fromkeys(part["row"]) if row not in (INFRARED, VISIBLE)]
    named = {
        "detection improves with RefineFuse, over infrared and visible": [INFRARED, VISIBLE],
        f"RefineFuse is the best of all fusion methods, of {len(fusions)} measured": fusions,
    }
    found = []
    for claim, rows in named.items():
        for metric in METRICS:
            judged = part[(part["metric"] == metric) & part["row"].isin(rows)]
            verdicts = {*judged["verdict"]}
            if not rows or len(judged) < len(rows):
                verdict, decides = "not measured", ""
            elif verdicts == {"better"}:
                verdict, decides = "holds", "better"
            elif "worse" in verdicts:
                verdict, decides = "refuted", "worse"
            else:
                verdict, decides = "not shown", "no difference"
            by = _decisive(judged[judged["verdict"] == decides])
            found.append({"claim": claim, "metric": metric, "verdict": verdict, "by": by})
    return pd.DataFrame(found)


#: How many rows a claim names that decide about it.
_NAMED = 3


def _decisive(rows: pd.DataFrame) -> str:
    """Name rows with difference and interval, those that speak most against the claim first."""
    some = rows.sort_values("difference", kind="stable").to_dict("records")
    texts = [
        f"{one['row']} {_signed(one['difference'])} "
        f"({_signed(one['ci_low'])} to {_signed(one['ci_high'])})"
        for one in some[:_NAMED]
    ]
    if len(some) > _NAMED:
        texts.append(f"and {len(some) - _NAMED} more")
    return ", ".join(texts)


def show_claims(tables: Mapping[str, DetectionTable]) -> Styler:
    """Style the verdicts on the paper's claims, those of several tables below each other.

    Parameters
    ----------
    tables : mapping of str to DetectionTable
        What was measured, such as "fine-tuned" -> table.
    """
    judged = [claims(table).assign(detector=name) for name, table in tables.items()]
    every = pd.concat(judged)[["claim", "detector", "metric", "verdict", "by"]]
    shown = pd.concat([some for _, some in every.groupby("claim", sort=False)], ignore_index=True)
    left = {"selector": "th, td", "props": "text-align: left"}
    return shown.style.hide(axis="index").set_table_styles([left]).set_uuid("claims")  # type: ignore[list-item]


def show_uncertainty(table: DetectionTable, pictures: int) -> Styler:
    """Style how uncertain RefineFuse's lead over another fusion method is, the median over them.

    Parameters
    ----------
    table : DetectionTable
    pictures : int
        The last column is the interval that so many pictures would give, which shrinks with the
        square root of their number.
    """
    apart = table.differences
    apart = apart[(apart["class"] == ALL) & ~apart["row"].isin([INFRARED, VISIBLE])]
    half = (apart["ci_high"] - apart["ci_low"]) / 2
    measured = table.summary["n"].iloc[0]
    shown = pd.DataFrame(
        {
            "metric": apart["metric"],
            "± of a difference": half,
            "its spread between seeds": apart["spread"],
            f"±, if there were {pictures} pictures": half * (measured / pictures) ** 0.5,
        }
    )
    medians = shown.groupby("metric", sort=False).median().rename_axis(None)
    return medians.style.format("{:.1f}").set_uuid("uncertainty")


def mean_losses(table: DetectionTable) -> dict[str, pd.DataFrame]:
    """Return the losses over epochs by row, the mean over a row's trainings, for `loss_curves`.

    Raises
    ------
    FusionError
        If the table's detector was not trained.
    """
    if table.runs is None:
        raise FusionError("this table's detector was not trained: it has no losses")
    losses = table.runs.groupby(["row", "epoch"], as_index=False, sort=False)[[*LOSSES]].mean()
    return {str(row): some for row, some in losses.groupby("row", sort=False)}


def boxes_of(table: DetectionTable, row: str, pair: str) -> list[Box]:
    """Return the boxes that one would show of a pair's picture, for `figures.picture_wall`."""
    if table.boxes is None:
        return []
    some = table.boxes[(table.boxes["row"] == row) & (table.boxes["pair"] == pair)]
    corners = some[["x0", "y0", "x1", "y1"]].to_numpy()
    return [Box(name, *c) for name, c in zip(some["class"], corners.tolist(), strict=True)]
