"""Fills the tables of README.md from results/: ``python docs/readme.py``.

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from fusionlib.tables import markdown

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


def speed(part: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results/paper/speed" / f"{part}.csv")


def networks() -> str:
    found = speed("networks")
    rows = [
        (
            row["method"],
            f"{row['plain s']:.3f}",
            f"{row['ours s']:.3f}",
            f"**{row['ours ratio']:.1f}**",
            f"{row['ours difference']:.0e}",
            f"{row['channels last ratio']:.1f}",
            f"{row['channels last difference']:.0e}",
            f"{row['bfloat16 ratio']:.1f}",
            f"{row['metric most changed']} {row['change %']:+.1f} %",
        )
        for row in found.to_dict("records")
    ]
    header = ("network", "plain module, s", "ours, s", "ratio", "difference", "channels last")
    return grid((*header, "difference", "bfloat16", "metric most changed"), rows)


def metrics() -> str:
    rows = [
        (
            row["metrics"],
            f"{row['plain s']:.2f}",
            f"{row['ours s']:.4f}",
            f"**{row['ratio']:.0f}**",
            f"{row['difference']:.0e}",
        )
        for row in speed("metrics").to_dict("records")
    ]
    return grid(("metric", "plain code, s", "ours, s", "ratio", "difference"), rows)


def workers() -> str:
    rows = [
        (
            f"{row['workers']}",
            f"{row['fused pairs/s']:.2f}",
            f"**{row['fused ratio']:.2f}**",
            f"{row['scored pairs/s']:.2f}",
            f"**{row['scored ratio']:.2f}**",
            f"{row['training iterations/s']:.2f}",
            f"**{row['training ratio']:.2f}**",
        )
        for row in speed("workers").to_dict("records")
    ]
    header = ("workers", "a folder fused, pairs/s", "ratio", "fused and scored on Dask, pairs/s")
    return grid((*header, "ratio", "training under torchrun, iterations/s", "ratio"), rows)


def training() -> str:
    rows = [
        (
            row["loop"],
            f"{row['seconds']:.0f}",
            f"**{row['ratio']:.2f}**",
            f"{row['mean %']:.1f}",
            f"{row['last loss']:.5f}",
        )
        for row in speed("training").to_dict("records")
    ]
    return grid(("loop", "seconds", "ratio", "mean distance of curves, %", "last loss"), rows)


def grid(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


SPEED = {"networks": networks, "metrics": metrics, "workers": workers, "training": training}


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    filled = {name: table(name) for name in TABLES}
    filled |= {
        f"speed_{name}": make()
        for name, make in SPEED.items()
        if f"<!-- begin speed_{name} -->" in text
    }
    for name, grid_text in filled.items():
        marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, new=grid_text: m[1] + new + m[2], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
