"""tiles: they change nothing but memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from fusionlib import tiles
from fusionlib.errors import FusionError
from fusionlib.methods import create
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.msdnet import MSDNet
from fusionlib.networks.network import FusionNetwork
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.rules import RULES
from fusionlib.tiles import TILE, Execution, check_execution, has_bfloat16, run_network

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS = {
    "res2netfuse": lambda rule: Res2NetFuse("released", rule),
    "res2netfuse paper": lambda rule: Res2NetFuse("paper", rule),
    "densefuse": lambda rule: DenseFuse("tensorflow", rule),
    "densefuse pytorch": lambda rule: DenseFuse("pytorch", rule),
    "msdnet": MSDNet,
}


def network(name, rule):
    torch.manual_seed(3)
    net = NETWORKS[name](rule)
    with torch.no_grad():  # a last ReLU must not hide everything
        [*net.parameters()][-1].fill_(50)
    return net.double()


def images(size, count=2, batch=1):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 1, *size, generator=generator).double() * 255 for _ in range(count)]


def assert_tiles_change_nothing(net, pictures, tile):
    """In float64, where 1e-12 is above rounding and far below any wrong pixel."""
    whole = run_network(net, pictures, Execution(tile=None))
    tiled = run_network(net, pictures, Execution(tile=tile))
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().max() <= 1e-12 * whole.abs().max()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_tiled_is_untiled(name, rule):
    assert_tiles_change_nothing(network(name, rule), images((37, 30)), 19)


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiled_is_untiled_without_room_for_features(monkeypatch, name, kept):
    """1 MiB holds the features of some tiles and not of others."""
    monkeypatch.setattr(tiles, "KEPT_BYTES", kept)
    assert_tiles_change_nothing(network(name, "mean"), images((37, 30)), 19)


@pytest.mark.parametrize("rule", ["l1_norm", "mean"])
def test_tiled_is_untiled_in_float32(rule):
    """With trained weights and gray levels 0..255: 1e-6 of that range."""
    net = create("res2netfuse", rule=rule).network
    pictures = [image.float() for image in images((61, 50))]
    whole, tiled = (run_network(net, pictures, Execution(tile=tile)) for tile in (None, 23))
    assert (tiled - whole).abs().max() <= 1e-6 * (whole.max() - whole.min())


@given(
    name=st.sampled_from(["res2netfuse", "densefuse", "msdnet"]),
    rule=st.sampled_from(["l1_norm", "mean", "maximum"]),
    size=st.tuples(st.integers(3, 30), st.integers(3, 30)),
    count=st.integers(1, 3),
    batch=st.integers(1, 2),
    tile=st.integers(2, 40),  # less than the halo, too
)
@settings(max_examples=20)
def test_tiled_is_untiled_at_any_size(name, rule, size, count, batch, tile):
    assert_tiles_change_nothing(network(name, rule), images(size, count, batch), tile)


def pyramid(scales, **modules):
    torch.manual_seed(3)
    return RefineFuse(scales, **modules).double()


@pytest.mark.parametrize("modules", [{}, {"sfim": False, "psim": False, "fim": False}])
@pytest.mark.parametrize("scales", [1, 2, 3, 4, 5])
def test_finest_scale_in_tiles_is_untiled(scales, modules):
    pictures = [image / 255 for image in images((45, 34), batch=2)]
    assert_tiles_change_nothing(pyramid(scales, **modules), pictures, 24)


@given(
    size=st.tuples(st.integers(3, 60), st.integers(3, 60)),
    tile=st.integers(1, 40),
)
@settings(max_examples=8, deadline=None)
def test_finest_scale_in_tiles_is_untiled_at_any_size(size, tile):
    assert_tiles_change_nothing(pyramid(3), [image / 255 for image in images(size)], tile)


def test_other_modules_run_whole():
    class Darkest(nn.Module):
        def forward(self, *pictures):
            return torch.stack([p - p.min() for p in pictures]).amin(dim=0)

    net, pictures = Darkest().train(), images((30, 30), 3)
    output = run_network(net, pictures, Execution(tile=8))
    assert torch.equal(output, net(*pictures)) and output.is_inference() and not net.training


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"tile": 0}, "tile must be a whole number from 1, not 0"),
        ({"tile": 1.5}, r"tile must be a whole number from 1, not 1\.5"),
        ({"overlap": -1}, "overlap must be a whole number from 0, not -1"),
        ({"batch": None}, "batch must be a whole number from 1"),
        ({"tile": None, "overlap": 9}, "give the side of a tile"),
        ({"precision": "half"}, r"'half'.*bfloat16, float32"),
    ],
)
def test_impossible_settings(wrong, message):
    with pytest.raises(FusionError, match=message):
        Execution(**wrong)


def test_bfloat16_of_a_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for limit, has in (("", True), ("avx512_core_bf16", True), ("avx512_core", False)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert has_bfloat16("cpu") == has
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    check_execution(Execution(precision="bfloat16"), "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert not has_bfloat16("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert has_bfloat16("cpu")
    # As PyTorch reads it of ATEN_CPU_CAPABILITY while it is imported.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    for device in ("cpu", "meta"):
        with pytest.raises(FusionError, match=f"'{device}' has no bfloat16.*Use precision float32"):
            check_execution(Execution(precision="bfloat16"), device)


def test_threads(monkeypatch, recwarn):
    monkeypatch.setattr("loky.cpu_count", lambda: 2)
    check_execution(Execution(threads=2), "cpu")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="3 threads for 2 cores.*give 2 or fewer"):
        check_execution(Execution(threads=3), "cpu")

    class Counts(nn.Module):
        def forward(self, image):
            return torch.full_like(image, torch.get_num_threads())

    before = torch.get_num_threads()
    assert run_network(Counts(), images((2, 2), 1), Execution(threads=2)).unique().item() == 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["res2netfuse", "densefuse", "refinefuse"])
@pytest.mark.parametrize("tile", [None, 40])
def test_channels_last_is_rounding(name, tile):
    """In float64 no more than rounding is left, below 1e-12 of the range; and it is undone."""
    net = network(name, "average") if name == "densefuse" else create(name).network.double()
    pictures = [image / (255 if name == "refinefuse" else 1) for image in images((70, 61))]
    usual = run_network(net, pictures, Execution(tile=tile))
    other = run_network(net, pictures, Execution(tile=tile, channels_last=True))
    layer = max(net.parameters(), key=lambda p: p[0, :, 0, 0].numel() if p.ndim == 4 else 0)
    assert layer.is_contiguous(memory_format=torch.channels_last)
    assert (other - usual).abs().max() <= 1e-12 * (usual.max() - usual.min())
    run_network(net, pictures, Execution(tile=tile))
    assert layer.is_contiguous()


def test_a_network_may_say_that_it_needs_channels_last():
    net, pictures = network("densefuse", "average"), images((9, 9))
    net.channels_last = True
    for asked, is_last in ((None, True), (False, False), (True, True)):
        run_network(net, pictures, Execution(channels_last=asked))
        weight = max(net.parameters(), key=torch.numel)
        assert weight.is_contiguous(memory_format=torch.channels_last) == is_last


def test_bfloat16_is_near_and_ends_in_float32():
    """8 bits: 2^-9 of a value per rounding, and some twenty layers, so 2 % of the range.

    Of the levels that bfloat16 has between 128 and 255, every whole one, an image rounded to
    bfloat16 would hold no others.
    """
    net = create("res2netfuse").network
    pictures = [image.float() for image in images((70, 61))]
    exact = run_network(net, pictures)
    near = run_network(net, pictures, Execution(precision="bfloat16"))
    assert near.dtype == torch.float32
    span = exact.max() - exact.min()
    assert 1e-5 * span < (near - exact).abs().max() < 0.02 * span
    assert (near != near.bfloat16()).float().mean() > 0.5
    assert "forward" not in vars(net.decoder[-1])
    assert torch.equal(run_network(net, pictures), exact)


def test_departures_are_told():
    net, needs_all = network("densefuse", "mean"), Blur()
    assert Execution(tile=64, channels_last=True, batch=3).departure(net) == ""
    assert Execution(precision="bfloat16").departure(net) == "bfloat16"
    assert Execution(overlap=40).departure(net) == ""
    assert Execution(tile=96, overlap=40).departure(needs_all) == "tiles 96+64"
    both = Execution(tile=96, overlap=40, precision="bfloat16")
    assert both.departure(needs_all) == "bfloat16, tiles 96+64"
    assert both.departure(None) == ""


# ---------------------------------------------------------------- tiles with a stated overlap


class Blur(FusionNetwork):
    """Looks 20 pixels far, with steps of 4, and does not say so."""

    min_side = 8

    def __init__(self):
        super().__init__()
        self.seen = []
        self.shrink = nn.Conv2d(2, 3, 9, stride=4, padding=4)
        self.layer = nn.Conv2d(3, 1, 5, padding=2)

    def forward(self, ir, vis):
        self.seen.append(ir.shape[-2:])
        x = self.layer(self.shrink(torch.cat([ir, vis], 1)))
        return x.repeat_interleave(4, 2).repeat_interleave(4, 3)[
            ..., : ir.shape[-2], : ir.shape[-1]
        ]


@pytest.mark.parametrize("size", [(200, 130), (64, 97), (33, 400)])
def test_overlapping_tiles_of_a_network_with_strides(size):
    """With enough overlap nothing changes: tiles begin where the strides' grid does."""
    torch.manual_seed(0)
    net, pictures = Blur().double(), images(size)
    whole = run_network(net, pictures)
    assert net.seen == [size]
    tiled = run_network(net, pictures, Execution(tile=64, overlap=20))
    assert len(net.seen) > 2
    assert (tiled - whole).abs().max() <= 1e-12 * whole.abs().max()
    none = run_network(net, pictures, Execution(tile=64, overlap=0))
    assert (none - whole).abs().max() > 1e-3 * whole.abs().max()


