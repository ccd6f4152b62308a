"""samples: what is read, which squares are cut, and which batches they make."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from fusionlib.datasets import load_dataset, load_images
from fusionlib.errors import FusionError
from fusionlib.pairs import Dataset
from reproduction.training.samples import batches, fingerprint, samples
from tests.reproduction.training.conftest import noise, pair


def numbered(count):
    """Single-pixel images whose level is their number."""
    return samples([np.full((1, 1), i, np.uint8) for i in range(count)], "images")


def draw(found, iterations=12, **settings):
    settings = {"sampling": "resize", "size": 1, "batch_size": 2, "seed": 0} | settings
    start = settings.pop("start", 0)
    return list(batches(found, iterations=range(start, iterations), **settings))


def levels(batch):
    return batch.images[0].flatten().tolist()


# ---------------------------------------------------------------- reading


def test_rgb_enters_by_luminance_in_whole_levels():
    rgb = noise((16, 16, 3))
    (read,) = samples([rgb], "images")[0].read()
    # Half a level of rounding, and what single precision adds to it.
    assert np.abs(read - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 0.5 + 1e-4
    ir, vis = samples([pair(noise((16, 16)), rgb)], "pairs")[0].read()
    assert np.array_equal(vis, read) and np.array_equal(ir, noise((16, 16)))


def test_a_pair_by_itself_or_in_a_data_set():
    ir, vis = noise(), noise((20, 24, 3), seed=1)
    one = pair(ir, vis)
    found = samples([one, Dataset("mine", None, ["a"], lambda i: one)], "pairs")
    assert np.array_equal(found[0].read()[0], ir)
    assert all(np.array_equal(*both) for both in zip(*(f.read() for f in found), strict=True))
    assert [(f.name, f.source) for f in found] == [("pair", "given arrays"), ("a", "mine")]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ([noise(), pair(noise(), noise())], "images"),
        (["a.png"], "pairs"),
        (load_images("sample_images"), "pairs"),
        (load_dataset("sample"), "images"),
    ],
)
def test_the_other_kind_is_refused(data, wanted):
    with pytest.raises(FusionError, match=f"learns from .*{wanted}"):
        samples(data, wanted)


def test_fingerprint_tells_pixels_order_and_size(tmp_path):
    a, b = noise(), noise(seed=1)
    prints = {fingerprint(samples(data, "images")) for data in ([a], [b], [a, b], [b, a])}
    assert len(prints) == 4
    path = tmp_path / "a.png"
    Image.fromarray(a).save(path)
    before = fingerprint(samples([path], "images"))
    Image.fromarray(a[:9]).save(path)
    assert fingerprint(samples([path], "images")) != before
    pairs = {fingerprint(samples([pair(*data)], "pairs")) for data in ((a, b), (b, a), (a, a))}
    assert len(pairs) == 3


# ---------------------------------------------------------------- batches


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 11), st.integers(1, 3))
@settings(max_examples=60)
def test_every_epoch_shows_every_image_at_most_once(count, batch, start, world):
    batch = min(batch, count) * world  # so that the processes' shares are equal
    found = numbered(count * world)

    def order(start, rank=0, world=1):
        drawn = draw(found, start=start, batch_size=batch, rank=rank, world=world)
        return [levels(one) for one in drawn]

    whole = order(0)
    per_epoch = len(found) // batch
    epochs = [[*chain(*whole[i : i + per_epoch])] for i in range(0, 12, per_epoch)]
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
    assert order(start) == whole[start:]
    shares = [order(0, rank, world) for rank in range(world)]
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(chain(*parts)) == sorted(step)
        assert len({len(part) for part in parts}) == 1


def test_epochs_stages_and_seeds_differ():
    found = numbered(8)
    first, second = (levels(one) for one in draw(found, 2, batch_size=8))
    (stage,) = (levels(one) for one in draw(found, 1, batch_size=8, stage=1))
    (seed,) = (levels(one) for one in draw(found, 1, batch_size=8, seed=1))
    assert len({tuple(order) for order in (first, second, stage, seed)}) == 4


def test_order_of_earlier_releases():
    """The weights res2netfuse_40_released were trained in this order."""
    orders = [levels(one) for one in draw(numbered(6), 2, batch_size=6, seed=7)]
    assert orders == [np.random.default_rng((7, e)).permutation(6).tolist() for e in range(2)]


def test_drawing_depends_on_the_iteration_alone():
    drawn = [one.random.integers(1 << 40) for one in draw(numbered(4))]
    assert len(set(drawn)) == 12
    assert [one.random.integers(1 << 40) for one in draw(numbered(4), start=5)] == drawn[5:]
    for one in draw(numbered(3), batch_size=5):  # a batch of all, then
        assert [f"image {level + 1:.0f}" for level in levels(one)] == list(one.names)
        assert len(one.names) == 3


# ---------------------------------------------------------------- squares


def test_crops_are_of_one_place_in_both_images_and_reach_every_place():
    rows, columns = np.indices((11, 13), dtype=np.uint8)
    corners = set()
    for batch in draw(samples([pair(rows, columns)], "pairs"), 600, sampling="crop", size=9):
        ir, vis = (image[0, 0].numpy() for image in batch.images)
        top, left = int(ir[0, 0]), int(vis[0, 0])
        inside = slice(top, top + 9), slice(left, left + 9)
        assert np.array_equal(ir, rows[inside]) and np.array_equal(vis, columns[inside])
        corners.add((top, left))
    # 15 places; that 600 fair draws miss one has the chance 15 (14/15)^600 = 1e-17.
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_turns_are_the_eight_of_a_square_alike_in_both_images():
    square = np.arange(9, dtype=np.uint8).reshape(3, 3)
    turns = [np.rot90(m, k) for m in (square, square.T) for k in range(4)]
    seen = set()
    found = samples([pair(square, 100 + square)], "pairs")
    for batch in draw(found, 300, sampling="crop and turn", size=3):
        ir, vis = (image[0, 0].numpy() for image in batch.images)
        assert np.array_equal(vis, 100 + ir)
        (which,) = [i for i, turn in enumerate(turns) if np.array_equal(turn, ir)]
        seen.add(which)
    assert seen == set(range(8))
