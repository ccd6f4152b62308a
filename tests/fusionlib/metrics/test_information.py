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
    noise,
    stretch,
    triples,
    undefined_allowed,
)

pytestmark = pytest.mark.filterwarnings("error")

# Sums of at most 65536 terms p log p, each rounded: 16 bits times some 2**-53.
ROUNDING = 1e-13
# Two independent sources of 16 levels, and a fused image of 256 that tells both.
ROWS, COLUMNS = np.indices((16, 16)).astype(np.uint8)
BOTH = 16 * ROWS + COLUMNS


def bits(*images):
    """Joint entropy of images, from a dictionary of what occurs and scipy."""
    counts = Counter(zip(*(image.ravel().tolist() for image in images), strict=True))
    return stats.entropy(list(counts.values()), base=2)


def shared(x, y):
    return bits(x) + bits(y) - bits(x, y)


# ---------------------------------------------------------------- entropy


@pytest.mark.parametrize(
    "image, expected",
    [
        (np.indices((8, 8)).sum(axis=0) % 2 * 255, 1),
        (BOTH, 8),
        (np.arange(256).repeat(3).reshape(32, 24), 8),
        (np.array([[0, 0, 0, 255]]), 2 - 0.75 * math.log2(3)),
        (np.array([[7]]), 0),
    ],
)
def test_entropy_of_known_images(image, expected):
    assert entropy(image.astype(np.uint8)) == pytest.approx(expected, rel=1e-14)


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


@pytest.mark.parametrize("convention, unit", [("standard", 1), ("cddfuse", math.log(2))])
def test_mutual_information_of_known_images(convention, unit):
    """Twice the entropy for equal images, nothing for independent ones, their sum for a pair."""
    for images, expected in [
        ((BOTH, BOTH, BOTH), 16),
        ((ROWS, COLUMNS, COLUMNS), 0),
        ((BOTH, ROWS, COLUMNS), 8),
        ((ROWS, BOTH, COLUMNS), 4),
    ]:
        ours = METRICS["MI"].compute(*images, convention)
        assert ours == pytest.approx(expected * unit, abs=6 * ROUNDING)


def test_tang_merges_the_two_top_levels():
    """Levels 254 and 255 by halves: 1 bit in the marginals, none in the joint histogram."""
    top = np.array([[254, 255]], np.uint8)
    assert METRICS["MI"].compute(top, top, top, "tang") == 4
    assert METRICS["MI"].compute(top, top, top) == 2
    assert METRICS["MI"].compute(top, *flat(9, 9, size=(1, 2)), "tang") == 2
    lower = top - 1
    assert METRICS["MI"].compute(lower, lower, lower, "tang") == 2


