"""checkpoints: the authors' files are read without running them, and named by the rules."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn

from fusionlib.checkpoints import Checkpoint, read_checkpoint
from fusionlib.errors import WeightsMismatch
from tests.fusionlib.bundles import DATA, INDEX, write_bundle

PYTORCH, TENSORFLOW = Checkpoint("pytorch", "x/model.pth"), Checkpoint("tensorflow", "x/model.ckpt")
ZIPPED = Checkpoint("tensorflow", "x/models.zip", member="*_1e2.ckpt")


def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()


def stored(tensors):
    """As the registered sets are: a number has a shape of (1,)."""
    return {name: t.reshape(1) if t.ndim == 0 else t for name, t in tensors.items()}


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
    return True


@pytest.fixture
def read(tmp_path):
    """Save an object with PyTorch and read it as a checkpoint."""

    def read(content, checkpoint=PYTORCH, **options):
        torch.save(content, tmp_path / "model.pth", **options)
        return read_checkpoint(checkpoint, [tmp_path / "model.pth"])

    return read


def test_files_of_a_checkpoint():
    assert TENSORFLOW.addresses == [f"x/model.ckpt{INDEX}", f"x/model.ckpt{DATA}"]
    assert (PYTORCH.addresses, ZIPPED.addresses) == (["x/model.pth"], ["x/models.zip"])


# ---------------------------------------------------------------- PyTorch: names


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 72, "args": {"lr": 1e-4, "name": "x"}},
        lambda s: {"checkpoint": {"model": s}},
        lambda s: OrderedDict((f"module.{name}", t) for name, t in s.items()),
        lambda s: {
            "model": {f"module.{n}": t for n, t in s.items()},
            "scheduler": {"step": 3},
            "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1}]},
            "optim_D": {"state": {0: {"exp_avg": torch.ones(3)}}},
        },
        lambda s: {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in s.items()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings(read, wrap, zipped):
    """In both formats of PyTorch, before and since version 1.6."""
    found = read(wrap(state()), _use_new_zipfile_serialization=zipped)
    assert same(found, stored(state()))


def test_several_containers_give_names(read):
    """As CDDFuse's four modules, each with the prefix of DataParallel."""
    parts = {
        part: {f"module.{name}": t + i for name, t in state().items()}
        for i, part in enumerate(("Encoder", "Decoder"))
    }
    expected = {
        f"{part}.{name.removeprefix('module.')}": t
        for part, tensors in parts.items()
        for name, t in stored(tensors).items()
    }
    assert same(read(parts), expected)


def test_keep_and_prefix(read):
    found = read(state(), Checkpoint("pytorch", "", keep=r"^0\.", prefix="part."))
    assert same(found, {f"part.{n}": t for n, t in state().items() if n.startswith("0.")})


def test_tensors_own_their_memory(read):
    """Views of one tensor, and one in another order, become tensors by themselves."""
    whole = torch.arange(12.0).reshape(3, 4)
    found = read({"a": whole[0], "b": whole[0], "c": whole.T})
    assert same(found, {"a": whole[0], "b": whole[0], "c": whole.T})
    assert all(tensor.is_contiguous() for tensor in found.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == 3
    assert found["a"].untyped_storage().nbytes() == 16


# ---------------------------------------------------------------- PyTorch: what is refused


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "nested"])
def test_code_is_refused_and_leaves_no_trace(tmp_path, form):
    path, trace = tmp_path / "model.pth", tmp_path / "trace"
    content = {"weight": torch.ones(2), "extra": Malicious(trace)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"extra": Malicious(trace)}, protocol=2))
    elif form == "nested":
        torch.save({"optimizer": {"state": [content]}}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsMismatch, match="nothing in it was run") as error:
        read_checkpoint(PYTORCH, [path])
    assert "system" in str(error.value) and "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # PyTorch's advice to do without
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()  # the trap works


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(tmp_path, zipped):
    path = tmp_path / "model.pth"
    torch.save(state(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        words = "cut off" if length > 1 else "cut off|is empty|begins with b'P'"
        with pytest.raises(WeightsMismatch, match=rf"model\.pth is .*({words})") as error:
            read_checkpoint(PYTORCH, [path])
        assert "\n" not in str(error.value) and len(str(error.value)) < 100


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"404: Not Found", "it begins with b'404: Not Found'. Is it the published file"),
        (bytes(500), r"it begins with b'\\x00"),
        (b"\x80\x02.", "not a readable"),
    ],
)
def test_another_file(tmp_path, content, words):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(WeightsMismatch, match=rf"model\.pth is .*{words}"):
        read_checkpoint(PYTORCH, [tmp_path / "model.pth"])


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n<html>", b"\n\n<HTML lang=en>"])
def test_a_page_in_place_of_the_file(tmp_path, page):
    """What a browser saves at the wrong address; said so for every kind of checkpoint."""
    paths = [tmp_path / f"model.ckpt{end}" for end in (INDEX, DATA)]
    for path in paths:
        path.write_bytes(page + bytes(300))
    for checkpoint, files in ((PYTORCH, paths[:1]), (TENSORFLOW, paths), (ZIPPED, paths[:1])):
        with pytest.raises(WeightsMismatch, match=r"model.ckpt.index is an HTML page.*address"):
            read_checkpoint(checkpoint, files)


def endless():
    content = {"weight": torch.ones(1)}
    content["inner"] = content
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((content, "no tensors of this weight set") for content in ({}, {"epoch": 3})),
        *((content, "no tensors of this weight set") for content in ([torch.ones(2)], 3)),
        ({"weight": torch.eye(3).to_sparse()}, "weight is no plain tensor"),
        ({"weight": torch.ones(3, device="meta")}, "weight is no plain tensor"),
        (endless(), "more than 4 containers"),
    ],
)
def test_contents_that_are_no_weights(read, content, words):
    with pytest.raises(WeightsMismatch, match=words):
        read(content)


