"""scale: workers that are lost, schedulers that go away, and no row lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from fusionlib.pairs import Pair

import fusionlib.evaluation as evaluation
from fusionlib import scale
from fusionlib.datasets import load_dataset
from fusionlib.errors import FusionError, MetricWarning
from fusionlib.evaluation import benchmark
from fusionlib.execution import Execution
from fusionlib.methods import create
from fusionlib.scale import connect, share, spread

pytestmark = pytest.mark.usefixtures("processes")
FAST = ["EN", "SF"]


def cluster(workers):
    settings = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return LocalCluster(n_workers=workers, **settings)


@pytest.fixture(scope="module")
def client():
    with cluster(2) as two, Client(two) as client:
        yield client


def double(number):
    return 2 * number


def large(number):
    return b"x" * (number << 24)


def slow(folder, number):
    """Leave a file when it begins, work for a while."""
    name = f"{number} {os.getpid()} {time.monotonic_ns()}"
    (Path(folder) / name).touch()
    time.sleep(0.2)
    return number


def die():
    os._exit(1)


def fail(error):
    raise error


# ---------------------------------------------------------------- calls


def test_results_in_order(client):
    shared = share(client, 21)
    calls = [(1,), (shared,), (3,)] + [(n,) for n in range(40)]
    assert list(spread(client, double, calls)) == [2, 42, 6, *range(0, 80, 2)]
    assert list(spread(client, double, [])) == []


def test_calls_are_read_as_they_are_needed(client):
    read = []
    results = spread(client, double, ((read.append(n) or n,) for n in range(1000)))
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(read) <= 2 * scale.AHEAD + 3
    results.close()


def test_a_result_that_is_slow_to_come(client, monkeypatch):
    """That the first look is too early is no error of the call."""
    monkeypatch.setattr(scale, "LOOK", 0.01)
    results = list(spread(client, large, [(n,) for n in range(6)]))
    assert [len(result) for result in results] == [n << 24 for n in range(6)]


def test_workers_of_several_threads():
    """What a run sets holds for the whole process, so networks wait for each other there."""
    settings = {"threads_per_worker": 3, "processes": True, "dashboard_address": None}
    method = create("res2netfuse")
    method.execution = Execution(precision="bfloat16")
    # Small, since bfloat16 may be emulated here.
    pairs = [Pair(p.name, p.ir[:16, :24], p.vis[:16, :24]) for p in load_dataset("sample")[:6]]
    options = {"metrics": FAST, "progress": False}
    local = benchmark(method, pairs, **options)
    with warnings.catch_warnings(), LocalCluster(n_workers=1, **settings) as one:
        warnings.simplefilter("ignore")  # more threads than cores
        with Client(one) as client:
            frame = benchmark(method, pairs, client=client, **options)
    # bfloat16's sums come in another order with other threads: 2**-9 of a value where it shows,
    # and less of what is taken from all pixels.
    assert frame["value"].to_numpy() == pytest.approx(local["value"].to_numpy(), rel=1e-3)


def test_workers_that_go(client, monkeypatch):
    """More calls wait then than are to: none is made until results have come."""
    seen = iter([4, 1, 1])
    monkeypatch.setattr(scale._Workers, "threads", lambda _: next(seen, 1))
    assert list(spread(client, double, [(n,) for n in range(20)])) == [*range(0, 40, 2)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_worker_that_is_killed(tmp_path):
    """Its calls are made again, and every result comes once."""
    with cluster(2) as two, Client(two) as client:
        first = next(iter(client.run(os.getpid).values()))
        results, calls = [], [(str(tmp_path), n) for n in range(16)]
        for result in spread(client, slow, calls):
            results.append(result)
            if len(results) == 3:
                os.kill(first, signal.SIGKILL)
        assert results == list(range(16))
        begun = [path.name.split() for path in tmp_path.iterdir()]
        assert any(int(pid) == first for _, pid, _ in begun)
        assert len(begun) > 16  # what it had was done again, or the test killed nobody


def test_a_call_that_kills_every_worker():
    few = dask.config.set({"distributed.scheduler.allowed-failures": 1})
    message = r"killed 2 workers .*more memory.*continues it"
    with few, cluster(1) as one, Client(one) as client, pytest.raises(FusionError, match=message):
        list(spread(client, die, [()]))


def test_a_client_that_is_closed():
    with cluster(1) as one:
        client = Client(one)
        client.close()
        with pytest.raises(FusionError, match=r"went away.*What is finished is kept"):
            list(spread(client, double, [(1,)]))


def test_large_pictures_are_sent_without_advice(client, recwarn):
    assert list(spread(client, len, [(b"x" * (12 << 20),)])) == [12 << 20]
    assert not [w for w in recwarn if "large graph" in str(w.message)]


@pytest.mark.parametrize("error", [FusionError("wrong pair"), TimeoutError("its own")])
def test_what_a_call_raises_comes_back(client, error):
    with pytest.raises(type(error), match=str(error)):
        list(spread(client, fail, [(error,)]))


def test_workers_of_other_code(client, monkeypatch):
    monkeypatch.setattr(scale, "code_hash", lambda: "of another commit")
    with pytest.raises(FusionError, match=r"a worker has other code .* same commit"):
        list(spread(client, double, [(1,)]))


def test_workers_without_a_module(client):
    with pytest.raises(FusionError, match=r"a worker has no module 'fusion_there'.*install"):
        list(spread(client, fail, [(ModuleNotFoundError("gone", name="fusion_there"),)]))


def test_more_workers_than_cores(client, monkeypatch):
    run = client.run
    monkeypatch.setattr(client, "run", lambda f, **_: dict.fromkeys(run(f), 1))
    with pytest.warns(UserWarning, match=r"2 threads of workers for 1 cores on .*start fewer"):
        assert list(spread(client, double, [(1,)])) == [2]


# ---------------------------------------------------------------- schedulers

SCHEDULER = """
from distributed import LocalCluster
import sys
if __name__ == "__main__":
    cluster = LocalCluster(n_workers={workers}, threads_per_worker=1, dashboard_address=None)
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def scheduler(tmp_path):
    """Start schedulers in processes of their own, with workers; they end with the test."""
    started = []

    def start(workers=1):
        script = tmp_path / f"scheduler{len(started)}.py"
        script.write_text(SCHEDULER.format(workers=workers))
        process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        end(process)


