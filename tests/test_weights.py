"""weights: hashes, search order, strict loading, whole files, and those committed here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fusionlib import weights
from fusionlib.card import WeightFile
from fusionlib.errors import FusionError, WeightsMismatch, WeightsNotFound
from fusionlib.methods import registry
from fusionlib.weights import (
    digest,
    find_weights,
    load_state,
    places,
    read_facts,
    read_weights,
    save_weights,
    training_losses,
    verify_weights,
)

COMMITTED = sorted((Path(weights.__file__).parent / "weights").glob("*.safetensors"))
OURS = WeightFile("mine", "0" * 64, 10, "here", "MIT, this project")
THEIRS = WeightFile("theirs", "0" * 64, 10, "there", "none stated", "github.com/a/b @123 model.pt")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Neither the user's cache nor the environment decides a test."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "b": torch.rand(3, 2, generator=generator),
        "a": torch.rand(4, generator=generator).double(),
    }


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1))


# ---------------------------------------------------------------- hashes


def test_digest_is_of_name_type_shape_and_bytes():
    text = b""
    for name, tensor in sorted(tensors().items()):
        text += f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + tensor.numpy().tobytes()
    assert digest(tensors()) == hashlib.sha256(text).hexdigest()


def test_digest_knows_neither_order_nor_file_nor_memory_layout(tmp_path):
    state = tensors()
    save_file(state, tmp_path / "a.safetensors")
    save_file(state, tmp_path / "b.safetensors", metadata={"any": "fact"})
    a, b = (read_weights(tmp_path / f"{name}.safetensors") for name in "ab")
    reverse = dict(reversed(state.items()))
    strided = {**state, "b": state["b"].T.contiguous().T}
    assert not strided["b"].is_contiguous()
    assert {digest(s) for s in (state, reverse, strided, a, b)} == {digest(state)}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {**s, "b": s["b"] + torch.tensor([0, 1e-6])},
        lambda s: {**s, "b": s["b"].view(2, 3)},
        lambda s: {**s, "b": s["b"].view(torch.int32)},
        lambda s: {"a": s["a"], "c": s["b"]},
        lambda s: {"a": s["a"]},
    ],
)
def test_digest_sees_every_change(change):
    assert digest(change(tensors())) != digest(tensors())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_digest_of_any_type(dtype):
    ones, zeros = ({"x": f(3, dtype=dtype)} for f in (torch.ones, torch.zeros))
    assert digest(ones) != digest(zeros)
    assert digest({"x": torch.ones((), dtype=dtype)}) != digest(ones)


# ---------------------------------------------------------------- places


def test_places_in_order(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(tmp_path / "environment"))
    cache = tmp_path / "cache" / "irvis-fusionlib" / "weights"
    package = Path(weights.__file__).parent / "weights"
    expected = [tmp_path / "given", tmp_path / "environment", cache, package]
    assert places(tmp_path / "given") == expected
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", "")
    assert places() == [cache, package]


def test_the_first_place_wins(monkeypatch, tmp_path):
    folders = [tmp_path / "given", tmp_path / "env", tmp_path / "cache/irvis-fusionlib/weights"]
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(folders[1]))
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "mine.safetensors").touch()
    for folder in folders:
        path = folder / "mine.safetensors"
        assert find_weights(OURS, folders[0]) == path
        path.unlink()
    with pytest.raises(WeightsNotFound):
        find_weights(OURS, folders[0])


@pytest.mark.parametrize(
    "entry, remedy",
    [
        (OURS, "restore the file with git"),
        (THEIRS, "github.com/a/b @123 model.pt (licence: none stated)"),
    ],
)
def test_not_found_tells_places_and_remedy(entry, remedy, tmp_path):
    with pytest.raises(WeightsNotFound) as error:
        find_weights(entry, tmp_path / "given")
    message = str(error.value)
    assert repr(entry.name) in message and remedy in message
    assert all(str(place) in message for place in places(tmp_path / "given"))
    assert ("FUSIONLIB_WEIGHTS" in message) == bool(entry.origin)


# ---------------------------------------------------------------- reading


def test_missing_file(tmp_path):
    for read in (read_weights, read_facts):
        with pytest.raises(WeightsNotFound, match=r"gone\.safetensors"):
            read(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("length", [0, 7, 40, -1])
def test_truncated_file(tmp_path, length):
    path = tmp_path / "cut.safetensors"
    save_file(tensors(), path)
    path.write_bytes(path.read_bytes()[:length])
    for read in (read_weights, read_facts):
        with pytest.raises(WeightsMismatch, match=r"cut\.safetensors is not a readable"):
            read(path)


def test_verify_wants_the_registered_hash(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(tensors(), path)
    entry = WeightFile("mine", digest(tensors()), 10, "here", "MIT")
    assert digest(verify_weights(entry, path)) == entry.digest
    with pytest.raises(WeightsMismatch, match=r"mine\.safetensors does not hold") as error:
        verify_weights(OURS, path)
    assert OURS.digest[:8] in str(error.value) and entry.digest[:8] in str(error.value)


# ---------------------------------------------------------------- loading


def test_load_state():
    net = network()
    state = {name: torch.rand_like(tensor) for name, tensor in net.state_dict().items()}
    load_state(net, state, "here")
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in state.items())


def test_other_float_types_become_float32():
    net = network()
    load_state(net, {n: t.bfloat16() for n, t in network().state_dict().items()}, "here")
    assert {t.dtype for t in net.state_dict().values()} == {torch.float32}


def test_every_fault_is_named():
    state = network().state_dict()
    del state["0.bias"], state["1.bias"]
    state |= {"2.weight": torch.ones(4), "0.weight": torch.ones(2, 1, 5, 5)}
    with pytest.raises(WeightsMismatch) as error:
        load_state(network(), state, "some/file")
    assert str(error.value).startswith(
        "some/file does not fit Sequential: 0.weight is (2, 1, 5, 5), expected (2, 1, 3, 3); "
        "extra 2.weight (4,); missing 0.bias (2,); missing 1.bias (1,)."
    )


def test_a_refused_state_changes_nothing():
    net, state = network(), network().state_dict()
    before = digest(net.state_dict())
    with pytest.raises(WeightsMismatch):
        load_state(net, {name: t + 1 for name, t in state.items() if name != "1.bias"}, "here")
    assert digest(net.state_dict()) == before


# ---------------------------------------------------------------- saving


def test_round_trip_with_facts(tmp_path):
    path = tmp_path / "new folder" / "mine.safetensors"
    net = network().to(memory_format=torch.channels_last)
    save_weights(path, net, {"iterations": 2000, "images": "a.jpg"})
    assert read_facts(path) == {"iterations": "2000", "images": "a.jpg"}
    for state in (read_weights(path), load_file(path)):
        assert digest(state) == digest(net.state_dict())


def test_writing_is_atomic(tmp_path, monkeypatch):
    """A failure half way leaves the old file and no other."""
    path = tmp_path / "mine.safetensors"
    save_weights(path, network(), {})
    before = path.read_bytes()

    def half(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(FusionError, match="No space left"):
        save_weights(path, nn.Conv2d(1, 1, 1), {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_unwritable_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match="cannot write"):
        save_weights(tmp_path / "file" / "mine.safetensors", network(), {})


# ---------------------------------------------------------------- committed files


def registered():
    return {
        entry.name: (entry, configuration)
        for spec in registry().values()
        for configuration in spec.configurations.values()
        for entry in configuration.weights
    }


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_weights(path):
    entry, configuration = registered()[path.stem]
    state = verify_weights(entry, path)
    load_state(configuration.build("l1_norm"), state, path)
    assert path.stat().st_size < 5e6
    assert sum(t.numel() for t in state.values()) == entry.parameters
    assert all(torch.isfinite(t).all() for t in state.values())
    assert not entry.origin and "MIT" in entry.licence


def test_every_set_of_this_project_is_committed():
    ours = {name for name, (entry, _) in registered().items() if not entry.origin}
    assert ours == {path.stem for path in COMMITTED}


def test_recorded_losses_of_a_training():
    losses = training_losses("res2netfuse_1_released_coco86")
    assert losses["iteration"].tolist() == list(range(1, 2001))
    assert np.allclose(losses["total"], losses["pixel"] + losses["ssim"], atol=1e-6)
    with pytest.raises(WeightsNotFound, match="densefuse"):
        training_losses("densefuse")
