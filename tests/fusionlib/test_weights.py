"""weights: the table of sets, hashes, search order, loading, fetching and converting."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.io import savemat
from torch import nn

from fusionlib import weights
from fusionlib.__main__ import main
from fusionlib.card import Configuration, MethodSpec, WeightFile
from fusionlib.checkpoints import READERS, Checkpoint
from fusionlib.errors import FusionError, UnknownName, WeightsMismatch, WeightsNotFound
from fusionlib.methods import registry
from fusionlib.weights import (
    convert_weights,
    digest,
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
        assert one.format in (*READERS, "modules")
        assert one.address.endswith(".zip") == bool(one.member)
        re.compile(one.keep)
    addresses = [address for one in entry.checkpoints for address in one.addresses]
    assert len({address.rpartition("/")[2] for address in addresses}) == len(addresses)


def test_addresses():
    """A full commit is addressed directly, a short one through the page that resolves it."""
    names = ("densefuse", "u2fusion", "yolov5s", "densefuse_tf_1e2")
    assert [weight_sets()[name].checkpoints[0].addresses for name in names] == [
        [
            "https://raw.githubusercontent.com/hli1221/densefuse-pytorch/"
            "4394b63e9295db1c6b7a5c3664551c90f0605f2b/models/densefuse_gray.model"
        ],
        [
            f"https://github.com/hanna-xu/U2Fusion/raw/0a58821/model/model.ckpt{end}"
            for end in (INDEX, DATA)
        ],
        ["https://github.com/ultralytics/yolov5/releases/download/v6.1/yolov5s.pt"],
        ["https://github.com/hli1221/imagefusion_densefuse/raw/ef23f0f/models/densefuse_gray.zip"],
    ]
    origin = "github.com/hanna-xu/U2Fusion @0a58821 model/model.ckpt"
    assert weight_sets()["u2fusion"].origin == origin


def test_a_network_without_a_table():
    assert [entry.name for entry in weight_files("lrrnet", "msdnet")] == ["lrrnet", "msdnet"]
    with pytest.raises(
        UnknownName, match=r"set 'lrnet'. Did you mean 'lrrnet'.* table \[lrnet\] in fusionlib/wei"
    ):
        weight_files("lrnet")


# ---------------------------------------------------------------- reading


def test_digest_is_of_name_type_shape_and_bytes():
    text = b""
    for name, tensor in sorted(tensors().items()):
        text += f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + tensor.numpy().tobytes()
    strided = {**tensors(), "b": tensors()["b"].T.contiguous().T}
    assert not strided["b"].is_contiguous()
    assert digest(tensors()) == digest(strided) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_digest_of_any_type(dtype):
    ones, zeros = ({"x": f(3, dtype=dtype)} for f in (torch.ones, torch.zeros))
    assert digest(ones) != digest(zeros)
    assert digest({"x": torch.ones((), dtype=dtype)}) != digest(ones)


@pytest.mark.parametrize("suffix", weights.SUFFIXES)
def test_both_kinds_of_files(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors().items()})
        facts = {}
    else:
        save_file(tensors(), path, facts := {"any": "fact"})
    assert digest(read_weights(path)) == digest(tensors()) and read_facts(path) == facts
    for read in (read_weights, read_facts):
        with pytest.raises(WeightsNotFound, match=r"no such weight file: .*gone"):
            read(tmp_path / f"gone{suffix}")


def flipped(whole):  # in compressed data: an error of zlib's
    return whole[:40] + bytes(255 - x for x in whole[40:60]) + whole[60:]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *((".npz", one) for one in (lambda _: b"", lambda _: b"PK\3\4 no zip", flipped)),
        *((".safetensors", lambda whole, length=length: whole[:length]) for length in (0, 7, 40)),
        *((kind, lambda whole: whole[:-1]) for kind in weights.SUFFIXES),
    ],
)
def test_damaged_files(tmp_path, kind, damage):
    path = tmp_path / f"x{kind}"
    if kind == ".npz":
        np.savez_compressed(path, a=np.ones(999))
    else:
        save_file(tensors(), path)
    path.write_bytes(damage(path.read_bytes()))
    for read in (read_weights, read_facts, lambda path: verify_weights(UNKNOWN, path)):
        with pytest.raises(WeightsMismatch, match=rf"x\{kind} is not a readable"):
            read(path)


def test_objects_are_no_numbers(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(WeightsMismatch, match=r"not a readable \.npz file of numbers"):
        read_weights(tmp_path / "x.npz")


def test_verify_wants_the_registered_hash(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(tensors(), path)
    for known in (digest(tensors()), ""):
        found = verify_weights(replace(OURS, digest=known), path)
        assert digest(found) == digest(tensors())
    with pytest.raises(WeightsMismatch, match=r"mine\.safetensors does not hold") as error:
        verify_weights(OURS, path)
    assert OURS.digest in str(error.value) and digest(tensors()) in str(error.value)


# ---------------------------------------------------------------- places


def test_the_first_place_wins(monkeypatch, tmp_path):
    cache = tmp_path / "cache/irvis-fusionlib/weights"
    package = Path(weights.__file__).parent / "weights"
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", "")
    assert places() == [cache, package]
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(tmp_path / "env"))
    folders = [tmp_path / "given", tmp_path / "env", cache]
    assert places(folders[0]) == [*folders, package]
    names = ("mine.safetensors", "mine.npz")
    paths = [folder / name for folder in folders for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in paths:
        assert find_weights(OURS, folders[0]) == path
        path.unlink()


def test_a_missing_set_of_this_project(tmp_path):
    with pytest.raises(WeightsNotFound, match="restore the file with git") as error:
        find_weights(OURS, tmp_path / "given")
    assert "mine" in str(error.value) and "FUSIONLIB_WEIGHTS" not in str(error.value)
    assert all(str(place) in str(error.value) for place in places(tmp_path / "given"))
    assert f"{tmp_path / 'given'} (no such folder)" in str(error.value)


def test_a_missing_set_of_the_authors(tmp_path):
    """One message says where it was looked for, where it comes from, and what to do."""
    entry = published(Checkpoint("pytorch", "https://x/model.pt"))
    with pytest.raises(WeightsNotFound) as error:
        find_weights(entry, tmp_path / "given", alternatives=(entry, OURS))
    message = str(error.value)
    for words in (
        *map(str, places(tmp_path / "given")),
        f"Its 23 values must have the hash {'0' * 64}",
        f"will be {tmp_path / 'given' / 'theirs.safetensors'}",
        "`fusionlib weights fetch theirs` makes it from https://x/model.pt (licence: none stated)",
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


def test_many_files_are_not_listed_one_by_one(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"from 21 files, \S+im1\.dat to \S+im21\.dat \(lic"):
        find_weights(weight_sets()["jsr_dictionaries"], tmp_path)


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_floats_become_float32(dtype):
    net = network()
    state = {name: torch.rand_like(t).to(dtype) for name, t in net.state_dict().items()}
    load_state(net, state, "here")
    assert all(torch.equal(net.state_dict()[name], t.float()) for name, t in state.items())
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
def test_every_kind_of_fault_is_named(dtype):
    """And the first of many, in one line; the network stays as it was."""
    net, before = network(), digest(network().state_dict())
    state = {f"x{i}": torch.ones(4) for i in range(100)}
    state |= {
        "0.weight": torch.ones(2, 1, 5, 5),
        "1.weight": net.state_dict()["1.weight"].to(dtype),
    }
    with pytest.raises(WeightsMismatch) as error:
        load_state(net, state, "some/file")
    assert str(error.value) == (
        "some/file does not fit Sequential of 4 tensors: 2 missing: 0.bias (2,), 1.bias (1,); "
        "100 extra: x0 (4,), x1 (4,), x10 (4,), ...; 1 misshapen: 0.weight is (2, 1, 5, 5), "
        f"expected (2, 1, 3, 3); 1 of another type: 1.weight is {dtype}, expected torch.float32. "
        "Use weights of this network and variant."
    )
    assert digest(net.state_dict()) == before


# ---------------------------------------------------------------- what is trained here


def test_round_trip_with_facts(tmp_path):
    path = tmp_path / "new folder" / "mine.safetensors"
    net = network().to(memory_format=torch.channels_last)
    save_weights(path, net, {"iterations": 2000, "images": "a.jpg"})
    assert read_facts(path) == {"iterations": "2000", "images": "a.jpg"}
    assert digest(load_file(path)) == digest(net.state_dict())


def test_half_of_the_bits(tmp_path):
    """Where a value is beyond their range, all of them."""
    net = network()
    with torch.no_grad():
        net[0].bias[0] = 1e6
    save_weights(tmp_path / "x.safetensors", net, {}, half=True)
    found = read_weights(tmp_path / "x.safetensors")
    assert found.pop("0.bias").dtype == torch.float32
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}


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
    assert "MIT" in entry.licence


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
    """Publish a file as the only one of a set."""

    def model(content, entry=ENTRY, *, missing=0):
        web.put("model.pt", content, missing=missing)
        return published(Checkpoint("pytorch", f"{web.address}/model.pt"), entry=entry)

    return model


def left(folder):
    """All files below a folder: what a failure must not leave."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_fetch(web, model, tmp_path, capsys):
    content = checkpoint({"state_dict": released(), "epoch": 3})
    entry = model(content)
    path, new = fetch_weights(entry, CONFIGURATION, tmp_path / "new", progress=False)
    assert new and path == tmp_path / "new" / "theirs.safetensors"
    assert digest(verify_weights(entry, path)) == entry.digest
    sha256 = hashlib.sha256(content).hexdigest()
    assert read_facts(path)["source"] == f"{web.address}/model.pt sha256 {sha256}"
    assert left(tmp_path) == [path]  # nothing else, not even in the cache
    assert capsys.readouterr() == ("", "")


