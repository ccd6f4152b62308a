"""published: authors' images stand for a method, pair by pair, and only for their data set."""

from __future__ import annotations

import numpy as np
import pytest

from fusionlib.datasets import load_dataset
from fusionlib.errors import DatasetNotFound, FusionError
from fusionlib.evaluation import benchmark, evaluate
from fusionlib.pairs import Dataset, Pair
from reproduction import published
from reproduction.published import PublishedImages


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (20, 24)).astype(np.float32) / 255


PAIRS = [Pair(name, picture(i), picture(i + 10)) for i, name in enumerate("ab")]
IMAGES = {"b": picture(21), "a": picture(20), "c": picture(22)}
PUBLISHED = pytest.mark.parametrize(
    "dataset, method",
    [("tno20", "rfn_nest"), ("tno20", "jsr"), ("tno20", "jsrsd"), ("tno42", "rfn_nest")],
)


@pytest.fixture
def images(monkeypatch, tmp_path):
    """Images of three pairs, in another order than the pairs."""
    items = list(IMAGES.items())
    listed = tmp_path / "list.csv"
    listed.write_text("names and hashes")
    opened = Dataset("x", None, list(IMAGES), items.__getitem__)
    monkeypatch.setattr(published, "load_images", lambda name, data_dir: opened)
    monkeypatch.setattr(published, "package_data", lambda relative: listed)
    return PublishedImages("rfn_nest", "published_tno20_rfn_nest")


def test_each_pair_gets_its_image(images):
    for pair in PAIRS:
        assert np.array_equal(images.fuse_pair(pair), IMAGES[pair.name])
    assert images.dataset == "tno20"
    assert images.identity[:2] == ("rfn_nest", "authors' images")
    assert images.identity.weights == f"authors' images@{images.card.weights_sha256[:8]}"
    with pytest.raises(FusionError, match=r"no image of the pair 'd'; theirs are of .* tno20"):
        images.fuse_pair(Pair("d", picture(0), picture(1)))


def test_scored_like_a_method(images):
    frame = benchmark(images, PAIRS, metrics=["EN", "SCD"], progress=False)
    assert set(frame["variant"]) == {"authors' images"}
    for row in frame.itertuples():
        pair = next(pair for pair in PAIRS if pair.name == row.pair)
        scores = evaluate(IMAGES[pair.name], pair.ir, pair.vis, metrics=[row.metric])
        assert row.value == scores[row.metric]


@PUBLISHED
def test_missing_images_come_with_a_remedy(monkeypatch, tmp_path, dataset, method):
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.data_roots", lambda data_dir: [tmp_path])
    with pytest.raises(DatasetNotFound, match=f"published_{dataset}/{method}"):
        PublishedImages(method, f"published_{dataset}_{method}")


@pytest.mark.realdata
@PUBLISHED
def test_every_pair_has_its_image(golden_root, data_root, tmp_path, dataset, method):
    (tmp_path / f"published_{dataset}").symlink_to(golden_root / f"published_{dataset}")
    images = PublishedImages(method, f"published_{dataset}_{method}", data_dir=tmp_path)
    for pair in load_dataset(dataset, data_dir=data_root):
        assert images.fuse_pair(pair).shape == pair.ir.shape
