"""The explorer's page: widgets that choose a pair and two strategies, above what they make."""

from __future__ import annotations

import base64
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from fusionlib.datasets import list_datasets, load_dataset
from fusionlib.errors import FusionError, unknown
from fusionlib.images import collapse_gray, decode_image, require_gray
from fusionlib.methods import find_method, list_weights, registry
from fusionlib.metrics import SELECTIONS
from fusionlib.pairs import Pair
from fusionlib.pipelines import POSTS, STRETCH

from .. import figures
from ..show import RANKS, show_scores
from .picture import Panel, Picture, reduction
from .strategies import Comparison, Fused, Scores, Strategy

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from fusionlib.card import WeightFile

__all__ = ["Explorer"]

OWN_FILES = "your own two files"
BY_SLIDER = "by the slider"
# A dictionary learnt from every pair, or windows of attention: 10 seconds and more on two cores.
SLOW = ("cddfuse", "jsr", "jsrsd", "swinfusion")
SHARPEST = 8
# Colour maps that the colour-blind can read, from low to high.
WEIGHTS, DIFFERENCE = "cividis", "PuOr_r"
# Gray levels at the ends of the difference's scale, which so changes in steps, not every time.
SCALES = (4, 8, 16, 32, 64, 128, 255)
SIDES = ("left", "right")
LEFT, RIGHT = Strategy("res2netfuse", rule="l1_norm"), Strategy("res2netfuse", rule="mean")


class _Shown(NamedTuple):
    """What is seen at one time."""

    pair: Pair
    fused: list[Fused]
    scores: list[Scores]

    def panels(self) -> list[Panel]:
        """Return left, right, infrared, visible, the difference, and the weights of both."""
        apart = figures.difference(*(one.image for one in self.fused))
        end = next(scale for scale in SCALES if scale >= min(np.abs(apart).max(), SCALES[-1]))
        panels = [Panel(name, name, one.image) for name, one in zip(SIDES, self.fused, strict=True)]
        panels += [
            Panel("infrared", "infrared", self.pair.ir),
            Panel("visible", "visible", self.pair.vis),
            Panel("difference", "left − right, gray levels", apart, DIFFERENCE, -end, end),
        ]
        for name, one in zip(SIDES, self.fused, strict=True):
            title = f"weight of infrared, {name}" + (": none" if one.weights is None else "")
            panels.append(Panel(f"weights {name}", title, one.weights, WEIGHTS, 0, 1))
        return panels

    def note(self) -> str:
        height, width = self.pair.ir.shape
        reduced = ", shown reduced" * (reduction(self.pair.ir) > 1)
        return (
            f"<p>{RANKS[1][0]} the better of the two. {escape(self.pair.name)}, {width}x{height}"
            f"{reduced}; {escape(self.pair.source or 'source not stated')}.</p>"
        )


