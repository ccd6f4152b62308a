"""kept: scores of earlier code are taken over when asked for, and the table says so."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from fusionlib.errors import FusionError, UnknownName
from fusionlib.methods import Method
from reproduction import results
from reproduction.kept import keep_scores
from tests.given import leave_this_machine, make_table_small, measure


@pytest.fixture(autouse=True)
def small_table(monkeypatch, tmp_path_factory):
    leave_this_machine(monkeypatch, tmp_path_factory)
    make_table_small(monkeypatch)


@pytest.fixture
def commit(monkeypatch):
    """Call it to say which commit measures; each has other code."""

    def set_commit(name):
        monkeypatch.setattr(results, "score_hash", lambda: name)
        monkeypatch.setattr(results, "_commit", lambda: name)

    return set_commit


def test_kept_scores_are_not_measured_again(commit, monkeypatch, tmp_path):
    """After a change of the code; the table says so, and measures only what is not there."""
    commit("first")
    assert "kept" not in measure(tmp_path, limit=1).facts
    whole = measure(tmp_path / "whole")
    fused = []
    original = Method.fuse
    monkeypatch.setattr(Method, "fuse", lambda self, *a: fused.append(1) or original(self, *a))
    commit("second")
    assert keep_scores("sample", tmp_path) == {"table_02": 18}
    assert keep_scores("sample", tmp_path) == {"table_02": 0}
    second = measure(tmp_path)
    assert len(fused) == 2  # the second pair with both methods
    assert second.per_pair.equals(whole.per_pair)
    about = {"torch": torch.__version__, "device": "cpu"}
    kept = {"commits": ["first"], "scores": 9} | about
    assert second.facts["kept"] == {"ours": kept, "other": kept}
    # Kept once more: one pair is of the first commit, one of the second.
    commit("third")
    keep_scores("sample", tmp_path)
    third = measure(tmp_path)
    kept = {"commits": ["first", "second"], "scores": 18} | about
    assert third.facts["commit"] == "third"
    assert third.facts["kept"] == {"ours": kept, "other": kept}
    assert third.per_pair.equals(second.per_pair) and len(fused) == 2
    commit("fourth")
    keep_scores("sample", tmp_path)
    assert measure(tmp_path).facts["kept"] == {"ours": kept, "other": kept}


def test_what_this_code_measured_is_not_replaced(commit, tmp_path):
    commit("first")
    measure(tmp_path, limit=1)
    commit("second")
    again = measure(tmp_path, limit=1)
    file = tmp_path / "sample" / "table_02" / "per_pair.csv"
    rows = pd.read_csv(file)
    rows.assign(value=7.0).to_csv(file, index=False)
    assert keep_scores("sample", tmp_path) == {"table_02": 0}
    third = measure(tmp_path, limit=1)
    assert third.per_pair.equals(again.per_pair) and "kept" not in third.facts


@pytest.mark.parametrize("fault", ["no provenance", "other columns", "other data"])
def test_results_that_cannot_be_kept(fault, tmp_path):
    measure(tmp_path, limit=1)
    folder = tmp_path / "sample" / "table_02"
    facts = folder / "provenance.json"
    if fault == "no provenance":
        facts.unlink()
    elif fault == "other columns":
        rows = pd.read_csv(folder / "per_pair.csv").drop(columns="colour")
        rows.to_csv(folder / "per_pair.csv", index=False)
    else:
        facts.write_text(facts.read_text().replace('"sample": "', '"sample": "0'))
    words = {"other columns": "whole results .*colour", "other data": "of other data than sample"}
    with pytest.raises(FusionError, match=words.get(fault, "whole results .*provenance")) as error:
        keep_scores("sample", tmp_path)
    assert str(folder) in str(error.value) and "Delete the folder" in str(error.value)


def test_nothing_to_keep(tmp_path):
    assert keep_scores("paper", tmp_path) == {}
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnknownName, match="profile 'papers'"):
        keep_scores("papers", tmp_path)
