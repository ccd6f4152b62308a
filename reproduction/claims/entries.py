"""The entries, their verdicts, and the ledger as a table, in Markdown and in a notebook."""

from __future__ import annotations

import hashlib
import html
import inspect
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.errors import FusionError, unknown
from fusionlib.files import write_text

from . import costs, measured, printed
from .finding import BASES, FAILS, HOLDS, OPEN, UNKNOWN, UNTESTABLE, VERDICTS, Finding

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "CHECKS",
    "PAPERS",
    "Claim",
    "bases",
    "evidence",
    "find_claim",
    "judge",
    "ledger",
    "load_claims",
    "show_evidence",
    "show_ledger",
    "summary",
    "told_twice",
    "write_ledger",
]

#: Name in the entries -> how the paper's method is called.
PAPERS = {"res2netfuse": "Res2NetFuse", "refinefuse": "RefineFuse"}
#: What an entry is judged by: our measurements, the print alone, or how something is made.
KINDS = ("measurement", "print", "method")
#: A sign beside the colour, which is of Okabe and Ito's: the colour-blind tell them apart.
MARKS = {
    "reproduced": ("✓", "#006b4d"),
    "partly": ("◐", "#00567d"),
    "not reproduced": ("✗", "#9d4400"),
    "cannot be tested here": ("–", "#555555"),
}
PART_MARKS = {HOLDS: "✓", FAILS: "✗", OPEN: "~", UNKNOWN: "–"}
COMMAND = "python -m reproduction claims --write results/claims.md"


def untestable(*, why: str, needs: str) -> Finding:
    """Nothing here measures it.

    Parameters
    ----------
    why : str
    needs : str
        What would make it testable.
    """
    return Finding(UNTESTABLE, f"{why}; it would take {needs}.")


