"""training: a run is a function of its images and settings, however often it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from fusionlib import training
from fusionlib.errors import FusionError, ImageError
from fusionlib.losses import ReconstructionLoss
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.training import (
    MANY_IMAGES,
    ONE_IMAGE,
    TrainingConfig,
    stable_after,
    train,
    training_psnr,
)
from fusionlib.weights import digest, read_weights, training_losses

pytestmark = pytest.mark.usefixtures("one_thread")

#: The paper's loss works from 11x11 pixels on; the released one needs 176x176.
ONE = TrainingConfig(variant="paper", iterations=6, size=16)
#: Five images in batches of two: an epoch has two batches, so five iterations end in the third.
MANY = replace(ONE, iterations=5, batch_size=2)


def pictures(count=1, shape=(20, 24), seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def run(images=None, config=ONE, **options):
    return train(images or pictures(), config, progress=False, **options)


def same(a, b):
    """Whether two runs ended with the same bits."""
    weights = digest(a.network.state_dict()) == digest(b.network.state_dict())
    return weights and a.history.equals(b.history)


@pytest.fixture(scope="module")
def whole(one_thread):
    """Uninterrupted runs on one image and on many."""
    return {"one": run(), "many": run(pictures(5), MANY)}


def interrupt(monkeypatch, calls, owner=ReconstructionLoss, name="forward"):
    """Raise KeyboardInterrupt in the given call (from 1) of a method."""
    original = getattr(owner, name)
    seen = 0

    def method(self, *args, **kwargs):
        nonlocal seen
        seen += 1
        if seen == calls:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, method)


# ---------------------------------------------------------------- one run


def test_deterministic(whole):
    assert same(run(), whole["one"])
    assert list(whole["one"].history) == ["iteration", "total", "pixel", "ssim"]
    assert list(whole["one"].history["iteration"]) == [1, 2, 3, 4, 5, 6]


def test_released_loss_at_its_smallest_size():
    config = TrainingConfig(iterations=1, size=176)
    history = run(pictures(shape=(176, 176)), config).history
    # Random weights reproduce next to nothing: the pixel term is about the image's mean
    # square, divided by the number of pixels; random levels have the mean square 21,717.
    assert history["pixel"][0] == pytest.approx(21_717 / 176**2, rel=0.05)
    with pytest.raises(ImageError, match="176x176"):
        run(config=replace(config, size=175))


def test_first_step_is_adam_on_the_loss():
    """Against the textbook: bias-corrected Adam's first step is lr g / (|g| + eps)."""
    config = replace(ONE, iterations=1)
    image = pictures(shape=(16, 16))[0]
    torch.manual_seed(config.seed)
    network = Res2NetFuse("paper")
    batch = torch.from_numpy(image.astype(np.float32))[None, None]
    ReconstructionLoss("paper")(network(batch), batch).total.backward()
    after = run([image], config).network.state_dict()
    for name, weight in network.named_parameters():
        step = config.learning_rate * weight.grad / (weight.grad.abs() + 1e-8)
        # Gradients differ by rounding (channels-last or not), which matters where they are tiny.
        close = (after[name] - (weight.detach() - step)).abs() < 1e-6
        assert close.float().mean() > 0.99


def test_seed_decides(whole):
    assert not same(run(config=replace(ONE, seed=1)), whole["one"])


def test_published_schedules():
    assert asdict(ONE_IMAGE) == {
        "variant": "released",
        "iterations": 2000,
        "learning_rate": 5e-4,
        "batch_size": 1,
        "size": 256,
        "seed": 0,
    }
    # 80,000 images, 4 epochs, batches of 4.
    assert MANY_IMAGES.iterations == 80_000 * 4 // 4
    assert (MANY_IMAGES.learning_rate, MANY_IMAGES.batch_size) == (1e-4, 4)


@pytest.mark.parametrize(
    "wrong", [{"iterations": 0}, {"batch_size": 0}, {"size": 0}, {"learning_rate": 0.0}]
)
def test_impossible_settings(wrong):
    with pytest.raises(FusionError, match=next(iter(wrong)).replace("_", ".")):
        TrainingConfig(**wrong)


# ---------------------------------------------------------------- images


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_nearest_neighbour_is_pillows(height, width, size):
    image = pictures(shape=(height, width))[0]
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.NEAREST)
    assert np.array_equal(training._gray_levels(image, size)[0], np.asarray(expected))


def test_rgb_enters_by_luminance():
    rgb = pictures(shape=(16, 16, 3))[0]
    exact = rgb @ np.array([0.299, 0.587, 0.114])
    # Half a level of rounding, and what single precision adds to it.
    assert np.abs(training._gray_levels(rgb, 16)[0].numpy() - exact).max() <= 0.5 + 1e-4