def test_a_set_that_is_there_and_right_is_left_alone(web, model, tmp_path):
    entry = model(checkpoint(released()))
    unknown = replace(entry, digest="")
    path = tmp_path / "theirs.safetensors"
    save_file(released(), path)
    before = path.stat().st_mtime_ns
    for one in (entry, unknown):
        assert fetch_weights(one, CONFIGURATION, tmp_path) == (path, False)
    assert path.stat().st_mtime_ns == before and not web.asked
    path.write_bytes(path.read_bytes()[:-1])
    assert fetch_weights(entry, CONFIGURATION, tmp_path, progress=False) == (path, True)
    assert web.asked == ["model.pt"] and verify_weights(entry, path)
    save_file({"other": torch.ones(1)}, path)
    assert fetch_weights(unknown, CONFIGURATION, tmp_path, progress=False) == (path, True)


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, {}, "Downloading model.pt failed .*404"),
        (checkpoint(released()), {"missing": 10}, "[Ii]ncomplete"),
        (checkpoint(network().state_dict()), {}, "does not hold the registered weights 'theirs'"),
        (checkpoint(released())[:-50], {}, "not a readable PyTorch checkpoint"),
        (b"<html>No such page</html>", {}, "is an HTML page, no checkpoint: the address was"),
    ],
    ids=["not there", "interrupted", "other tensors", "truncated", "a page"],
)
def test_what_goes_wrong_leaves_nothing(web, model, tmp_path, content, options, words):
    entry = model(content or b"", **options)
    if content is None:
        web.files.clear()
    path = tmp_path / "new" / "theirs.safetensors"
    with pytest.raises((WeightsNotFound, WeightsMismatch), match=words) as error:
        fetch_weights(entry, CONFIGURATION, path.parent, progress=False)
    assert f"nothing was written to {path}" in str(error.value) and "\n" not in str(error.value)
    assert entry.checkpoints[0].address in str(error.value) and not left(tmp_path)
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


