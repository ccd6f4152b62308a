"""The papers' printed tables, tidy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.errors import unknown
from fusionlib.metrics import METRICS

__all__ = ["PAPER_TABLES", "paper_values", "printed_decimals"]

#: Table name -> file with its printed values.
PAPER_TABLES = {
    "table_02": "res2netfuse_table_02_training_strategy.csv",
    "table_03": "res2netfuse_table_03_reconstruction.csv",
    "table_04_2021": "res2netfuse_table_04_2021.csv",
    "table_04_2023": "res2netfuse_table_04_2023.csv",
    "refinefuse_01": "refinefuse_table_01_msrs.csv",
    "refinefuse_02": "refinefuse_table_02_m3fd.csv",
    "refinefuse_03": "refinefuse_table_03_tno.csv",
    "refinefuse_05": "refinefuse_table_05_mri_ct.csv",
    "refinefuse_06": "refinefuse_table_06_mri_pet.csv",
    "refinefuse_07": "refinefuse_table_07_mri_spect.csv",
    "refinefuse_08": "refinefuse_table_08_loss_ablation.csv",
    "refinefuse_09": "refinefuse_table_09_module_ablation.csv",
    "refinefuse_10": "refinefuse_table_10_depth_ablation.csv",
}


def paper_values(table: str) -> pd.DataFrame:
    """Return a paper's table, tidy: columns row (the printed method and strategy), metric, paper.

    Columns of the print that are no metric of `METRICS` (modules, times) are left out.
    """
    if table not in PAPER_TABLES:
        raise unknown("paper table", table, PAPER_TABLES)
    frame = pd.read_csv(package_data(f"paper_tables/{PAPER_TABLES[table]}"))
    row = next(frame[name] for name in ("method", "row", "setting") if name in frame)
    if "strategy" in frame:
        row = (row + " " + frame["strategy"].fillna("").replace("-", "")).str.strip()
    metrics = frame[[name for name in frame if name in METRICS]].astype(float)
    tidy = metrics.assign(row=row).melt("row", var_name="metric", value_name="paper")
    return tidy.dropna(ignore_index=True)


def printed_decimals(values: pd.Series) -> int:
    """Return how many digits after the point a print of these values needs; 0 of none."""
    texts = map(np.format_float_positional, values.dropna())
    return max((len(text.partition(".")[2]) for text in texts), default=0)
