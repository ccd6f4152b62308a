"""Scores that tables need, kept from run to run under what each is of.

A score is of a data set and pair, a method with its settings and weights, a metric and its
convention, and of the versions that the method and the metric carry. What the results of a profile
hold already, in whichever table, is not measured again; a stopped run continues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fusionlib.card import Identity
from fusionlib.errors import FusionError
from fusionlib.evaluation import COLUMNS, Fuser, benchmark
from fusionlib.files import write_text
from fusionlib.methods import registry
from fusionlib.metrics import METRICS
from fusionlib.pairs import Dataset, Pair

from .rows import data_hash

__all__ = ["Scores", "score_versions", "this_run"]

METHOD = [*Identity._fields]


class Scores:
    """The scores of a data set that a profile's results hold.

    The folder is ``results/<profile>``. Below it, ``cache/`` gathers what was measured for any
    table: scores as CSV, and beside them which runs measured each method.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        data = data_hash(dataset)
        self.csv = folder / "cache" / f"{dataset}-{data[:8]}.csv"
        self._log = self.csv.with_suffix(".json")
        rows, self._runs = self._read()
        for path in sorted(folder.glob("*/per_pair.csv")):
            frame, facts = _read_table(path.parent)
            if facts["data"].get(dataset) != data or not {"row", *COLUMNS} <= {*frame}:
                continue  # of other data, or of a table that is not of scores
            frame = _of_these_versions(frame, facts.get("score_versions", {}))
            frame = frame[~_keys(frame).isin(_keys(rows))]
            rows = pd.concat([rows, frame[COLUMNS]])
            measured_by = facts.get("measured_by", {})
            for (row, *method), _ in frame.groupby(["row", *METHOD], sort=False):
                known = self._runs.setdefault(Identity(*map(str, method)), [])
                runs = measured_by.get(row) or [this_run(facts)]
                known += [run for run in runs if run not in known]
        write_text(self.csv, rows.to_csv(index=False))
        self._write_log()

    def _read(self) -> tuple[pd.DataFrame, dict[Identity, list[dict[str, str]]]]:
        if not (self.csv.is_file() and self._log.is_file()):
            return pd.DataFrame(columns=COLUMNS, dtype=str), {}
        log = json.loads(self._log.read_text(encoding="utf-8"))
        rows = _of_these_versions(_read_text(self.csv), log["score_versions"])
        return rows, {Identity(*key): runs for *key, runs in log["runs"]}

    def _write_log(self) -> None:
        listed = [[*key, runs] for key, runs in self._runs.items()]
        log = {"score_versions": score_versions(), "runs": listed}
        write_text(self._log, json.dumps(log, indent=1) + "\n")

    def measure(
        self,
        methods: Mapping[str, Fuser],
        pairs: Dataset[Pair],
        metrics: Sequence[str],
        run: Mapping[str, str],
    ) -> tuple[pd.DataFrame, dict[str, list[dict[str, str]]]]:
        """Score what is not there.

        `methods` are by row; `pairs` and `metrics` as `fusionlib.benchmark` takes them, a metric
        with its convention: "MI:li". Of this run `run` is said where it measures something.

        Returns
        -------
        scores : DataFrame
            As `fusionlib.benchmark` gives them, with the column ``row`` first.
        runs : dict
            Row -> the runs that measured it.
        """
        known = _read_text(self.csv)
        asked = (known["metric"] + ":" + known["convention"]).isin(metrics)
        known = known[known["pair"].isin(pairs.names) & asked]
        have = known.groupby(METHOD).size().to_dict()
        for method in methods.values():
            runs = self._runs.setdefault(method.identity, [])
            if have.get(method.identity, 0) < len(pairs) * len(metrics) and run not in runs:
                runs.append(dict(run))
        self._write_log()
        every = [*methods.values()]
        scores = benchmark(every, pairs, metrics=metrics, csv=self.csv, jobs=None)
        rows = {method.identity: row for row, method in methods.items()}
        of_row = [rows[Identity(*one)] for one in scores[METHOD].itertuples(index=False)]
        scores.insert(0, "row", of_row)
        return scores, {row: self._runs[method.identity] for row, method in methods.items()}


def score_versions() -> dict[str, int]:
    """Return the versions that methods and metrics carry, for a table's provenance."""
    methods = {name: spec.version for name, spec in registry().items()}
    return methods | {name: metric.version for name, metric in METRICS.items()}


def this_run(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what decides scores besides their keys, of a run's provenance."""
    return {
        "commit": facts["commit"],
        "torch": facts["versions"]["torch"],
        "device": facts["device"]["name"],
    }


def _of_these_versions(rows: pd.DataFrame, recorded: Mapping[str, int]) -> pd.DataFrame:
    """Leave out rows of other versions; what was recorded before there were any is of the first."""
    others = [name for name, one in score_versions().items() if recorded.get(name, 1) != one]
    return rows[~rows["method"].isin(others) & ~rows["metric"].isin(others)]


def _keys(rows: pd.DataFrame) -> pd.Index:
    """Return what each score is of."""
    return pd.MultiIndex.from_frame(rows[COLUMNS[:-1]])


def _read_text(csv: Path) -> pd.DataFrame:
    """Read a table as text: a pair may be called "007", and a value is to stay as it is."""
    return pd.read_csv(csv, dtype=str, keep_default_na=False)


def _read_table(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the scores of a table, as text, and its provenance."""
    try:
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        return _read_text(folder / "per_pair.csv"), {"data": {}} | facts
    except (OSError, ValueError) as error:
        raise FusionError(
            f"{folder} does not hold whole results ({type(error).__name__}: {error}). Delete it."
        ) from error
