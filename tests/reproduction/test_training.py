"""training: a run is a function of its images and settings, however often it is interrupted."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from fusionlib.errors import FusionError, ImageError, UnknownName
from fusionlib.losses import LossParts, ReconstructionLoss
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.weights import digest, read_weights, training_losses
from reproduction import training
from reproduction.gradients import _BiasGradient
from reproduction.recipes import find_recipe
from reproduction.training import (
    MANY_IMAGES,
    ONE_IMAGE,
    TrainingConfig,
    stable_after,
    train_by_recipe,
    train_res2netfuse,
    training_psnr,
)

pytestmark = pytest.mark.usefixtures("one_thread")

#: The paper's loss works from 11x11 pixels on; the released one needs 176x176.
ONE = TrainingConfig(variant="paper", iterations=6, size=16)
#: Five images in batches of two: an epoch has two batches, so five iterations end in the third.
MANY = replace(ONE, iterations=5, batch_size=2)


def pictures(count=1, shape=(20, 24), seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def run(images=None, config=ONE, **options):
    return train_res2netfuse(images or pictures(), config, progress=False, **options)


def same(a, b):
    """Whether two runs ended with the same bits."""
    weights = digest(a.network.state_dict()) == digest(b.network.state_dict())
    return weights and a.history.equals(b.history)


def recorded(checkpoint):
    """How many iterations a checkpoint has, of all stages."""
    return sum(map(len, torch.load(checkpoint)["losses"]))


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
        "precision": "single",
    }
    # 80,000 images, 4 epochs, batches of 4.
    assert MANY_IMAGES.iterations == 80_000 * 4 // 4
    assert (MANY_IMAGES.learning_rate, MANY_IMAGES.batch_size) == (1e-4, 4)


def test_mixed_precision_goes_the_same_way(tmp_path, monkeypatch):
    """What the network computes is as in single precision, so the first loss is the same."""
    monkeypatch.setattr("reproduction.training.has_bfloat16", lambda _: True)  # emulated, slowly
    mixed = replace(ONE, precision="mixed", iterations=3)
    single, other = run(config=replace(ONE, iterations=3)), run(config=mixed)
    assert not same(single, other)
    first, *others = other.history["total"] / single.history["total"]
    assert first == pytest.approx(1, abs=1e-6)
    assert others == pytest.approx([1, 1], abs=0.01)
    path = tmp_path / "c"
    run(config=mixed, checkpoint=path)
    with pytest.raises(FusionError, match="belongs to another run"):
        run(config=replace(mixed, precision="single"), checkpoint=path)


def test_steps_take_the_fast_gradients(monkeypatch):
    seen = []
    apart = _BiasGradient.apply
    monkeypatch.setattr(_BiasGradient, "apply", lambda *given: seen.append(1) or apart(*given))
    run(config=replace(ONE, iterations=1))
    assert len(seen) == 14  # the convolutions of a forward pass: one serves six times


def test_mixed_precision_where_there_is_none(tmp_path, monkeypatch):
    """Training takes single precision, says so, and goes on with a checkpoint from elsewhere."""
    mixed = replace(ONE, precision="mixed", iterations=2)
    path = tmp_path / "c"
    monkeypatch.setattr("reproduction.training.has_bfloat16", lambda _: True)
    assert run(config=mixed, checkpoint=path).facts["arithmetic"] == "mixed precision"
    monkeypatch.setattr("reproduction.training.has_bfloat16", lambda _: False)
    with pytest.warns(UserWarning, match=r"'cpu' has no bfloat16 .*: training in single precision"):
        without = run(config=mixed)
    single = run(config=replace(mixed, precision="single"))
    assert same(without, single)
    assert (without.facts["precision"], without.facts["arithmetic"]) == (
        "mixed",
        "single precision",
    )
    assert "arithmetic" not in single.facts
    longer = replace(mixed, iterations=3)
    with pytest.warns(UserWarning, match="training in single precision"):
        went_on = run(config=longer, checkpoint=path)
    assert went_on.facts["arithmetic"] == "mixed precision, then single precision"
    with warnings.catch_warnings(action="error"):  # nothing is left to train
        assert run(config=longer, checkpoint=path).facts == went_on.facts
    with pytest.raises(UnknownName, match="unknown precision of training 'half'"):
        replace(ONE, precision="half")


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"batch_size": 0},
        {"size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": 1.1},
        {"learning_rate": math.inf},
    ],
)
def test_impossible_settings(wrong):
    with pytest.raises(FusionError, match=next(iter(wrong)).replace("_", ".")):
        TrainingConfig(**wrong)


# ---------------------------------------------------------------- images


def test_files_and_arrays_are_the_same(tmp_path, whole):
    paths = []
    for i, image in enumerate(pictures(5)):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    assert same(run(paths, MANY), whole["many"])


def test_no_image():
    with pytest.raises(FusionError, match="at least one image or pair"):
        train_res2netfuse([], ONE)


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
    assert recorded(checkpoint) == 2
    assert same(run(checkpoint=checkpoint), whole["one"])


def test_killed_and_resumed(tmp_path):
    images = pictures()
    config = replace(ONE, iterations=3000)
    np.save(tmp_path / "image.npy", images[0])
    script = (
        "import numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "from reproduction.training import TrainingConfig, train_res2netfuse\n"
        f"train_res2netfuse([np.load('image.npy')], TrainingConfig(**{asdict(config)}),\n"
        "      checkpoint='checkpoint', every=1, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    checkpoint = tmp_path / "checkpoint"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = recorded(checkpoint)
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
    bias = torch.load(checkpoint)["networks"]["network.decoder.0.bias"]
    middle = data.index(bias.numpy().tobytes())
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    elif damage == "partial":
        state = torch.load(checkpoint)
        del state["optimisers"]
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


def test_infinite_loss_writes_nothing(tmp_path, monkeypatch):
    def endless(self, output, image):
        value = (output - 1e9).square().sum() * math.inf
        return LossParts(value, value, value)

    checkpoint = tmp_path / "checkpoint"
    monkeypatch.setattr(training.ReconstructionLoss, "forward", endless)
    with pytest.raises(FusionError, match=r"loss became inf at iteration 1 .* learning rate"):
        run(config=ONE, checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_infinite_weights_write_nothing(tmp_path, monkeypatch):
    """Not even where the loss that they would make is never computed: after the last iteration."""

    def step(self, *args):
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(math.inf)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(FusionError, match="weight is no longer finite after iteration 1 of"):
        run(config=replace(ONE, iterations=1), checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_not_enough_memory(tmp_path, monkeypatch):
    def full(self, *args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(training.ReconstructionLoss, "forward", full)
    with pytest.raises(MemoryError, match=r"batches of 1 squares of .*give a smaller batch size"):
        run(config=ONE)


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
    command = ["-m", "reproduction", "train", "res2netfuse", "images", "--variant", "paper"]
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
    outputs = [process.communicate()[0] for process in processes]
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


# ---------------------------------------------------------------- recipes: how many iterations


PAIRS = [tuple(pictures(2, (20, 24), seed=i)) for i in range(3)]


def cddfuse(data=PAIRS, **options):
    """CDDFuse has two stages, of 1/3 and 2/3 of its samples, and rates that fall."""
    settings = {"iterations": 6, "batch_size": 1, "size": 16, "progress": False}
    return train_by_recipe("cddfuse", data, **(settings | options))


def counts(result):
    return result.history.groupby("stage", sort=False).size().to_dict()


@pytest.mark.parametrize(
    ("iterations", "shared"), [(6, (2, 4)), (7, (2, 5)), (1, (1, 1)), (12, (4, 8))]
)
def test_iterations_are_shared_out_as_published(iterations, shared):
    plans = [
        training._Plan(stage, stage.iterations, 8, 128) for stage in find_recipe("cddfuse").stages
    ]
    shares = [iterations * share for share in training._shares(plans)]
    assert tuple(p.iterations for p in training._shared_out(plans, shares)) == shared


def test_shares_are_of_samples_where_batches_differ():
    """EMMA's stages see 8120 x 64 and 194,880 x 4 samples; in batches of one that is the ratio."""
    stages = find_recipe("emma").stages
    plans = [training._Plan(stage, stage.iterations, 1, 128) for stage in stages]
    sensing, fusion = 8_120 * 64, 194_880 * 4
    expected = [sensing / (sensing + fusion), fusion / (sensing + fusion)]
    assert training._shares(plans) == pytest.approx(expected)


