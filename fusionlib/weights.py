"""Trained weights: where they are found, whether they are the right ones, loading, saving.

Weights are safetensors files; NumPy's .npz files are read, too. They are looked for in the
directory given, then in ``$FUSIONLIB_WEIGHTS``, then in the user's cache, then in
``fusionlib/weights/``, which holds those trained by this project. A file that was found is
checked by a hash over its tensors and loaded strictly; nothing is ever put in its place. The
authors' sets are made from the files that they publish, by `fetch_weights` or `convert_weights`.
What is known of each set is in ``fusionlib/weights.toml``.

What cannot be found or downloaded raises `WeightsNotFound`; what is damaged, does not fit or has
another hash, `WeightsMismatch`; what cannot be written, `CannotWrite`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .card import WeightFile, WeightUser
from .checkpoints import Checkpoint, read_checkpoint
from .errors import WeightsMismatch, WeightsNotFound, unknown
from .files import atomic_file, check_writable

if TYPE_CHECKING:
    import pandas as pd

    from .classical import Algorithm

__all__ = [
    *("SUFFIXES", "cache_folder", "check_fit", "convert_weights", "digest", "fetch_weights"),
    *("find_weights", "load_into", "load_state", "places", "read_facts", "read_weights"),
    *("save_weights", "training_losses", "verify_weights", "weight_files"),
    *("weight_sets", "write_tensors"),
]

#: Of weight files, in the order of preference.
SUFFIXES = (".safetensors", ".npz")

#: Addresses of a file at a full commit, at a short one or a branch, and of one of a release.
FULL = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"
SHORT = "https://github.com/{repository}/raw/{commit}/{path}"
RELEASE = "https://github.com/{repository}/releases/download/{commit}/{path}"


# ---------------------------------------------------------------- what is known of each set


def weight_files(*names: str) -> tuple[WeightFile, ...]:
    """Return the weight sets of these names, as a method's file states them."""
    for name in names:
        if name not in weight_sets():
            known = unknown("weight set", name, weight_sets())
            raise type(known)(f"{known} A new one is a table [{name}] in fusionlib/weights.toml.")
    return tuple(weight_sets()[name] for name in names)


@functools.cache
def weight_sets() -> Mapping[str, WeightFile]:
    """Return every set of ``weights.toml`` by name."""
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {name: _weight_set(name, **table) for name, table in tables.items()}


def _weight_set(
    name: str,
    *,
    repository: str = "",
    commit: str = "",
    release: bool = False,
    checkpoints: Sequence[dict[str, str]] = (),
    **facts: Any,
) -> WeightFile:
    """Turn a table of the file into objects; whatever does not belong there is an error."""
    form = RELEASE if release else FULL if len(commit) == 40 else SHORT
    paths = [one.pop("file") for one in checkpoints]
    addresses = [form.format(repository=repository, commit=commit, path=quote(p)) for p in paths]
    published = tuple(
        Checkpoint(address=address, **{"format": "pytorch", **one})
        for address, one in zip(addresses, checkpoints, strict=True)
    )
    origin = f"github.com/{repository} @{commit[:7]} {_listed(paths)}" if repository else ""
    return WeightFile(name, origin=origin, checkpoints=published, **{"digest": "", **facts})


def _listed(items: Sequence[str]) -> str:
    """Name a few things in a text, of many the first and the last."""
    if len(items) > 4:
        return f"{len(items)} files, {items[0]} to {items[-1]}"
    return " and ".join(items)


def _addresses(entry: WeightFile) -> list[str]:
    """Return where the authors publish the files of a set."""
    if not entry.origin:
        raise WeightsNotFound(
            f"nobody else publishes the weights {entry.name!r}.", _own_remedy(entry)
        )
    return [address for one in entry.checkpoints for address in one.addresses]


def _file_name(address: str) -> str:
    return unquote(address.rpartition("/")[2])


# ---------------------------------------------------------------- where they are found


def cache_folder() -> Path:
    """Return the folder of this user for what can be fetched or computed again."""
    import pooch

    return Path(pooch.os_cache("irvis-fusionlib"))


