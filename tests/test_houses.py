"""The two houses: the library knows nothing of the papers', and no module needs itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Imports inside functions: of what is heavy and seldom needed.
MOST_INSIDE = 40


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for house in ("fusionlib", "reproduction")
    for path in sorted((ROOT / house).rglob("*.py"))
}


def imports(module, path):
    """Return what a module imports: names of modules, with whether inside a function."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []

    def visit(node, inside):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.Import):
            found.extend((one.name, inside) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above * bool(node.level), *filter(None, [node.module])])
            for one in node.names:
                whole = f"{base}.{one.name}"
                found.append((whole if whole in MODULES else base, inside))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), inside=False)
    return found


@pytest.fixture(scope="module")
def graph():
    return {module: imports(module, path) for module, path in MODULES.items()}


def test_the_library_never_imports_the_papers_house(graph):
    assert [
        (module, name)
        for module, found in graph.items()
        for name, _ in found
        if module.startswith("fusionlib") and name.split(".")[0] == "reproduction"
    ] == []


def test_no_module_needs_itself(graph):
    """Not by way of others either, nor inside a function."""
    needs = {
        module: {name for name, _ in found if name in MODULES} - {module}
        for module, found in graph.items()
    }
    [*TopologicalSorter(needs).static_order()]  # raises CycleError


def test_few_imports_are_inside_functions(graph):
    inside = [(module, name) for module, found in graph.items() for name, deep in found if deep]
    assert len(set(inside)) <= MOST_INSIDE, sorted(set(inside))


def test_the_library_works_alone(tmp_path):
    """As where the wheel is installed: its folder and its data, without the repository."""
    (tmp_path / "fusionlib").symlink_to(ROOT / "fusionlib")
    code = (
        "import fusionlib as fl; fl.create('mst'); import sys; print('reproduction' in sys.modules)"
    )
    variables = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
