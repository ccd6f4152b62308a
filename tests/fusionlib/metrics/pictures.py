"""Pictures that the metrics' tests share, strategies that draw some, and the exact stretch."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from fusionlib.errors import MetricWarning

LEVELS = st.integers(0, 255)


@contextlib.contextmanager
def undefined_allowed():
    """Let metrics set values by rule, where drawn pictures happen to be constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetricWarning)
        yield


def noise(size=(40, 53), count=3, seed=0):
    """Correlated pictures: a common part and one of each."""
    generator = np.random.default_rng(seed)
    common = generator.integers(0, 128, size)
    return [(common + generator.integers(0, 128, size)).astype(np.uint8) for _ in range(count)]


def photos(size=(48, 50), seed=0):
    """A fused image and its sources: alike, smooth, with an edge and an empty corner; the mean."""
    generator = np.random.default_rng(seed)
    common, *own = (gaussian_filter(generator.random(size), 2) for _ in range(3))
    ir, vis = (common + part for part in own)
    ir[:, size[1] // 2 :] += 0.1
    ir, vis = (((x - x.min()) / np.ptp(x) * 255).astype(np.uint8) for x in (ir, vis))
    ir[: size[0] // 3, : size[1] // 3] = vis[: size[0] // 3, : size[1] // 3] = 0
    return [((ir.astype(int) + vis) // 2).astype(np.uint8), ir, vis]


def flat(*levels, size=(48, 50)):
    """Constant pictures."""
    return [np.full(size, level, np.uint8) for level in levels]


def triples(least=1, most=12):
    """Draw three small pictures of one size; hypothesis makes many of them nearly constant."""
    side = st.integers(least, most)
    return st.tuples(side, side).flatmap(
        lambda size: st.tuples(*[hnp.arrays(np.uint8, size, elements=LEVELS)] * 3)
    )


@st.composite
def large_triples(draw, least, spare=7):
    """Draw three pictures too large to be drawn by pixels: constant, of few levels, or noise."""
    size = [least + draw(st.integers(0, spare)) for _ in range(2)]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pictures = []
    for _ in range(3):
        span = draw(st.sampled_from([256, 64, 3, 2, 1]))
        low = draw(st.integers(0, 256 - span))
        pictures.append(generator.integers(low, low + span, size).astype(np.uint8))
    return tuple(pictures)


def stretch(image):
    """round((x - min) / (max - min) * 255), halves upwards, in whole numbers; constants are 0."""
    low = int(image.min())
    span = int(image.max()) - low
    return (((image.astype(int) - low) * 510 + span) // (2 * max(span, 1))).astype(np.uint8)
