"""The command line: what is given wrong gets one message and status 2, and leaves no trace."""

from __future__ import annotations

import functools
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

import fusionlib
from fusionlib.__main__ import main
from fusionlib.images import read_image, write_image
from fusionlib.methods import Method, registry
from fusionlib.weights import read_facts, read_weights, save_weights
from tests.line import files, save, truncated

pytestmark = pytest.mark.usefixtures("here")
PROGRAM = "fusionlib"
OURS = Path(fusionlib.__file__).parent / "weights" / "res2netfuse_1_released_coco86.safetensors"
COMMAND = str(Path(sys.executable).with_name("fusionlib"))


# ---------------------------------------------------------------- one pair


def test_fuse_writes_what_the_library_gives(done):
    out = done("fuse", "ir.png", "vis.png", "-o", "new/out.png", "--rule", "mean")
    assert out == "wrote new/out.png\n"
    fused = fusionlib.create("res2netfuse", rule="mean").fuse(
        read_image("ir.png"), read_image("vis.png")
    )
    assert np.array_equal(read_image("new/out.png"), fused)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (1, 30)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_any_size(done, shape, channels):
    save(Path("a.png"), shape)
    save(Path("b.png"), (*shape, *channels), seed=1)
    done("fuse", "a.png", "b.png", "-o", "out.png")
    assert read_image("out.png").shape == (*shape, *channels)


@pytest.mark.parametrize("level", [0, 100, 255])
@pytest.mark.parametrize("rule", ["l1_norm", "mean", "average"])
def test_constant_images(done, level, rule):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((24, 28), level, np.uint8)).save(name)
    done("fuse", "a.png", "b.png", "-o", "out.png", "--rule", rule)
    assert read_image("out.png").shape == (24, 28)


def test_sizes_differ(refused):
    save(Path("other.png"), (20, 28))
    message = refused("fuse", "ir.png", "other.png", "-o", "out.png")
    assert "infrared is 28x24" in message and "visible is 28x20" in message


def large():
    """A PNG whose header, with a right checksum, promises 60,000 x 60,000 pixels."""
    data = bytearray(Path("vis.png").read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def float_tiff(value):
    tifffile.imwrite("float.tif", np.full((24, 28), value, np.float32))
    return Path("float.tif").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (truncated, "truncated"),
        (lambda: b"", "0 bytes"),
        (lambda: b"#!/bin/sh\n", "format"),
        (large, "60000x60000"),
        (lambda: float_tiff(np.nan), "NaN"),
        (lambda: float_tiff(np.inf), "inf"),
        (lambda: float_tiff(200), "200"),
        (lambda: float_tiff(-0.5), "-0.5"),
    ],
)
@pytest.mark.parametrize("side", ["ir", "vis"])
def test_bad_image(refused, content, words, side):
    Path("bad.png").write_bytes(content())
    pair = ("bad.png", "vis.png") if side == "ir" else ("ir.png", "bad.png")
    message = refused("fuse", *pair, "-o", "out.png")
    assert "bad.png" in message
    assert words.lower() in message.lower()


def test_infrared_in_colour(refused):
    save(Path("rgb.png"), (24, 28, 3))
    assert "infrared image rgb.png" in refused("fuse", "rgb.png", "vis.png", "-o", "out.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "res2netfus"], "Did you mean 'res2netfuse'"),
        (["--rule", "l1norm"], "Did you mean 'l1_norm'"),
        (["--variant", "papr"], "Did you mean 'paper'"),
        (["--pipeline", "tang"], "has no pipelines"),
        (["--post", "minmx"], "Did you mean 'minmax'"),
        (["--weights", "res2netfuse_1"], "res2netfuse_1_released_coco86"),
        (["--weights", "gone.safetensors"], "no such weight file: gone.safetensors"),
        (["--method", "densefuse"], "FUSIONLIB_WEIGHTS"),
        (["--device", "nonsense"], "device 'nonsense' cannot be used here"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--device", "meta"], "device 'meta' cannot be used here"),
        (["-o", "out.xyz"], "'.xyz' is no image format"),
        (["-o", "ir.png/out.png"], "cannot write ir.png/out.png"),
        (["-o", "."], "suffix '' is no image format"),
    ],
)
def test_bad_option(refused, options, words):
    assert words in refused("fuse", "ir.png", "vis.png", "-o", "out.png", *options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(refused):
    arguments = ("ir.png", "vis.png", "-o", "out.png", "--device", "cuda")
    assert "device 'cuda' cannot be used" in refused("fuse", *arguments)


@pytest.mark.parametrize("pair", [("gone.png", "vis.png"), ("ir.png", "gone.png")])
def test_absent_image(refused, pair):
    assert "gone.png: no such file" in refused("fuse", *pair, "-o", "out.png")


@pytest.mark.parametrize("pair", [("ir.png", "."), (".", "vis.png")])
def test_file_and_folder(refused, pair):
    assert "two files or two folders" in refused("fuse", *pair, "-o", "out.png")


# ---------------------------------------------------------------- weights


def missing(state):
    del state["decoder.0.bias"]


def extra(state):
    state["decoder.9.bias"] = torch.zeros(3)


def misshapen(state):
    state["decoder.0.bias"] = torch.zeros(65)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (missing, "1 missing: decoder.0.bias (64,)"),
        (extra, "1 extra: decoder.9.bias (3,)"),
        (misshapen, "decoder.0.bias is (65,), expected (64,)"),
    ],
)
def test_weights_that_do_not_fit(refused, change, words):
    state = read_weights(OURS)
    change(state)
    save_file(state, "mine.safetensors")
    assert words in refused(
        "fuse", "ir.png", "vis.png", "-o", "out.png", "--weights", "mine.safetensors"
    )


