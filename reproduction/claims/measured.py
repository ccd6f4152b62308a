"""Checks of claims on measured tables: values, ranks, one row against another, detection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from .. import results
from ..ablations import directions
from ..compare import CLOSE
from ..detection import report
from ..experiments import SOURCES
from .finding import (
    CHOSEN,
    FAILS,
    FEWER_ROWS,
    FEWEST,
    HOLDS,
    OPEN,
    OTHER_DATA,
    OUR_TRAINING,
    PRINTED_ROWS,
    SIMILAR,
    UNKNOWN,
    Finding,
    Limit,
    conclude,
    listed,
    outcome_of,
    signed,
    span,
)
from .table import (
    READING,
    default_row,
    departs,
    for_orientation,
    given,
    higher_is_better,
    is_reduced,
    labels_beside,
    means_of,
    measured_table,
    nearest,
    ordinal,
    pairs_of,
    printed_table,
    rank_of,
    read_here,
    title,
    where_measured,
)

#: Rows above which a sentence sums them up instead of naming each.
MANY = 4


# ---------------------------------------------------------------- values and ranks


def values(*, rows: Mapping[str, Sequence[str]], ours: Sequence[str] = ()) -> Finding:
    """Printed cells come out: exact or within 2 %.

    Parameters
    ----------
    rows : mapping of str to sequence of str
        Table -> rows of the paper.
    ours : sequence of str
        Our rows beside them, in this order; default: those that give most cells. Of a row in
        several tables that is one for all of them, if no choice per table gives more.
    """
    limits: list[Limit | None] = []
    wanted = [(table, paper) for table, some in rows.items() for paper in some]
    beside = {place: (label, False) for place, label in zip(wanted, ours, strict=False)}
    if not ours:
        beside, limits = _beside(wanted)
    found, texts, places, reduced = [], [], [], []
    for table, paper in wanted:
        near = beside[table, paper]
        if near is None:
            cells = printed_table(table).loc[paper].dropna()
            lines = pd.DataFrame({"metric": cells.index, "paper": cells, "outcome": UNKNOWN})
            found.append(lines.assign(row=paper, table=title(table), mean=np.nan, verdict=""))
            texts.append(f"{paper}, {title(table)}: not measured")
            continue
        label, orientation = near
        compared = measured_table(table).compared
        cells = compared[(compared["row"] == label) & compared["paper"].notna()]
        outcome = cells["verdict"].map({"exact": HOLDS, "within 2 %": HOLDS, "differs": FAILS})
        outcome = outcome.fillna(UNKNOWN).where(cells["n"] >= FEWEST, UNKNOWN)
        columns = ["row", "metric", "mean", "paper", "verdict"]
        found.append(cells[columns].assign(outcome=outcome, table=title(table)))
        texts.append(f"{label}, {title(table)}: {_counts(cells)}")
        places.append(where_measured(table))
        reduced += [label] * orientation
        limits.append(read_here(table, [label]))
    evidence = pd.concat(found, ignore_index=True)
    first = ["table", "row", "metric"]
    evidence = evidence[[*first, *evidence.columns.difference([*first, "outcome"]), "outcome"]]
    if len(wanted) > MANY:
        cells = evidence.dropna(subset="mean")
        texts = [f"{len(places)} of {len(wanted)} rows measured: {_counts(cells)}"]
    text = "; ".join([*texts, *[f"on {one}" for one in dict.fromkeys(places)]])
    limits = [*map(departs, rows), for_orientation(reduced), *limits]
    return conclude(text, evidence, limits=limits)


def _beside(
    wanted: Sequence[tuple[str, str]],
) -> tuple[dict[tuple[str, str], Any], list[Limit | None]]:
    """Choose our row beside each of the paper, and say where no one serves all of its tables."""
    beside: dict[tuple[str, str], Any] = {place: nearest(*place) for place in wanted}
    limits: list[Limit | None] = []
    for paper in dict.fromkeys(paper for _, paper in wanted):
        places = [place for place in wanted if place[1] == paper]
        labels = [beside[place][0] for place in places if beside[place]]
        if len(labels) < len(places) or len({*labels}) == 1:
            continue
        cells = {table: given(table) for table, _ in places}
        total = {
            label: sum(cells[table][label] for table, _ in places)
            for label, reduced in labels_beside(*places[0]).items()
            if not reduced and all(label in labels_beside(*place) for place in places)
        }
        most = sum(cells[table][label] for (table, _), label in zip(places, labels, strict=True))
        if most == max(total.values(), default=-1):
            label = max(total, key=lambda label: total[label])
            beside |= dict.fromkeys(places, (label, False))
            continue
        each = [
            f"{label} in {title(table)}" for (table, _), label in zip(places, labels, strict=True)
        ]
        limits.append(Limit(CHOSEN, f"no one configuration gives all tables, but {listed(each)}"))
    return beside, limits


def _counts(cells: pd.DataFrame) -> str:
    """Count verdicts, or where there are none say how far the means are off."""
    counts = cells["verdict"].value_counts()
    names = {"exact": "exact", "within 2 %": "within 2 %", "differs": "further off"}
    parts = [f"{counts[name]} {text}" for name, text in names.items() if name in counts]
    if parts:
        return f"of {len(cells)} values {listed(parts)}"
    far = (cells["mean"] / cells["paper"] - 1).abs()
    return f"{len(cells)} values {span(far)} from the print"


def rank(
    *, table: str, rows: Sequence[str], ranks: Mapping[str, int], at_most: bool = False
) -> Finding:
    """A method has the claimed ranks, among the rows of the paper's table.

    Parameters
    ----------
    table : str
    rows : sequence of str
        The method's rows; its best counts.
    ranks : mapping of str to int
        Metric -> claimed rank.
    at_most : bool
        Whether a better rank confirms the claim, too.
    """
    printed, means = printed_table(table), means_of(table)
    own = {paper: default_row(table, paper) for paper in rows}
    chosen = {paper: nearest(table, paper) for paper in printed.index if paper not in rows}
    reduced = [label for label in own.values() if is_reduced(table, label)]
    # Rows trained alike are compared with each other and not with the print.
    to_print = SOURCES[table].comparable and not reduced
    enough = pairs_of(table) >= FEWEST
    found: list[dict[str, Any]] = []
    contradicted: list[bool] = []
    for metric, claimed in ranks.items():
        column = pd.Series({paper: means.loc[label, metric] for paper, label in own.items()})
        for paper, near in chosen.items():
            if near is not None and not (near[1] and to_print):
                column[paper] = means.loc[near[0], metric]
            elif to_print:
                column[paper] = printed.loc[paper, metric]
        in_print, here = (rank_of(one, rows) for one in (printed[metric], column.rename(metric)))
        outcome = _standing(claimed, in_print, here if enough else None, at_most)
        contradicted.append(_print_says_otherwise(claimed, in_print, at_most))
        facts = {"metric": metric, "claimed": claimed, "print": in_print, "here": here}
        found.append({**facts, "of": len(column) - len(rows) + 1, "outcome": outcome})
    text = f"On {where_measured(table)}: " + ", ".join(
        f"{one['metric']} {ordinal(one['here'])} (in print {ordinal(one['print'])})"
        for one in found
    )
    borrowed = [paper for paper, near in chosen.items() if near is None or near[1]]
    own_rows = [*own.values()]
    limits = [departs(table), for_orientation(reduced), read_here(table, own_rows)]
    if to_print and not SOURCES[table].departs:
        text += f"; by their printed values: {listed(borrowed)}" * bool(borrowed)
    elif not reduced:
        limits += _borrowed(table, borrowed)
        rivals = [near[0] for near in chosen.values() if near is not None]
        if not SOURCES[table].comparable:
            limits.append(read_here(table, rivals))
    limits += [] if enough else [Limit(OTHER_DATA, f"fewer than {FEWEST} pairs show nothing")]
    return conclude(text, pd.DataFrame(found), limits=limits, contradicted=contradicted)


def _standing(claimed: int, in_print: int, here: int | None, at_most: bool) -> str:
    """Return the outcome of a rank; None was not measured, and better than claimed is open."""
    if _print_says_otherwise(claimed, in_print, at_most):
        return FAILS
    if here is None:
        return UNKNOWN
    if here == claimed or (at_most and here < claimed):
        return HOLDS
    return OPEN if here < claimed else FAILS


def _print_says_otherwise(claimed: int, in_print: int, at_most: bool) -> bool:
    return in_print > claimed if at_most else in_print != claimed


def _borrowed(table: str, papers: Sequence[str]) -> list[Limit]:
    """Say what limits a rank on other pairs than the paper's: rows that were not measured."""
    if not papers:
        return []
    if SOURCES[table].comparable:
        text = f"by their printed values, of all pairs: {listed(papers)}"
        return [Limit(PRINTED_ROWS, text)]
    missing = [paper for paper in papers if not labels_beside(table, paper)]
    trained = [paper for paper in papers if paper not in missing]
    limits = [Limit(OUR_TRAINING, f"by our trainings: {listed(trained)}")] * bool(trained)
    return limits + [Limit(FEWER_ROWS, f"without {listed(missing)}")] * bool(missing)


