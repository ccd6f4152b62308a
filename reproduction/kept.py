"""Scores that are kept from run to run, also from one state of the code to the next."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from fusionlib.card import Identity
from fusionlib.errors import FusionError
from fusionlib.evaluation import COLUMNS
from fusionlib.files import write_text

from . import results
from .rows import TABLES, data_hash, dataset_of

__all__ = ["keep_scores", "read_kept", "scores_file"]


def scores_file(dataset: str, folder: Path) -> Path:
    """Return where the scores of a data set are cached, below the folder of a profile.

    Tables share pairs and methods; scores of other code are not used, unless `keep_scores` says so.
    """
    return folder / "cache" / f"{dataset}-{results.score_hash()[:12]}.csv"


def keep_scores(profile: str, results_dir: str | os.PathLike[str]) -> dict[str, int]:
    """Take the scores of the tables in `results_dir` for this code's own.

    After a change that moves no score of theirs, a method added for example, tables then measure
    the new rows only. A method with this configuration and these weights of which this code has
    measured anything on that data set is left as it is. The provenance of a table lists the rows
    that have kept scores: how many, of which commits, with which PyTorch, on which device.

    Whether the change moves none is for whoever asks for this to know, and for
    ``tests/test_tables_reproduced.py`` to check: it fuses and scores a pair of each row anew.

    Parameters
    ----------
    profile : {"sample", "paper"}
    results_dir : path
        As in `reproduction.experiments.fusion_table`.

    Returns
    -------
    dict of str to int
        Table -> number of scores that were taken from it.

    Raises
    ------
    UnknownName
        If there is no such profile.
    FusionError
        If results are not whole or of other data, or a file cannot be written.
    """
    folder = Path(results_dir) / profile
    given = {}
    for table in TABLES:
        dataset, source = dataset_of(table, profile), folder / table
        if table == "table_03" or not source.is_dir():
            continue  # scores of reconstructions are not cached
        rows, facts = _read_results(source, dataset)
        scores = scores_file(dataset, folder)
        known = _read_text(scores) if scores.exists() else rows.iloc[:0]
        measured = set(known[[*Identity._fields]].itertuples(index=False, name=None))
        kept, taken = read_kept(scores), []
        for (row, *key), some in rows.groupby(["row", *Identity._fields], sort=False):
            if (*key,) in measured:
                continue
            earlier = facts.get("kept", {}).get(row, {"commits": [], "scores": 0})
            commits = list(earlier["commits"])
            if len(some) > earlier["scores"]:
                commits.append(facts["commit"])
            kept[Identity(*map(str, key))] = {
                "commits": commits,
                "scores": len(some),
                "torch": facts["versions"]["torch"],
                "device": facts["device"]["name"],
            }
            taken.append(some[COLUMNS])
        given[table] = sum(map(len, taken))
        write_text(scores, pd.concat([known[COLUMNS], *taken]).to_csv(index=False))
        listed = [[*key, entry] for key, entry in kept.items()]
        write_text(_kept_file(scores), json.dumps(listed, indent=1) + "\n")
    return given


def _read_results(folder: Path, dataset: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the scores of a table, as text, and its provenance."""
    remedy = "Delete the folder, or measure without keeping."
    try:
        rows = _read_text(folder / "per_pair.csv")
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        data = facts["data"].get(dataset)
        if missing := {"row", *COLUMNS} - set(rows.columns):
            raise KeyError(*missing)
    except (OSError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise FusionError(f"{folder} does not hold whole results ({reason}). {remedy}") from error
    if data != data_hash(dataset):
        raise FusionError(f"the results in {folder} are of other data than {dataset}. {remedy}")
    return rows, facts


def _read_text(csv: Path) -> pd.DataFrame:
    """Read a table as text: a pair may be called "007", and a value is to stay as it is."""
    return pd.read_csv(csv, dtype=str, keep_default_na=False)


def _kept_file(scores: Path) -> Path:
    return scores.with_suffix(".kept.json")


def read_kept(scores: Path) -> dict[Identity, dict[str, Any]]:
    """Return the methods some of whose cached scores were kept, and what is known of those."""
    file = _kept_file(scores)
    if not file.exists():
        return {}
    listed = json.loads(file.read_text(encoding="utf-8"))
    return {Identity(*key): entry for *key, entry in listed}
