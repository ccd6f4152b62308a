"""commands.fuse: each pair of files once, on one process or several, whatever happens to one."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from fusionlib.commands.fuse import fuse_folders
from fusionlib.errors import CannotWrite, FusionError
from fusionlib.evaluation import benchmark
from fusionlib.images import read_image, write_image
from fusionlib.methods import create
from fusionlib.tiles import Execution
from reproduction.latency import measure_latency

SIZES = {"a": (20, 24), "b": (20, 24), "c": (18, 24), "d": (20, 24)}


@pytest.fixture
def pairs(tmp_path):
    generator = np.random.default_rng(0)
    for name, size in SIZES.items():
        write_image(tmp_path / "ir" / f"{name}.png", generator.random(size, np.float32))
        write_image(tmp_path / "vis" / f"{name}.png", generator.random((*size, 3), np.float32))
    return tmp_path / "ir", tmp_path / "vis"


def fuse(pairs, output, **options):
    method = create("res2netfuse", rule="mean", execution=options.pop("how", Execution()))
    return fuse_folders(method, *pairs, output, progress=False, **options)


def images(folder):
    return {path.stem: read_image(path) for path in Path(folder).iterdir()}


@pytest.mark.parametrize(
    "options", [{"how": Execution(batch=3)}, {"jobs": 2}, {"jobs": 2, "how": Execution(batch=2)}]
)
def test_any_way_gives_the_same_images(pairs, tmp_path, options):
    assert fuse(pairs, tmp_path / "one") == (4, 0, [])
    assert fuse(pairs, tmp_path / "other", **options) == (4, 0, [])
    one, other = images(tmp_path / "one"), images(tmp_path / "other")
    assert one.keys() == other.keys() == SIZES.keys()
    (tmp_path / "one/b.png").unlink()  # what is there is left
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    assert fuse(pairs, tmp_path / "one", skip_existing=True) == (1, 3, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name, size in SIZES.items():
        assert other[name].shape == (*size, 3)
        # A sum in another order may move a level by one.
        assert np.abs(one[name] - other[name]).max() <= 1.01 / 255


class Telling:
    """A method that leaves a file for each call: process, threads, number of pairs."""

    def __init__(self, folder, execution):
        self.folder, self.execution = folder, execution

    def fuse_all(self, pairs):
        pairs = list(pairs)
        name = f"{os.getpid()} {self.execution.threads} {len(pairs)} {time.monotonic_ns()}"
        (self.folder / name).touch()
        yield from (vis for _, vis in pairs)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("jobs, here", [(1, True), (2, False)])
def test_batches_and_processes_are_as_asked(pairs, tmp_path, jobs, here):
    (tmp_path / "calls").mkdir()
    method = Telling(tmp_path / "calls", Execution(batch=3, threads=1))
    fuse_folders(method, *pairs, tmp_path / "out", jobs=jobs, progress=False)
    calls = [path.name.split() for path in method.folder.iterdir()]
    assert sorted(int(number) for _, _, number, _ in calls) == [1, 3]
    assert {int(pid) == os.getpid() for pid, *_ in calls} == {here}
    assert {threads for _, threads, *_ in calls} == {"1"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_space(pairs, tmp_path, jobs):
    out = tmp_path / "out"
    method = Full(out)
    message = r"cannot write .*[bcd]\.png: .*space.*Free some space.*--skip-existing"
    with pytest.raises(CannotWrite, match=message):
        fuse_folders(method, *pairs, out, jobs=jobs, progress=False)
    assert "a" in images(out) and not [path for path in out.iterdir() if path.suffix != ".png"]
    done = fuse(pairs, out, skip_existing=True)
    assert done.written + done.skipped == 4 and done.skipped < 4 and not done.faults


class Full:
    """A method after whose first image the disk is full."""

    execution = Execution()

    def __init__(self, out):
        self.out = out

    def fuse_all(self, pairs):
        for _, vis in pairs:
            with mock.patch("os.fsync", _no_space if (self.out / "a.png").exists() else os.fsync):
                yield vis


def _no_space(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("options", [{}, {"how": Execution(batch=4)}, {"jobs": 2}])
def test_a_fault_stops_no_other(pairs, tmp_path, options):
    (pairs[0] / "b.png").write_bytes(b"none")
    (pairs[1] / "alone.png").write_bytes((pairs[1] / "a.png").read_bytes())
    done = fuse(pairs, tmp_path / "out", **options)
    assert (done.written, done.skipped) == (3, 0)
    assert done.faults[0] == f"{pairs[1] / 'alone.png'}: only in {pairs[1]}"
    assert done.faults[1].startswith("b: ") and "b.png" in done.faults[1]
    assert images(tmp_path / "out").keys() == {"a", "c", "d"}


def test_of_a_batch_that_cannot_be_fused_each_is_tried(pairs, tmp_path, monkeypatch):
    method = create("res2netfuse", execution=Execution(batch=4))
    run = method._run_all

    def fail(batch):
        if any(sources[0].shape == (18, 24) for sources in batch):
            raise MemoryError("not enough memory for it")
        return run(batch)

    monkeypatch.setattr(method, "_run_all", fail)
    done = fuse_folders(method, *pairs, tmp_path / "out", progress=False)
    assert done == (3, 0, ["c: not enough memory for it"])


def test_a_source_is_never_overwritten(pairs):
    before = (pairs[0] / "a.png").read_bytes()
    done = fuse(pairs, pairs[0])
    assert done.written == 0 and "is one of the sources" in done.faults[0]
    assert (pairs[0] / "a.png").read_bytes() == before


class Deadly:
    """A method whose process dies at the third pair."""

    execution = Execution()

    def fuse_all(self, pairs):
        for ir, vis in pairs:
            if ir.shape == (18, 24):
                os.kill(os.getpid(), signal.SIGKILL)
            yield vis


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_process_that_is_killed(pairs, tmp_path):
    with pytest.raises(FusionError, match=r"a process was killed.*fewer jobs.*--skip-existing"):
        fuse_folders(Deadly(), *pairs, tmp_path / "out", jobs=2, progress=False)
    assert set(images(tmp_path / "out")) <= {"a", "b", "d"}
    done = fuse(pairs, tmp_path / "out", skip_existing=True)
    assert done.written + done.skipped == 4 and not done.faults


@pytest.fixture
def no_semaphores(monkeypatch):
    """A container without /dev/shm."""

    def fail():
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("multiprocessing.Lock", fail)


def test_no_semaphores(pairs, tmp_path, no_semaphores):
    with pytest.warns(UserWarning, match=r"no semaphores .*/dev/shm.* in one process"):
        assert fuse(pairs, tmp_path / "out", jobs=2) == (4, 0, [])
    with pytest.warns(UserWarning, match="in one process"):
        frame = benchmark("mst", "sample", metrics="EN", limit=2, jobs=2, progress=False)
    assert len(frame) == 2
    before = dict(os.environ)
    with pytest.warns(UserWarning, match="in one process"):
        assert measure_latency("mst", "80x64")["runs"]
    assert os.environ == before