class Clock:
    """Stands for time: an iteration of each stage takes what `seconds` says."""

    def __init__(self, monkeypatch, *seconds):
        self.now, self.steps = 100.0, []
        original = training._Run.step

        def step(run, number, batch):
            self.now += seconds[number]
            self.steps.append(number)
            return original(run, number, batch)

        monkeypatch.setattr(training._Run, "step", step)
        monkeypatch.setattr(training.time, "perf_counter", lambda: self.now)


def test_budget_is_shared_out_by_measured_time(monkeypatch):
    """Of a minute, one iteration of each stage and as many as take 5 s, but at least 2, are spent
    on measuring: 60 - 4 x 2 - 3 x 5 = 37 s are left. With two iterations of the second stage for
    one of the first that is 37 / (2 + 2 x 5) = 3.1."""
    clock = Clock(monkeypatch, 2.0, 5.0)
    result = cddfuse(budget=1, iterations=None)
    assert counts(result) == {"reconstruction": 3, "fusion": 6}
    assert clock.steps == [0] * 4 + [1] * 3 + [0] * 3 + [1] * 6
    assert "fusion: 6 iterations (published: 64960) of 1 (8) at 16x16" in result.facts["stages"]
    assert same(result, cddfuse(iterations=9))


def test_budget_beyond_the_published_length(monkeypatch):
    plans = [training._Plan(stage, 99, 8, 128) for stage in find_recipe("cddfuse").stages]
    monkeypatch.setattr(training, "_seconds_per_iteration", lambda *_: [1e-3, 1e-3])

    class Setup:
        world = 1

    fitted = training._fit(plans, Setup, budget=1e6, every=200)
    assert [plan.iterations for plan in fitted] == [32_480, 64_960]


