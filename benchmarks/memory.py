"""Peak memory of fusing large images: one line per method and size.

    python -m benchmarks.memory [SIDE ...]

Every figure comes from a process of its own, which holds everything: Python, PyTorch, both images
(gray, 8 bits), the tiles, the result. The promise is 4 GiB for 8192 x 8192 pixels. Networks of
bounded receptive field run in exact tiles; RefineFuse, whose coarse scales need the whole image,
in tiles with a stated overlap.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.shared import alone, show
from fusionlib.executors import peak_memory
from fusionlib.methods import create
from fusionlib.tiles import Execution

LIMIT_GIB = 4.0
SIDES = (4096, 8192)
#: Method, rule and how it is run.
CASES = (
    ("res2netfuse", "l1_norm", Execution()),
    ("res2netfuse", "mean", Execution()),
    ("refinefuse", None, Execution(tile=512, overlap=64)),
)


def measure(method: str, rule: str | None, how: Execution, side: int) -> tuple[float, float]:
    """Fuse one pair of noise in this process; return seconds and peak GiB."""
    ready = create(method, rule=rule, execution=how)
    generator = np.random.default_rng(0)
    ir, vis = (generator.integers(0, 256, (side, side), dtype=np.uint8) for _ in range(2))
    started = time.perf_counter()
    ready.fuse(ir, vis)
    seconds = time.perf_counter() - started
    peak = peak_memory()
    assert peak is not None, "this system does not tell a process's peak"
    return seconds, peak


def table(sides: Sequence[int] = SIDES) -> pd.DataFrame:
    """Measure every case and side, print and return what they take."""
    rows: list[dict[str, Any]] = []
    for side in sides:
        for method, rule, how in CASES:
            seconds, peak = alone(measure, method, rule, how, side)
            tiles = f"tiles {how.tile}" + (f"+{how.overlap}" if how.overlap else "")
            row = {"method": method, "rule": rule or "", "how": tiles, "size": f"{side}x{side}"}
            rows.append(row | {"seconds": seconds, "peak GiB": peak})
            show(rows)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    found = table([int(side) for side in sys.argv[1:]] or SIDES)
    # 1 if a picture takes more than was promised.
    sys.exit(int(found["peak GiB"].max() >= LIMIT_GIB))
