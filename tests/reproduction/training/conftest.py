"""Small things to learn from, and every recipe with small settings."""

from __future__ import annotations

import os
import signal
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusionlib.networks import aefusion
from fusionlib.networks.nestfuse import NestFuse
from fusionlib.pairs import Pair
from fusionlib.weights import digest
from reproduction.training import Config, find_recipe, loop, train
from reproduction.training.recipe import Moment


def noise(shape=(20, 24), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(size=60, seed=0):
    """A picture with structure: blurred noise that spans 0..255."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 3)
    return np.round(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def objects(size=60, seed=0):
    """A mask of a few patches."""
    return smooth(size, seed) > 170


def pair(ir, vis, mask=None, name="pair"):
    """A pair of uint8 images."""
    return Pair(name, ir / np.float32(255), vis / np.float32(255), mask)


def trained_autoencoder():
    torch.manual_seed(5)
    return NestFuse().state_dict()


class Small(NamedTuple):
    """Settings with which a recipe takes a fraction of a second per iteration."""

    method: str
    size: int
    options: dict[str, Any] = {}  # noqa: RUF012

    @property
    def recipe(self):
        return find_recipe(self.method)

    def data(self, count=3):
        if self.recipe.learns_from == "images":
            return [smooth(seed=i) for i in range(count)]
        labelled = self.recipe.learns_from == "labelled pairs"
        return [
            pair(smooth(seed=i), smooth(seed=100 + i), objects(seed=200 + i) if labelled else None)
            for i in range(count)
        ]

    def train(self, data=None, *, options=None, checkpoint=None, device="cpu", **config):
        defaults = {"iterations": 4, "batch_size": 2, "size": self.size}
        return train(
            self.method,
            self.data() if data is None else data,
            Config(**defaults | config),
            options=self.options if options is None else options,
            checkpoint=checkpoint,
            device=device,
            progress=False,
        )

    def build(self, seed=0):
        torch.manual_seed(seed)
        return self.recipe(**self.options)


SMALL = {
    small.method: small
    for small in (
        Small("aefusion", 16),
        Small("cddfuse", 16),
        Small("emma", 32, {"width": 2}),
        Small("fusiongan", 59),
        Small("nestfuse", 16),
        Small("refinefuse", 16, {"optimiser": "adam"}),
        Small("res2netfuse", 16, {"variant": "paper"}),
        Small("rfn_nest", 16, {"autoencoder": trained_autoencoder()}),
        Small("swinfusion", 8),
    )
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """One thread, and AEFusion for squares of 16 pixels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    patch.setattr(find_recipe("aefusion"), "sizes", range(16, 17))  # first: it reads SIDE
    patch.setattr(aefusion, "SIDE", 16)
    yield
    patch.undo()
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(SMALL))
def small(request):
    return SMALL[request.param]


@pytest.fixture(scope="package")
def whole():
    """Uninterrupted runs of every recipe, made when first asked for."""
    made = {}

    def get(small):
        if small.method not in made:
            made[small.method] = small.train()
        return made[small.method]

    return get


def same(a, b):
    """Whether two runs ended with the same bits."""
    weights = digest(a.network.state_dict()) == digest(b.network.state_dict())
    return weights and a.history.equals(b.history)


@pytest.fixture(autouse=True)
def ctrl_c():
    """A process that a script starts in the background ignores Ctrl-C, its tests included."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(monkeypatch, small, iteration, **settings):
    """Press Ctrl-C in an iteration, counted from 1, of a run."""
    original, seen = loop._Run._step, []

    def step(self, *given):
        seen.append(1)
        if len(seen) == iteration:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "_step", step)
        small.train(**settings)


def run_step(recipe, stage, images, seed=0, iterations=10, descend=None):
    """Call a stage's step by itself; without `descend` no weight is changed."""
    moment = Moment(np.random.default_rng(seed), 0, iterations)
    step = {one.name: one.step for one in recipe.stages}[stage]
    return step(recipe, images, moment, descend or (lambda loss, *parts: None))


def slopes(images, mode):
    """Both Sobel derivatives, by scipy, of images (B, 1, H, W)."""
    return [
        np.stack([ndimage.sobel(image.astype(float), axis, mode=mode) for image in images[:, 0]])
        for axis in (0, 1)
    ]


def batch(*seeds, size=16):
    """Pictures as a step gets them: (B, 1, size, size) of whole levels."""
    pictures = np.stack([smooth(size, seed) for seed in seeds])
    return torch.from_numpy(pictures[:, None].astype(np.float32))