def test_damaged_weights(refused, done):
    assert done("weights", "verify").count("verified") >= 4
    data = OURS.read_bytes()
    Path(OURS.name).write_bytes(data[:5000])
    words = "not a readable safetensors file"
    arguments = ("fuse", "ir.png", "vis.png", "-o", "out.png", "--weights-dir", ".")
    assert words in refused(*arguments)
    assert f"damaged: {OURS.stem}" in refused("weights", "verify", "--weights-dir", ".")
    Path(OURS.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "does not hold the registered weights" in refused(*arguments)


def test_a_dictionary_of_another_shape(refused):
    np.savez("other.npz", dictionary=np.full((64, 256), 1 / 8))
    given = ("--pipeline", "fixed", "--weights", "other.npz")
    message = refused("fuse", "ir.png", "vis.png", "-m", "jsr", *given, "-o", "no.png")
    assert "other.npz: the dictionary has the shape (64, 256), expected (49, 256)" in message


def test_verified_without_a_hash(refused):
    """Another network's weights under the name of a set of which no hash is known."""
    for name, source in (("cddfuse", "seafusion"), ("emma", "emma")):
        network = registry()[source].configurations["released"].build()
        save_weights(f"{name}.safetensors", network, {})
    error = refused("weights", "verify", "--weights-dir", ".")
    assert error == "does not fit: cddfuse. Get these files again.\n"
    Path(OURS.name).write_bytes(b"half a fi")
    error = refused("weights", "verify", "--weights-dir", ".")
    assert error == f"damaged: {OURS.stem}; does not fit: cddfuse. Get these files again.\n"


def test_all_about_a_weight_set(done, refused):
    """One fact per line, nothing cut off."""
    shown = done("weights", "list", "densefuse_tf_1e2").splitlines()
    entry = registry()["densefuse"].configurations["tensorflow"].weights[0]
    (file,) = entry.checkpoints[0].files
    for line in (
        "name: densefuse_tf_1e2",
        "method: densefuse",
        "state: not found",
        f"licence: {entry.licence}",
        "parameters: 74193",
        f"origin: {entry.origin}",
        "path: none",
        f"hash of the tensors: {entry.digest}",
        f"published file: {file.url}",
        "  size: unknown",
        "  sha256: unknown",
        "  git blob: unknown",
    ):
        assert line in shown
    shown = done("weights", "list", OURS.stem).splitlines()
    assert f"path: {OURS}" in shown and not any("published file" in line for line in shown)
    facts = [f"  {fact}: {value}" for fact, value in sorted(read_facts(OURS).items())]
    assert facts and shown[-len(facts) :] == facts
    assert "Did you mean 'nestfuse'" in refused("weights", "list", "nestfus")


@pytest.mark.parametrize("action", ["list", "verify"])
def test_a_folder_of_weights_that_is_not_there(refused, action):
    error = refused("weights", action, "--weights-dir", "gone")
    assert error.startswith("no such folder of weights: gone.")
    error = refused("fuse", "ir.png", "vis.png", "-o", "out.png", "--weights-dir", "gone")
    assert error.startswith("no such folder of weights: gone.")


# ---------------------------------------------------------------- folders


def test_folders(done, folders):
    assert "wrote 3 images to out" in done("fuse", "ir", "vis", "-o", "out")
    assert {path.name for path in Path("out").iterdir()} == {"0.png", "1.png", "2.png"}
    assert read_image("out/1.png").shape == (24, 28, 3)


def test_missing_partner(refused, folders):
    Path("vis/1.png").unlink()
    save(Path("vis/7.png"))
    message = refused("fuse", "ir", "vis", "-o", "out", writes={"out/0.png", "out/2.png"})
    assert message.startswith("2 could not be fused:")
    assert "1.png: only in ir" in message and "7.png: only in vis" in message


def test_damaged_file_in_a_folder(refused, folders):
    Path("ir/1.png").write_bytes(truncated())
    message = refused("fuse", "ir", "vis", "-o", "out", writes={"out/0.png", "out/2.png"})
    assert "1 could not be fused:" in message and "ir/1.png" in message


def test_skip_existing(done, folders, monkeypatch):
    done("fuse", "ir", "vis", "-o", "out")
    Path("out/1.png").unlink()
    calls = []
    original = Method.fuse_all
    monkeypatch.setattr(
        Method, "fuse_all", lambda self, pairs: calls.extend(pairs) or original(self, pairs)
    )
    out = done("fuse", "ir", "vis", "-o", "out", "--skip-existing")
    assert "wrote 1 images to out, 2 were there" in out
    assert len(calls) == 1


def test_how_networks_are_run(done, refused, folders):
    done("fuse", "ir", "vis", "-o", "out")
    ways = ("--tile", "16", "--threads", "1", "--channels-last", "--batch", "3", "--overlap", "8")
    done("fuse", "ir", "vis", "-o", "other", *ways)
    far = np.abs(read_image("other/1.png") - read_image("out/1.png"))
    assert far.max() <= 1.01 / 255
    assert "tile must be a whole number from 1, not 0" in refused(
        "fuse", "ir", "vis", "-o", "more", "--tile", "0"
    )
    assert "unknown precision 'half'" in refused(
        "fuse", "ir", "vis", "-o", "more", "--precision", "half"
    )


def test_no_bfloat16_here(refused, folders, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    message = refused("fuse", "ir", "vis", "-o", "out", "--precision", "bfloat16")
    assert "has no bfloat16 arithmetic here" in message


def test_jobs_below_one(refused, folders):
    assert "jobs must be at least 1" in refused("fuse", "ir", "vis", "-o", "out", "-j", "0")


def test_no_partner_at_all(refused):
    save(Path("ir/a.png"))
    save(Path("vis/b.png"))
    assert "no infrared image has a visible partner" in refused("fuse", "ir", "vis", "-o", "out")


def test_output_folder_is_a_file(refused, folders):
    Path("out").touch()
    assert "cannot write out/0.png" in refused("fuse", "ir", "vis", "-o", "out")


@pytest.mark.parametrize("option", ["--jobs", "--batch"])
def test_options_of_folders_are_refused_for_files(refused, option):
    message = refused("fuse", "ir.png", "vis.png", "-o", "x.png", option, "2")
    assert message.startswith("--jobs and --batch are of folders")


def test_a_scheduler_and_processes_here(refused):
    options = ["--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"]
    message = refused("benchmark", "res2netfuse", "sample", *options)
    assert message.startswith("--jobs is of this machine, and with --scheduler")


def test_a_scheduler_that_is_not_there(refused, monkeypatch):
    monkeypatch.setattr("fusionlib.scale.connect.__defaults__", (0.5,))  # seconds
    message = refused("benchmark", "res2netfuse", "sample", "--scheduler", "tcp://127.0.0.1:9")
    assert message.startswith("no Dask scheduler answers at tcp://127.0.0.1:9.")


# ---------------------------------------------------------------- training


# ---------------------------------------------------------------- scores


@pytest.fixture
def scored():
    """A fused image and a folder of them, their sources, in colour where the name is 2."""
    for k, folder in enumerate(("fused", "a", "b")):
        for name in range(3):
            shape = (48, 50, 3) if (folder, name) == ("b", 2) else (48, 50)
            save(Path(f"{folder}/{name}.png"), shape, seed=3 * k + name)


ONE = ("evaluate", "fused/0.png", "a/0.png", "b/0.png")
ALL = ("evaluate", "fused", "a", "b")


def test_evaluate_prints_the_librarys_values(done, scored):
    lines = done(*ONE, "--metrics", "EN,MI:tang", "-c", "li").splitlines()
    assert lines[0].split() == ["metric", "convention", "value", "better"]
    images = [read_image(path) for path in ONE[1:]]
    for line, (name, convention) in zip(lines[1:], [("EN", "li"), ("MI", "tang")], strict=True):
        expected = fusionlib.evaluate(*images, f"{name}:{convention}")[f"{name}:{convention}"]
        assert line.split() == [name, convention, f"{expected:.6g}", "higher"]


def test_evaluate_folders(done, scored, tmp_path):
    out = done(*ALL, "-m", "refinefuse", "--csv", "new/scores.csv", "-j", "2")
    rows = pd.read_csv("new/scores.csv", dtype={"pair": str})
    assert rows.groupby("pair").size().to_dict() == {"0": 7, "1": 7, "2": 7}
    assert set(rows["convention"]) == {"cddfuse", "tang"}
    mean = rows.loc[rows["metric"] == "VIF", "value"].mean()
    assert f"{mean:.6g}" in out and "wrote new/scores.csv" in out
    assert "scored on the luminance Y" in out
    before = Path("new/scores.csv").read_bytes()
    assert done(*ALL, "-m", "refinefuse", "--csv", "new/scores.csv", "-j", "1") == out
    assert Path("new/scores.csv").read_bytes() == before


def test_evaluate_says_what_could_not_be_scored(refused, scored):
    Path("a/1.png").write_bytes(truncated())
    save(Path("b/7.png"))
    message = refused(*ALL, "-m", "EN", "--csv", "s.csv", writes={"s.csv"})
    assert message.startswith("2 could not be scored:")
    assert "a/1.png" in message and "7: not in fused and a" in message
    assert set(pd.read_csv("s.csv")["pair"]) == {0, 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*ONE[:3], "b"), "three files or three folders"),
        ((*ONE[:3], "b/9.png"), "b/9.png"),
        ((*ONE[:3], "vis.png"), "50x48 and 50x48 and 28x24"),
        ((*ONE, "-m", "EM"), "Did you mean 'MI' or 'EN'"),
        ((*ONE, "-m", "Q_CB", "-c", "li"), "Q_CB has no convention 'li'"),
        ((*ONE, "-c", "textbook"), "'textbook'"),
        ((*ONE, "-m", "MS_SSIM"), "MS_SSIM needs images of at least 176x176"),
        ((*ONE, "--colour", "RGB"), "Known: Y, channels"),
        ((*ONE, "--csv", "ir.png"), "ir.png does not hold scores"),
        ((*ONE, "--csv", "ir.png/s.csv"), "cannot write ir.png/s.csv"),
        ((*ALL, "-j", "0"), "jobs must be at least 1, not 0"),
        (("evaluate", "fused", "a", "no"), "three files or three folders"),
        (("benchmark", "densfuse", "sample"), "Did you mean 'densefuse'"),
        (("benchmark", ",", "sample"), "no method is given"),
        (("benchmark", "res2netfuse", "sampel"), "Did you mean 'sample"),
        (("benchmark", "res2netfuse", "sample", "--limit", "0"), "limit is 0"),
    ],
)
def test_bad_scoring(refused, scored, arguments, words):
    assert words in refused(*arguments)


