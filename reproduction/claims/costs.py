"""Checks of claims on networks, their training and what they cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pandas as pd

from fusionlib.weights import training_losses

from .. import results
from ..compare import CLOSE
from ..training import stable_after
from .finding import (
    CHOSEN,
    FAILS,
    HOLDS,
    OTHER_HARDWARE,
    OUR_READING,
    Finding,
    Limit,
    conclude,
    listed,
    outcome_of,
)

# ---------------------------------------------------------------- network and training


def layers(*, rows: Sequence[str] = ()) -> Finding:
    """Table I is the network as it runs, layer by layer, with the parameters that it adds up to.

    Parameters
    ----------
    rows : sequence of str
        Parts of the network; default: all.
    """
    (found,), facts = results.read_recorded("table_01", "summary", only="01")
    assert found is not None
    evidence = found[found["part"].isin(rows or found["part"])].reset_index(drop=True)
    evidence = evidence.assign(outcome=evidence.pop("agrees").map(outcome_of))
    sides, wide = evidence["size"], evidence["output channels"]
    weights = int((sides**2 * evidence["input channels"] * wide + wide).sum())
    text = f"{(evidence['outcome'] == HOLDS).sum()} of {len(evidence)} convolutions as they run"
    text += f" are the printed ones; they have {weights:,} parameters"
    if not rows:
        text += f", the live network {facts['parameters']:,}"
    return conclude(text, evidence)


def lightweight() -> Finding:
    """Res2NetFuse has fewer parameters than most networks of RefineFuse's Table 11."""
    _, facts = results.read_recorded("table_01", only="01")
    others = _costs().set_index("row")["parameters"]
    evidence = pd.DataFrame({"network": others.index, "parameters": others.to_numpy()})
    evidence["outcome"] = [outcome_of(facts["parameters"] < one) for one in others]
    fewer = int((evidence["outcome"] == HOLDS).sum())
    text = f"{facts['parameters']:,} parameters, fewer than {fewer} of {len(others)} networks"
    return conclude(text, evidence, most=True)


def stable(*, runs: Mapping[str, str], by: int) -> Finding:
    """The total loss stays below 10 %, 1 % and 0.1 % of its first value from an iteration on.

    Parameters
    ----------
    runs : mapping of str to str
        Name -> weights, whose losses were recorded.
    by : int
        The iteration that is claimed.
    """
    lines = []
    for name, weights in runs.items():
        history = training_losses(weights)
        for share in (0.1, 0.01, 0.001):
            since = stable_after(history, share)
            facts = {"run": name, "below": f"{100 * share:g} %", "from iteration": since}
            lines.append({**facts, "outcome": outcome_of(since <= by)})
    evidence = pd.DataFrame(lines)
    spans = evidence.groupby("below", sort=False)["from iteration"].agg(["min", "max"])
    text = f"In {len(runs)} recorded runs, of its first value, the total loss stays below "
    text += ", ".join(f"{below} after {a} to {b} iterations" for below, a, b in spans.itertuples())
    return conclude(text, evidence)


def schedule(*, images: int, epochs: int, iterations: int, batch: int) -> Finding:
    """Training on one image looks at fewer pictures than that on many.

    Parameters
    ----------
    images, epochs : int
        Of training on many.
    iterations, batch : int
        Of training on one.
    """
    (speed,), _ = results.read_recorded("speed", "training")
    assert speed is not None
    seconds = speed.set_index("loop")["seconds"]["plain loop"]
    many, one = images * epochs, iterations * batch
    evidence = pd.DataFrame({"training on": ["many", "one"], "pictures seen": [many, one]}).assign(
        outcome=outcome_of(one < many)
    )
    text = (
        f"By the published schedules it sees {one:,} pictures instead of {many:,}, "
        f"1/{many / one:g} of the work for the same network; {iterations} iterations of the plain "
        f"loop take {seconds / 60:.0f} minutes on a CPU"
    )
    return conclude(text, evidence, in_print=True)


# ---------------------------------------------------------------- Tables 10 and 11


HARDWARE = Limit(OTHER_HARDWARE, "our times are of a CPU, the paper's of an RTX 4090")
FITTED = Limit(OUR_READING, "our network was chosen to come near the sizes in print")
TRIED = Limit(CHOSEN, "how each row is counted was found by trying which way fits")
#: Columns of the recorded Table 11, as a sentence calls them.
COLUMNS = {
    "paper params_m": "parameters in print (M)",
    "paper flops_g_256": "operations in print (G)",
    "paper ms 640x480, RTX 4090": "time at 640x480 in print (ms)",
    "paper ms 1024x768, RTX 4090": "time at 1024x768 in print (ms)",
    "parameters": "parameters here",
    "MACs 256": "multiply-accumulates here",
    "ms 640x480": "time at 640x480 here (ms)",
    "ms 1024x768": "time at 1024x768 here (ms)",
}
UNITS = {"params_m": "M", "flops_g_256": "G at 256x256", "flops_g_512": "G at 512x512"}


