"""results: what a run leaves behind can be read by others and is written whole."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import fusionlib
from fusionlib.errors import FusionError
from fusionlib.weights import digest
from reproduction import results

PER_PAIR = pd.DataFrame(
    {"row": "Ours mean", "pair": ["a", "b"], "metric": "EN", "value": [0.1 + 0.2, np.nan]}
)
SUMMARY = pd.DataFrame(
    {"row": ["Ours mean"], "metric": ["EN"], "n": [2], "mean": [1 / 3], "ci_low": [0.1],
     "ci_high": [0.5], "paper": [0.33333], "difference": [1 / 3 - 0.33333], "verdict": ["exact"],
     "paper_rank": [2]}
)  # fmt: skip


@pytest.fixture(scope="module")
def method():
    return fusionlib.create("res2netfuse")


@pytest.fixture(scope="module")
def facts(method):
    methods, data = {"one": method, "two": method}, {"sample": "0" * 64}
    return results.provenance(
        methods=methods, data=data, seed=7, seconds=12.345, profile="sample", limit=None
    )


def test_fields_of_the_schema(facts, method, monkeypatch):
    assert set(facts) >= {"commit", "versions", "device", "seed", "data", "weights", "seconds"}
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["device"]["threads"] == torch.get_num_threads()
    assert facts["device"]["name"] == "cpu" and str(os.cpu_count()) in facts["device"]["cpu"]
    assert (facts["seed"], facts["seconds"]) == (7, 12.3)
    assert facts["data"] == {"sample": "0" * 64}
    assert (facts["profile"], facts["limit"]) == ("sample", None)
    weights = digest(method.network.state_dict())
    assert facts["weights"]["one"] == {"name": method.card.weights, "sha256": weights}
    monkeypatch.setattr(results, "PACKAGES", "torch no-such-package")
    others = results.provenance(device="cuda")
    assert others["device"]["name"] == "cuda" and others["seconds"] is None
    assert others["versions"]["no-such-package"] == "not installed"


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_commit(monkeypatch, tmp_path):
    root = tmp_path / "repository"
    (root / "reproduction").mkdir(parents=True)
    monkeypatch.setattr(results, "ROOT", root)
    git("init", "-q", cwd=tmp_path)  # one around it is not ours
    git("commit", "-qm", "theirs", "--allow-empty", cwd=tmp_path)
    assert results.commit() == "unknown"
    git("init", "-q", cwd=root)
    assert results.commit() == "unknown"  # nothing committed yet
    (root / "reproduction" / "file").write_text("one")
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    commit = git("rev-parse", "HEAD", cwd=root)
    # What a run writes does not make the code another.
    (root / "results").mkdir()
    (root / "results" / "summary.csv").write_text("1")
    (root / "README.md").write_text("1")
    assert results.commit() == commit[:12]
    (root / "reproduction" / "file").write_text("two")
    assert results.commit() == f"{commit[:12]}-dirty"


def test_files(tmp_path, facts):
    folder = tmp_path / "sample" / "table_02"
    results.save(folder, per_pair=PER_PAIR, summary=SUMMARY, facts=facts)
    names = ["per_pair.csv", "provenance.json", "summary.csv", "summary.md", "summary.tex"]
    assert sorted(path.name for path in folder.iterdir()) == names
    read = pd.read_csv(folder / "per_pair.csv", dtype={"value": str})
    # No digit of a value is lost.
    assert [float(v) for v in read["value"]] == [0.1 + 0.2, pytest.approx(np.nan, nan_ok=True)]
    assert list(read) == list(PER_PAIR)
    # Eight digits: an error of at most half a unit of the eighth.
    pd.testing.assert_frame_equal(pd.read_csv(folder / "summary.csv"), SUMMARY, rtol=5e-8)
    assert json.loads((folder / "provenance.json").read_text()) == facts
    markdown = (folder / "summary.md").read_text()
    row = "| Ours mean | 0.33333 ② | 0.33333 ①<br>0.10000 to 0.50000 | +0.00000<br>exact |"
    assert markdown.startswith("# table_02\n\n") and row in markdown.splitlines()
    latex = (folder / "summary.tex").read_text()
    assert r"Ours mean & \underline{0.33333} & \textbf{0.33333} & +0.00000 \\" in latex


def test_summary_of_another_kind(tmp_path, facts):
    layers = pd.DataFrame({"layer": ["a|_b_ x2"], "x_y": [1 / 3], "n": [np.nan], "agrees": [True]})
    results.save(tmp_path, summary=layers, facts=facts)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["provenance.json", "summary.csv", "summary.md"]
    assert (tmp_path / "summary.md").read_text().splitlines()[2:] == [
        "| layer | x_y | n | agrees |",
        "| --- | ---: | ---: | ---: |",
        r"| a\|\_b\_ x2 | 0.333333 |  | True |",
    ]


def test_fault_keeps_the_old_files(tmp_path, facts, monkeypatch):
    results.save(tmp_path, per_pair=PER_PAIR, summary=SUMMARY, facts=facts)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.save(tmp_path, per_pair=SUMMARY, summary=SUMMARY, facts=facts)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_unwritable(tmp_path, facts):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match="cannot write"):
        results.save(tmp_path / "file", per_pair=PER_PAIR, summary=SUMMARY, facts=facts)


def test_recorded_run_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    with pytest.raises(FusionError, match=r"table_02 has no recorded run .* --only 03\.$"):
        results.read_recorded("table_02", only="03")


def test_training(tmp_path, facts):
    history = pd.DataFrame({"iteration": [1, 2], "total": [1 / 3, 2 / 3]})
    results.save_training(tmp_path, "one_image", history, facts)
    text = (tmp_path / "one_image.csv").read_text()
    assert text == "iteration,total\n1,0.3333333\n2,0.6666667\n"
    assert json.loads((tmp_path / "provenance.json").read_text())["seed"] == 7


def test_short_line(facts, method):
    line = results.short_provenance(facts)
    assert "\n" not in line and f"torch {torch.__version__.split('+')[0]}," in line
    assert f"seed 7, profile sample; weights: {method.card.weights} " in line
    # Two rows with the same weights name them once, by the first digits of their hash.
    assert line.count(method.card.weights_sha256[:8]) == 1
    assert results.short_provenance(results.provenance()).endswith("profile -; weights: none")
    # A classical method has none: others' are named all the same.
    both = results.provenance(methods={"MST": fusionlib.create("mst"), "ours": method})
    assert f"; weights: {method.card.weights} " in results.short_provenance(both)
