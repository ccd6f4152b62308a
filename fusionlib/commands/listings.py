"""``fusionlib methods | datasets | claims``: what is here, as tables and one by one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import WeightsNotFound, unknown
from .shared import add_actions, add_command, add_shared, print_frame


def add(commands: argparse._SubParsersAction) -> None:
    _add_methods(commands)
    _add_datasets(commands)
    _add_claims(commands)


# ---------------------------------------------------------------- methods


def _add_methods(commands: argparse._SubParsersAction) -> None:
    methods = add_command(
        commands,
        "methods",
        "List the methods with their variants or pipelines and whether their weights are here, or "
        "say all about one method: paper, licence, rules, pre- and post-processing, weights.",
        "methods",
        "methods res2netfuse",
    )
    methods.add_argument("name", nargs="?", metavar="NAME", help="say all about this one")
    methods.set_defaults(run=_methods)


def _methods(options: argparse.Namespace) -> int:
    from ..methods import create, find_method, list_methods

    frame = list_methods()
    if not options.name:
        # What 120 characters hold; the rest is said of one method.
        columns = ["method", "variant or pipeline", "year", "weights found", "summary"]
        print_frame(frame[columns], width=68)
        return 0
    spec = find_method(options.name)
    missing = ""
    try:
        print(create(spec.name).card)
    except WeightsNotFound as error:
        print(f"{spec.title}: {spec.paper} (doi {spec.doi}); licence: {spec.licence}")
        missing = f"\n{error}"
    for row in frame[frame["method"] == spec.name].to_dict("records"):
        print(f"\n{spec.axis} {row['variant or pipeline']}: {row['summary']}")
        for fact in ("rules", "post-processing", "weights", "weights found"):
            print(f"  {fact}: {row[fact] or 'none'}")
    if missing:
        print(missing)
    return 0


# ---------------------------------------------------------------- datasets


def _add_datasets(commands: argparse._SubParsersAction) -> None:
    datasets = add_command(
        commands,
        "datasets",
        "List the data sets: what they hold, licence, whether they are here; or fetch one.",
        "datasets",
        "datasets fetch tno20",
    )
    datasets.set_defaults(run=_list_datasets, data_dir=None)
    actions = add_actions(datasets)
    listing = add_command(
        actions,
        "list",
        "List the data sets: what they hold, licence, whether and where they are here.",
        "datasets list --data-dir data",
        help="list them (default)",
    )
    add_shared(listing, "--data-dir")
    listing.set_defaults(run=_list_datasets)
    fetch = add_command(
        actions,
        "fetch",
        "Download a data set from where its authors publish it, verified by its hashes.",
        "datasets fetch tno20",
        help="download one, verified by its hashes",
    )
    fetch.add_argument("name", metavar="NAME", help="'fusionlib datasets' lists them")
    fetch.add_argument(
        "--data-dir", type=Path, metavar="FOLDER", help="default: $FUSIONLIB_DATA, else data/"
    )
    fetch.set_defaults(run=_fetch_dataset)


def _list_datasets(options: argparse.Namespace) -> int:
    from ..datasets import list_datasets

    # Folders and addresses are there to be copied.
    print_frame(list_datasets(options.data_dir), width=None)
    return 0


def _fetch_dataset(options: argparse.Namespace) -> int:
    from ..datasets import fetch_dataset

    print(f"{options.name} is in {fetch_dataset(options.name, data_dir=options.data_dir)}")
    return 0


# ---------------------------------------------------------------- claims


def _add_claims(commands: argparse._SubParsersAction) -> None:
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


def _claims(options: argparse.Namespace) -> int:
    from .. import claims

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
        return 0
    for kind, known in (("paper", claims.PAPERS), ("verdict", claims.VERDICTS)):
        if getattr(options, kind) not in (None, *known):
            raise unknown(kind, getattr(options, kind), known)
    found = claims.ledger()
    if options.write:
        claims.write_ledger(options.write, found)
        print(f"wrote {options.write}")
        return 0
    if options.paper:
        found = found[found["paper"] == claims.PAPERS[options.paper]]
    if options.verdict:
        found = found[found["verdict"] == options.verdict]
    print_frame(claims.summary(found).reset_index(names="paper"))
    print()
    print_frame(claims.bases(found).reset_index(names="verdict"))
    print()
    print_frame(found[["id", "verdict", "basis", "says"]], width=70)
    return 0