def test_budget_too_short(monkeypatch):
    """120 - 3 x 31 = 27 s are left."""
    Clock(monkeypatch, 10.0, 21.0)
    with pytest.raises(FusionError, match=r"budget of 2 minutes is too short: .* takes 31 s"):
        cddfuse(budget=2, iterations=None)


@pytest.mark.parametrize(("budget", "steps"), [(0.01, [0]), (0.4, [0, 0, 0]), (0.7, [0, 0, 0, 1])])
def test_budget_spent_while_measuring(monkeypatch, budget, steps):
    """Given up after the first iteration that ends too late: 10 s each of the first stage."""
    clock = Clock(monkeypatch, 10.0, 21.0)
    with pytest.raises(FusionError, match=r"minutes is too short: it was spent before"):
        cddfuse(budget=budget, iterations=None)
    assert clock.steps == steps


@pytest.mark.parametrize(
    ("change", "words"), [({"every": 0}, "every must be"), ({"seed": -1}, "seed")]
)
def test_nothing_is_measured_for_wrong_settings(monkeypatch, change, words):
    clock = Clock(monkeypatch, 1.0, 1.0)
    with pytest.raises(FusionError, match=words):
        cddfuse(budget=1, iterations=None, **change)
    assert clock.steps == []


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")])
def test_budget_of_no_time(budget):
    with pytest.raises(FusionError, match="budget must be positive minutes"):
        cddfuse(budget=budget, iterations=None)


def test_budget_for_many_processes(monkeypatch):
    monkeypatch.setattr(training, "_join_processes", lambda device: (0, 2))
    with pytest.raises(FusionError, match="budget is for one process"):
        cddfuse(budget=1, iterations=None, batch_size=2)


def stop(monkeypatch, call):
    interrupt(monkeypatch, call, training._Run, "step")


def test_resumed_budget_keeps_its_iterations(monkeypatch, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Clock(patch, 2.0, 5.0)
        stop(patch, 7 + 5)
        cddfuse(budget=1, iterations=None, checkpoint=checkpoint)
    assert recorded(checkpoint) == 4
    # Faster now, or slower: what was begun is finished.
    with monkeypatch.context() as patch:
        clock = Clock(patch, 0.1, 0.1)
        result = cddfuse(budget=1, iterations=None, checkpoint=checkpoint)
        assert clock.steps == [1] * 5
    assert same(result, cddfuse(iterations=9))


def test_resumed_without_a_length_keeps_its_iterations(monkeypatch, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, 4)
        cddfuse(checkpoint=checkpoint)
    assert same(cddfuse(checkpoint=checkpoint, iterations=None), cddfuse())


@pytest.mark.parametrize(
    ("length", "said"),
    [
        ({"iterations": None}, "6 iterations as begun\n"),
        ({"iterations": None, "budget": 1}, "as begun; the budget does not change them\n"),
        ({"iterations": 6}, ""),
    ],
)
def test_continuing_says_so(monkeypatch, tmp_path, capsys, length, said):
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, 4)
        cddfuse(checkpoint=checkpoint)
    cddfuse(checkpoint=checkpoint, progress=True, **length)
    error = capsys.readouterr().err
    assert said in error and (f"continuing {checkpoint}: " in error) == bool(said)