def test_files_and_arrays_are_the_same(tmp_path, whole):
    paths = []
    for i, image in enumerate(pictures(5)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    assert same(run(paths, MANY), whole["many"])


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 11), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_epoch_shows_every_image_at_most_once(count, batch, start, world):
    batch = min(batch, count) * world  # so that the processes' shares are equal
    images = [np.full((1, 1), i, np.uint8) for i in range(count * world)]
    config = TrainingConfig(iterations=12, batch_size=batch, size=1)

    def order(start, rank=0, world=1):
        return [b.flatten().tolist() for b in training._batches(images, config, start, rank, world)]

    whole = order(0)
    per_epoch = len(images) // batch
    epochs = [[*chain(*whole[i : i + per_epoch])] for i in range(0, 12, per_epoch)]
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
    assert order(start) == whole[start:]
    shares = [order(0, rank, world) for rank in range(world)]
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(chain(*parts)) == sorted(step)
        assert len({len(part) for part in parts}) == 1


def test_epochs_differ():
    images = [np.full((1, 1), i, np.uint8) for i in range(8)]
    config = TrainingConfig(iterations=2, batch_size=8, size=1)
    first, second = (b.tolist() for b in training._batches(images, config, 0, 0, 1))
    assert first != second


def test_no_image():
    with pytest.raises(FusionError, match="at least one image"):
        train([], ONE)


@pytest.mark.parametrize("count", [1, 3])
def test_unreadable_image(tmp_path, count):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(pictures()[0]).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(ImageError) as caught:
        run([bad] * count, checkpoint=checkpoint)
    assert str(bad) in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not checkpoint.exists()  # nothing was learnt, so nothing stands in the way


def test_absent_image(tmp_path):
    with pytest.raises(ImageError, match=r"no such training image: .*gone\.png"):
        run([tmp_path / "gone.png"])


# ---------------------------------------------------------------- interrupted and resumed


@pytest.mark.parametrize("which", ["one", "many"])
@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_interrupted_and_resumed(monkeypatch, tmp_path, whole, which, step):
    images, config = (pictures(), ONE) if which == "one" else (pictures(5), MANY)
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, step)
        run(images, config, checkpoint=checkpoint)
    assert checkpoint.exists() == (step > 1)
    assert same(run(images, config, checkpoint=checkpoint), whole[which])


def test_interrupted_while_the_optimiser_steps(monkeypatch, tmp_path, whole):
    """Weights that are changed in part are not written: the run continues from before."""
    checkpoint = tmp_path / "checkpoint"
    original = torch.optim.Adam.step
    seen = 0

    def step(self, *args):
        nonlocal seen
        seen += 1
        original(self, *args)
        if seen == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.Adam, "step", step)
        run(checkpoint=checkpoint, every=2)
    assert len(torch.load(checkpoint)["losses"]) == 2
    assert same(run(checkpoint=checkpoint), whole["one"])


