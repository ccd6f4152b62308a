"""Trained weights: where they are found, whether they are the right ones, loading, saving.

Weights are safetensors files; NumPy's .npz files are read, too. They are looked for in the
directory given, then in ``$FUSIONLIB_WEIGHTS``, then in the user's cache, then in
``fusionlib/weights/``, which holds those trained by this project. A file that was found is
checked by a hash over its tensors and loaded strictly; nothing is ever put in its place. The
authors' sets are made from the files that they publish, by `fetch_weights` or `convert_weights`.
What is known of each set is in ``fusionlib/weights.toml``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .card import WeightFile, WeightUser
from .checkpoints import Checkpoint, PublishedFile, read_checkpoint
from .errors import WeightsMismatch, WeightsNotFound, unknown
from .files import atomic_file, check_writable

if TYPE_CHECKING:
    import pandas as pd

    from .classical import Algorithm


__all__ = [
    "Obtained",
    "cache_folder",
    "check_file",
    "check_fit",
    "convert_weights",
    "digest",
    "download",
    "fetch_weights",
    "find_weights",
    "load_into",
    "load_state",
    "places",
    "read_facts",
    "read_weights",
    "save_weights",
    "training_facts",
    "training_losses",
    "verify_weights",
    "weight_files",
    "weight_sets",
    "write_tensors",
]


#: Of weight files, in the order of preference.
SUFFIXES = (".safetensors", ".npz")

#: What to do about a missing set of this project.
RESTORE = "They are part of this project: restore the file with git, or reinstall."

#: Addresses of a file at a full commit, and at a short one or a branch.
FULL = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"
SHORT = "https://github.com/{repository}/raw/{commit}/{path}"
#: Of a file that was attached to a release.
RELEASE = "https://github.com/{repository}/releases/download/{commit}/{path}"

#: More files than these are not listed one by one in a text.
FEW = 4


# ---------------------------------------------------------------- what is known of each set


def weight_files(*names: str) -> tuple[WeightFile, ...]:
    """Return the weight sets of these names, as a method's file states them.

    Raises
    ------
    UnknownName
        If ``weights.toml`` has no table of that name.
    """
    for name in names:
        if name not in weight_sets():
            known = unknown("weight set", name, weight_sets())
            raise type(known)(f"{known} A new one is a table [{name}] in fusionlib/weights.toml.")
    return tuple(weight_sets()[name] for name in names)


@functools.cache
def weight_sets() -> Mapping[str, WeightFile]:
    """Return every set of ``weights.toml`` by name."""
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {name: _weight_set(name, table) for name, table in tables.items()}


def _weight_set(name: str, table: dict[str, Any]) -> WeightFile:
    """Turn a table of the file into objects; whatever does not belong there is an error."""
    repository, commit = table.pop("repository", ""), table.pop("commit", "")
    form = FULL if len(commit) == 40 else SHORT
    if table.pop("release", False):
        form = RELEASE

    def published(file: dict[str, Any]) -> PublishedFile:
        url = form.format(repository=repository, commit=commit, path=quote(file["path"]))
        return PublishedFile(url=url, **file)

    checkpoints = tuple(
        Checkpoint(
            **{
                **one,
                "files": tuple(map(published, one["files"])),
                "members": tuple(one.get("members", ())),
            }
        )
        for one in table.pop("checkpoints", ())
    )
    origin = ""
    if repository:
        paths = [one.files[0].path.removesuffix(".index") for one in checkpoints]
        origin = f"github.com/{repository} @{commit[:7]} {_listed(paths)}"
    facts = {"digest": "", **table}
    return WeightFile(name=name, origin=origin, checkpoints=checkpoints, **facts)


def _listed(items: Sequence[object]) -> str:
    """Name a few things in a text, of many the first and the last."""
    if len(items) > FEW:
        return f"{len(items)} files, {items[0]} to {items[-1]}"
    return " and ".join(map(str, items))


def _published_files(entry: WeightFile) -> list[PublishedFile]:
    return [file for one in entry.checkpoints for file in one.files]


# ---------------------------------------------------------------- where they are found


def places(directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the directories where weights are looked for, in order."""
    candidates = [
        directory,
        os.environ.get("FUSIONLIB_WEIGHTS"),
        cache_folder() / "weights",
        Path(__file__).parent / "weights",
    ]
    return [Path(place) for place in candidates if place]


def cache_folder() -> Path:
    """Return the folder of this user for what can be fetched or computed again."""
    import pooch

    return Path(pooch.os_cache("irvis-fusionlib"))


