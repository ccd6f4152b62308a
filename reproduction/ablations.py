"""RefineFuse's ablations, Tables 8 to 10: training every row alike, and which wins.

The rows themselves are `ABLATIONS` and, as tables, in `reproduction.experiments`. What a missing
row's error tells the user to type, `made_by` in ``fusionlib/weights.toml``, says the same; a test
compares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fusionlib.datasets import load_dataset
from fusionlib.errors import unknown
from fusionlib.evaluation import bootstrap_interval
from fusionlib.files import write_text
from fusionlib.networks.refinefuse import VARIANTS
from fusionlib.weights import find_weights, read_facts, save_weights, weight_files

from .show import show_lines
from .training import Config, train

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from .experiments import Measured

__all__ = [
    "ABLATIONS",
    "SCHEDULES",
    "TRAINED",
    "Ablation",
    "Schedule",
    "ablation_folder",
    "count_verdicts",
    "directions",
    "show_directions",
    "train_ablations",
]


class Ablation(NamedTuple):
    """A training that Tables 8 to 10 compare: what the network is, with which loss, which seed.

    Attributes
    ----------
    variant : str
        A key of `fusionlib.networks.refinefuse.VARIANTS`.
    setting : str
        A key of `reproduction.recipes.refinefuse.SETTINGS`.
    seed : int
    """

    variant: str = "paper"
    setting: str = "ours"
    seed: int = 0


#: Weights' name -> what they are of. All are trained alike, shorter than the default ones.
ABLATIONS: Mapping[str, Ablation] = {
    "refinefuse_short": Ablation(),
    "refinefuse_short_seed_1": Ablation(seed=1),
    "refinefuse_short_seed_2": Ablation(seed=2),
    "refinefuse_setting_a": Ablation(setting="A"),
    "refinefuse_setting_b": Ablation(setting="B"),
    "refinefuse_setting_c": Ablation(setting="C"),
    **{f"refinefuse_{name}": Ablation(name) for name in VARIANTS if name != "paper"},
}

#: Options of the recipe that all of this project's trainings have.
TRAINED: Mapping[str, Any] = {"optimiser": "adam", "rise": 0.3, "precision": "mixed"}

#: What profile sample goes on from.
(OURS,) = weight_files("refinefuse")


class Schedule(NamedTuple):
    """How every row is trained, besides `TRAINED`.

    Profile sample departs from it, too: it trains in single precision.

    Attributes
    ----------
    dataset : str
    size, batch_size, iterations, every, hold_out : int
        As of `reproduction.training.Config`.
    start : bool
        Whether a row goes on from the package's weights.
    rows : tuple of str
        Keys of `ABLATIONS`.
    """

    dataset: str
    size: int
    batch_size: int
    iterations: int
    every: int
    hold_out: int
    start: bool
    rows: tuple[str, ...]


#: The rows of Table 8.
LOSSES = ("refinefuse_short", *(f"refinefuse_setting_{x}" for x in "abc"))

#: By profile. That of "sample" goes on from the trained network with the losses of Table 8, for a
#: few iterations on rendered scenes: enough to see where each leads.
SCHEDULES = {
    "sample": Schedule("sample", 64, 2, 20, 10, 3, True, LOSSES),
    "paper": Schedule("msrs_train128", 64, 8, 2000, 500, 27, False, tuple(ABLATIONS)),
}


def ablation_folder(profile: str, results_dir: str | os.PathLike[str]) -> Path:
    """Return where the weights of the ablations are kept; others where the schedule is another.

    Raises
    ------
    UnknownName
        If there is no such profile.
    """
    if profile not in SCHEDULES:
        raise unknown("profile", profile, SCHEDULES)
    schedule = SCHEDULES[profile]._replace(rows=())  # more rows are no other schedule
    decides = repr((schedule, OURS.digest if schedule.start else ""))
    key = hashlib.sha256(decides.encode()).hexdigest()[:8]
    return Path(results_dir) / profile / "cache" / f"ablations-{key}"


def train_ablations(
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Train the networks of Tables 8 to 10 that are not there yet, all by one schedule.

    What was stopped continues where it was. Profile "paper" takes hours.

    Parameters
    ----------
    profile : {"sample", "paper"}
        Decides the `SCHEDULES`.
    results_dir : path
        `ablation_folder` receives weights, losses and checkpoints.
    data_dir, device, progress
        As of `reproduction.training.train`.

    Returns
    -------
    DataFrame
        Columns weights, then those of `reproduction.training.Training`.

    Raises
    ------
    UnknownName
        If there is no such profile.
    FusionError
        If the data set is not there, or what `reproduction.training.train` raises.
    """
    folder = ablation_folder(profile, results_dir)
    schedule = SCHEDULES[profile]
    data: Any = load_dataset(schedule.dataset, data_dir=data_dir)
    if profile == "sample":  # not all of these pairs have labels
        data = [pair for pair in data if pair.mask is not None]
    histories = []
    start = {"start": find_weights(OURS)} if schedule.start else {}
    for name in schedule.rows:
        ablation = ABLATIONS[name]
        weights, losses, checkpoint = (
            folder / f"{name}.{suffix}" for suffix in ("safetensors", "losses.csv", "checkpoint")
        )
        departs, _ = VARIANTS[ablation.variant]
        options = {**TRAINED, "setting": ablation.setting, **departs}
        if profile == "sample":  # alike on processors with and without bfloat16
            options["precision"] = "single"
        if not (losses.exists() and _is_of(weights, {**options, "seed": ablation.seed})):
            config = Config(
                iterations=schedule.iterations,
                batch_size=schedule.batch_size,
                size=schedule.size,
                seed=ablation.seed,
                hold_out=schedule.hold_out,
                every=schedule.every,
            )
            result = train(
                "refinefuse",
                data,
                config,
                options={**options, **start},
                checkpoint=checkpoint,
                device=device,
                progress=progress,
            )
            save_weights(weights, result.network, result.facts, half=True)
            write_text(losses, result.history.to_csv(index=False, float_format="%.7g"))
            checkpoint.unlink()
        histories.append(pd.read_csv(losses).assign(weights=name))
    frame = pd.concat(histories, ignore_index=True)
    return frame[["weights", *frame.columns.drop("weights")]]


