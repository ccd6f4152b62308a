"""The plain code that benchmarks measure against: the same values as fusionlib's."""

from __future__ import annotations

import json
import runpy

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import __main__ as command, inference, plain, shared, throughput, training
from benchmarks.metrics import CONTESTS, compute, triple
from benchmarks.refinefuse_widths import CHOSEN, WITHIN, counted, printed, readings, size
from fusionlib.networks.aefusion import AEFusion
from fusionlib.networks.mufusion import MUFusion
from fusionlib.networks.refinefuse import RefineFuse


@pytest.mark.parametrize(
    ("name", "code", "tolerance"),
    [
        pytest.param(name, code, contest.tolerance, id=name)
        for contest in CONTESTS.values()
        for name, code in zip(contest.names, contest.plain, strict=True)
    ],
)
def test_plain_code_gives_the_same_values(name, code, tolerance):
    images = triple((52, 48))
    # Windows without contrast take branches of their own.
    for image, level in zip(images, (90, 90, 70), strict=True):
        image[10:30, 8:36] = level
    assert code(*images) == pytest.approx(compute(name, images), rel=tolerance)


def test_plain_networks_are_the_networks():
    torch.manual_seed(0)
    for network, sides in ((MUFusion(), (140, 130)), (RefineFuse(), (70, 61))):
        images = torch.rand(2, 1, 1, *sides)
        with torch.no_grad():
            text = plain.PLAIN[type(network).__name__.lower()](network).eval()(*images)
            assert (text - network.eval()(*images)).abs().max() < 1e-5 * text.std()


def test_plain_aefusion_is_aefusion(monkeypatch):
    monkeypatch.setattr("fusionlib.networks.aefusion.SIDE", 32)
    torch.manual_seed(0)
    ours = AEFusion()
    images = 255 * torch.rand(2, 1, 1, 32, 32)
    ours.train()(*images)  # gives the normalisations statistics
    torch.nn.init.constant_(ours.autoencoder.last.bias, 50)
    with torch.no_grad():
        text = plain.plain_aefusion(ours)(*images)
        result = ours.eval()(*images)
    assert (text - result).abs().max() < 1e-4 * result.std()


def test_a_network_is_measured(monkeypatch):
    monkeypatch.setattr(inference, "SECONDS", 0)
    who = inference.contestants(["densefuse"])[0]
    runs = [inference.measure(who, how, (80, 64)) for how in inference.MODES.values()]
    text = runs[0].output
    assert text.shape == (64, 80) and len(runs[0].seconds) == inference.FEWEST
    for run, allowed in zip(runs, (0, 1e-6, 3e-6, 0.03), strict=True):
        assert shared.difference(run.output, text) <= allowed
    changes = inference.metric_changes(who, text, text, (80, 64))
    assert {*changes.values()} == {0.0}


def test_plain_loop_begins_as_ours():
    """So its loss is the loss."""
    levels = training.picture()
    assert levels.shape == (256, 256) and levels.dtype == np.uint8
    _, text = training.plain_loop(levels, 2, torch.contiguous_format)
    _, ours = training.our_loop(levels, 2, "single")
    assert text == pytest.approx(ours, rel=1e-5)


def test_distance_of_curves():
    steady = np.full(400, 0.5)
    assert training.distances([*steady], [*steady]) == (0, 0)
    largest, mean = training.distances([*steady * 1.1], [*steady])
    assert largest == pytest.approx(10) and mean == pytest.approx(10)
    spike = steady.copy()
    spike[300] = 9  # a median over 100 does not see it
    assert training.distances([*spike], [*steady]) == (0, 0)


def test_parts_are_saved_one_by_one(monkeypatch, tmp_path):
    frames = {"metrics": pd.DataFrame({"a": [1.5]}), "workers": pd.DataFrame({"b": [2]})}
    for name, frame in frames.items():
        monkeypatch.setitem(command.PARTS, name, lambda frame=frame: frame)
    for name in frames:
        monkeypatch.setattr("sys.argv", ["x", "--only", name, "--save", str(tmp_path)])
        command.main()
    for name, frame in frames.items():
        assert pd.read_csv(tmp_path / f"{name}.csv").drop(columns="commit").equals(frame)
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts.keys() == frames.keys() and facts["metrics"]["versions"]["torch"]
    assert {name: facts[name]["threads"] for name in facts} == {"metrics": 1, "workers": 1}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--only", "networks", "--methods", "emna"], "no network 'emna'; there are aefusion"),
        (["--methods", "emma"], "--methods goes with --only networks"),
        (["--only", "speed"], "no part 'speed'; there are networks, metrics"),
    ],
)
def test_what_cannot_be_measured(monkeypatch, capsys, options, message):
    monkeypatch.setattr("sys.argv", ["x", *options])
    with pytest.raises(SystemExit):
        command.main()
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("module, part", [(throughput, "workers"), (training, "training")])
def test_a_part_alone_says_what_to_use(module, part):
    with pytest.raises(SystemExit, match=f"use: python -m benchmarks --only {part}"):
        runpy.run_path(module.__file__, run_name="__main__")


def test_some_networks_replace_their_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(command.inference, "table", lambda names: frame(*names))

    def frame(*names):
        return pd.DataFrame({"method": names, "ours s": float(len(names))})

    shared.save(tmp_path, "networks", frame("a", "b", "c"), {"commit": "a0b1"})
    options = ["--only", "networks", "--methods", "b,d", "--save", str(tmp_path)]
    monkeypatch.setattr(command.inference, "with_a_network", lambda: ["a", "b", "c", "d"])
    monkeypatch.setattr("sys.argv", ["x", *options])
    command.main()
    rows = pd.read_csv(tmp_path / "networks.csv")
    assert [*rows["method"]] == ["a", "b", "c", "d"]
    assert [*rows["ours s"]] == [3, 2, 3, 2]
    assert (rows["commit"] == "a0b1").tolist() == [True, False, True, False]


def test_numbers_of_the_chosen_reading_are_the_networks():
    """The closed form counts what the layers of the network have, to one."""
    assert size(CHOSEN) == counted()


def test_no_reading_of_round_grids_is_nearer_than_the_chosen():
    """Of multiples of 16, as the benchmark prints them."""
    found = readings(16)
    assert all(0 < far <= WITHIN for far, _ in found)
    round_grids = [r for _, r in found if all((g & (g - 1)) == 0 for g in r.grids)]
    assert round_grids[0] == CHOSEN
    assert printed() == pytest.approx((2.21e6, 12.73e9, 48.11e9))
