"""Ablations: rows are trained alike, directions by hand, costs of all variants."""

from __future__ import annotations

import shlex
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import fusionlib as fl
from fusionlib.networks.refinefuse import METHOD, VARIANTS
from fusionlib.weights import read_facts, read_weights
from reproduction import ablations, experiments
from reproduction.ablations import (
    ABLATIONS,
    SCHEDULES,
    TRAINED,
    Schedule,
    directions,
    train_ablations,
)
from reproduction.training.refinefuse import RefineFuseRecipe

SMALL = {"refinefuse_short": ABLATIONS["refinefuse_short"],
         "refinefuse_scales_1": ABLATIONS["refinefuse_scales_1"]}  # fmt: skip


@pytest.fixture
def small(monkeypatch, one_thread):
    """Two rows, two iterations."""
    schedule = Schedule("sample", 16, 2, 2, 2, 3, False, tuple(SMALL))
    monkeypatch.setitem(SCHEDULES, "sample", schedule)


def test_rows_are_trained_once_and_found(small, tmp_path, monkeypatch):
    history = train_ablations(profile="sample", results_dir=tmp_path, progress=False)
    folder = ablations.ablation_folder("sample", tmp_path)
    assert list(history["weights"].unique()) == list(SMALL)
    assert list(history.columns[:3]) == ["weights", "stage", "iteration"]
    for name, ablation in SMALL.items():
        facts = read_facts(folder / f"{name}.safetensors")
        assert facts["setting"] == ablation.setting and facts["optimiser"] == "adam"
        assert facts["learnt_from"].endswith("held out")
        method = fl.create("refinefuse", variant=ablation.variant, weights=name, weights_dir=folder)
        assert method.identity.weights.startswith(name)
    assert not (read_weights(folder / "refinefuse_scales_1.safetensors").keys()
                & {"decoders.0.mix.weight"})  # fmt: skip
    # What is there is not trained again.
    monkeypatch.setattr(ablations, "train", None)
    again = train_ablations(profile="sample", results_dir=tmp_path, progress=False)
    assert again.equals(history)


def test_weights_of_another_training_are_not_taken(small, tmp_path, monkeypatch):
    """A row whose seed or setting is another one now is trained again, elsewhere all of them."""
    first = train_ablations(profile="sample", results_dir=tmp_path, progress=False)
    other = ABLATIONS["refinefuse_scales_1"]._replace(seed=5)
    monkeypatch.setitem(ABLATIONS, "refinefuse_scales_1", other)
    again = train_ablations(profile="sample", results_dir=tmp_path, progress=False)
    same = (first == again).groupby(first["weights"])["total"].all()
    assert same.to_dict() == {"refinefuse_short": True, "refinefuse_scales_1": False}
    folder = ablations.ablation_folder("sample", tmp_path)
    monkeypatch.setitem(SCHEDULES, "sample", SCHEDULES["sample"]._replace(iterations=3))
    assert ablations.ablation_folder("sample", tmp_path) != folder
    with pytest.raises(fl.FusionError, match=r"profile 'papers'.*'paper'"):
        train_ablations(profile="papers", results_dir=tmp_path)


def test_sample_goes_on_from_the_trained_network(tmp_path, monkeypatch, one_thread):
    """Of the losses of Table 8 only; the first loss is that of a network that has learnt."""
    assert [ABLATIONS[name].setting for name in SCHEDULES["sample"].rows] == ["ours", "A", "B", "C"]
    short = SCHEDULES["sample"]._replace(size=32, iterations=1, every=1, rows=("refinefuse_short",))
    losses = []
    for start in (True, False):
        monkeypatch.setitem(SCHEDULES, "sample", short._replace(start=start))
        history = train_ablations(profile="sample", results_dir=tmp_path, progress=False)
        losses.append(history["texture"].item())
    assert losses[0] < 0.5 * losses[1]


