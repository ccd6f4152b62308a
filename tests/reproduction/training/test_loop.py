"""loop: a run is a function of its images and settings, however often it is interrupted."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib.errors import FusionError
from fusionlib.losses import ReconstructionLoss
from fusionlib.methods import registry
from fusionlib.weights import digest, load_state, read_facts, read_weights, save_weights
from reproduction.training import Config, find_recipe, loop, train
from reproduction.training.gradients import _BiasGradient
from tests.reproduction.training.conftest import SMALL, interrupted, noise, pair, same, smooth

#: Of the stages of CDDFuse the second has twice the samples of the first; rates fall.
CDDFUSE = SMALL["cddfuse"]
RES2NETFUSE = SMALL["res2netfuse"]
NESTFUSE = SMALL["nestfuse"]


def recorded(checkpoint):
    """How many iterations a checkpoint has, of all stages."""
    return sum(map(len, torch.load(checkpoint)["record"][0]))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("cddfuse", {"data": []}, "at least one image or pair"),
        ("cddfuse", {"data": [noise()]}, "learns from pairs"),
        ("cddfuse", {"iterations": 0}, "iterations must be at least 1, not 0"),
        ("cddfuse", {"seed": -1}, r"seed must be 0 to 2\*\*63 - 1, not -1"),
        ("cddfuse", {"rate_factor": float("nan")}, "factor of learning rates must be positive"),
        ("cddfuse", {"rate_factor": 10_001.0}, "and at most 10000, which makes them 1, not 10001"),
        ("cddfuse", {"device": "nonsense"}, "device 'nonsense'"),
        ("cddfuse", {"hold_out": 1}, "of 3 pairs every 1th cannot be held out"),
        ("cddfuse", {"hold_out": 4}, "of 3 pairs every 4th cannot be held out"),
        ("cddfuse", {"size": 61}, r"^pair is 60x60, smaller than the 61x61"),
        ("nestfuse", {"size": 15}, r"learn from squares of 15, only of 16 and more\."),
        ("emma", {"size": 40}, r"only of 32 and more by 16\."),
        ("aefusion", {"size": 128}, r"only of 16\."),
    ],
)
def test_impossible_settings(method, settings, words):
    with pytest.raises(FusionError, match=words):
        SMALL[method].train(**settings)


@pytest.mark.parametrize(
    ("method", "iterations", "shared"),
    [
        *(("cddfuse", 6, [2, 4]), ("cddfuse", 7, [2, 5]), ("cddfuse", 1, [1, 1])),
        # 8120 batches of 64 and 194,880 of 4, as many samples in batches of one.
        ("emma", 8_120 * 64 + 194_880 * 4, [8_120 * 64, 194_880 * 4]),
    ],
)
def test_iterations_are_shared_out_by_published_samples(method, iterations, shared):
    config = Config(iterations=iterations, batch_size=1)
    stages = loop._adapt(SMALL[method].recipe.stages, config, 100)
    assert [stage.iterations for stage in stages] == shared


def test_rates_fall_with_the_share_done_and_optimisers_stay(monkeypatch, tmp_path):
    """Two iterations and four instead of 40 epochs and 80: the rate is halved as at 20, 40, ..."""
    rates = []
    original = torch.optim.Adam.step

    def step(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    checkpoint = tmp_path / "checkpoint"
    CDDFUSE.train(iterations=6, checkpoint=checkpoint)
    halves = [1e-4 / 2**k for k in range(6)]
    first = [rate for k in (0, 1) for rate in [halves[k]] * 2]
    second = [rate for k in range(4) for rate in [halves[2 + k]] * 2 + [halves[k]] * 2]
    assert rates == pytest.approx(first + second)
    rates.clear()
    assert CDDFUSE.train(iterations=6, rate_factor=3.0).facts["rate_factor"] == 3
    assert rates == pytest.approx([3 * rate for rate in first + second])
    state = torch.load(checkpoint)["optimisers"]
    steps = {part.split("_")[0]: one["state"][0]["step"] for part, one in state.items()}
    assert steps == {"network.encoder": 6, "network.decoder": 6, "network.fuse": 4}


def test_a_recipe_of_ones_own():
    class Own(find_recipe("res2netfuse")):
        method = "mine"

    config = Config(iterations=1, size=16)
    result = train(Own, [noise()], config, options={"variant": "paper"}, progress=False)
    assert result.facts["method"] == "mine"


# ---------------------------------------------------------------- what comes of it


def test_history_and_facts(small, whole):
    history, facts = whole(small).history, whole(small).facts
    assert list(history)[:3] == ["stage", "iteration", "total"]
    for stage in small.build().schedule(3):
        rows = history[history["stage"] == stage.name]
        assert list(rows["iteration"]) == list(range(1, len(rows) + 1))
        assert rows["total"].notna().all()
        assert f" iterations (published: {stage.iterations}) of 2 " in facts["stages"]
    assert len(history) == 4
    assert facts["method"] == small.method
    count = f"3 {small.recipe.learns_from} of given arrays (published: {small.recipe.published})"
    assert facts["learnt_from"] == count
    assert facts["trained_by"] == "python -m reproduction train" and facts["threads"] == 1


def test_seed_decides(whole):
    other = CDDFUSE.train(seed=1, iterations=1).history["total"]
    assert other[0] != whole(CDDFUSE).history["total"][0]


def test_weights_fit_the_method(small, whole, tmp_path):
    """Written, read and adapted as the method does it, strictly."""
    path = tmp_path / "mine.safetensors"
    network = whole(small).network
    save_weights(path, network, whole(small).facts)
    configurations = registry()[small.method].configurations
    first = next(iter(configurations.values()))
    configuration = configurations.get(small.options.get("variant"), first)
    built = configuration.build(*configuration.rules[:1])
    tensors = read_weights(path)
    load_state(built, configuration.adapt(tensors) if configuration.adapt else tensors, path)
    assert digest(built.state_dict()) == digest(network.state_dict())
    assert read_facts(path)["method"] == small.method


def test_loss_falls_on_one_sample(small):
    image = smooth(small.size)
    # Not a pair of two: of one image twice mean and maximum, which EMMA draws from, are equal.
    parts = {
        "images": image,
        "pairs": pair(image, image),
        "labelled pairs": pair(image, image, image > 170),
    }
    data = [parts[small.recipe.learns_from]]
    # NestFuse's output is dead with other seeds, see below.
    history = small.train(data, iterations=9, batch_size=1, seed=2).history
    loss = "content" if small.method == "fusiongan" else "total"
    for _, rows in history.groupby("stage"):
        assert rows[loss].iloc[-1] < rows[loss].iloc[0]


def test_steps_take_the_fast_gradients(monkeypatch):
    seen = []
    apart = _BiasGradient.apply
    monkeypatch.setattr(_BiasGradient, "apply", lambda *given: seen.append(1) or apart(*given))
    RES2NETFUSE.train(iterations=1)
    assert len(seen) == 14  # the convolutions of a forward pass: one serves six times


def test_files_and_arrays_are_the_same(tmp_path, whole, monkeypatch):
    """In a thread, too, which gets no signals."""
    monkeypatch.chdir(tmp_path)
    for i, image in enumerate(RES2NETFUSE.data()):
        Image.fromarray(image).save(f"{i}.png")
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(RES2NETFUSE.train, [f"{i}.png" for i in range(3)]).result()
    assert same(result, whole(RES2NETFUSE))
    assert len(list(Path().iterdir())) == 3  # nothing was written


# ---------------------------------------------------------------- interrupted and resumed


def test_interrupted_and_resumed(small, whole, monkeypatch, tmp_path):
    """In every stage; the iteration is finished first."""
    checkpoint = tmp_path / "checkpoint"
    before = signal.getsignal(signal.SIGINT)
    for iteration, done in ((1, 1), (2, 3)):  # the second run begins with the second iteration
        interrupted(monkeypatch, small, iteration, checkpoint=checkpoint)
        assert recorded(checkpoint) == done and signal.getsignal(signal.SIGINT) is before
    assert same(small.train(checkpoint=checkpoint), whole(small))


@pytest.mark.parametrize("twice", [False, True])
def test_stopped_while_the_optimiser_steps(monkeypatch, tmp_path, whole, twice):
    """By an error, or a second Ctrl-C, which does not wait: the run continues from before."""
    checkpoint, original, seen = tmp_path / "checkpoint", torch.optim.Adam.step, []

    def step(self, *given):
        seen.append(1)
        if len(seen) == 2 + 4 + 2:
            for _ in range(2 * twice):
                os.kill(os.getpid(), signal.SIGINT)
            raise MemoryError
        return original(self, *given)

    with monkeypatch.context() as patch, pytest.raises((MemoryError, KeyboardInterrupt)) as caught:
        patch.setattr(torch.optim.Adam, "step", step)
        CDDFUSE.train(checkpoint=checkpoint, every=1)
    assert (caught.type is KeyboardInterrupt) == twice
    assert recorded(checkpoint) == 2
    assert same(CDDFUSE.train(checkpoint=checkpoint, every=1), whole(CDDFUSE))


@pytest.mark.parametrize("bad", [1, 3])
def test_unreadable_image(tmp_path, bad):
    """What was learnt before is written, and nothing if nothing was."""
    checkpoint, files = tmp_path / "checkpoint", [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(files, RES2NETFUSE.data(), strict=True):
        Image.fromarray(image).save(file)
    order = np.random.default_rng((0, 0, 0)).permutation(3)  # of the first epoch
    damaged = files[order[bad - 1]]
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-60] + bytes(60))  # another size would be another image
    with pytest.raises(FusionError, match=str(damaged)):
        RES2NETFUSE.train(files, batch_size=1, checkpoint=checkpoint)
    assert (recorded(checkpoint) if checkpoint.exists() else 0) == bad - 1
    damaged.write_bytes(data)
    resumed = RES2NETFUSE.train(files, batch_size=1, checkpoint=checkpoint)
    assert same(resumed, RES2NETFUSE.train(batch_size=1))


def test_finished_run_is_returned(monkeypatch, tmp_path, whole):
    checkpoint = tmp_path / "checkpoint"
    RES2NETFUSE.train(checkpoint=checkpoint)
    written = checkpoint.stat().st_mtime_ns
    monkeypatch.setattr(ReconstructionLoss, "forward", None)
    assert same(RES2NETFUSE.train(checkpoint=checkpoint), whole(RES2NETFUSE))
    assert checkpoint.stat().st_mtime_ns == written


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "another run .*seed: 0, here 1"),
        ({"batch_size": 1}, "another run .*stages: .* of 2 .*, here .* of 1 "),
        ({"rate_factor": 2.0}, "another run .*rate_factor: 1.0, here 2.0"),
        ({"options": {"variant": "paper", "learning_rate": 1e-3}}, "None, here 0.001"),
        ({"data": RES2NETFUSE.data()[::-1]}, "another run .*images: "),
        ({"hold_out": 3, "data": RES2NETFUSE.data(4)}, "hold_out: None, here 3"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, change, words):
    checkpoint = tmp_path / "checkpoint"
    RES2NETFUSE.train(checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(FusionError, match=words):
        RES2NETFUSE.train(**change, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "other"])
def test_damaged_checkpoint(tmp_path, damage):
    checkpoint = tmp_path / "checkpoint"
    RES2NETFUSE.train(iterations=1, checkpoint=checkpoint)
    data = bytearray(checkpoint.read_bytes())
    state = torch.load(checkpoint)
    middle = data.index(state["networks"]["network.decoder.0.bias"].numpy().tobytes())
    data[middle] ^= 1
    damaged = {"empty": b"", "truncated": data[:middle], "flipped": data}
    if damage == "other":  # of an earlier version, say
        torch.save({"settings": state["settings"], "rows": []}, checkpoint)
    else:
        checkpoint.write_bytes(damaged[damage])
    before = checkpoint.read_bytes()
    with pytest.raises(FusionError, match="is not a checkpoint of a training"):
        RES2NETFUSE.train(iterations=1, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_full_disk_keeps_the_old_checkpoint(monkeypatch, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    interrupted(monkeypatch, CDDFUSE, 2, checkpoint=checkpoint)
    before = checkpoint.read_bytes()

    write = Path.write_bytes

    def write_bytes(self, data):
        write(self, bytes(data)[:1000])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(FusionError, match=r"cannot write .*checkpoint: No space left"):
            CDDFUSE.train(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert list(tmp_path.iterdir()) == [checkpoint]


# ---------------------------------------------------------------- what goes wrong


def test_loss_that_is_not_finite_names_the_images(monkeypatch, tmp_path, whole):
    checkpoint = tmp_path / "checkpoint"
    interrupted(monkeypatch, CDDFUSE, 2, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with monkeypatch.context() as patch:
        loss = "reproduction.training.cddfuse._decomposition"
        patch.setattr(loss, lambda *_: torch.tensor(math.nan))
        words = r"became nan at iteration 2 of the stage fusion, on pair, pair. .*as they"
        with pytest.raises(FusionError, match=words):
            CDDFUSE.train(checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert same(CDDFUSE.train(checkpoint=checkpoint), whole(CDDFUSE))


def test_infinite_weights_write_nothing(tmp_path, monkeypatch):
    """Not even where the loss that they would make is never computed: after the last iteration."""

    def step(self, *args):
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(math.inf)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(FusionError, match="weight is no longer finite after iteration 1 of"):
        RES2NETFUSE.train(iterations=1, checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_dead_output_is_given_up(monkeypatch):
    """Seed 1 gives an output below zero, which the last ReLU cuts off with its gradient."""
    image = smooth(16)
    output = NESTFUSE.build(seed=1).network.autoencoder(torch.from_numpy(image).float()[None, None])
    assert not output.any()
    monkeypatch.setattr(loop, "IDLE", 4)
    with pytest.raises(FusionError, match=r"nothing to go by in 4 iterations up to 4 .* seed"):
        NESTFUSE.train([image], iterations=5, seed=1)
    assert len(NESTFUSE.train([image], iterations=3, seed=1).history) == 3


def test_not_enough_memory(monkeypatch):
    def full(self, *args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(ReconstructionLoss, "forward", full)
    with pytest.raises(MemoryError, match=r"batches of 2 squares of .*give a smaller batch size"):
        RES2NETFUSE.train()


# ---------------------------------------------------------------- held out


@pytest.mark.parametrize("method", ["emma", "nestfuse", "refinefuse"])
def test_held_out(method, whole, monkeypatch, tmp_path):
    """What is held out is judged and not learnt from; stopping changes nothing of that."""
    small = SMALL[method]
    data = small.data(4)
    settings = {"hold_out": 4, "every": 2, "data": data}
    run = small.train(**settings)
    # The same three, in the same order, as without the first: so the same weights.
    assert digest(run.network.state_dict()) == digest(small.train(data[1:]).network.state_dict())
    losses = [name for name in whole(small).history if name not in ("stage", "iteration")]
    assert [name for name in run.history if name.startswith("held out ")] == [
        f"held out {name}" for name in losses
    ]
    measured = run.history[run.history["held out total"].notna()]
    stages = run.history.groupby("stage", sort=False)["iteration"].max().cumsum()
    assert set(measured.index + 1) == {2, 4, *stages}
    about = run.facts["learnt_from"]
    assert about.startswith("3 ") and "1 more held out" in about
    checkpoint = tmp_path / "checkpoint"
    interrupted(monkeypatch, small, 3, **settings, checkpoint=checkpoint)
    assert same(small.train(**settings, checkpoint=checkpoint), run)
    with pytest.raises(FusionError, match=r"belongs to another run .images: "):
        small.train(**settings | {"data": [data[1], *data[1:]]}, checkpoint=checkpoint)


def test_held_out_losses_are_means_over_batches():
    """The same picture twice, in batches of one, has the losses that it has alone."""
    a, b, c = RES2NETFUSE.data()
    once = RES2NETFUSE.train([a, b, c], hold_out=3, batch_size=1)
    twice = RES2NETFUSE.train([a, b, a, c], hold_out=2, batch_size=1)
    assert twice.history.equals(once.history)


# ---------------------------------------------------------------- processes


def test_batch_that_processes_cannot_share(monkeypatch):
    monkeypatch.setattr(loop, "_join_processes", lambda device: (0, 2))
    with pytest.raises(FusionError, match="2 processes cannot share batches of 3 images evenly"):
        RES2NETFUSE.train(batch_size=4)


def test_two_processes(tmp_path):
    """The paper's loss is a mean over the batch, so two halves give what the whole gives."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(4):
        Image.fromarray(noise((32, 32), seed)).save(images / f"{seed}.png")
    command = ["-m", "reproduction", "train", "res2netfuse", "images", "--variant", "paper"]
    command += ["--iterations", "2", "--batch-size", "2", "-o"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True}
    for launcher, name in (([], "alone"), (launch, "together")):
        one = [sys.executable, *launcher, *command, f"{name}.safetensors"]
        done = subprocess.run(one, stdout=-1, stderr=subprocess.STDOUT, **settings)
        assert done.returncode == 0, done.stdout
        assert done.stdout.count(f"wrote {name}.safetensors") == 1
    one, two = (pd.read_csv(tmp_path / f"{n}.losses.csv") for n in ("alone", "together"))
    # Single precision keeps seven digits; the file holds seven, and sums of thousands of
    # terms in another order lose two.
    pd.testing.assert_frame_equal(one, two, rtol=1e-4)
    first, second = (read_weights(tmp_path / f"{n}.safetensors") for n in ("alone", "together"))
    # Each of Adam's two steps moves a weight by about the learning rate of 1e-4 at most.
    assert max((first[n] - second[n]).abs().max() for n in first) < 2.1e-4
    assert np.mean([float((first[n] - second[n]).abs().mean()) for n in first]) < 1e-6


def test_each_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(FusionError, match="the device 'cuda:99' cannot be used"):
        RES2NETFUSE.train(device="cuda")
