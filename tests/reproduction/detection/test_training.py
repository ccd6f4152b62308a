"""Fine-tuning: it learns, continues bit for bit, keeps what it should, and says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib.errors import FusionError
from fusionlib.pairs import Box
from fusionlib.weights import digest, read_facts
from reproduction.detection import training
from reproduction.detection.augmentation import Augmentation
from reproduction.detection.average_precision import annotated, match, search
from reproduction.detection.detector import create_detector
from reproduction.detection.layout import EVERYTHING, Example, export
from reproduction.detection.training import PUBLISHED, Schedule, Task, fine_tune
from reproduction.detection.yolov5 import YOLOv5
from tests.reproduction.detection.given import NAMES, dataset, detector, pair

STILL = Augmentation(translate=0.05, scale=0.1, hue=0, saturation=0, value=0.1)
QUICK = Schedule(epochs=2, batch=2, nominal_batch=2, least_warmup=0, input=64, augmentation=STILL)


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread):
    """On small pictures."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Four pictures, the second of which shows nothing."""
    pairs = [pair(f"p{i}", seed=i, boxes=i != 1) for i in range(4)]
    folder = tmp_path_factory.mktemp("pictures") / "set"
    return export("vis", dataset(*pairs), folder).parts[EVERYTHING]


@pytest.fixture
def tune(tmp_path, monkeypatch, examples):
    """Train, and return the digest of the weights, before they are rounded, and the losses."""
    digests, save = [], training.save_detector

    def saved(path, tuned, facts):
        digests.append(digest(tuned.network.state_dict()))
        save(path, tuned, facts)

    monkeypatch.setattr(training, "save_detector", saved)

    def tune(start=None, some=examples, schedule=QUICK, name="x", **options):
        output = tmp_path / f"{name}.safetensors"
        losses = fine_tune(Task(start or detector(), some, NAMES, schedule, **options), output)
        assert not list(tmp_path.glob("*.checkpoint"))
        return digests[-1], pd.read_csv(losses)

    return tune


def test_it_learns(tune, tmp_path, examples):
    """From random weights, bright rectangles on dark noise: losses halve, boxes are found."""
    schedule = replace(QUICK, epochs=150, batch=4, nominal_batch=4, rate=0.1, warmup_epochs=1)
    total = tune(schedule=schedule, name="after")[1]["total"]
    assert total.iloc[-5:].mean() < 0.6 * total.iloc[:5].mean()
    tune(name="before")
    found = {}
    for name in ("before", "after"):
        boxes, seen = search(create_detector(tmp_path / f"{name}.safetensors"), examples, NAMES)
        found[name] = match(annotated(boxes, NAMES), seen).average_precision()
    assert np.nanmean(found["before"][:, 0]) < 0.1 < 0.3 < np.nanmean(found["after"][:, 0])


def test_a_run_is_decided_by_its_settings(tune, tmp_path):
    start = detector()
    before, state = digest(start.network.state_dict()), torch.get_rng_state()
    first, history = tune(start)
    assert digest(start.network.state_dict()) == before != first
    assert torch.equal(torch.get_rng_state(), state)
    again, other = tune(start), tune(start, seed=1)
    assert first == again[0] != other[0] and history.equals(again[1])
    assert list(history) == ["epoch", "total", "box", "objectness", "classes"]
    assert "epochs=2" in read_facts(tmp_path / "x.safetensors")["schedule"]


def stop_in_epoch(patch, last):
    """A run that is stopped before it has written of its last epoch."""
    learn = training._Run.learn

    def stopped(run, *arguments):
        row = learn(run, *arguments)
        if row["epoch"] == last:
            raise KeyboardInterrupt
        return row

    patch.setattr(training._Run, "learn", stopped)


