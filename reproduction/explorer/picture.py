"""What the browser draws: pictures, maps of values and a table; see explorer.js."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import cv2
import numpy as np
import traitlets
from matplotlib import colormaps
from matplotlib.colors import to_hex

__all__ = ["Panel", "Picture", "reduction"]

# Larger pictures are shown reduced; they are fused and scored as they are.
LARGEST_SIDE = 1600


class Panel(NamedTuple):
    """A picture of the explorer: an image, or a map of values from low to high."""

    name: str
    title: str
    values: np.ndarray | None
    colours: str = ""
    low: float = 0.0
    high: float = 1.0

    def coloured(self) -> np.ndarray:
        """Return the image (H, W) or (H, W, 3) in [0, 1]."""
        assert self.values is not None
        if not self.colours:
            return self.values
        shares = (self.values - self.low) / (self.high - self.low)
        levels = colormaps[self.colours](np.clip(shares, 0, 1), bytes=True)[..., :3]
        return levels.astype(np.float32) / np.float32(255)

    def message(self) -> dict[str, Any]:
        """Return what explorer.js draws."""
        message: dict[str, Any] = {"name": self.name, "title": self.title, "png": None}
        if self.values is None:
            return message
        image = self.coloured()
        step = reduction(image)
        if step > 1:
            size = (image.shape[1] // step, image.shape[0] // step)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        if levels.ndim == 3:
            levels = levels[..., ::-1]  # OpenCV's order of colours
        # Fast rather than small: it goes to the browser and is forgotten.
        _, png = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        message["png"] = png.tobytes()
        if self.colours:
            stops = colormaps[self.colours](np.linspace(0, 1, 9))
            message["colours"] = ", ".join(map(to_hex, stops))
            message["low"], message["high"] = f"{self.low:g}", f"{self.high:g}"
        return message


def reduction(image: np.ndarray) -> int:
    """Return by how much a picture is reduced to be shown."""
    return -(-max(image.shape[:2]) // LARGEST_SIDE)


class Picture(anywidget.AnyWidget):
    """The widget that explorer.js draws."""

    _esm = Path(__file__).parent / "explorer.js"
    _css = Path(__file__).parent / "explorer.css"
    panels = traitlets.List(traitlets.Dict()).tag(sync=True)
    table = traitlets.Unicode().tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._stamp = 0
        self._drawn: dict[str, tuple[np.ndarray | None, dict[str, Any]]] = {}

    def show(self, panels: Sequence[Panel]) -> None:
        """Draw these; one that is drawn already keeps its stamp, and is not drawn again."""
        self._stamp += 1
        drawn = {}
        for panel in panels:
            values, message = self._drawn.get(panel.name, (None, {}))
            if values is not panel.values or message.get("title") != panel.title:
                message = {**panel.message(), "stamp": self._stamp}
            drawn[panel.name] = panel.values, message
        self._drawn = drawn
        self.panels = [message for _, message in drawn.values()]
