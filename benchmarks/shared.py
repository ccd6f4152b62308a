"""What the benchmarks share: pictures, processes, and keeping what was measured."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pandas as pd

import fusionlib as fl
from fusionlib.files import write_text
from fusionlib.images import luminance
from reproduction.results import provenance

T = TypeVar("T")
LOAD = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def enlarged(name: str, size: tuple[int, int]) -> fl.Pair:
    """Return a scene of the sample, resized to (width, height)."""
    pair = fl.load_dataset("sample")[name]
    return fl.Pair(name, cv2.resize(pair.ir, size), cv2.resize(pair.vis, size))


def sources(size: tuple[int, int]) -> list[np.ndarray]:
    """Return the infrared image and the luminance of the visible one."""
    pair = enlarged("day_street", size)
    return [pair.ir, luminance(pair.vis)]


def alone(function: Callable[..., T], *args: object) -> T:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def difference(result: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the range of what is expected."""
    return float(np.abs(result - expected).max() / np.ptp(expected))


def show(rows: list[dict[str, Any]]) -> None:
    """Print the last row, the first with its heading."""
    how = {"index": False, "header": len(rows) == 1, "float_format": "{:.4g}".format}
    print(pd.DataFrame(rows[-1:]).to_string(**how), flush=True)


def what_decides(threads: int) -> dict[str, Any]:
    """Return the provenance of what is measured next.

    "load" is the average number of busy processes in the minute before this command began.
    """
    return provenance(threads=threads, load=LOAD)


def save(
    folder: Path, name: str, frame: pd.DataFrame, facts: dict[str, Any], *, replace: bool = False
) -> None:
    """Write a part and its provenance; with `replace` only its rows, by method, of those there."""
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
