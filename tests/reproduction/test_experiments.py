"""experiments: every row exists here and in the print; what is missing is said with its remedy."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

import fusionlib
from fusionlib import evaluation
from fusionlib.datasets import load_dataset, load_images
from fusionlib.errors import DatasetNotFound, FusionError, UnknownName
from fusionlib.evaluation import levels
from fusionlib.methods import Method
from fusionlib.metrics import SELECTIONS
from fusionlib.networks.res2netfuse import Res2NetFuse
from reproduction import experiments, results
from reproduction.experiments import READINGS, TABLES, Row, available
from reproduction.papers import paper_values
from tests.given import OURS, THEIRS, corners, leave_this_machine, make_table_small, measure


@pytest.fixture(autouse=True)
def away(monkeypatch, tmp_path_factory):
    leave_this_machine(monkeypatch, tmp_path_factory)


@pytest.fixture
def small_table(monkeypatch):
    make_table_small(monkeypatch)


# ---------------------------------------------------------------- rows


def test_our_own_weights_are_always_there():
    for rows in TABLES.values():
        methods, missing = available(rows, "sample")
        expected = {
            row.label
            for row in rows
            if row.method in ("res2netfuse", "dchwt", "mst")
            or row.label.endswith((", retrained", ", one dictionary"))
            or (row.method == "refinefuse" and "weights" not in row.options)
        }
        assert set(methods) == expected
        assert set(missing) == {row.label for row in rows} - expected


@pytest.mark.parametrize("where", ["unset", "empty"])
def test_missing_weights_come_with_a_remedy(monkeypatch, tmp_path, where):
    if where == "empty":
        monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(tmp_path))
    methods, missing = available([OURS, THEIRS], "sample")
    assert methods["ours"].identity[2] == "mean"
    assert list(missing) == ["theirs"]
    assert "github.com" in missing["theirs"] and "FUSIONLIB_WEIGHTS" in missing["theirs"]
    assert str(tmp_path) not in missing["theirs"]  # a saved notebook shows no one's folders


def test_misspelt_row_is_an_error():
    with pytest.raises(UnknownName, match="densefuse"):
        available([Row("x", "", "densefus")], "sample")


def test_slow_rows_are_not_for_the_sample():
    row = Row("learnt", "JSR", "jsr", slow="takes minutes")
    assert available([row], "sample") == ({}, {"learnt": "takes minutes"})
    methods, missing = available([row], "tno20")
    assert not missing and methods["learnt"].identity.variant == "learnt"


def test_authors_images_are_only_for_their_data_set(monkeypatch):
    """Said whether they are here or not: what a notebook shows must not depend on that."""
    row = Row("theirs", "JSR", "jsr", images="published_tno20_jsr")
    methods, missing = available([row], "tno42")
    assert not methods
    assert missing == {"theirs": "the authors' images are of tno20, this is tno42"}
    monkeypatch.setattr(experiments, "PublishedImages", lambda *a, **k: (a, k))
    methods, missing = available([row], "tno20", data_dir="here")
    assert methods == {"theirs": (("jsr", "published_tno20_jsr"), {"data_dir": "here"})}
    assert not missing


def test_what_is_missing_keeps_its_remedy(monkeypatch):
    """A row for orientation beside the authors' row does not hide how to get theirs."""
    rows = (
        Row("CDDFuse", "CDDFuse", "cddfuse"),
        Row("CDDFuse, retrained", "CDDFuse", "cddfuse", orientation="the authors' weights"),
        Row("EMMA, retrained", "EMMA", "emma", orientation="the authors' weights"),
    )
    monkeypatch.setitem(TABLES, "refinefuse_03", rows)
    found = experiments._missing_rows("refinefuse_03", {"CDDFuse": "fetch them"})
    assert found["CDDFuse"] == "fetch them"
    expected = "the authors' weights; EMMA, retrained stands here for orientation"
    assert found["EMMA"] == expected
    assert found["SDNet"] == "its method is not in this version of fusionlib"


def test_pipeline_effect():
    frame = pd.DataFrame(
        [("a", "EN", 2.0), ("b", "EN", 3.0), ("a", "SF", 4.0), ("b", "SF", 3.0), ("c", "EN", 1.0)],
        columns=["row", "metric", "mean"],
    )
    shown = experiments.pipeline_effect(frame, {"a": "b", "c": "d"})
    assert shown.data.to_dict() == {"EN": {"b": 50.0}, "SF": {"b": -25.0}}
    assert "+50.0 %" in shown.to_html() and "change in percent" in shown.to_html()
    nothing = experiments.pipeline_effect(frame, {"c": "d"})
    assert nothing.data.empty and "no row has both" in nothing.to_html()