def test_commands_are_the_schedule():
    """What an error tells the user to type is what profile paper does."""
    schedule = SCHEDULES["paper"]
    entries = {f.name: f for one in METHOD.configurations.values() for f in one.weights}
    for name, ablation in ABLATIONS.items():
        words = shlex.split(entries[name].made_by)
        command = "python -m reproduction train refinefuse"
        assert words[:8] == [*command.split(), schedule.dataset, "-o", f"{name}.safetensors"]
        options = dict(w.split("=") for flag, w in pairwise(words) if flag == "--option")
        flags = {f: w for f, w in pairwise(words) if f.startswith("--") and f != "--option"}
        numbers = {"--crop": schedule.size, "--batch-size": schedule.batch_size,
                   "--iterations": schedule.iterations, "--every": schedule.every,
                   "--hold-out": schedule.hold_out, "--seed": ablation.seed}  # fmt: skip
        assert {f: int(w) for f, w in flags.items() if f != "--half"} == numbers
        departs, _ = VARIANTS[ablation.variant]
        read = {key: RefineFuseRecipe.options[key].read(value) for key, value in options.items()}
        assert read == {**TRAINED, "setting": ablation.setting, **departs}


def test_every_row_can_be_created():
    for variant, one in METHOD.configurations.items():
        ours = {name for name, ablation in ABLATIONS.items() if ablation.variant == variant}
        assert {file.name for file in one.weights} - {"refinefuse"} == ours


@pytest.mark.parametrize("number", ["08", "09", "10"])
def test_recorded_tables_are_whole(number):
    """Every row of the print, on the same 121 pairs, by the weights of its name."""
    measured = experiments.recorded(f"refinefuse_{number}")
    rows = experiments.TABLES[measured.table]
    assert {row.paper for row in rows} == set(experiments.paper_values(measured.table)["row"])
    pairs = measured.per_pair.groupby("row")["pair"].agg(frozenset)
    assert len(set(pairs)) == 1 and len(pairs.iloc[0]) == 121
    weights = measured.per_pair.groupby("row")["weights"].unique()
    named = {label: [one.split("@")[0] for one in ones] for label, ones in weights.items()}
    assert named == {row.label: [row.options["weights"]] for row in rows}


# ---------------------------------------------------------------- directions


def measured(**values):
    """A table of two metrics, SSIM in two conventions; scores and print by row."""
    one = pd.DataFrame({row: scores for row, (scores, _) in values.items()}).rename_axis("pair")
    scores = one.melt(var_name="row", ignore_index=False).reset_index()
    columns = {("VIF", "a"): 1, ("SSIM", "printed"): 1, ("SSIM", "mended"): 100}
    per_pair = pd.concat(
        scores.assign(metric=metric, convention=convention, value=scores["value"] * factor)
        for (metric, convention), factor in columns.items()
    )
    compared = pd.DataFrame(
        {"row": row, "metric": metric, "paper": np.nan if ":" in metric else paper}
        for row, (_, paper) in values.items()
        for metric in ("VIF", "SSIM", "SSIM:mended")
    )
    return experiments.Measured("t", per_pair, compared, {}, {})


def test_directions():
    base = np.linspace(0, 1, 20)
    noise = np.where(np.arange(20) % 2, 0.3, -0.3)
    table = measured(
        base=(base, 1.0), better=(base + 0.1 + 0.01 * noise, 1.5), worse=(base - 0.1, 1.2),
        alike=(base + noise, 0.9), same=(base + 1, 1.0), own=(base + 1, np.nan),
    )  # fmt: skip
    others = ["better", "worse", "alike", "same", "own", "gone"]
    found = directions(table, [(row, "base") for row in others])
    assert list(found["metric"].unique()) == ["VIF", "SSIM"]
    vif = found[found["metric"] == "VIF"].set_index("row")
    assert vif["verdict"].to_dict() == {
        "better": "same direction",
        "worse": "opposite direction",
        "alike": "no difference",
        "same": "equal in print",
        "own": "not in the paper",
    }
    assert vif.loc["better", "mean"] == pytest.approx(0.1)
    assert vif.loc["better", "paper"] == pytest.approx(0.5)
    assert vif.loc["alike", "ci_low"] < 0 < vif.loc["alike", "ci_high"]
    # The printed convention of SSIM, not the mended one.
    ssim = found[found["metric"] == "SSIM"].set_index("row")
    assert ssim["mean"].to_dict() == pytest.approx(vif["mean"].to_dict())
    alone = measured(base=([1.0], 1.0), better=([2.0], 1.5))
    assert {*directions(alone, [("better", "base")])["verdict"]} == {"too few pairs"}
