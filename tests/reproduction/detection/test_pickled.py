"""pickled: whole modules are read without their classes, and nothing in them is run."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.checkpoints import Checkpoint, read_checkpoint
from fusionlib.errors import WeightsMismatch
from reproduction.detection.pickled import read_modules


def stored(tensors):
    """As the registered sets are: a number has a shape of (1,)."""
    return {name: t.reshape(1) if t.ndim == 0 else t for name, t in tensors.items()}


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    return True


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Counting(nn.Module):
    """Says whenever anything of it is run."""

    calls: ClassVar[list[str]] = []

    def __init__(self):
        super().__init__()
        Counting.calls.append("init")
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.register_buffer("anchors", torch.ones(2))
        self.register_buffer("passing", torch.ones(3), persistent=False)
        self.names = {0: "cat", 1: "dog"}

    def __setstate__(self, state):
        Counting.calls.append("setstate")
        super().__setstate__(state)


@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: {"model": m, "ema": None}, lambda m: {"ema": m, "model": 3}]
)
def test_tensors_of_a_pickled_module(tmp_path, wrap):
    """As its state dict has them; nothing of its class is run."""
    module = Counting()
    torch.save(wrap(module), tmp_path / "model.pt")
    Counting.calls.clear()
    found = read_modules(tmp_path / "model.pt")
    assert same(found.tensors, stored(module.state_dict())) and found.names == ("cat", "dog")
    assert same(read_checkpoint(Checkpoint("modules", ()), [tmp_path / "model.pt"]), found.tensors)
    assert not Counting.calls
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert Counting.calls == ["setstate"]  # which does run it


def test_what_a_pickled_module_brings_along_is_ignored(tmp_path):
    """Of NumPy, of paths, of settings."""
    extra = {"fitness": np.float64(0.3), "path": tmp_path, "opt": argparse.Namespace(a=1)}
    torch.save({"model": Counting(), **extra}, tmp_path / "model.pt")
    assert len(read_modules(tmp_path / "model.pt").tensors) == 8


@pytest.mark.parametrize("inside", [True, False])
def test_code_beside_a_pickled_module_is_not_run(tmp_path, inside):
    trace, module = tmp_path / "trace", Counting()
    content = {"model": module, "extra": Malicious(trace)}
    if inside:
        module.extra = Malicious(trace)
    torch.save(content, tmp_path / "model.pt")
    with contextlib.suppress(WeightsMismatch):
        read_modules(tmp_path / "model.pt")
    assert not trace.exists()


def test_a_checkpoint_without_a_module(tmp_path):
    torch.save({"model": Counting().state_dict()}, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatch, match="no pickled module"):
        read_modules(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_bytes(b"<html>")
    with pytest.raises(WeightsMismatch, match="no PyTorch checkpoint"):
        read_modules(tmp_path / "model.pt")


def test_modules_without_end(tmp_path):
    """Each of 20 holds the next one twice: a million in all, and none larger than a word."""
    module = nn.Linear(1, 1)
    for _ in range(20):
        module = nn.Sequential(module, module)
    torch.save(module, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatch, match="more than 5000 modules"):
        read_modules(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_parameters", 3, None),
        ("_parameters", [torch.ones(2)], None),
        ("_modules", [1], "no tensors"),
        ("_modules", {"a": 3}, "no tensors"),
        ("_non_persistent_buffers_set", argparse.Namespace(), None),
        ("names", 7, "no names of classes"),
        ("layers", None, None),
    ],
)
def test_modules_with_odd_insides(tmp_path, name, value, words):
    """As far as there are tensors they are read; else one message says what is missing."""
    module = Counting()
    module.__dict__[name] = value
    torch.save({"model": module}, tmp_path / "model.pt")
    if words is None:
        assert read_modules(tmp_path / "model.pt").tensors
    elif words == "no tensors":
        module.__dict__["_buffers"] = {}
        torch.save({"model": module}, tmp_path / "model.pt")
        with pytest.raises(WeightsMismatch, match=words):
            read_modules(tmp_path / "model.pt")
    else:
        with pytest.raises(WeightsMismatch, match=words):
            read_modules(tmp_path / "model.pt")


def test_a_pickled_module_of_other_tensors(tmp_path):
    module = Counting()
    module.register_buffer("anchors", torch.eye(3).to_sparse())
    torch.save(module, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatch, match="anchors is no plain tensor"):
        read_modules(tmp_path / "model.pt")
    torch.save({"ema": torch.ones(3), "model": torch.ones(3)}, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatch, match="no pickled module"):
        read_modules(tmp_path / "model.pt")
