"""Draws docs/overview.jpg, the picture of the README: ``python docs/overview.py``."""

from pathlib import Path

import fusionlib as fl
from fusionlib import figures

pairs = fl.load_dataset("sample")
methods = {rule: fl.create("res2netfuse", rule=rule) for rule in ("l1_norm", "mean")}
names = ("night_headlights", "smoke", "day_street")
rows = [
    [pair.ir, pair.vis, *(method.fuse(pair.ir, pair.vis) for method in methods.values())]
    for pair in (pairs[pairs.names.index(name)] for name in names)
]
titles = ["infrared", "visible", *(f"Res2NetFuse, {rule}" for rule in methods)]
figure = figures.image_grid(rows, titles=titles, width=12)
figure.savefig(
    Path(__file__).with_name("overview.jpg"), dpi=90, format="jpeg", pil_kwargs={"quality": 88}
)