def test_without_a_hash_the_network_decides(model, tmp_path):
    state = released()
    del state["authors.1.bias"]
    with pytest.raises(
        WeightsMismatch, match=r"model\.pt does not fit Sequential .*: 1 missing: 1\.bias"
    ):
        fetch_weights(model(checkpoint(state), UNKNOWN), CONFIGURATION, tmp_path, progress=False)
    assert not left(tmp_path)
    entry = model(checkpoint(released()), UNKNOWN)
    assert fetch_weights(entry, CONFIGURATION, tmp_path, progress=False)[1]


def test_convert_a_file_of_any_name(model, tmp_path):
    entry = model(b"")
    (tmp_path / "model (1).pt").write_bytes(checkpoint(released()))
    found = convert_weights(entry, CONFIGURATION, [tmp_path / "model (1).pt"], tmp_path / "new")
    assert found == tmp_path / "new" / "theirs.safetensors"
    assert digest(read_weights(found)) == ENTRY.digest
    for wrong in (tmp_path, tmp_path / "gone.pt"):
        with pytest.raises(WeightsNotFound, match="no such file"):
            convert_weights(entry, CONFIGURATION, [wrong], tmp_path)


def test_convert_two_checkpoints(tmp_path):
    """As CUFD: part 2 also holds variables of part 1 that are not the trained ones."""
    part1 = {"m_decoder/a": np.ones(2, np.float32), "m_decoder/a/Adam": np.zeros(2, np.float32)}
    part2 = {"m_decoder/a": np.zeros(2, np.float32), "s_decoder/b": np.ones(3, np.float32)}
    files = [*write_bundle(tmp_path / "part1", part1), *write_bundle(tmp_path / "part2", part2)]
    checkpoints = [
        Checkpoint("tensorflow", f"https://x/model/part{i}", keep=f"^{kind}_")
        for i, kind in ((1, "m"), (2, "s"))
    ]
    both = {"m_decoder/a": torch.ones(2), "s_decoder/b": torch.ones(3)}
    entry = published(*checkpoints, entry=replace(THEIRS, digest=digest(both)))
    found = convert_weights(entry, CONFIGURATION, files[::-1], tmp_path)
    assert digest(read_weights(found)) == digest(both)
    with pytest.raises(WeightsMismatch, match=f"from part1{INDEX} and part1{DATA} and .* given: "):
        convert_weights(entry, CONFIGURATION, files[:3], tmp_path)


# ---------------------------------------------------------------- the command line


