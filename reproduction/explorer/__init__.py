"""The explorer: two fusion strategies on one pair, side by side, changed by sliders.

    from reproduction.explorer import Explorer

    Explorer()

It needs the extra ``notebooks`` (ipywidgets, anywidget) and a running kernel. Where there is none,
on GitHub or nbviewer, the notebook shows a figure of what it showed last.
"""

from fusionlib.errors import FusionError

try:
    import anywidget  # noqa: F401
    import ipywidgets  # noqa: F401
except ImportError as error:
    raise FusionError(
        "the explorer needs ipywidgets and anywidget: install the extra with "
        "'pip install -e .[notebooks]'."
    ) from error

from .page import Explorer
from .rules import blend, favour, sharpen
from .strategies import Comparison, Strategy

__all__ = ["Comparison", "Explorer", "Strategy", "blend", "favour", "sharpen"]