def inside(*, table: str, row: str) -> Finding:
    """Printed means of images that are not named lie inside our 95 % intervals.

    Parameters
    ----------
    table : str
        Table III, of which that reading counts which has most values inside.
    row : str
        Of the paper.
    """
    method = default_row(table, row).partition(" (")[0]
    compared = measured_table(table).compared
    some = compared[compared["row"].str.startswith(f"{method} (")]
    some = some.assign(outcome=some["paper"].between(some["ci_low"], some["ci_high"]))
    counts = some.groupby("row", sort=False)["outcome"].sum()
    columns = ["row", "metric", "mean", "ci_low", "ci_high", "paper", "outcome"]
    evidence = some.loc[some["row"] == counts.idxmax(), columns].reset_index(drop=True)
    evidence["outcome"] = evidence["outcome"].map(outcome_of)
    each = [f"{count} for {name}" for name, count in counts.items()]
    text = f"Of {len(evidence)} printed values our intervals hold {listed(each)}"
    chosen = Limit(CHOSEN, "which reading counts was chosen by the print")
    limits = [departs(table), chosen if len(counts) > 1 else None]
    return conclude(f"{text}; on {where_measured(table)}", evidence, limits=limits)


# ---------------------------------------------------------------- one row against another


def better(
    *,
    table: str,
    pairs: Sequence[Sequence[str]],
    metrics: Sequence[str] = (),
    most: bool = False,
    starts: Sequence[str] = (),
) -> Finding:
    """Rows of ours are better than others, by the differences over the same pairs.

    A part holds if the 95 % bootstrap interval of the mean difference lies on the claimed side.

    Parameters
    ----------
    table : str
    pairs : sequence of (str, str)
        A row of ours and the one that it is to be better than.
    metrics : sequence of str
        Default: all that the paper prints.
    most : bool
        Whether the claim is about most metrics.
    starts : sequence of str
        Rows that differ in nothing but the random start: a difference that is no larger than the
        largest between two of them is open.
    """
    measured = measured_table(table)
    wanted = list(metrics) or list(printed_table(table))
    found = directions(measured, [(row, against) for row, against in pairs])
    found = found[found["metric"].isin(wanted)].reset_index(drop=True)
    means = means_of(table)
    chance = {
        metric: means.loc[list(starts), metric].max() - means.loc[list(starts), metric].min()
        for metric in wanted
        if starts
    }
    found["outcome"] = [
        _direction(one, chance.get(one["metric"], 0.0)) for one in found.to_dict("records")
    ]
    contradicted = [_against(one) for one in found.to_dict("records")]
    if pairs_of(table) < FEWEST:
        found["outcome"] = UNKNOWN
    text = f"On {where_measured(table)}: " + "; ".join(
        f"{row} less {against}: " + ", ".join(_change(one) for one in some.to_dict("records"))
        for (row, against), some in found.groupby(["row", "against"], sort=False)
    )
    printed = ["paper"] * bool(found["paper"].notna().any())
    columns = ["row", "against", "metric", *printed, "mean", "ci_low", "ci_high", "outcome"]
    limits = _limits(table, pairs)
    return conclude(text, found[columns], most=most, limits=limits, contradicted=contradicted)


