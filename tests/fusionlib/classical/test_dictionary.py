"""dictionary: patches, checks of a given one, published ones by pair, K-SVD, the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionlib.classical import dictionary
from fusionlib.classical.dictionary import (
    TNO_PAIRS,
    FixedDictionary,
    LearntDictionaries,
    PublishedDictionaries,
    check_dictionary,
    columns,
    learn_dictionary,
    pair_hash,
    patches,
    save_dictionary,
    training_patches,
)
from fusionlib.datasets import load_dataset
from fusionlib.errors import FusionError, ImageError, WeightsMismatch
from fusionlib.images import exact_levels
from fusionlib.weights import read_facts, read_weights


def atoms(seed=0, count=256):
    values = np.random.default_rng(seed).random((49, count))
    return values / np.linalg.norm(values, axis=0)


def images(shape=(20, 26), seed=0):
    """Smooth images with some texture, in whole levels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = [0.5 + 0.3 * np.sin(x / 5 + k) * np.cos(y / 7) for k in range(2)]
    return [np.rint(255 * (w + 0.1 * random.random(shape))) / 255 for w in waves]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(dictionary, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(dictionary, "ITERATIONS", 2)
    return tmp_path / "cache" / "dictionaries"


# ---------------------------------------------------------------- patches


def test_patches_are_columns_of_columns():
    image = np.arange(9 * 11.0).reshape(9, 11)
    grid = patches(image)
    assert grid.shape == (3, 5, 7, 7)
    vectors = columns(grid, slice(4, 12))
    for i, number in enumerate(range(4, 12)):
        y, x = divmod(number, 5)
        assert vectors[:, i].tolist() == image[y : y + 7, x : x + 7].T.ravel().tolist()
    found = training_patches([image, -image])
    assert found.shape == (49, 2 * 1 * 2)  # at every third row and column
    assert found[:, 3].tolist() == (-image[:7, 3:10]).T.ravel().tolist()


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (1, 1)])
def test_an_image_without_a_patch(shape):
    with pytest.raises(ImageError, match=f"{shape[1]}x{shape[0]} has no patch of 7x7"):
        training_patches([np.ones(shape)])


def test_of_too_many_patches_some_are_drawn(monkeypatch):
    monkeypatch.setattr(dictionary, "MOST_PATCHES", 10)
    ir, vis = images((14, 20))
    found, again = training_patches([ir, vis]), training_patches([ir, vis])
    assert found.shape == (49, 10) and np.array_equal(found, again)
    assert not np.array_equal(found, training_patches([ir, vis], seed=1))


# ---------------------------------------------------------------- given dictionaries


def changed(factor):
    values = atoms()
    values[:, 7] *= factor
    return torch.from_numpy(values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.ones(256, 49).double(), r"the shape \(256, 49\), expected \(49, 256\): 256 atoms"),
        (torch.ones(49), r"expected \(49, 256\)"),
        (changed(1.001), "must have norm 1"),
        (changed(0.0), "norm 1"),
        (changed(np.nan), "not finite"),
        (torch.ones(49, 256).half(), "is of torch.float16, expected float32 or float64"),
    ],
)
def test_what_is_no_dictionary(given, message):
    with pytest.raises(WeightsMismatch, match=rf"x\.npz: .*{message}"):
        check_dictionary(given, "x.npz")
    for source, others in ((FixedDictionary(), {}), (PublishedDictionaries(), published())):
        name = "pair_11" if others else "dictionary"
        with pytest.raises(WeightsMismatch, match=message):
            source.load(others | {name: given}, "x.npz")


def test_float32_is_near_enough():
    assert check_dictionary(torch.from_numpy(atoms()).float(), "x").dtype == np.float64


