"""A table that is measured in no time, on a machine without the authors' weights."""

from __future__ import annotations

import fusionlib
from fusionlib.datasets import load_dataset
from reproduction import experiments
from reproduction.experiments import TABLES, Row

OURS = Row("ours", "Res2NetFuse_1 mean", "res2netfuse", {"rule": "mean"})
OTHER = Row("other", "Res2NetFuse_1 mean", "res2netfuse", {"rule": "average"})
THEIRS = Row("theirs", "DenseFuse", "densefuse")


def leave_this_machine(monkeypatch, tmp_path_factory):
    """See nothing of its data and weights."""
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def make_table_small(monkeypatch):
    """Give Table II three rows, a corner of each scene, and one process."""
    monkeypatch.setitem(TABLES, "table_02", (OURS, OTHER, THEIRS))
    monkeypatch.setattr(experiments, "load_dataset", corners)
    monkeypatch.setattr("loky.cpu_count", lambda: 1)


def corners(name, *, data_dir=None, limit=None):
    pairs = load_dataset(name, data_dir=data_dir, limit=limit)
    return Corners(pairs)


class Corners:
    def __init__(self, pairs):
        self.pairs, self.name = pairs, pairs.name
        self.names = pairs.names

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Corners(self.pairs[index])
        pair = self.pairs[index]
        return fusionlib.Pair(pair.name, pair.ir[:44, :44], pair.vis[:44, :44])


def measure(results_dir, **options):
    options = {"profile": "sample", "limit": 2} | options
    return experiments.fusion_table("table_02", results_dir=results_dir, **options)