def places(directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the directories where weights are looked for, in order."""
    candidates = [
        directory,
        os.environ.get("FUSIONLIB_WEIGHTS"),
        cache_folder() / "weights",
        Path(__file__).parent / "weights",
    ]
    return [Path(place) for place in candidates if place]


def _target(entry: WeightFile, directory: str | os.PathLike[str] | None) -> Path:
    """Return the file that fetching or converting writes."""
    return places(directory)[0] / f"{entry.name}.safetensors"


def find_weights(
    entry: WeightFile,
    directory: str | os.PathLike[str] | None = None,
    *,
    alternatives: Iterable[WeightFile] = (),
    program: str = "fusionlib",
) -> Path:
    """Return the path of the first file of that name; if there is none, say where to get it.

    The error names those of the alternatives, sets for the same network, that this project
    trained, and the program whose command `weights` gets the set.
    """
    searched = places(directory)
    for path in (place / f"{entry.name}{suffix}" for place in searched for suffix in SUFFIXES):
        if path.is_file():
            return path
    # A folder that is not there is perhaps misspelt.
    where = [f"{place}{'' if place.is_dir() else ' (no such folder)'}" for place in searched]
    message = (
        f"the weights {entry.name!r} were not found: {entry.name}.safetensors is in none of "
        f"{', '.join(where)}."
    )
    if entry.digest:
        message += f" Its {entry.parameters:,} values must have the hash {entry.digest}."
    if not entry.origin:
        raise WeightsNotFound(message, _own_remedy(entry))
    message += f" Fetched, it will be {_target(entry, directory)}."
    remedy = (
        f"`{program} weights fetch {entry.name}` makes it from {_listed(_addresses(entry))} "
        f"(licence: {entry.licence}), `{program} weights convert {entry.name} FILE` from what you "
        "downloaded yourself; or set FUSIONLIB_WEIGHTS to a folder that holds it."
    )
    ours = [repr(other.name) for other in alternatives if other.packaged]
    if ours:
        remedy += f" Trained by this project, to be had at once: weights={' or '.join(ours)}."
    raise WeightsNotFound(message, remedy)


def _own_remedy(entry: WeightFile) -> str:
    """What to do where weights of this project are not there."""
    if entry.made_by:
        return f"Train them, `{entry.made_by}`, and set FUSIONLIB_WEIGHTS to their folder."
    return "They are part of this project: restore the file with git, or reinstall."


# ---------------------------------------------------------------- reading and checking


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of tensors' names, types, shapes and values, whatever file had them."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # As bytes, since NumPy does not know bfloat16.
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read all tensors of a safetensors or .npz file."""
    return _read(Path(path))[0]


def read_facts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the facts in a file's header, such as of its training; a .npz file has none."""
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise WeightsNotFound(f"no such weight file: {path}. Check the spelling.")
    numpy = path.suffix == ".npz"
    try:
        if numpy:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays}, {}
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except MemoryError:
        raise
    except Exception as error:  # of many types, depending on where a file is damaged
        kind = ".npz file of numbers" if numpy else "safetensors file"
        again = "Copy it again, or save float64 arrays" if numpy else "Copy or convert it again"
        raise WeightsMismatch(f"{path} is not a readable {kind} ({error}). {again}.") from error


def verify_weights(entry: WeightFile, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a weight file and check that it holds exactly the registered tensors.

    Where no hash is registered there is nothing to compare with: what remains is `check_fit`.
    """
    tensors = read_weights(path)
    _check_digest(entry, tensors, path)
    return tensors


def _check_digest(entry: WeightFile, tensors: Mapping[str, Tensor], source: object) -> None:
    found = digest(tensors)
    if entry.digest and found != entry.digest:
        raise WeightsMismatch(
            f"{source} does not hold the registered weights {entry.name!r}: the hash of its "
            f"tensors is {found}, expected {entry.digest}. Get the file again; to use "
            "weights of your own, give their path as weights=..."
        )


def check_fit(configuration: WeightUser, tensors: dict[str, Tensor], source: object) -> None:
    """Load tensors strictly into a network or algorithm of the configuration."""
    load_into(configuration, configuration.build(*configuration.rules[:1]), tensors, source)


def load_into(
    configuration: WeightUser,
    fuser: nn.Module | Algorithm,
    tensors: dict[str, Tensor],
    source: object,
) -> None:
    """Load the tensors of a weight file into what a configuration has built."""
    adapted = configuration.adapt(tensors) if configuration.adapt else tensors
    if isinstance(fuser, nn.Module):
        load_state(fuser, adapted, source)
    else:
        fuser.load(adapted, source)


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Load a state dict strictly, as float32; the error counts what does not fit."""
    own = network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    both = sorted(own.keys() & state.keys())
    faults = {
        "missing": [f"{name} {expected[name]}" for name in sorted(own.keys() - state.keys())],
        "extra": [f"{name} {found[name]}" for name in sorted(state.keys() - own.keys())],
        "misshapen": [
            f"{name} is {found[name]}, expected {expected[name]}"
            for name in both
            if found[name] != expected[name]
        ],
        "of another type": [
            f"{name} is {state[name].dtype}, expected {own[name].dtype}"
            for name in both
            if own[name].is_floating_point() and not state[name].is_floating_point()
        ],
    }
    kinds = [
        f"{len(each)} {kind}: {', '.join(each[:3])}{', ...' * (len(each) > 3)}"
        for kind, each in faults.items()
        if each
    ]
    if kinds:
        raise WeightsMismatch(
            f"{source} does not fit {type(network).__name__} of {len(own)} tensors: "
            f"{'; '.join(kinds)}. Use weights of this network and variant."
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})


