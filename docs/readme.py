"""Fills the tables of README.md from results/: ``python docs/readme.py``.

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
ROWS = (
    "DenseFuse",
    "MSDNet l1_norm",
    "MSDNet mean",
    "Res2NetFuse_1 l1_norm",
    "Res2NetFuse_1 mean",
    "Res2NetFuse_1, trained again l1_norm",
    "Res2NetFuse_1, trained again mean",
)


def table_02() -> str:
    summary = pd.read_csv(ROOT / "results/paper/table_02/summary.csv")
    metrics = list(dict.fromkeys(summary["metric"]))
    head = "| 20 TNO pairs | " + " | ".join(f"{m}: paper | ours | verdict" for m in metrics) + " |"
    lines = [head, "|---|" + "---|" * 3 * len(metrics)]
    for row in ROWS:
        part = summary[summary["row"] == row].set_index("metric").loc[metrics]
        cells = [f"{r.paper:.5f} | {r.mean:.5f} | {r.verdict}" for r in part.itertuples()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, make in (("table_02", table_02),):
        marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, make=make: m[1] + make() + "\n" + m[2], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