def test_mutual_information_is_stretched_by_vifb():
    """Two of 256 levels, 127.5 is rounded to 128: known by the bits that remain."""
    images = [np.array([[0, 1, 2, 2]], np.uint8)] * 3
    assert METRICS["MI"].compute(*images, "vifb") == pytest.approx(3 * math.log(2), rel=1e-14)
    narrow = [stretch(image) // 4 + 9 for image in noise()]
    widened = map(stretch, narrow)
    assert METRICS["MI"].compute(*narrow, "vifb") == METRICS["MI"].compute(*widened, "cddfuse")


# ---------------------------------------------------------------- Q_MI, Q_NCIE


def test_q_mi_of_known_images():
    assert normalised_mutual_information(BOTH, BOTH, BOTH) == pytest.approx(2, rel=1e-14)
    assert normalised_mutual_information(ROWS, COLUMNS, COLUMNS) == pytest.approx(0, abs=ROUNDING)
    # I = 4 and H = 4 + 8 for each source.
    assert normalised_mutual_information(BOTH, ROWS, COLUMNS) == pytest.approx(4 / 3, rel=1e-14)
    assert normalised_mutual_information(ROWS, ROWS, COLUMNS) == pytest.approx(1, rel=1e-14)


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


def test_q_ncie_of_known_images():
    value = nonlinear_correlation_information_entropy
    assert value(BOTH, BOTH, BOTH) == pytest.approx(1, abs=1e-13)
    independent = 1 - math.log(3, 256)
    assert value(*flat(9, 0, 255)) == pytest.approx(independent, rel=1e-14)
    # Eigenvalues 1 and 1 +- sqrt(1/2): both sources share half of the fused image's 8 bits.
    shares = [1 / 3, (1 + math.sqrt(0.5)) / 3, (1 - math.sqrt(0.5)) / 3]
    expected = 1 + sum(s * math.log(s, 256) for s in shares)
    assert value(BOTH, ROWS, COLUMNS) == pytest.approx(expected, rel=1e-13)
    # One pair of equal images of 4 bits, the third independent: eigenvalues 1, 1 +- 1/2.
    expected = 1 + sum(s * math.log(s, 256) for s in (1 / 3, 1 / 2, 1 / 6))
    for images in [(ROWS, ROWS, COLUMNS), (ROWS, COLUMNS, ROWS), (COLUMNS, ROWS, ROWS)]:
        assert value(*images) == pytest.approx(expected, rel=1e-13)


# ---------------------------------------------------------------- cross entropy


@given(triples())
@settings(max_examples=60)
def test_cross_entropy_is_that_of_scipy_over_common_levels(images):
    p_f, *p_s = (np.bincount(image.ravel(), minlength=256) / image.size for image in images)
    divergences = [special.rel_entr(p, p_f)[(p > 0) & (p_f > 0)].sum() / math.log(2) for p in p_s]
    assert cross_entropy(*images) == pytest.approx(np.mean(divergences), abs=ROUNDING)


def test_cross_entropy_of_known_images():
    f, a, b = (
        np.array([levels], np.uint8) for levels in ([0, 0, 1, 1], [0, 1, 1, 1], [0, 2, 3, 4])
    )
    one = math.log2(1 / 2) / 4 + math.log2(3 / 2) * 3 / 4
    assert cross_entropy(f, a, a) == pytest.approx(one, rel=1e-14)
    # Of b only level 0 is common: 1/4 log2 (1/4 : 1/2), which makes the sum negative.
    assert cross_entropy(f, b, b) == -1 / 4
    assert cross_entropy(f, a, b) == pytest.approx((one - 1 / 4) / 2, rel=1e-14)
    # Fused image and source are not interchangeable.
    assert cross_entropy(a, f, f) == pytest.approx((1 + math.log2(2 / 3)) / 2, rel=1e-14)
    assert cross_entropy(f, f[:, ::-1], f) == 0


# ---------------------------------------------------------------- constants, invariances


@pytest.mark.parametrize("levels", [(9, 9, 9), (0, 0, 0), (9, 0, 255)])
def test_constant_images(levels):
    images = flat(*levels)
    assert mutual_information(*images) == 0 and cross_entropy(*images) == 0
    for convention in ("li", "cddfuse", "tang"):
        assert METRICS["MI"].compute(*images, convention) == 0
    with pytest.warns(MetricWarning, match="Q_MI") as caught:
        assert normalised_mutual_information(*images) == 0
    assert len(caught) == 2


def test_vifb_stretches_constants_to_black():
    with pytest.warns(MetricWarning, match="constant") as caught:
        assert METRICS["MI"].compute(*flat(9, 0, 255), "vifb") == 0
    assert len(caught) == 2  # black needs no stretch


def test_one_constant_image():
    f, a, b = noise()
    gray = flat(9, size=f.shape)[0]
    for images in [(gray, a, b), (f, gray, gray)]:
        assert mutual_information(*images) == pytest.approx(0, abs=6 * ROUNDING)
        assert normalised_mutual_information(*images) == pytest.approx(0, abs=ROUNDING)
    # A constant source adds nothing to the other's term.
    assert mutual_information(f, a, gray) == pytest.approx(shared(f, a), abs=6 * ROUNDING)
    expected = 2 * shared(f, a) / (bits(f) + bits(a))
    assert normalised_mutual_information(f, a, gray) == pytest.approx(expected, abs=ROUNDING)
    with pytest.warns(MetricWarning, match="Q_MI") as caught:
        expected = 2 * 0 / bits(a)
        assert normalised_mutual_information(gray, a, gray) == pytest.approx(expected, abs=ROUNDING)
    assert len(caught) == 1