# ---------------------------------------------------------------- TensorFlow and zip files


def variables():
    generator = np.random.default_rng(0)
    return {
        "encoder/conv1/kernel": generator.random((3, 3, 1, 2), np.float32),
        "encoder/conv1/bias": generator.random(2, np.float32),
        "encoder/Adam_layer/bias": generator.random(2, np.float32),
    }


def test_optimiser_variables_are_dropped(tmp_path):
    slots = {
        f"{scope}{name}/{slot}": values + 1
        for scope in ("", "train/")
        for name, values in variables().items()
        for slot in ("Adam", "Adam_1", "RMSProp", "RMSProp_1", "Momentum")
    }
    numbers = ("beta1_power", "beta2_power", "beta1_power_1", "train/beta2_power", "global_step")
    slots |= {name: np.array(1, np.float32) for name in numbers}
    paths = write_bundle(tmp_path / "model.ckpt", variables() | slots)
    expected = {name: torch.from_numpy(values) for name, values in variables().items()}
    assert same(read_checkpoint(TENSORFLOW, paths), expected)
    with pytest.raises(WeightsMismatch, match=r"model.ckpt.index, .*no tensors of this"):
        read_checkpoint(Checkpoint("tensorflow", "", keep="^decoder/"), paths)


@pytest.fixture
def archive(tmp_path):
    """Make a zip file of two checkpoints with what else stands in such files."""

    def archive(*leave_out, names="models/gray/{}", also=(), **options):
        with zipfile.ZipFile(tmp_path / "models.zip", "w", **options) as file:
            for i, one in enumerate(("model_1e1.ckpt", "model_1e2.ckpt")):
                written = {name: values + i for name, values in variables().items()}
                for path in write_bundle(tmp_path / one, written):
                    if path.name not in leave_out:
                        file.write(path, names.format(path.name))
                    path.unlink()
            file.writestr("__MACOSX/models/gray/._model_1e2.ckpt.index", b"x")
            for name in ("models/gray/checkpoint", *also):
                file.writestr(name, b"x")
        return tmp_path / "models.zip"

    return archive


@pytest.mark.parametrize("names", ["{}", "models/gray/{}", "../../{}", "/tmp/{}", "a/../../b/{}"])
def test_the_right_member_is_taken(archive, tmp_path, names, monkeypatch):
    """And unpacked below a temporary folder, wherever its name leads; nothing stays."""
    folder = tmp_path / "temporary" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = archive(names=names, compression=zipfile.ZIP_DEFLATED)
    expected = {name: torch.from_numpy(values + 1) for name, values in variables().items()}
    assert same(read_checkpoint(ZIPPED, [path]), expected)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["models.zip"]


def test_missing_and_ambiguous_members(archive):
    with pytest.raises(
        WeightsMismatch, match=r"models\.zip .* 0 files \*_1e2.ckpt.index, .* models/gray/check"
    ):
        read_checkpoint(ZIPPED, [archive("model_1e2.ckpt.index")])
    with pytest.raises(WeightsMismatch, match=r"2 files \*_1e2.ckpt.index"):
        read_checkpoint(ZIPPED, [archive(also=["other_1e2.ckpt.index"])])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_zip(archive, compression):
    path = archive(compression=compression)
    whole = path.read_bytes()
    for content in (b"", b"x" * 300, whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        words = "it is cut off" if content.startswith(b"PK") else "not a zip file"
        with pytest.raises(WeightsMismatch, match=rf"models\.zip cannot be unpacked .*{words}"):
            read_checkpoint(ZIPPED, [path])


def test_pytorch_in_a_zip(tmp_path):
    torch.save(state(), tmp_path / "inner.model")
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as file:
        file.write(tmp_path / "inner.model", "nestfuse/inner.model")
    checkpoint = Checkpoint("pytorch", "", member="*inner.model", prefix="nestfuse.")
    found = read_checkpoint(checkpoint, [tmp_path / "models.zip"])
    assert same(found, {f"nestfuse.{name}": t for name, t in stored(state()).items()})


# ---------------------------------------------------------------- MATLAB

MATLAB = Checkpoint("matlab", "x/D_unit7_im3.dat", prefix="pair_03")


def test_matlab_matrix(tmp_path):
    """Called what the source says, whatever its name and the file's; gaps in memory are closed."""
    path = tmp_path / "D_unit7_im3.dat"
    matrix = np.asfortranarray(np.random.default_rng(0).random((49, 256)))
    savemat(path, {"D": matrix}, appendmat=False)
    found = read_checkpoint(MATLAB, [path])
    assert list(found) == ["pair_03"] and found["pair_03"].is_contiguous()
    assert np.array_equal(found["pair_03"].numpy(), matrix)
    whole = path.read_bytes()
    for content in (b"", b"no MATLAB", whole[:60], whole[:500], b"<!DOCTYPE html>"):
        path.write_bytes(content)
        with pytest.raises(WeightsMismatch, match=r"im3\.dat is (not a readable MATLAB|an HTML)"):
            read_checkpoint(MATLAB, [path])


@pytest.mark.parametrize(
    "content",
    [{"a": np.ones(3), "b": np.ones(3)}, {}, {"a": np.array(["text"])}, {"a": {"b": 1.0}}],
)
def test_matlab_file_of_something_else(tmp_path, content):
    savemat(tmp_path / "x.dat", content, appendmat=False)
    with pytest.raises(WeightsMismatch, match=r"x\.dat does not hold just one matrix of numbers"):
        read_checkpoint(MATLAB, [tmp_path / "x.dat"])
