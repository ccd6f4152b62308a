"""A command line to try: a folder with images, commands that must succeed or fail.

A file of tests that uses these has ``main``, the function to call, and ``PROGRAM``, its name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save(path, shape=(24, 28), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a pair of images and a pair of folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("FUSIONLIB_WEIGHTS", "FUSIONLIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save(Path("ir.png"))
    save(Path("vis.png"), seed=1)
    return tmp_path


@pytest.fixture
def folders():
    for i in range(3):
        save(Path(f"ir/{i}.png"), seed=i)
        save(Path(f"vis/{i}.png"), (24, 28, 3), seed=10 + i)


def files():
    return {str(path) for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def refused(capsys, request):
    """Run a command that must fail: status 2, one message, no new file."""

    program = f"{request.module.PROGRAM}: "

    def refused(*arguments, writes=()):
        before = files()
        assert request.module.main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err
        assert error.count(program) == 1 and "Traceback" not in error
        assert files() - before == set(writes)
        return error[error.index(program) + len(program) :]

    return refused


@pytest.fixture
def done(capsys, request):
    """Run a command that must succeed; return what it printed."""

    def done(*arguments):
        assert request.module.main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return done


def truncated():
    return Path("vis.png").read_bytes()[:200]
