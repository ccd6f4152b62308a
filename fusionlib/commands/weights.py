"""``fusionlib weights``: what is registered, what is found, how to get the authors'."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import FusionError, unknown
from .shared import ONE, WEIGHTS_DIR, Commands, Options, given, print_frame

if TYPE_CHECKING:
    from ..card import WeightFile, WeightUser, WeightUsers
    from ..weights import Obtained

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


def _list_weights(options: argparse.Namespace) -> None:
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
    if "name" not in given(options):
        print_frame(frame)
        return
    name = options.name
    entry, _ = _weight_set(options, name)
    facts = frame[frame["name"] == name].iloc[0].to_dict()
    facts["hash of the tensors"] = entry.digest or "unknown"
    for fact, value in facts.items():
        print(f"{fact}: {value or 'none'}")
    if facts["state"] == "found":
        for fact, value in sorted(read_facts(facts["path"]).items()):
            print(f"  {fact}: {value}")
    for file in (file for one in entry.checkpoints for file in one.files):
        print(f"published file: {file}")


def _verify_weights(options: argparse.Namespace) -> None:
    """Check the hash of every file that is found.

    Fails if one is damaged or does not fit.

    weights verify
    """
    from ..methods import list_weights

    frame = list_weights(options.weights_dir, verify=True, users=_users(options))
    print_frame(frame)
    bad = frame[frame["state"].isin(["damaged", "does not fit"])]
    if len(bad):
        faults = [f"{state}: {', '.join(rows['name'])}" for state, rows in bad.groupby("state")]
        raise FusionError(f"{'; '.join(faults)}. Get these files again.")


def _fetch_weights(options: argparse.Namespace) -> None:
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
    wanted = {name: _weight_set(options, name) for name in options.name or published}
    faults = []
    for name, one in wanted.items():
        try:
            _print_obtained(name, fetch_weights(*one, options.weights_dir))
        except FusionError as error:
            faults.append(str(error))
    if faults:
        raise FusionError("\n  ".join(faults))


def _convert_weights(options: argparse.Namespace) -> None:
    """Convert an author's files that you downloaded.

    weights convert densefuse densefuse_gray.model
    """
    from ..weights import convert_weights

    one = _weight_set(options, options.name)
    _print_obtained(options.name, convert_weights(*one, options.file, options.weights_dir))


def _print_obtained(name: str, obtained: Obtained) -> None:
    done = "wrote" if obtained.new else "already there and right:"
    trust = (
        "its tensors are the registered ones"
        if obtained.verified
        else "it fits the network; no hash is registered to compare it with"
    )
    print(f"{name}: {done} {obtained.path} ({trust})")


COMMANDS: Commands = {
    "weights": (_list_weights, {}),
    "weights list": (_list_weights, {**ONE, **WEIGHTS_DIR}),
    "weights verify": (_verify_weights, WEIGHTS_DIR),
    "weights fetch": (_fetch_weights, FETCH),
    "weights convert": (_convert_weights, CONVERT),
}
