"""Table 4: rows, both comparisons on small data, the paper's protocol on a stand-in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fusionlib.datasets import dataset_parts, load_dataset
from fusionlib.errors import UnknownName
from fusionlib.methods import registry
from reproduction.detection import experiment
from reproduction.detection.detector import TO_SCORE, TO_SEE, Detections, save_detector
from reproduction.detection.experiment import (
    PROTOCOLS,
    detection_rows,
    pretrained_table,
    retrained_table,
    sources,
)
from reproduction.detection.report import (
    ALL,
    OURS,
    boxes_of,
    paper_table,
    show_differences,
)
from reproduction.detection.training import PUBLISHED, Schedule
from tests.reproduction.detection.given import dataset, detector, pair

QUICK = Schedule(epochs=1, batch=4, nominal_batch=4, least_warmup=0, input=64, head="named")


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread):
    """On small pictures."""


# ---------------------------------------------------------------- rows


def test_rows_are_all_methods_with_those_of_the_print_first():
    rows = detection_rows()
    assert {row.method for row in rows} == set(registry())
    printed = list(paper_table().index)[2:]
    assert [row.label for row in rows if row.paper and not row.orientation] == printed
    assert "CDDFuse, retrained" in [row.label for row in rows]
    assert {row.method for row in rows if row.slow} == {"jsr", "jsrsd"}


def test_the_papers_protocol():
    """8:1:1 of 4200 pairs, three of M3FD's classes scored, 100 epochs, batches of 16, 0.01."""
    plan = PROTOCOLS["m3fd"]
    assert (plan.schedule, plan.weights, plan.blocks) == (PUBLISHED, "yolov5s", 0)
    parts = pd.Series(dataset_parts(plan.dataset)).value_counts()
    assert parts.to_dict() == {"train": 3360, "val": 420, "test": 420}
    assert plan.classes == ("People", "Car", "Bus")
    known = {"Infrared", "Visible", *(row.label for row in detection_rows())}
    assert all({*plan.rows} <= known for plan in PROTOCOLS.values())


def test_sources():
    found, missing = sources(["Visible", "MST", "JSR"], dataset="sample")
    assert list(found) == ["Visible", "MST"] and found["Visible"] == "vis"
    assert found["MST"].identity.method == "mst"
    assert "learns a dictionary from each pair" in missing["JSR"]
    with pytest.raises(UnknownName, match="row of Table 4 'Thermal'"):
        sources(["Thermal"], dataset="sample")


# ---------------------------------------------------------------- on small data


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A detector of 64 pixels without training, two methods, and protocols to match."""
    monkeypatch.setattr("reproduction.detection.report.DRAWS", 100)
    save_detector(tmp_path / "start.safetensors", detector(seed=5), {})
    weights = str(tmp_path / "start.safetensors")
    two = [row for row in detection_rows() if row.label in ("MST", OURS, "JSR")]
    monkeypatch.setattr(experiment, "detection_rows", lambda: tuple(two))
    for name, plan in PROTOCOLS.items():
        changes = {"weights": weights, "schedule": QUICK, "rows": ("Infrared", "MST", OURS)}
        monkeypatch.setitem(PROTOCOLS, name, plan._replace(**changes))
    return tmp_path


def see(_, examples, names, *, title="", thresholds=TO_SCORE):
    """What is there, in RefineFuse's pictures; in others people alone, in infrared nothing."""
    truths, found = {}, {}
    for example in examples:
        boxes = example.load()[1]
        truths[example.name] = boxes
        seen = [box for box in boxes if title.startswith(OURS) or box.label == "person"]
        seen = [] if title.startswith("Infrared") else seen
        # One is sure, the rest not.
        seen = seen[:1] if thresholds == TO_SEE else seen
        found[example.name] = Detections(
            np.array([box[1:] for box in seen]).reshape(-1, 4),
            np.linspace(0.9, 0.2, len(seen)),
            np.array([names.index(box.label) for box in seen], int),
        )
    return truths, found


def test_pretrained(small, monkeypatch):
    folder = small / "results" / "refinefuse_04_scenes"
    monkeypatch.setattr(experiment, "search", see)
    table = pretrained_table(folder, "sample", limit=4)
    summary = table.summary.set_index(["row", "class", "metric"])
    assert list(dict.fromkeys(table.summary["row"])) == ["Infrared", "Visible", "MST", OURS]
    assert (summary["n"] == 4).all() and summary.loc[("MST", ALL, "AP"), "objects"] == 18
    means = summary["mean"].unstack("class")
    assert means.loc[("MST", "AP"), ["person", "car", ALL]].tolist() == [100, 0, 50]
    assert means.loc[(OURS, "AP50"), ALL] == 100 and means.loc[("Infrared", "AP"), ALL] == 0
    assert np.isnan(means["bicycle"]).all()  # there is none in these four
    ends = summary.loc[("MST", ALL, "AP"), ["ci_low", "ci_high"]]
    assert ends["ci_low"] <= 50 <= ends["ci_high"]
    assert summary["paper"].isna().all()  # Table 4 is of detectors that were retrained
    apart = table.differences.set_index(["row", "class", "metric"])
    assert apart.loc[("MST", ALL, "AP"), "difference"] == 50
    assert apart.loc[("Infrared", ALL, "AP"), "verdict"] == "better"
    assert apart.loc[("Infrared", ALL, "AP"), ["ci_low", "ci_high"]].tolist() == [100, 100]
    assert apart["paper"].isna().all()
    assert set(table.missing) == {"JSR"} and table.facts["missing"] == table.missing
    assert table.facts["detector"]["input"] == 64 and table.facts["weights"][OURS]["sha256"]
    assert (table.boxes["score"] == 0.9).all() and len(table.boxes) == 3 * 4
    assert set(table.boxes["row"]) == {"Visible", "MST", OURS}
    first = load_dataset("sample")[0]
    (box,) = boxes_of(table, OURS, first.name)
    assert box.label == first.boxes[0].label
    assert box[1:] == pytest.approx(first.boxes[0][1:], abs=0.06)
    assert summary.loc[("MST", "bicycle", "AP"), "objects"] == 0
    assert apart.loc[("MST", "bicycle", "AP"), "verdict"] == ""
    assert {f.name for f in folder.iterdir()} == {
        "boxes.csv", "differences.csv", "provenance.json", "summary.csv", "summary.md"
    }  # fmt: skip
    monkeypatch.setattr("fusionlib.methods.Method.fuse_pair", None)  # nothing is fused again
    again = pretrained_table(folder, "sample", limit=4)
    pd.testing.assert_frame_equal(table.summary, again.summary)


