"""efficiency: multiply-accumulates by hand, seconds and memory of calls that are known."""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fusionlib.datasets import package_data
from fusionlib.efficiency import count_macs, measure
from fusionlib.errors import UnknownName
from fusionlib.methods import registry
from fusionlib.networks.aefusion import AEFusion
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.sdnet import SDNet
from fusionlib.networks.swinfusion import SwinFusion


class Two(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, ir, vis):
        return self.layer(ir) + self.layer(vis)


@pytest.mark.parametrize(
    "layer, macs",
    [
        (nn.Conv2d(1, 7, 3, padding=1, bias=True), 7 * 9 * 16 * 24),
        (nn.Conv2d(1, 4, 5, stride=2, padding=2), 4 * 25 * 8 * 12),
        (nn.ConvTranspose2d(1, 3, 4, stride=2, padding=1), 3 * 16 * 16 * 24),
        (nn.Linear(24, 5), 24 * 5 * 16),
        (nn.ReLU(), 0),
    ],
)
def test_macs_by_hand(layer, macs):
    assert count_macs(Two(layer), 16, 24) == 2 * macs


def test_macs_of_densefuse():
    """Every weight works once per pixel, those of the encoder once per image."""
    network = DenseFuse()
    weights = sum(p.numel() for name, p in network.named_parameters() if "weight" in name)
    encoder = sum(
        p.numel()
        for name, p in network.named_parameters()
        if "weight" in name and name.startswith(("first", "dense"))
    )
    assert count_macs(network, 20, 30) == (weights + encoder) * 600


@pytest.mark.parametrize(
    "layer, count",
    [
        (nn.Conv2d(1, 6, 3, padding=1), 6 * 9 * 16 * 24),
        # 4 times the products: every output pixel counts the whole kernel.
        (nn.ConvTranspose2d(1, 3, 4, stride=2, padding=1), 3 * 16 * 32 * 48),
        (nn.Linear(24, 5), 24 * 5 * 16),
        (nn.LayerNorm(24), 4 * 16 * 24),
        (nn.Softmax(dim=-1), 16 * (3 * 24 - 1)),
        (nn.Softmax(dim=-2), 24 * (3 * 16 - 1)),
        (type("Own", (nn.LayerNorm,), {})(24), 0),
    ],
)
def test_thop_by_hand(layer, count):
    assert count_macs(Two(layer), 16, 24, convention="thop") == 2 * count


def test_unknown_convention():
    with pytest.raises(UnknownName, match=r"'flops'.*products, thop"):
        count_macs(DenseFuse(), 16, 16, convention="flops")


# Method -> what Table 11 of RefineFuse counted: the convention, and how often a product counts.
TABLE_11 = {
    "U2Fusion": ("u2fusion", "products", 2),
    "RFN-Nest": ("rfn_nest", "thop", 1),
    "SeAFusion": ("seafusion", "thop", 1),
    "LRRNet": ("lrrnet", "thop", 1),
    "CDDFuse": ("cddfuse", "thop", 1),
    "EMMA": ("emma", "thop", 1),
}


@pytest.mark.parametrize("row", TABLE_11)
def test_table_11(row):
    """Within 1 %; the print has two decimals of 10**9."""
    printed = pd.read_csv(package_data("paper_tables/refinefuse_table_11_efficiency.csv"))
    printed = float(printed.set_index("method").loc[row, "flops_g_256"])
    name, convention, times = TABLE_11[row]
    configuration = next(iter(registry()[name].configurations.values()))
    count = times * count_macs(configuration.build(), 256, 256, convention=convention)
    assert count / 1e9 == pytest.approx(printed, rel=0.01)


def test_table_11_densefuse():
    """The variant for RGB images was counted; gray takes 1 % less."""
    network = DenseFuse("pytorch", channels=3)
    fuse = network.forward
    network.forward = lambda ir, vis: fuse(ir.expand(-1, 3, -1, -1), vis.expand(-1, 3, -1, -1))
    assert count_macs(network, 256, 256) / 1e9 == pytest.approx(5.82, abs=0.005)
    assert sum(p.numel() for p in network.parameters()) == 74_771


def test_table_11_sdnet():
    """The profiler counted the decomposition too, which fusing does not need; 2 per product."""
    network = SDNet()
    fuse = network.forward
    network.forward = lambda ir, vis: network.decompose(fuse(ir, vis))
    assert 2 * count_macs(network, 256, 256) / 1e9 == pytest.approx(8.81, rel=0.01)


def test_table_11_swinfusion():
    """Counted on the core: the authors' test code pads before the network."""
    network = SwinFusion()
    network.forward = network.core
    count = count_macs(network, 256, 256, convention="thop")
    assert count / 1e9 == pytest.approx(63.73, rel=0.01)


def test_a_network_that_looks_at_values(monkeypatch):
    """AEFusion runs for real; its mode and the statistics of its norms are left alone."""
    monkeypatch.setattr("fusionlib.networks.aefusion.SIDE", 32)
    network = AEFusion().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = count_macs(network, 32, 32)
    assert network.training
    assert all(torch.equal(before[name], x) for name, x in network.state_dict().items())
    assert first == count_macs(network.eval(), 32, 32) > 0


def test_result_and_seconds():
    result, cost = measure(lambda: time.sleep(0.05) or "done")
    assert result == "done"
    assert 0.05 <= cost.seconds < 1


def test_peak_where_the_system_does_not_tell(monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.write_text", forbidden)
    assert measure(lambda: 1)[1].peak is None


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_peak_is_of_the_call_alone():
    """Half a GiB that is touched shows; once it is gone, the next call does not inherit it."""

    def touch():
        return float(np.ones(2**26).sum())

    _, before = measure(lambda: None)
    total, big = measure(touch)
    _, after = measure(lambda: None)
    assert total == 2**26
    # The allocator returns large blocks at once; libraries may take a few MiB more.
    assert 0.45 < big.peak - before.peak < 0.6
    assert after.peak - before.peak < 0.05
