"""Fills the tables of README.md and docs/guide from results/: ``python docs/readme.py``.

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced. After
``make reproduce`` in a fresh clone, ``--times CLONE/results/sample/reproduce.json`` records in
results/times.csv how long each notebook took there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reproduction.claims import bases
from reproduction.compare import SYMBOLS
from reproduction.detection.report import ALL, DetectionTable, recorded
from reproduction.latency import recorded_speed
from reproduction.show import grid, markdown

ROOT = Path(__file__).parent.parent
TIMES = "results/times.csv"
FILES = ("README.md", "docs/guide/results.md", "docs/guide/speed.md")
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


# What of Table II stands on the first screen.
FRONT = {
    "DenseFuse": "DenseFuse",
    "MSDNet l1_norm": "MSDNet, l1-norm",
    "Res2NetFuse_1 l1_norm": "Res2NetFuse, l1-norm, retrained",
    "Res2NetFuse_1 mean": "Res2NetFuse, mean, retrained",
}
FRONT_METRICS = ("SSIM_a", "Qabf", "SCD", "MS_SSIM")


def table(name: str, headings: Mapping[str, str], metrics: Collection[str] = ()) -> str:
    summary = _summary(name)
    missing = set(headings) - set(summary["row"])
    if missing:
        raise SystemExit(f"results/paper/{name} lacks {', '.join(sorted(missing))}")
    summary = summary[summary["row"].isin(list(headings))]
    if metrics:
        summary = summary[summary["metric"].isin(metrics)]
    return markdown(summary.replace({"row": headings}), compact=True)


def _summary(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results/paper" / name / "summary.csv")


class Entry(NamedTuple):
    """A line of the index: what is reproduced, by which notebook, about how long on real data."""

    what: str
    notebook: str
    paper: str
    tables: tuple[str, ...] = ()


INDEX = (
    Entry("a first pair, fused and scored", "00_start_here", "1 min"),
    Entry("Res2NetFuse Table I, loss figure", "01_train_on_one_image", "10 min"),
    Entry(
        "Res2NetFuse Table III: reconstruction",
        "02_reconstruction",
        "2 min",
        ("table_03",),
    ),
    Entry(
        "Res2NetFuse Table II: fusion strategies",
        "03_fusion_strategies",
        "10 min",
        ("table_02",),
    ),
    Entry(
        "Res2NetFuse Table IV: comparison, both editions",
        "04_fusion_comparison",
        "1½ h",
        ("table_04_2021", "table_04_2023"),
    ),
    Entry("Res2NetFuse: the RGB figures", "05_color", "1 min"),
    Entry("RefineFuse Figures 2 and 11, training", "06_refinefuse", "1 min"),
    Entry(
        "RefineFuse Tables 1 to 3: MSRS, M3FD, TNO; Figures 3 to 5",
        "07_infrared_visible",
        "hours",
        ("refinefuse_01", "refinefuse_02", "refinefuse_03"),
    ),
    Entry(
        "RefineFuse Tables 5 to 7: MRI with CT, PET, SPECT; Figures 7 to 9",
        "08_medical",
        "1 h",
        ("refinefuse_05", "refinefuse_06", "refinefuse_07"),
    ),
    Entry(
        "RefineFuse Tables 8 to 10: ablations; Figure 10",
        "09_ablations",
        "4 h",
        ("refinefuse_08", "refinefuse_09", "refinefuse_10"),
    ),
    Entry("RefineFuse Table 11: size, time, ranks; speed", "10_efficiency", "½ h"),
    Entry("RefineFuse Table 4: detection; Figure 6", "11_detection", "2½ h"),
    Entry("the explorer", "12_explorer", "1 min"),
    Entry("every claim of both papers", "13_claims", "½ min"),
    Entry("metric codes in circulation", "14_metric_conventions", "3 min"),
)


def index() -> str:
    """Write what is where, and how near our values are to the print."""
    times = pd.read_csv(ROOT / TIMES, index_col="notebook")["seconds"]
    header = [
        "reproduces",
        "notebook",
        "`python -m reproduction run`",
        "sample",
        "real data, about",
        "comparisons",
    ]
    rows = []
    for entry in INDEX:
        number = entry.notebook[:2]
        rows.append(
            [
                entry.what,
                f"[{number}](notebooks/{entry.notebook}.ipynb)",
                f"`--only {number}`",
                _minutes(times[entry.notebook]),
                entry.paper,
                _comparisons(entry.tables),
            ]
        )
    return grid(header, rows)


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 0.75:
        return "½ min" if minutes > 0.375 else "¼ min"
    return f"{minutes:.0f} min"


def _comparisons(names: Sequence[str]) -> str:
    if not names:
        return ""
    verdicts = pd.concat([_summary(name)["verdict"] for name in names])
    counts = [(SYMBOLS[verdict], int((verdicts == verdict).sum())) for verdict in COMPARED]
    if not any(count for _, count in counts):
        return "other data or training"
    return ", ".join(f"{sign} {count}" for sign, count in counts)


# Verdicts on values whose data and training allow a comparison.
COMPARED = ("exact", "within 2 %", "differs")


def claims() -> str:
    """Count the verdicts on the papers' claims, by what they rest on."""
    counts = bases()
    rows = [
        [str(name), *map(str, row)]
        for name, row in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return grid(["", *map(str, counts.columns)], rows)


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


def record_times(state: Path) -> None:
    """Record what ``python -m reproduction run`` noted of each notebook's time."""
    noted = json.loads(state.read_text(encoding="utf-8"))
    missing = [entry.notebook for entry in INDEX if entry.notebook not in noted]
    if missing:
        raise SystemExit(f"{state} lacks {', '.join(missing)}: run make reproduce")
    rows = [{"notebook": name, "seconds": noted[name]["seconds"]} for name in sorted(noted)]
    pd.DataFrame(rows).to_csv(ROOT / TIMES, index=False)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=Path, metavar="FILE", help="a reproduce.json")
    if (state := parser.parse_args(arguments).times) is not None:
        record_times(state)
    fill()


def fill() -> None:
    """Replace the tables of `FILES`."""
    filled = {name: table(name, headings) for name, headings in TABLES.items()}
    filled |= {f"speed_{part}": speed_table(part) for part in SPEED}
    filled["refinefuse_04"] = detection_table()
    filled |= {
        "front": table("table_02", FRONT, FRONT_METRICS),
        "index": index(),
        "claims": claims(),
    }
    for file in FILES:
        path = ROOT / file
        text = path.read_text(encoding="utf-8")
        for name, new in filled.items():
            marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
            text = marked.sub(lambda m, new=new: m[1] + new + m[2], text)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
