"""fusionlib: the public names, loaded when they are used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import fusionlib

HEAVY = ("torch", "pandas", "matplotlib", "numpy", "cv2", "scipy")
PUBLIC = {  # DESIGN.md, "Public API"
    *("Pair", "load_dataset", "read_pair", "create", "evaluate", "benchmark", "Method"),
    *("list_methods", "list_metrics", "list_datasets", "FusionError", "ImageError"),
    *("PairMismatch", "WeightsNotFound", "WeightsMismatch", "DatasetNotFound"),
}


@pytest.mark.parametrize(
    "script",
    [
        "import sys, fusionlib; dir(fusionlib); fusionlib.FusionError",
        "import sys, fusionlib.__main__ as line; line.make_parser()",
    ],
)
def test_import_and_command_line_are_light(script):
    """Help, and what is wrong in a command, come at once."""
    script += f"; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("name", fusionlib.__all__)
def test_public_name(name):
    value = getattr(fusionlib, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__doc__ and len(value.__doc__.split()) > 3
    assert name in dir(fusionlib)


def test_promised_names():
    assert set(fusionlib.__all__) >= PUBLIC


def test_submodules_are_modules():
    """A function must not hide the module of the same name."""
    for name in ("evaluation", "methods", "metrics", "errors", "pairs"):
        assert importlib.import_module(f"fusionlib.{name}") is sys.modules[f"fusionlib.{name}"]


def test_version():
    assert [part.isdigit() for part in fusionlib.__version__.split(".")] == [True] * 3
