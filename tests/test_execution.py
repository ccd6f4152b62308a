"""execution: tiles change nothing but memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from fusionlib import execution
from fusionlib.execution import TILE, run_network
from fusionlib.methods import create
from fusionlib.networks.densefuse import DenseFuse
from fusionlib.networks.msdnet import MSDNet
from fusionlib.networks.refinefuse import RefineFuse
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.rules import RULES

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
    whole = run_network(net, pictures, tile=None)
    tiled = run_network(net, pictures, tile=tile)
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().max() <= 1e-12 * whole.abs().max()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
    ],
)
def test_not_enough_memory(error):
    class Full(nn.Module):
        def forward(self, *images):
            raise error

    with pytest.raises(MemoryError, match="not enough memory for Full on 30x20 pixels; give smal"):
        run_network(Full(), images((20, 30)))


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_pages_are_kept_between_layers_and_given_back():
    """Thirty blocks of 64 MiB one after the other: the pages of a few, not of thirty."""
    resource = pytest.importorskip("resource")
    megabytes = 64

    class Layers(nn.Module):
        def forward(self, image):
            for _ in range(30):
                image = torch.zeros(megabytes << 18).add_(1)[:1] + image
            return image

    def used():
        return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

    before, faults = used(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run_network(Layers(), [torch.zeros(1, 1, 1, 1)])
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    assert faults * resource.getpagesize() < 10 * megabytes << 20
    assert used() < before + megabytes


def test_other_errors_stay():
    class Wrong(nn.Module):
        def forward(self, *images):
            raise RuntimeError("sizes differ")

    with pytest.raises(RuntimeError, match="sizes differ"):
        run_network(Wrong(), images((20, 30)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_tiled_is_untiled(name, rule):
    assert_tiles_change_nothing(network(name, rule), images((37, 30)), 19)


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiled_is_untiled_without_room_for_features(monkeypatch, name, kept):
    """1 MiB holds the features of some tiles and not of others."""
    monkeypatch.setattr(execution, "KEPT_BYTES", kept)
    assert_tiles_change_nothing(network(name, "mean"), images((37, 30)), 19)


@pytest.mark.parametrize("rule", ["l1_norm", "mean"])
def test_tiled_is_untiled_in_float32(rule):
    """With trained weights and gray levels 0..255: 1e-6 of that range."""
    net = create("res2netfuse", rule=rule).network
    pictures = [image.float() for image in images((61, 50))]
    whole, tiled = (run_network(net, pictures, tile=tile) for tile in (None, 23))
    assert (tiled - whole).abs().max() <= 1e-6 * (whole.max() - whole.min())


@given(
    name=st.sampled_from(["res2netfuse", "densefuse", "msdnet"]),
    rule=st.sampled_from(["l1_norm", "mean", "maximum"]),
    size=st.tuples(st.integers(3, 30), st.integers(3, 30)),
    tile=st.integers(7, 40),
)
@settings(max_examples=15)
def test_tiled_is_untiled_at_any_size(name, rule, size, tile):
    assert_tiles_change_nothing(network(name, rule), images(size), tile)


@pytest.mark.parametrize("name", ["res2netfuse", "msdnet"])
@pytest.mark.parametrize("count, batch", [(1, 1), (3, 1), (2, 2), (1, 2)])
def test_tiled_is_untiled_for_any_number(name, count, batch):
    assert_tiles_change_nothing(network(name, "mean"), images((29, 41), count, batch), 15)


@pytest.mark.parametrize("tile", [1, 3])
def test_tiles_smaller_than_the_halo(tile):
    assert_tiles_change_nothing(network("msdnet", "mean"), images((9, 7)), tile)


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


def test_default_tile_is_untiled():
    assert_tiles_change_nothing(network("densefuse", "mean"), images((TILE + 9, 24)), TILE)


def test_a_small_image_is_one_tile(monkeypatch):
    """No halo is computed where the image fits."""
    monkeypatch.setattr(execution, "_whole_map_weights", None)
    net, pictures = network("res2netfuse", "mean"), images((20, 20))
    assert torch.equal(run_network(net, pictures, tile=20), run_network(net, pictures, tile=None))


@given(size=st.integers(1, 500), tile=st.integers(1, 200), halo=st.integers(0, 20))
def test_pieces_cover_the_axis_once(size, tile, halo):
    pieces = execution._axis(size, tile, halo)
    covered = [i for place, _, _ in pieces for i in range(size)[place]]
    assert covered == list(range(size))
    assert len(pieces) == -(-size // tile)
    for place, view, inner in pieces:
        assert list(range(size)[view])[inner] == list(range(size)[place])
        assert place.stop - place.start <= tile
        assert view == slice(max(0, place.start - halo), min(size, place.stop + halo))


def test_features_are_kept_for_the_second_pass(monkeypatch):
    """With room for them every tile is encoded once, without room twice."""
    net, pictures = network("densefuse", "mean"), images((30, 30))
    calls = []
    encode = net.encode
    monkeypatch.setattr(net, "encode", lambda image: calls.append(1) or encode(image))
    run_network(net, pictures, tile=15)
    kept = len(calls)
    monkeypatch.setattr(execution, "KEPT_BYTES", 0)
    run_network(net, pictures, tile=15)
    assert (kept, len(calls) - kept) == (4 * 2, 2 * 4 * 2)


def test_other_modules_run_whole():
    class Darkest(nn.Module):
        def forward(self, *pictures):
            return torch.stack([p - p.min() for p in pictures]).amin(dim=0)

    pictures = images((30, 30), 3)
    assert torch.equal(run_network(Darkest(), pictures, tile=8), Darkest()(*pictures))


def test_no_gradients_and_evaluation_mode():
    net = network("densefuse", "average").train()
    output = run_network(net, images((8, 8)))
    assert not output.requires_grad and not net.training


MEASURE = """
import resource, numpy, torch
from fusionlib.execution import run_network
from fusionlib.networks.res2netfuse import Res2NetFuse
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
net = Res2NetFuse("released", "l1_norm")
run_network(net, [torch.rand(1, 1, 16, 16)] * 2)
before = peak()
run_network(net, [torch.rand(1, 1, {side}, {side}) for _ in range(2)], tile={tile})
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_does_not_grow_with_the_image():
    """The run takes less than the features of the pair alone would take as a whole.

    These are 64 channels of 1024x1024 float32 numbers, 256 MiB per image. Measured in
    tiles up to 235 MiB, as a whole 1487 MiB; benchmarks/memory.py measures 4096x4096.
    """
    code = MEASURE.format(side=1024, tile=TILE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert float(run.stdout) <= 2 * 256
