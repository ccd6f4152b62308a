"""Fills the tables of README.md from results/: ``python docs/readme.py``.

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fusionlib.detection.report import ALL, DetectionTable, recorded
from fusionlib.latency import recorded_speed
from fusionlib.tables import grid, markdown

ROOT = Path(__file__).parent.parent
# Table -> row -> heading. The soft hyphen lets all columns fit into the width of a page on GitHub.
TABLES = {
    "table_02": {
        "DenseFuse": "DenseFuse",
        "MSDNet l1_norm": "MSDNet l1_norm",
        "MSDNet mean": "MSDNet mean",
        "Res2NetFuse_1 l1_norm": "Res2Net&shy;Fuse_1 l1_norm",
        "Res2NetFuse_1 mean": "Res2Net&shy;Fuse_1 mean",
        "Res2NetFuse_1, trained again l1_norm": "trained again l1_norm",
        "Res2NetFuse_1, trained again mean": "trained again mean",
    },
    "table_04_2023": {
        "DCHWT": "DCHWT",
        "JSR": "JSR",
        "JSRSD": "JSRSD",
        "AT-GAN": "AT-GAN",
        "CUFD": "CUFD",
        "MUFusion": "MUFusion",
    },
    "refinefuse_01": {
        "MST, images exchanged": "MST, exchanged",
        "DenseFuse, PyTorch release": "Dense&shy;Fuse, PyTorch",
        "SDNet": "SDNet",
        "SeAFusion": "SeA&shy;Fusion",
        "SwinFusion, retrained": "Swin&shy;Fusion, retrained",
        "LRRNet": "LRRNet",
        "RefineFuse": "Refine&shy;Fuse",
    },
    "refinefuse_03": {
        "MST": "MST",
        "DenseFuse": "Dense&shy;Fuse",
        "U2Fusion": "U2Fusion",
        "RFN-Nest, authors' images": "RFN-Nest, authors' images",
        "SDNet": "SDNet",
        "SeAFusion": "SeA&shy;Fusion",
        "RefineFuse": "Refine&shy;Fuse",
    },
}


def table(name: str) -> str:
    headings = TABLES[name]
    summary = pd.read_csv(ROOT / "results/paper" / name / "summary.csv")
    missing = set(headings) - set(summary["row"])
    if missing:
        raise SystemExit(f"results/paper/{name} lacks {', '.join(sorted(missing))}")
    summary = summary[summary["row"].isin(list(headings))]
    return markdown(summary.replace({"row": headings}), compact=True)


class Column(NamedTuple):
    """A column of a speed table: its heading, and how a row's value is written there."""

    heading: str
    cell: str


# Part of results/paper/speed -> its columns.
SPEED = {
    "networks": (
        Column("network", "{method}"),
        Column("plain module, s", "{plain s:.3f}"),
        Column("ours, s", "{ours s:.3f}"),
        Column("ratio", "**{ours ratio:.1f}**"),
        Column("difference", "{ours difference:.0e}"),
        Column("channels last", "{channels last ratio:.1f}"),
        Column("difference", "{channels last difference:.0e}"),
        Column("bfloat16", "{bfloat16 ratio:.1f}"),
        Column("metric most changed", "{changed}"),
    ),
    "metrics": (
        Column("metric", "{metrics}"),
        Column("plain code, s", "{plain s:.2f}"),
        Column("ours, s", "{ours s:.4f}"),
        Column("ratio", "**{ratio:.0f}**"),
        Column("difference", "{difference:.0e}"),
    ),
    "workers": (
        Column("workers", "{workers}"),
        Column("a folder fused, pairs/s", "{fused pairs/s:.2f}"),
        Column("ratio", "**{fused ratio:.1f}**"),
        Column("fused and scored on Dask, pairs/s", "{scored pairs/s:.2f}"),
        Column("ratio", "**{scored ratio:.1f}**"),
        Column("training under torchrun, iterations/s", "{training iterations/s:.2f}"),
        Column("ratio", "**{training ratio:.1f}**"),
    ),
    "training": (
        Column("loop", "{loop}"),
        Column("seconds", "{seconds:.0f}"),
        Column("ratio", "**{ratio:.2f}**"),
        Column("mean distance of curves, %", "{mean %:.1f}"),
        Column("last loss", "{last loss:.0e}"),
    ),
    "memory": (
        Column("method", "{method} {rule}"),
        Column("how", "{how}"),
        Column("a gray pair of", "{size}"),
        Column("seconds", "{seconds:.0f}"),
        Column("peak GiB", "**{peak GiB:.2f}**"),
    ),
}


def speed_table(part: str) -> str:
    columns = SPEED[part]
    frame = recorded_speed(part).fillna({"rule": ""})
    if part == "networks":
        text = frame["metric most changed"] + frame["change %"].map(" {:+.1f} %".format)
        frame["changed"] = text.where(frame["weights"] != "untrained", "weights not trained")
    rows = [[column.cell.format_map(row) for column in columns] for row in frame.to_dict("records")]
    return grid([column.heading for column in columns], rows)


def detection_table() -> str:
    """Set Table 4's means over the classes beside each other: every row that was retrained."""
    taught, retrained = recorded("refinefuse_04_pretrained"), recorded("refinefuse_04")
    shown = {
        "AP50, as COCO taught it": _means(taught, "AP50"),
        "AP50, fine-tuned": _means(retrained, "AP50"),
        "AP50, printed": _printed(retrained, "AP50"),
        "AP, fine-tuned": _means(retrained, "AP"),
        "AP, printed": _printed(retrained, "AP"),
    }
    return grid(
        ["", *shown],
        [[row, *(cells[row] for cells in shown.values())] for row in _printed(retrained, "AP")],
    )


def _overall(table: DetectionTable, metric: str) -> list[dict[Hashable, Any]]:
    chosen = (table.summary["class"] == ALL) & (table.summary["metric"] == metric)
    return table.summary[chosen].to_dict("records")


def _means(table: DetectionTable, metric: str) -> dict[str, str]:
    text = "**{mean:.1f}**<br>{ci_low:.1f} to {ci_high:.1f}"
    return {one["row"]: text.format_map(one) for one in _overall(table, metric)}


def _printed(table: DetectionTable, metric: str) -> dict[str, str]:
    return {one["row"]: f"{one['paper']:.1f}" for one in _overall(table, metric)}


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    filled = {name: table(name) for name in TABLES}
    filled |= {f"speed_{part}": speed_table(part) for part in SPEED}
    filled["refinefuse_04"] = detection_table()
    for name, grid_text in filled.items():
        marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, new=grid_text: m[1] + new + m[2], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
