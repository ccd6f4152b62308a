"""Trained weights: where they are found, whether they are the right ones, loading, saving.

Weights are safetensors files. They are looked for in the directory given, then in
``$FUSIONLIB_WEIGHTS``, then in the user's cache, then in ``fusionlib/weights/``, which
holds those trained by this project. A file that was found is checked by a hash over its
tensors and loaded strictly; nothing is ever put in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .card import WeightFile
from .errors import WeightsMismatch, WeightsNotFound
from .files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

    from .training import TrainingConfig

__all__ = [
    "digest",
    "find_weights",
    "load_state",
    "places",
    "read_facts",
    "read_weights",
    "save_weights",
    "training_facts",
    "training_losses",
    "verify_weights",
]


def places(directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the directories where weights are looked for, in order."""
    import pooch

    candidates = [
        directory,
        os.environ.get("FUSIONLIB_WEIGHTS"),
        Path(pooch.os_cache("irvis-fusionlib")) / "weights",
        Path(__file__).parent / "weights",
    ]
    return [Path(place) for place in candidates if place]


def find_weights(entry: WeightFile, directory: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the first file of that name.

    Raises
    ------
    WeightsNotFound
        If it is in none of the `places`; the message says where to get it.
    """
    searched = places(directory)
    for place in searched:
        path = place / f"{entry.name}.safetensors"
        if path.is_file():
            return path
    if entry.origin:
        remedy = (
            f"The authors publish them at {entry.origin} (licence: {entry.licence}). Convert "
            f"that file to {entry.name}.safetensors, tensor names kept, and set "
            "FUSIONLIB_WEIGHTS to the folder that holds it."
        )
    else:
        remedy = "They are part of this project: restore the file with git, or reinstall."
    raise WeightsNotFound(
        f"the weights {entry.name!r} were not found in {', '.join(map(str, searched))}.", remedy
    )


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
    """Read all tensors of a safetensors file.

    Raises
    ------
    WeightsNotFound
        If there is no such file.
    WeightsMismatch
        If it is not a whole safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a safetensors file; errors as `read_weights`."""
    if not Path(path).is_file():
        raise WeightsNotFound(f"no such weight file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsMismatch(
            f"{path} is not a readable safetensors file ({error}). Copy or convert it again."
        ) from error


def verify_weights(entry: WeightFile, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a weight file and check that it holds exactly the registered tensors.

    Raises
    ------
    WeightsNotFound, WeightsMismatch
        If it cannot be read, or its content has another hash.
    """
    tensors = read_weights(path)
    found = digest(tensors)
    if found != entry.digest:
        raise WeightsMismatch(
            f"{path} does not hold the registered weights {entry.name!r}: the hash of its "
            f"tensors is {found}, expected {entry.digest}. Get the file again; to use "
            "weights of your own, give their path as weights=..."
        )
    return tensors


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Load a state dict strictly.

    Raises
    ------
    WeightsMismatch
        Naming every missing, extra and misshapen tensor.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = [f"missing {name} {expected[name]}" for name in expected.keys() - found.keys()]
    faults += [f"extra {name} {found[name]}" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} is {found[name]}, expected {expected[name]}"
        for name in expected.keys() & found.keys()
        if expected[name] != found[name]
    ]
    if faults:
        raise WeightsMismatch(
            f"{source} does not fit {type(network).__name__}: {'; '.join(sorted(faults))}. "
            "Use weights of this network and variant."
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})


def save_weights(
    path: str | os.PathLike[str], network: nn.Module, facts: Mapping[str, object]
) -> None:
    """Write a network's weights with facts about their training in the file's header.

    The file is written whole or not at all.

    Raises
    ------
    FusionError
        If it cannot be written there.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(state, {name: str(value) for name, value in facts.items()}))


def training_facts(config: TrainingConfig, images: Sequence[str], device: str) -> dict[str, object]:
    """Return what a weight file should say of its training: settings, images, machine, versions."""
    return {
        **asdict(config),
        "images": ", ".join(images),
        "trained_by": "fusionlib train",
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
    """Return the facts that `save_weights` wrote into a file's header.

    Raises
    ------
    WeightsNotFound, WeightsMismatch
        As `read_weights`.
    """
    with _opened(path) as file:
        return file.metadata() or {}
