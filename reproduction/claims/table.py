"""What claims are judged by: the papers' printed tables and our recorded ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.errors import FusionError, unknown
from fusionlib.metrics import METRICS

from ..experiments import READINGS, SOURCES, TABLES, Measured, recorded
from ..papers import paper_values
from .finding import OTHER_DATA, OUR_TRAINING, UNNAMED_DATA, Limit, listed

__all__ = [
    "default_row",
    "departs",
    "for_orientation",
    "given",
    "higher_is_better",
    "is_reading",
    "is_reduced",
    "labels_beside",
    "means_of",
    "measured_table",
    "nearest",
    "ordinal",
    "pairs_of",
    "printed_table",
    "rank_of",
    "read_here",
    "title",
    "where_measured",
]

#: Tables whose print is no metric of ours -> their file and the column that names the rows.
OTHER_TABLES = {
    "refinefuse_04": ("refinefuse_table_04_detection.csv", "method"),
    "refinefuse_11": ("refinefuse_table_11_efficiency.csv", "method"),
}
#: No table has more rows.
ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth", "thirteenth"),
)
READING = (
    "RefineFuse is our reading of its text, trained here on reduced pictures: neither code nor "
    "weights were released"
)
#: How Res2NetFuse counts its tables.
ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV"}


def title(table: str) -> str:
    """Return what the paper calls a table: "refinefuse_03" is Table 3, "table_04_2021" IV."""
    paper, number, *edition = table.split("_")
    if paper == "refinefuse":
        return f"Table {int(number)}"
    return " ".join([f"Table {ROMAN[int(number)]}", *(f"({year})" for year in edition)])


# ---------------------------------------------------------------- what is printed


@cache
def printed_table(table: str) -> Any:
    """Read a printed table: rows as the paper calls them, numbers in columns."""
    if table not in OTHER_TABLES:
        tidy = paper_values(table)
        wide = tidy.pivot(index="row", columns="metric", values="paper")
        return wide.loc[[*dict.fromkeys(tidy["row"])], [*dict.fromkeys(tidy["metric"])]]
    name, index = OTHER_TABLES[table]
    frame = pd.read_csv(package_data(f"paper_tables/{name}")).set_index(index)
    return frame.apply(pd.to_numeric, errors="coerce").dropna(axis="columns", how="all")


def higher_is_better(column: str) -> bool:
    """Whether higher is better; of sizes, times and ranks lower is."""
    if column in METRICS:
        return METRICS[column].higher_is_better
    return not column.startswith(("flops", "params", "size", "runtime", "speed"))


def rank_of(column: pd.Series, rows: Collection[str]) -> int:
    """Return the rank of the best of some rows among all others."""
    best = column[[*rows]].max() if higher_is_better(str(column.name)) else column[[*rows]].min()
    others = column.drop([*rows])
    ahead = others > best if higher_is_better(str(column.name)) else others < best
    return 1 + int(ahead.sum())


def ordinal(rank: int) -> str:
    """Return "first" for 1."""
    return ORDINALS[rank - 1]


# ---------------------------------------------------------------- what was measured


@cache
def measured_table(table: str) -> Measured:
    """Return a recorded table."""
    return recorded(table)


def labels_beside(table: str, paper: str) -> dict[str, bool]:
    """Return our measured rows beside a row of the paper, and whether for orientation only."""
    measured = {*measured_table(table).compared["row"]}
    readings = [f" ({reading})" for reading in READINGS] if table == "table_03" else [""]
    beside = [row for row in TABLES[table] if row.paper == paper]
    if not beside and paper not in {*paper_values(table)["row"]}:
        raise unknown(f"row of {table}", paper, {*paper_values(table)["row"]})
    return {
        row.label + reading: bool(row.orientation)
        for row in beside
        for reading in readings
        if row.label + reading in measured
    }


def given(table: str) -> Any:
    """Return how many cells of the paper each row of ours gives."""
    some = measured_table(table).compared.dropna(subset="paper")
    return some["verdict"].isin(["exact", "within 2 %"]).groupby(some["row"]).sum()


def nearest(table: str, paper: str) -> tuple[str, bool] | None:
    """Return our row that gives most cells of the paper's, and whether for orientation only."""
    labels = labels_beside(table, paper)
    if not labels:
        return None
    some, good = measured_table(table).compared.dropna(subset="paper"), given(table)
    far = (some["mean"] / some["paper"] - 1).abs().groupby(some["row"]).mean()
    best = max(labels, key=lambda label: (not labels[label], good[label], -far[label]))
    return best, labels[best]


def default_row(table: str, paper: str) -> str:
    """Return our row of a method in its default configuration."""
    if not (labels := labels_beside(table, paper)):
        raise FusionError(f"{table} has no measured row beside {paper!r}; check another one.")
    return next(iter(labels))


def means_of(table: str) -> Any:
    """Return our means, a row per row and a column per metric."""
    return measured_table(table).compared.pivot(index="row", columns="metric", values="mean")


def pairs_of(table: str) -> int:
    """Return over how many pairs our means are."""
    return int(measured_table(table).compared["n"].max())


def departs(table: str) -> Limit | None:
    """Say in which way the data are others than the paper's, or may be, if they are."""
    source = SOURCES[table]
    if not source.named:
        coco = "which 20 images of COCO the paper took is not known"
        return Limit(UNNAMED_DATA, source.departs or coco)
    text = f"other data than the paper's: {source.departs}"
    return None if source.comparable else Limit(OTHER_DATA, text)


def where_measured(table: str) -> str:
    """Say on what a table was measured."""
    source, number = SOURCES[table], pairs_of(table)
    if source.comparable and source.departs:
        return f"{source.paper}, {source.departs}"
    images = "image" if table == "table_03" else "pair"
    return f"{number} {images}{'s' * (number > 1)} of {source.paper}"


def is_reduced(table: str, row: str) -> bool:
    """Whether a row of ours is for orientation only: a training by a reduced schedule."""
    label = row.partition(" (")[0] if table == "table_03" else row
    return any(one.orientation for one in TABLES[table] if one.label == label)


def for_orientation(rows: Sequence[str]) -> Limit | None:
    """Say which rows limit a verdict; nothing of none."""
    text = f"trained here by a reduced schedule: {listed([*dict.fromkeys(rows)])}"
    return Limit(OUR_TRAINING, text) if rows else None


def is_reading(table: str, row: str) -> bool:
    """Whether a row of ours is our reading of a network that was not released."""
    return any(one.method == "refinefuse" for one in TABLES[table] if one.label == row)


def read_here(table: str, rows: Sequence[str]) -> Limit | None:
    """Say that a verdict rests on such a row; nothing of one that was trained for orientation."""
    some = [row for row in rows if is_reading(table, row) and not is_reduced(table, row)]
    return Limit(OUR_TRAINING, READING) if some else None
