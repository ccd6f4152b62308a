"""scores: what is there is not measured again, and the table says who measured it."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
import torch

from fusionlib.errors import FusionError
from fusionlib.methods import Method, create, registry
from fusionlib.metrics import METRICS
from reproduction import results
from reproduction.scores import Scores
from tests.given import corners, leave_this_machine, make_table_small, measure


@pytest.fixture(autouse=True)
def small_table(monkeypatch, tmp_path_factory):
    leave_this_machine(monkeypatch, tmp_path_factory)
    make_table_small(monkeypatch)


@pytest.fixture
def fused(monkeypatch):
    """The rules of what was fused."""
    rules = []
    original = Method.fuse

    def fuse(self, *images):
        rules.append(self.rule.name)
        return original(self, *images)

    monkeypatch.setattr(Method, "fuse", fuse)
    return rules


@pytest.fixture
def commit(monkeypatch):
    """Call it to say which commit measures."""
    return lambda name: monkeypatch.setattr(results, "commit", lambda: name)


def clear(folder):
    for file in (folder / "sample" / "cache").iterdir():
        file.unlink()


def run(commit):
    return {"commit": commit, "torch": torch.__version__, "device": "cpu"}


def test_what_is_there_is_not_measured_again(commit, fused, tmp_path):
    commit("first")
    assert "measured_by" not in measure(tmp_path, limit=1).facts
    whole = measure(tmp_path / "whole")
    fused.clear()
    commit("second")
    second = measure(tmp_path)
    assert fused == ["mean", "average"]  # the second pair
    assert second.per_pair.equals(whole.per_pair)
    both = [run("first"), run("second")]
    assert second.facts["measured_by"] == {"ours": both, "other": both}
    commit("third")
    third = measure(tmp_path)
    assert third.facts["commit"] == "third" and len(fused) == 2
    assert third.facts["measured_by"] == {"ours": both, "other": both}
    assert third.per_pair.equals(second.per_pair)


def test_results_are_enough(commit, fused, tmp_path):
    """A clone has the tables' folders alone."""
    commit("first")
    first = measure(tmp_path)
    clear(tmp_path)
    fused.clear()
    commit("second")
    second = measure(tmp_path)
    assert not fused and second.per_pair.equals(first.per_pair)
    assert second.facts["measured_by"] == {"ours": [run("first")], "other": [run("first")]}
    digits = pd.read_csv(tmp_path / "sample" / "table_02" / "per_pair.csv", dtype=str)["value"]
    assert [*map(float, digits)] == [*first.per_pair["value"]]


def test_what_other_metrics_measured_does_not_hide_a_run(commit, tmp_path):
    """A data set's store has scores of other metrics; this run measured those of the table."""
    pairs = corners("sample", limit=1)
    methods = {"ours": create("res2netfuse", rule="mean")}
    scores = Scores(tmp_path, "sample")
    many = [f"{name}:standard" for name in ("EN", "SD", "SF", "AG")]
    scores.measure(methods, pairs, many, run("first"))
    _, runs = Scores(tmp_path, "sample").measure(methods, pairs, ["MI:li"], run("second"))
    assert runs == {"ours": [run("first"), run("second")]}


def test_scores_of_other_data_do_not_count(fused, tmp_path):
    measure(tmp_path, limit=1)
    clear(tmp_path)
    path = tmp_path / "sample" / "table_02" / "provenance.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"data": {"sample": "0" * 64}}))
    fused.clear()
    assert "measured_by" not in measure(tmp_path, limit=1).facts
    assert fused == ["mean", "average"]


@pytest.mark.parametrize(
    ("which", "again", "cached"), [("method", 18, True), ("metric", 2, True), ("method", 18, False)]
)
def test_a_version_that_moved_is_measured_again(monkeypatch, fused, tmp_path, which, again, cached):
    first = measure(tmp_path, limit=1).per_pair
    if not cached:
        clear(tmp_path)
    registered = registry() if which == "method" else METRICS
    name = "res2netfuse" if which == "method" else "EN"
    moved = dataclasses.replace(registered[name], version=2)
    monkeypatch.setitem(registered, name, moved)
    kept = Scores(tmp_path / "sample", "sample")
    assert len(first) - len(pd.read_csv(kept.csv)) == again
    fused.clear()
    second = measure(tmp_path, limit=1)
    assert fused == ["mean", "average"] and second.per_pair.equals(first)
    assert second.facts["score_versions"][name] == 2
    fused.clear()
    measure(tmp_path, limit=1)
    assert not fused


def test_results_that_are_not_whole(tmp_path):
    measure(tmp_path, limit=1)
    folder = tmp_path / "sample" / "table_02"
    (folder / "provenance.json").unlink()
    with pytest.raises(FusionError, match=r"whole results .*provenance.* Delete it") as error:
        measure(tmp_path, limit=1)
    assert str(folder) in str(error.value)