def test_budget_after_the_end(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    result = cddfuse(checkpoint=checkpoint)
    with pytest.raises(FusionError, match="is finished, there is nothing left"):
        cddfuse(checkpoint=checkpoint, budget=1, iterations=None)
    assert same(cddfuse(checkpoint=checkpoint, iterations=None), result)


def test_other_length_where_rates_fall(tmp_path):
    """Every rate would have been another, so it is another run; nestfuse's are constant."""
    checkpoint = tmp_path / "checkpoint"
    cddfuse(checkpoint=checkpoint)
    words = r"is of a run of 2 \+ 4 iterations, this run asks for 4 \+ 8; what an iteration does"
    with pytest.raises(FusionError, match=words):
        cddfuse(checkpoint=checkpoint, iterations=12)

    def nestfuse(iterations, path=None):
        settings = {"batch_size": 1, "size": 16, "progress": False, "seed": 2}
        data = [pair[0] for pair in PAIRS]
        return train_by_recipe("nestfuse", data, iterations=iterations, checkpoint=path, **settings)

    longer = tmp_path / "longer"
    nestfuse(2, longer)
    assert same(nestfuse(4, longer), nestfuse(4))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "another run"),
        ({"batch_size": 2}, "another run"),
        ({"size": 18}, "another run"),
        ({"rate_factor": 2.0}, "another run"),
        ({"data": PAIRS[::-1]}, "images differ"),
    ],
)
def test_recipes_checkpoint_of_another_run(tmp_path, change, words):
    checkpoint = tmp_path / "checkpoint"
    cddfuse(checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(FusionError, match=words):
        cddfuse(checkpoint=checkpoint, **change)
    assert checkpoint.read_bytes() == before


def test_rates_fall_with_the_share_done_and_optimisers_stay(monkeypatch, tmp_path):
    """Two iterations and four instead of 40 epochs and 80: the rate is halved as at 20, 40, ..."""
    rates = []
    original = torch.optim.Adam.step

    def step(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    checkpoint = tmp_path / "checkpoint"
    assert cddfuse(checkpoint=checkpoint).facts["rate_factor"] == 1
    halves = [1e-4 / 2**k for k in range(6)]
    first = [rate for k in (0, 1) for rate in [halves[k]] * 2]
    second = [rate for k in range(4) for rate in [halves[2 + k]] * 2 + [halves[k]] * 2]
    assert rates == pytest.approx(first + second)
    rates.clear()
    assert cddfuse(rate_factor=3.0).facts["rate_factor"] == 3
    assert rates == pytest.approx([3 * rate for rate in first + second])
    state = torch.load(checkpoint)["optimisers"]
    steps = {part: int(one["state"][0]["step"]) for part, one in state.items()}
    assert steps == {
        "network.encoder": 6,
        "network.decoder": 6,
        "network.fuse_base": 4,
        "network.fuse_detail": 4,
    }


# ---------------------------------------------------------------- recipes: what goes wrong


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": []}, "at least one image or pair"),
        ({"data": pictures(2)}, "learns from pairs"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"size": 0}, "size must be at least 1"),
        ({"seed": -1}, "seed"),
        ({"rate_factor": 0.0}, "factor of learning rates must be positive"),
        ({"rate_factor": float("nan")}, "factor of learning rates must be positive"),
        ({"rate_factor": 1e5}, "factor of learning rates must be positive and at most 10000"),
        ({"size": 21}, r"^image \d is 24x20, smaller than the 21x21"),
        ({"device": "nonsense"}, "device 'nonsense'"),
        ({"every": 0}, "every must be at least 1"),
    ],
)
def test_bad_settings_of_a_recipe(settings, words):
    with pytest.raises(FusionError, match=words):
        cddfuse(**settings)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_names_the_images(monkeypatch, tmp_path, wrong):
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, 5)
        cddfuse(checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with monkeypatch.context() as patch:
        loss = "reproduction.recipes.cddfuse._decomposition"
        patch.setattr(loss, lambda *_: torch.tensor(wrong))
        words = rf"became {wrong} at iteration 3 of the stage fusion, on image [123]\. .*as they"
        with pytest.raises(FusionError, match=words):
            cddfuse(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert same(cddfuse(checkpoint=checkpoint), cddfuse())


def test_full_disk_keeps_the_old_checkpoint(monkeypatch, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, 3)
        cddfuse(checkpoint=checkpoint)
    before = checkpoint.read_bytes()

    def write_bytes(self, data):
        with self.open("wb") as file:
            file.write(bytes(data)[:1000])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(FusionError, match=r"cannot write .*checkpoint: No space left"):
            cddfuse(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert list(tmp_path.iterdir()) == [checkpoint]
    assert same(cddfuse(checkpoint=checkpoint), cddfuse())


def test_checkpoints_every_so_many_iterations_over_all_stages(monkeypatch, tmp_path):
    saved = []
    original = training._Run.save

    def save(run, path):
        saved.append(run.iteration)
        original(run, path)

    monkeypatch.setattr(training._Run, "save", save)
    cddfuse(checkpoint=tmp_path / "checkpoint", every=4)
    assert saved == [4, 6]  # the stages end after 2 and 6


def test_time_is_summed_over_pieces(monkeypatch, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, 3)
        cddfuse(checkpoint=checkpoint)
    first = torch.load(checkpoint)["seconds"]
    cddfuse(checkpoint=checkpoint)
    assert 0 < first < torch.load(checkpoint)["seconds"]
