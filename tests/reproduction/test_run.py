"""reproduce: notebooks run in order, once; a stopped or failed run continues."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fusionlib.errors import FusionError
from reproduction import run as module
from reproduction.run import clean_notebook, find_notebooks, reproduce

nbformat = pytest.importorskip("nbformat")
papermill = pytest.importorskip("papermill")

PARAMETERS = "profile = seed = limit = device = data_dir = weights_dir = results_dir = None"


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
    for name in ("10_last", "00_first", "01_second"):
        (folder / f"{name}.ipynb").write_text(notebook(f"'{name}'"))
    (folder / "draft.ipynb").write_text("not a notebook")
    (folder / "00_notes.md").touch()
    monkeypatch.setattr(module, "ROOT", folder.parent)
    monkeypatch.setattr(module, "commit", lambda: "this")
    return folder.parent


@pytest.fixture
def runs(monkeypatch):
    """Stand in for papermill: note what is run; a notebook's faults are those in `faults`."""
    done = []

    def execute(path, output, parameters, **options):
        done.append(path.stem)
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


ALL = ["00_first", "01_second", "10_last"]


# ---------------------------------------------------------------- which


def test_order(repository):
    assert [path.stem for path in find_notebooks()] == ALL


def test_some(repository):
    assert [path.stem for path in find_notebooks(["10", "00_fir"])] == ["00_first", "10_last"]


def test_unknown_notebook(repository):
    with pytest.raises(FusionError, match=r"unknown notebook '02'.*00_first, 01_second, 10_last"):
        reproduce(only=["00", "02"])


@pytest.mark.parametrize("what", ["data", "weights"])
def test_absent_folder(repository, runs, what):
    with pytest.raises(FusionError, match=f"no such folder of {what}: gone. Check"):
        reproduce(**{f"{what}_dir": "gone"})
    assert runs() == []


def test_no_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(FusionError, match="come with the repository"):
        find_notebooks()


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
        ({"seed": 1}, ALL),
        ({"limit": 2}, ALL),
        ({"profile": "paper"}, ALL),
        ({"data_dir": "."}, ALL),
        ({"restart": True}, ALL),
        ({"only": ["01"], "restart": True}, ["01_second"]),
        ({}, []),
    ],
)
def test_settings_decide(repository, runs, change, expected):
    reproduce()
    runs()
    reproduce(**change)
    assert runs() == expected


def test_changed_source(repository, runs, monkeypatch):
    reproduce()
    runs()
    (repository / "notebooks" / "01_second.ipynb").write_text(notebook("'changed'"))
    reproduce()
    assert runs() == ["01_second"]
    monkeypatch.setattr(module, "commit", lambda: "another")
    reproduce()
    assert runs() == ALL


def test_with_uncommitted_changes_nothing_counts_as_finished(repository, runs, monkeypatch):
    monkeypatch.setattr(module, "commit", lambda: "this-dirty")
    reproduce()
    runs()
    reproduce()
    assert runs() == ALL


def test_changed_output_of_the_source_is_no_change(repository, runs):
    """What --in-place writes back, or a reader's own run, is not a reason to run again."""
    reproduce(in_place=True)
    runs()
    reproduce()
    assert runs() == []


def test_lost_output(repository, runs):
    reproduce()
    runs()
    (repository / "results" / "sample" / "notebooks" / "10_last.ipynb").unlink()
    reproduce()
    assert runs() == ["10_last"]


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
    assert set(json.loads((folder / "reproduce.json").read_text())) == {"00_first"}
    assert not (folder / "notebooks" / "01_second.ipynb").exists()
    runs.faults.clear()
    reproduce()
    assert runs() == ["01_second", "10_last"]


def test_papermill_is_an_extra(repository, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "papermill", None)
    with pytest.raises(FusionError, match=r"\[notebooks\]"):
        reproduce()


# ---------------------------------------------------------------- with a real kernel


