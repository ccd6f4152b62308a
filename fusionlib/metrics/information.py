"""Metrics from information theory: they see how often gray levels occur, not where."""

from __future__ import annotations

import math

import numpy as np

from .plane import Plane, histogram, joint_histogram, stretched, undefined
from .registry import Convention, metric


def _bits(counts: np.ndarray) -> float:
    """Return the entropy of a histogram, in bits."""
    present = counts[counts > 0]
    p = present / present.sum()
    # max() turns the -0.0 of a single level into 0.
    return max(0.0, float(-(p * np.log2(p)).sum()))


def _mutual_bits(x: Plane, y: Plane) -> float:
    joint = joint_histogram(x, y)
    return _marginal_bits(joint) - _bits(joint)


def _marginal_bits(joint: np.ndarray) -> float:
    """Return the entropies of both images; summing is cheaper than two more histograms."""
    return _bits(joint.sum(axis=1)) + _bits(joint.sum(axis=0))


@metric(
    "EN",
    "entropy",
    range="0..8 bits; 0 for a constant image; noise raises it too",
    paper='J. W. Roberts, J. van Aardt, F. Ahmed, "Assessment of image fusion procedures using '
    'entropy, image quality, and multispectral classification", J. Appl. Remote Sens. 2, '
    "023522, 2008",
    doi="10.1117/1.2945910",
    conventions={
        "standard li cddfuse tang vifb": Convention(
            "256 levels, logarithm to base 2; all codes agree"
        )
    },
)
def entropy(fused: Plane) -> float:
    r"""Shannon entropy of the gray levels: :math:`-\sum_k p_k \log_2 p_k`."""
    return _bits(histogram(fused))


@metric(
    "MI",
    "mutual information",
    range="0..16 bits (11.09 nats), the sum over both sources; 0 for a constant image; tang up to "
    "18 bits, and not exactly 0 for a constant image",
    paper='G. Qu, D. Zhang, P. Yan, "Information measure for performance of image fusion", '
    "Electronics Letters 38(7), 2002",
    doi="10.1049/el:20020212",
    conventions={
        "standard": Convention("bits; joint histogram of 256 x 256 levels"),
        "li": Convention(
            "2 x EN of the fused image, whatever the sources: the code numbers the image's rows "
            "as records and takes the entropy of these numbers with MATLAB's entropy, which "
            "turns a double above 1 into 255, so that every joint entropy is 0",
            function=lambda fused: 2 * _bits(histogram(fused)),
        ),
        "cddfuse": Convention(
            "nats: scikit-learn's mutual_info_score, natural logarithm", {"base": math.e}
        ),
        "tang": Convention(
            "bits; levels 254 and 255 share a bin of the joint histogram, since the index "
            "uint8(level) + 1 saturates at 255",
            {"merge_top": True},
        ),
        "vifb": Convention(
            "nats; every image is stretched to 0..255 and rounded first",
            {"base": math.e, "stretch": True},
        ),
    },
)
def mutual_information(
    fused: Plane,
    ir: Plane,
    vis: Plane,
    *,
    base: float = 2,
    merge_top: bool = False,
    stretch: bool = False,
) -> float:
    r"""Information that the fused image shares with its sources: :math:`I(A;F) + I(B;F)`.

    :math:`I(S;F) = H(S) + H(F) - H(S,F)`, entropies of histograms of gray levels.
    """
    if stretch:
        fused, ir, vis = map(stretched, (fused, ir, vis))
    value = 0.0
    for source in (ir, vis):
        joint = joint_histogram(fused, source)
        apart = _marginal_bits(joint)
        if merge_top:
            joint = joint.copy()
            joint[254] += joint[255]
            joint[:, 254] += joint[:, 255]
            joint = joint[:255, :255]
        value += apart - _bits(joint)
    return value / math.log2(base)


@metric(
    "Q_MI",
    "normalised mutual information",
    range="0..2; 2 for a fused image equal to both sources",
    paper="M. Hossny, S. Nahavandi, D. Creighton, \"Comments on 'Information measure for "
    "performance of image fusion'\", Electronics Letters 44(18), 2008",
    doi="10.1049/el:20081754",
    conventions={
        "standard": Convention(
            "256 levels, not stretched; a source and a fused image that are both constant add 0, "
            "with a warning"
        )
    },
)
def normalised_mutual_information(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Mutual information over the sum of entropies.

    :math:`2\,[I(A;F) / (H(A)+H(F)) + I(B;F) / (H(B)+H(F))]`, free of the logarithm's base.
    """
    value = 0.0
    for source in (ir, vis):
        entropies = _bits(histogram(source)) + _bits(histogram(fused))
        if entropies > 0:
            value += 2 * _mutual_bits(fused, source) / entropies
        else:
            value += undefined("Q_MI of a constant source and a constant fused image", 0)
    return value


@metric(
    "Q_NCIE",
    "nonlinear correlation information entropy",
    range="0..1; three independent images give 0.80188, so values lie above that",
    paper='Q. Wang, Y. Shen, J. Q. Zhang, "A nonlinear correlation measure for multivariable '
    'data set", Physica D 200, 2005',
    doi="10.1016/j.physd.2004.11.001",
    conventions={
        "standard": Convention("256 levels, not stretched; toolboxes differ in the stretch")
    },
)
def nonlinear_correlation_information_entropy(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Entropy of the eigenvalues of the three images' mutual information matrix.

    :math:`1 + \sum_i (\lambda_i/3) \log_{256} (\lambda_i/3)`, :math:`\lambda_i` the eigenvalues
    of the matrix of :math:`I(X;Y)`, logarithm to base 256, with ones on the diagonal.
    """
    matrix = np.eye(3)
    for i, j, (x, y) in ((0, 1, (ir, vis)), (0, 2, (fused, ir)), (1, 2, (fused, vis))):
        matrix[i, j] = matrix[j, i] = _mutual_bits(x, y) / 8
    shares = np.linalg.eigvalsh(matrix) / 3
    shares = shares[shares > 0]
    return 1 + float((shares * np.log2(shares)).sum()) / 8


@metric(
    "CE",
    "cross entropy",
    higher_is_better=False,
    range="any sign, bits; 0 for equal histograms, and for histograms without a common level",
    paper='D. M. Bulanon, T. F. Burks, V. Alchanatis, "Image fusion of visible and thermal images '
    'for fruit detection", Biosystems Engineering 103(1), 2009',
    doi="10.1016/j.biosystemseng.2009.02.009",
    conventions={
        "standard vifb": Convention(
            "levels that one of the two images lacks are left out, so the value can be negative"
        )
    },
)
def cross_entropy(fused: Plane, ir: Plane, vis: Plane) -> float:
    r"""Mean over both sources of :math:`\sum_k p_S(k) \log_2 (p_S(k) / p_F(k))`.

    The sum runs over the levels that both images have.
    """
    value = 0.0
    for source in (ir, vis):
        common = (histogram(source) > 0) & (histogram(fused) > 0)
        p, q = histogram(source)[common], histogram(fused)[common]
        value += float((p * np.log2(p / q)).sum()) / fused.given.size
    return value / 2
