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

import numpy as np
import pandas as pd

from benchmarks.timing import alone
from fusionlib.executors import peak_memory
from fusionlib.methods import create
from fusionlib.tiles import Execution

LIMIT_GIB = 4.0
SIDES = [4096, 8192]
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


def table(sides: list[int]) -> pd.DataFrame:
    """Measure every case and side, print and return what they take."""
    rows = []
    for side in sides:
        for method, rule, how in CASES:
            seconds, peak = alone(measure, method, rule, how, side)
            tiles = f"tiles {how.tile}" + (f"+{how.overlap}" if how.overlap else "")
            rows.append(
                {
                    "method": method,
                    "rule": rule or "",
                    "how": tiles,
                    "size": f"{side}x{side}",
                    "seconds": seconds,
                    "peak GiB": peak,
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def main(sides: list[int]) -> int:
    """Return 1 if a picture takes more than was promised."""
    return int(table(sides)["peak GiB"].max() >= LIMIT_GIB)


if __name__ == "__main__":
    sys.exit(main([int(side) for side in sys.argv[1:]] or SIDES))
