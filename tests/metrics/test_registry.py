"""metrics: the registry, selections, and the golden values of the authors' code."""

from __future__ import annotations

import csv

import cv2
import pytest

from fusionlib.errors import UnknownName
from fusionlib.metrics import METRICS, SELECTIONS, list_metrics, select

# Our metric -> the reference column and the variants that our convention must equal.
GOLDEN = {
    "SSIM_a": ("SSIM", {"hli_SSIM_a_mean_L1_on01", "octave_direct"}),
    "EN": ("EN", {"log2_256bins", "cddfuse_f64", "octave_direct"}),
    "SCD": ("SCD", {"sum_corr", "cddfuse_f64", "octave_direct"}),
}


def test_selection_is_the_published_columns_in_order():
    assert [metric.name for metric in select("res2netfuse")] == ["SSIM_a", "EN", "SCD"]
    assert all(name in METRICS for names in SELECTIONS.values() for name in names)


def test_names_select_themselves():
    assert select("EN") == [METRICS["EN"]]
    assert select(["SCD", "EN"]) == [METRICS["SCD"], METRICS["EN"]]


@pytest.mark.parametrize("name", ["SSIM_b", ["EN", "SSIM_b"]])
def test_unknown_metric(name):
    with pytest.raises(UnknownName, match=r"metric 'SSIM_b'.*EN, SCD, SSIM_a, res2netfuse"):
        select(name)


def test_list_metrics():
    frame = list_metrics()
    assert list(frame.index) == list(METRICS)
    assert (frame["doi"].str.startswith("10.")).all() and (frame["better"] == "higher").all()


@pytest.mark.realdata
@pytest.mark.parametrize("name", GOLDEN)
def test_authors_values(golden_root, name):
    column, variants = GOLDEN[name]
    table = (golden_root / "metrics" / "golden.csv").read_text().splitlines()
    rows = [r for r in csv.DictReader(table) if r["metric"] == column and r["variant"] in variants]
    assert len({row["triple"] for row in rows}) == 24

    def read(file):
        return cv2.imread(str(golden_root / "metrics" / "images" / file), cv2.IMREAD_UNCHANGED)

    for triple in {row["triple"] for row in rows}:
        scene, fused = triple.rsplit("_", 1)
        images = [read(f"{scene}_{kind}.png") for kind in (f"f_{fused}", "ir", "vi")]
        value = METRICS[name].compute(*images)
        for row in rows:
            if row["triple"] == triple:
                assert value == pytest.approx(float(row["value"]), rel=1e-9), row
