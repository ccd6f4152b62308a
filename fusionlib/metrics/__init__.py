"""Metrics: the registry. One file per family; every function works on 8-bit gray levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import unknown
from . import information, structure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METRICS", "SELECTIONS", "Metric", "list_metrics", "select"]


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes
    ----------
    name : str
        The column of the published tables.
    compute : callable
        (fused, ir, vis), each uint8 (H, W) -> float.
    convention : str
        The convention it follows: "li" is that of Res2NetFuse's tables.
    higher_is_better : bool
    summary : str
        One line, range included.
    doi : str
    """

    name: str
    compute: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    convention: str
    higher_is_better: bool
    summary: str
    doi: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "SSIM_a",
            structure.ssim_a,
            "li",
            True,
            "mean structural similarity to both sources, -1..1",
            "10.1109/TIP.2003.819861",
        ),
        Metric(
            "EN",
            lambda fused, ir, vis: information.entropy(fused),
            "li",
            True,
            "entropy of the fused image, 0..8 bits",
            "10.1117/1.2945910",
        ),
        Metric(
            "SCD",
            structure.scd,
            "li",
            True,
            "sum of the correlations of differences, -2..2",
            "10.1016/j.aeue.2015.09.004",
        ),
    )
}

#: Named selections: the columns of a paper's tables, as far as they are implemented.
SELECTIONS: dict[str, tuple[str, ...]] = {"res2netfuse": ("SSIM_a", "EN", "SCD")}


def select(metrics: str | Sequence[str]) -> list[Metric]:
    """Resolve a selection ("res2netfuse"), a metric's name or a list of names.

    Raises
    ------
    UnknownName
        If a name is neither a selection nor a metric.
    """
    names = SELECTIONS.get(metrics, (metrics,)) if isinstance(metrics, str) else metrics
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, [*METRICS, *SELECTIONS])
    return [METRICS[name] for name in names]


def list_metrics() -> pd.DataFrame:
    """Return one row per metric, for people and notebooks."""
    import pandas as pd

    return pd.DataFrame(
        {
            "metric": metric.name,
            "convention": metric.convention,
            "better": "higher" if metric.higher_is_better else "lower",
            "summary": metric.summary,
            "doi": metric.doi,
        }
        for metric in METRICS.values()
    ).set_index("metric")
