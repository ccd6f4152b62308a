"""The claims of both papers, each with our measurement and a verdict.

The claims are entries of ``data/paper_tables/claims.toml``: where one stands, what it says, what
would confirm it, and the check that judges it on the recorded results or on the printed tables
(`reproduction.claims.finding` has the rules). Nothing here types a number of ours.

    from fusionlib import claims

    claims.summary()  # how many claims of each paper have which verdict
    claims.bases()  # and what the verdicts rest on: print, measurement, measurement under limits
    claims.evidence("mi-is-mutual-information")  # what a verdict rests on, part by part
"""

from .chart import draw_summary
from .entries import (
    CHECKS,
    PAPERS,
    Claim,
    bases,
    evidence,
    find_claim,
    judge,
    ledger,
    load_claims,
    show_evidence,
    show_ledger,
    summary,
    told_twice,
    write_ledger,
)
from .finding import BASES, VERDICTS, Finding

__all__ = [
    "BASES",
    "CHECKS",
    "PAPERS",
    "VERDICTS",
    "Claim",
    "Finding",
    "bases",
    "draw_summary",
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