@pytest.mark.parametrize("nominal", [2, 8])
def test_stopped_it_continues_bit_for_bit(tune, tmp_path, monkeypatch, examples, nominal):
    """With 8, gradients of one epoch are added to those of the next, and the last epoch is kept."""
    schedule = replace(QUICK, epochs=3, nominal_batch=nominal)
    options = {"schedule": schedule, "validation": examples[:2] if nominal == 2 else ()}
    whole, history = tune(**options, name="whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_epoch(patch, 3)
        tune(**options)
    assert (tmp_path / "x.checkpoint").exists() and not (tmp_path / "x.safetensors").exists()
    resumed = tune(**options)
    assert resumed[0] == whole and resumed[1].equals(history)


def test_the_best_epoch_is_kept(tune, monkeypatch, examples):
    """By the validation: here it says that the second of three is; AP counts more than AP50."""
    precision = iter([(0.9, 0.1), (0.2, 0.5), (0.8, 0.2)])
    monkeypatch.setattr(training, "mean_over_classes", lambda _: np.array([next(precision)] * 4))
    three = replace(QUICK, epochs=3)
    best, history = tune(schedule=three, validation=examples[:2])
    assert history["AP"].tolist() == [0.1, 0.5, 0.2]
    seen = []
    monkeypatch.setattr(
        training._Run,
        "validate",
        lambda run: seen.append(digest(run.average.state_dict())) or {},
    )
    tune(schedule=three, validation=examples[:2])
    assert best == seen[1] != seen[2]


def test_a_checkpoint_of_another_run(tune, tmp_path, monkeypatch, examples):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_epoch(patch, 2)
        tune()
    (tmp_path / "dark.png").write_bytes(examples[1].path.read_bytes())
    other = examples[0]._replace(path=tmp_path / "dark.png")
    for words, changes in (
        ("belongs to another run: its seed", {"seed": 1}),
        ("its pictures", {"some": examples[:3]}),
        ("its pictures", {"some": [other, *examples[1:]]}),
        ("its pictures", {"some": examples[:3], "validation": examples[3:]}),
        ("its schedule", {"schedule": replace(QUICK, epochs=3)}),
        ("its start", {"start": detector(seed=1)}),
    ):
        with pytest.raises(FusionError, match=f"{words} differ"):
            tune(**changes)
    path = tmp_path / "x.checkpoint"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FusionError, match="not a checkpoint of a detector"):
        tune()


# ---------------------------------------------------------------- where it starts


def started(names, head):
    """A detector of other classes, and the network that training begins with."""
    begin = detector(("dog", "car", "person"), seed=5)
    return begin.network, training._started(task(begin, names, head))


def task(start, names, head):
    one = Example("a", Path(), (Box("person", 0, 0, 1, 1),))
    return Task(start, [one], names, replace(PUBLISHED, head=head))


@pytest.mark.parametrize("head", ["new", "named"])
def test_all_but_the_head_is_kept_and_of_the_same_classes_the_head_too(head):
    begin, network = started(NAMES, head)
    theirs = begin.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, theirs[name]) != name.startswith("model.24.m."), name
    same = detector()
    again = training._started(task(same, NAMES, head))
    assert digest(again.state_dict()) == digest(same.network.state_dict())


def test_a_named_head_keeps_boxes_objectness_and_classes_of_the_same_name():
    """Of one class the score is never learnt, so that what COCO taught of it must not stay."""
    begin, network = started(NAMES, "named")
    for new, old in zip(network.head.m, begin.head.m, strict=True):
        mine, theirs = new.weight.view(3, 8, -1), old.weight.view(3, 8, -1)
        assert torch.equal(mine[:, :5], theirs[:, :5])
        assert torch.equal(mine[:, 5], theirs[:, 7])  # person
        assert torch.equal(mine[:, 7], theirs[:, 6])  # car
        assert not torch.isin(mine[:, 6], theirs).any()  # bicycle
        assert torch.equal(new.bias.view(3, 8)[:, 7], old.bias.view(3, 8)[:, 6])
    named, fresh = (started(("person",), head)[1] for head in ("named", "new"))
    for mine, theirs in zip(named.head.m, fresh.head.m, strict=True):
        assert torch.equal(mine.bias.view(3, 6)[:, 5], theirs.bias.view(3, 6)[:, 5])
        assert not torch.equal(mine.bias.view(3, 6)[:, 4], theirs.bias.view(3, 6)[:, 4])


