"""Break the code on purpose, one place at a time, and see a test fail.

    python -m tests.mutations [TEXT ...]

Each entry of ``mutations.toml`` is applied to a copy of the package, and the test file that it
names is run. TEXT keeps the entries whose file contains it (``gradient``, ``networks``). Takes
some seconds per entry, two at a time; not a part of ``make test``.

Exit status: 0 if every mutation makes a test fail, else 1, with those that survive or no longer
apply, or with a test file that fails without any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parent.parent
WORKERS = 2


def copy_to(folder: Path) -> Path:
    """Copy what tests need, without data, results and notebooks."""
    for name in ("fusionlib", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copytree(ROOT / "data" / "splits", folder / "data" / "splits")
    shutil.copytree(ROOT / "data" / "paper_tables", folder / "data" / "paper_tables")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def passes(folder: Path, test: str) -> bool | None:
    """Whether a test file passes; None if its tests could not be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"tests/{test}"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # pytest's status: 0 all passed, 1 some failed, 2 could not even be collected.
    return {0: True, 1: False, 2: False}.get(done.returncode)


def verdict(folder: Path, mutation: dict[str, str]) -> str:
    """Say what became of one mutation: "killed" is what should."""
    path = folder / "fusionlib" / mutation["file"]
    text = path.read_text()
    if mutation["old"] not in text:
        return "no longer applies"
    path.write_text(text.replace(mutation["old"], mutation["new"], 1))
    try:
        passed = passes(folder, mutation["test"])
    finally:
        path.write_text(text)
    return {True: "survived", False: "killed", None: "tests did not run"}[passed]


def main(only: Sequence[str]) -> int:
    """Apply the mutations; the exit status is in the module's text."""
    entries = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text())["mutation"]
    chosen = [m for m in entries if not only or any(text in m["file"] for text in only)]
    survivors = 0
    with tempfile.TemporaryDirectory() as temporary:
        folders: SimpleQueue[Path] = SimpleQueue()
        for i in range(WORKERS):
            folders.put(copy_to(Path(temporary) / str(i)))

        def run(do: Callable[..., Any], what: Any) -> Any:
            folder = folders.get()
            try:
                return do(folder, what)
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(WORKERS) as pool:
            tests = sorted({mutation["test"] for mutation in chosen})
            # A test file that fails anyhow would kill every mutation.
            for test, passed in zip(tests, pool.map(partial(run, passes), tests), strict=True):
                if not passed:
                    print(f"{test} fails with nothing changed")
                    return 1
            for mutation, result in zip(
                chosen, pool.map(partial(run, verdict), chosen), strict=True
            ):
                survivors += result != "killed"
                change = f"{mutation['old']!r} -> {mutation['new']!r}"
                print(f"{result}: {mutation['file']}: {change}"[:160], flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations make a test fail")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
