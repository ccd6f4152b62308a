"""Runs the notebooks through papermill, in order; what is finished is not run again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fusionlib.datasets import data_roots
from fusionlib.errors import FusionError, unknown
from fusionlib.files import check_folder, write_text
from fusionlib.weights import places

from . import ROOT
from .results import commit

__all__ = ["clean_notebook", "find_notebooks", "reproduce"]

ADDRESS = re.compile(r"(?<=\w) at 0x[0-9a-f]+(?=>)")


def find_notebooks(only: Sequence[str] | None = None) -> list[Path]:
    """Return the notebooks in order, all of them or those whose name starts with `only`.

    Raises
    ------
    FusionError
        If there are no notebooks beside the package (they come with the repository), or
        none of a given name.
    """
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FusionError(
            f"no notebooks in {ROOT / 'notebooks'}. They come with the repository: clone it and "
            "install it with 'pip install -e .'."
        )
    if not only:
        return paths
    for name in only:
        if not any(path.stem.startswith(name) for path in paths):
            raise unknown("notebook", name, [path.stem for path in paths])
    return [path for path in paths if any(path.stem.startswith(name) for name in only)]


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
    """Run the notebooks.

    Executed notebooks and results are written to ``<results_dir>/<profile>/``. A notebook that is
    finished is not run again, unless its source, its parameters or the commit is another; in a
    clone with uncommitted changes all run. One that was stopped continues from the scores that it
    had written.

    Parameters
    ----------
    profile : {"sample", "paper"}
        The built-in images, or the real data sets.
    only : sequence of str, optional
        Numbers or beginnings of names, such as "03".
    data_dir, weights_dir, results_dir : path, optional
        Where data and weights are looked for first; where results go (default:
        ``results/`` of the repository).
    limit : int, optional
        Only the first pairs of each data set.
    device, seed
        Passed to the notebooks.
    restart : bool
        Run what is finished too.
    in_place : bool
        Also write the executed notebooks, cleaned, back into ``notebooks/``.

    Raises
    ------
    FusionError
        If papermill is not installed, there is no such notebook or folder, the results folder
        cannot be written, `in_place` is asked for with other data than the whole sample; or
        a notebook failed: the others are run all the same.
    """
    _check(profile, limit, in_place)
    check_folder(data_dir, "data")
    check_folder(weights_dir, "weights")
    notebooks = find_notebooks(only)
    results = Path(results_dir or ROOT / "results").resolve()
    parameters = {
        "profile": profile,
        "data_dir": _absolute(data_dir),
        "weights_dir": _absolute(weights_dir),
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
            if reason := _run(path, output, parameters, hidden=in_place):
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


def _check(profile: str, limit: int | None, in_place: bool) -> None:
    """Make sure that notebooks can be run, and kept where that is asked for."""
    try:
        import papermill  # noqa: F401
    except ImportError as error:
        raise FusionError(
            "running notebooks needs papermill and a kernel: install the extra with "
            "'pip install -e .[notebooks]'."
        ) from error
    if in_place and (profile != "sample" or limit is not None):
        raise FusionError(
            "the notebooks that are kept show the whole built-in sample: give --in-place with "
            "the profile sample and without --limit."
        )


def _run(path: Path, output: Path, parameters: dict[str, Any], *, hidden: bool) -> str:
    """Run a notebook; return why that failed, or nothing.

    Data and weights of this machine are not seen where `hidden`.
    """
    import papermill

    _make_folder(output.parent)
    partial = output.with_suffix(".partial.ipynb")
    try:
        with _without_variables() if hidden else contextlib.nullcontext():
            papermill.execute_notebook(
                path,
                partial,
                parameters,
                kernel_name="python3",
                start_timeout=600,  # seconds, for a busy machine
                cwd=ROOT / "notebooks",
                progress_bar=sys.stderr.isatty(),
            )
    except Exception as error:  # of a cell, or of the kernel: killed, not installed
        return f"{_reason(error)}\n  see {partial}"
    partial.replace(output)
    return ""


@contextlib.contextmanager
def _without_variables() -> Iterator[None]:
    """Hide data and weights of this machine: they must not change what is kept."""
    hidden = {
        name: os.environ.pop(name)
        for name in ("FUSIONLIB_DATA", "FUSIONLIB_WEIGHTS")
        if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def _read_state(path: Path) -> dict[str, Any]:
    """What is finished; nothing, if the file is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FusionError(
            f"cannot write into {folder}: {error.strerror or error}. Choose a results folder "
            "that you may write to."
        ) from error


def _reason(error: Exception) -> str:
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f" in cell {error.exec_count}: {error.ename}: {error.evalue}"
    return f": {type(error).__name__}: {error}"


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _relative(path: Path, start: Path) -> str:
    """Return the path from `start`; on Windows there is none from one drive to another."""
    try:
        return os.path.relpath(path, start)
    except ValueError:
        return str(path)


def _stamp(notebook: Path, parameters: dict[str, Any]) -> str:
    """Hash everything that decides a notebook's result: its cells, the commit, the settings."""
    sha = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sha.update(json.dumps([cell["source"] for cell in cells]).encode())
    sha.update((code := commit()).encode())
    if code.endswith("-dirty"):  # what the change is, is not known: nothing counts as finished
        sha.update(os.urandom(16))
    sha.update("\n".join(map(str, [*data_roots(None), *places(None)])).encode())
    return sha.hexdigest()


def clean_notebook(text: str) -> str:
    """Strip an executed notebook of what differs between machines and runs.

    The injected parameters cell, timestamps, memory addresses, papermill's and widgets'
    metadata go; the sources and outputs stay. Cell identifiers become the cell's number.
    """
    import nbformat

    notebook = nbformat.reads(text, as_version=4)
    cells: list[Any] = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            continue
        cell.metadata = {"tags": tags} if tags else {}
        cell.id = f"cell-{len(cells):02d}"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_progress(o)]
            for output in cell.outputs:
                data = output.get("data", {})
                if "text/plain" in data:
                    data["text/plain"] = ADDRESS.sub("", data["text/plain"])
                if "image/jpeg" in data or "image/png" in data:
                    # Its picture is shown where there is no kernel.
                    data.pop("application/vnd.jupyter.widget-view+json", None)
        cells.append(cell)
    notebook.cells = cells
    _number_cells(notebook)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.writes(notebook) + "\n"


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar, which is noise once the run is over."""
    text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
    return bool(re.search(r"\d+%\|.*\|", text)) or output.get("name") == "stderr"


def _number_cells(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = number