# ---------------------------------------------------------------- what is trained here


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module,
    facts: Mapping[str, object],
    *,
    half: bool = False,
) -> None:
    """Write a network's weights, with facts about their training, as `write_tensors` does.

    With `half`, values keep 16 bits each, but for tensors with values beyond their range.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        halved = {name: t.half() for name, t in state.items() if t.is_floating_point()}
        state |= {name: tensor for name, tensor in halved.items() if tensor.isfinite().all()}
    write_tensors(path, state, facts)


def write_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], facts: Mapping[str, object]
) -> None:
    """Write a safetensors file, with facts as text in its header, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, {name: str(value) for name, value in facts.items()}))


def training_losses(name: str) -> pd.DataFrame:
    """Return the losses of every iteration of weights that this project trained."""
    import pandas as pd

    path = Path(__file__).parent / "weights" / f"{name}.losses.csv"
    if not path.is_file():
        raise WeightsNotFound(f"no record of the training of {name!r}: {path} is not there.")
    return pd.read_csv(path)


# ---------------------------------------------------------------- from the authors' files


def fetch_weights(
    entry: WeightFile,
    configuration: WeightUser,
    directory: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
) -> tuple[Path, bool]:
    """Download a set from the authors and convert it; a file that is there and right is kept.

    It is put into the directory, made if missing; by default ``$FUSIONLIB_WEIGHTS``, else the
    user's cache. Returns the file, and whether it was written now.
    """
    addresses, path = _addresses(entry), _target(entry, directory)
    try:
        tensors = verify_weights(entry, path)
        if not entry.digest:
            check_fit(configuration, tensors, path)
        return path, False
    except (WeightsNotFound, WeightsMismatch):
        check_writable(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            files = [_download(one, folder, progress) for one in addresses]
            return convert_weights(entry, configuration, files, directory), True
    except (WeightsNotFound, WeightsMismatch) as error:
        raise type(error)(
            f"{entry.name} could not be fetched from {_listed(addresses)}; nothing was written to "
            f"{path}. {error} If you can download the files otherwise: `fusionlib weights convert "
            f"{entry.name} FILE...`."
        ) from error


def _download(address: str, folder: str, progress: bool) -> Path:
    import pooch

    path = Path(tempfile.mkdtemp(dir=folder), _file_name(address))  # two may have one name
    try:
        pooch.HTTPDownloader(progressbar=progress)(address, path, None)
    except Exception as error:  # of requests or of the file system
        reason = " ".join(str(error).split())
        raise WeightsNotFound(
            f"Downloading {path.name} failed ({type(error).__name__}: {reason})."
        ) from error
    return path


def convert_weights(
    entry: WeightFile,
    configuration: WeightUser,
    files: Sequence[str | os.PathLike[str]],
    directory: str | os.PathLike[str] | None = None,
) -> Path:
    """Make a set from the authors' files as they were downloaded; return what is written.

    All that the authors publish for it is wanted, in any order, under the names given there; a
    set of one file may have another name. The rest is as in `fetch_weights`.
    """
    addresses, given = _addresses(entry), [Path(file) for file in files]
    if len(given) > 1 or len(addresses) > 1:
        by_name = {path.name: path for path in given}
        names = [_file_name(address) for address in addresses]
        if sorted(path.name for path in given) != sorted(names):
            raise WeightsMismatch(
                f"{entry.name} is made from {' and '.join(names)}, given: "
                f"{', '.join(map(str, given))}. They are published as {_listed(addresses)}."
            )
        given = [by_name[name] for name in names]
    for path in given:
        if not path.is_file():
            raise WeightsNotFound(f"no such file: {path}")
    tensors: dict[str, Tensor] = {}
    rest = iter(given)
    for checkpoint in entry.checkpoints:
        tensors |= read_checkpoint(checkpoint, [next(rest) for _ in checkpoint.addresses])
    what = " and ".join(path.name for path in given)
    _check_digest(entry, tensors, what)
    if not entry.digest:
        check_fit(configuration, tensors, what)
    sources = [
        f"{address} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for address, path in zip(addresses, given, strict=True)
    ]
    facts = {"source": ", ".join(sources), "converted_by": "fusionlib weights"}
    write_tensors(target := _target(entry, directory), tensors, facts)
    return target