class Explorer(ipywidgets.VBox):
    """Compare two fusion strategies with sliders.

    Parameters
    ----------
    dataset, pair : str
        What to begin with; by default the first pair.
    left, right : Strategy
        What to begin with: the two published rules of Res2NetFuse.
    metrics : str
        A selection of metrics, a key of `fusionlib.metrics.SELECTIONS`.
    data_dir, weights_dir, device
        As of `fusionlib.load_dataset` and `fusionlib.create`.

    Raises
    ------
    FusionError
        If a data set, pair, method or selection does not exist or is not here.
    """

    _shown: _Shown
    #: One thread for all that is asked for: another would have PyTorch's workers started and memory
    #: fetched anew. None before the explorer has begun and after its end.
    _thread: ThreadPoolExecutor | None = None
    _last: Future[None] | None = None

    def __init__(
        self,
        dataset: str = "sample",
        pair: str | None = None,
        *,
        left: Strategy = LEFT,
        right: Strategy = RIGHT,
        metrics: str = "common",
        data_dir: str | os.PathLike[str] | None = None,
        weights_dir: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> None:
        if metrics not in SELECTIONS:
            raise unknown("selection of metrics", metrics, SELECTIONS)
        self._source = _Source(dataset, pair, data_dir, self._ask)
        first = self._source.read(self._source.request())
        self._comparison = Comparison(first, weights_dir=weights_dir, device=device)
        for start in (left, right):
            self._comparison.fuse(start)  # or it says what is missing
        methods, missing = _find_methods(weights_dir)
        self._sides = [_Side(methods, start, self._ask) for start in (left, right)]
        self._metrics = ipywidgets.Dropdown(
            options=list(SELECTIONS), value=metrics, description="metrics"
        )
        self._picture = Picture()
        self._show(self.strategies, metrics)
        self._thread = ThreadPoolExecutor(1)
        self._metrics.observe(self._ask, "value")
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        sides = [side.box(name) for name, side in zip(SIDES, self._sides, strict=True)]
        super().__init__(
            [
                ipywidgets.HBox([*self._source.widgets, self._metrics], layout=wrapped),
                ipywidgets.HBox(sides, layout=wrapped),
                self._picture,
                ipywidgets.HTML(_missing_text(missing)),
            ]
        )
        self.add_class("fusionlib-controls")  # for explorer.css

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies that the widgets say, left and right."""
        return tuple(side.strategy() for side in self._sides)

    @property
    def images(self) -> tuple[np.ndarray, ...]:
        """The fused images shown, left and right: float32 in [0, 1]."""
        return tuple(fused.image for fused in self._shown.fused)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """The metrics shown: "left" and "right" -> metric -> value; NaN: too small a pair."""
        return {name: one.values for name, one in zip(SIDES, self._shown.scores, strict=True)}

    def show_scores(self) -> Styler:
        """Style the metrics shown, the better of each marked."""
        return show_scores(self.scores)

    def wait(self, seconds: float = 600.0) -> bool:
        """Wait until what was asked for is shown; False if it takes longer."""
        return self._last is None or not wait([self._last], seconds).not_done

    def figure(self) -> Figure:
        """Draw what is shown, without any widget."""
        pictures = {"infrared": self._shown.pair.ir, "visible": self._shown.pair.vis}
        for name, fused in zip(SIDES, self._shown.fused, strict=True):
            pictures[f"{name}: {fused.title}"] = fused.image
        for panel in self._shown.panels()[4:]:
            if panel.values is not None:
                pictures[f"{panel.title}, {panel.low:g} to {panel.high:g}"] = panel.coloured()
        return figures.picture_wall(pictures, columns=4)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Show a figure, too, for where widgets cannot be shown."""
        bundle = super()._repr_mimebundle_(**options) or {}
        picture = figures.encode(self.figure(), "jpeg")
        return {**bundle, "image/jpeg": base64.b64encode(picture).decode()}

    def close(self) -> None:
        """Forget the widgets, those inside too: ipywidgets keeps them otherwise."""
        if self._thread is not None:  # one that could not begin is closed, too
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = self._last = None  # nobody is told that what is cancelled has ended
        for widget in _inside(self):
            widget.close()
        super().close()

    def _ask(self, _: Any = None) -> None:
        """Have what the widgets say computed and shown; what waits for its turn is overtaken."""
        if self._thread is not None:
            if self._last is not None:
                self._last.cancel()
            asked = (self._source.request(), self.strategies, self._metrics.value)
            self._last = self._thread.submit(self._update, *asked)

    def _update(self, pair: Any, strategies: Sequence[Strategy], metrics: str) -> None:
        with self._picture.hold_sync():
            self._picture.busy, self._picture.message = True, ""
        try:
            chosen = self._source.read(pair)
            if chosen is not self._comparison.pair:
                self._comparison.use(chosen)
            self._show(strategies, metrics)
        except Exception as error:
            self._report(error)

    def _show(self, strategies: Sequence[Strategy], metrics: str) -> None:
        """Show the pictures, then the metrics, which take longer."""
        fused = [self._comparison.fuse(strategy) for strategy in strategies]
        shown = _Shown(self._comparison.pair, fused, [])
        self._draw(shown)
        scores = [self._comparison.score(one, metrics) for one in strategies]
        self._shown = shown._replace(scores=scores)
        notes = [note for one in scores for note in one.notes]
        with self._picture.hold_sync():
            self._picture.table = self.show_scores().to_html() + shown.note()
            self._picture.message = " ".join(dict.fromkeys(notes))
            self._picture.busy = False

    def _draw(self, shown: _Shown) -> None:
        for side, fused in zip(self._sides, shown.fused, strict=True):
            side.code.value = f"<code>{escape(fused.code)}</code>"
        self._picture.show(shown.panels())

    def _report(self, error: Exception) -> None:
        text = str(error)
        if not isinstance(error, FusionError | MemoryError):  # a defect: say where
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        with self._picture.hold_sync():
            self._picture.busy = False
            self._picture.message = f"{text} Shown is what was shown before."
            self._draw(self._shown)  # what came before the error may be drawn already


def _inside(box: Any) -> Iterator[Any]:
    """Give the widgets in a box, at any depth."""
    for child in getattr(box, "children", ()):
        yield child
        yield from _inside(child)


def _find_methods(
    weights_dir: str | os.PathLike[str] | None,
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return methods -> settings that can be created; other methods -> the weights they lack."""
    listed = list_weights(weights_dir)
    found = set(listed.loc[listed["state"] == "found", "name"])

    def usable(files: Sequence[WeightFile]) -> bool:
        ours = [file.name for number, file in enumerate(files) if number == 0 or file.packaged]
        return not files or bool(found.intersection(ours))

    every = {
        spec.name: [name for name, one in spec.configurations.items() if usable(one.weights)]
        for spec in registry().values()
    }
    missing = {n: find_method(n).default.weights[0].name for n, one in every.items() if not one}
    return {name: settings for name, settings in every.items() if settings}, missing


def _missing_text(missing: Mapping[str, str]) -> str:
    if not missing:
        return ""
    names = ", ".join(f"{find_method(name).title} ({weights})" for name, weights in missing.items())
    return (
        f"<p>Weights that are not here: {escape(names)}. "
        "<code>fusionlib weights fetch NAME</code> gets those that authors publish. "
        "<code>blend</code>, <code>sharpen</code> and <code>favour</code> are in "
        "<code>reproduction.explorer</code>.</p>"
    )


class _Source:
    """The widgets that choose a pair, of a data set that is here or two files; then they `act`."""

    def __init__(
        self,
        dataset: str,
        pair: str | None,
        data_dir: str | os.PathLike[str] | None,
        act: Callable[[], None],
    ) -> None:
        self._data_dir, self._act = data_dir, act
        self._last: tuple[Any, Pair] | None = None
        found = list_datasets(data_dir)
        names = found[(found["kind"] != "images") & (found["found"] != "no")]["name"]
        pairs = load_dataset(dataset, data_dir=data_dir).names
        if pair is not None and pair not in pairs:
            raise unknown(f"pair of {dataset}", pair, pairs)
        self.dataset = ipywidgets.Dropdown(
            options=[*names, OWN_FILES], value=dataset, description="images"
        )
        self.pair = ipywidgets.Dropdown(options=pairs, value=pair or pairs[0], description="pair")
        self.files = [
            ipywidgets.FileUpload(
                accept="image/*", description=f"{what} image …", layout={"width": "auto"}
            )
            for what in ("infrared", "visible")
        ]
        self._names = ipywidgets.HTML()
        self._own = ipywidgets.HBox([*self.files, self._names], layout={"display": "none"})
        self.widgets = [self.dataset, self.pair, self._own]
        self.dataset.observe(self._choose_dataset, "value")
        self.pair.observe(lambda _: self._act(), "value")
        for upload in self.files:
            upload.observe(self._choose_file, "value")

    def _choose_dataset(self, change: Mapping[str, Any]) -> None:
        own = change["new"] == OWN_FILES
        self._own.layout.display = "flex" if own else "none"
        self.pair.layout.display = "none" if own else "flex"
        if not own:
            self.pair.options = load_dataset(change["new"], data_dir=self._data_dir).names
        self._act()

    def _choose_file(self, _: Mapping[str, Any]) -> None:
        names = [upload.value[0]["name"] if upload.value else "…" for upload in self.files]
        self._names.value = escape(" + ".join(names))
        if all(upload.value for upload in self.files):
            self._act()

    def request(self) -> Any:
        """Return what is chosen, for `read`; of two files when both are there."""
        if self.dataset.value != OWN_FILES:
            return self.dataset.value, self.pair.value
        files = [upload.value[0] for upload in self.files if upload.value]
        if len(files) < 2 and self._last:
            return self._last[0]
        return tuple((file["name"], bytes(file["content"])) for file in files)

    def read(self, request: Any) -> Pair:
        """Return the pair that was chosen, the same object until another is."""
        if self._last is None or self._last[0] != request:
            self._last = request, self._read(*request)
        return self._last[1]

    def _read(self, first: Any, second: Any) -> Pair:
        if isinstance(first, str):
            return load_dataset(first, data_dir=self._data_dir)[second]
        (ir, ir_data), (vis, vis_data) = first, second
        return Pair(
            name=Path(ir).stem,
            ir=require_gray(decode_image(ir_data, ir), what=f"infrared image {ir}"),
            vis=collapse_gray(decode_image(vis_data, vis)),
            source=f"{ir} + {vis}",
        )


class _Side:
    """The widgets that make one side's strategy; then they `act`."""

    def __init__(
        self, methods: Mapping[str, Sequence[str]], start: Strategy, act: Callable[[], None]
    ) -> None:
        if start.power > SHARPEST:
            raise FusionError(
                f"the power of the weights is {start.power:g}; the slider ends at {SHARPEST}."
            )
        self._methods, self._act = methods, act
        self._arranging = False
        dropdown = ipywidgets.Dropdown
        slider = partial(ipywidgets.FloatSlider, min=0, max=1, step=0.05, readout_format=".2f")
        titles = [(find_method(m).title + " (slow)" * (m in SLOW), m) for m in methods]
        self.method = dropdown(options=titles, value=start.method, description="method")
        self.setting = dropdown(description="setting")
        self.rule = dropdown(description="rule")
        self.power = slider(start.power, max=SHARPEST, step=0.25, description="sharpness")
        self.other = dropdown(description="blend with")
        self.share = slider(start.share, description="its share")
        self.post = dropdown(description="finish")
        self.stretch = slider(0.5, description="stretch")
        self.infrared = slider(start.infrared, description="infrared")
        self.code = ipywidgets.HTML()
        # Row by row of two columns.
        self._widgets = (
            *(self.method, self.setting, self.rule, self.power, self.other),
            *(self.share, self.post, self.stretch, self.infrared),
        )
        self._offer(start)
        for widget in self._widgets:
            widget.observe(self._changed, "value")
            widget.layout.width, widget.style.description_width = "auto", "5.6em"

    def box(self, name: str) -> Any:
        """Return all widgets below the side's name."""
        columns = ipywidgets.Layout(grid_template_columns="1fr 1.2fr")
        grid = ipywidgets.GridBox(self._widgets, layout=columns)
        heading = ipywidgets.HTML(f"<b>{name}</b>")
        return ipywidgets.VBox([heading, grid, self.code], layout={"flex": "1 1 420px"})

    def strategy(self) -> Strategy:
        """Return what the widgets say."""
        usual = next(iter(find_method(self.method.value).configurations))
        by_slider = self.post.value == BY_SLIDER
        return Strategy(
            self.method.value,
            "" if self.setting.value == usual else self.setting.value,
            rule=self.rule.value or "",
            other=self.other.value or "average",
            share=round(self.share.value, 6),  # 0.3, not 0.30000000000000004
            power=round(self.power.value, 6),
            infrared=round(self.infrared.value, 6),
            post=f"{STRETCH}{self.stretch.value:g}" if by_slider else self.post.value,
        )

    def _changed(self, change: Mapping[str, Any]) -> None:
        """Arrange what depends on the widget that changed, then tell it once."""
        if self._arranging:
            return
        self._arranging = True
        try:
            if change["owner"] is self.method:
                self._offer(Strategy(self.method.value))
            if change["owner"] is self.setting:
                self._offer(Strategy(self.method.value, self.setting.value))
            if change["owner"] is self.stretch:
                self.post.value = BY_SLIDER
            self._enable()
        finally:
            self._arranging = False
        self._act()

    def _offer(self, wanted: Strategy) -> None:
        """Offer what a method and its setting have, and choose what is wanted."""
        self.setting.options = settings = self._methods[wanted.method]
        self.setting.value = wanted.setting or settings[0]
        configuration = find_method(wanted.method).configurations[self.setting.value]
        rules = configuration.rules
        for dropdown, rule in ((self.rule, wanted.rule), (self.other, wanted.other)):
            dropdown.options = rules
            if rules:
                dropdown.value = rule if rule in rules else rules[0]
        published = (f"as published: {configuration.post}", "")
        self.post.options = [published, *((post, post) for post in (*POSTS, BY_SLIDER))]
        if by_slider := wanted.post.startswith(STRETCH):
            self.stretch.value = float(wanted.post.removeprefix(STRETCH))
        self.post.value = BY_SLIDER if by_slider else wanted.post
        self._enable()

    def _enable(self) -> None:
        rule = self.strategy().made_rule()
        for widget in (self.rule, self.other, self.share, self.infrared):
            widget.disabled = rule is None
        self.power.disabled = rule is None or rule.weigh is None
        self.setting.disabled = len(self.setting.options) < 2
