"""What a check finds, and how a verdict is made.

A claim is taken apart, into a metric, a row or a cell each, and each part holds, fails, is open or
is unknown. Open is what points the claimed way and shows no more: a difference whose 95 % interval
holds 0, a rank better than the claimed one. Unknown is what was not measured. From them `decide`
makes the verdict:

- "reproduced": all parts hold; of a claim about "most", more than half of those known do;
- "partly": at least half hold, an open part counting a half;
- "not reproduced": fewer;
- "cannot be tested here": none is known.

Four rules limit that, and the text of the finding says where they did:

- A part that the paper's own table contradicts fails, whatever was measured.
- "Reproduced" becomes "partly" where data are others than the paper's, where rows stand for
  orientation only (our trainings by a reduced schedule), where times are of other hardware, and
  where a part is unknown. "Not reproduced" on other data says that the claim does not hold for
  them, and not that the paper's own numbers are wrong.
- Fewer than `FEWEST` pairs show nothing: their parts are unknown.
- Among the rows that a rank is counted, a method whose weights could not be had stands with its
  printed value. On the paper's own pairs that is no limit, since there the rows that can be
  measured give the print; on a sample of them it is one; on other data our training of it stands
  there instead, or nothing.

Similar and comparable are means within `SIMILAR` of each other. A row of the paper stands beside
that row of ours that gives most of its cells. RefineFuse and Res2NetFuse have no published weights:
their rows are our trainings throughout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

__all__ = [
    "FAILS",
    "FEWEST",
    "HOLDS",
    "OPEN",
    "NOT_REPRODUCED",
    "OTHER_HARDWARE",
    "PARTLY",
    "REPRODUCED",
    "SIMILAR",
    "UNKNOWN",
    "UNTESTABLE",
    "VERDICTS",
    "Finding",
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

#: Pairs below which a mean shows nothing.
FEWEST = 10
#: What papers call similar or comparable without a number: means that differ by no more.
SIMILAR = 0.05
OTHER_HARDWARE = "our times are of a CPU, the paper's of an RTX 4090"


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
    """

    verdict: str
    measured: str
    evidence: pd.DataFrame | None = None


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
    if not known:
        return UNTESTABLE
    holds = known.count(HOLDS)
    if holds > len(known) / 2 if most else holds == len(known):
        return PARTLY if limited or len(known) < len(outcomes) else REPRODUCED
    return PARTLY if 2 * holds + known.count(OPEN) >= len(known) else NOT_REPRODUCED


def conclude(
    text: str,
    evidence: pd.DataFrame,
    *,
    most: bool = False,
    limits: Collection[str] = (),
) -> Finding:
    """Decide by the column "outcome"; limits are named, "" is none."""
    reasons = [*dict.fromkeys(filter(None, limits))]
    verdict = decide([*evidence["outcome"]], most=most, limited=bool(reasons))
    return Finding(verdict, "; ".join([text, *reasons]) + ".", evidence)


def outcome_of(holds: bool) -> str:
    return HOLDS if holds else FAILS


def listed(names: Iterable[str]) -> str:
    """Join names to "a, b and c"."""
    names = [*names]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


def span(shares: pd.Series) -> str:
    """Write from which to which share values lie, in percent."""
    ends = [f"{100 * one:.{0 if one >= 0.1 else 1}f}" for one in (shares.min(), shares.max())]
    return " to ".join(dict.fromkeys(ends)) + " %"
