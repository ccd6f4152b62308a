"""tracing: what ran, in order, as PyTorch's own hooks count it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.msdnet import MSDNet
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.networks.res2netfuse import Res2NetFuse
from reproduction.tracing import layer_table, steps, trace


@pytest.fixture(params=["released", "paper", DenseFuse, MSDNet])
def network(request):
    return Res2NetFuse(request.param) if isinstance(request.param, str) else request.param()


def test_layer_table_is_what_ran(network):
    """As PyTorch's hooks see it."""
    names, calls = {module: name for name, module in network.named_modules()}, []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    table = layer_table(network)
    assert [names[one] for one in calls] == list(table["layer"])
    assert [
        [one.kernel_size[0], one.stride[0], one.in_channels, one.out_channels] for one in calls
    ] == table[["size", "stride", "input channels", "output channels"]].values.tolist()


def test_stride_and_reuse_of_weights():
    table = layer_table(nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU()))
    assert table[["stride", "activation"]].values.tolist() == [[2, "ReLU"]]
    uses = [step.uses for step in trace(Res2NetFuse("released")) if "branches" in step.name]
    assert uses == [1, 2, 3, 4, 5, 6]
    assert {step.uses for step in trace(Res2NetFuse("paper")) if step.module} == {1}


def test_trace_is_connected(network):
    operations = trace(network)
    assert operations[0].kind == "image" and not operations[0].inputs
    for index, operation in enumerate(operations[1:], start=1):
        assert operation.inputs and max(operation.inputs) < index
    used = {source for operation in operations for source in operation.inputs}
    assert used == set(range(len(operations) - 1))  # all but the output lead somewhere
    assert operations[-1].after.shape == (1, 1, 32, 32)
    for operation in operations:
        if operation.kind == "concat":
            parts = [operations[i].after.shape[1] for i in operation.inputs]
            assert operation.after.shape[1] == sum(parts)


def test_residual_of_the_released_network():
    """Released: two sums within the block and one around it; paper: only those within."""
    kinds = {v: [o.kind for o in trace(Res2NetFuse(v))] for v in ("released", "paper")}
    assert kinds["released"].count("add") == 3
    assert kinds["paper"].count("add") == 2
    assert kinds["paper"].count("split") == 4


def test_steps_of_refinefuse():
    """Every module once, with what it was given and gave, and where that came from."""
    torch.manual_seed(0)
    net, (ir, vis) = RefineFuse().eval(), torch.rand(2, 1, 1, 32, 40)
    found = steps(net, ir, vis)
    names = [step.name for step in found]
    assert names[:2] == ["infrared", "visible"]
    assert sorted(names[2:]) == sorted(
        [f"encode_{m}.{i}" for m in ("ir", "vis") for i in range(4)]
        + [f"joins.{i}" for i in range(4)]
        + [f"decoders.{i}" for i in range(3)]
        + [f"last.{i}" for i in range(4)]
        + ["fim"]
    )
    sources = {step.name: {names[i] for i in step.inputs} for step in found}
    assert sources["encode_ir.0"] == {"infrared"}
    assert sources["joins.2"] == {"encode_ir.2", "encode_vis.2"}
    assert sources["decoders.2"] == {"joins.3"}
    assert sources["decoders.1"] == {"decoders.2", "joins.2"}
    assert sources["fim"] == {"decoders.1", "joins.1"}
    assert sources["last.0"] == {"decoders.0", "joins.0"}
    fim = found[names.index("fim")]
    with torch.inference_mode():
        assert torch.equal(net.fim(*fim.before), fim.after)
        assert torch.equal(torch.tanh(found[-1].after), net(ir, vis))
    assert not net.fim._forward_hooks
