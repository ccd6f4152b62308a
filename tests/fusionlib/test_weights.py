"""weights: the table of sets, hashes, search order, loading, fetching and converting."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.io import savemat
from torch import nn

from fusionlib import weights
from fusionlib.__main__ import main
from fusionlib.card import Configuration, MethodSpec, WeightFile
from fusionlib.checkpoints import READERS, Checkpoint, PublishedFile
from fusionlib.errors import FusionError, UnknownName, WeightsMismatch, WeightsNotFound
from fusionlib.methods import registry
from fusionlib.weights import (
    check_file,
    convert_weights,
    digest,
    download,
    fetch_weights,
    find_weights,
    load_into,
    load_state,
    places,
    read_facts,
    read_weights,
    save_weights,
    training_losses,
    verify_weights,
    weight_files,
    weight_sets,
)
from reproduction.commands.detect import weight_users
from tests.fusionlib.bundles import DATA, INDEX, write_bundle
from tests.recipe import GAINS, recipe_state
from tests.web import serve

COMMITTED = sorted((Path(weights.__file__).parent / "weights").glob("*.safetensors"))
OURS = WeightFile("mine", "0" * 64, 10, "here", "MIT, this project")
THEIRS = WeightFile("theirs", "0" * 64, 23, "there", "none stated", "github.com/a/b model.pt")


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


# ---------------------------------------------------------------- the table of sets


def test_every_set_is_of_something():
    """And nothing has another: a method's, or a detector's."""
    assert {entry.name: entry for entry in weight_users()} == weight_sets()


@pytest.mark.parametrize("name", sorted(weight_sets()))
def test_shipped_sets_are_sound(name):
    entry = weight_sets()[name]
    assert re.fullmatch("[0-9a-f]{64}|", entry.digest) and entry.parameters > 0
    assert entry.trained and entry.licence and not (entry.origin and entry.made_by)
    assert bool(entry.checkpoints) == bool(entry.origin)
    for one in entry.checkpoints:
        names = one.members or [file.name for file in one.files]
        if one.format == "tensorflow":
            assert [name[-6:] for name in names] == [INDEX, DATA[-6:]]
            assert names[0].removesuffix(INDEX) == names[1].removesuffix(DATA)
        else:
            assert one.format in (*READERS, "modules") and len(names) == 1
        assert len(one.files) == (1 if one.members else len(names))
        assert (one.files[0].name.endswith(".zip")) == bool(one.members)
        re.compile(one.keep)
    files = [file for one in entry.checkpoints for file in one.files]
    assert len({file.name for file in files}) == len(files)
    for file in files:
        assert urlparse(file.url).scheme == "https" and file.url.endswith(f"/{file.path}")
        assert re.fullmatch("[0-9a-f]{64}|", file.sha256) and re.fullmatch(
            "[0-9a-f]{40}|", file.blob
        )


def test_addresses():
    """A full commit is addressed directly, a short one through the page that resolves it."""
    found = {
        name: [file.url for one in weight_sets()[name].checkpoints for file in one.files]
        for name in ("densefuse", "u2fusion", "yolov5s")
    }
    assert found == {
        "densefuse": [
            "https://raw.githubusercontent.com/hli1221/densefuse-pytorch/"
            "4394b63e9295db1c6b7a5c3664551c90f0605f2b/models/densefuse_gray.model"
        ],
        "u2fusion": [
            f"https://github.com/hanna-xu/U2Fusion/raw/0a58821/model/model.ckpt{end}"
            for end in (INDEX, DATA)
        ],
        "yolov5s": ["https://github.com/ultralytics/yolov5/releases/download/v6.1/yolov5s.pt"],
    }
    assert (
        weight_sets()["u2fusion"].origin == "github.com/hanna-xu/U2Fusion @0a58821 model/model.ckpt"
    )


def test_a_network_without_a_table():
    assert [entry.name for entry in weight_files("lrrnet", "msdnet")] == ["lrrnet", "msdnet"]
    with pytest.raises(
        UnknownName, match=r"set 'lrnet'. Did you mean 'lrrnet'.* table \[lrnet\] in fusionlib/wei"
    ):
        weight_files("lrnet")


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


# ---------------------------------------------------------------- NumPy's files


def test_npz_files(tmp_path):
    arrays = {name: tensor.numpy() for name, tensor in tensors().items()}
    np.savez(tmp_path / "x.npz", **arrays)
    found = read_weights(tmp_path / "x.npz")
    assert digest(found) == digest(tensors())
    assert read_facts(tmp_path / "x.npz") == {}


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no zip", "object", "cut", "flipped"])
def test_bad_npz_files(tmp_path, content):
    path = tmp_path / "x.npz"
    np.savez_compressed(
        path, a=np.array([{}], dtype=object) if content == "object" else np.ones(999)
    )
    whole = path.read_bytes()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        path.write_bytes(whole[:-200])
    elif content == "flipped":  # in the compressed data: an error of zlib's
        path.write_bytes(whole[:40] + bytes(255 - x for x in whole[40:60]) + whole[60:])
    with pytest.raises(WeightsMismatch, match=r"x\.npz is not a readable \.npz file"):
        read_weights(path)
    with pytest.raises(WeightsNotFound, match="no such weight file"):
        read_weights(tmp_path / "gone.npz")


def test_safetensors_come_before_npz(tmp_path):
    entry = registered()["jsr_dictionaries"][0]
    (tmp_path / "jsr_dictionaries.npz").touch()
    assert find_weights(entry, tmp_path).suffix == ".npz"
    (tmp_path / "jsr_dictionaries.safetensors").touch()
    assert find_weights(entry, tmp_path).suffix == ".safetensors"


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


def test_a_missing_set_of_this_project(tmp_path):
    with pytest.raises(WeightsNotFound, match="restore the file with git") as error:
        find_weights(OURS, tmp_path / "given")
    assert "mine" in str(error.value) and "FUSIONLIB_WEIGHTS" not in str(error.value)
    assert all(str(place) in str(error.value) for place in places(tmp_path / "given"))
    assert f"{tmp_path / 'given'} (no such folder)" in str(error.value)


def test_a_missing_set_of_the_authors(tmp_path):
    """One message says where it was looked for, where it comes from, and what to do."""
    file = PublishedFile("model.pt", "https://x/model.pt", 5000, "ab12")
    entry = published(Checkpoint("pytorch", (file,)))
    with pytest.raises(WeightsNotFound) as error:
        find_weights(entry, tmp_path / "given", alternatives=(entry, OURS))
    message = str(error.value)
    for words in (
        *map(str, places(tmp_path / "given")),
        "https://x/model.pt (5,000 bytes, sha256 ab12)",
        f"Its 23 values must have the hash {'0' * 64}",
        "licence: none stated",
        f"will be {tmp_path / 'given' / 'theirs.safetensors'}",
        "`fusionlib weights fetch theirs`",
        "`fusionlib weights convert theirs FILE`",
        "FUSIONLIB_WEIGHTS",
        "weights='mine'",
    ):
        assert words in message
    assert "\n" not in message and message.endswith(error.value.remedy)
    assert str(tmp_path) not in error.value.remedy  # the same on every machine
    with pytest.raises(WeightsNotFound) as error:
        find_weights(replace(entry, digest=""), alternatives=(entry,))
    assert "Trained by this project" not in str(error.value)
    assert "must have the hash" not in str(error.value)


def test_a_missing_set_of_which_no_file_is_known(tmp_path):
    """What is said of a set with an origin that somebody made without saying where it is."""
    with pytest.raises(WeightsNotFound, match=r"published as github\.com/a/b model\.pt") as error:
        find_weights(THEIRS, tmp_path, alternatives=(THEIRS, OURS))
    assert "licence: none stated" in str(error.value) and "weights='mine'" in str(error.value)
    assert "weights fetch" not in str(error.value) and "will be" not in str(error.value)


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


def test_nothing_to_verify_without_a_hash(tmp_path):
    save_file(tensors(), tmp_path / "mine.safetensors")
    entry = replace(OURS, digest="")
    assert digest(verify_weights(entry, tmp_path / "mine.safetensors")) == digest(tensors())
    (tmp_path / "mine.safetensors").write_bytes(b"half a fi")
    with pytest.raises(WeightsMismatch, match="not a readable"):
        verify_weights(entry, tmp_path / "mine.safetensors")


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


def test_every_kind_of_fault_is_named():
    state = network().state_dict()
    del state["0.bias"], state["1.bias"]
    state |= {"2.weight": torch.ones(4), "0.weight": torch.ones(2, 1, 5, 5)}
    with pytest.raises(WeightsMismatch) as error:
        load_state(network(), state, "some/file")
    assert str(error.value).startswith(
        "some/file does not fit Sequential of 4 tensors: 2 missing: 0.bias (2,), 1.bias (1,); "
        "1 extra: 2.weight (4,); 1 misshapen: 0.weight is (2, 1, 5, 5), expected (2, 1, 3, 3). "
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
def test_no_floating_point_numbers(dtype):
    state = {name: tensor.to(dtype) for name, tensor in network().state_dict().items()}
    with pytest.raises(WeightsMismatch, match=rf"4 of another type: 0.bias is {dtype}, expected"):
        load_state(network(), state, "some/file")


def test_many_faults_are_counted():
    """The weights of another network are one short line, not one of all their names."""
    net = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(100)))
    state = {f"x.{name}": tensor for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsMismatch) as error:
        load_state(net, state, "some/file")
    assert "200 missing: 0.bias (1,), 0.weight (1, 1, 1, 1), 1.bias (1,), ...;" in str(error.value)
    assert "200 extra: x.0.bias (1,), x.0.weight" in str(error.value)
    assert len(str(error.value)) < 300


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
    load_into(configuration, configuration.build(*configuration.rules[:1]), state, path)
    assert path.stat().st_size < 5e6
    assert sum(t.numel() for t in state.values()) == entry.parameters
    assert all(torch.isfinite(t).all() for t in state.values())
    assert not entry.origin and "MIT" in entry.licence


def test_every_set_of_this_project_is_committed():
    ours = {name for name, (entry, _) in registered().items() if entry.packaged}
    assert ours == {path.stem for path in COMMITTED}


def test_recorded_losses_of_a_training():
    losses = training_losses("res2netfuse_1_released_coco86")
    assert losses["iteration"].tolist() == list(range(1, 2001))
    assert np.allclose(losses["total"], losses["pixel"] + losses["ssim"], atol=1e-6)
    with pytest.raises(WeightsNotFound, match="densefuse"):
        training_losses("densefuse")


# ---------------------------------------------------------------- from the authors' files


def published(*checkpoints, entry=THEIRS):
    """The set, made of these checkpoints."""
    return replace(entry, checkpoints=checkpoints)


def released():
    """What the authors' checkpoint of `network` holds, under their names."""
    return {f"authors.{name}": tensor + 1 for name, tensor in network().state_dict().items()}


