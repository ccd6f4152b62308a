"""Fills the tables of README.md from results/: ``python docs/readme.py``.

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
ROWS = ("DenseFuse", "MSDNet l1_norm", "MSDNet mean", "Res2NetFuse_1 l1_norm", "Res2NetFuse_1 mean")
NOTEBOOKS = {
    "00_start_here": "a first pair, fused and scored",
    "01_train_on_one_image": "Res2NetFuse Table I, the loss figure, training on one image",
    "02_reconstruction": "Table III",
    "03_fusion_strategies": "Table II, weight maps",
    "04_fusion_comparison": "Table IV of both editions, as far as the methods are here",
    "05_color": "the RGB figures",
}


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


def notebooks() -> str:
    seconds = {
        profile: json.loads((ROOT / "results" / profile / "reproduce.json").read_text())
        for profile in ("sample", "paper")
    }
    lines = ["| notebook | reproduces | sample | paper |", "|---|---|---|---|"]
    for name, what in NOTEBOOKS.items():
        times = [_time(seconds[profile].get(name, {}).get("seconds")) for profile in seconds]
        lines.append(f"| [{name}](notebooks/{name}.ipynb) | {what} | {' | '.join(times)} |")
    return "\n".join(lines)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, make in (("table_02", table_02), ("notebooks", notebooks)):
        marked = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, make=make: m[1] + make() + "\n" + m[2], text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