def test_real_run(repository, tmp_path, capsys):
    """Parameters arrive, a failing notebook is reported, the others run, outputs go back."""
    notebooks = repository / "notebooks"
    (notebooks / "00_first.ipynb").write_text(
        notebook("import sys, pathlib", "print(profile, seed, limit, results_dir)",
                 "print('noise', file=sys.stderr)", "pathlib.Path.cwd().name")
    )  # fmt: skip
    (notebooks / "01_second.ipynb").write_text(notebook("1 / 0"))
    results = tmp_path / "results"
    arguments = {"results_dir": results, "seed": 5, "in_place": True}
    with pytest.raises(FusionError, match="1 notebooks failed: 01_second"):
        reproduce(**arguments)
    captured = capsys.readouterr()
    assert "01_second: failed in cell 3: ZeroDivisionError: division by zero" in captured.err
    assert (results / "sample" / "notebooks" / "01_second.partial.ipynb").exists()
    assert set(json.loads((results / "sample" / "reproduce.json").read_text())) == {
        "00_first",
        "10_last",
    }
    done = nbformat.read(notebooks / "00_first.ipynb", as_version=4)
    nbformat.validate(done)
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert outputs[0]["text"] == "sample 5 None ../../results\n"
    assert outputs[1]["data"]["text/plain"] == "'notebooks'"
    assert len(outputs) == 2
    assert str(tmp_path) not in (notebooks / "00_first.ipynb").read_text()
    assert nbformat.read(notebooks / "01_second.ipynb", as_version=4).cells[1].outputs == []


# ---------------------------------------------------------------- cleaning


def executed():
    """What papermill leaves, with a progress bar and a widget."""
    new = nbformat.v4
    cells = [
        new.new_markdown_cell("# Title", metadata={"papermill": {"duration": 0.1}}),
        new.new_code_cell("seed = 0", metadata={"tags": ["parameters"], "papermill": {}}),
        new.new_code_cell("seed = 5", metadata={"tags": ["injected-parameters"]}),
        new.new_code_cell(
            "run()",
            execution_count=9,
            metadata={"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}},
            outputs=[
                new.new_output("stream", name="stderr", text="scoring: 100%|####| 2/2"),
                new.new_output("stream", name="stdout", text="scoring:  50%|##  | 1/2"),
                new.new_output("stream", name="stdout", text="done\n"),
                new.new_output(
                    "display_data", data={"text/plain": "  0%|          | 0/6 [00:00<?]"}
                ),
                new.new_output("execute_result", data={"text/plain": "7"}, execution_count=9),
                new.new_output("display_data", data={"text/plain": "<Styler at 0x7f9b>"}),
            ],
        ),
    ]
    metadata = {
        "papermill": {"input_path": "/home/someone/00.ipynb", "start_time": "2026-01-01"},
        "widgets": {"state": {}},
        "language_info": {"name": "python", "version": "3.11.99"},
    }
    return nbformat.writes(new.new_notebook(cells=cells, metadata=metadata))


def test_clean():
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
    ]
    assert cleaned.cells[2].execution_count == outputs[1].execution_count == 2


def test_clean_is_idempotent():
    once = clean_notebook(executed())
    assert clean_notebook(once) == once


def test_clean_keeps_a_source_as_it_is(repository):
    """Only what a run adds goes: sources and tags stay."""
    text = (repository / "notebooks" / "00_first.ipynb").read_text()
    before, after = (nbformat.reads(t, as_version=4).cells for t in (text, clean_notebook(text)))
    assert [c.source for c in before] == [c.source for c in after]
    assert [c.metadata for c in before] == [c.metadata for c in after]


@pytest.mark.parametrize("other", [{"profile": "paper"}, {"limit": 2}])
def test_kept_notebooks_show_the_whole_sample(repository, runs, other):
    with pytest.raises(FusionError, match="whole built-in sample"):
        reproduce(in_place=True, **other)
    assert runs() == []


def test_results_folder_that_cannot_be_made(repository, runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FusionError, match="cannot write into"):
        reproduce(results_dir=tmp_path / "file" / "results")
    assert runs() == []


def test_kept_notebooks_do_not_see_this_machine(repository, monkeypatch):
    import papermill

    seen = []

    def execute(source, output, *_, **__):
        seen.append(os.environ.get("FUSIONLIB_DATA"))
        Path(output).write_text(Path(source).read_text())

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setenv("FUSIONLIB_DATA", "here")
    reproduce(in_place=True)
    assert set(seen) == {None}
    assert os.environ["FUSIONLIB_DATA"] == "here"


def test_clean_keeps_the_picture_of_a_widget():
    """Without a kernel a widget shows nothing; its picture does."""
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    cell = nbformat.v4.new_code_cell("explorer")
    for data in ({**widget, "image/jpeg": "QUJD", "text/plain": "Explorer()"}, {**widget}):
        cell.outputs.append(nbformat.v4.new_output("display_data", data))
    text = nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))
    first, second = nbformat.reads(clean_notebook(text), as_version=4).cells[0].outputs
    assert first["data"] == {"image/jpeg": "QUJD", "text/plain": "Explorer()"}
    assert second["data"] == widget