def test_retrained(small, monkeypatch):
    plan = PROTOCOLS["sample"]._replace(seeds=(0, 1), rows=("MST", OURS))
    monkeypatch.setitem(PROTOCOLS, "sample", plan)
    folder = small / "results" / "refinefuse_04"
    table = retrained_table(folder, "sample", limit=4)
    assert len(table.runs) == 2 * 2 * 2  # rows, blocks, seeds
    assert set(table.runs["seed"]) == {0, 1} and set(table.runs["block"]) == {1, 2}
    assert (table.summary["n"] == 4).all()  # every pair is tested once per seed
    assert (table.summary["spread"].dropna() >= 0).all() and (table.runs["epoch"] == 1).all()
    assert set(table.missing) == {"Infrared", "Visible"} and OURS in table.facts["weights"]
    summary = table.summary.set_index(["row", "class", "metric"])
    assert summary.loc[("MST", "person", "AP50"), "paper"] == 78.6
    assert np.isnan(summary.loc[("MST", "bicycle", "AP50"), "paper"])
    apart = table.differences.set_index(["row", "class", "metric"])
    assert apart.loc[("MST", ALL, "AP"), "paper"] == pytest.approx(54.4 - 53.2)
    assert table.facts["seeds"] == [0, 1] and "epochs=1" in table.facts["schedule"]
    monkeypatch.setattr(experiment, "fine_tune", None)  # nothing is trained again
    again = retrained_table(folder, "sample", limit=4)
    pd.testing.assert_frame_equal(table.summary, again.summary)
    fewer = retrained_table(folder, "sample", limit=4, rows=["MST"])
    assert set(fewer.missing) == {"Infrared", "Visible", OURS}
    assert "takes 4 more trainings" in fewer.missing[OURS] and OURS not in fewer.facts["weights"]
    assert fewer.differences.empty and set(fewer.summary["row"]) == {"MST"}
    assert show_differences(fewer).to_html()
    assert not pd.read_csv(folder / "differences.csv").shape[0]
    other = plan._replace(schedule=replace(QUICK, rate=0.02))
    monkeypatch.setattr(experiment, "PROTOCOLS", {"sample": other})
    with pytest.raises(TypeError):
        retrained_table(folder, "sample", limit=4, rows=["MST"])


def test_no_such_protocol(tmp_path):
    with pytest.raises(UnknownName, match="protocol of detection 'coco'"):
        retrained_table(tmp_path / "x", "coco")


def stand_in():
    """Ten pairs with M3FD's classes, some of which they show."""
    classes = ("People", "Car", "Bus", "Motorcycle", "Lamp", "Truck")
    pairs = []
    for i in range(10):
        one = pair(f"{i:05}", seed=i)
        boxes = (box._replace(label=classes[(i + k) % 3]) for k, box in enumerate(one.boxes))
        pairs.append(replace(one, boxes=tuple(boxes)))
    return dataset(*pairs, classes=classes)


def test_the_papers_protocol_on_a_stand_in(small, monkeypatch):
    """Trained on "train", the best epoch by "val", scored on "test", the paper's rows beside it."""
    pairs, calls, tune = stand_in(), [], experiment.fine_tune
    parts = dict(zip(pairs.names, [*["train"] * 6, *["val"] * 2, *["test"] * 2], strict=True))
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: pairs)
    monkeypatch.setattr(experiment, "dataset_parts", lambda _: parts)

    def listen(task, output):
        names = ([example.name for example in some] for some in (task.examples, task.validation))
        calls.append((*names, task.names))
        return tune(task, output)

    monkeypatch.setattr(experiment, "fine_tune", listen)
    table = retrained_table(small / "results" / "refinefuse_04_m3fd", "m3fd")
    assert calls[0] == ([*pairs.names[:6]], ["00006", "00007"], pairs.card.classes)
    assert len(calls) == 3 and {"AP50", "AP"} <= set(table.runs)
    summary = table.summary.set_index(["row", "class", "metric"])
    assert list(dict.fromkeys(table.summary["class"])) == ["People", "Car", "Bus", ALL]
    assert (summary["n"] == 2).all()
    assert summary.loc[("Infrared", "People", "AP50"), "paper"] == 81.1
    assert summary.loc[(OURS, "Bus", "AP"), "paper"] == 47.3