def test_benchmark(done):
    out = done("benchmark", "res2netfuse", "sample", "--limit", "1", "-m", "EN,SCD", "-j", "1")
    frame = fusionlib.benchmark("res2netfuse", "sample", limit=1, metrics=["EN", "SCD"])
    assert all(f"{value:.6g}" in out for value in frame["value"])
    assert "scored on the luminance Y" in out


# ---------------------------------------------------------------- listings and the rest


def test_listings(done, tmp_path):
    assert all(name in done("methods") for name in ("densefuse", "msdnet", "res2netfuse"))
    card = done("methods", "res2netfuse")
    assert "10.48550/arXiv.2112.14540" in card and "89617" in card.replace(",", "")
    assert all(name in done("datasets") for name in ("sample", "tno20"))
    assert done("datasets") == done("datasets", "list")
    (tmp_path / "tno20").mkdir()
    assert str(tmp_path / "tno20") in done("datasets", "list", "--data-dir", str(tmp_path))
    assert all(name in done("metrics") for name in ("SSIM_a", "Q_NCIE", "cddfuse"))
    assert "saturates at 255" in done("metrics", "MI")
    assert max(map(len, done("methods").splitlines())) <= 120
    assert "weights: densefuse_tf_1e2\n  weights found: 0 of 1" in done("methods", "densefuse")
    assert OURS.stem in done("weights")
    assert done("weights") == done("weights", "list")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["methods", "res2net"], "Did you mean 'res2netfuse'"),
        (["metrics", "Qabff"], "Did you mean 'Qabf'"),
        (["datasets", "fetch", "roadscen"], "Did you mean 'roadscene'"),
        (["datasets", "fetch", "sample"], "sample"),
        (["benchmark", "mst", "sample", "--device", "nonsense"], "device 'nonsense'"),
        (["train", "res2netfuse", "--help"], "'python -m reproduction train', in a clone"),
        (["detect"], "'python -m reproduction detect'"),
        (["reproduce", "--only", "03"], "'python -m reproduction run'"),
        (["claims", "-h"], "'python -m reproduction claims'"),
    ],
)
def test_bad_name(refused, arguments, words):
    assert words in refused(*arguments)


