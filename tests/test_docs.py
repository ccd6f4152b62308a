"""The documentation: its pages need nothing from the net, and links lead somewhere.

That it builds without a warning is seen by `make docs`, which CI runs.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("sphinx", reason="the documentation's tools are not installed: make docs")
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_picture_is_shown_in_place_of_its_widget(build, tmp_path):
    outputs = {"image/png": PICTURE, WIDGET: {"model_id": "1"}, "text/plain": ["Explorer()"]}
    shown = new_output("display_data", outputs)
    notebook = new_notebook(
        cells=[new_markdown_cell("# Story"), new_code_cell("explore()", outputs=[shown])],
        metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}},
    )
    state = {"state": {"1": {"model_name": "LayoutModel"}}, "version_major": 2, "version_minor": 0}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    pages, out = tmp_path / "pages", tmp_path / "out"
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.md", "*.rst", "[!c]*.py"))
    nbformat.write(notebook, pages / "index.ipynb")
    assert build.sphinx(["-W", "-q", str(pages), str(out)]) == 0
    html = (out / "index.html").read_text()
    assert re.search(r'<img[^>]*src="_images/[^"]*\.png"', html)
    assert "Explorer()" not in html
    assert build.loads_from_net(out) == []


def test_what_is_loaded_from_the_net_is_found(build, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://doi.org/1">paper</a> <img src="_images/a.png">'
        '<script async src="https://cdn.example/x.js"></script>'
    )
    (tmp_path / "a.css").write_text("@import 'https://fonts.example/a'; b { color: red }")
    assert [found.split(":")[0] for found in build.loads_from_net(tmp_path)] == ["a.html", "a.css"]


def test_dead_links_are_found(build, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#x">b</a> <a href="#y">y</a> <a href="https://doi.org/1">1</a>'
        '<a href="a%20b.html?z">a b</a> <img src="c.png">'
    )
    (tmp_path / "a b.html").touch()
    assert build.dead_links(tmp_path) == ["a.html: b.html", "a.html: c.png"]


def test_outputs_have_what_jupyter_does_for_them(build, tmp_path):
    html = ['<p>$I(A;F)$, <a href="07_x.ipynb#t">', "07</a>, 5 to 6</p>"]
    cell = {"cell_type": "code", "outputs": [{"data": {"text/html": html}}]}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [cell, {"cell_type": "markdown"}]}))
    build.copy_notebook(tmp_path / "a.ipynb", tmp_path / "b.ipynb")
    copy = json.loads((tmp_path / "b.ipynb").read_text())
    text = copy["cells"][0]["outputs"][0]["data"]["text/html"]
    assert "$" not in text and text.count("<math") == 1
    assert text.endswith(', <a href="07_x.html#t">07</a>, 5 to 6</p>')