def test_a_file_of_the_user(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_dictionary(path, atoms(), {"seed": 5})
    fixed = FixedDictionary()
    fixed.load(read_weights(path), path)
    assert np.array_equal(fixed.find(*images()), atoms())
    assert read_facts(path) == {"seed": "5"}
    for given, names in (({"D": torch.zeros(49, 256)}, "D"), ({}, "none")):
        with pytest.raises(WeightsMismatch, match=f"must hold one tensor, dictionary, not {names}"):
            fixed.load(given, path)


def published():
    names = [f"pair_{number:02d}" for number in range(1, 22)]
    return {name: torch.from_numpy(atoms(i)) for i, name in enumerate(names)}


def test_published_dictionaries_are_found_by_the_pixels(monkeypatch):
    ir, vis = images()
    monkeypatch.setitem(TNO_PAIRS, pair_hash(ir, vis), "pair_13")
    source = PublishedDictionaries()
    source.load(published(), "x.npz")
    assert np.array_equal(source.find(ir, vis), atoms(12))
    # Of the images the other way round, none is published: one is learnt.
    exchanged = source.find(vis, ir)
    assert np.array_equal(exchanged, LearntDictionaries().find(vis, ir))
    assert not np.array_equal(exchanged, atoms(12))


def test_published_dictionaries_that_are_not_whole():
    source, whole = PublishedDictionaries(), published()
    whole.pop("pair_11")
    with pytest.raises(WeightsMismatch, match="lacks the dictionaries pair_11"):
        source.load(whole, "x.npz")


@pytest.mark.realdata
def test_each_published_dictionary_belongs_to_its_pair(data_root, weights_root):
    """Some of its atoms are patches of the pair, to the last bit but for their norm."""
    tensors = read_weights(weights_root / "jsr_dictionaries.npz")
    found = {}
    for name in ("tno20", "tno42"):  # the 21st pair is in the second
        for pair in load_dataset(name, data_dir=data_root):
            owner = TNO_PAIRS.get(pair_hash(pair.ir, pair.vis))
            if owner and owner not in found:
                signals = training_patches([exact_levels(pair.ir), exact_levels(pair.vis)])
                signals = signals[:, np.linalg.norm(signals, axis=0) > 0]
                signals /= np.linalg.norm(signals, axis=0)
                likeness = (tensors[owner].numpy().T @ signals).max(axis=1)
                found[owner] = int(np.sum(likeness > 1 - 1e-11))
    assert found.keys() == set(TNO_PAIRS.values())
    assert min(found.values()) > 20


# ---------------------------------------------------------------- K-SVD


def test_learning():
    signals = training_patches(images((60, 80)))
    first, errors = learn_dictionary(signals, iterations=3)
    assert first.shape == (49, 256) and len(errors) == 3
    assert np.linalg.norm(first, axis=0) == pytest.approx(1, abs=1e-12)
    again, _ = learn_dictionary(signals, iterations=3)
    other, _ = learn_dictionary(signals, iterations=3, seed=1)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_learning_represents_better(monkeypatch):
    """Without the replacement of near doubles it always does."""
    monkeypatch.setattr(dictionary, "CLOSEST", 2.0)
    _, errors = learn_dictionary(training_patches(images((60, 80))), iterations=8)
    assert errors[-1] < errors[0]


def test_a_planted_dictionary_is_kept():
    """Signals of one atom each: that atom is found again from noisy copies of itself."""
    random, true = np.random.default_rng(0), atoms()
    which = random.integers(0, 256, 4000)
    signals = true[:, which] * random.uniform(1, 2, 4000)
    learning = dictionary._Learning(signals, true, random)
    for atom in range(256):
        learning.update(atom)
    assert pytest.approx(true, abs=1e-9) == learning.atoms.T
    assert np.abs(learning.residual).max() < 1e-9


def test_coefficients_and_remainder_stay_together():
    """After all updates, what is not represented is signals less atoms times coefficients."""
    signals = training_patches(images((40, 50)))
    learning = dictionary._Learning(signals, atoms(), np.random.default_rng(1))
    for atom in range(256):
        learning.update(atom)
    left = signals.T.copy()
    for atom, uses in enumerate(learning.uses):
        for use in uses:
            left[use % len(left)] -= learning.values[use] * learning.atoms[atom]
    assert learning.residual == pytest.approx(left, abs=1e-12)


def test_which_atoms_are_replaced_and_by_what():
    """KSVD-Box's rule by loops: atoms of few uses, nearly doubled ones; by the worst signals."""
    start = atoms()
    start[:, 9] = start[:, 3]  # a double: only the first of the two is used
    signals = np.hstack([2 * start[:, [i] * 5] for i in range(200) if i != 9])
    signals = np.hstack([signals, start[:, [200] * 3]])  # too few uses
    random = np.random.default_rng(2)
    signals = np.hstack([signals, 0.1 * random.random((49, 300))])
    learning = dictionary._Learning(signals, start, random)
    learning.residual = learning.signals * random.random((len(learning.signals), 1))
    errors = [float(row @ row) for row in learning.residual]
    counts = [int(np.sum(np.abs(learning.values[uses]) > 1e-7)) for uses in learning.uses]
    expected, taken = start.T.copy(), set()
    for atom in range(256):
        close = max(abs(float(expected[atom] @ expected[i])) for i in range(256) if i != atom)
        if counts[atom] < 4 or close > 0.99:
            worst = max((i for i in range(len(errors)) if i not in taken), key=errors.__getitem__)
            taken.add(worst)
            expected[atom] = signals[:, worst] / np.linalg.norm(signals[:, worst])
    learning.replace_useless()
    assert 1 < len(taken) < 256
    assert learning.atoms == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_images_with_nothing_to_learn(level):
    flat = np.full((8, 9), level)
    learnt, errors = learn_dictionary(training_patches([flat, flat]), iterations=2)
    assert np.linalg.norm(learnt, axis=0) == pytest.approx(1)
    assert errors[-1] < 1e-12
    if level == 0:  # products of cosines, since no patch can be an atom
        assert np.linalg.matrix_rank(learnt) == 49


# ---------------------------------------------------------------- the cache


def test_what_was_learnt_is_kept(cache, monkeypatch):
    ir, vis = images()
    first = LearntDictionaries().find(ir, vis)
    (path,) = cache.iterdir()
    monkeypatch.setattr(dictionary, "learn_dictionary", lambda *_, **__: pytest.fail("again"))
    assert np.array_equal(LearntDictionaries().find(ir, vis), first)
    monkeypatch.undo()
    assert path.stat().st_size < 110_000


@pytest.mark.parametrize("content", [b"", b"half a fi", None])
def test_a_damaged_file_in_the_cache(cache, content):
    ir, vis = images()
    first = LearntDictionaries().find(ir, vis)
    (path,) = cache.iterdir()
    if content is None:
        save_dictionary(path, atoms()[:, :9], {})
    else:
        path.write_bytes(content)
    assert np.array_equal(LearntDictionaries().find(ir, vis), first)


def test_the_cache_tells_pairs_apart(cache):
    ir, vis = images()
    pairs = ((ir, vis), (vis, ir), (ir[:, :-1], vis[:, :-1]), (ir, vis[::-1]), (ir[::-1], vis))
    for pair in pairs:
        LearntDictionaries().find(*pair)
    assert len(list(cache.iterdir())) == len({pair_hash(*pair) for pair in pairs}) == len(pairs)


def test_a_cache_that_cannot_be_written(cache, monkeypatch):
    """Said before the minutes of learning, with what to do."""
    cache.parent.touch()
    monkeypatch.setattr(dictionary, "learn_dictionary", lambda *_, **__: pytest.fail("learnt"))
    with pytest.raises(FusionError, match=r"could not be kept: cannot write .* XDG_CACHE_HOME"):
        LearntDictionaries().find(*images())


def test_learnt_dictionaries_take_no_file():
    with pytest.raises(WeightsMismatch, match="use pipeline='fixed'"):
        LearntDictionaries().load({}, "x.npz")
