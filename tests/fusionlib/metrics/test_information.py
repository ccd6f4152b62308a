"""Information metrics: scipy and scikit-image, counting with dictionaries, known images."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import special, stats
from skimage import metrics as skimage

from fusionlib.errors import MetricWarning
from fusionlib.metrics import METRICS
from fusionlib.metrics.information import (
    cross_entropy,
    entropy,
    mutual_information,
    nonlinear_correlation_information_entropy,
    normalised_mutual_information,
)
from tests.fusionlib.metrics.pictures import (
    flat,
    stretch,
    triples,
    undefined_allowed,
)

pytestmark = pytest.mark.filterwarnings("error")

# Sums of at most 65536 terms p log p, each rounded: 16 bits times some 2**-53.
ROUNDING = 1e-13


def bits(*images):
    """Joint entropy of images, from a dictionary of what occurs and scipy."""
    counts = Counter(zip(*(image.ravel().tolist() for image in images), strict=True))
    return stats.entropy(list(counts.values()), base=2)


def shared(x, y):
    return bits(x) + bits(y) - bits(x, y)


# ---------------------------------------------------------------- entropy


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_constant_image_has_no_negative_zero(level):
    value = entropy(*flat(level))
    assert value == 0 and math.copysign(1, value) == 1


@given(triples(most=20))
def test_entropy_is_that_of_scipy(images):
    assert entropy(images[0]) == pytest.approx(bits(images[0]), abs=ROUNDING)
    assert 0 <= entropy(images[0]) <= min(8, math.log2(images[0].size)) + ROUNDING


# ---------------------------------------------------------------- mutual information


@given(triples())
def test_mutual_information_in_every_convention(images):
    f, a, b = images
    merged = [np.minimum(image, 254) for image in images]
    expected = {
        "standard": shared(f, a) + shared(f, b),
        "li": 2 * bits(f),
        "cddfuse": (shared(f, a) + shared(f, b)) * math.log(2),
        # The marginals keep levels 254 and 255 apart.
        "tang": sum(
            bits(f) + bits(s) - bits(merged[0], m) for s, m in ((a, merged[1]), (b, merged[2]))
        ),
        "vifb": sum(shared(stretch(f), stretch(s)) for s in (a, b)) * math.log(2),
    }
    assert list(expected) == list(METRICS["MI"].conventions)
    for convention, value in expected.items():
        # Three sums for each of two sources.
        with undefined_allowed():
            ours = METRICS["MI"].compute(*images, convention)
        assert ours == pytest.approx(value, abs=6 * ROUNDING), convention


def test_tang_merges_the_two_top_levels():
    """Levels 254 and 255 by halves: 1 bit in the marginals, none in the joint histogram."""
    top = np.array([[254, 255]], np.uint8)
    assert METRICS["MI"].compute(top, top, top, "tang") == 4
    assert METRICS["MI"].compute(top, top, top) == 2
    assert METRICS["MI"].compute(top, *flat(9, 9, size=(1, 2)), "tang") == 2
    lower = top - 1
    assert METRICS["MI"].compute(lower, lower, lower, "tang") == 2


# ---------------------------------------------------------------- Q_MI, Q_NCIE


@given(triples())
@settings(max_examples=60)
def test_q_mi_is_that_of_scikit_image(images):
    """Theirs is (H(X) + H(Y)) / H(X,Y), over bins from the least to the greatest level."""
    f, a, b = images
    for image in images:
        image[0, 0], image[-1, -1] = 0, 255
    if f.size == 1:
        return
    theirs = (skimage.normalized_mutual_information(f, s, bins=256) for s in (a, b))
    expected = sum(2 * (1 - 1 / value) for value in theirs)
    # Quotients of entropies that are at least 0.05 here.
    assert normalised_mutual_information(*images) == pytest.approx(expected, abs=1e-11)


def q_ncie(matrix):
    """1 minus the entropy, to base 256, of the eigenvalues' shares."""
    eigenvalues = np.linalg.eigvals(np.array(matrix)).real
    return 1 - stats.entropy(np.maximum(eigenvalues, 0) / 3, base=256)


@given(triples())
@settings(max_examples=60)
def test_q_ncie_by_its_definition(images):
    f, a, b = images
    ab, af, bf = shared(a, b) / 8, shared(a, f) / 8, shared(b, f) / 8
    expected = q_ncie([[1, ab, af], [ab, 1, bf], [af, bf, 1]])
    # An eigenvalue e near 0, known to 1e-15, adds e log e: 1e-15 * 50 / 8.
    assert nonlinear_correlation_information_entropy(*images) == pytest.approx(expected, abs=1e-13)


# ---------------------------------------------------------------- cross entropy


@given(triples())
@settings(max_examples=60)
def test_cross_entropy_is_that_of_scipy_over_common_levels(images):
    p_f, *p_s = (np.bincount(image.ravel(), minlength=256) / image.size for image in images)
    divergences = [special.rel_entr(p, p_f)[(p > 0) & (p_f > 0)].sum() / math.log(2) for p in p_s]
    assert cross_entropy(*images) == pytest.approx(np.mean(divergences), abs=ROUNDING)


# ---------------------------------------------------------------- constants


@pytest.mark.parametrize("levels", [(9, 9, 9), (0, 0, 0), (9, 0, 255)])
def test_constant_images(levels):
    images = flat(*levels)
    assert mutual_information(*images) == 0 and cross_entropy(*images) == 0
    for convention in ("li", "cddfuse", "tang"):
        assert METRICS["MI"].compute(*images, convention) == 0
    with pytest.warns(MetricWarning, match="Q_MI") as caught:
        assert normalised_mutual_information(*images) == 0
    assert len(caught) == 2
