"""Runs the notebooks through papermill, in order; what is finished is not run again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from fusionlib.datasets import data_roots
from fusionlib.errors import FusionError, unknown
from fusionlib.files import check_folder, write_text
from fusionlib.weights import places

from . import ROOT
from .results import commit

__all__ = ["clean_notebook", "find_notebooks", "reproduce"]

ADDRESS = re.compile(r"(?<=\w) at 0x[0-9a-f]+(?=>)")
#: Where this machine has data and weights, which must not change what is kept.
PLACES = ("FUSIONLIB_DATA", "FUSIONLIB_WEIGHTS")


def find_notebooks(only: Sequence[str] | None = None) -> list[Path]:
    """Return the notebooks in order, all of them or those whose name starts with `only`."""
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FusionError(
            f"no notebooks in {ROOT / 'notebooks'}. They come with the repository: clone it and "
            "install it with 'pip install -e .'."
        )
    for name in only or ():
        if not any(path.stem.startswith(name) for path in paths):
            raise unknown("notebook", name, [path.stem for path in paths])
    return [path for path in paths if path.stem.startswith(tuple(only or [""]))]


def reproduce(
    *,
    profile: str = "sample",
    only: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    results_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    restart: bool = False,
    in_place: bool = False,
) -> None:
    """Run the notebooks whose names begin with one of `only`, such as "03"; by default all.

    Executed notebooks and results are written to ``<results_dir>/<profile>/``, by default below
    ``results/`` of the repository. A notebook that is finished is not run again without `restart`,
    unless its source, its parameters or the commit is another; in a clone with uncommitted changes
    all run. One that was stopped continues from the scores that it had written. `in_place` also
    writes the executed notebooks, cleaned, back into ``notebooks/``.

    Raises
    ------
    FusionError
        If papermill is not installed, there is no such notebook or folder, the results folder
        cannot be written, `in_place` is asked for with other data than the whole sample; or
        a notebook failed: the others are run all the same.
    """
    if in_place and (profile != "sample" or limit is not None):
        raise FusionError(
            "the notebooks that are kept show the whole built-in sample: give --in-place with "
            "the profile sample and without --limit."
        )
    check_folder(data_dir, "data")
    check_folder(weights_dir, "weights")
    notebooks = find_notebooks(only)
    results = Path(results_dir or ROOT / "results").resolve()
    parameters = {
        "profile": profile,
        "data_dir": data_dir and str(Path(data_dir).resolve()),
        "weights_dir": weights_dir and str(Path(weights_dir).resolve()),
        "results_dir": _relative(results, ROOT / "notebooks"),
        "device": device,
        "seed": seed,
        "limit": limit,
    }
    state_file = results / profile / "reproduce.json"
    state = _read_state(state_file)
    failed = []
    for path in notebooks:
        output = results / profile / "notebooks" / path.name
        stamp = _stamp(path, parameters)
        if not restart and output.exists() and state.get(path.stem, {}).get("stamp") == stamp:
            print(f"{path.stem}: finished before")
        else:
            print(f"{path.stem}: running", flush=True)
            started = time.perf_counter()
            if reason := _run(path, output, parameters, hidden=PLACES if in_place else ()):
                failed.append(path.stem)
                print(f"{path.stem}: failed{reason}", file=sys.stderr)
                continue
            seconds = round(time.perf_counter() - started, 1)
            state[path.stem] = {"stamp": stamp, "seconds": seconds}
            write_text(state_file, json.dumps(state, indent=1) + "\n")
            print(f"{path.stem}: {seconds} s")
        if in_place:
            write_text(path, clean_notebook(output.read_text(encoding="utf-8")))
    if failed:
        raise FusionError(f"{len(failed)} notebooks failed: {', '.join(failed)}")
    print(f"results are in {results / profile}")


def _run(path: Path, output: Path, parameters: dict[str, Any], *, hidden: Sequence[str]) -> str:
    """Run a notebook without some environment variables; return why that failed, or nothing."""
    try:
        import papermill
    except ImportError as error:
        raise FusionError(
            "running notebooks needs papermill and a kernel: install the extra with "
            "'pip install -e .[notebooks]'."
        ) from error
    partial = output.with_suffix(".partial.ipynb")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionError(
            f"cannot write into {output.parent}: {error.strerror or error}. Choose a results "
            "folder that you may write to."
        ) from error
    try:
        with mock.patch.dict(os.environ):
            for name in hidden:
                os.environ.pop(name, None)
            papermill.execute_notebook(
                path,
                partial,
                parameters,
                kernel_name="python3",
                start_timeout=600,  # seconds, for a busy machine
                cwd=ROOT / "notebooks",
                progress_bar=sys.stderr.isatty(),
            )
    except papermill.exceptions.PapermillExecutionError as error:
        return f" in cell {error.exec_count}: {error.ename}: {error.evalue}\n  see {partial}"
    except Exception as error:  # of the kernel: killed, not installed
        return f": {type(error).__name__}: {error}\n  see {partial}"
    partial.replace(output)
    return ""


def _read_state(path: Path) -> dict[str, Any]:
    """What is finished; nothing, if the file is not there or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _relative(path: Path, start: Path) -> str:
    """Return the path from `start`; on Windows there is none from one drive to another."""
    with contextlib.suppress(ValueError):
        return os.path.relpath(path, start)
    return str(path)


def _stamp(notebook: Path, parameters: dict[str, Any]) -> str:
    """Hash everything that decides a notebook's result: its cells, the commit, the settings."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    machine = [str(place) for place in (*data_roots(None), *places(None))]
    decides = [parameters, [cell["source"] for cell in cells], code := commit(), machine]
    if code.endswith("-dirty"):  # what the change is, is not known: nothing counts as finished
        decides.append(os.urandom(16).hex())
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def clean_notebook(text: str) -> str:
    """Strip an executed notebook of what differs between machines and runs.

    The injected parameters cell, timestamps, memory addresses, papermill's and widgets'
    metadata go; the sources and outputs stay. Cells are numbered.
    """
    import nbformat

    notebook = nbformat.reads(text, as_version=4)
    cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for number, cell in enumerate(cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        cell.id = f"cell-{number:02d}"
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = count
            data = output.get("data", {})
            if "text/plain" in data:
                data["text/plain"] = ADDRESS.sub("", data["text/plain"])
            if "image/jpeg" in data or "image/png" in data:
                # Its picture is shown where there is no kernel.
                data.pop("application/vnd.jupyter.widget-view+json", None)
    notebook.cells = cells
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.writes(notebook) + "\n"


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar, which is noise once the run is over."""
    text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
    return bool(re.search(r"\d+%\|.*\|", text)) or output.get("name") == "stderr"