def find_weights(
    entry: WeightFile,
    directory: str | os.PathLike[str] | None = None,
    *,
    alternatives: Iterable[WeightFile] = (),
    program: str = "fusionlib",
) -> Path:
    """Return the path of the first file of that name.

    Parameters
    ----------
    entry : WeightFile
        What to find.
    directory : path, optional
        Where to look first.
    alternatives : iterable of WeightFile
        Other sets for the same network; the error names those of this project.
    program : str
        Whose command `weights` gets it, for the error.

    Raises
    ------
    WeightsNotFound
        If it is in none of the `places`; the message says where to get it.
    """
    searched = places(directory)
    for place in searched:
        for suffix in SUFFIXES:
            path = place / f"{entry.name}{suffix}"
            if path.is_file():
                return path
    message = (
        f"the weights {entry.name!r} were not found: {entry.name}.safetensors is in none of "
        f"{', '.join(f'{place}{_absent(place)}' for place in searched)}."
    )
    if entry.digest:
        message += f" Its {entry.parameters:,} values must have the hash {entry.digest}."
    if not entry.origin:
        raise WeightsNotFound(message, _own_remedy(entry))
    folder = "set FUSIONLIB_WEIGHTS to a folder that holds it."
    if entry.checkpoints:
        message += f" Fetched, it will be {_target(entry, directory)}."
        remedy = (
            f"`{program} weights fetch {entry.name}` makes it from "
            f"{_listed(_published_files(entry))} (licence: {entry.licence}), `{program} weights "
            f"convert {entry.name} FILE` from what you downloaded yourself; or {folder}"
        )
    else:  # a set that somebody made without saying where its files are
        remedy = (
            f"It is published as {entry.origin} (licence: {entry.licence}), from where it cannot "
            f"be fetched here; {folder}"
        )
    ours = [repr(other.name) for other in alternatives if other.packaged]
    if ours:
        remedy += f" Trained by this project, to be had at once: weights={' or '.join(ours)}."
    raise WeightsNotFound(message, remedy)


def _published(entry: WeightFile) -> list[PublishedFile]:
    """Return the files that the authors publish; errors as `fetch_weights`."""
    if not entry.origin:
        raise WeightsNotFound(
            f"nobody else publishes the weights {entry.name!r}.", _own_remedy(entry)
        )
    if not entry.checkpoints:
        raise WeightsNotFound(
            f"the weights {entry.name!r} are published as {entry.origin}, but nothing says in "
            "which files. Add them to its table in fusionlib/weights.toml."
        )
    return _published_files(entry)


def _own_remedy(entry: WeightFile) -> str:
    """What to do where weights of this project are not there."""
    if entry.made_by:
        return f"Train them, `{entry.made_by}`, and set FUSIONLIB_WEIGHTS to their folder."
    return RESTORE


def _absent(place: Path) -> str:
    """Return a remark on a folder that is not there: perhaps the variable is misspelt."""
    return "" if place.is_dir() else " (no such folder)"


def _target(entry: WeightFile, directory: str | os.PathLike[str] | None) -> Path:
    """Return the file that fetching or converting writes."""
    return places(directory)[0] / f"{entry.name}.safetensors"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors by name, type, shape and content, whatever file they came from.

    Returns
    -------
    str
        Hexadecimal sha256.
    """
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # As bytes, since NumPy does not know bfloat16.
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read all tensors of a safetensors or .npz file.

    Raises
    ------
    WeightsNotFound
        If there is no such file.
    WeightsMismatch
        If it is not a whole file of its kind, or does not hold numbers.
    """
    if Path(path).suffix == ".npz":
        return _read_arrays(path)
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_arrays(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    _check_is_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file}
    except Exception as error:  # of many types, depending on where a file is damaged
        raise WeightsMismatch(
            f"{path} is not a readable .npz file of numbers ({error}). Copy it again, or save "
            "float64 arrays."
        ) from error


def _check_is_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise WeightsNotFound(f"no such weight file: {path}. Check the spelling.")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a safetensors file; errors as `read_weights`."""
    _check_is_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsMismatch(
            f"{path} is not a readable safetensors file ({error}). Copy or convert it again."
        ) from error


def verify_weights(entry: WeightFile, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a weight file and check that it holds exactly the registered tensors.

    Where no hash is registered there is nothing to compare with: what remains is that the
    network loads them strictly.

    Raises
    ------
    WeightsNotFound, WeightsMismatch
        If it cannot be read, or its content has another hash.
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


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Load a state dict strictly.

    Raises
    ------
    WeightsMismatch
        Naming the first tensors that are missing, extra, misshapen or no floating-point
        numbers where the network has such, and how many there are.
    """
    own = network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing = expected.keys() - found.keys()
    extra = found.keys() - expected.keys()
    both = expected.keys() & found.keys()
    faults = {
        "missing": [f"{name} {expected[name]}" for name in missing],
        "extra": [f"{name} {found[name]}" for name in extra],
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
    if any(faults.values()):
        kinds = "; ".join(_first(kind, each) for kind, each in faults.items() if each)
        raise WeightsMismatch(
            f"{source} does not fit {type(network).__name__} of {len(expected)} tensors: {kinds}. "
            "Use weights of this network and variant."
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})


