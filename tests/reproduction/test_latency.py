"""latency: times of processes, a table that continues, what is recorded."""

from __future__ import annotations

import functools
import itertools
import os

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib.errors import FusionError
from fusionlib.executors import measure, peak_memory
from fusionlib.methods import registry
from reproduction.cost import TABLE_11, table_11
from reproduction.latency import (
    FEWEST,
    MOST,
    SIZES,
    _repeat,
    latency_table,
    measure_latency,
    rank_table,
    recorded_speed,
    show_speed,
    show_times,
)
from reproduction.results import read_recorded


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(measure(int)[1].peak is None, reason="the system does not tell peaks")
def test_latency_in_a_process_of_its_own():
    held = np.ones(2**27)  # a GiB here shows in this process's peak, not in that one's
    found = measure_latency("seafusion", "80x64")
    assert FEWEST <= found["runs"] <= MOST and found["threads"] >= 1
    assert 0 < found["lower quartile ms"] <= found["median ms"] <= found["upper quartile ms"]
    assert 0 < found["peak GiB"] < peak_memory() - 0.5 and held[-1] == 1


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
        return {"weights": "untrained", "threads": torch.get_num_threads(), "median ms": 2.5,
                "runs": 4, "peak GiB": 0.5}  # fmt: skip

    monkeypatch.setattr("reproduction.latency.measure_latency", fake)
    options = {"sizes": ["64x48"], "progress": False, "profile": "sample"}
    latency_table(tmp_path, methods=["mst", "cufd"], **options)
    table = latency_table(tmp_path, methods=["mst", "cufd", "jsr"], **options)
    assert asked == [("mst", "64x48"), ("cufd", "64x48"), ("cufd", "64x48"), ("jsr", "64x48")]
    assert table[["method", "title", "median ms", "runs"]].values.tolist() == [
        ["mst", "MST", 2.5, 4],
        ["jsr", "JSR", 2.5, 4],
    ]
    saved = pd.read_csv(tmp_path / "summary.csv")
    assert saved.equals(table.astype(saved.dtypes)) and (tmp_path / "provenance.json").exists()
    monkeypatch.setattr("reproduction.results.commit", lambda: "another commit")
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
    monkeypatch.undo()
    with pytest.raises(FusionError, match="device 'gpu' cannot be used"):
        latency_table(tmp_path, device="gpu")


# ---------------------------------------------------------------- tables to read


METHODS = ["mst", *(one.method for one in TABLE_11.values())]
TIMES = pd.DataFrame(
    {"method": method, "title": registry()[method].title, "size": size, "device": "cpu",
     "threads": 2, "median ms": 100.0 * (n + 1), "lower quartile ms": 9.871,
     "upper quartile ms": 2345.6, "peak GiB": 0.5}
    for n, method in enumerate(METHODS) for size in SIZES
)  # fmt: skip


def test_times_of_two_devices_are_not_mixed():
    both = pd.concat([TIMES, TIMES.assign(device="cuda")])
    ranks = functools.partial(rank_table, pd.DataFrame())
    for take in (show_times, ranks):
        with pytest.raises(FusionError, match="of cpu and cuda; choose one"):
            take(both)
    with pytest.raises(FusionError, match="lack 640x480"):
        ranks(TIMES[TIMES["size"] != "640x480"])
    with pytest.raises(FusionError, match="of no device"):
        ranks(TIMES[:0])


def test_shown_times():
    text = show_times(TIMES.drop(index=0)).to_html()
    assert "cpu, 2 threads" in text and "100 [9.87, 2346]\n0.50 GiB" in text


def test_recorded_latency_is_of_methods_at_every_size():
    """Of those that there were; a new one is measured when the table is made again."""
    (found,), _ = read_recorded("refinefuse_11_time", "summary")
    here = found[found["device"] == "cpu"]
    assert {*here["method"]} <= {*registry()}
    assert {*zip(here["method"], here["size"], strict=True)} == {
        *itertools.product(here["method"], SIZES)
    }
    assert (here["median ms"] > 0).all() and (here["lower quartile ms"] <= here["median ms"]).all()


def test_ranks():
    """By hand from the print: the mean of two ranks, ranked; 7 and 7 is no outcome of it."""
    sizes = table_11()
    found = rank_table(sizes, TIMES).set_index("row")
    apart = found[found["size, printed"] != found["size, from the print's columns"]]
    assert apart["size, from the print's columns"].to_dict() == {
        **{"U2Fusion": 6, "RFN-Nest": 10, "RefineFuse": 8}
    }
    assert (found["speed, printed"] == found["speed, from the print's columns"]).all()
    assert found.loc["SDNet", "size, ours"] == 1
    assert [*found["speed, ours"]] == [*range(1, 11)]
    assert found.loc["DenseFuse", "ms 640x480"] == 200 and {*found["device"]} == {"cpu"}
    assert found.loc["DenseFuse", "paper ms 1024x768, RTX 4090"] == 1.98
    assert found.loc["RefineFuse", "size, printed"] == 7
    (recorded,), _ = read_recorded("refinefuse_11", "summary")
    assert list(found.reset_index()) == list(recorded)
    found = rank_table(sizes, TIMES[TIMES["method"] != "swinfusion"])["speed, ours"]
    assert found.isna().sum() == 1 and found.max() == 9


# ---------------------------------------------------------------- the benchmarks' speeds


@pytest.mark.parametrize(
    "part, columns",
    [
        ("networks", "method, plain s, ours s, ours ratio, ours difference"),
        ("metrics", "metrics, plain s, ours s, ratio, difference"),
        ("training", "loop, seconds, ratio, mean %"),
        ("workers", "workers, fused pairs/s, scored pairs/s"),
        ("memory", "method, size, peak GiB"),
        ("backends", "method, backend, ratio, difference, ours difference"),
    ],
)
def test_recorded_speed(part, columns, monkeypatch, tmp_path):
    found = recorded_speed(part)
    assert {*columns.split(", ")} <= {*found} and len(found)
    assert (found["commit"].str.len() == 12).all()
    monkeypatch.setattr("reproduction.results.ROOT", tmp_path)
    with pytest.raises(FusionError, match=r"speed has no recorded run.*python -m benchmarks --sav"):
        recorded_speed(part)


def test_shown_speed():
    speed = pd.DataFrame({"method": ["a", "b"], "plain s": [1.042, 73], "ratio": [1.234, 5]})
    speed = speed.assign(equal=[True, False], commit=["c", "d"], **{"ours difference": [0, 2e-5]})
    text = show_speed("speeds", speed).to_html()
    for part in ("1.04", "73", "method", "2e-05", "1.23", "True", "T_speeds"):
        assert part in text
    assert "commit" not in text and ">a<" in text
