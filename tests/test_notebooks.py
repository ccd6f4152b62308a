"""The notebooks as a reader finds them: the parts that each has, short cells, names that exist.

What they compute is run and compared by ``python -m tests.notebooks``.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: These compare nothing with a paper.
WITHOUT_DIFFERENCES = ("00_start_here", "12_explorer")
#: Lines of a code cell, but the setup and empty ones.
LONGEST = 13
#: Characters of a line of code: longer ones are cut off on a page.
WIDEST = 120


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param.stem, json.loads(request.param.read_text(encoding="utf-8"))["cells"]


def texts(cells, kind="markdown"):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_every_notebook_is_looked_at():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(15)]


def test_parts(notebook):
    name, cells = notebook
    first, *others = texts(cells)
    assert first.startswith("# ") and re.search(r"^\*Time\b", first, re.MULTILINE)
    assert re.search(r"^\*\*(Reproduces|Compares|Every checkable claim)\b", first, re.MULTILINE)
    headings = re.findall(r"^(#+) (.*)", "\n".join(others), re.MULTILINE)
    assert "#" not in [level for level, _ in headings], "one title"
    assert "Provenance" in headings[-1][1]
    assert ("##", "What differs and why") in headings or name in WITHOUT_DIFFERENCES
    code = texts(cells, "code")
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1 and "".join(tagged[0]["source"]) == code[0]
    assert "short_provenance" in code[-1]


def test_cells_are_short(notebook):
    for text in texts(notebook[1], "code")[2:]:
        lines = [line for line in text.splitlines() if line]
        assert len(lines) <= LONGEST and max(map(len, lines)) <= WIDEST, text


def test_links_lead_somewhere(notebook):
    for target in re.findall(r"\]\(([^)#]+\.ipynb)", "\n".join(texts(notebook[1]))):
        assert (ROOT / "notebooks" / target).is_file(), target


def test_names_in_the_texts_exist(notebook):
    spans = re.findall(r"`([^`\n]+)`", "\n".join(texts(notebook[1])))
    for span in spans:
        if path := re.fullmatch(r"(?:results/paper|tests|data)/[\w./*]+", span):
            assert [*ROOT.glob(path.group())], span
        if dotted := re.match(r"(?:fl|fusionlib)((?:\.[A-Za-z_]\w*)+)", span):
            found = importlib.import_module("fusionlib")
            for part in dotted.group(1)[1:].split("."):
                module = f"{getattr(found, '__name__', '')}.{part}"
                found = getattr(found, part, None) or importlib.import_module(module)
        if command := re.match(r"python -m ([\w.]+)", span):
            assert importlib.util.find_spec(command.group(1)), span