#: Name in the entries -> check. Arguments are given by name.
CHECKS: Mapping[str, Callable[..., Finding]] = {
    one.__name__: one
    for one in (
        *(measured.values, measured.inside, measured.rank, measured.better, measured.similar),
        *(
            measured.differ,
            measured.same_source,
            measured.meant,
            measured.convention,
            measured.follows,
        ),
        *(measured.detects, printed.printed_ranks, printed.printed_better, printed.independent),
        *(printed.printed_equal, printed.in_range, printed.shape, printed.complete, printed.agree),
        *(costs.layers, costs.lightweight, costs.stable, costs.schedule, costs.sizes, costs.rates),
        *(costs.extreme, costs.cheaper, costs.ranks_follow, costs.growth, costs.slower),
        *(costs.downsampling, printed.means),
        untestable,
    )
}


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes
    ----------
    id : str
        Does not change.
    paper : {"res2netfuse", "refinefuse"}
    editions : tuple of int
        Years of the editions that make it.
    topic : str
        Heading of the ledger under which it stands.
    where : str
        Section and table.
    says : str
        In other words, or a few of its own.
    confirms : str
        What measurement would confirm it.
    notebook : str
        Where that is done, without ``.ipynb``.
    kind : {"measurement", "print", "method"}
    check : str
        A key of `CHECKS`.
    arguments : mapping
        Of the check.
    twin : str
        Id of the claim that judges the same sentence by the print alone; "": there is none.
    """

    id: str
    paper: str
    editions: tuple[int, ...]
    topic: str
    where: str
    says: str
    confirms: str
    notebook: str
    kind: str
    check: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    twin: str = ""


def load_claims(path: str | os.PathLike[str] | None = None) -> list[Claim]:
    """Return all claims in the order of their file.

    Parameters
    ----------
    path : path, optional
        Default: the one of this package.

    Raises
    ------
    FusionError
        If the file cannot be read, or an entry lacks a field, has one too many, an unknown paper,
        kind, check or twin, arguments that the check does not take, or an id that another one has.
    """
    path = Path(path) if path is not None else package_data("paper_tables/claims.toml")
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    except (OSError, ValueError) as error:
        raise FusionError(f"cannot read the claims in {path}: {error}") from error
    found: dict[str, Claim] = {}
    for number, entry in enumerate(entries, start=1):
        claim = _claim(entry, f"claim {entry.get('id', number)!r} in {path}")
        if claim.id in found:
            raise FusionError(f"claim {claim.id!r} is twice in {path}; give one another id.")
        found[claim.id] = claim
    for claim in found.values():
        if claim.twin and claim.twin not in found:
            raise FusionError(f"claim {claim.id!r} in {path}: {unknown('twin', claim.twin, found)}")
    return [*found.values()]


def _claim(entry: Mapping[str, Any], name: str) -> Claim:
    """Make a claim of an entry, with all that can be wrong with one."""
    fields = ("id", "paper", "topic", "where", "says", "confirms", "notebook", "kind", "check")
    for one in fields:
        if not (isinstance(entry.get(one), str) and entry[one].strip()):
            raise FusionError(f"{name} lacks the text {one!r}; add it.")
    editions, arguments = entry.get("editions"), entry.get("with", {})
    if not (editions and all(isinstance(year, int) for year in editions)):
        raise FusionError(f"{name} lacks 'editions'; add a list of years.")
    if extra := entry.keys() - {*fields, "editions", "with", "twin"}:
        raise FusionError(f"{name} has {', '.join(sorted(extra))}, which no claim has; remove it.")
    for kind, known in (("paper", PAPERS), ("kind", KINDS), ("check", CHECKS)):
        if entry[kind] not in known:
            raise FusionError(f"{name}: {unknown(kind, entry[kind], known)}")
    try:
        inspect.signature(CHECKS[entry["check"]]).bind(**arguments)
    except TypeError as error:
        raise FusionError(f"{name}: check {entry['check']!r}: {error}; see 'with'.") from error
    texts = {one: entry[one] for one in fields}
    twin = str(entry.get("twin", ""))
    return Claim(editions=tuple(editions), arguments=arguments, twin=twin, **texts)


def find_claim(claim_id: str) -> Claim:
    """Return a claim by its id.

    Raises
    ------
    UnknownName
        If there is none.
    """
    claims = {claim.id: claim for claim in load_claims()}
    if claim_id not in claims:
        raise unknown("claim", claim_id, claims)
    return claims[claim_id]


def judge(claim: Claim) -> Finding:
    """Judge a claim by the recorded results and the printed tables.

    Raises
    ------
    FusionError
        If the recorded results are not there: they are part of the repository, not of the package.
    """
    return CHECKS[claim.check](**claim.arguments)


def evidence(claim_id: str) -> pd.DataFrame | str:
    """Return what a verdict rests on, part by part; where there are no parts, the sentence.

    Parameters
    ----------
    claim_id : str

    Raises
    ------
    UnknownName
        If there is no such claim.
    """
    finding = judge(find_claim(claim_id))
    return finding.measured if finding.evidence is None else finding.evidence


def ledger() -> pd.DataFrame:
    """Judge all claims: a line each, in the order of their file.

    Returns
    -------
    DataFrame
        Columns id, paper, editions, kind, topic, where, says, confirms, twin, measured, verdict,
        basis, stated (the verdict with its basis), notebook.
    """
    lines = []
    for claim in load_claims():
        finding = judge(claim)
        editions = " and ".join(map(str, claim.editions))
        facts = {"id": claim.id, "paper": PAPERS[claim.paper], "editions": editions}
        texts = ("kind", "topic", "where", "says", "confirms", "twin")
        facts |= {name: getattr(claim, name) for name in texts}
        names = ("measured", "verdict", "basis", "stated")
        judged = {name: getattr(finding, name) for name in names}
        lines.append({**facts, **judged, "notebook": claim.notebook})
    return pd.DataFrame(lines)


def summary(found: pd.DataFrame | None = None, by: str = "paper") -> pd.DataFrame:
    """Count claims: a row per paper, or per topic, a column per verdict, and all.

    Parameters
    ----------
    found : DataFrame, optional
        From `ledger`, which is made anew by default.
    by : {"paper", "topic"}
    """
    found = ledger() if found is None else found
    counts = pd.crosstab(found[by], found["verdict"])
    counts = counts.reindex([*dict.fromkeys(found[by])]).reindex(columns=[*VERDICTS])
    counts = counts.fillna(0).astype(int).rename_axis(index=None, columns=None)
    return counts.assign(claims=counts.sum(axis=1))


def bases(found: pd.DataFrame | None = None) -> pd.DataFrame:
    """Count what verdicts rest on: a row per verdict, a column per basis, and all.

    Parameters
    ----------
    found : DataFrame, optional
        From `ledger`, which is made anew by default.
    """
    found = ledger() if found is None else found
    counts = pd.crosstab(found["verdict"], found["basis"])
    counts = counts.reindex(index=[*VERDICTS], columns=[*BASES]).fillna(0).astype(int)
    counts = counts.rename_axis(index=None, columns=None)
    return counts.assign(claims=counts.sum(axis=1))


def told_twice(found: pd.DataFrame | None = None) -> str:
    """Say how many sentences of the papers stand in the ledger more than once.

    Parameters
    ----------
    found : DataFrame, optional
        From `ledger`, which is made anew by default.
    """
    found = ledger() if found is None else found
    twins = [one for one in found["twin"] if one]
    return (
        f"{len({*twins})} sentences are judged by the print alone and by measurement, too: they "
        f"make {len(twins) + len({*twins})} of the {len(found)} claims, and each is counted."
    )


# ---------------------------------------------------------------- to read


def show_ledger(found: pd.DataFrame, caption: str = "") -> Styler:
    """Style the ledger for a notebook: texts wrapped, a sign and a colour for each verdict.

    Parameters
    ----------
    found : DataFrame
        From `ledger`, or some of its lines.
    caption : str
        Shown above the table.
    """
    lines = [
        {
            "claim": f"{html.escape(one['says'])}<br><small>{html.escape(one['where'])}, "
            f"{one['editions']} · {one['kind']} · <code>{one['id']}</code></small>",
            "measured": html.escape(one["measured"]),
            "verdict": f"{MARKS[one['verdict']][0]} {one['stated']}",
            "notebook": f'<a href="{one["notebook"]}.ipynb">{one["notebook"][:2]}</a>',
        }
        for one in found.to_dict("records")
    ]
    colours = [f"font-weight: bold; color: {MARKS[one][1]}" for one in found["verdict"]]
    styler = pd.DataFrame(lines).style.hide(axis="index").set_caption(caption)
    styler.apply(lambda _: colours, subset=["verdict"])
    identifier = hashlib.sha256(repr((caption, *found["id"])).encode()).hexdigest()[:8]
    styler.set_uuid(identifier).set_table_styles(
        [
            {"selector": "th, td", "props": "text-align: left; vertical-align: top"},
            {"selector": "td", "props": "white-space: normal; padding: 0.4em 0.6em"},
            {"selector": "td.col0", "props": "width: 36%"},
            {"selector": "td.col2", "props": "width: 9em"},
            {"selector": "small", "props": "color: #555"},
            {"selector": "caption", "props": "text-align: left; font-weight: bold"},
        ]
    )
    return styler


def show_evidence(claim_id: str, only: str = "") -> Styler:
    """Style what a verdict rests on, below what the claim says.

    Parameters
    ----------
    claim_id : str
        Of a claim that has parts.
    only : {"", "holds", "fails", "open", "unknown"}
        The parts to show; default: all.

    Raises
    ------
    UnknownName
        If there is no such claim.
    FusionError
        If it has no parts, as what cannot be tested.
    """
    claim, finding = find_claim(claim_id), judge(find_claim(claim_id))
    if finding.evidence is None:
        raise FusionError(f"claim {claim_id!r} has no parts: {finding.measured}")
    parts = finding.evidence
    parts = parts[parts["outcome"] == only] if only else parts
    marks = [f"{PART_MARKS.get(one, '')} {one}".strip() for one in parts["outcome"]]
    parts = parts.assign(outcome=marks)
    caption = f"{claim.says} {MARKS[finding.verdict][0]} {finding.stated}"
    styler = parts.style.hide(axis="index").set_caption(html.escape(caption)).set_uuid(claim.id)
    styler.format(lambda value: f"{value:.6g}" if isinstance(value, float) else str(value))
    return styler.set_table_styles(
        [
            {"selector": "th, td", "props": "text-align: left; padding: 0.15em 0.8em"},
            {
                "selector": "caption",
                "props": "text-align: left; font-weight: bold; white-space: nowrap",
            },
        ]
    )


def write_ledger(path: str | os.PathLike[str], found: pd.DataFrame | None = None) -> None:
    """Write the ledger as Markdown: counts, then the claims of each paper by topic.

    Links to notebooks are those of a file in the repository's folder ``results``. The same results
    give the same bytes.

    Parameters
    ----------
    path : path
    found : DataFrame, optional
        From `ledger`, which is made anew by default.

    Raises
    ------
    CannotWrite
        If it cannot be written.
    """
    found = ledger() if found is None else found
    counts = summary(found)
    counts.loc["both papers"] = counts.sum()
    header = ["", *(f"{MARKS[one][0]} {one}" for one in VERDICTS), "claims"]
    rows = [[str(name), *map(str, line)] for name, *line in counts.itertuples()]
    text = [
        "# Claims of both papers\n",
        f"Generated by `{COMMAND}` from `data/paper_tables/claims.toml`, the printed tables and "
        "the results recorded in this folder; not to be edited. How a verdict is made: "
        "`reproduction/claims/finding.py`. Shown and explained in "
        "[notebook 13](../notebooks/13_claims.ipynb).\n",
        _grid(header, rows),
        "What the verdicts rest on, of both papers: in print, on the papers' own tables and "
        "sentences alone; as in the paper, on its data and methods, measured here; under limits, "
        "on other data or images that may be others, our training or reading, other hardware or "
        "fewer rows, or by a choice made after seeing the print; each line names them in "
        'parentheses. There "not reproduced" says that a claim does not hold for these, and not '
        "that the paper's numbers are wrong.\n",
        _grid(
            ["", *BASES, "claims"],
            [
                [f"{MARKS[one][0]} {one}", *map(str, line)]
                for one, *line in bases(found).itertuples()
            ],
        ),
        told_twice(found) + "\n",
        "Differences: ✓ the 95 % interval lies on the claimed side; ~ the mean does, and the "
        "interval holds 0 or a random start makes as much; ✗ neither, or the print contradicts.\n",
    ]
    for paper, claims in found.groupby("paper", sort=False):
        text.append(f"## {paper}\n")
        for topic, some in claims.groupby("topic", sort=False):
            lines = [_line(one) for one in some.to_dict("records")]
            header = ["verdict", "claim", "what would confirm it", "measured", "where", "notebook"]
            text += [f"### {topic}\n", _grid(header, lines)]
    write_text(path, "\n".join(text))


def _line(one: Mapping[Any, str]) -> list[str]:
    link = f"[{one['notebook'][:2]}](../notebooks/{one['notebook']}.ipynb)"
    return [
        f"{MARKS[one['verdict']][0]} {one['stated']}",
        f"{one['says']} (`{one['id']}`)",
        one["confirms"],
        one["measured"],
        f"{one['where']} ({one['editions']}), {one['kind']}",
        link,
    ]


def _grid(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose texts are aligned to the left."""
    lines = [header, ["---"] * len(header), *rows]
    # What would end a cell or begin a mark; ids are code, and stay.
    cells = [[cell.replace("|", r"\|").replace("*", r"\*") for cell in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)
