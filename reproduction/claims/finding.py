"""What a check finds, and how a verdict is made.

A claim is taken apart, into a metric, a row or a cell each, and each part holds, fails, is open or
is unknown. Open is what points the claimed way and shows no more: a difference whose 95 % interval
holds 0, a rank better than the claimed one. Unknown is what was not measured. From them `decide`
makes the verdict:

- "cannot be tested here": fewer than half of the parts are known;
- "reproduced": all parts hold; of a claim about "most", more than half of them;
- "partly": at least one holds and at least half of those known do, an open part counting a half;
- "not reproduced": fewer. So a claim of which every part is open is not reproduced: nothing speaks
  against it, and nothing shows it.

Five rules limit that, and the text of the finding says where they did:

- A part that the paper's own table contradicts fails, whatever was measured.
- "Reproduced" becomes "partly" under a limit: data are others than the paper's or not known to be
  the same, rows are our trainings by a reduced schedule, RefineFuse is our reading of its text
  (neither code nor weights were released), times are of other hardware, rows are lacking. A part
  that is unknown has the same effect.
- It does so, too, where a configuration was chosen after seeing the print, and no one gives all
  tables of the claim, or all rows.
- Fewer than `FEWEST` pairs show nothing: their parts are unknown.
- Among the rows that a rank is counted, a method whose weights could not be had stands with its
  printed value. On the paper's own pairs that is no limit, since there the rows that can be
  measured give the print; on a sample of them it is one; on other data our training of it stands
  there instead, or nothing.

A limit takes as much from "not reproduced". There the verdict stays, and its basis says what it
rests on:

- "in print": the paper's own tables and sentences decide. Of a measured claim that is so if it
  were not reproduced even if all parts held that the print does not contradict.
- "as in the paper": data and methods are the paper's, or samples of its data; a network whose code
  and schedule were published may be trained here.
- "under limits": one of the limits above bears on it. "Not reproduced" says then that the claim
  does not hold for these data, or for our training, and not that the paper's numbers are wrong. A
  choice after seeing the print is none of these: it can only speak for a claim.
- "not decided": of what cannot be tested here.

Similar and comparable are means within `SIMILAR` of each other. A row of the paper stands beside
that row of ours that gives most of its cells, in all tables of the claim if there is such a one.
Res2NetFuse has no published weights: its rows are our trainings, by the released code and schedule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

__all__ = [
    "AS_PAPER",
    "BASES",
    "CHOSEN",
    "FAILS",
    "FEWER_ROWS",
    "FEWEST",
    "HOLDS",
    "IN_PRINT",
    "LIMITED",
    "OPEN",
    "NOT_REPRODUCED",
    "OTHER_DATA",
    "OTHER_HARDWARE",
    "OUR_READING",
    "OUR_TRAINING",
    "PARTLY",
    "PRINTED_ROWS",
    "REPRODUCED",
    "SIMILAR",
    "UNDECIDED",
    "UNKNOWN",
    "UNNAMED_DATA",
    "UNTESTABLE",
    "VERDICTS",
    "Finding",
    "Limit",
    "conclude",
    "decide",
    "listed",
    "outcome_of",
    "signed",
    "span",
]

VERDICTS = REPRODUCED, PARTLY, NOT_REPRODUCED, UNTESTABLE = (
    "reproduced",
    "partly",
    "not reproduced",
    "cannot be tested here",
)
HOLDS, FAILS, OPEN, UNKNOWN = "holds", "fails", "open", "unknown"
BASES = IN_PRINT, AS_PAPER, LIMITED, UNDECIDED = (
    "in print",
    "as in the paper",
    "under limits",
    "not decided",
)
#: Kinds of limits, as a verdict names them.
OTHER_DATA, OTHER_HARDWARE = "on other data", "on other hardware"
UNNAMED_DATA = "on images that may be others"
OUR_TRAINING, OUR_READING = "by our training", "by our reading of the network"
PRINTED_ROWS, FEWER_ROWS = "beside printed rows", "among fewer rows"
CHOSEN = "by a choice after the print"

#: Pairs below which a mean shows nothing.
FEWEST = 10
#: What papers call similar or comparable without a number: means that differ by no more.
SIMILAR = 0.05


class Limit(NamedTuple):
    """What keeps a measurement from being the paper's.

    Attributes
    ----------
    kind : str
        As a verdict names it.
    text : str
        Said of the finding.
    """

    kind: str
    text: str


class Finding(NamedTuple):
    """What became of a claim.

    Attributes
    ----------
    verdict : str
        One of `VERDICTS`.
    measured : str
        Our measurement in a sentence or two.
    evidence : DataFrame or None
        A line per part; its last column says whether it holds, "" of what stands there to compare.
    basis : str
        One of `BASES`: what the verdict rests on.
    under : tuple of str
        The kinds of limits that bear on it, and "in print in part" where some parts fail there.
    """

    verdict: str
    measured: str
    evidence: pd.DataFrame | None = None
    basis: str = UNDECIDED
    under: tuple[str, ...] = ()

    @property
    def stated(self) -> str:
        """The verdict with what it rests on: "not reproduced (on other data)"."""
        if self.basis == UNDECIDED:
            return self.verdict
        basis = [self.basis] if self.basis != LIMITED else []
        return f"{self.verdict} ({', '.join([*self.under, *basis])})"


def decide(outcomes: Sequence[str], *, most: bool = False, limited: bool = False) -> str:
    """Make a verdict of what became of the parts of a claim.

    Parameters
    ----------
    outcomes : sequence of {"holds", "fails", "open", "unknown"}
    most : bool
        Whether the claim is about most of them instead of all.
    limited : bool
        Whether "reproduced" would say too much.

    Returns
    -------
    str
        One of `VERDICTS`, by the rules of this module.
    """
    known = [one for one in outcomes if one != UNKNOWN]
    if not known or 2 * len(known) < len(outcomes):
        return UNTESTABLE
    holds = known.count(HOLDS)
    if holds > len(known) / 2 if most else holds == len(known):
        return PARTLY if limited or len(known) < len(outcomes) else REPRODUCED
    enough = 2 * holds + known.count(OPEN) >= len(known)
    return PARTLY if holds and enough else NOT_REPRODUCED


def conclude(
    text: str,
    evidence: pd.DataFrame,
    *,
    most: bool = False,
    limits: Collection[Limit | None] = (),
    contradicted: Sequence[bool] = (),
    in_print: bool = False,
) -> Finding:
    """Decide by the column "outcome", of which "" is no part, and say what the verdict rests on.

    Parameters
    ----------
    text : str
        Our measurement.
    evidence : DataFrame
    most : bool
        As of `decide`.
    limits : collection of Limit or None
        None is none.
    contradicted : sequence of bool
        Of each part, whether the print itself contradicts it.
    in_print : bool
        Whether all parts are of the print alone.
    """
    outcomes = [one for one in evidence["outcome"] if one]
    bearing = [*dict.fromkeys(one for one in limits if one)]
    verdict = decide(outcomes, most=most, limited=bool(bearing))
    texts = [text, *dict.fromkeys(one.text for one in bearing)]
    number, of = outcomes.count(UNKNOWN), len(outcomes)
    if verdict == UNTESTABLE:
        if number < of:
            texts.append(f"of {of} parts {of - number} {'is' if of - number == 1 else 'are'} known")
        return Finding(verdict, "; ".join(texts) + ".", evidence)
    some: tuple[str, ...] = ()
    if verdict == NOT_REPRODUCED:
        bearing = [one for one in bearing if one.kind != CHOSEN]
        rest = [FAILS if one else HOLDS for one in contradicted]
        in_print = in_print or decide(rest, most=most) == NOT_REPRODUCED
        if any(contradicted):
            texts.insert(1, f"{sum(contradicted)} of {of} parts fail in print already")
            some = ("in print in part",)
    measured = "; ".join(texts) + "."
    if in_print:
        return Finding(verdict, measured, evidence, IN_PRINT)
    basis = LIMITED if bearing else AS_PAPER
    under = (*some, *dict.fromkeys(one.kind for one in bearing))
    return Finding(verdict, measured, evidence, basis, under)


def outcome_of(holds: bool) -> str:
    """Return the outcome of a test."""
    return HOLDS if holds else FAILS


def listed(names: Iterable[str]) -> str:
    """Join names to "a, b and c"."""
    names = [*names]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def signed(value: float) -> str:
    """Write a number with its sign."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


def span(shares: pd.Series) -> str:
    """Write from which to which share values lie, in percent."""
    ends = [f"{100 * one:.{0 if one >= 0.1 else 1}f}" for one in (shares.min(), shares.max())]
    return " to ".join(dict.fromkeys(ends)) + " %"
