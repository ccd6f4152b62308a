"""The verdicts as a chart."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..figures import BLUE, GREEN, GREY, ORANGE
from .entries import MARKS
from .finding import NOT_REPRODUCED, PARTLY, REPRODUCED, UNTESTABLE

__all__ = ["draw_summary"]

#: Colours of Okabe and Ito; hatches tell them apart in print.
FILLS = {
    REPRODUCED: (GREEN, ""),
    PARTLY: (BLUE, "//"),
    NOT_REPRODUCED: (ORANGE, "xx"),
    UNTESTABLE: (GREY, ".."),
}


def draw_summary(counts: pd.DataFrame, *, width: float = 9.0) -> Figure:
    """Draw how many claims have which verdict: a bar per row, its parts with their numbers.

    Parameters
    ----------
    counts : DataFrame
        A row per paper or topic and a column per verdict, from `reproduction.claims.summary`.
    width : float
        Of the figure, in inches.
    """
    shown = counts.iloc[::-1]
    figure, axis = plt.subplots(figsize=(width, 0.9 + 0.42 * len(shown)), layout="constrained")
    left = pd.Series(0, shown.index)
    for verdict, (colour, hatch) in FILLS.items():
        bars = axis.barh(
            list(map(str, shown.index)),
            shown[verdict],
            left=left,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=f"{MARKS[verdict][0]} {verdict}",
        )
        texts = [str(number) if number else "" for number in shown[verdict]]
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
        for text in axis.bar_label(bars, texts, label_type="center", fontsize=9):
            text.set_bbox(box if text.get_text() else None)
        left = left + shown[verdict]
    axis.set_xlabel("claims")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(left=False)
    figure.legend(frameon=False, fontsize=9, ncols=4, loc="outside upper left")
    return figure
