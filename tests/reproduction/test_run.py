"""reproduce: notebooks run in order, once; a stopped or failed run continues."""

from __future__ import annotations

import json
import os
import sys

import pytest

from fusionlib.errors import FusionError
from reproduction import run as module
from reproduction.run import clean_notebook, find_notebooks, reproduce

nbformat = pytest.importorskip("nbformat")
papermill = pytest.importorskip("papermill")

PARAMETERS = "profile = seed = limit = device = data_dir = weights_dir = results_dir = None"
ALL = ["00_first", "01_second", "10_last"]


def notebook(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "3"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=metadata))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout with three notebooks, and what shall not be run."""
    folder = tmp_path / "repository" / "notebooks"
    folder.mkdir(parents=True)
    for name in reversed(ALL):
        (folder / f"{name}.ipynb").write_text(notebook(f"'{name}'"))
    (folder / "draft.ipynb").write_text("not a notebook")
    (folder / "00_notes.md").touch()
    monkeypatch.setattr(module, "ROOT", folder.parent)
    monkeypatch.setattr(module, "commit", lambda: "this")
    return folder.parent


@pytest.fixture
def runs(monkeypatch):
    """Stand in for papermill: note what is run, and where the data are; faults by notebook."""
    done = []

    def execute(path, output, parameters, **options):
        done.append(path.stem)
        runs.data = os.environ.get("FUSIONLIB_DATA")
        output.write_text(path.read_text())
        if path.stem in runs.faults:
            raise runs.faults[path.stem]

    def runs():
        taken = done.copy()
        done.clear()
        return taken

    runs.faults = {}
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return runs


def test_order_and_choice(repository):
    assert [path.stem for path in find_notebooks()] == ALL
    assert [path.stem for path in find_notebooks(["10", "00_fir"])] == ["00_first", "10_last"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"only": ["00", "02"]}, r"unknown notebook '02'.*00_first, 01_second, 10_last"),
        ({"data_dir": "gone"}, "no such folder of data: gone. Check"),
        ({"weights_dir": "gone"}, "no such folder of weights: gone. Check"),
        ({"results_dir": __file__}, "cannot write into"),
        ({"in_place": True, "profile": "paper"}, "whole built-in sample"),
        ({"in_place": True, "limit": 2}, "whole built-in sample"),
    ],
)
def test_what_cannot_be_asked_for(repository, runs, asked, message):
    with pytest.raises(FusionError, match=message):
        reproduce(**asked)
    assert runs() == []


def test_without_notebooks_or_papermill(repository, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(module, "ROOT", tmp_path)
        with pytest.raises(FusionError, match="come with the repository"):
            find_notebooks()
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(FusionError, match=r"\[notebooks\]"):
        reproduce()


# ---------------------------------------------------------------- how often


def test_only_once(repository, runs, capsys):
    reproduce()
    assert runs() == ALL
    folder = repository / "results" / "sample"
    assert sorted(path.stem for path in (folder / "notebooks").iterdir()) == ALL
    assert set(json.loads((folder / "reproduce.json").read_text())) == set(ALL)
    capsys.readouterr()
    reproduce()
    assert runs() == []
    assert capsys.readouterr().out.count("finished before") == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        *[
            (one, ALL)
            for one in ({"seed": 1}, {"limit": 2}, {"profile": "paper"}, {"data_dir": "."})
        ],
        ({"restart": True}, ALL),
        ({"only": ["01"], "restart": True}, ["01_second"]),
    ],
)
def test_settings_decide(repository, runs, change, expected):
    reproduce()
    runs()
    reproduce(**change)
    assert runs() == expected


def test_changed_source_and_commit(repository, runs, monkeypatch):
    """What --in-place writes back, or a reader's own run, is no reason to run again."""
    reproduce(in_place=True)
    runs()
    reproduce()
    assert runs() == []
    (repository / "notebooks" / "01_second.ipynb").write_text(notebook("'changed'"))
    (repository / "results" / "sample" / "notebooks" / "10_last.ipynb").unlink()
    reproduce()
    assert runs() == ["01_second", "10_last"]
    for commit in ("another", "this-dirty", "this-dirty"):  # what the change is, is not known
        monkeypatch.setattr(module, "commit", lambda name=commit: name)
        reproduce()
        assert runs() == ALL


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_damaged_state(repository, runs, content):
    reproduce()
    runs()
    (repository / "results" / "sample" / "reproduce.json").write_text(content)
    reproduce()
    assert runs() == ALL


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", [RuntimeError("Kernel died"), OSError("no such kernel")])
def test_fault_of_a_kernel(repository, runs, capsys, fault):
    runs.faults["01_second"] = fault
    with pytest.raises(FusionError, match="1 notebooks failed: 01_second"):
        reproduce()
    assert runs() == ALL
    error = capsys.readouterr().err
    assert f"01_second: failed: {type(fault).__name__}: {fault}" in error
    runs.faults.clear()
    reproduce()
    assert runs() == ["01_second"]