def end(process):
    """Kill it with its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_no_scheduler():
    with pytest.raises(FusionError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9\b"):
        connect("tcp://127.0.0.1:9", timeout=0.5)
    with pytest.raises(FusionError, match="no Dask scheduler answers at nonsense://x"):
        connect("nonsense://x", timeout=0.5)


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(FusionError, match=r"Dask is not installed.*irvis-fusionlib\[scale\]"):
        connect("tcp://127.0.0.1:9")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_scheduler_that_goes_away(scheduler, tmp_path, monkeypatch):
    """What came is in the CSV file; another scheduler does the rest."""
    monkeypatch.setattr(scale, "PATIENCE", 1.0)
    monkeypatch.setattr(evaluation, "SECONDS_BETWEEN_SAVES", 0)
    csv, one = tmp_path / "scores.csv", load_dataset("sample")[0]
    pairs = [Pair(f"{n}", one.ir[:40, n : n + 40], one.vis[:40, n : n + 40]) for n in range(200)]
    method = create("res2netfuse")
    options = {"metrics": FAST, "csv": csv, "progress": False}
    process, address = scheduler()
    with connect(address, timeout=60) as client:
        killer = threading.Thread(target=end_when, args=(process, csv), daemon=True)
        killer.start()
        with pytest.raises(FusionError, match=r"scheduler .*(went away|no connection).*continues"):
            benchmark(method, pairs, client=client, **options)
        killer.join()
    found = pd.read_csv(csv)
    assert 0 < len(found) < 2 * len(pairs)
    frame = benchmark(method, pairs, **options)
    assert len(frame) == 2 * len(pairs) and not frame.duplicated(["pair", "metric"]).any()
    assert (frame["value"][: len(found)] == found["value"]).all()


def end_when(process, csv):
    while not csv.exists():
        time.sleep(0.01)
    end(process)


def test_no_workers(scheduler, monkeypatch):
    monkeypatch.setattr(scale, "PATIENCE", 0.5)
    _, address = scheduler(workers=0)
    message = r"has no workers; start some: 'dask worker tcp://"
    with connect(address, timeout=60) as client, pytest.raises(FusionError, match=message):
        list(spread(client, double, [(1,)]))


# ---------------------------------------------------------------- tables of scores


@pytest.fixture(scope="module")
def methods():
    return [create("res2netfuse", rule=rule) for rule in ("l1_norm", "mean")]


@pytest.mark.parametrize("named", [True, False])
def test_a_cluster_gives_the_same_rows(client, methods, named):
    """PyTorch's threads differ there, so sums may; the images have the same 8 bits."""
    dataset = "sample" if named else load_dataset("sample")[:2]
    options = {"metrics": FAST, "limit": 2, "progress": False}
    frame = benchmark(methods, dataset, client=client, **options)
    local = benchmark(methods, dataset, **options)
    assert frame.drop(columns="value").equals(local.drop(columns="value"))
    assert frame["value"].to_numpy() == pytest.approx(local["value"].to_numpy(), rel=1e-5)


def test_cost_and_warnings_come_from_workers(client, methods):
    pair = load_dataset("sample")[0]
    pair = replace(pair, ir=np.full_like(pair.ir, 0.5))
    with pytest.warns(MetricWarning, match="SCD"):
        frame = benchmark(
            methods[0], [pair], metrics="SCD", cost=True, client=client, progress=False
        )
    assert list(frame["metric"])[:2] == ["SCD", "seconds"]
    assert frame["value"].notna().all()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_no_row_is_lost_or_doubled_when_a_worker_dies(methods, tmp_path, monkeypatch):
    """It dies when the first row is written, with calls under way and more to come."""
    csv, saved = tmp_path / "scores.csv", []
    save = evaluation._Table._save

    def save_and_kill(table):
        save(table)
        if not saved:
            os.kill(victim, signal.SIGKILL)
        saved.append(len(pd.read_csv(csv)))

    monkeypatch.setattr(evaluation, "SECONDS_BETWEEN_SAVES", 0)
    monkeypatch.setattr(evaluation._Table, "_save", save_and_kill)
    with cluster(2) as two, Client(two) as client:
        victim = next(iter(client.run(os.getpid).values()))
        options = {"metrics": [*FAST, "VIF"], "csv": csv, "progress": False}
        pairs = [Pair(p.name, p.ir[:96], p.vis[:96]) for p in load_dataset("sample")[:8]]
        frame = benchmark(methods, pairs, client=client, **options)
        assert victim not in client.run(os.getpid).values()
    assert saved[0] < 2 * 8 * 3
    key = ["rule", "pair", "metric"]
    assert not frame.duplicated(key).any()
    assert len(frame) == 2 * 8 * 3
    assert len(pd.read_csv(csv)) == len(frame)
