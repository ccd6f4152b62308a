"""Keeping what was measured: a CSV file for each part, and the provenance of all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from fusionlib.files import write_text
from reproduction.results import provenance

LOAD = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def what_decides(threads: int) -> dict[str, Any]:
    """Return the provenance of what is measured next.

    "load" is the average number of busy processes in the minute before this command began.
    """
    return provenance(threads=threads, load=LOAD)


def save(
    folder: Path, name: str, frame: pd.DataFrame, facts: dict[str, Any], *, replace: bool = False
) -> None:
    """Write a part and its provenance.

    With `replace` only its rows, by method, of those there; the provenance then stands beside the
    part's, under the methods' names.
    """
    entry = f"{name}: {', '.join(frame['method'])}" if replace else name
    frame = frame.assign(commit=facts["commit"])
    path = folder / f"{name}.csv"
    if replace and path.exists():
        before = pd.read_csv(path)
        order = [*before["method"], *(m for m in frame["method"] if m not in {*before["method"]})]
        kept = before[~before["method"].isin(frame["method"])]
        frame = pd.concat([kept, frame]).set_index("method").loc[order].reset_index()
    write_text(path, frame.to_csv(index=False, float_format="%.6g"))
    path = folder / "provenance.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps(known | {entry: facts}, indent=1, sort_keys=True) + "\n")
