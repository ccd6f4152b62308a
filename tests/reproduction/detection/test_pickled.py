"""Whole modules that were pickled are read without their classes, and nothing in them is run."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib.checkpoints import Checkpoint, read_checkpoint
from fusionlib.errors import WeightsMismatch
from reproduction.detection.pickled import read_modules


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


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.pt"


@pytest.mark.parametrize("wrap", ["alone", "model", "ema", "beside others", "of PyTorch 1"])
def test_tensors_of_a_pickled_module(file, wrap):
    """As its state dict has them, a number with a shape of (1,); nothing of its class is run."""
    module, other = Counting(), {"fitness": np.float64(0.3), "path": file, "opt": Namespace(a=1)}
    content = {"alone": module, "model": {"model": module, "ema": None}}
    content |= {"ema": {"ema": module, "model": 3}, "beside others": {"model": module, **other}}
    expected = {name: t.reshape(t.shape or 1) for name, t in module.state_dict().items()}
    for part in module.modules() if wrap == "of PyTorch 1" else ():
        del part._state_dict_pre_hooks  # which came later
    torch.save(content.get(wrap, module), file)
    Counting.calls.clear()
    tensors, names = read_modules(file)
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0)
    assert names == ("cat", "dog")
    again = read_checkpoint(Checkpoint("modules", ()), [file])
    torch.testing.assert_close(again, expected, rtol=0, atol=0)
    assert not Counting.calls


@pytest.mark.parametrize("place", ["beside", "inside", "_state_dict_hooks", "_parameters"])
def test_code_beside_a_pickled_module_is_not_run(file, tmp_path, place):
    trace, module = tmp_path / "trace", Counting()
    content = {"model": module}
    if place == "beside":
        content["extra"] = Malicious(trace)
    elif place == "inside":
        module.extra = Malicious(trace)
    else:  # what a state dict is made of
        module.__dict__[place] = {"a": Malicious(trace), "b": os.system, "c": module.forward}
    torch.save(content, file)
    with contextlib.suppress(WeightsMismatch):
        read_modules(file)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_modules", {"a": 3}, "its module is damaged"),
        ("_modules", [1], "its module is damaged"),
        ("names", 7, "its module is damaged"),
        ("_buffers", {"anchors": torch.eye(3).to_sparse()}, "anchors is no plain tensor"),
    ],
)
def test_modules_with_odd_insides(file, name, value, words):
    module = Counting()
    module.__dict__[name] = value
    torch.save({"model": module}, file)
    with pytest.raises(WeightsMismatch, match=words):
        read_modules(file)


@pytest.mark.parametrize(
    "content", [{"model": Counting().state_dict()}, {"ema": torch.ones(3), "model": torch.ones(3)}]
)
def test_a_checkpoint_without_a_module(file, content):
    torch.save(content, file)
    with pytest.raises(WeightsMismatch, match="no pickled module"):
        read_modules(file)
    file.write_bytes(b"<html>")
    with pytest.raises(WeightsMismatch, match="no PyTorch checkpoint"):
        read_modules(file)