@pytest.mark.parametrize("table", [name for name in TABLES if name.startswith("refinefuse")])
def test_what_departs_is_in_the_provenance(table):
    source = experiments.SOURCES[table]
    facts = experiments._facts(0, {}, source.paper, profile="paper", device="cpu", seed=0)
    assert facts.get("data_departs", "") == source.departs
    assert bool(source.departs) == (table != "refinefuse_03")


@pytest.mark.parametrize(
    ("profile", "limit", "verdicts"),
    [
        ("paper", None, ["exact", "for orientation"]),
        ("paper", 3, ["other data"] * 2),
        ("sample", None, ["other data"] * 2),
    ],
)
def test_verdict_follows_data_and_row(tmp_path, profile, limit, verdicts):
    printed = paper_values("table_02").set_index(["row", "metric"])["paper"]
    rows = {
        "ours": Row("ours", "Res2NetFuse_1 mean", "res2netfuse"),
        "fewer images": Row(
            "fewer images", "Res2NetFuse_80000 mean", "res2netfuse", orientation="more"
        ),
    }
    per_pair = pd.DataFrame(
        {"row": label, "pair": pair, "metric": "EN", "value": printed[row.paper, "EN"]}
        for label, row in rows.items()
        for pair in "ab"
    )
    facts = {"profile": profile, "limit": limit}
    measured = experiments._compared(
        "table_02", per_pair, per_pair["metric"], rows, {}, facts, tmp_path
    )
    assert list(measured.compared["verdict"]) == verdicts


# ---------------------------------------------------------------- the network


def test_network_table(tmp_path):
    """All of Table I agrees, and what is saved is what is returned."""
    checked = experiments.network_table(profile="sample", results_dir=tmp_path)
    assert len(checked) == 14 and checked["agrees"].all()
    folder = tmp_path / "sample" / "table_01"
    saved = pd.read_csv(folder / "summary.csv", keep_default_na=False)
    assert saved.equals(checked)
    assert {path.name for path in folder.iterdir()} == {
        *("summary.csv", "summary.md", "provenance.json")
    }
    assert json.loads((folder / "provenance.json").read_text())["parameters"] == 101_217


def test_network_table_says_where_a_network_differs(tmp_path, monkeypatch):
    live = experiments.layer_table(Res2NetFuse("paper"))
    live.loc[3, "output channels"] += 1
    monkeypatch.setattr(experiments, "layer_table", lambda network: live)
    checked = experiments.network_table(profile="sample", results_dir=tmp_path)
    assert list(checked.index[~checked["agrees"]]) == [3]


# ---------------------------------------------------------------- fusion


def test_fusion_table(small_table, tmp_path):
    measured = measure(tmp_path, seed=3)
    folder = tmp_path / "sample" / "table_02"
    assert {path.name for path in folder.iterdir()} == {
        *("per_pair.csv", "provenance.json", "summary.csv", "summary.md", "summary.tex")
    }
    names = load_dataset("sample", limit=2).names
    rows = pd.read_csv(folder / "per_pair.csv")
    columns = [*(column.split(":") for column in SELECTIONS["res2netfuse"]), ["MI", "standard"]]
    assert rows.groupby(["row", "metric", "convention"]).size().to_dict() == dict.fromkeys(
        [(row, *column) for row in ("ours", "other") for column in columns], 2
    )
    assert set(rows["pair"]) == set(names) and set(rows["table"]) == {"table_02"}
    # Each value is that of the method of its row.
    pair = corners("sample")[0]
    for label, rule in (("ours", "mean"), ("other", "average")):
        method = fusionlib.create("res2netfuse", rule=rule)
        images = method.fuse(pair.ir, pair.vis), pair.ir, pair.vis
        scores = fusionlib.evaluate(*images, [*SELECTIONS["res2netfuse"], "MI:standard"])
        frame = measured.per_pair
        part = frame[(frame["row"] == label) & (frame["pair"] == pair.name)]
        found = part.set_index(part["metric"] + ":" + part["convention"])["value"].to_dict()
        assert found == scores
    # The printed value stands beside, but rendered scenes are no TNO images.
    compared = measured.compared.set_index(["row", "metric"])
    assert compared.loc[("ours", "SSIM_a"), "paper"] == 0.74206
    assert set(compared["n"]) == {2}
    # The printed MI is 2 EN; the true one stands beside it and has no partner.
    verdicts = compared["verdict"].to_dict()
    assert {verdicts.pop((row, "MI:standard")) for row in ("ours", "other")} == {"not in the paper"}
    assert set(verdicts.values()) == {"other data"}
    assert compared.loc[("ours", "MI"), "mean"] == 2 * compared.loc[("ours", "EN"), "mean"]
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts == measured.facts
    assert (facts["seed"], facts["limit"], facts["profile"]) == (3, 2, "sample")
    assert set(facts["weights"]) == {"ours", "other"} and len(facts["data"]["sample"]) == 64


