"""Figures of the notebooks: image grids, weight maps, loss curves, architecture diagrams."""

from ..tracing import Operation, Step, layer_table, steps, trace
from .charts import conventions, costs, gains, loss_curves, precision, scaling, sweep, taps
from .colours import BLUE, GREEN, GREY, ORANGE, PURPLE
from .diagrams import architecture, module_diagram
from .pictures import (
    chroma_change,
    difference,
    encode,
    feature_map,
    first_share,
    image_grid,
    picture_wall,
    show,
)

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "Operation",
    "Step",
    "architecture",
    "chroma_change",
    "conventions",
    "costs",
    "difference",
    "encode",
    "feature_map",
    "first_share",
    "gains",
    "image_grid",
    "layer_table",
    "loss_curves",
    "module_diagram",
    "picture_wall",
    "precision",
    "scaling",
    "show",
    "steps",
    "sweep",
    "taps",
    "trace",
]
