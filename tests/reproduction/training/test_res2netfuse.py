"""Res2NetFuse's recipe: schedules, the loss and its first step, precisions, curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

from fusionlib.errors import FusionError, ImageError
from fusionlib.losses import ReconstructionLoss
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.weights import training_losses
from reproduction.training import Config, loop, stable_after, train, training_psnr
from reproduction.training.res2netfuse import Res2NetFuseRecipe
from tests.reproduction.training.conftest import SMALL, interrupted, noise, same

RES2NETFUSE = SMALL["res2netfuse"]

#: The paper's loss works from 11x11 pixels on; the released one needs 176x176.
SINGLE = {"variant": "paper"}
MIXED = {**SINGLE, "precision": "mixed"}


def run(options=SINGLE, iterations=3, **settings):
    return RES2NETFUSE.train([noise()], options=options, iterations=iterations, **settings)


def test_published_schedules():
    """One image 2000 times; 80,000 images, 4 epochs in batches of 4."""
    (one,), (many,) = (Res2NetFuseRecipe().schedule(count) for count in (1, 2))
    assert (one.iterations, one.batch_size, one.size) == (2000, 1, 256)
    assert one.rates == {"network": 5e-4}
    assert many == replace(one, iterations=80_000, batch_size=4, rates={"network": 1e-4})
    (stage,) = Res2NetFuseRecipe(learning_rate=0.01).schedule(3)
    assert stage == replace(many, rates={"network": 0.01})


def test_released_loss_at_its_smallest_size():
    image = noise((176, 176))
    history = train("res2netfuse", [image], Config(1, size=176), progress=False).history
    # Random weights reproduce next to nothing: the pixel term is about the image's mean
    # square, divided by the number of pixels; random levels have the mean square 21,717.
    assert history["pixel"][0] == pytest.approx(21_717 / 176**2, rel=0.05)
    with pytest.raises(ImageError, match="176x176"):
        train("res2netfuse", [image], Config(1, size=175), progress=False)


def test_first_step_is_adam_on_the_loss():
    """Against the textbook: bias-corrected Adam's first step is lr g / (|g| + eps)."""
    image = noise((16, 16))
    torch.manual_seed(0)
    network = Res2NetFuse("paper")
    batch = torch.from_numpy(image.astype(np.float32))[None, None]
    ReconstructionLoss("paper")(network(batch), batch).total.backward()
    result = train("res2netfuse", [image], Config(1, size=16), options=SINGLE, progress=False)
    after = result.network.state_dict()
    assert result.facts["learnt_from"].startswith("image 1 of given arrays (published: one image")
    for name, weight in network.named_parameters():
        step = 5e-4 * weight.grad / (weight.grad.abs() + 1e-8)
        # Gradients differ by rounding (channels-last or not), which matters where they are tiny.
        close = (after[name] - (weight.detach() - step)).abs() < 1e-6
        assert close.float().mean() > 0.99


def test_mixed_precision_goes_the_same_way(monkeypatch):
    """What the network computes is as in single precision, so the first loss is the same."""
    monkeypatch.setattr(loop, "has_bfloat16", lambda _: True)  # emulated, slowly
    single, other = run(), run(MIXED)
    assert not same(single, other)
    first, *others = other.history["total"] / single.history["total"]
    assert first == pytest.approx(1, abs=1e-6)
    assert others == pytest.approx([1, 1], abs=0.01)


def test_mixed_precision_where_there_is_none(tmp_path, monkeypatch):
    """Training takes single precision and says so, and continues no run in mixed precision."""
    monkeypatch.setattr(loop, "has_bfloat16", lambda _: True)
    interrupted(monkeypatch, RES2NETFUSE, 2, options=MIXED, checkpoint=tmp_path / "c")
    monkeypatch.setattr(loop, "has_bfloat16", lambda _: False)
    with pytest.warns(UserWarning, match=r"'cpu' has no bfloat16 .*: training in single precision"):
        without = run(MIXED)
        with pytest.raises(FusionError, match="arithmetic: mixed precision, here single"):
            RES2NETFUSE.train(options=MIXED, checkpoint=tmp_path / "c")
    assert without.facts["precision"] == "mixed"
    assert without.facts["arithmetic"] == "single precision"
    single = run()
    assert same(without, single) and "arithmetic" not in single.facts


@pytest.mark.realdata
def test_recorded_training_begins_like_this_code(data_root):
    """Another processor rounds the last of seven digits otherwise; ten steps multiply it by ten."""
    image = data_root / "coco_train2017" / "images" / "000000000086.jpg"
    history = train("res2netfuse", [image], Config(10), progress=False).history
    recorded = training_losses("res2netfuse_1_released_coco86").head(10)
    pd.testing.assert_frame_equal(history.drop(columns="stage"), recorded, rtol=1e-5)


# ---------------------------------------------------------------- how well it went


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_stable_after_by_definition(losses, fraction):
    low = [loss < fraction * losses[0] for loss in losses]
    settled = min(first for first in range(1, len(low) + 2) if all(low[first - 1 :]))
    assert stable_after(pd.DataFrame({"total": losses}), fraction) == settled


def test_training_psnr_is_that_of_the_truncated_reconstruction():
    image = noise((40, 40))
    network = Res2NetFuse("paper")
    with torch.no_grad():
        output = network(torch.from_numpy(image).float()[None, None])[0, 0].numpy()
    error = np.mean((np.floor(np.clip(output, 0, 255)) - image) ** 2)
    expected = 10 * np.log10(255**2 / error)
    assert training_psnr(network, image, size=40) == pytest.approx(expected, abs=0.01)