def test_missing_rows_are_listed(small_table, tmp_path):
    measured = measure(tmp_path, limit=1)
    assert "FUSIONLIB_WEIGHTS" in measured.missing["theirs"]
    assert "not in this version" in measured.missing["MSDNet mean"]
    assert "Res2NetFuse_1 mean" not in measured.missing
    html = measured.show_missing().to_html()
    assert all(name in html for name in measured.missing)
    assert html == measured.show_missing().to_html()


def test_measured_shows_its_table(small_table, tmp_path):
    styler = measure(tmp_path, limit=1).show(caption="Table II", decimals=3)
    html = styler.to_html()
    assert "Table II" in html and "0.742" in html and "①" in html


def test_interrupted_table_continues(small_table, monkeypatch, tmp_path):
    whole = measure(tmp_path / "whole")
    fused = []
    original = Method.fuse

    def fuse(self, *images):
        fused.append(self.rule.name)
        if len(fused) == 4:
            raise KeyboardInterrupt
        return original(self, *images)

    monkeypatch.setattr(Method, "fuse", fuse)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "stopped")
    folder = tmp_path / "stopped" / "sample" / "table_02"
    assert not folder.exists()
    again = measure(tmp_path / "stopped")
    assert fused == ["mean", "mean", "average", "average", "average"]
    for name in ("per_pair.csv", "summary.csv", "summary.md"):
        finished = tmp_path / "whole" / "sample" / "table_02" / name
        assert (folder / name).read_bytes() == finished.read_bytes()
    assert again.compared.equals(whole.compared)


def test_rows_of_a_longer_run_do_not_count(small_table, tmp_path):
    measure(tmp_path, limit=2)
    assert set(measure(tmp_path, limit=1).compared["n"]) == {1}


def test_paper_profile_without_data(tmp_path):
    with pytest.raises(DatasetNotFound, match="tno20"):
        measure(tmp_path, profile="paper")
    assert list(tmp_path.iterdir()) == []