def test_interrupted(repository, runs):
    runs.faults["01_second"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        reproduce()
    assert runs() == ["00_first", "01_second"]
    folder = repository / "results" / "sample"
    assert not (folder / "notebooks" / "01_second.ipynb").exists()
    runs.faults.clear()
    reproduce()
    assert runs() == ["01_second", "10_last"]


def test_real_run(repository, tmp_path, capsys):
    """Parameters arrive, a failing notebook is reported, the others run, outputs go back."""
    notebooks = repository / "notebooks"
    (notebooks / "00_first.ipynb").write_text(
        notebook("import sys, pathlib", "print(profile, seed, limit, results_dir)",
                 "print('noise', file=sys.stderr)", "pathlib.Path.cwd().name")
    )  # fmt: skip
    (notebooks / "01_second.ipynb").write_text(notebook("1 / 0"))
    results = tmp_path / "results"
    with pytest.raises(FusionError, match="1 notebooks failed: 01_second"):
        reproduce(results_dir=results, seed=5, in_place=True)
    captured = capsys.readouterr()
    assert "01_second: failed in cell 3: ZeroDivisionError: division by zero" in captured.err
    assert (results / "sample" / "notebooks" / "01_second.partial.ipynb").exists()
    state = json.loads((results / "sample" / "reproduce.json").read_text())
    assert set(state) == {"00_first", "10_last"}
    done = nbformat.read(notebooks / "00_first.ipynb", as_version=4)
    nbformat.validate(done)
    printed, shown = (output for cell in done.cells for output in cell.get("outputs", []))
    assert printed["text"] == "sample 5 None ../../results\n"
    assert shown["data"]["text/plain"] == "'notebooks'"
    assert str(tmp_path) not in (notebooks / "00_first.ipynb").read_text()
    assert nbformat.read(notebooks / "01_second.ipynb", as_version=4).cells[1].outputs == []


def test_kept_notebooks_do_not_see_this_machine(repository, runs, monkeypatch):
    monkeypatch.setenv("FUSIONLIB_DATA", "here")
    reproduce(in_place=True)
    assert runs.data is None and os.environ["FUSIONLIB_DATA"] == "here"
    reproduce(restart=True)
    assert runs.data == "here"


# ---------------------------------------------------------------- cleaning


def executed():
    """What papermill leaves, with progress bars and widgets."""
    new = nbformat.v4
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    outputs = [
        new.new_output("stream", name="stderr", text="scoring: 100%|####| 2/2"),
        new.new_output("stream", name="stdout", text="scoring:  50%|##  | 1/2"),
        new.new_output("stream", name="stdout", text="done\n"),
        new.new_output("display_data", data={"text/plain": "  0%|          | 0/6 [00:00<?]"}),
        new.new_output("execute_result", data={"text/plain": "7"}, execution_count=9),
        new.new_output("display_data", data={"text/plain": "<Styler at 0x7f9b>"}),
        new.new_output("display_data", data={**widget, "image/jpeg": "QUJD"}),
        new.new_output("display_data", data=widget),
    ]
    stamp = {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}}
    cells = [
        new.new_markdown_cell("# Title", metadata={"papermill": {"duration": 0.1}}),
        new.new_code_cell("seed = 0", metadata={"tags": ["parameters"], "papermill": {}}),
        new.new_code_cell("seed = 5", metadata={"tags": ["injected-parameters"]}),
        new.new_code_cell("run()", execution_count=9, metadata=stamp, outputs=outputs),
    ]
    metadata = {
        "papermill": {"input_path": "/home/someone/00.ipynb", "start_time": "2026-01-01"},
        "widgets": {"state": {}},
        "language_info": {"name": "python", "version": "3.11.99"},
    }
    return nbformat.writes(new.new_notebook(cells=cells, metadata=metadata))


def test_clean():
    """What differs between runs goes; a widget without a picture stays. Once is enough."""
    text = clean_notebook(executed())
    assert not any(word in text for word in ("2026-01-01", "/home/", "papermill", "3.11.99"))
    cleaned = nbformat.reads(text, as_version=4)
    nbformat.validate(cleaned)
    assert [cell.source for cell in cleaned.cells] == ["# Title", "seed = 0", "run()"]
    assert [cell.id for cell in cleaned.cells] == ["cell-00", "cell-01", "cell-02"]
    assert cleaned.cells[1].metadata == {"tags": ["parameters"]}
    outputs = cleaned.cells[2].outputs
    assert [o.get("text", o.get("data")) for o in outputs] == [
        "done\n",
        {"text/plain": "7"},
        {"text/plain": "<Styler>"},
        {"image/jpeg": "QUJD"},  # without a kernel a widget shows nothing; its picture does
        {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}},
    ]
    assert cleaned.cells[2].execution_count == outputs[1].execution_count == 2
    assert clean_notebook(text) == text
