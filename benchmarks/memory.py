"""Peak memory of fusing large images: one line per method and size.

    python benchmarks/memory.py [SIDE ...]

Every figure comes from a process of its own, which holds everything: Python, PyTorch,
both images, the tiles, the result. The promise is 3 GiB for 4096 x 4096 pixels.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

from fusionlib.methods import create

LIMIT_GIB = 3.0
RULES = ("l1_norm", "mean")


def measure(rule: str, side: int) -> None:
    """Fuse one pair of noise in this process and print seconds and peak GiB."""
    method = create("res2netfuse", rule=rule)
    generator = np.random.default_rng(0)
    ir, vis = (generator.integers(0, 256, (side, side), dtype=np.uint8) for _ in range(2))
    start = time.perf_counter()
    method.fuse(ir, vis)
    seconds = time.perf_counter() - start
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main(sides: list[int]) -> int:
    """Measure every rule and side; 1 if a picture of up to 4096 x 4096 takes too much."""
    worst = 0.0
    for side in sides:
        for rule in RULES:
            command = [sys.executable, __file__, "--measure", rule, str(side)]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            seconds, peak = map(float, run.stdout.split())
            print(f"res2netfuse {rule:<8} {side}x{side}  {seconds:6.1f} s  {peak:.2f} GiB peak")
            if side <= 4096:
                worst = max(worst, peak)
    return int(worst >= LIMIT_GIB)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main([int(side) for side in sys.argv[1:]] or [2048, 4096]))