def test_unknown_profile_and_table(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'sample'"):
        measure(tmp_path, profile="smaple")
    with pytest.raises(UnknownName, match="unknown profile"):
        experiments.reconstruction_table(profile="papers", results_dir=tmp_path)
    with pytest.raises(UnknownName, match="unknown table 'table_05'"):
        experiments.fusion_table("table_05", profile="sample", results_dir=tmp_path)


# ---------------------------------------------------------------- reconstruction


def test_readings_of_a_reconstruction(monkeypatch, tmp_path):
    """Against NumPy and scikit-image, from the raw output of the network on."""
    images = [(name, image[:48, :48]) for name, image in load_images("sample_images", limit=2)]
    monkeypatch.setattr(experiments, "load_images", lambda *_, **__: images)
    monkeypatch.setitem(TABLES, "table_03", (Row("ours", "Res2NetFuse_1", "res2netfuse"),))
    measured = experiments.reconstruction_table(profile="sample", results_dir=tmp_path, limit=2)
    assert len(measured.per_pair) == len(READINGS) * len(images) * 3
    assert list(measured.compared["row"].unique()) == [f"ours ({r})" for r in READINGS]
    found = measured.per_pair.set_index(["row", "pair", "metric"])["value"]
    method = fusionlib.create("res2netfuse")
    for name, image in images:
        raw = method.raw_reconstruction(image).astype(np.float64)  # gray levels
        original = evaluation.levels(image)
        span = (raw - raw.min()) / (raw.max() - raw.min()) * 255
        wide = original.astype(np.float64)
        wide = np.floor((wide - wide.min()) / (wide.max() - wide.min()) * 255)
        expected = {
            # Truncated as the authors' code does.
            "clipped": (np.floor(np.clip(raw, 0, 255)), original),
            "stretched": (np.floor(span), original),
            "both stretched": (np.floor(span), wide),
        }
        for reading, (output, reference) in expected.items():
            output, reference = output.astype(np.uint8), reference.astype(np.uint8)
            key = f"ours ({reading})", name
            mse = mean_squared_error(output, reference) / 255**2
            psnr = peak_signal_noise_ratio(reference, output, data_range=255)
            assert found[(*key, "MSE")] == pytest.approx(mse, rel=1e-12)
            assert found[(*key, "PSNR")] == pytest.approx(psnr, rel=1e-12)
    compared = measured.compared.set_index(["row", "metric"])
    assert compared.loc[("ours (clipped)", "PSNR"), "paper"] == 40.36431
    assert set(compared["verdict"]) == {"other data"}
    assert measured.facts["readings"] == READINGS
    assert (tmp_path / "sample" / "table_03" / "summary.csv").exists()


def test_reconstruction_limit_is_checked(tmp_path):
    with pytest.raises(FusionError, match="limit is 0"):
        experiments.reconstruction_table(profile="sample", results_dir=tmp_path, limit=0)


def test_printed_inside_interval_counts_per_reading():
    rows = [
        ("A (clipped)", "MSE", 0.0, 2.0, 1.0),
        ("A (clipped)", "PSNR", 0.0, 2.0, 3.0),
        ("A (stretched)", "MSE", 0.0, 2.0, 2.0),
        ("A (stretched)", "PSNR", 0.0, 2.0, 0.5),
        ("B, of two (x) (clipped)", "MSE", 0.0, 2.0, -1.0),
    ]
    compared = pd.DataFrame(rows, columns=["row", "metric", "ci_low", "ci_high", "paper"])
    measured = experiments.Measured("table_03", compared, compared, {}, {})
    counts = experiments.printed_inside_interval(measured)
    assert counts.loc["A"].to_dict() == {"clipped": 1, "stretched": 2}
    assert counts.loc["B, of two (x)", "clipped"] == 0


def test_recorded_run():
    """The committed results of profile paper, whole."""
    measured = experiments.recorded("refinefuse_03")
    assert measured.facts["profile"] == "paper" and not measured.missing
    assert set(measured.compared["row"]) == set(measured.per_pair["row"])
    means = measured.per_pair[measured.per_pair["metric"] == "EN"].groupby("row")["value"].mean()
    compared = measured.compared.set_index(["row", "metric"])["mean"]
    assert compared["SeAFusion", "EN"] == pytest.approx(means["SeAFusion"])
    assert "SeAFusion" in measured.show("EN").to_html()


def test_recorded_run_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    with pytest.raises(FusionError, match=r"refinefuse_03 has no recorded run in .*clone"):
        experiments.recorded("refinefuse_03")
    with pytest.raises(UnknownName, match="table 'table_99'"):
        experiments.recorded("table_99")


# ---------------------------------------------------------------- captions, texts, plain fusions


@pytest.mark.parametrize(("count", "says"), [(1, "1 image, "), (3, "3 images, ")])
def test_caption(count, says):
    per_pair = pd.DataFrame({"pair": [*range(count)] * 2})
    measured = experiments.Measured("t", per_pair, per_pair, {}, {"profile": "paper"})
    assert measured.caption("Table III", images="image") == f"Table III, {says}profile paper"


def test_texts_show_commands_as_such():
    text = experiments.show_texts({"A": "run `fusionlib x <FILE>`", "B": "plain"}).to_html()
    assert "run <code>fusionlib x &lt;FILE&gt;</code>" in text and "plain" in text


def test_rank_agreement():
    pairs = load_dataset("sample", limit=2)
    method = fusionlib.OwnMethod("darker", lambda ir, vis: 0.5 * ir)
    wanted = ["SSIM:standard", "SSIM:vifb", "SSIM:cddfuse"]
    found = experiments.rank_agreement(pairs, method, wanted)
    assert list(found.columns) == ["same ranking, of 2 pairs"] and list(found.index) == wanted[1:]
    assert found.loc["SSIM:vifb"].item() == 2  # twice the textbook's value
    ir, vis = (levels(image) for image in (pairs[0].ir, pairs[0].vis))
    scores = experiments.compare_with_plain(ir, ir, vis, ["EN", "SSIM"])
    assert list(scores.index) == ["average", "maximum", "visible alone", "fused"]
    assert scores.loc["fused", "EN"] == fusionlib.evaluate(ir, ir, vis, ["EN"])["EN"]
    assert scores.loc["visible alone", "EN"] == fusionlib.evaluate(vis, ir, vis, ["EN"])["EN"]
    darkest = experiments.compare_with_plain(ir, ir, np.full_like(ir, 255), ["EN"])["EN"]
    assert darkest["maximum"] == darkest["visible alone"] == 0  # all white
    assert darkest["average"] == pytest.approx(darkest["fused"], abs=1)  # rounded up, 7 bits of 8
