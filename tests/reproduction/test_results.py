"""results: what a run leaves behind can be read by others and is written whole."""

from __future__ import annotations

import io
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
    {
        "row": ["Ours mean", "Ours mean"],
        "pair": ["a", "b"],
        "metric": "EN",
        "value": [0.1 + 0.2, np.nan],
    }
)
SUMMARY = pd.DataFrame(
    {
        "row": ["Ours mean"],
        "metric": ["EN"],
        "n": [2],
        "mean": [1 / 3],
        "ci_low": [0.1],
        "ci_high": [0.5],
        "paper": [0.33333],
        "difference": [1 / 3 - 0.33333],
        "verdict": ["exact"],
        "paper_rank": [2],
    }
)


@pytest.fixture(scope="module")
def method():
    return fusionlib.create("res2netfuse")


@pytest.fixture(scope="module")
def facts(method):
    return results.provenance(
        methods={"one": method, "two": method},
        data={"sample": "0" * 64},
        seed=7,
        seconds=12.345,
        profile="sample",
        limit=None,
    )


def test_fields_of_the_schema(facts, method):
    assert set(facts) >= {"commit", "versions", "device", "seed", "data", "weights", "seconds"}
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["device"]["threads"] == torch.get_num_threads()
    assert facts["device"]["name"] == "cpu"
    assert str(os.cpu_count()) in facts["device"]["cpu"]
    assert (facts["seed"], facts["seconds"]) == (7, 12.3)
    assert facts["data"] == {"sample": "0" * 64}
    assert (facts["profile"], facts["limit"]) == ("sample", None)
    assert facts["weights"]["one"] == {
        "name": method.card.weights,
        "sha256": digest(method.network.state_dict()),
    }


def test_device_and_missing_packages(monkeypatch):
    monkeypatch.setattr(results, "PACKAGES", ("torch", "no-such-package"))
    facts = results.provenance(device="cuda")
    assert facts["device"]["name"] == "cuda"
    assert facts["versions"]["no-such-package"] == "not installed"
    assert facts["seconds"] is None


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_commit(monkeypatch, tmp_path):
    package = tmp_path / "repository" / "fusionlib"
    package.mkdir(parents=True)
    monkeypatch.setattr(results, "__file__", str(package / "results.py"))
    assert results.provenance()["commit"] == "unknown"
    git("init", "-q", cwd=package.parent)
    assert results.provenance()["commit"] == "unknown"  # nothing committed yet
    (package / "file").write_text("one")
    git("add", ".", cwd=package.parent)
    git("commit", "-qm", "one", cwd=package.parent)
    commit = git("rev-parse", "HEAD", cwd=package.parent)
    assert results.provenance()["commit"] == commit[:12]
    # What a run writes does not make the code another.
    (package.parent / "results").mkdir()
    (package.parent / "results" / "summary.csv").write_text("1")
    (package.parent / "README.md").write_text("1")
    assert results.provenance()["commit"] == commit[:12]
    (package / "file").write_text("two")
    assert results.provenance()["commit"] == f"{commit[:12]}-dirty"


def test_commit_of_a_repository_around_it_is_not_ours(monkeypatch, tmp_path):
    git("init", "-q", cwd=tmp_path)
    git("commit", "-qm", "theirs", "--allow-empty", cwd=tmp_path)
    package = tmp_path / "site-packages" / "fusionlib"
    package.mkdir(parents=True)
    monkeypatch.setattr(results, "__file__", str(package / "results.py"))
    assert results.provenance()["commit"] == "unknown"


def test_files(tmp_path, facts):
    folder = tmp_path / "sample" / "table_02"
    results.save(folder, per_pair=PER_PAIR, summary=SUMMARY, facts=facts)
    assert sorted(path.name for path in folder.iterdir()) == [
        "per_pair.csv",
        "provenance.json",
        "summary.csv",
        "summary.md",
        "summary.tex",
    ]
    read = pd.read_csv(folder / "per_pair.csv", dtype={"value": str})
    # No digit of a value is lost.
    assert [float(v) for v in read["value"]] == [0.1 + 0.2, pytest.approx(np.nan, nan_ok=True)]
    assert list(read) == list(PER_PAIR)
    # Eight digits: an error of at most half a unit of the eighth.
    pd.testing.assert_frame_equal(pd.read_csv(folder / "summary.csv"), SUMMARY, rtol=5e-8)
    assert json.loads((folder / "provenance.json").read_text()) == facts
    markdown = (folder / "summary.md").read_text()
    assert markdown.splitlines() == [
        "# table_02",
        "",
        "|  | EN paper | EN ours | EN difference |",
        "| --- | ---: | ---: | ---: |",
        "| Ours mean | 0.33333 ② | 0.33333 ①<br>0.10000 to 0.50000 | +0.00000<br>exact |",
        "",
        "①②③: the best three of a column, the paper's among all of its rows; below our mean its "
        "95 % interval; below the difference the verdict; means over 2 images.",
    ]
    latex = (folder / "summary.tex").read_text()
    assert r"\caption{table\_02. " in latex
    assert r"Ours mean & \underline{0.33333} & \textbf{0.33333} & +0.00000 \\" in latex


def test_summary_of_another_kind(tmp_path, facts):
    layers = pd.DataFrame({"layer": ["(Conv3) x2"], "size": [3], "agrees": [True]})
    results.save(tmp_path / "table_01", summary=layers, facts=facts)
    names = sorted(path.name for path in (tmp_path / "table_01").iterdir())
    assert names == ["provenance.json", "summary.csv", "summary.md"]
    assert (tmp_path / "table_01" / "summary.md").read_text().splitlines() == [
        "# table_01",
        "",
        "| layer | size | agrees |",
        "| --- | ---: | ---: |",
        "| (Conv3) x2 | 3 | True |",
    ]


def test_same_run_gives_the_same_bytes(tmp_path, facts):
    contents = []
    for name in ("a/table", "b/table"):
        results.save(tmp_path / name, per_pair=PER_PAIR, summary=SUMMARY, facts=facts)
        contents.append([p.read_bytes() for p in sorted((tmp_path / name).iterdir())])
    assert contents[0] == contents[1]


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


def test_training(tmp_path, facts):
    history = pd.DataFrame({"iteration": [1, 2], "total": [1 / 3, 2 / 3]})
    results.save_training(tmp_path, "one_image", history, facts)
    text = (tmp_path / "one_image.csv").read_text()
    assert text == "iteration,total\n1,0.3333333\n2,0.6666667\n"
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), history, rtol=5e-7)
    assert json.loads((tmp_path / "provenance.json").read_text())["seed"] == 7


def test_short_line(facts, method):
    line = results.short_provenance(facts)
    assert "\n" not in line
    assert f"seed 7, profile sample; weights: {method.card.weights} " in line
    # Two rows with the same weights name them once, by the first digits of their hash.
    assert line.count(method.card.weights_sha256[:8]) == 1
    assert f"torch {torch.__version__.split('+')[0]}," in line
    assert results.short_provenance(results.provenance()).endswith("profile -; weights: none")
    # A classical method has none: others' are named all the same.
    classical = {"MST": fusionlib.create("mst")}
    assert results.short_provenance(results.provenance(methods=classical)).endswith("weights: none")
    both = results.provenance(methods=classical | {"ours": method})
    assert f"; weights: {method.card.weights} " in results.short_provenance(both)
