"""Runs every committed notebook again through nbval: ``python -m tests.notebooks [NAME ...]``.

The notebooks are copied to a temporary folder, so that what they write there is thrown
away and nothing that an earlier run wrote is reused. Outputs are compared as text, numbers
with a tolerance: another processor rounds float32 convolutions differently (1e-6 of the
range), which moves a few 8-bit pixels by one level, a metric by about 1e-4, and a printed
number by one unit of its last digit. Whole numbers must be equal.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell

from reproduction.run import ADDRESS

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
DECIMAL = re.compile(r"(?<![\w.])[-+\N{MINUS SIGN}]?\d+\.(\d+)(?:e[-+]?\d+)?(?![\w.])")


def same_within_print(ours: str, reference: str) -> bool:
    """Whether two texts are equal but for decimals that differ by a unit of their last digit."""
    ours = ADDRESS.sub("", ours)
    if DECIMAL.sub("#", ours) != DECIMAL.sub("#", reference):
        return False
    for a, b in zip(DECIMAL.finditer(ours), DECIMAL.finditer(reference), strict=True):
        x, y = (float(m.group().replace("\N{MINUS SIGN}", "-")) for m in (a, b))
        if abs(x - y) > 1.5 * 10.0 ** -len(b.group(1)):
            return False
    return True


def _aligned(ours: Any, reference: Any) -> Any:
    """Replace texts of `ours` that are the same within print by those of `reference`."""
    if isinstance(ours, str) and isinstance(reference, str):
        return reference if same_within_print(ours, reference) else ours
    if isinstance(ours, dict) and isinstance(reference, dict):
        return type(ours)({k: _aligned(v, reference.get(k)) for k, v in ours.items()})
    if isinstance(ours, list) and isinstance(reference, list):
        rest = [None] * (len(ours) - len(reference))
        return [_aligned(a, b) for a, b in zip(ours, [*reference, *rest], strict=False)]
    return ours


def pytest_configure() -> None:
    """Let nbval compare numbers within their print: this module is a plugin of its run."""
    strict = IPyNbCell.compare_outputs

    def compare(cell: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
        return strict(cell, _aligned(test, ref), ref, skip_compare)

    IPyNbCell.compare_outputs = compare


def main(names: list[str]) -> int:
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    for name in names:
        if not any(path.stem.startswith(name) for path in paths):
            print(f"no notebook {name!r}; there are {', '.join(p.stem for p in paths)}")
            return 2
    with tempfile.TemporaryDirectory() as folder:
        # What this machine has must not change what a sample run shows.
        for name in ("FUSIONLIB_DATA", "FUSIONLIB_WEIGHTS"):
            os.environ.pop(name, None)
        os.environ["XDG_CACHE_HOME"] = os.environ["XDG_CONFIG_HOME"] = str(Path(folder) / "home")
        # One notebook per core is faster than one notebook on all of them.
        os.environ["OMP_NUM_THREADS"] = os.environ["LOKY_MAX_CPU_COUNT"] = "1"
        copies = shutil.copytree(
            NOTEBOOKS, Path(folder) / "notebooks", ignore=shutil.ignore_patterns(".*")
        )
        chosen = [
            str(copies / path.name)
            for path in paths
            if not names or any(path.stem.startswith(name) for name in names)
        ]
        return pytest.main(
            ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=1800", "-q", "--timeout=1800",
             "--nbval-kernel-startup-timeout=600",
             "-p", "no:cacheprovider", "-p", "tests.notebooks", "-p", "tests.workers",
             "-n", "auto", "--maxprocesses", "8", "--dist", "loadfile", *chosen]
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