@cache
def _costs() -> Any:
    (found,), _ = results.read_recorded("refinefuse_11", "summary", only="10")
    assert found is not None
    return found


def sizes(
    *, rows: Sequence[str], columns: Sequence[str], once: bool = False, fitted: bool = False
) -> Finding:
    """Printed sizes come out within 2 %.

    Parameters
    ----------
    rows, columns : sequence of str
        Of Table 11.
    once : bool
        Whether each parameter of the network that fuses is to count once, instead of as the print
        was counted.
    fitted : bool
        Whether our network was made to have that size.
    """
    found = _costs().set_index("row").loc[[*rows]]
    lines = []
    for row, values in found.iterrows():
        for column in columns:
            paper = values[f"paper {column}"]
            here = values["parameters"] / 1e6 if once else values[f"counted {column}"]
            near = abs(here - paper) <= max(0.005, CLOSE * paper)
            facts = {"row": row, "column": column, "paper": paper, "here": here}
            lines.append({**facts, "outcome": outcome_of(bool(near))})
    evidence = pd.DataFrame(lines)
    some = [
        f"{one['row']} {one['here']:.4g} for {one['paper']:g} ({UNITS[one['column']]})"
        for one in lines
    ]
    fails = [text for text, one in zip(some, lines, strict=True) if one["outcome"] == FAILS]
    text = f"{len(lines) - len(fails)} of {len(lines)} figures are within 2 %"
    if len(lines) <= 3:
        text += f": {listed(some)}"
    elif fails:
        text += f"; not {listed(fails)}"
    return conclude(text, evidence, limits=[FITTED if fitted else None if once else TRIED])


def rates(*, rows: Sequence[str], columns: Sequence[str]) -> Finding:
    """Printed operations are per second: they cannot be counted from the network alone.

    Parameters
    ----------
    rows, columns : sequence of str
        Of Table 11.
    """
    counted = sizes(rows=rows, columns=columns).evidence
    assert counted is not None
    evidence = counted.assign(outcome=[outcome_of(one == FAILS) for one in counted["outcome"]])
    plain = int((evidence["outcome"] == FAILS).sum())
    text = f"{plain} of {len(evidence)} figures are numbers of operations, counted without a clock"
    return conclude(text, evidence)


def extreme(
    *, rows: Sequence[str], columns: Sequence[str], largest: bool = False, among: int = 0
) -> Finding:
    """The named rows are among those with the largest, or the smallest, values of a column.

    Parameters
    ----------
    rows : sequence of str
        Of Table 11.
    columns : sequence of str
        Of `reproduction.latency.rank_table`: "paper ..." is the print, the others ours.
    largest : bool
        Which end.
    among : int
        How many there are at that end; default: as many as rows are named.
    """
    found, number = _costs().set_index("row"), among or len(rows)
    lines = []
    for name in columns:
        ordered = found[name].sort_values(ascending=not largest, kind="stable")
        last = ordered.iloc[number - 1]
        inside = (found[name] >= last if largest else found[name] <= last)[[*rows]]
        facts = {"column": name, "there": listed(ordered.index[:number])}
        lines.append({**facts, "outcome": outcome_of(bool(inside.all()))})
    end = "Largest" if largest else "Smallest"
    text = "; ".join(f"{COLUMNS[one['column']]}: {one['there']}" for one in lines)
    return _costing(f"{end} {text}", lines, rows)


def cheaper(*, row: str, than: str, columns: Sequence[str]) -> Finding:
    """A network costs less than another.

    Parameters
    ----------
    row, than : str
        Of Table 11.
    columns : sequence of str
        As of `extreme`.
    """
    found = _costs().set_index("row")
    lines = [
        {"column": name, row: found.loc[row, name], than: found.loc[than, name]}
        | {"outcome": outcome_of(bool(found.loc[row, name] < found.loc[than, name]))}
        for name in columns
    ]
    text = f"{row} and {than}: " + ", ".join(
        f"{COLUMNS[one['column']]} {_amount(one[row])} and {_amount(one[than])}" for one in lines
    )
    return _costing(text, lines, [row, than])


def _costing(text: str, lines: Sequence[Mapping[str, Any]], rows: Sequence[str]) -> Finding:
    """Decide on columns of Table 11, of the print or measured here, about some of its rows."""
    columns = [one["column"] for one in lines]
    printed = [name.startswith("paper ") for name in columns]
    contradicted = [
        one["outcome"] == FAILS and paper for one, paper in zip(lines, printed, strict=True)
    ]
    limits = [_hardware(columns), _fitted(rows)]
    return conclude(
        text,
        pd.DataFrame(lines),
        limits=[] if all(printed) else limits,
        contradicted=contradicted,
        in_print=all(printed),
    )


