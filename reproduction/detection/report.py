"""Table 4 as it is kept and shown: precision with intervals, the print, differences."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.files import write_text
from fusionlib.pairs import Box

from .. import results
from ..show import show_lines
from .average_precision import DRAWS, Matches, interval, mean_over_classes

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "ALL",
    "INFRARED",
    "METRICS",
    "OURS",
    "VISIBLE",
    "DetectionTable",
    "boxes_of",
    "paper_values",
    "recorded",
    "save_table",
    "show_differences",
    "show_precision",
]

#: Name of the rows that are no fusion.
INFRARED, VISIBLE = "Infrared", "Visible"
OURS = "RefineFuse"

#: How a row's mean over the classes is called.
ALL = "all"

METRICS = ("AP50", "AP")

#: What the print calls our classes.
PRINTED = {"person": "people", "car": "car", "bus": "bus", ALL: "map"}


def paper_values() -> pd.Series:
    """Return the paper's Table 4 in percent, by row, class and metric.

    Classes are called as those of COCO; the last is `ALL`.
    """
    printed = pd.read_csv(package_data("paper_tables/refinefuse_table_04_detection.csv"))
    columns = {
        (name, metric): f"map{end}" if name == ALL else f"{theirs}_ap{end}"
        for name, theirs in PRINTED.items()
        for metric, end in (("AP50", "50"), ("AP", ""))
    }
    found = {
        (row["method"], *place): row[column]
        for row in printed.to_dict("records")
        for place, column in columns.items()
    }
    return pd.Series(found).rename_axis(["row", "class", "metric"])


@dataclass(frozen=True)
class DetectionTable:
    """A measured part of Table 4, in percent.

    Attributes
    ----------
    summary : DataFrame
        Columns row, class (the last is "all", the mean), metric ("AP50", "AP"), n (pictures),
        objects, mean, ci_low, ci_high, spread (between the random starts: the largest less the
        smallest), paper.
    differences : DataFrame
        RefineFuse less each other row: row, class, metric, difference, ci_low, ci_high, spread,
        paper, verdict.
    facts : mapping
        The provenance, with the rows that could not be measured.
    runs : DataFrame or None
        Of retraining: row, block, seed, epoch and its losses.
    boxes : DataFrame or None
        Without retraining: row, pair, class, score and corners of the boxes that one would show.
    """

    summary: pd.DataFrame
    differences: pd.DataFrame
    facts: Mapping[str, Any]
    runs: pd.DataFrame | None = None
    boxes: pd.DataFrame | None = None

    @property
    def missing(self) -> dict[str, str]:
        """Rows that could not be measured: why, and what to do."""
        return self.facts["missing"]


def save_table(
    folder: Path,
    matches: Mapping[str, Sequence[Matches]],
    truth: Mapping[str, Any],
    *,
    papers: Mapping[str, str],
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
    truth : mapping
        What is in these pictures, as of `average_precision.annotated`.
    papers : mapping of str to str
        Row -> the row of the paper's Table 4 that stands beside it, if any.
    facts, runs, boxes
        As of `DetectionTable`.
    seed : int
        Of the intervals.
    """
    printed = paper_values().to_dict()

    def print_of(row: str, name: str, metric: str) -> float:
        name = {"People": "person"}.get(name, name.lower())
        return printed.get((papers.get(row, ""), name, metric), float("nan"))

    names = [one["name"] for one in truth["categories"]]
    labels = pd.Series([names[one["category_id"] - 1] for one in truth["annotations"]])
    objects = {**labels.value_counts(), ALL: len(labels)}
    scores = {row: _scores(some, seed) for row, some in matches.items()}
    summary = [
        {"row": row, "class": name, "metric": metric}
        | {"n": len(truth["images"]), "objects": objects.get(name, 0), **one}
        | {"paper": print_of(row, name, metric)}
        for row, (values, draws) in scores.items()
        for name, metric, one in _cells(values, draws, names)
    ]
    differences = [
        {"row": row, "class": name, "metric": metric, "difference": one.pop("mean"), **one}
        | {"paper": print_of(OURS, name, metric) - print_of(row, name, metric)}
        | {"verdict": _verdict(one["ci_low"], one["ci_high"])}
        for row, (values, draws) in scores.items()
        if row != OURS and OURS in scores
        for name, metric, one in _cells(scores[OURS][0] - values, scores[OURS][1] - draws, names)
    ]
    apart = pd.DataFrame(differences, columns=DIFFERENCES)
    table = DetectionTable(pd.DataFrame(summary), apart, facts, runs, boxes)
    # A column called "paper" would make it a table with verdicts on differences from the print.
    results.save(folder, summary=table.summary.rename(columns={"paper": "printed"}), facts=facts)
    for name, frame in (("differences", apart), ("runs", runs), ("boxes", boxes)):
        if frame is not None:
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.8g"))
    return table