def _limits(table: str, pairs: Sequence[Sequence[str]]) -> list[Limit | None]:
    """Say what limits a verdict on rows of ours."""
    rows = [row for pair in pairs for row in pair]
    reduced = [row for row in rows if is_reduced(table, row)]
    return [departs(table), for_orientation(reduced), read_here(table, rows)]


def _against(one: Mapping[Any, Any]) -> bool:
    """Whether the print itself says otherwise."""
    return one["paper"] <= 0 if higher_is_better(one["metric"]) else one["paper"] >= 0


def _direction(one: Mapping[Any, Any], chance: float) -> str:
    """Return the outcome of a difference, of which one no larger than chance is open."""
    sign = 1 if higher_is_better(one["metric"]) else -1
    if _against(one):
        return FAILS
    if np.isnan(one["ci_low"]):
        return UNKNOWN
    if sign * one["mean"] <= 0:
        return FAILS
    beyond = min(sign * one["ci_low"], sign * one["ci_high"]) > 0
    return HOLDS if beyond and abs(one["mean"]) > chance else OPEN


def _change(one: Mapping[Any, Any]) -> str:
    sign = {HOLDS: "✓", FAILS: "✗", OPEN: "~", UNKNOWN: "?"}[one["outcome"]]
    printed = "" if pd.isna(one["paper"]) else f" (print {signed(one['paper'])})"
    return f"{one['metric']} {signed(one['mean'])}{printed} {sign}"


