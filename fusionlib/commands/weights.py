"""``fusionlib weights``: what is registered, what is found, how to get the authors'."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import FusionError, unknown
from . import ONE, WEIGHTS_DIR, Commands, Options, given, print_frame

if TYPE_CHECKING:
    from ..card import WeightFile, WeightUser, WeightUsers


def _users(options: argparse.Namespace) -> WeightUsers:
    """Return the weight sets and what each is for: methods, unless a program says more."""
    from ..methods import weight_users

    return getattr(options, "users", weight_users)()


def _weight_set(options: argparse.Namespace, name: str) -> tuple[WeightFile, WeightUser]:
    """Find a weight set by its name, with one of what it is for."""
    sets = {file.name: (file, next(iter(of.values()))) for file, of in _users(options).items()}
    if name not in sets:
        raise unknown("weights", name, sets)
    return sets[name]


def _list(options: argparse.Namespace) -> None:
    """List the weights, or say all about one.

    Both say whose they are, licence, training, origin and whether they are here. Those of
    this project come with it. Those of the authors are made from what they publish: fetch
    downloads it, convert takes files that you downloaded.

    weights
    weights list densefuse_tf_1e2
    """
    from ..methods import list_weights
    from ..weights import read_facts

    frame = list_weights(**given(options, "weights_dir"), users=_users(options))
    name = getattr(options, "name", None)
    if name is None:
        print_frame(frame)
        return
    entry, _ = _weight_set(options, name)
    facts = frame[frame["name"] == name].iloc[0].to_dict()
    for fact, value in {**facts, "hash of the tensors": entry.digest or "unknown"}.items():
        print(f"{fact}: {value or 'none'}")
    for fact, value in sorted(read_facts(facts["path"]).items() if facts["path"] else ()):
        print(f"  {fact}: {value}")
    for one in entry.checkpoints:
        for address in one.addresses:
            print(f"published file: {address}")


def _verify(options: argparse.Namespace) -> None:
    """Check the hash of every file that is found.

    Fails if one is damaged or does not fit.

    weights verify
    """
    from ..methods import list_weights

    frame = list_weights(options.weights_dir, verify=True, users=_users(options))
    print_frame(frame)
    bad = frame[frame["state"].isin(["damaged", "does not fit"])].groupby("state")["name"]
    if faults := [f"{state}: {', '.join(names)}" for state, names in bad]:
        raise FusionError(f"{'; '.join(faults)}. Get these files again.")


def _fetch(options: argparse.Namespace) -> None:
    """Download weight sets from their authors and convert them.

    What arrives is checked. 'fusionlib weights' lists the names.

    weights fetch seafusion
    weights fetch densefuse nestfuse
    """
    from ..weights import fetch_weights

    if bool(options.all) == bool(options.name):
        raise FusionError(
            "give the names of weight sets, or --all. 'fusionlib weights' lists them."
        )
    published = [file.name for file in _users(options) if file.origin]
    faults = []
    for entry, user in [_weight_set(options, name) for name in options.name or published]:
        try:
            path, new = fetch_weights(entry, user, options.weights_dir)
            done = "wrote" if new else "already there and right:"
            print(f"{entry.name}: {done} {path} ({_trust(entry)})")
        except FusionError as error:
            faults.append(str(error))
    if faults:
        raise FusionError("\n  ".join(faults))


def _convert(options: argparse.Namespace) -> None:
    """Convert an author's files that you downloaded.

    weights convert densefuse densefuse_gray.model
    """
    from ..weights import convert_weights

    entry, user = _weight_set(options, options.name)
    path = convert_weights(entry, user, options.file, options.weights_dir)
    print(f"{entry.name}: wrote {path} ({_trust(entry)})")


def _trust(entry: WeightFile) -> str:
    if entry.digest:
        return "its tensors are the registered ones"
    return "it fits the network; no hash is registered to compare it with"


TARGET: Options = {
    "--weights-dir FOLDER": "where to put them; default: $FUSIONLIB_WEIGHTS, else the user's cache"
}
FETCH: Options = {
    "NAME": {"nargs": "*", "help": "of a weight set"},
    "--all": "all that authors publish",
    **TARGET,
}
CONVERT: Options = {
    "NAME": "of the weight set",
    "FILE": {"nargs": "+", "help": "as published"},
    **TARGET,
}
COMMANDS: Commands = {
    "weights": (_list, {}),
    "weights list": (_list, {**ONE, **WEIGHTS_DIR}),
    "weights verify": (_verify, WEIGHTS_DIR),
    "weights fetch": (_fetch, FETCH),
    "weights convert": (_convert, CONVERT),
}