# ---------------------------------------------------------------- steps


def run_of(examples):
    return training._Run(Task(detector(), examples, NAMES))


def test_warm_up_and_fall(examples):
    """Rates of biases begin at 0.1, others at 0; momentum at 0.8; then a straight line to 1 %."""
    run, rates = run_of(examples), []
    for batches, epoch in ((0, 0), (150, 0), (300, 3), (300, 50), (300, 99)):
        run.batches, run.history = batches, [{}] * epoch
        accumulate = run._set_rates(300)
        groups = {g["name"]: (g["lr"], g["momentum"]) for g in run.optimiser.param_groups}
        rates.append((accumulate, groups["biases"][0], groups["weights"]))
    assert rates[0] == (1, 0.1, (0, 0.8))
    half = (2, pytest.approx(0.055), (pytest.approx(0.005), pytest.approx(0.8685)))
    assert rates[1] == half
    full = [(4, pytest.approx(r), (pytest.approx(r), 0.937)) for r in (0.009703, 0.00505, 0.000199)]
    assert rates[2:] == full


def test_what_decays():
    """Weights of convolutions alone, in proportion to the pictures of a step, here 48 of 64."""
    groups = training._optimiser(YOLOv5("n", 3), replace(PUBLISHED, batch=48)).param_groups
    found = {g["name"]: (g["weight_decay"], len(g["params"])) for g in groups}
    decay = pytest.approx(0.0005 * 48 / 64)
    assert found == {"biases": (0, 57 + 3), "norms": (0, 57), "weights": (decay, 57 + 3)}
    assert all(g["nesterov"] for g in groups)


def test_weights_are_averaged_slowly_in_the_end(examples):
    """After n steps the average keeps 0.9999 (1 - exp(-n / 2000)) of itself."""
    run = run_of(examples)
    for steps, keep in ((0, 0.9999 * (1 - np.exp(-1 / 2000))), (100_000, 0.9999)):
        run.steps = steps
        for network, value in ((run.average, 1.0), (run.network, 0.0)):
            for parameter in network.parameters():
                parameter.data.fill_(value)
        run.optimiser.zero_grad()
        run._step()
        kept = float(next(run.average.parameters()).detach().flatten()[0])
        assert kept == pytest.approx(keep, rel=1e-4)


def test_gradients_that_are_left_in_the_end_are_used(tune):
    """Two batches of two, of which four would make a step: without warming up, from the start."""
    begin = detector()
    tuned, _ = tune(begin, schedule=replace(QUICK, epochs=1, nominal_batch=8, warmup_epochs=0))
    assert tuned != digest(begin.network.state_dict())


# ---------------------------------------------------------------- what is refused


def test_nothing_to_learn(tune, examples):
    bare = [example._replace(fractions=()) for example in examples]
    with pytest.raises(FusionError, match="nothing to learn: none of 4 pictures"):
        tune(some=bare)
    with pytest.raises(FusionError, match="nothing to choose the best epoch by: none of 4"):
        tune(validation=bare)


def test_a_loss_that_is_not_finite(tune, tmp_path):
    broken = detector()
    broken.network.head.m[0].bias.data.fill_(torch.nan)
    with pytest.raises(FusionError, match=r"no longer finite in epoch 1. Lower the learning"):
        tune(broken)
    assert not list(tmp_path.iterdir())


def test_schedules_that_cannot_be():
    for message, setting in (
        ("epochs must be at least 1", {"epochs": 0}),
        ("batch must be", {"batch": 0}),
        ("multiple of 32", {"input": 100}),
        ("at least 64", {"input": 32}),
        ("learning rate", {"rate": 0.0}),
    ):
        with pytest.raises(FusionError, match=message):
            Schedule(**setting)