def adapt(state):
    return {name.removeprefix("authors."): tensor for name, tensor in state.items()}


ENTRY = replace(THEIRS, digest=digest(released()))
UNKNOWN = replace(THEIRS, digest="")
CONFIGURATION = Configuration("a toy", network, (ENTRY,), "clip", "round", adapt=adapt)


def checkpoint(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def web():
    with serve() as web:
        yield web


@pytest.fixture
def model(web):
    """Publish a file as the only one of a set; what is known of it may be said."""

    def model(content, entry=ENTRY, *, missing=0, **facts):
        web.put("model.pt", content, missing=missing)
        file = PublishedFile("x/model.pt", f"{web.address}/model.pt", **facts)
        return published(Checkpoint("pytorch", (file,)), entry=entry)

    return model


def left(folder):
    """All files below a folder: what a failure must not leave."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_fetch(web, model, tmp_path, capsys):
    content = checkpoint({"state_dict": released(), "epoch": 3})
    facts = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    entry = model(content, **facts)
    found = fetch_weights(entry, CONFIGURATION, tmp_path / "new", progress=False)
    assert found == (tmp_path / "new" / "theirs.safetensors", True, True)
    assert digest(verify_weights(entry, found.path)) == entry.digest
    assert read_facts(found.path)["source"] == f"{web.address}/model.pt sha256 {facts['sha256']}"
    assert left(tmp_path) == [found.path]  # nothing else, not even in the cache
    assert capsys.readouterr() == ("", "")


def test_a_set_that_is_there_and_right_is_left_alone(web, model, tmp_path):
    entry = model(checkpoint(released()))
    unknown = replace(entry, digest="")
    path = tmp_path / "theirs.safetensors"
    save_file(released(), path)
    before = path.stat().st_mtime_ns
    assert fetch_weights(entry, CONFIGURATION, tmp_path) == (path, False, True)
    assert fetch_weights(unknown, CONFIGURATION, tmp_path) == (path, False, False)
    assert path.stat().st_mtime_ns == before and not web.asked
    path.write_bytes(path.read_bytes()[:-1])
    assert fetch_weights(entry, CONFIGURATION, tmp_path, progress=False).new
    assert web.asked == ["model.pt"] and verify_weights(entry, path)
    save_file({"other": torch.ones(1)}, path)
    assert fetch_weights(unknown, CONFIGURATION, tmp_path, progress=False).new


@pytest.mark.parametrize("facts", [{"size": 7}, {"sha256": "0" * 64}, {"blob": "0" * 40}])
def test_another_file_is_refused_before_it_is_opened(model, tmp_path, monkeypatch, facts):
    entry = model(checkpoint(released()), **facts)
    monkeypatch.setattr(weights, "read_checkpoint", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(WeightsMismatch, match="was not opened") as error:
        fetch_weights(entry, CONFIGURATION, tmp_path, progress=False)
    address, path = entry.checkpoints[0].files[0], tmp_path / "theirs.safetensors"
    assert str(address) in str(error.value) and f"nothing was written to {path}" in str(error.value)
    assert "\n" not in str(error.value) and not left(tmp_path)
    (tmp_path / "model.pt").write_bytes(checkpoint(released()))
    with pytest.raises(WeightsMismatch, match="was not opened"):
        convert_weights(entry, CONFIGURATION, [tmp_path / "model.pt"], tmp_path)


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (checkpoint(released()), {"missing": 10}, "[Ii]ncomplete"),
        (checkpoint(network().state_dict()), {}, "does not hold the registered weights 'theirs'"),
        (checkpoint(released())[:-50], {}, "not a readable PyTorch checkpoint"),
        (b"<html>No such page</html>", {}, "is an HTML page, no checkpoint: the address was"),
    ],
    ids=["interrupted", "other tensors", "truncated", "a page"],
)
def test_what_goes_wrong_leaves_nothing(model, tmp_path, content, options, words):
    entry = model(content, **options)
    path = tmp_path / "new" / "theirs.safetensors"
    with pytest.raises((WeightsNotFound, WeightsMismatch), match=words) as error:
        fetch_weights(entry, CONFIGURATION, path.parent, progress=False)
    assert entry.checkpoints[0].files[0].url in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and not left(tmp_path)
    save_file({"mine": torch.ones(1)}, path)  # and what was there stays
    before = path.read_bytes()
    with pytest.raises((WeightsNotFound, WeightsMismatch), match=words):
        fetch_weights(entry, CONFIGURATION, path.parent, progress=False)
    assert path.read_bytes() == before and left(tmp_path) == [path]


def test_nothing_is_downloaded_for_a_place_that_cannot_be_written(web, model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match="cannot write"):
        fetch_weights(model(b""), CONFIGURATION, tmp_path / "file", progress=False)
    assert not web.asked


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("entry", [ENTRY, UNKNOWN], ids=["known", "unknown"])
def test_code_in_a_checkpoint_is_never_run(model, tmp_path, entry):
    trace = tmp_path / "trace"
    content = checkpoint({**released(), "extra": Malicious(trace)})
    entry = model(content, entry)
    (tmp_path / "mine.pt").write_bytes(content)
    for get in (
        lambda: fetch_weights(entry, CONFIGURATION, tmp_path / "new", progress=False),
        lambda: convert_weights(entry, CONFIGURATION, [tmp_path / "mine.pt"], tmp_path / "new"),
    ):
        with pytest.raises(WeightsMismatch, match="nothing in it was run"):
            get()
    assert not trace.exists() and not (tmp_path / "new/theirs.safetensors").exists()
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()  # the trap works


def test_without_a_hash_the_network_decides(model, tmp_path):
    entry = model(checkpoint(released()), UNKNOWN)
    found = fetch_weights(entry, CONFIGURATION, tmp_path, progress=False)
    assert found == (tmp_path / "theirs.safetensors", True, False)
    found.path.unlink()
    state = {name: tensor for name, tensor in released().items() if name != "authors.1.bias"}
    entry = model(checkpoint(state), UNKNOWN)
    with pytest.raises(
        WeightsMismatch, match=r"model\.pt does not fit Sequential .*: 1 missing: 1\.bias"
    ):
        fetch_weights(entry, CONFIGURATION, tmp_path, progress=False)
    assert not left(tmp_path)


def test_convert_a_file_of_any_name(model, tmp_path):
    entry = model(b"")
    (tmp_path / "model (1).pt").write_bytes(checkpoint(released()))
    found = convert_weights(entry, CONFIGURATION, [tmp_path / "model (1).pt"], tmp_path / "new")
    assert found == (tmp_path / "new" / "theirs.safetensors", True, True)
    assert digest(read_weights(found.path)) == ENTRY.digest
    for wrong in (tmp_path, tmp_path / "gone.pt"):
        with pytest.raises(WeightsNotFound, match="no such file"):
            convert_weights(entry, CONFIGURATION, [wrong], tmp_path)


def test_convert_two_checkpoints(tmp_path):
    """As CUFD: part 2 also holds variables of part 1 that are not the trained ones."""
    part1 = {"m_decoder/a": np.ones(2, np.float32), "m_decoder/a/Adam": np.zeros(2, np.float32)}
    part2 = {"m_decoder/a": np.zeros(2, np.float32), "s_decoder/b": np.ones(3, np.float32)}
    checkpoints, files = [], []
    for stem, keep, values in (("part1", "^m_", part1), ("part2", "^s_", part2)):
        paths = write_bundle(tmp_path / stem, values)
        theirs = tuple(PublishedFile(f"model/{p.name}", f"https://x/{p.name}") for p in paths)
        checkpoints.append(Checkpoint("tensorflow", theirs, keep=keep))
        files += paths
    both = {"m_decoder/a": torch.ones(2), "s_decoder/b": torch.ones(3)}
    entry = published(*checkpoints, entry=replace(THEIRS, digest=digest(both)))
    found = convert_weights(entry, CONFIGURATION, files[::-1], tmp_path)
    assert digest(read_weights(found.path)) == digest(both)
    with pytest.raises(WeightsMismatch, match=f"from part1{INDEX} and part1{DATA} and .* given: "):
        convert_weights(entry, CONFIGURATION, files[:3], tmp_path)


@pytest.mark.parametrize(
    ("entry", "words"), [(OURS, "part of this project"), (THEIRS, "nothing says in which files")]
)
def test_what_cannot_be_fetched(tmp_path, entry, words):
    for get in (
        lambda: fetch_weights(entry, CONFIGURATION, tmp_path),
        lambda: convert_weights(entry, CONFIGURATION, [tmp_path / "x"], tmp_path),
    ):
        with pytest.raises(WeightsNotFound, match=words):
            get()


# ---------------------------------------------------------------- published files

CONTENT = b"published\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB = "7a85ea4df37734c24dc10ccd171c24e536735fa4"  # git hash-object


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, None),
        ({"size": 10, "sha256": SHA256, "blob": BLOB}, None),
        ({"size": 0}, "size is 10, expected 0"),
        ({"sha256": "0" * 64}, f"sha256 is {SHA256}, expected 000"),
        ({"sha256": SHA256, "blob": "0" * 40}, f"git blob is {BLOB}, expected 000"),
    ],
)
def test_a_file_is_the_published_one(tmp_path, facts, words):
    (tmp_path / "b.pt").write_bytes(CONTENT)
    file = PublishedFile("a/b.pt", "https://x/b.pt", **facts)
    if words is None:
        check_file(tmp_path / "b.pt", file)
        return
    with pytest.raises(WeightsMismatch, match=f"published at https://x/b.pt: its {words}"):
        check_file(tmp_path / "b.pt", file)


def test_many_files_are_not_listed_one_by_one(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"from 21 files, \S+im1\.dat to \S+im21\.dat \(lic"):
        find_weights(weight_sets()["jsr_dictionaries"], tmp_path)


@pytest.mark.parametrize(("name", "words"), [("gone.pt", "404"), ("cut.pt", "[Ii]ncomplete")])
def test_failed_download(web, tmp_path, name, words):
    web.put("cut.pt", CONTENT, missing=3)
    file = PublishedFile("a/b.pt", f"{web.address}/{name}")
    with pytest.raises(WeightsNotFound, match=f"Downloading b.pt failed .*{words}") as error:
        download(file, tmp_path / "new", progress=False)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "new").iterdir())


# ---------------------------------------------------------------- the command line


@pytest.fixture
def toy(monkeypatch):
    """Let a method with these sets be the only one there is."""

    def toy(*entries):
        configuration = replace(CONFIGURATION, weights=(*entries, OURS))
        spec = MethodSpec(
            "toy", "Toy", "nowhere", "", 2020, "toy", "MIT", "variant", {"toy": configuration}
        )
        monkeypatch.setattr("fusionlib.methods.registry", lambda: {"toy": spec})

    return toy


def test_fetch_command(toy, model, tmp_path, capsys):
    toy(model(checkpoint(released())))
    arguments = ["weights", "fetch", "theirs", "--weights-dir", str(tmp_path)]
    assert main(arguments) == 0
    path = tmp_path / "theirs.safetensors"
    right = f"{path} (its tensors are the registered ones)\n"
    assert capsys.readouterr().out == f"theirs: wrote {right}"
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"theirs: already there and right: {right}"


def test_fetch_all(toy, web, model, tmp_path, capsys):
    """One that fails keeps no other from being fetched; ours is none to fetch."""
    gone = PublishedFile("gone.pt", f"{web.address}/gone.pt")
    second = model(checkpoint(released()), replace(ENTRY, name="second"))
    toy(published(Checkpoint("pytorch", (gone,))), second)
    assert main(["weights", "fetch", "--all", "--weights-dir", str(tmp_path)]) == 2
    out, error = capsys.readouterr()
    assert out.startswith(f"second: wrote {tmp_path / 'second.safetensors'}")
    error = error[error.index("fusionlib: ") :]
    assert "theirs could not be fetched" in error and "404" in error and error.count("\n") == 1
    assert left(tmp_path) == [tmp_path / "second.safetensors"]


def test_convert_command(toy, model, tmp_path, capsys):
    toy(model(b""))
    (tmp_path / "model.pt").write_bytes(checkpoint(released()))
    arguments = ["weights", "convert", "theirs", str(tmp_path / "model.pt")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"theirs: wrote {tmp_path / 'cache'}")
    (tmp_path / "model.pt").write_bytes(checkpoint({"a": torch.ones(1)}))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "does not hold the registered weights" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch"], "names of weight sets, or --all"),
        (["fetch", "theirs", "--all"], "names of weight sets, or --all"),
        (["fetch", "theirs", "thears"], "Did you mean 'theirs'"),
        (["convert", "thears", "model.pt"], "Did you mean 'theirs'"),
        (["convert", "theirs", "gone.pt"], "no such file: gone.pt"),
        (["fetch", "mine"], "part of this project"),
    ],
)
def test_refused_commands(toy, web, model, tmp_path, capsys, arguments, words):
    toy(model(checkpoint(released())))
    assert main(["weights", *arguments, "--weights-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not web.asked and not left(tmp_path)


# ---------------------------------------------------------------- the registered sets


def authors_files(name, state, folder):
    """Write tensors as the files that the authors publish for a set, as far as we know them."""
    files = []
    for one in weight_sets()[name].checkpoints:
        names = [Path(file.path).name for file in one.files]
        stem = folder / (one.members[0].replace("*", "x") if one.members else names[0])
        wanted = {
            key.removeprefix(one.prefix): tensor
            for key, tensor in state.items()
            if key.startswith(one.prefix)
        }
        if one.format == "tensorflow":
            values = {key: tensor.numpy() for key, tensor in wanted.items()}
            noise = {f"{key}/Adam": value for key, value in values.items() if value.size < 100}
            noise |= {"beta1_power": np.ones((), np.float32), "Variable": np.ones(3, np.float32)}
            if not one.keep:
                del noise["Variable"]
            written = write_bundle(Path(str(stem).removesuffix(INDEX)), values | noise)
        elif one.format == "matlab":
            (matrix,) = wanted.values()
            savemat(stem, {"D": matrix.numpy()}, appendmat=False)
            written = (stem,)
        else:
            # num_batches_tracked is a number without a dimension in PyTorch.
            numbers = {k: wanted[k].reshape(()) for k in wanted if k.endswith("_tracked")}
            stem.write_bytes(checkpoint(wanted | numbers))
            written = (stem,)
        if one.members:
            with zipfile.ZipFile(folder / names[0], "w") as archive:
                for path in written:
                    archive.write(path, f"models/{path.name}")
            written = (folder / names[0],)
        files += written
    return files


def by_content(name):
    """A set with its configuration, as if nothing were known of the files but what is in them."""
    entry, configuration = registered()[name]
    checkpoints = tuple(
        replace(one, files=tuple(PublishedFile(file.path, file.url) for file in one.files))
        for one in entry.checkpoints
    )
    return replace(entry, checkpoints=checkpoints), configuration


KNOWN = sorted(name for name, (entry, _) in registered().items() if entry.origin and entry.digest)


@pytest.mark.realdata
@pytest.mark.parametrize("name", KNOWN)
def test_the_registered_hash_comes_back(weights_root, name, tmp_path):
    """From files as the authors write them, with what an optimiser leaves in them."""
    entry, configuration = by_content(name)
    try:
        state = read_weights(find_weights(entry, weights_root))
    except WeightsNotFound as missing:
        pytest.skip(str(missing))
    found = convert_weights(
        entry, configuration, authors_files(name, state, tmp_path), tmp_path / "new"
    )
    assert found.verified and digest(read_weights(found.path)) == entry.digest


@pytest.mark.parametrize("name", sorted(set(GAINS) & set(registered())))
def test_sets_without_a_hash_fit_by_the_authors_names(name, tmp_path):
    entry, configuration = by_content(name)
    state = recipe_state(name)
    if name == "cddfuse":  # a dictionary of four modules
        state = {
            part: {
                f"module.{key.removeprefix(f'{part}.')}": tensor
                for key, tensor in state.items()
                if key.startswith(f"{part}.")
            }
            for part in {key.partition(".")[0] for key in state}
        }
    files = authors_files(name, state, tmp_path)
    found = convert_weights(entry, configuration, files, tmp_path / "new")
    assert found.new and not found.verified and not entry.digest


@pytest.mark.parametrize(
    "name", sorted(n for n, (entry, _) in registered().items() if entry.origin)
)
def test_tensors_of_another_network_are_refused(name, tmp_path):
    entry, configuration = by_content(name)
    prefixes = [one.prefix for one in weight_sets()[name].checkpoints]
    state = {f"{prefix}conv.weight": torch.ones(2, 2) for prefix in prefixes}
    state |= {"fusion_model/layer1/w1": torch.ones(1), "m_encoder/x": torch.ones(1)}
    state |= {"s_encoder/x": torch.ones(1), "Generator/encoder/x": torch.ones(1)}
    files = authors_files(name, state, tmp_path)
    with pytest.raises(WeightsMismatch, match=r"does not (fit|hold)"):
        convert_weights(entry, configuration, files, tmp_path / "new")
    assert not (tmp_path / "new").exists()
