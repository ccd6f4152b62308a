"""``fusionlib weights``: what is registered, what is found, how to get the authors'."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FusionError, unknown
from .shared import add_actions, add_command, add_shared, print_frame

if TYPE_CHECKING:
    from ..card import WeightFile, WeightUser, WeightUsers
    from ..weights import Obtained


def add(
    commands: argparse._SubParsersAction, users: Callable[[], WeightUsers] | None = None
) -> None:
    """Add the command; `users` says what weights are for, by default those of methods."""
    weights = add_command(
        commands,
        "weights",
        "The weights of this project come with it. Those of the authors are made from what they "
        "publish: fetch downloads it, convert takes files that you downloaded.",
        "weights",
        "weights fetch seafusion",
    )
    weights.set_defaults(run=_list_weights, weights_dir=None, name=None, users=users)
    actions = add_actions(weights)
    _add_list(actions)
    _add_verify(actions)
    _add_fetch(actions)
    _add_convert(actions)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights-dir",
        type=Path,
        metavar="FOLDER",
        help="where to put them; default: $FUSIONLIB_WEIGHTS, else the user's cache",
    )


# ---------------------------------------------------------------- list


def _add_list(actions: argparse._SubParsersAction) -> None:
    listing = add_command(
        actions,
        "list",
        "List the weights: of which method, whether they are here, licence, training, origin. With "
        "a name, say all about one.",
        "weights list",
        "weights list densefuse_tf_1e2",
        help="list them (default), or say all about one",
    )
    listing.add_argument("name", nargs="?", metavar="NAME", help="say all about this one")
    add_shared(listing, "--weights-dir")
    listing.set_defaults(run=_list_weights)


def _list_weights(options: argparse.Namespace) -> None:
    from ..methods import list_weights
    from ..weights import read_facts

    frame = list_weights(options.weights_dir, users=_users(options))
    if options.name is None:
        print_frame(frame)
        return
    entry, _ = _weight_set(options, options.name)
    facts = frame[frame["name"] == options.name].iloc[0].to_dict()
    facts["hash of the tensors"] = entry.digest or "unknown"
    for fact, value in facts.items():
        print(f"{fact}: {value or 'none'}")
    if facts["state"] == "found":
        for fact, value in sorted(read_facts(facts["path"]).items()):
            print(f"  {fact}: {value}")
    for file in (file for one in entry.checkpoints for file in one.files):
        print(f"published file: {file.url}")
        for fact, value in (("size", file.size), ("sha256", file.sha256), ("git blob", file.blob)):
            print(f"  {fact}: {value or 'unknown'}")


def _users(options: argparse.Namespace) -> WeightUsers:
    from ..methods import weight_users

    return (options.users or weight_users)()


def _weight_sets(options: argparse.Namespace) -> dict[str, tuple[WeightFile, WeightUser]]:
    """Return every weight set by name, with one of what it is for."""
    return {
        file.name: (file, next(iter(users.values()))) for file, users in _users(options).items()
    }


def _weight_set(options: argparse.Namespace, name: str) -> tuple[WeightFile, WeightUser]:
    sets = _weight_sets(options)
    if name not in sets:
        raise unknown("weights", name, sets)
    return sets[name]


# ---------------------------------------------------------------- verify


def _add_verify(actions: argparse._SubParsersAction) -> None:
    verify = add_command(
        actions,
        "verify",
        "Check the hash of every file that is found. Fails if one is damaged or does not fit.",
        "weights verify",
        help="check the hash of every file that is found",
    )
    add_shared(verify, "--weights-dir")
    verify.set_defaults(run=_verify_weights)


def _verify_weights(options: argparse.Namespace) -> None:
    from ..methods import list_weights

    frame = list_weights(options.weights_dir, verify=True, users=_users(options))
    print_frame(frame)
    bad = frame[frame["state"].isin(["damaged", "does not fit"])]
    if bad.empty:
        return
    faults = [f"{state}: {', '.join(rows['name'])}" for state, rows in bad.groupby("state")]
    raise FusionError(f"{'; '.join(faults)}. Get these files again.")


# ---------------------------------------------------------------- fetch and convert


def _add_fetch(actions: argparse._SubParsersAction) -> None:
    fetch = add_command(
        actions,
        "fetch",
        "Download weight sets from where their authors publish them, check them, and convert them. "
        "'fusionlib weights' lists the names.",
        "weights fetch seafusion",
        "weights fetch yolov5n yolov5s",
        help="download sets from their authors and convert them",
    )
    fetch.add_argument("names", nargs="*", metavar="NAME", help="of a weight set")
    fetch.add_argument("--all", action="store_true", help="all that authors publish")
    _add_target(fetch)
    fetch.set_defaults(run=_fetch_weights)


def _fetch_weights(options: argparse.Namespace) -> None:
    from ..weights import fetch_weights

    if options.all == bool(options.names):
        raise FusionError(
            "give the names of weight sets, or --all. 'fusionlib weights' lists them."
        )
    published = [name for name, (entry, _) in _weight_sets(options).items() if entry.origin]
    wanted = [
        (name, _weight_set(options, name)) for name in (published if options.all else options.names)
    ]
    faults = []
    for name, one in wanted:
        try:
            _print_obtained(name, fetch_weights(*one, options.weights_dir))
        except FusionError as error:
            faults.append(str(error))
    if faults:
        raise FusionError("\n  ".join(faults))


def _add_convert(actions: argparse._SubParsersAction) -> None:
    convert = add_command(
        actions,
        "convert",
        "Convert an author's files that you downloaded, as 'weights fetch' does with its own.",
        "weights convert densefuse densefuse_gray.model",
        help="convert an author's files that you downloaded",
    )
    convert.add_argument("name", metavar="NAME", help="of the weight set")
    convert.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as published")
    _add_target(convert)
    convert.set_defaults(run=_convert_weights)


def _convert_weights(options: argparse.Namespace) -> None:
    from ..weights import convert_weights

    obtained = convert_weights(
        *_weight_set(options, options.name), options.files, options.weights_dir
    )
    _print_obtained(options.name, obtained)


def _print_obtained(name: str, obtained: Obtained) -> None:
    done = "wrote" if obtained.new else "already there and right:"
    trust = (
        "its tensors are the registered ones"
        if obtained.verified
        else "it fits the network; no hash is registered to compare it with"
    )
    print(f"{name}: {done} {obtained.path} ({trust})")