def similar(*, table: str, pairs: Sequence[Sequence[str]], metrics: Sequence[str] = ()) -> Finding:
    """Two rows are similar: means within `SIMILAR` of each other, in print and here.

    Parameters
    ----------
    table : str
    pairs : sequence of (str, str)
        Rows of ours.
    metrics : sequence of str
        Default: all that the paper prints.
    """
    compared: Any = measured_table(table).compared.set_index(["row", "metric"])
    lines = []
    for row, other in pairs:
        for metric in list(metrics) or list(printed_table(table)):
            both = compared.loc[[(row, metric), (other, metric)], ["mean", "paper"]]
            here, in_print = (both.iloc[0] / both.iloc[1] - 1).abs()
            near = here <= SIMILAR and in_print <= SIMILAR
            facts = {"row": row, "other": other, "metric": metric}
            far = {"apart in print": in_print, "apart here": here}
            lines.append({**facts, **far, "outcome": outcome_of(bool(near))})
    evidence = pd.DataFrame(lines)
    texts = []
    for pair, some in evidence.groupby(["row", "other"], sort=False):
        both = " and ".join(map(str, pair))
        here, in_print = span(some["apart here"]), span(some["apart in print"])
        texts.append(
            f"{both} are apart by {here} (in print {in_print}) in {listed(some['metric'])}"
        )
    texts += [f"similar is up to {100 * SIMILAR:g} %", f"on {where_measured(table)}"]
    contradicted = [*(evidence["apart in print"] > SIMILAR)]
    text, limits = "; ".join(texts), _limits(table, pairs)
    return conclude(text, evidence, limits=limits, contradicted=contradicted)


def differ(*, table: str, row: str, other: str) -> Finding:
    """Two rows of ours, made in different ways, have different scores.

    Parameters
    ----------
    table, row, other : str
    """
    scores = measured_table(table).per_pair
    scores = scores[scores["row"].isin([row, other])]
    wide = scores.drop_duplicates(["row", "pair", "metric"]).pivot(
        index=["pair", "metric"], columns="row", values="value"
    )
    apart = (wide[row] - wide[other]).abs().groupby("metric", sort=False).max()
    evidence = pd.DataFrame({"metric": apart.index, "largest difference": apart.to_numpy()})
    evidence["outcome"] = [outcome_of(one > 0) for one in evidence["largest difference"]]
    equal = int((evidence["outcome"] == FAILS).sum())
    text = f"On {where_measured(table)}, {row} and {other} have equal scores"
    text += f" in {equal} of {len(apart)} metrics"
    return conclude(text, evidence)


