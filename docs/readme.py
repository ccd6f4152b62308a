"""Fills the tables of README.md from results/: ``python docs/readme.py``.

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from fusionlib.tables import markdown

ROOT = Path(__file__).parent.parent
# Row -> heading. The soft hyphen lets all columns fit into the width of a page on GitHub.
ROWS = {
    "DenseFuse": "DenseFuse",
    "MSDNet l1_norm": "MSDNet l1_norm",
    "MSDNet mean": "MSDNet mean",
    "Res2NetFuse_1 l1_norm": "Res2Net&shy;Fuse_1 l1_norm",
    "Res2NetFuse_1 mean": "Res2Net&shy;Fuse_1 mean",
    "Res2NetFuse_1, trained again l1_norm": "trained again l1_norm",
    "Res2NetFuse_1, trained again mean": "trained again mean",
}


def table_02() -> str:
    summary = pd.read_csv(ROOT / "results/paper/table_02/summary.csv")
    summary = summary[summary["row"].isin(list(ROWS))]
    missing = set(ROWS) - set(summary["row"])
    if missing:
        raise SystemExit(f"results/paper/table_02 lacks {', '.join(sorted(missing))}")
    return markdown(summary.replace({"row": ROWS}), compact=True)


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, make in (("table_02", table_02),):
        marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, make=make: m[1] + make() + m[2], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
