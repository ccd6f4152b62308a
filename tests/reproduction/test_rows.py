"""rows: every row exists here and in the print."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusionlib.card import WeightFile
from fusionlib.datasets import list_datasets
from fusionlib.methods import registry
from reproduction import rows
from reproduction.papers import paper_values
from reproduction.rows import TABLES, data_hash, with_retrained

ROWS = [(table, row) for table, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{t}-{r.label}" for t, r in ROWS])
def test_row_exists_here_and_in_the_print(table, row):
    assert row.paper in {"", *paper_values(table)["row"]}
    if row.images:
        assert row.images in set(list_datasets()["name"])
        return
    spec = registry()[row.method]
    key = row.options.get(spec.axis, next(iter(spec.configurations)))
    configuration = spec.configurations[key]
    assert "rule" not in row.options or row.options["rule"] in configuration.rules
    names = [file.name for file in configuration.weights]
    assert "weights" not in row.options or row.options["weights"] in names


@pytest.mark.parametrize("table", TABLES)
def test_labels_are_unique(table):
    labels = [row.label for row in TABLES[table]]
    assert len(set(labels)) == len(labels)


def test_rows_of_our_own_weights_only_where_there_are_some(monkeypatch):
    entry = WeightFile("lrrnet_retrained", "0", 1, "by us", "MIT")
    spec = registry()["lrrnet"]
    ((key, one),) = spec.configurations.items()
    ours = replace(spec, configurations={key: replace(one, weights=(*one.weights, entry))})
    assert [row.label for row in with_retrained("LRRNet", "lrrnet")] == ["LRRNet"]
    monkeypatch.setattr(rows, "registry", lambda: {"lrrnet": ours})
    theirs, retrained = with_retrained("LRRNet", "lrrnet")
    assert (theirs.options, theirs.orientation) == ({}, "")
    assert retrained.options == {"weights": "lrrnet_retrained"} and retrained.orientation


def test_data_hash_depends_on_the_data():
    assert data_hash("tno20") != data_hash("coco_val2017")
    assert data_hash("sample") != data_hash("sample_images")