def same_source(*, tables: Sequence[str], rows: Sequence[str]) -> Finding:
    """A row of the paper is made in the same way in all of these tables.

    It holds for a row if one of ours gives its cells in each, fails if it takes different ones, and
    is unknown where none does.

    Parameters
    ----------
    tables, rows : sequence of str
    """
    lines = []
    for paper in rows:
        giving = [{*_giving(table, paper)} for table in tables]
        common = set.intersection(*giving)
        outcome = UNKNOWN if not all(giving) else outcome_of(bool(common))
        names = [listed(sorted(some)) for some in giving]
        named = dict(zip(map(title, tables), names, strict=True))
        lines.append({"row": paper, **named, "outcome": outcome})
    evidence = pd.DataFrame(lines)
    other = evidence[evidence["outcome"] == FAILS]
    known = evidence[evidence["outcome"] != UNKNOWN]
    text = f"Of {len(rows)} methods {len(known)} come out in all tables, {len(known) - len(other)}"
    text += " of them made in one way"
    for one in other.to_dict("records"):
        places = [f"{one[name]} in {name}" for name in map(title, tables)]
        text += f"; the row {one['row']} is {listed(places)}"
    return conclude(text, evidence)


def _giving(table: str, paper: str) -> list[str]:
    """Return our rows that give all cells of the paper's."""
    compared = measured_table(table).compared
    good = compared[compared["paper"].notna()]
    good = good.assign(good=good["verdict"].isin(["exact", "within 2 %"]))
    whole = good.groupby("row")["good"].all()
    return [label for label in labels_beside(table, paper) if whole[label]]


# ---------------------------------------------------------------- what a number is


def meant(*, table: str, metric: str, right: str) -> Finding:
    """The printed column is what its name says, and not what a mistake of its code gives.

    Of rows that come out within 2 %: it fails where the right value is further off than that.

    Parameters
    ----------
    table, metric : str
    right : str
        The column of the table with the right value, "metric:convention".
    """
    compared = measured_table(table).compared
    printed = compared[(compared["metric"] == metric)].set_index("row")
    printed = printed[printed["verdict"].isin(["exact", "within 2 %"])]
    mended = compared[compared["metric"] == right].set_index("row")["mean"].reindex(printed.index)
    far = (mended / printed["paper"] - 1).abs() > CLOSE
    evidence = pd.DataFrame(
        {
            "row": printed.index,
            "paper": printed["paper"],
            "here, as printed": printed["mean"],
            right: mended,
            "outcome": [outcome_of(not one) for one in far],
        }
    ).reset_index(drop=True)
    text = (
        f"On {where_measured(table)}, {len(evidence)} rows come out by the formula of the authors' "
        f"code; {right} is another value in {int(far.sum())} of them, such as "
        f"{mended.iloc[0]:.4g} for the printed {printed['paper'].iloc[0]:.4g} of {printed.index[0]}"
    )
    return conclude(text, evidence)


def convention(*, table: str, row: str, metric: str, used: str, named: str) -> Finding:
    """A printed value is that of the formula which the paper cites.

    Parameters
    ----------
    table, row, metric : str
        The printed value, of DenseFuse on tno20.
    used : str
        Convention of the cited formula.
    named : str
        Convention that bears the metric's usual name, for comparison.
    """
    (summary,), _ = results.read_recorded("metric_conventions", "summary", only="14")
    assert summary is not None
    means = summary[summary["metric"] == metric].set_index("convention")["mean"]
    paper = printed_table(table).loc[row, metric]
    near = abs(means[used] / paper - 1) <= CLOSE
    evidence = pd.DataFrame({"convention": means.index, "mean": means.to_numpy(), "paper": paper})
    evidence = evidence[evidence["convention"].isin([used, named])].reset_index(drop=True)
    evidence["outcome"] = [
        outcome_of(near) if one == used else "" for one in evidence["convention"]
    ]
    text = (
        f"The printed {paper:.5f} of {row} is {means[used]:.5f} by the cited formula ({used}) and "
        f"{means[named]:.5f} by the one of that name ({named})"
    )
    return conclude(text, evidence)