def test_killed_and_resumed(tmp_path):
    images = pictures()
    config = replace(ONE, iterations=3000)
    np.save(tmp_path / "image.npy", images[0])
    script = (
        "import numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "from fusionlib.training import TrainingConfig, train\n"
        f"train([np.load('image.npy')], TrainingConfig(**{asdict(config)}),\n"
        "      checkpoint='checkpoint', every=1, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    checkpoint = tmp_path / "checkpoint"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(torch.load(checkpoint)["losses"])
    assert 1 <= done < 3000
    config = replace(config, iterations=done + 2)
    assert same(run(images, config, checkpoint=checkpoint), run(images, config))


def test_more_iterations(tmp_path, whole):
    checkpoint = tmp_path / "checkpoint"
    run(config=replace(ONE, iterations=4), checkpoint=checkpoint)
    assert same(run(checkpoint=checkpoint), whole["one"])


def test_fewer_iterations(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    run(checkpoint=checkpoint)
    with pytest.raises(FusionError, match="already at iteration 6"):
        run(config=replace(ONE, iterations=5), checkpoint=checkpoint)


def test_finished_run_is_returned(monkeypatch, tmp_path, whole):
    checkpoint = tmp_path / "checkpoint"
    run(checkpoint=checkpoint)
    written = checkpoint.stat().st_mtime_ns
    monkeypatch.setattr(ReconstructionLoss, "forward", None)
    assert same(run(checkpoint=checkpoint), whole["one"])
    assert checkpoint.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("change", "images", "words"),
    [
        ({"learning_rate": 1e-3}, pictures(), "0.001.*images equal"),
        ({"seed": 1}, pictures(), "another run"),
        ({"variant": "released", "size": 176}, pictures(), "another run"),
        ({}, pictures(seed=1), "images differ"),
        ({}, pictures(2), "images differ"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, change, images, words):
    checkpoint = tmp_path / "checkpoint"
    run(config=replace(ONE, iterations=1), checkpoint=checkpoint)
    with pytest.raises(FusionError, match=words):
        run(images, replace(ONE, **change), checkpoint=checkpoint)


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text", "other", "partial"])
def test_damaged_checkpoint(tmp_path, damage):
    checkpoint = tmp_path / "checkpoint"
    run(config=replace(ONE, iterations=1), checkpoint=checkpoint)
    data = bytearray(checkpoint.read_bytes())
    bias = torch.load(checkpoint)["network"]["decoder.0.bias"]
    middle = data.index(bias.numpy().tobytes())
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    elif damage == "partial":
        state = torch.load(checkpoint)
        del state["optimiser"]
        torch.save(state, checkpoint)
    else:
        data[middle] ^= 1
        checkpoint.write_bytes(
            {
                "empty": b"",
                "truncated": bytes(data[:middle]),
                "flipped": bytes(data),
                "text": b"iteration,total\n",
            }[damage]
        )
    before = checkpoint.read_bytes()
    with pytest.raises(FusionError, match="is not a checkpoint of fusionlib"):
        run(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match="cannot write"):
        run(config=replace(ONE, iterations=1), checkpoint=tmp_path / "file" / "checkpoint")


@pytest.mark.parametrize("every", [0, -1])
def test_checkpoints_are_some_iterations_apart(every):
    with pytest.raises(FusionError, match="every must be at least 1"):
        run(every=every)


def test_infinite_loss_writes_nothing(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(FusionError, match=r"loss became (nan|inf) at iteration .* learning rate"):
        run(config=replace(ONE, learning_rate=1e15), checkpoint=checkpoint)
    assert not checkpoint.exists()


# ---------------------------------------------------------------- processes


def test_batch_that_processes_cannot_share(monkeypatch):
    monkeypatch.setattr(training, "_join_processes", lambda device: (0, 2))
    with pytest.raises(FusionError, match="2 processes cannot share batches of 3 images evenly"):
        run(pictures(3), replace(ONE, batch_size=4))
    with pytest.raises(FusionError, match="2 processes cannot share batches of 1 images evenly"):
        run(pictures(3))


def test_two_processes(tmp_path):
    """The paper's loss is a mean over the batch, so two halves give what the whole gives."""
    images = tmp_path / "images"
    images.mkdir()
    for i, image in enumerate(pictures(4, (32, 32))):
        Image.fromarray(image).save(images / f"{i}.png")
    command = ["-m", "fusionlib", "train", "res2netfuse", "images", "--variant", "paper"]
    command += ["--iterations", "2", "--batch-size", "2", "-o"]
    alone = [sys.executable, *command, "alone.safetensors"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", *command, "together.safetensors"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT
        )
        for command in (alone, launcher)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[1].count("wrote together.safetensors") == 1
    one, two = (pd.read_csv(tmp_path / f"{n}.losses.csv") for n in ("alone", "together"))
    # Single precision keeps seven digits; the file holds seven, and sums of thousands of
    # terms in another order lose two.
    pd.testing.assert_frame_equal(one, two, rtol=1e-4)
    first, second = (read_weights(tmp_path / f"{n}.safetensors") for n in ("alone", "together"))
    # Each of Adam's two steps moves a weight by about the learning rate of 1e-4 at most.
    assert max((first[n] - second[n]).abs().max() for n in first) < 2.1e-4
    assert np.mean([float((first[n] - second[n]).abs().mean()) for n in first]) < 1e-6


# ---------------------------------------------------------------- when training is stable


@given(
    st.lists(st.floats(0.001, 100), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
)
def test_stable_after_by_definition(losses, fraction):
    history = pd.DataFrame({"total": losses})
    settled = [
        first
        for first in range(1, len(losses) + 2)
        if all(loss < fraction * losses[0] for loss in losses[first - 1 :])
    ]
    assert stable_after(history, fraction) == settled[0]


def test_stable_after_of_an_exponential():
    """exp(-k/20) is below 1 % of its start from k = 20 ln 100 = 92.1 on."""
    history = pd.DataFrame({"total": np.exp(-np.arange(400) / 20)})
    assert stable_after(history) == 94  # k = 93 is the 94th iteration
    assert stable_after(history.iloc[:50]) == 51


def test_package_directory_is_not_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(config=replace(ONE, iterations=1))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range(seed):
    with pytest.raises(FusionError, match="seed"):
        TrainingConfig(seed=seed)


def test_training_psnr_is_that_of_the_truncated_reconstruction():
    image = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    network = Res2NetFuse("paper")
    with torch.no_grad():
        output = network(torch.from_numpy(image).float()[None, None])[0, 0].numpy()
    error = np.mean((np.floor(np.clip(output, 0, 255)) - image) ** 2)
    expected = 10 * np.log10(255**2 / error)
    assert training_psnr(network, image, size=40) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("device", "own"), [("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_each_process_takes_its_own_gpu(monkeypatch, device, own):
    assert training._own_device(device) == device
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert training._own_device(device) == own


@pytest.mark.realdata
def test_recorded_training_begins_like_this_code(data_root):
    """Another processor rounds the last of seven digits otherwise; ten steps multiply it by ten."""
    image = data_root / "coco_train2017" / "images" / "000000000086.jpg"
    history = run([image], replace(ONE_IMAGE, iterations=10)).history
    recorded = training_losses("res2netfuse_1_released_coco86").head(10)
    pd.testing.assert_frame_equal(history, recorded, rtol=1e-5)