def _is_of(weights: Path, wanted: Mapping[str, object]) -> bool:
    """Whether a file is there and says that it was trained in that way."""
    if not weights.exists():
        return False
    facts = read_facts(weights)
    return all(facts.get(name) == str(value) for name, value in wanted.items())


# ---------------------------------------------------------------- which wins


def directions(measured: Measured, comparisons: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Tell which of two rows wins, in the paper and here.

    Parameters
    ----------
    measured : Measured
        A table, from `reproduction.experiments.fusion_table`.
    comparisons : sequence of (str, str)
        A row of ours and the one that is subtracted from it; those of which one was not measured
        are left out.

    Returns
    -------
    DataFrame
        Columns row, against, metric; paper, the difference in print; mean, ci_low, ci_high, our
        mean difference over the pairs and its 95 % bootstrap interval; verdict: "same direction"
        or "opposite direction" where the interval is on one side of 0, "no difference" where it
        is not; "equal in print", "not in the paper", or "too few pairs" for an interval.
    """
    paper = measured.compared.set_index(["row", "metric"])["paper"]
    # Where a metric is there in two conventions, the first is the printed one.
    scores = measured.per_pair.drop_duplicates(["row", "pair", "metric"])
    values = scores.pivot(index="pair", columns=["row", "metric"], values="value")
    found = []
    for row, against in comparisons:
        if not {row, against} <= set(scores["row"]):
            continue
        for metric in dict.fromkeys(scores["metric"]):
            change = (values[row, metric] - values[against, metric]).dropna().to_numpy()
            low, high = bootstrap_interval(change)
            printed = paper[row, metric] - paper[against, metric]
            found.append(
                {
                    "row": row,
                    "against": against,
                    "metric": metric,
                    "paper": printed,
                    "mean": change.mean(),
                    "ci_low": low,
                    "ci_high": high,
                    "verdict": _direction(printed, low, high),
                }
            )
    return pd.DataFrame(found, columns=[*DIRECTION_COLUMNS])


DIRECTION_COLUMNS = ("row", "against", "metric", "paper", "mean", "ci_low", "ci_high", "verdict")


def _direction(printed: float, low: float, high: float) -> str:
    if np.isnan(printed):
        return "not in the paper"
    if abs(printed) < 1e-9:
        return "equal in print"
    if np.isnan(low):
        return "too few pairs"
    if not (low > 0 or high < 0):
        return "no difference"
    return "same direction" if (low > 0) == (printed > 0) else "opposite direction"


def count_verdicts(found: Mapping[str, pd.DataFrame], starts: pd.DataFrame) -> pd.DataFrame:
    """Count verdicts, apart where a difference is no larger than what a random start makes.

    Parameters
    ----------
    found : mapping of str to DataFrame
        Heading -> `directions`.
    starts : DataFrame
        `directions` between trainings that differ in nothing but the seed.

    Returns
    -------
    DataFrame
        Per heading, "larger" and "not larger" than the largest of `starts` in that metric, a
        column per verdict.
    """
    chance = starts["mean"].abs().groupby(starts["metric"]).max()
    every = pd.concat([one.assign(table=heading) for heading, one in found.items()])
    larger = every["mean"].abs() > every["metric"].map(chance)
    beyond = larger.map({True: "larger", False: "not larger"})
    counts = pd.crosstab(
        [every["table"], beyond],
        every["verdict"],
        rownames=["", "than chance"],
        colnames=[""],
    )
    return counts.loc[list(found)]


#: Sign of a verdict in a table.
SIGNS = {"same direction": "✓", "opposite direction": "✗", "no difference": "~"}


def show_directions(found: pd.DataFrame, caption: str = "") -> Styler:
    """Style `directions` as a table: rows against rows, a column per metric."""
    rows = found["row"] + " − " + found["against"]
    cells = found.assign(cell=found.apply(_cell, axis=1), row=rows)
    wide = cells.pivot(index="row", columns="metric", values="cell").loc[rows.unique()]
    texts = {metric: list(wide[metric]) for metric in found["metric"].unique()}
    return show_lines(texts, list(wide.index), caption)


def _cell(one: pd.Series) -> str:
    lines = [f"{SIGNS.get(one['verdict'], '')} {one['mean']:+.3f}"]
    if not np.isnan(one["ci_low"]):
        lines.append(f"[{one['ci_low']:+.3f}, {one['ci_high']:+.3f}]")
    if not np.isnan(one["paper"]):
        lines.append(f"paper {one['paper']:+.3f}")
    return "\n".join(lines).replace("-", "\N{MINUS SIGN}")
