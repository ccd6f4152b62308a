"""latency: times of processes, a table that continues, what is recorded."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import scenes
from fusionlib.costs import Cost, measure, peak_memory
from fusionlib.errors import FusionError
from fusionlib.execution import Execution
from fusionlib.methods import registry
from reproduction.efficiency import TABLE_11
from reproduction.latency import (
    FEWEST,
    MOST,
    SIZES,
    Latency,
    _measure_here,
    _repeat,
    latency_table,
    measure_latency,
    recorded_latency,
    recorded_speed,
    show_times,
    trade_off,
)


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(measure(int)[1].peak is None, reason="the system does not tell peaks")
def test_latency_in_a_process_of_its_own():
    held = np.ones(2**27)  # a GiB here shows in this process's peak, not in that one's
    found = measure_latency("seafusion", "80x64", execution=Execution(threads=1))
    assert FEWEST <= len(found.seconds) <= MOST and min(found.seconds) > 0
    assert 0 < found.peak < peak_memory() - 0.5 and held[-1] == 1
    assert found.threads == 1


def test_peak_is_not_that_of_rendering(monkeypatch):
    """The scene is there before the measurement begins."""
    done = []
    rendered = scenes.render
    monkeypatch.setattr(scenes, "render", lambda *a, **k: done.append("scene") or rendered(*a, **k))
    cost = Cost(1.0, 0.5)
    monkeypatch.setattr(
        "reproduction.latency.measure", lambda _: (done.append("run") or [1.0], cost)
    )
    assert _measure_here("mst", "80x64", "cpu", None, Execution()).peak == 0.5
    assert done == ["scene", "run"]


def test_threads_are_those_of_the_process(monkeypatch):
    seen = set()
    fuse = lambda: seen.add(torch.get_num_threads())  # noqa: E731
    monkeypatch.setattr("reproduction.latency._fuser", lambda *_: (fuse, "none"))
    before = torch.get_num_threads()
    try:
        found = _measure_here("jsr", "80x64", "cpu", None, Execution(threads=before + 1))
    finally:
        torch.set_num_threads(before)
    assert {found.threads} == seen == {before + 1}


def test_what_takes_long_runs_once(monkeypatch):
    calls = []
    monkeypatch.setattr("reproduction.latency.ONCE", 0.0)
    assert len(_repeat(lambda: calls.append(1))) == len(calls) == 1
    monkeypatch.setattr("reproduction.latency.ONCE", 30.0)
    assert len(_repeat(lambda: calls.append(1))) == MOST
    assert len(calls) == 1 + 1 + MOST  # one warms up


@pytest.mark.parametrize(
    "asked, message",
    [
        (("msst", "80x64"), "unknown method 'msst'"),
        (("mst", "80"), "WIDTHxHEIGHT in pixels, such as 640x480, not '80'"),
        (("mst", "80x64", "cuda"), "mst has no network, so it runs on 'cpu' only, not on 'cuda'"),
        (("sdnet", "80x64", "mps"), "measured on 'cpu' and 'cuda', not on 'mps'"),
    ],
)
def test_latency_of_what_is_not_there(tmp_path, monkeypatch, asked, message):
    method, size, device = (*asked, "cpu")[:3]
    with pytest.raises(FusionError, match=message):
        measure_latency(method, size, device=device)
    monkeypatch.setattr("reproduction.latency.check_device", lambda _: None)
    with pytest.raises(FusionError, match=message):
        latency_table(tmp_path, methods=[method], sizes=[size], device=device, progress=False)
    assert not [*tmp_path.iterdir()]


def test_a_precision_that_is_not_there(monkeypatch):
    monkeypatch.setattr("fusionlib.execution.has_bfloat16", lambda _: False)
    with pytest.raises(FusionError, match="no bfloat16 arithmetic"):
        measure_latency("seafusion", "80x64", execution=Execution(precision="bfloat16"))


@pytest.mark.usefixtures("processes")
def test_latency_of_a_process_that_is_killed(monkeypatch):
    monkeypatch.setattr("reproduction.latency._measure_here", _die)
    with pytest.raises(FusionError, match="process that ran mst on 64x48 was killed; the memory"):
        measure_latency("mst", "64x48")


def _die(*_):
    os._exit(1)


def test_latency_table_continues(monkeypatch, tmp_path):
    asked = []

    def fake(method, size, **_):
        asked.append((method, size))
        if method == "cufd":
            raise FusionError("killed")
        return Latency([0.002, 0.001, 0.004, 0.003], 0.5, "untrained", torch.get_num_threads())

    monkeypatch.setattr("reproduction.latency.measure_latency", fake)
    options = {"sizes": ["64x48"], "progress": False, "profile": "sample"}
    latency_table(tmp_path, methods=["mst", "cufd"], **options)
    table = latency_table(tmp_path, methods=["mst", "cufd", "jsr"], **options)
    assert asked == [("mst", "64x48"), ("cufd", "64x48"), ("cufd", "64x48"), ("jsr", "64x48")]
    assert [*table["method"]] == ["mst", "jsr"]
    row = table.iloc[0]
    assert (row["median ms"], row["lower quartile ms"], row["upper quartile ms"]) == (
        2.5,
        1.75,
        3.25,
    )
    assert (row["runs"], row["peak GiB"], row["title"]) == (4, 0.5, "MST")
    saved = pd.read_csv(tmp_path / "summary.csv")
    assert saved.equals(table.astype(saved.dtypes)) and (tmp_path / "provenance.json").exists()
    monkeypatch.setattr("reproduction.latency._code", lambda: "other code")
    monkeypatch.setattr("reproduction.latency.check_device", lambda _: None)
    table = latency_table(tmp_path, methods=["seafusion"], device="cuda", **options)
    assert asked[4:] == [("seafusion", "64x48")]
    assert [*table["device"]] == ["cpu", "cpu", "cuda"]  # of the other device all is kept
    table = latency_table(tmp_path, methods=["mst"], **options)
    assert asked[5:] == [("mst", "64x48")]
    assert [*table["device"]] == ["cuda", "cpu"]
    asked.clear()
    latency_table(tmp_path, device="cuda", **options)
    assert ("cddfuse", "64x48") in asked and ("mst", "64x48") not in asked


def test_latency_on_a_device_that_is_not_there(tmp_path):
    with pytest.raises(FusionError, match="device 'gpu' cannot be used"):
        latency_table(tmp_path, device="gpu")


# ---------------------------------------------------------------- tables to read


TIMES = pd.DataFrame(
    [
        {
            "method": method,
            "title": registry()[method].title,
            "size": size,
            "device": "cpu",
            "threads": 2,
            "median ms": 100.0 * (n + 1),
            "lower quartile ms": 9.871,
            "upper quartile ms": 2345.6,
            "peak GiB": 0.5,
        }
        for n, method in enumerate(["mst", *(one.method for one in TABLE_11.values())])
        for size in SIZES
    ]
)


def test_times_of_two_devices_are_not_mixed():
    both = pd.concat([TIMES, TIMES.assign(device="cuda")])
    for take in (show_times, trade_off):
        with pytest.raises(FusionError, match="of cpu and cuda; choose one"):
            take(both)
    with pytest.raises(FusionError, match="lack 640x480"):
        trade_off(TIMES[TIMES["size"] != "640x480"])


def test_shown_times():
    text = show_times(TIMES.drop(index=0)).to_html()
    assert "cpu, 2 threads" in text and "100 [9.87, 2346]\n0.50 GiB" in text


def test_trade_off():
    found = trade_off(TIMES).set_index("label")
    nearest = found.loc["MST, images exchanged"]
    assert nearest["parameters"] == 0 and nearest["ms"] == 100
    # The print's row of RefineFuse has 1.0554, ours 1.0495.
    assert found.loc["RefineFuse", "quality"] == pytest.approx(1.0495, abs=1e-4)


def test_recorded_latency_is_of_methods_at_every_size():
    """Of those that there were; a new one is measured when the table is made again."""
    found = recorded_latency()
    here = found[found["device"] == "cpu"]
    assert {*here["method"]} <= {*registry()}
    assert {*zip(here["method"], here["size"], strict=True)} == {
        *itertools.product(here["method"], SIZES)
    }
    assert (here["median ms"] > 0).all() and (here["lower quartile ms"] <= here["median ms"]).all()


def test_what_is_not_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr("reproduction.latency.ROOT", tmp_path)
    with pytest.raises(FusionError, match=r"is not there.*reproduce --profile paper --only 10"):
        recorded_latency()
    with pytest.raises(FusionError, match=r"networks.csv is not there.*benchmarks --only networks"):
        recorded_speed("networks")
    with pytest.raises(FusionError, match=r"not there.*measure it: python -m benchmarks.backends"):
        recorded_speed("backends")


@pytest.mark.parametrize(
    "part, columns",
    [
        ("networks", {"method", "plain s", "ours s", "ours ratio", "ours difference"}),
        ("metrics", {"metrics", "plain s", "ours s", "ratio", "difference"}),
        ("training", {"loop", "seconds", "ratio", "mean %"}),
        ("workers", {"workers", "fused pairs/s", "scored pairs/s"}),
        ("memory", {"method", "size", "peak GiB"}),
        ("backends", {"method", "backend", "ratio", "difference", "ours difference"}),
    ],
)
def test_recorded_speed(part, columns):
    found = recorded_speed(part)
    assert columns <= {*found} and len(found) and (found["commit"].str.len() == 12).all()
