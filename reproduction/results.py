"""What a run leaves behind: tidy CSV, summaries to read and print, and its provenance.

``results/<profile>/<table>/`` holds ``per_pair.csv``, ``summary.csv``, ``summary.md``,
``summary.tex`` and ``provenance.json``. Every file is written whole or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fusionlib.errors import FusionError
from fusionlib.files import write_text

from . import ROOT
from .show import latex, markdown

if TYPE_CHECKING:
    from fusionlib.evaluation import Fuser

__all__ = [
    "commit",
    "provenance",
    "read_recorded",
    "save",
    "save_training",
    "short_provenance",
]

PACKAGES = "irvis-fusionlib torch numpy scipy pillow scikit-image opencv-python-headless PyWavelets"


def provenance(
    *,
    methods: Mapping[str, Fuser] | None = None,
    data: Mapping[str, str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    seconds: float | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Collect what decides the numbers of a run.

    `methods` are by row, and their weights' hashes are recorded; `data` is data set -> hash of its
    list of files, `device` that of the networks, `seconds` wall time. Other facts are anything else
    worth recording: profile, limits, how an image was read.
    """
    import torch

    return {
        "commit": commit(),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in PACKAGES.split()}
        | {"torch": torch.__version__},  # its build too, CPU or CUDA
        "device": {
            "name": device,
            "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "seed": seed,
        "weights": {
            row: {"name": method.card.weights, "sha256": method.card.weights_sha256}
            for row, method in (methods or {}).items()
        },
        "data": dict(data or {}),
        "seconds": None if seconds is None else round(seconds, 1),
        **facts,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Return the commit of the repository, with "-dirty" where it has changes; or "unknown"."""
    if not (ROOT / ".git").exists():  # it may lie inside a repository that is not this one
        return "unknown"
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        # A run writes results and Markdown tells of them: neither decides a number.
        changed = _git("status", "--porcelain", "--", ".", ":!results", ":!*.md", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + "-dirty" * bool(changed)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def save(
    folder: str | os.PathLike[str],
    *,
    summary: pd.DataFrame,
    facts: Mapping[str, Any],
    per_pair: pd.DataFrame | None = None,
) -> None:
    """Write a table's results into `folder`.

    A table that measures no pairs has no ``per_pair``, one that is not from `compare`
    no ``summary.tex``.
    """
    folder = Path(folder)
    if per_pair is not None:
        write_text(folder / "per_pair.csv", per_pair.to_csv(index=False))
    write_text(folder / "summary.csv", summary.to_csv(index=False, float_format="%.8g"))
    write_text(folder / "summary.md", f"# {folder.name}\n\n{markdown(summary)}")
    if "paper" in summary:
        write_text(folder / "summary.tex", latex(summary, caption=folder.name))
    _save_facts(folder, facts)


def save_training(
    folder: str | os.PathLike[str], name: str, history: pd.DataFrame, facts: Mapping[str, Any]
) -> None:
    """Write the losses of a training run, ``<name>.csv``, and its provenance into `folder`."""
    folder = Path(folder)
    write_text(folder / f"{name}.csv", history.to_csv(index=False, float_format="%.7g"))
    _save_facts(folder, facts)


def _save_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    write_text(folder / "provenance.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")


def read_recorded(
    table: str, *names: str, only: str = ""
) -> tuple[list[pd.DataFrame | None], dict[str, Any]]:
    """Read what the committed run of profile "paper" left of a table, below ``results/paper``.

    Its CSV files of these names, None where the run wrote no such file, and the provenance. `only`
    is the notebook that measures it, for the error.

    Raises
    ------
    FusionError
        If there is no such run: it is part of the repository, not of the package.
    """
    folder = ROOT / "results" / "paper" / table
    try:
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except OSError as error:
        command = "reproduction run --profile paper" + f" --only {only}" * bool(only)
        if table == "speed":
            command = "benchmarks --save FOLDER"
        raise FusionError(
            f"{table} has no recorded run in {folder}. Work in a clone of the repository, or "
            f"measure it: python -m {command}."
        ) from error
    files = [folder / f"{name}.csv" for name in names]
    return [pd.read_csv(file) if file.is_file() else None for file in files], facts


def short_provenance(facts: Mapping[str, Any]) -> str:
    """Return the line that ends a notebook: what the numbers above depend on, in brief."""
    versions = facts["versions"]
    named = (w for w in facts["weights"].values() if w["sha256"])  # a classical method has none
    weights = ", ".join(dict.fromkeys(f"{w['name']} {w['sha256'][:8]}" for w in named))
    return (
        f"Python {versions['python'].rsplit('.', 1)[0]}, torch {versions['torch'].split('+')[0]}, "
        f"numpy {versions['numpy']}, seed {facts['seed']}, profile {facts.get('profile', '-')}; "
        f"weights: {weights or 'none'}"
    )
