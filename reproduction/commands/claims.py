"""``python -m reproduction claims``: what the papers claim, with verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusionlib.commands.shared import add_command, print_frame
from fusionlib.errors import unknown


def add(commands: argparse._SubParsersAction) -> None:
    claims = add_command(
        commands,
        "claims",
        "List what the papers claim, each with the verdict of this repository's results, or say "
        "all about one claim: where it stands, what would confirm it, what was measured.",
        'claims --verdict "not reproduced"',
        "claims --paper res2netfuse",
        "claims one-image-suffices",
    )
    claims.add_argument("id", nargs="?", metavar="ID", help="say all about this one")
    claims.add_argument(
        "--paper", metavar="NAME", help="only those of this one: res2netfuse or refinefuse"
    )
    claims.add_argument(
        "--verdict",
        metavar="NAME",
        help="only those with this one: reproduced, partly, 'not reproduced' or 'cannot be tested "
        "here'",
    )
    claims.add_argument("--write", type=Path, metavar="FILE", help="write the ledger as Markdown")
    claims.set_defaults(run=_claims)


def _claims(options: argparse.Namespace) -> None:
    from reproduction import claims

    if options.id:
        claim = claims.find_claim(options.id)
        finding = claims.judge(claim)
        print(f"{claim.id}: {finding.stated}")
        for name in ("where", "says", "confirms"):
            print(f"{name}: {getattr(claim, name)}")
        print(f"measured: {finding.measured}\nnotebook: notebooks/{claim.notebook}.ipynb")
        if finding.evidence is not None:
            print()
            print_frame(finding.evidence)
        return
    for kind, known in (("paper", claims.PAPERS), ("verdict", claims.VERDICTS)):
        if getattr(options, kind) not in (None, *known):
            raise unknown(kind, getattr(options, kind), known)
    found = claims.ledger()
    if options.write:
        claims.write_ledger(options.write, found)
        print(f"wrote {options.write}")
        return
    if options.paper:
        found = found[found["paper"] == claims.PAPERS[options.paper]]
    if options.verdict:
        found = found[found["verdict"] == options.verdict]
    print_frame(claims.summary(found).reset_index(names="paper"))
    print()
    print_frame(claims.bases(found).reset_index(names="verdict"))
    print()
    print_frame(found[["id", "verdict", "basis", "says"]], width=70)