def _amount(value: float) -> str:
    for size, name in ((1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _hardware(columns: Collection[str]) -> Limit | None:
    return HARDWARE if any(name.startswith(("ms", "speed, ours")) for name in columns) else None


def _fitted(rows: Collection[str]) -> Limit | None:
    """Say that one of the rows is our reading of a network, if one is."""
    return FITTED if "RefineFuse" in rows else None


def ranks_follow(*, left: str, right: str, rows: Sequence[str] = ()) -> Finding:
    """Two columns of ranks are equal.

    Parameters
    ----------
    left, right : str
        Of `reproduction.latency.rank_table`.
    rows : sequence of str
        Default: all.
    """
    found = _costs().set_index("row")
    found = found.loc[list(rows) or list(found.index), [left, right]]
    evidence = found.assign(
        outcome=[outcome_of(a == b) for a, b in found.itertuples(index=False)]
    ).reset_index()
    apart = evidence[evidence["outcome"] == FAILS]
    same = len(evidence) - len(apart)
    text = f"{same} of {len(evidence)} ranks are equal ({left}; {right})"
    if len(apart):
        some = [f"{o['row']} {o[left]} and {o[right]}" for o in apart.to_dict("records")]
        text += f"; not {listed(some)}"
    printed = not any(name.endswith("ours") for name in (left, right))
    limits = [_hardware([left, right]), None if printed else _fitted(found.index)]
    return conclude(text, evidence, limits=limits, in_print=printed)


def growth(*, row: str) -> Finding:
    """From 256x256 to 512x512 operations grow as the print says, within 2 %.

    RefineFuse's part that does not grow is our reading of this print, so it limits the verdict.

    Parameters
    ----------
    row : str
        Of Table 11.
    """
    found = _costs().set_index("row")
    times = {
        kind: found[f"{kind} flops_g_512"] / found[f"{kind} flops_g_256"]
        for kind in ("paper", "counted")
    }
    near = abs(times["counted"][row] / times["paper"][row] - 1) <= CLOSE
    evidence = pd.DataFrame({"print": times["paper"], "here": times["counted"]}).reset_index()
    evidence["outcome"] = [outcome_of(near) if one == row else "" for one in evidence["row"]]
    others = times["paper"].drop(row)
    text = (
        f"Four times the pixels take {times['paper'][row]:.3f} times the operations in print and "
        f"{times['counted'][row]:.3f} times here; the other networks {others.min():.2f} to "
        f"{others.max():.2f}"
    )
    return conclude(text, evidence, limits=[_fitted([row])])


def slower(*, order: Mapping[str, str]) -> Finding:
    """Networks of different depth take the longer, the later they stand.

    Parameters
    ----------
    order : mapping of str to str
        Name -> variant of `reproduction.cost.variant_table`, fastest first.
    """
    (found,), _ = results.read_recorded("refinefuse_10_time", "summary", only="09")
    assert found is not None
    some: Any = found.set_index("variant").loc[[*order.values()]].set_axis([*order])
    lines = []
    for before, after in pairwise(some.index):
        pair = some.loc[[before, after]]
        holds = pair["ms"].is_monotonic_increasing and pair["paper ms"].is_monotonic_increasing
        times = {name: pair[name].iloc[1] / pair[name].iloc[0] for name in ("ms", "paper ms")}
        facts = {"faster": before, "slower": after, "times here": times["ms"]}
        lines.append({**facts, "times in print": times["paper ms"], "outcome": outcome_of(holds)})
    text = "; ".join(
        f"{one['slower']} take {one['times here']:.2f} times as long as {one['faster']}, in print "
        f"{one['times in print']:.2f}"
        for one in lines
    )
    contradicted = [one["times in print"] <= 1 for one in lines]
    return conclude(
        text[0].upper() + text[1:],
        pd.DataFrame(lines),
        limits=[HARDWARE, FITTED],
        contradicted=contradicted,
    )


def downsampling(*, whole: str, single: str) -> Finding:
    """From one scale to all, operations grow less than parameters.

    Without downsampling every parameter of a convolution runs at every pixel, and both grow alike.

    Parameters
    ----------
    whole, single : str
        Variants of `reproduction.cost.variant_table`.
    """
    (found,), _ = results.read_recorded("refinefuse_10_time", "summary", only="09")
    assert found is not None
    counts: Any = found.set_index("variant")[["parameters", "MACs"]]
    times = counts.loc[whole] / counts.loc[single]
    evidence = counts.loc[[single, whole]].reset_index()
    evidence["outcome"] = ["", outcome_of(times["MACs"] < times["parameters"])]
    text = (
        f"The whole network has {times['parameters']:.1f} times the parameters of one scale and "
        f"takes {times['MACs']:.2f} times the operations"
    )
    return conclude(text, evidence, limits=[FITTED])
