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

from .training import Config, train

if TYPE_CHECKING:
    from .experiments import Measured

__all__ = [
    *("ABLATIONS", "SCHEDULES", "TRAINED", "Ablation", "Schedule"),
    *("ablation_folder", "directions", "train_ablations"),
]


class Ablation(NamedTuple):
    """A training that Tables 8 to 10 compare.

    `variant` is a key of `fusionlib.networks.refinefuse.VARIANTS`, `setting` one of the `SETTINGS`
    of `reproduction.training.refinefuse`: the loss.
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
    """How every row is trained, besides `TRAINED`: numbers as of `reproduction.training.Config`.

    `start`: whether a row goes on from the package's weights; `rows`: keys of `ABLATIONS`.
    """

    dataset: str
    size: int
    batch_size: int
    iterations: int
    every: int
    hold_out: int
    start: bool
    rows: tuple[str, ...]


#: What a schedule has of `Config`.
NUMBERS = ("size", "batch_size", "iterations", "every", "hold_out")
#: The rows of Table 8.
LOSSES = ("refinefuse_short", *(f"refinefuse_setting_{x}" for x in "abc"))

#: By profile. That of "sample" goes on from the trained network with the losses of Table 8, for a
#: few iterations on rendered scenes: enough to see where each leads.
SCHEDULES = {
    "sample": Schedule("sample", 64, 2, 20, 10, 3, True, LOSSES),
    "paper": Schedule("msrs_train128", 64, 8, 2000, 500, 27, False, tuple(ABLATIONS)),
}


def ablation_folder(profile: str, results_dir: str | os.PathLike[str]) -> Path:
    """Return where the weights of the ablations are kept; others where the schedule is another."""
    if profile not in SCHEDULES:
        raise unknown("profile", profile, SCHEDULES)
    schedule = SCHEDULES[profile]._replace(rows=())  # more rows are no other schedule
    decides = repr((schedule, OURS.digest if schedule.start else ""))
    key = hashlib.sha256(decides.encode()).hexdigest()[:8]
    return Path(results_dir) / profile / "cache" / f"ablations-{key}"


def train_ablations(
    *, profile: str, results_dir: str | os.PathLike[str], progress: bool = True, **how: Any
) -> pd.DataFrame:
    """Train the networks of Tables 8 to 10 that are not there yet, by a profile's schedule.

    What was stopped continues where it was. Profile "paper" takes hours. `ablation_folder` receives
    weights, losses and checkpoints. Further arguments are ``data_dir`` and ``device``.

    Returns
    -------
    DataFrame
        The losses: columns weights, then those of `reproduction.training.Training`.
    """
    folder, schedule = ablation_folder(profile, results_dir), SCHEDULES[profile]
    data: Any = load_dataset(schedule.dataset, data_dir=how.pop("data_dir", None))
    shared = dict(TRAINED)
    if profile == "sample":
        data = [pair for pair in data if pair.mask is not None]  # not all of these have labels
        shared["precision"] = "single"  # alike on processors with and without bfloat16
    numbers = {name: getattr(schedule, name) for name in NUMBERS}
    start = {"start": find_weights(OURS)} if schedule.start else {}
    histories = []
    for name in schedule.rows:
        variant, setting, seed = ABLATIONS[name]
        weights, losses, checkpoint = (
            folder / f"{name}.{suffix}" for suffix in ("safetensors", "losses.csv", "checkpoint")
        )
        options = {**shared, "setting": setting, **VARIANTS[variant][0]}
        asked = {key: str(value) for key, value in (options | {"seed": seed}).items()}
        there = losses.exists() and weights.exists()
        if not (there and asked.items() <= read_facts(weights).items()):
            result = train(
                "refinefuse",
                data,
                Config(seed=seed, **numbers),
                options={**options, **start},
                checkpoint=checkpoint,
                progress=progress,
                **how,
            )
            save_weights(weights, result.network, result.facts, half=True)
            write_text(losses, result.history.to_csv(index=False, float_format="%.7g"))
            checkpoint.unlink()
        histories.append(pd.read_csv(losses).assign(weights=name))
    frame = pd.concat(histories, ignore_index=True)
    return frame[["weights", *frame.columns.drop("weights")]]


# ---------------------------------------------------------------- which wins


def directions(measured: Measured, comparisons: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Tell which of two rows of a fusion table wins, in the paper and here.

    A comparison is a row of ours and the one that is subtracted from it; those of which one was not
    measured are left out.

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
            verdict = _direction(printed, low, high)
            found.append((row, against, metric, printed, change.mean(), low, high, verdict))
    return pd.DataFrame(found, columns=DIRECTION_COLUMNS)


DIRECTION_COLUMNS = ["row", "against", "metric", "paper", "mean", "ci_low", "ci_high", "verdict"]


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
