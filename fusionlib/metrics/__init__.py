"""Metrics: one file per family, every definition under the name of its convention. ::

    from fusionlib.metrics import METRICS

    METRICS["MI"]                                   # its card: source, range, conventions
    METRICS["MI"].compute(fused, ir, vis, "tang")   # gray levels, uint8 (H, W)

`fusionlib.evaluate` also takes colour, 16 bits and floats, and whole selections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UnknownName, unknown
from . import feature, gradient, information, multiscale, structure, visual
from .registry import METRICS, Convention, Metric, metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CONVENTIONS",
    "METRICS",
    "SELECTIONS",
    "Chosen",
    "Convention",
    "Metric",
    "feature",
    "gradient",
    "information",
    "list_metrics",
    "metric",
    "multiscale",
    "select",
    "structure",
    "visual",
]

#: Whose code a convention follows.
CONVENTIONS = {
    "standard": "the textbook definition with the right ranges; the default",
    "li": "MATLAB code of the DenseFuse/Res2NetFuse group (H. Li), github.com/hli1221",
    "cddfuse": "Python evaluator of CDDFuse (Z. Zhao), which RefineFuse's tables follow",
    "tang": "MATLAB evaluation of L. Tang, github.com/Linfeng-Tang",
    "vifb": "toolbox of the benchmark VIFB (X. Zhang), arXiv 2002.03322",
    "cddfuse_255": "cddfuse with the range of SSIM mended",
    "pywt": "with the wavelet of PyWavelets",
}


_COLUMNS = {
    "res2netfuse": "SSIM_a:li EN:li MI:li Qabf:li FMI_dct:li FMI_w:li SCD:li MS_SSIM:li",
    "refinefuse": "VIF:cddfuse AG:tang SCD:cddfuse Qabf:cddfuse SF:cddfuse EN:cddfuse SSIM:cddfuse",
    "common": "EN MI SD SF AG CC SCD SSIM VIF Qabf Nabf",
    "all": " ".join(METRICS),
}
#: Named selections, each "metric:convention"; the papers' are the columns of their tables.
SELECTIONS: dict[str, tuple[str, ...]] = {
    name: tuple(one if ":" in one else f"{one}:standard" for one in columns.split())
    for name, columns in _COLUMNS.items()
}


class Chosen(NamedTuple):
    """A metric in a convention, and what a result is called: "VIF", or "VIF:tang" if asked so."""

    label: str
    metric: Metric
    convention: str


def select(metrics: str | Sequence[str], convention: str | None = None) -> list[Chosen]:
    """Resolve a selection's name, a metric's name or a list of metrics' names.

    Parameters
    ----------
    metrics : str or sequence of str
        "MI:tang" names a metric in a convention.
    convention : str, optional
        For every metric that does not name its own, and for those of a selection instead of
        the selection's. Without it: the selection's, else "standard".

    Raises
    ------
    UnknownName
        If a name is neither a selection nor a metric, a metric has no such convention, or
        nothing is named.
    """
    chosen = []
    for label in [metrics] if isinstance(metrics, str) else metrics:
        if label in SELECTIONS:
            columns = (column.split(":") for column in SELECTIONS[label])
            chosen += [_choose(name, name, convention or own) for name, own in columns]
        else:
            name, colon, own = label.partition(":")
            chosen.append(_choose(label, name, own if colon else convention or "standard"))
    if not chosen:
        raise UnknownName(f"no metric is named. Known: {', '.join([*METRICS, *SELECTIONS])}.")
    return chosen


def _choose(label: str, name: str, convention: str) -> Chosen:
    if name not in METRICS:
        raise unknown("metric", name, [*METRICS, *([] if ":" in label else SELECTIONS)])
    METRICS[name].convention(convention)
    return Chosen(label, METRICS[name], convention)


def list_metrics() -> pd.DataFrame:
    """Return one row per metric, for people and notebooks."""
    import pandas as pd

    return pd.DataFrame(
        {
            "metric": metric.name,
            "meaning": metric.title,
            "better": "higher" if metric.higher_is_better else "lower",
            "range": metric.range.split(";")[0],
            "conventions": ", ".join(metric.conventions),
            "doi": metric.doi,
        }
        for metric in METRICS.values()
    ).set_index("metric")
