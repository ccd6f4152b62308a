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


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name in TABLES:
        marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, name=name: m[1] + table(name) + m[2], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
