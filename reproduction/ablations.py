"""RefineFuse's ablations, Tables 8 to 10: training every row alike, what rows cost, which wins.

The rows themselves are `fusionlib.networks.refinefuse.ABLATIONS` and, as tables, in
`reproduction.experiments`.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusionlib.costs import measure
from fusionlib.datasets import load_dataset, package_data
from fusionlib.errors import unknown
from fusionlib.evaluation import bootstrap_interval
from fusionlib.execution import check_device, run_network
from fusionlib.files import write_text
from fusionlib.networks.refinefuse import ABLATIONS, OURS, SHORT, TRAINED, VARIANTS, RefineFuse
from fusionlib.weights import find_weights, read_facts, save_weights

from . import results
from .efficiency import count_macs
from .training import Config, train

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from .experiments import Measured

__all__ = [
    "SCHEDULES",
    "Schedule",
    "ablation_folder",
    "cost_table",
    "count_verdicts",
    "directions",
    "show_directions",
    "train_ablations",
]


class Schedule(NamedTuple):
    """How every row is trained, besides `fusionlib.networks.refinefuse.TRAINED`.

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
    "paper": Schedule(*SHORT, start=False, rows=tuple(ABLATIONS)),
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


# ---------------------------------------------------------------- cost

#: Size of MSRS's images, which Table 10 times.
WIDTH, HEIGHT = 640, 480


def cost_table(
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    device: str = "cpu",
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what each variant costs, beside the times of Table 10, and save it.

    Parameters
    ----------
    profile, results_dir, device, seed
        As in `reproduction.experiments.fusion_table`; costs are the same in both profiles.
    repeats : int
        Every variant fuses so many times, in turn.

    Returns
    -------
    DataFrame
        One row per variant: parameters, multiply-accumulates for 256x256 (in thop's
        convention), our median milliseconds for 640x480 pixels, and the paper's, which are of
        an RTX 4090.

    Raises
    ------
    FusionError
        If the device cannot be used.
    """
    check_device(device)
    torch.manual_seed(seed)
    networks = {name: RefineFuse(**departs).to(device) for name, (departs, _) in VARIANTS.items()}
    images = list(torch.rand(2, 1, 1, HEIGHT, WIDTH).to(device))

    def fuse(network: RefineFuse) -> Tensor:
        return run_network(network, images).cpu()  # which waits for an accelerator

    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(repeats):
        for name, network in networks.items():
            _, cost = measure(partial(fuse, network))
            times[name].append(cost.seconds)
    printed = pd.read_csv(package_data("paper_tables/refinefuse_table_10_depth_ablation.csv"))
    paper = printed.set_index("setting")["time_ms_rtx4090"]
    papers = {"scales_3": "A", "scales_5": "B", "paper": "Ours"}
    frame = pd.DataFrame(
        {
            "variant": name,
            "parameters": sum(p.numel() for p in network.parameters()),
            "MACs": count_macs(network.cpu(), 256, 256, convention="thop"),
            "ms": 1000 * statistics.median(times[name]),
            "paper ms": paper.get(papers.get(name, ""), np.nan),
        }
        for name, network in networks.items()
    )
    facts = results.provenance(
        profile=profile, device=device, seed=seed, repeats=repeats, size=f"{WIDTH}x{HEIGHT}"
    )
    folder = Path(results_dir) / profile / "refinefuse_10_time"
    results.save(folder, summary=frame, facts=facts)
    return frame


def show_costs(cost: pd.DataFrame) -> Styler:
    """Style `cost_table`, with both times also as shares of the whole network's."""
    whole = cost.set_index("variant").loc["paper"]
    times = ("ms", "paper ms")
    ratios = cost.assign(**{f"{name} / four scales": cost[name] / whole[name] for name in times})
    styler = ratios.set_index("variant").rename_axis(None).style.format(precision=2, na_rep="")
    styler.format("{:,}", subset=["parameters", "MACs"]).format("{:.0f}", subset=["ms"])
    return styler.set_uuid("costs")


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
    cells = [_cell(one) for one in found.to_dict("records")]
    frame = found.assign(cell=cells, row=found["row"] + " − " + found["against"])
    wide = frame.pivot(index="row", columns="metric", values="cell")
    wide = wide.loc[list(dict.fromkeys(frame["row"])), list(dict.fromkeys(frame["metric"]))]
    styler = wide.rename_axis(index=None, columns=None).style.set_caption(caption)
    lines = {"selector": "td", "props": "white-space: pre; text-align: right"}
    return styler.set_table_styles([lines]).set_uuid("directions")  # type: ignore[list-item]


def _cell(one: dict[Hashable, Any]) -> str:
    lines = [f"{SIGNS.get(one['verdict'], '')} {_signed(one['mean'])}"]
    if not np.isnan(one["ci_low"]):
        lines.append(f"[{_signed(one['ci_low'])}, {_signed(one['ci_high'])}]")
    if not np.isnan(one["paper"]):
        lines.append(f"paper {_signed(one['paper'])}")
    return "\n".join(lines)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