DIFFERENCES = [
    *("row", "class", "metric", "difference", "ci_low", "ci_high", "spread", "paper", "verdict")
]


def _scores(matches: Sequence[Matches], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return AP in percent: of each seed; and of resampled pictures, the mean of the seeds."""
    values = np.stack([one.average_precision() for one in matches])
    draws = np.mean([mean_over_classes(one.bootstrap(DRAWS, seed)) for one in matches], axis=0)
    return 100 * mean_over_classes(values), 100 * draws


def _cells(
    values: np.ndarray, draws: np.ndarray, names: Sequence[str]
) -> list[tuple[str, str, dict[str, float]]]:
    """List classes and metrics, and of each the mean, its interval and the spread of the seeds."""
    low, high = interval(draws)
    numbers = {"mean": values.mean(0), "ci_low": low, "ci_high": high, "spread": np.ptp(values, 0)}
    return [
        (name, metric, {key: float(number[c, m]) for key, number in numbers.items()})
        for c, name in enumerate((*names, ALL))
        for m, metric in enumerate(METRICS)
    ]


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return ""
    return "better" if low > 0 else "worse" if high < 0 else "no difference"


def recorded(table: str) -> DetectionTable:
    """Return a part of Table 4 as the committed run of profile "paper" measured it.

    "refinefuse_04", "refinefuse_04_pretrained" or "refinefuse_04_scenes". Raises FusionError if
    its results are not there: they are part of the repository, not of the package.
    """
    names = ("summary", "differences", "runs", "boxes")
    (summary, differences, runs, boxes), facts = results.read_recorded(table, *names, only="11")
    assert summary is not None and differences is not None  # every part of Table 4 has both
    summary = summary.rename(columns={"printed": "paper"})
    return DetectionTable(summary, differences, facts, runs, boxes)


# ---------------------------------------------------------------- showing

#: Sign of a verdict in a table.
SIGNS = {"better": "✓", "worse": "✗", "no difference": "~", "": ""}


def show_precision(table: DetectionTable, metric: str, caption: str = "") -> Styler:
    """Style "AP50" or "AP": a column per class, intervals below, the best of each bold."""
    part = table.summary[table.summary["metric"] == metric]
    columns = {str(name): some.set_index("row") for name, some in part.groupby("class", sort=False)}
    cells = {
        name: [_cell(one, one["mean"], "{:.1f}".format) for one in some.to_dict("records")]
        for name, some in columns.items()
    }
    means = pd.DataFrame({name: some["mean"].round(1) for name, some in columns.items()})
    best = means.eq(means.max()).reindex(list(dict.fromkeys(part["row"])))
    styler = show_lines(cells, list(best.index), caption)
    return styler.apply(lambda _: best.map({True: "font-weight: bold", False: ""}.get), axis=None)


def show_differences(table: DetectionTable, caption: str = "") -> Styler:
    """Style what RefineFuse's mean over the classes is above or below each other row's."""
    part = table.differences[table.differences["class"] == ALL]
    cells = {
        metric: [
            f"{SIGNS[one['verdict']]} {_cell(one, one['difference'], _signed)}"
            for one in part[part["metric"] == metric].to_dict("records")
        ]
        for metric in METRICS
    }
    rows = [f"{OURS} − {row}" for row in dict.fromkeys(part["row"])]
    return show_lines(cells, rows, caption)


def _cell(one: Mapping[Hashable, Any], value: float, text: Callable[[float], str]) -> str:
    lines = [text(value), f"{text(one['ci_low'])} to {text(one['ci_high'])}"]
    if not pd.isna(one["paper"]):
        lines.append(f"paper {text(one['paper'])}")
    return "\n".join(lines)


def _signed(value: float) -> str:
    # An end of an interval that is not 0 does not read as 0.
    digits = 2 if abs(value) < 0.05 else 1
    return f"{value:+.{digits}f}".replace("-", "−")


def boxes_of(table: DetectionTable, row: str, pair: str) -> list[Box]:
    """Return the boxes that one would show of a pair's picture, for `figures.picture_wall`."""
    if table.boxes is None:
        return []
    some = table.boxes[(table.boxes["row"] == row) & (table.boxes["pair"] == pair)]
    corners = some[["x0", "y0", "x1", "y1"]].to_numpy()
    return [Box(name, *c) for name, c in zip(some["class"], corners.tolist(), strict=True)]
