"""Metrics from information theory. Images are 8-bit gray levels 0..255."""

from __future__ import annotations

import numpy as np

__all__ = ["entropy"]


def entropy(fused: np.ndarray) -> float:
    r"""Shannon entropy of the gray levels: :math:`-\sum_k p_k \log_2 p_k`.

    Parameters
    ----------
    fused : ndarray of uint8, shape (H, W)

    Returns
    -------
    float
        Bits, in [0, 8]; 0 for a constant image. Usually read as "higher is better", but
        noise raises it too.

    References
    ----------
    .. [1] J. W. Roberts, J. van Aardt, F. Ahmed, "Assessment of image fusion procedures
       using entropy, image quality, and multispectral classification", J. Appl. Remote
       Sens. 2, 023522, 2008, doi 10.1117/1.2945910.
    """
    counts = np.bincount(fused.ravel(), minlength=256)
    p = counts[counts > 0] / fused.size
    # max() turns the -0.0 of a constant image into 0.
    return max(0.0, float(-(p * np.log2(p)).sum()))