COMMANDS = [
    *([], ["fuse"], ["evaluate"], ["benchmark"], ["methods"], ["metrics"]),
    *(["datasets"], ["datasets", "list"], ["datasets", "fetch"]),
    *(["weights"], ["weights", "list"], ["weights", "verify"]),
    *(["weights", "fetch"], ["weights", "convert"]),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: fusionlib", *command]))


@pytest.mark.parametrize("command", [[], ["fusee"], ["fuse"], ["fuse", "a", "b"]])
def test_usage(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_ctrl_c(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Method, "fuse", interrupted)
    before = files()
    assert main(["fuse", "ir.png", "vis.png", "-o", "out.png"]) == 130
    assert "nothing is half-written" in capsys.readouterr().err
    assert files() == before


# ---------------------------------------------------------------- detect


# ---------------------------------------------------------------- the real command


def test_version():
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"fusionlib {fusionlib.__version__}\n")


def test_real_failure():
    command = [COMMAND, "fuse", "ir.png", "gone.png", "-o", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "fusionlib: gone.png: no such file. Check the spelling and the folder."
    ]


def test_real_ctrl_c():
    """What is finished stays and is whole; nothing else is there."""
    for i in range(200):
        save(Path(f"ir/{i}.png"), (150, 150), seed=i)
    Path("vis").symlink_to("ir")
    command = [COMMAND, "fuse", "ir", "vis", "-o", "out"]
    # A shell that runs the tests in the background lets them ignore the signal.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, preexec_fn=heed)
    while not Path("out/1.png").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "nothing is half-written" in error and "Traceback" not in error
    finished = list(Path("out").iterdir())
    assert 2 <= len(finished) < 200
    assert all(path.suffix == ".png" and not path.name.startswith(".") for path in finished)
    assert all(read_image(path).shape == (150, 150) for path in finished)


def test_closed_pipe_is_silent():
    """As in "fusionlib methods | head -1", where head has gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([COMMAND, "methods"], stdout=writer, stderr=-1, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_file_name_that_is_no_text():
    """Linux allows any bytes in a name; printing them must not fail."""
    name = b"out\xff.png"
    command = [COMMAND, "fuse", "ir.png", "vis.png", "-o", name]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=strict)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path(os.fsdecode(name)).exists()


@pytest.mark.skipif(
    not fusionlib.__file__.isascii(),
    reason="in the locale C, Python 3.11 cannot read the path of a clone with other letters",
)
def test_any_locale_home_and_folder(folders):
    """A locale that is not UTF-8, no home to write to, a folder with a space and other letters."""
    home, out = Path("home"), Path("\u00f6 ut/\u00e4 b")
    home.write_bytes(b"")
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"HOME": str(home.absolute())}
    command = [COMMAND, "fuse", "ir", "vis", "-o", os.fspath(out)]
    subprocess.run(command, env=environment, check=True)
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png"]


def test_sources_are_not_overwritten(tmp_path, capsys):
    image = np.zeros((20, 20), np.uint8)
    for name in ("ir", "vis"):
        write_image(tmp_path / f"{name}.png", image)
    before = (tmp_path / "vis.png").read_bytes()
    arguments = [str(tmp_path / "ir.png"), str(tmp_path / "vis.png")]
    assert main(["fuse", *arguments, "-o", str(tmp_path / "vis.png")]) == 2
    assert "one of the sources" in capsys.readouterr().err
    assert (tmp_path / "vis.png").read_bytes() == before


def test_name_too_long_for_the_system(tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((20, 20), np.uint8))
    file = str(tmp_path / "a.png")
    assert main(["fuse", file, file, "-o", str(tmp_path / ("x" * 300 + ".png"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_card_without_weights_says_where_to_get_them(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("FUSIONLIB_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["methods", "densefuse"]) == 0
    shown = capsys.readouterr().out
    assert "10.1109/TIP.2018.2887342" in shown and "pipeline pytorch" in shown
    assert "FUSIONLIB_WEIGHTS" in shown