@pytest.fixture
def toy(monkeypatch):
    """Let a method with these sets be the only one there is."""

    def toy(*entries):
        configuration = replace(CONFIGURATION, weights=(*entries, OURS))
        spec = MethodSpec(
            name="toy",
            title="Toy",
            paper="nowhere",
            doi="",
            year=2020,
            kind="toy",
            configurations={"toy": configuration},
        )
        monkeypatch.setattr("fusionlib.methods.registry", lambda: {"toy": spec})

    return toy


def test_fetch_command(toy, model, tmp_path, capsys):
    toy(model(checkpoint(released())))
    path = tmp_path / "theirs.safetensors"
    for done in ("wrote", "already there and right:"):
        assert main(["weights", "fetch", "theirs", "--weights-dir", str(tmp_path)]) == 0
        right = f"theirs: {done} {path} (its tensors are the registered ones)\n"
        assert capsys.readouterr().out == right


def test_fetch_all(toy, web, model, tmp_path, capsys):
    """One that fails keeps no other from being fetched; ours is none to fetch."""
    second = model(checkpoint(released()), replace(UNKNOWN, name="second"))
    toy(published(Checkpoint("pytorch", f"{web.address}/gone.pt")), second)
    assert main(["weights", "fetch", "--all", "--weights-dir", str(tmp_path)]) == 2
    out, error = capsys.readouterr()
    assert out.startswith(f"second: wrote {tmp_path / 'second.safetensors'} (it fits the network;")
    error = error[error.index("fusionlib: ") :]
    assert "theirs could not be fetched" in error and "404" in error and error.count("\n") == 1
    assert left(tmp_path) == [tmp_path / "second.safetensors"]


def test_convert_command(toy, model, tmp_path, capsys):
    toy(model(b""))
    (tmp_path / "model.pt").write_bytes(checkpoint(released()))
    assert main(["weights", "convert", "theirs", str(tmp_path / "model.pt")]) == 0
    assert capsys.readouterr().out.startswith(f"theirs: wrote {tmp_path / 'cache'}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch"], "names of weight sets, or --all"),
        (["fetch", "theirs", "--all"], "names of weight sets, or --all"),
        (["fetch", "theirs", "thears"], "Did you mean 'theirs'"),
        (["convert", "thears", "model.pt"], "Did you mean 'theirs'"),
        (["convert", "theirs", "gone.pt"], "no such file: gone.pt"),
        (["fetch", "mine"], "part of this project"),
        (["convert", "mine", "gone.pt"], "nobody else publishes the weights 'mine'"),
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
        path = folder / one.address.rpartition("/")[2]
        stem = folder / one.member.replace("*", "x") if one.member else path
        wanted = {
            key.removeprefix(one.prefix): tensor
            for key, tensor in state.items()
            if key.startswith(one.prefix)
        }
        if one.format == "tensorflow":
            values = {key: tensor.numpy() for key, tensor in wanted.items()}
            noise = {f"{key}/Adam": value for key, value in values.items() if value.size < 100}
            noise |= {"beta1_power": np.ones((), np.float32)}
            if one.keep:
                noise |= {"Variable": np.ones(3, np.float32)}
            written = write_bundle(stem, values | noise)
        elif one.format == "matlab":
            (matrix,) = wanted.values()
            savemat(stem, {"D": matrix.numpy()}, appendmat=False)
            written = (stem,)
        else:
            # num_batches_tracked is a number without a dimension in PyTorch.
            numbers = {k: wanted[k].reshape(()) for k in wanted if k.endswith("_tracked")}
            stem.write_bytes(checkpoint(wanted | numbers))
            written = (stem,)
        if one.member:
            with zipfile.ZipFile(path, "w") as archive:
                for part in written:
                    archive.write(part, f"models/{part.name}")
            written = (path,)
        files += written
    return files


KNOWN = sorted(name for name, (entry, _) in registered().items() if entry.origin and entry.digest)


@pytest.mark.realdata
@pytest.mark.parametrize("name", KNOWN)
def test_the_registered_hash_comes_back(weights_root, name, tmp_path):
    """From files as the authors write them, with what an optimiser leaves in them."""
    entry, configuration = registered()[name]
    try:
        state = read_weights(find_weights(entry, weights_root))
    except WeightsNotFound as missing:
        pytest.skip(str(missing))
    files = authors_files(name, state, tmp_path)
    found = convert_weights(entry, configuration, files, tmp_path / "new")
    assert digest(read_weights(found)) == entry.digest


@pytest.mark.parametrize("name", sorted(set(GAINS) & set(registered())))
def test_sets_without_a_hash_fit_by_the_authors_names(name, tmp_path):
    entry, configuration = registered()[name]
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
    assert convert_weights(entry, configuration, files, tmp_path / "new") and not entry.digest
