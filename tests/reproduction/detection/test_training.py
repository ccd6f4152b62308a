"""Fine-tuning: it learns, continues bit for bit, keeps what it should, and says what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionlib.errors import FusionError, UnknownName
from fusionlib.pairs import Box
from fusionlib.weights import digest
from reproduction.detection import training
from reproduction.detection.augmentation import Augmentation
from reproduction.detection.average_precision import annotated, match, search
from reproduction.detection.layout import Example
from reproduction.detection.training import PUBLISHED, Schedule, fine_tune
from reproduction.detection.yolov5 import YOLOv5
from tests.reproduction.detection.given import NAMES, detector, pair

STILL = Augmentation(translate=0.05, scale=0.1, hue=0, saturation=0, value=0.1)
QUICK = Schedule(epochs=2, batch=2, nominal_batch=2, least_warmup=0, input=64, augmentation=STILL)


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread):
    """On small pictures."""


def examples(count=4):
    found = []
    for i in range(count):
        one = pair(f"p{i}", seed=i, boxes=i != 1)
        picture = (one.vis * 255).astype(np.uint8)
        fractions = tuple(
            Box(label, x0 / 64, y0 / 48, x1 / 64, y1 / 48) for label, x0, y0, x1, y1 in one.boxes
        )
        found.append(Example(one.name, lambda picture=picture: picture, fractions))
    return found


def tune(start=None, some=None, schedule=QUICK, **options):
    return fine_tune(
        start or detector(), some or examples(), NAMES, schedule, progress=False, **options
    )


def weights(tuned):
    return digest(tuned.detector.network.state_dict())


def test_it_learns():
    """From random weights, bright rectangles on dark noise: losses halve, boxes are found."""
    schedule = replace(QUICK, epochs=150, batch=4, nominal_batch=4, rate=0.1, warmup_epochs=1)
    tuned = tune("n", schedule=schedule)
    total = tuned.history["total"]
    assert total.iloc[-5:].mean() < 0.6 * total.iloc[:5].mean()
    found = {}
    for name, trained in (("before", tune("n")), ("after", tuned)):
        boxes, seen = search(trained.detector, examples(), NAMES, progress=False)
        found[name] = match(annotated(boxes, NAMES), seen).average_precision()
    assert np.nanmean(found["before"][:, 0]) < 0.1 < 0.3 < np.nanmean(found["after"][:, 0])


def test_a_run_is_decided_by_its_settings():
    first, again, other = tune(), tune(), tune(seed=1)
    assert weights(first) == weights(again) != weights(other)
    assert first.history.equals(again.history)
    assert list(first.history) == ["epoch", "total", "box", "objectness", "classes"]
    assert first.facts["pictures"] == 4 and first.facts["seed"] == 0


@pytest.mark.parametrize("nominal", [2, 8])
def test_stopped_it_continues_bit_for_bit(tmp_path, monkeypatch, nominal):
    """With 8, gradients of one epoch are added to those of the next."""
    schedule = replace(QUICK, epochs=3, nominal_batch=nominal)
    options = {"schedule": schedule, "validation": examples(2)}
    whole = tune(**options)
    path = tmp_path / "run.checkpoint"
    learn = training._Run.learn

    def stopped(run, *arguments):
        row = learn(run, *arguments)
        if run.epoch == 2:
            raise KeyboardInterrupt
        return row

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            tune(**options, checkpoint=path)
    resumed = tune(**options, checkpoint=path)
    assert weights(resumed) == weights(whole)
    assert resumed.history.equals(whole.history)
    finished = tune(**options, checkpoint=path)  # there is nothing left to do
    assert weights(finished) == weights(whole)


def test_the_best_epoch_is_kept(monkeypatch):
    """By the validation: here it says that the second of three is."""
    # AP counts nine times as much as AP at 0.5.
    precision = iter([(0.9, 0.1), (0.2, 0.5), (0.8, 0.2)])
    monkeypatch.setattr(
        "reproduction.detection.training.mean_over_classes",
        lambda _: np.array([next(precision)] * 4),
    )
    three = replace(QUICK, epochs=3)
    best = tune(schedule=three, validation=examples(2))
    assert best.history["AP"].tolist() == [0.1, 0.5, 0.2]
    seen = []
    monkeypatch.setattr(
        training._Run,
        "validate",
        lambda run, _: seen.append(digest(run.average.state_dict())) or {},
    )
    tune(schedule=three, validation=examples(2))
    assert weights(best) == seen[1] != seen[2]


def test_a_checkpoint_of_another_run(tmp_path):
    path = tmp_path / "run.checkpoint"
    tune(checkpoint=path)
    with pytest.raises(FusionError, match="belongs to another run: its seed"):
        tune(checkpoint=path, seed=1)
    with pytest.raises(FusionError, match="its pictures differ"):
        tune(checkpoint=path, some=examples(3))
    darker = [e._replace(read=lambda e=e: e.read() // 2) for e in examples()]
    with pytest.raises(FusionError, match="its pictures differ"):
        tune(checkpoint=path, some=darker)
    with pytest.raises(FusionError, match="its schedule differ"):
        tune(checkpoint=path, schedule=replace(QUICK, epochs=3))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FusionError, match="not a checkpoint of a detector"):
        tune(checkpoint=path)


# ---------------------------------------------------------------- where it starts


def started(names, head):
    """A detector of other classes, and the network that training begins with."""
    begin = detector(("dog", "car", "person"), seed=5)
    return begin.network, training._started(begin, names, head, seed=0)


@pytest.mark.parametrize("head", ["new", "named"])
def test_all_but_the_head_is_kept_and_of_the_same_classes_the_head_too(head):
    begin, network = started(NAMES, head)
    theirs = begin.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, theirs[name]) != name.startswith("model.24.m."), name
    same = detector()
    assert digest(training._started(same, NAMES, head, 0).state_dict()) == digest(
        same.network.state_dict()
    )


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
    named, fresh = (started(["person"], head)[1] for head in ("named", "new"))
    for mine, theirs in zip(named.head.m, fresh.head.m, strict=True):
        assert torch.equal(mine.bias.view(3, 6)[:, 5], theirs.bias.view(3, 6)[:, 5])
        assert not torch.equal(mine.bias.view(3, 6)[:, 4], theirs.bias.view(3, 6)[:, 4])


def test_starting_leaves_the_detector_and_the_random_state_alone():
    begin = detector()
    before, state = digest(begin.network.state_dict()), torch.get_rng_state()
    tune(begin)
    assert digest(begin.network.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------- rates


def test_warm_up_and_fall():
    """Rates of biases begin at 0.1, others at 0; momentum at 0.8; then a straight line to 1 %."""
    run = training._Run("n", examples(), NAMES, PUBLISHED, 0, "cpu")
    rates = []
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
    schedule = replace(PUBLISHED, batch=48)
    groups = training._optimiser(YOLOv5("n", 3), schedule).param_groups
    decays = {g["name"]: g["weight_decay"] for g in groups}
    assert decays == {"biases": 0, "norms": 0, "weights": pytest.approx(0.0005 * 48 / 64)}
    counts = {g["name"]: len(g["params"]) for g in groups}
    assert counts == {"biases": 57 + 3, "norms": 57, "weights": 57 + 3}
    assert all(g["nesterov"] for g in groups)


def test_weights_are_averaged_slowly_in_the_end():
    """After n steps the average keeps 0.9999 (1 - exp(-n / 2000)) of itself."""
    run = training._Run("n", examples(), NAMES, PUBLISHED, 0, "cpu")
    for steps, keep in ((0, 0.9999 * (1 - np.exp(-1 / 2000))), (100_000, 0.9999)):
        run.steps = steps
        for network, value in ((run.average, 1.0), (run.network, 0.0)):
            for parameter in network.parameters():
                parameter.data.fill_(value)
        run.optimiser.zero_grad()
        run._step()
        kept = float(next(run.average.parameters()).detach().flatten()[0])
        assert kept == pytest.approx(keep, rel=1e-4)


def test_gradients_that_are_left_in_the_end_are_used():
    """Two batches of two, of which four would make a step: without warming up, from the start."""
    begin = detector()
    tuned = tune(begin, schedule=replace(QUICK, epochs=1, nominal_batch=8, warmup_epochs=0))
    assert weights(tuned) != digest(begin.network.state_dict())


# ---------------------------------------------------------------- what is refused


def test_nothing_to_learn():
    bare = [example._replace(fractions=()) for example in examples()]
    with pytest.raises(FusionError, match="nothing to learn: none of 4 pictures"):
        tune(some=bare)
    with pytest.raises(FusionError, match="nothing to choose the best epoch by: none of 4"):
        tune(validation=bare)
    with pytest.raises(UnknownName, match="class in p0 'person'"):
        fine_tune(detector(), examples(), ["car"], QUICK, progress=False)


def test_a_loss_that_is_not_finite(tmp_path):
    """The checkpoint stays that of the epoch before."""
    broken = detector()
    broken.network.head.m[0].bias.data.fill_(torch.nan)
    with pytest.raises(FusionError, match=r"the loss became nan in epoch 1. Lower the learning"):
        tune(broken, checkpoint=tmp_path / "run.checkpoint")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 0}, "batch must be"),
        ({"input": 100}, "multiple of 32"),
        ({"input": 32}, "at least 64"),
        ({"rate": 0.0}, "learning rate"),
        ({"head": "old"}, "start of the last layer 'old'"),
    ],
)
def test_schedules_that_cannot_be(setting, message):
    with pytest.raises(FusionError, match=message):
        Schedule(**setting)