def _first(kind: str, faults: Sequence[str], most: int = 3) -> str:
    """Say how many there are and which come first."""
    more = ", ..." if len(faults) > most else ""
    return f"{len(faults)} {kind}: {', '.join(sorted(faults)[:most])}{more}"


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module,
    facts: Mapping[str, object],
    *,
    half: bool = False,
) -> None:
    """Write a network's weights with facts about their training in the file's header.

    The file is written whole or not at all.

    Parameters
    ----------
    path : path-like
    network : nn.Module
    facts : mapping of str to object
        Written as text.
    half : bool
        Whether to keep 16 bits of each value; tensors with values beyond their range keep 32.

    Raises
    ------
    FusionError
        If it cannot be written there.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        state = {name: _halved(tensor) for name, tensor in state.items()}
    write_tensors(path, state, facts)


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if half.isfinite().all() else tensor


def write_tensors(
    path: str | os.PathLike[str], tensors: dict[str, Tensor], facts: Mapping[str, object]
) -> None:
    """Write tensors, with facts as text in the header, whole or not at all.

    Raises
    ------
    FusionError
        If they cannot be written there.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, {name: str(value) for name, value in facts.items()}))


def training_facts(settings: Mapping[str, object], device: str) -> dict[str, object]:
    """Return what a weight file should say of its training: settings, machine, versions."""
    return {
        **settings,
        "trained_by": "python -m reproduction train",
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def training_losses(name: str) -> pd.DataFrame:
    """Return the losses of every iteration of weights that this project trained.

    Parameters
    ----------
    name : str
        As in `fusionlib.methods.list_weights`.

    Raises
    ------
    WeightsNotFound
        If there is no record of that training.
    """
    import pandas as pd

    path = Path(__file__).parent / "weights" / f"{name}.losses.csv"
    if not path.is_file():
        raise WeightsNotFound(f"no record of the training of {name!r}: {path} is not there.")
    return pd.read_csv(path)


def read_facts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the facts that `save_weights` wrote into a file's header; a .npz file has none.

    Raises
    ------
    WeightsNotFound, WeightsMismatch
        As `read_weights`.
    """
    if Path(path).suffix == ".npz":
        return {}
    with _opened(path) as file:
        return file.metadata() or {}


# ---------------------------------------------------------------- from the authors' files


class Obtained(NamedTuple):
    """A weight set that was fetched or converted.

    Attributes
    ----------
    path : Path
        The safetensors file.
    new : bool
        Whether it was written now; it is left alone where it was right already.
    verified : bool
        Whether its tensors were compared with the registered hash. Where none is known, they
        were only loaded into the network.
    """

    path: Path
    new: bool
    verified: bool


def fetch_weights(
    entry: WeightFile,
    configuration: WeightUser,
    directory: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
) -> Obtained:
    """Download a set from the authors and convert it; a file that is there and right is kept.

    Parameters
    ----------
    entry : WeightFile
        What to fetch.
    configuration : Configuration
        The one it belongs to.
    directory : path, optional
        Where to put it, made if missing; by default ``$FUSIONLIB_WEIGHTS``, else the user's cache.
    progress : bool
        Show a progress bar.

    Raises
    ------
    WeightsNotFound
        If a download fails, or the set is not published but part of this project.
    WeightsMismatch
        If what arrives is not the published file, or not the registered weights.
    FusionError
        If the file cannot be written there.
    """
    published, path = _published(entry), _target(entry, directory)
    if _is_right(entry, configuration, path):
        return Obtained(path, new=False, verified=bool(entry.digest))
    check_writable(path)
    downloads = cache_folder() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=downloads) as folder:
            files = [
                download(file, Path(folder) / str(i), progress=progress)
                for i, file in enumerate(published)
            ]
            return _convert(entry, configuration, files, path)
    except (WeightsNotFound, WeightsMismatch) as error:
        raise type(error)(
            f"{entry.name} could not be fetched from {_listed(published)}; nothing was written to "
            f"{path}. {error} If you can download the files otherwise: `fusionlib weights convert "
            f"{entry.name} FILE...`."
        ) from error


def convert_weights(
    entry: WeightFile,
    configuration: WeightUser,
    files: Sequence[str | os.PathLike[str]],
    directory: str | os.PathLike[str] | None = None,
) -> Obtained:
    """Make a set from the authors' files as they were downloaded.

    Parameters
    ----------
    entry, configuration, directory
        As for `fetch_weights`.
    files : sequence of path
        All files that the authors publish for it, in any order, under their own names; a
        set of one file may have another name.

    Raises
    ------
    WeightsNotFound, WeightsMismatch, FusionError
        As `fetch_weights`.
    """
    published, path = _published(entry), _target(entry, directory)
    given = _in_order(entry, published, [Path(file) for file in files])
    for file, one in zip(given, published, strict=True):
        check_file(file, one)
    return _convert(entry, configuration, given, path)


def _in_order(
    entry: WeightFile, published: Sequence[PublishedFile], files: Sequence[Path]
) -> list[Path]:
    """Bring the user's files into the order of the published ones."""
    if len(files) == len(published) == 1:
        return list(files)
    by_name = {path.name: path for path in files}
    names = [file.name for file in published]
    if sorted(path.name for path in files) != sorted(names):
        raise WeightsMismatch(
            f"{entry.name} is made from {' and '.join(names)}, given: "
            f"{', '.join(map(str, files))}. They are published as {_listed(published)}."
        )
    return [by_name[name] for name in names]


def _convert(
    entry: WeightFile, configuration: WeightUser, files: Sequence[Path], path: Path
) -> Obtained:
    """Read the published files, check the tensors, write them."""
    tensors: dict[str, Tensor] = {}
    rest = iter(files)
    for checkpoint in entry.checkpoints:
        tensors |= read_checkpoint(checkpoint, [next(rest) for _ in checkpoint.files])
    what = " and ".join(file.name for file in files)
    _check_digest(entry, tensors, what)
    if not entry.digest:
        check_fit(configuration, tensors, what)
    origins = [
        f"{published.url} sha256 {_hash(file, hashlib.sha256())}"
        for published, file in zip(_published_files(entry), files, strict=True)
    ]
    write_tensors(
        path, tensors, {"source": ", ".join(origins), "converted_by": "fusionlib weights"}
    )
    return Obtained(path, new=True, verified=bool(entry.digest))


def _is_right(entry: WeightFile, configuration: WeightUser, path: Path) -> bool:
    """Whether a file is there and holds the registered weights, or fits if no hash is known."""
    try:
        tensors = verify_weights(entry, path)
        if not entry.digest:
            check_fit(configuration, tensors, path)
    except (WeightsNotFound, WeightsMismatch):
        return False
    return True


def check_fit(configuration: WeightUser, tensors: dict[str, Tensor], source: object) -> None:
    """Load tensors strictly into a network or algorithm of the configuration.

    Raises
    ------
    WeightsMismatch
        As `load_into`.
    """
    load_into(configuration, configuration.build(*configuration.rules[:1]), tensors, source)


def load_into(
    configuration: WeightUser,
    fuser: nn.Module | Algorithm,
    tensors: dict[str, Tensor],
    source: object,
) -> None:
    """Load the tensors of a weight file into what a configuration has built.

    Raises
    ------
    WeightsMismatch
        As `load_state`, or `Algorithm.load`.
    """
    adapted = configuration.adapt(tensors) if configuration.adapt else tensors
    if isinstance(fuser, nn.Module):
        load_state(fuser, adapted, source)
    else:
        fuser.load(adapted, source)


# ---------------------------------------------------------------- downloads


def download(published: PublishedFile, folder: Path, *, progress: bool = True) -> Path:
    """Download a file into a folder and check it.

    Raises
    ------
    WeightsNotFound
        If the download fails.
    WeightsMismatch
        If what arrives is not the published file.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # else it prints the hash of a file without a known one
    try:
        # Known hashes are checked below, with the size and git's id.
        pooch.retrieve(
            published.url,
            known_hash=None,
            fname=published.name,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=progress),
        )
    except Exception as error:  # of requests or of the file system
        reason = " ".join(str(error).split())
        raise WeightsNotFound(
            f"Downloading {published.name} failed ({type(error).__name__}: {reason})."
        ) from error
    check_file(folder / published.name, published)
    return folder / published.name


def check_file(path: Path, published: PublishedFile) -> None:
    """Compare a file with what is known of the published one, before anything opens it.

    Raises
    ------
    WeightsNotFound
        If there is no such file.
    WeightsMismatch
        If its size or a hash differs.
    """
    if not path.is_file():
        raise WeightsNotFound(f"no such file: {path}")
    size = path.stat().st_size
    # Git's id is the sha1 of the file behind a heading.
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for kind, found, expected in (
        ("size", size, published.size),
        ("sha256", _hash(path, hashlib.sha256()), published.sha256),
        ("git blob", _hash(path, blob), published.blob),
    ):
        if expected not in (None, "", found):
            raise WeightsMismatch(
                f"{path.name} is not the file published at {published.url}: its {kind} is {found}, "
                f"expected {expected}. It was not opened."
            )


def _hash(path: Path, begun: hashlib._Hash) -> str:
    """Go on with a hash over a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: begun).hexdigest()
