"""JSRSD: joint sparse representation, private parts weighted by their saliency.

C. Liu, Y. Qi, W. Ding, "Infrared and visible image fusion method based on saliency detection in
sparse domain", Infrared Physics & Technology 83, 2017, doi 10.1016/j.infrared.2017.04.018.

As JSR (`fusionlib.classical.jsr`), but the private codes of a patch weigh what they are salient:
0.6 times their l1 norm, and 0.4 times how much they differ from those of the 24 patches around
them, near ones counting more; over the larger of the two images' values. Two patches from the
border of the grid, where some of the 24 are missing, JSR's weights are used. The common codes are
divided by sqrt 2, as the joint dictionary is, so that what is common keeps its brightness.
"""

from __future__ import annotations

import numpy as np

from ..card import MethodSpec
from .dictionary import ATOMS
from .jsr import JSR, dictionary_configurations, l1_norms, relative
from .pursuit import Codes

__all__ = ["JSRSD", "METHOD", "differences"]

REACH = 2  # patches around, each way
LOCAL, OVERALL = 0.4, 0.6

# Half of the 24 patches around one; to the others, it is one of these.
AHEAD = [
    (down, right)
    for down in range(REACH + 1)
    for right in range(-REACH, REACH + 1)
    if (down, right) > (0, 0)
]


def differences(codes: np.ndarray) -> np.ndarray:
    """Compare codes (rows, columns, atoms) of patches with those of the 24 around each.

    Mean of the Euclidean distances of the codes, each over 1 + 2 times the distance of the patches
    in the grid. Right only where all 24 are there.
    """
    rows, columns = codes.shape[:2]
    total = np.zeros((rows, columns))
    for down, right in AHEAD:
        here = (slice(0, rows - down), slice(max(0, -right), columns - max(0, right)))
        there = (slice(down, rows), slice(max(0, right), columns + min(0, right)))
        difference = codes[here] - codes[there]
        distance = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))
        distance /= 1 + 2 * np.hypot(down, right)
        total[here] += distance
        total[there] += distance
    return total / (2 * len(AHEAD))


class JSRSD(JSR):
    """The JSRSD method, on gray levels 0..1, with a dictionary from `source`."""

    common = 1 / np.sqrt(2)

    def weigh(self, codes: Codes, shape: tuple[int, int], rows: slice) -> np.ndarray:
        """Weigh the private parts by their saliency; see `JSR.weigh`."""
        height, width = shape
        # With the rows above and below, as far as there are any.
        around = slice(max(0, rows.start - REACH), min(height, rows.stop + REACH))
        some = codes.part(slice(around.start * width, around.stop * width))
        norms = l1_norms(some).reshape(2, -1, width)
        weights = relative(norms)
        top, bottom = max(rows.start, REACH), min(rows.stop, height - REACH)
        if top < bottom and width > 2 * REACH:
            inner = (slice(top - around.start, bottom - around.start), slice(REACH, -REACH))
            local = [differences(_dense(some, kind, width))[inner] for kind in (1, 2)]
            overall = norms[:, *inner]
            weights[:, *inner] = relative(
                LOCAL * (1 - np.exp(-np.stack(local))) + OVERALL * overall
            )
        return weights[:, rows.start - around.start :][:, : rows.stop - rows.start].reshape(2, -1)


def _dense(codes: Codes, kind: int, width: int) -> np.ndarray:
    """Spread the codes that are private to an image over all atoms: (rows, width, 256)."""
    count = codes.atoms.shape[1]
    spread = np.zeros((count, ATOMS))
    kinds, atoms = np.divmod(codes.atoms.astype(np.intp), ATOMS)
    which, signal = np.nonzero(kinds == kind)
    # Added, since a pursuit that stopped early repeats atoms with coefficient 0.
    np.add.at(spread, (signal, atoms[which, signal]), codes.values[which, signal])
    return spread.reshape(-1, width, ATOMS)


METHOD = MethodSpec(
    name="jsrsd",
    title="JSRSD",
    paper="Liu, Qi and Ding, Infrared and visible image fusion method based on saliency detection "
    "in sparse domain, Infrared Physics & Technology 83, 2017",
    doi="10.1016/j.infrared.2017.04.018",
    year=2017,
    kind="sparse representation",
    licence="none stated",
    axis="pipeline",
    configurations=dictionary_configurations(JSRSD, "saliency of private codes"),
)
