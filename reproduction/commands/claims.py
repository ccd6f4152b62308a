"""``python -m reproduction claims``: what the papers claim, with verdicts."""

from __future__ import annotations

import argparse

from fusionlib.commands.shared import Commands, Options, print_frame
from fusionlib.errors import unknown

from .. import claims

OPTIONS: Options = {
    "ID": {"nargs": "?", "help": "say all about this one"},
    "--paper NAME": "only those of this one: res2netfuse or refinefuse",
    "--verdict NAME": "only those with this one: reproduced, partly, 'not reproduced' or 'cannot "
    "be tested here'",
    "--write FILE": "write the ledger as Markdown",
}


def list_claims(options: argparse.Namespace) -> None:
    """List what the papers claim, with verdicts, or say all about one claim.

    The verdict is that of this repository's results; of one claim you see where it
    stands, what would confirm it, what was measured.

    claims --verdict "not reproduced"
    claims --paper res2netfuse
    claims one-image-suffices
    """
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


COMMANDS: Commands = {"claims": (list_claims, OPTIONS)}