def follows(*, table: str) -> Finding:
    """Printed PSNR follows from printed MSE: 10 log10(1 / MSE), within the rounding of MSE.

    Parameters
    ----------
    table : str
    """
    printed, half = printed_table(table), 0.5e-5
    low, high = (-10 * np.log10(printed["MSE"] + side * half) for side in (1, -1))
    inside = printed["PSNR"].between(low, high)
    means = means_of(table)
    gap = means["PSNR"] + 10 * np.log10(means["MSE"])
    evidence = pd.DataFrame(
        {
            "row": printed.index,
            "MSE": printed["MSE"],
            "PSNR": printed["PSNR"],
            "from MSE": -10 * np.log10(printed["MSE"]),
            "outcome": [outcome_of(one) for one in inside],
        }
    ).reset_index(drop=True)
    over = (evidence["PSNR"] - evidence["from MSE"])[~inside.to_numpy()]
    text = (
        f"{int(inside.sum())} of {len(printed)} printed PSNR follow from the printed MSE; the "
        f"others are {over.min():.1f} to {over.max():.1f} dB higher, as a mean of PSNR per image "
        f"is: ours are {gap.min():.1f} to {gap.max():.1f} dB above the PSNR of the mean MSE"
    )
    return conclude(text, evidence, in_print=True)


# ---------------------------------------------------------------- detection


def detects(
    *, table: str, against: Sequence[str], classes: Sequence[str], metrics: Sequence[str]
) -> Finding:
    """A detector finds more in RefineFuse's pictures than in others, by differences with intervals.

    Parameters
    ----------
    table : {"refinefuse_04", "refinefuse_04_pretrained"}
        Fine-tuned, or as COCO taught it.
    against : sequence of str
        Rows; "sources": infrared and visible; "fusions": the methods that the paper compares.
    classes : sequence of str
        "all" is the mean.
    metrics : sequence of {"AP50", "AP"}
    """
    recorded = _detection(table)
    found = recorded.differences
    every = [*dict.fromkeys(found["row"])]
    sources = [report.INFRARED, report.VISIBLE]
    papers = {re.sub(", retrained$", "", row): row for row in every}
    printed = [row for row in printed_table("refinefuse_04").index if row not in sources]
    printed = [row for row in printed if row != "RefineFuse"]
    fusions = [papers[row] for row in printed if row in papers]
    groups = {"sources": sources, "fusions": fusions}
    rivals = [row for name in against for row in groups.get(name, [name])]
    found = found[found["class"].isin(classes) & found["metric"].isin(metrics)]
    found = found[found["row"].isin(rivals)].reset_index(drop=True)
    ends = zip(found["difference"], found["ci_low"], strict=True)
    outcome = [HOLDS if low > 0 else OPEN if mean > 0 else FAILS for mean, low in ends]
    columns = ["row", "class", "metric", "difference", "ci_low", "ci_high"]
    evidence = found[columns].assign(outcome=outcome)
    places = {
        f"{outcome.count(HOLDS)} lie above 0 with their interval": True,
        f"{outcome.count(OPEN)} above 0 with an interval that holds it": OPEN in outcome,
        f"{outcome.count(FAILS)} below": FAILS in outcome,
    }
    text = (
        f"On {recorded.summary['n'].max()} pairs of msrs, of {len(found)} differences from "
        f"{len({*found['row']})} rows {listed(text for text, there in places.items() if there)}"
    )
    least = found.nsmallest(1, "difference").to_dict("records")[0]
    text += f"; the least is {signed(least['difference'])} {least['metric']} from {least['row']}"
    text += f" ({signed(least['ci_low'])} to {signed(least['ci_high'])})"
    limits = [Limit(OTHER_DATA, "MSRS and YOLOv5n instead of M3FD and YOLOv5s")]
    limits.append(Limit(OUR_TRAINING, READING))
    if "fusions" in against and len(fusions) < len(printed):
        few = f"beside {len(fusions)} of the {len(printed)} methods of Table 4"
        limits.append(Limit(FEWER_ROWS, few))
    return conclude(text, evidence, limits=limits)


@cache
def _detection(table: str) -> report.DetectionTable:
    return report.recorded(table)