def test_overlapping_tiles_too_small_for_the_network():
    net = Blur()
    net.min_side = 100
    with pytest.raises(FusionError, match=r"Blur needs 100 pixels a side; tiles .* have 32\b"):
        run_network(net, images((150, 120)), Execution(tile=64, overlap=0))


def test_overlap_bounds_a_pyramid_too():
    """RefineFuse's coarser scales need the whole image; with an overlap they do not get it."""
    net, pictures = pyramid(3), [image / 255 for image in images((200, 96))]
    whole = run_network(net, pictures)
    tiled = run_network(net, pictures, Execution(tile=64, overlap=64))
    assert tiled.shape == whole.shape
    assert 0 < (tiled - whole).abs().max() < 0.1
    assert torch.equal(run_network(net, pictures, Execution(tile=64, overlap=200)), whole)


MEASURE = """
import resource, numpy, torch
from fusionlib.tiles import Execution, run_network
from fusionlib.networks.res2netfuse import Res2NetFuse
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
net = Res2NetFuse("released", "l1_norm")
run_network(net, [torch.rand(1, 1, 16, 16)] * 2)
before = peak()
run_network(net, [torch.rand(1, 1, {side}, {side}) for _ in range(2)], Execution(tile={tile}))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_does_not_grow_with_the_image():
    """The run takes less than the features of the pair alone would take as a whole.

    These are 64 channels of 1024x1024 float32 numbers, 256 MiB per image. Measured in
    tiles up to 235 MiB, as a whole 1487 MiB; benchmarks/memory.py measures 8192x8192.
    """
    code = MEASURE.format(side=1024, tile=TILE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert float(run.stdout) <= 2 * 256
