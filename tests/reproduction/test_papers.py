"""papers: the print is read as printed."""

from __future__ import annotations

import csv

import pytest

from fusionlib.datasets import package_data
from fusionlib.errors import UnknownName
from reproduction.papers import PAPER_TABLES, paper_values


@pytest.mark.parametrize("table", PAPER_TABLES)
def test_every_printed_number(table):
    """Against the file read by the standard library."""
    with open(package_data(f"paper_tables/{PAPER_TABLES[table]}"), encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    expected = {}
    for line in lines:
        name = next(line.pop(key) for key in ("method", "row", "setting") if key in line)
        row = f"{name} {line.pop('strategy', '').strip('-')}".strip()
        for other in ("scales", "sfim", "psim", "fim", "time_ms_rtx4090"):
            line.pop(other, None)
        expected |= {(row, metric): float(text) for metric, text in line.items() if text}
    ours = paper_values(table)
    assert list(ours) == ["row", "metric", "paper"]
    assert ours.set_index(["row", "metric"])["paper"].to_dict() == expected


def test_unknown_table():
    with pytest.raises(UnknownName, match=r"Did you mean .*'table_04_2021'"):
        paper_values("table_04_2022")


def test_sizes_of_refinefuse_tables():
    """Rows and metrics, counted in the files."""
    sizes = {
        table: tuple(paper_values(table)[["row", "metric"]].nunique())
        for table in PAPER_TABLES
        if table.startswith("refinefuse")
    }
    compared = dict.fromkeys((f"refinefuse_{i:02}" for i in (1, 2, 3, 5, 6, 7)), (11, 7))
    ablations = {"refinefuse_08": (4, 7), "refinefuse_09": (6, 7), "refinefuse_10": (3, 7)}
    assert sizes == compared | ablations


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
