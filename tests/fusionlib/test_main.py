"""The command line: what is given wrong gets one message and status 2, and leaves no trace."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import fusionlib
from fusionlib.__main__ import main
from fusionlib.images import read_image
from fusionlib.methods import registry
from fusionlib.weights import read_facts, read_weights, save_weights
from tests.line import save, truncated

pytestmark = pytest.mark.usefixtures("here")
PROGRAM = "fusionlib"
OURS = Path(fusionlib.__file__).parent / "weights" / "res2netfuse_1_released_coco86.safetensors"
ONE_PAIR = ("fuse", "ir.png", "vis.png", "-o", "out.png")
FOLDERS = ("fuse", "ir", "vis", "-o", "out")
COMMAND = str(Path(sys.executable).with_name("fusionlib"))


# ---------------------------------------------------------------- one pair


def test_fuse_writes_what_the_library_gives(done):
    out = done("fuse", "ir.png", "vis.png", "-o", "new/out.png", "--rule", "mean")
    assert out == "wrote new/out.png\n"
    fused = fusionlib.create("res2netfuse", rule="mean").fuse(
        read_image("ir.png"), read_image("vis.png")
    )
    assert np.array_equal(read_image("new/out.png"), fused)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*ONE_PAIR, "--method", "res2netfus"), "Did you mean 'res2netfuse'"),
        ((*ONE_PAIR, "--rule", "l1norm"), "Did you mean 'l1_norm'"),
        ((*ONE_PAIR, "--pipeline", "tang"), "has no pipelines"),
        ((*ONE_PAIR, "--weights", "res2netfuse_1"), "res2netfuse_1_released_coco86"),
        ((*ONE_PAIR, "--weights", "gone.safetensors"), "no such weight file: gone.safetensors"),
        ((*ONE_PAIR, "--method", "densefuse"), "FUSIONLIB_WEIGHTS"),
        ((*ONE_PAIR, "--device", "nonsense"), "device 'nonsense' cannot be used here"),
        ((*ONE_PAIR, "--device", "cuda:99"), "device 'cuda:99' cannot be used here"),
        ((*ONE_PAIR, "--batch", "2"), "--jobs and --batch are of folders"),
        ((*ONE_PAIR, "-o", "out.xyz"), "'.xyz' is no image format"),
        ((*ONE_PAIR, "-o", "ir.png/out.png"), "cannot write ir.png/out.png"),
        ((*ONE_PAIR, "-o", "."), "suffix '' is no image format"),
        ((*ONE_PAIR, "-o", "vis.png"), "one of the sources"),
        ((*ONE_PAIR, "-o", f"{'x' * 300}.png"), "too long"),
        (("fuse", "ir.png", "gone.png", "-o", "out.png"), "gone.png: no such file"),
        (("fuse", ".", "vis.png", "-o", "out.png"), "two files or two folders"),
        (("fuse", "rgb.png", "vis.png", "-o", "out.png"), "infrared image rgb.png"),
        (
            ("fuse", "ir.png", "small.png", "-o", "out.png"),
            "infrared and visible must have one size, not 28x24 and 28x20",
        ),
        (("fuse", "bad.png", "vis.png", "-o", "out.png"), "bad.png"),
        (("fuse", "ir", "others", "-o", "out"), "no infrared image has a visible partner"),
        (("fuse", "ir", "vis", "-o", "ir.png"), "cannot write ir.png/0.png"),
        ((*FOLDERS, "--tile", "0"), "tile must be a whole number from 1, not 0"),
        ((*FOLDERS, "--precision", "half"), "unknown precision 'half'"),
        ((*FOLDERS, "--precision", "bfloat16"), "has no bfloat16 arithmetic here"),
        (("methods", "res2net"), "Did you mean 'res2netfuse'"),
        (("metrics", "Qabff"), "Did you mean 'Qabf'"),
        (("datasets", "fetch", "roadscen"), "Did you mean 'roadscene'"),
        (("datasets", "fetch", "sample"), "sample"),
        (("weights", "list", "nestfus"), "Did you mean 'nestfuse'"),
        (("weights", "list", "--weights-dir", "gone"), "no such folder of weights: gone."),
        (("weights", "verify", "--weights-dir", "gone"), "no such folder of weights: gone."),
        ((*ONE_PAIR, "--weights-dir", "gone"), "no such folder of weights: gone."),
        (("train", "res2netfuse", "--help"), "'python -m reproduction train', in a clone"),
        (("detect",), "'python -m reproduction detect'"),
        (("reproduce", "--only", "03"), "'python -m reproduction run'"),
        (("claims", "-h"), "'python -m reproduction claims'"),
    ],
)
def test_refused(refused, folders, monkeypatch, arguments, words):
    save(Path("rgb.png"), (24, 28, 3))
    save(Path("small.png"), (20, 28))
    save(Path("others/a.png"))
    Path("bad.png").write_bytes(truncated())
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    before = Path("vis.png").read_bytes()
    message = refused(*arguments)
    assert words in message and message.count("\n") == 1
    assert Path("vis.png").read_bytes() == before


# ---------------------------------------------------------------- weights


def test_weights_that_do_not_fit(refused):
    save_file(read_weights(OURS) | {"decoder.9.bias": torch.zeros(3)}, "mine.safetensors")
    message = refused(*ONE_PAIR, "--weights", "mine.safetensors")
    assert "1 extra: decoder.9.bias (3,)" in message
    np.savez("other.npz", dictionary=np.full((64, 256), 1 / 8))
    message = refused(*ONE_PAIR, "-m", "jsr", "--pipeline", "fixed", "--weights", "other.npz")
    assert "other.npz: the dictionary has the shape (64, 256), expected (49, 256)" in message


def test_damaged_weights(refused, done):
    assert done("weights", "verify").count("verified") >= 4
    data = OURS.read_bytes()
    Path(OURS.name).write_bytes(data[:5000])
    words = "not a readable safetensors file"
    arguments = (*ONE_PAIR, "--weights-dir", ".")
    assert words in refused(*arguments)
    assert f"damaged: {OURS.stem}" in refused("weights", "verify", "--weights-dir", ".")
    Path(OURS.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "does not hold the registered weights" in refused(*arguments)


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


def test_all_about_a_weight_set(done):
    """One fact per line, nothing cut off."""
    shown = done("weights", "list", "densefuse_tf_1e2").splitlines()
    entry = registry()["densefuse"].configurations["tensorflow"].weights[0]
    (address,) = entry.checkpoints[0].addresses
    for line in (
        "name: densefuse_tf_1e2",
        "method: densefuse",
        "state: not found",
        f"licence: {entry.licence}",
        "parameters: 74193",
        f"origin: {entry.origin}",
        "path: none",
        f"hash of the tensors: {entry.digest}",
        f"published file: {address}",
    ):
        assert line in shown
    shown = done("weights", "list", OURS.stem).splitlines()
    assert f"path: {OURS}" in shown and not any("published file" in line for line in shown)
    facts = [f"  {fact}: {value}" for fact, value in sorted(read_facts(OURS).items())]
    assert facts and shown[-len(facts) :] == facts


# ---------------------------------------------------------------- folders


def test_folders(done, folders):
    assert "wrote 3 images to out" in done(*FOLDERS)
    assert {path.name for path in Path("out").iterdir()} == {"0.png", "1.png", "2.png"}
    assert read_image("out/1.png").shape == (24, 28, 3)
    Path("out/1.png").unlink()
    assert "wrote 1 images to out, 2 were there" in done(*FOLDERS, "--skip-existing")


def test_what_cannot_be_fused_stops_no_other(refused, folders):
    Path("vis/1.png").unlink()
    save(Path("vis/7.png"))
    Path("ir/2.png").write_bytes(truncated())
    message = refused(*FOLDERS, writes={"out/0.png"})
    assert message.startswith("3 could not be fused:") and "ir/2.png" in message
    assert "1.png: only in ir" in message and "7.png: only in vis" in message


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
BENCHMARK = ("benchmark", "res2netfuse", "sample")
SCHEDULER = ("--scheduler", "tcp://127.0.0.1:9")


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
        ((*ONE[:3], "vis.png"), "50x48 and 50x48 and 28x24"),
        ((*ONE, "-m", "EM"), "Did you mean 'MI' or 'EN'"),
        ((*ONE, "-m", "Q_CB", "-c", "li"), "Q_CB has no convention 'li'"),
        ((*ONE, "--colour", "RGB"), "Known: Y, channels"),
        ((*ONE, "--csv", "ir.png"), "ir.png does not hold scores"),
        ((*ALL, "-j", "0"), "jobs must be at least 1, not 0"),
        (("benchmark", "densfuse", "sample"), "Did you mean 'densefuse'"),
        (("benchmark", ",", "sample"), "no method is given"),
        (("benchmark", "res2netfuse", "sampel"), "Did you mean 'sample"),
        ((*BENCHMARK, "--limit", "0"), "limit is 0"),
        ((*BENCHMARK, *SCHEDULER, "-j", "2"), "--jobs is of this machine, and with --scheduler"),
        ((*BENCHMARK, *SCHEDULER), "no Dask scheduler answers at tcp://127.0.0.1:9."),
    ],
)
def test_bad_scoring(refused, scored, monkeypatch, arguments, words):
    defaults = {"timeout": 0.5, "patience": 0.5}  # seconds
    monkeypatch.setattr("fusionlib.executors.dask_workers.__wrapped__.__kwdefaults__", defaults)
    assert words in refused(*arguments)


def test_benchmark(done):
    out = done("benchmark", "res2netfuse", "sample", "--limit", "1", "-m", "EN,SCD", "-j", "1")
    frame = fusionlib.benchmark("res2netfuse", "sample", limit=1, metrics=["EN", "SCD"])
    assert all(f"{value:.6g}" in out for value in frame["value"])
    assert "scored on the luminance Y" in out


def test_benchmark_of_own_images(done, refused):
    image = fusionlib.load_dataset("sample")[0].ir
    fusionlib.write_image("own/day_street.png", image)
    arguments = ("sample", "-m", "EN", "--limit", "1")
    printed = done("benchmark", "mine=own,mst", *arguments)
    assert "mine" in printed and "mst" in printed
    assert "no such folder" in refused("benchmark", "mine=gone", *arguments)


# ---------------------------------------------------------------- listings and the rest


def test_listings(done, tmp_path):
    methods = done("methods")
    assert all(name in methods for name in ("densefuse", "msdnet", "res2netfuse"))
    assert max(map(len, methods.splitlines())) <= 120
    card = done("methods", "res2netfuse")
    assert "10.48550/arXiv.2112.14540" in card and "89617" in card.replace(",", "")
    datasets = done("datasets")
    assert "sample" in datasets and "tno20" in datasets and datasets == done("datasets", "list")
    (tmp_path / "tno20").mkdir()
    assert str(tmp_path / "tno20") in done("datasets", "list", "--data-dir", str(tmp_path))
    metrics = done("metrics")
    assert all(name in metrics for name in ("SSIM_a", "Q_NCIE", "cddfuse"))
    assert "saturates at 255" in done("metrics", "MI")
    card = done("methods", "densefuse")  # whose weights are not here
    assert "10.1109/TIP.2018.2887342" in card and "pipeline pytorch" in card
    assert "weights: densefuse_tf_1e2\n  weights found: 0 of 1" in card
    assert "FUSIONLIB_WEIGHTS" in card
    weights = done("weights")
    assert OURS.stem in weights and weights == done("weights", "list")


@pytest.mark.parametrize("command", [[], ["fusee"], ["fuse"], ["fuse", "a", "b"]])
def test_usage(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


# ---------------------------------------------------------------- the real command


def test_real_command():
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"fusionlib {fusionlib.__version__}\n")
    command = [COMMAND, "fuse", "ir.png", "gone.png", "-o", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    message = "fusionlib: gone.png: no such file. Check the spelling and the folder.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_real_ctrl_c():
    """What is finished stays and is whole; nothing else is there."""
    for i in range(200):
        save(Path(f"ir/{i}.png"), (150, 150), seed=i)
    Path("vis").symlink_to("ir")
    command = [COMMAND, *FOLDERS]
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


@pytest.mark.skipif(not fusionlib.__file__.isascii(), reason="not readable in the locale C")
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
