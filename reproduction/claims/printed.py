"""Checks of claims on what is printed: ranks, differences, identities, statements that agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .finding import (
    FAILS,
    HOLDS,
    IN_PRINT,
    NOT_REPRODUCED,
    REPRODUCED,
    Finding,
    conclude,
    listed,
    outcome_of,
    signed,
)
from .table import higher_is_better, means_of, nearest, ordinal, printed_table, rank_of, title


def printed_ranks(
    *,
    table: str,
    rows: Sequence[str],
    ranks: Mapping[str, int] | None = None,
    counts: Mapping[str, int] | None = None,
    at_most: bool = False,
) -> Finding:
    """The printed table has the ranks that the text claims.

    Parameters
    ----------
    table, rows, at_most
        As of `rank`.
    ranks : mapping of str to int
        Column -> claimed rank.
    counts : mapping of str to int
        "1", "2", ... -> in how many columns the row is claimed to have that rank.
    """
    printed = printed_table(table)
    found = {str(name): rank_of(column.dropna(), rows) for name, column in printed.items()}
    lines = []
    for name, claimed in (ranks or {}).items():
        right = found[name] <= claimed if at_most else found[name] == claimed
        lines.append({"part": name, "claimed": claimed, "print": found[name], "outcome": right})
    for name, claimed in (counts or {}).items():
        number = [*found.values()].count(int(name))
        part = f"{ordinal(int(name))} in"
        right = number == claimed
        lines.append({"part": part, "claimed": claimed, "print": number, "outcome": right})
    evidence = pd.DataFrame(lines)
    evidence["outcome"] = evidence["outcome"].map(outcome_of)
    asked = found if counts else {name: found[name] for name in ranks or {}}
    text = "The printed table has " + ", ".join(f"{k} {ordinal(v)}" for k, v in asked.items())
    return conclude(text, evidence, in_print=True)


def printed_better(
    *,
    table: str,
    row: str,
    against: Sequence[str],
    columns: Sequence[str] = (),
    most: bool = False,
) -> Finding:
    """In the printed table a row is better than others.

    Parameters
    ----------
    table, row : str
    against : sequence of str
        Rows; "others": all of them.
    columns : sequence of str
        Default: all.
    most : bool
        Whether the claim is about most columns.
    """
    printed = printed_table(table)
    rivals = [one for one in printed.index if one != row] if "others" in against else against
    lines = []
    for rival in rivals:
        for name in list(columns) or list(printed):
            change = printed.loc[row, name] - printed.loc[rival, name]
            holds = change > 0 if higher_is_better(name) else change < 0
            facts = {"row": row, "against": rival, "column": name, "difference": change}
            lines.append({**facts, "outcome": outcome_of(bool(holds))})
    evidence = pd.DataFrame(lines)
    fails = evidence[evidence["outcome"] == FAILS]
    text = (
        f"In print {row} is better in {len(evidence) - len(fails)} of {len(evidence)} comparisons"
    )
    if len(fails):
        one = [f"{f['column']} {signed(f['difference'])}" for f in fails.to_dict("records")]
        aside = "" if len(rivals) == 1 else f" (of {len(one)}, the first)"
        text += f"; not in {listed(one[:6])}{aside * (len(one) > 6)}"
    return conclude(text, evidence, most=most, in_print=True)


def independent(
    *, tables: Sequence[str], column: str, of: str, factor: float, digits: int
) -> Finding:
    """A printed column says more than a multiple of another one: it differs beyond rounding.

    Parameters
    ----------
    tables : sequence of str
    column, of : str
    factor : float
        Of the column `of`.
    digits : int
        Printed decimals.
    """
    rounding = (1 + abs(factor)) * 10.0**-digits
    lines = []
    for table in tables:
        printed = printed_table(table)
        for row, values in printed[[column, of]].dropna().iterrows():
            apart = abs(values[column] - factor * values[of])
            facts = {"table": title(table), "row": row, column: values[column], of: values[of]}
            lines.append({**facts, "apart": apart, "outcome": outcome_of(apart > rounding)})
    evidence = pd.DataFrame(lines)
    equal = int((evidence["outcome"] == FAILS).sum())
    text = (
        f"In {equal} of {len(lines)} printed rows {column} is {factor:g} {of}; the largest "
        f"distance is {evidence['apart'].max():.1g}"
    )
    return conclude(text, evidence, in_print=True)


def printed_equal(*, cells: Mapping[str, Mapping[str, str]]) -> Finding:
    """Rows that several printed tables share have equal values, to the digits of the shorter print.

    Parameters
    ----------
    cells : mapping of str to mapping of str to str
        Name of the row -> table -> what the table calls it. The first table is compared with the
        others.
    """
    lines = []
    for name, places in cells.items():
        first, *others = places
        for other in others:
            one, two = (printed_table(table).loc[places[table]] for table in (first, other))
            digits = min(_digits(table) for table in (first, other))
            for column in [name for name in one.dropna().index if name in two.dropna().index]:
                # A half may have been rounded up or down before.
                same = abs(one[column] - two[column]) <= 0.5 * 10.0**-digits + 1e-9
                facts = {"row": name, "tables": f"{title(first)}, {title(other)}", "column": column}
                both = {"one": one[column], "other": two[column]}
                lines.append({**facts, **both, "outcome": outcome_of(bool(same))})
    evidence = pd.DataFrame(lines)
    apart = evidence[evidence["outcome"] == FAILS]
    text = f"{len(evidence) - len(apart)} of {len(evidence)} shared values are equal"
    if len(apart):
        some = [f"{o['column']} {o['one']:g} and {o['other']:g}" for o in apart.to_dict("records")]
        text += f"; not {listed(some)}"
    return conclude(text, evidence, in_print=True)


def _digits(table: str) -> int:
    """Return the decimals of a printed table."""
    texts = map(np.format_float_positional, printed_table(table).stack())
    return max(len(text.partition(".")[2]) for text in texts)


def means(*, table: str, columns: Mapping[str, Sequence[str]]) -> Finding:
    """Printed means are those of the printed columns, within the rounding of both.

    Parameters
    ----------
    table : str
    columns : mapping of str to sequence of str
        Column of means -> columns that it is the mean of.
    """
    printed = printed_table(table)
    rounding = 10.0 ** -_digits(table) + 1e-9
    lines = []
    for name, parts in columns.items():
        for row, mean in printed[[*parts]].mean(axis=1).items():
            near = abs(printed.loc[row, name] - mean) <= rounding
            facts = {"row": row, "column": name, "paper": printed.loc[row, name], "mean": mean}
            lines.append({**facts, "outcome": outcome_of(near)})
    evidence = pd.DataFrame(lines)
    holds = int((evidence["outcome"] == HOLDS).sum())
    return conclude(
        f"{holds} of {len(lines)} printed means are those of their columns", evidence, in_print=True
    )


def in_range(*, table: str, row: str, column: str, among: str) -> Finding:
    """A printed cell lies in the range of a column of another table, of the same data.

    Parameters
    ----------
    table, row, column, among : str
    """
    value, others = printed_table(table).loc[row, column], printed_table(among)[column]
    inside = others.min() <= value <= others.max()
    facts = {"row": row, column: value, "lowest": others.min(), "highest": others.max()}
    text = f"The printed {column} of {row} is {value:g}; {title(among)} has "
    text += f"{others.min():g} to {others.max():g}"
    near = nearest(table, row)
    if near is not None:
        facts["here"] = means_of(table).loc[near[0], column]
        text += f"; our {near[0]} has {facts['here']:.2f}"
    evidence = pd.DataFrame([{**facts, "outcome": outcome_of(bool(inside))}])
    return conclude(text, evidence, in_print=True)


def shape(*, table: str, columns: int = 0, rows: int = 0) -> Finding:
    """A printed table has as many columns, or rows, as the text says.

    Parameters
    ----------
    table : str
    columns, rows : int
        As claimed; 0: not asked.
    """
    printed = printed_table(table)
    asked = {"columns": (columns, printed.shape[1]), "rows": (rows, printed.shape[0])}
    lines = [
        {"of": name, "claimed": claimed, "print": number, "outcome": outcome_of(claimed == number)}
        for name, (claimed, number) in asked.items()
        if claimed
    ]
    text = ", ".join(f"{one['print']} {one['of']} for {one['claimed']}" for one in lines)
    return conclude(f"The table has {text}", pd.DataFrame(lines), in_print=True)


def complete(*, table: str, row: str, printed: Sequence[float]) -> Finding:
    """A printed row has a value in each column.

    Parameters
    ----------
    table, row : str
        Where the row is to be had whole.
    printed : sequence of float
        The row as it is printed in the edition in question.
    """
    whole = printed_table(table).loc[row]
    lines = [
        {"column": name, "elsewhere": value, "outcome": outcome_of(value in printed)}
        for name, value in whole.items()
    ]
    lacking = [str(one["column"]) for one in lines if one["outcome"] == FAILS]
    text = f"The row has {len(printed)} values for {len(whole)} columns"
    if lacking:
        text += f"; by the other table what is lacking is {listed(lacking)}"
    # One value too few is a row that is not whole, however many are there.
    verdict = NOT_REPRODUCED if lacking else REPRODUCED
    return Finding(verdict, text + ".", pd.DataFrame(lines), IN_PRINT)


def agree(*, statements: Mapping[str, Sequence[Any]]) -> Finding:
    """Statements of one text agree, place by place.

    Parameters
    ----------
    statements : mapping of str to sequence
        Where it stands -> what is said.
    """
    first, *others = statements.values()
    lines = [
        {**{place: said[i] for place, said in statements.items()}, "outcome": outcome_of(same)}
        for i, one in enumerate(first)
        for same in [all(other[i] == one for other in others)]
    ]
    text = "; ".join(f"{place}: {listed([*map(str, said)])}" for place, said in statements.items())
    return conclude(text, pd.DataFrame(lines), in_print=True)
