"""Table 4 as it is kept and shown: precision with intervals, the print, differences."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
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

#: Rows that are no fusion, and ours; and how a row's mean over the classes is called.
INFRARED, VISIBLE, OURS, ALL = "Infrared", "Visible", "RefineFuse", "all"

METRICS = ("AP50", "AP")

#: Columns of the print by class, without the "50" of AP50.
PRINTED = {
    "person": "people_ap",
    "people": "people_ap",
    "car": "car_ap",
    "bus": "bus_ap",
    ALL: "map",
}


def paper_table() -> pd.DataFrame:
    """Return the paper's Table 4 in percent, a row per method."""
    file = package_data("paper_tables/refinefuse_table_04_detection.csv")
    return pd.read_csv(file, index_col="method")


@dataclass(frozen=True)
class DetectionTable:
    """A measured part of Table 4, in percent.

    The `summary` has the columns row, class (the last is "all", the mean), metric ("AP50", "AP"), n
    (pictures), objects, mean, ci_low, ci_high, spread (between the random starts: the largest less
    the smallest), paper; `differences`, RefineFuse less each other row, has row, class, metric,
    difference, ci_low, ci_high, spread, paper, verdict; `facts` are the provenance. There are
    `runs` of retraining, with row, block, seed, epoch and losses, or, without, `boxes` that one
    would show: row, pair, class, score, corners.
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
    papers: Mapping[str, str],
    facts: Mapping[str, Any],
    **frames: pd.DataFrame,
) -> DetectionTable:
    """Compute precision with intervals, set the print beside it and save both.

    Of each row, `matches` has what its detectors found in the same pictures, one per seed of
    training; `papers` the row of Table 4 that stands beside it, if any. What is in the pictures
    is as of `annotated`; facts, with the seed of the intervals, and frames as of `DetectionTable`.
    """
    names = [one["name"] for one in truth["categories"]]
    labels = [names[one["category_id"] - 1] for one in truth["annotations"]]
    objects = {name: labels.count(name) for name in names} | {ALL: len(labels)}
    scores = {row: _scores(some, facts["seed"]) for row, some in matches.items()}
    summary = pd.concat([_frame(row, *one, names) for row, one in scores.items()])
    summary.insert(3, "n", len(truth["images"]))
    summary.insert(4, "objects", summary["class"].map(objects))
    summary["paper"] = _printed(summary["row"].map(papers), summary)
    less = [
        _frame(row, scores[OURS][0] - values, scores[OURS][1] - draws, names)
        for row, (values, draws) in scores.items()
        if row != OURS and OURS in scores
    ]
    apart = pd.concat(less or [summary[:0]]).rename(columns={"mean": "difference"})
    theirs = _printed(apart["row"].map(papers), apart)
    apart["paper"] = _printed([OURS] * len(apart), apart) - theirs
    low, high = apart["ci_low"], apart["ci_high"]
    signs = [low.isna(), low > 0, high < 0]
    apart["verdict"] = np.select(signs, ["", "better", "worse"], "no difference")
    table = DetectionTable(summary, apart[DIFFERENCES], facts, **frames)
    # A column called "paper" would make it a table with verdicts on differences from the print.
    results.save(folder, summary=table.summary.rename(columns={"paper": "printed"}), facts=facts)
    for name, frame in {"differences": table.differences, **frames}.items():
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


def _frame(row: str, values: np.ndarray, draws: np.ndarray, names: list[str]) -> pd.DataFrame:
    """List, by class and metric, the mean, its interval and the spread of the seeds."""
    places = pd.MultiIndex.from_product([[row], [*names, ALL], METRICS])
    low, high = interval(draws)
    numbers = {"mean": values.mean(0), "ci_low": low, "ci_high": high, "spread": np.ptp(values, 0)}
    frame = pd.DataFrame({key: number.ravel() for key, number in numbers.items()}, places)
    return frame.reset_index(names=["row", "class", "metric"])


def _printed(rows: Iterable[str], frame: pd.DataFrame) -> np.ndarray:
    """Return what the paper prints of these rows of it, in each class and metric of a frame."""
    ends = frame["metric"].map({"AP50": "50", "AP": ""})
    columns = frame["class"].str.lower().map(PRINTED) + ends
    places = zip(rows, columns, strict=True)
    printed = paper_table().stack().to_dict()
    return np.array([printed.get(place, np.nan) for place in places])


def recorded(table: str) -> DetectionTable:
    """Return a part of Table 4 as the committed run of profile "paper" measured it.

    "refinefuse_04", "refinefuse_04_pretrained" or "refinefuse_04_scenes". Raises FusionError if
    its results are not there: they are part of the repository.
    """
    names = ("summary", "differences", "runs", "boxes")
    (summary, differences, *others), facts = results.read_recorded(table, *names, only="11")
    assert summary is not None and differences is not None  # every part of Table 4 has both
    return DetectionTable(summary.rename(columns={"printed": "paper"}), differences, facts, *others)


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
    assert table.boxes is not None
    some = table.boxes[(table.boxes["row"] == row) & (table.boxes["pair"] == pair)]
    return [Box(*one) for one in some[["class", "x0", "y0", "x1", "y1"]].itertuples(index=False)]
