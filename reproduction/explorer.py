"""The explorer: two fusion strategies on one pair, side by side, changed by sliders.

    from reproduction.explorer import Explorer

    Explorer()

It needs the extra ``notebooks`` (ipywidgets, anywidget) and a running kernel. Where there is none,
on GitHub or nbviewer, the notebook shows a figure of what it showed last.
"""

from __future__ import annotations

import base64
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fusionlib.datasets import list_datasets, load_dataset
from fusionlib.errors import FusionError, unknown
from fusionlib.images import collapse_gray, decode_image, require_gray
from fusionlib.methods import create, find_method, list_weights, registry
from fusionlib.metrics import SELECTIONS
from fusionlib.pairs import Pair
from fusionlib.pipelines import POSTS, STRETCH

from . import figures
from .show import RANKS, show_scores
from .strategies import Comparison, Fused, Scores, Strategy

try:
    import anywidget
    import ipywidgets
    import traitlets
except ImportError as error:
    raise FusionError(
        "the explorer needs ipywidgets and anywidget: install the extra with "
        "'pip install -e .[notebooks]'."
    ) from error

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = ["Explorer"]

OWN_FILES = "your own two files"
BY_SLIDER = "by the slider"
# A dictionary learnt from every pair, or windows of attention: 10 seconds and more on two cores.
SLOW = ("cddfuse", "jsr", "jsrsd", "swinfusion")
SHARPEST = 8
# Seconds of scoring for which pictures do not wait.
LONG = 0.15
# Colour maps that the colour-blind can read, from low to high.
WEIGHTS, DIFFERENCE = "cividis", "PuOr_r"
# Gray levels at the ends of the difference's scale.
SCALES = (4, 8, 16, 32, 64, 128, 255)
# Larger pictures are shown reduced; they are fused and scored as they are.
LARGEST_SIDE = 1600
SIDES = ("left", "right")
LEFT, RIGHT = Strategy("res2netfuse", rule="l1_norm"), Strategy("res2netfuse", rule="mean")


class Explorer(ipywidgets.VBox):
    """Compare two fusion strategies with sliders.

    Parameters
    ----------
    dataset : str
        The data set to begin with.
    pair : str, optional
        Name of the pair to begin with; by default the first.
    left, right : Strategy
        What to begin with: the two published rules of Res2NetFuse.
    metrics : str
        A selection of metrics, a key of `fusionlib.metrics.SELECTIONS`.
    data_dir, weights_dir : path, optional
        Where data and weights are looked for first.
    device : str
        "cpu", "cuda", ...

    Raises
    ------
    FusionError
        If a data set, pair, method or selection does not exist or is not here.
    """

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
        self._source = _Source(dataset, pair, data_dir)
        methods, missing = _find_methods(weights_dir)
        self._sides = [
            _Side(name, methods, start) for name, start in zip(SIDES, (left, right), strict=True)
        ]
        if metrics not in SELECTIONS:
            raise unknown("selection of metrics", metrics, SELECTIONS)
        self._metrics = _dropdown("metrics", list(SELECTIONS), metrics)
        self._picture = _Picture()
        self._scoring = 0.0  # seconds that the metrics took last
        request = self._request()
        pair_now = self._source.read(request.pair)
        self._comparison = Comparison(pair_now, weights_dir=weights_dir, device=device)
        self._shown: _Shown  # since `_show` returns without an error
        self._show(request)
        self._worker = _Latest(self._update, self._report)
        self._source.when_changed(self._ask)
        for side in self._sides:
            side.when_changed(self._ask)
        self._metrics.observe(lambda _: self._ask(), "value")
        wrapped = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.HBox([*self._source.widgets, self._metrics], layout=wrapped),
                ipywidgets.HBox([side.box for side in self._sides], layout=wrapped),
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
        return self._worker.wait(seconds)

    def figure(self) -> Figure:
        """Draw what is shown, without any widget."""
        shown = self._shown
        pictures = {"infrared": shown.pair.ir, "visible": shown.pair.vis}
        for name, fused in zip(SIDES, shown.fused, strict=True):
            pictures[f"{name}: {fused.title}"] = fused.image
        for panel in _maps(shown)[2:]:
            if panel.values is not None:
                pictures[f"{panel.title}, {panel.low:g} to {panel.high:g}"] = panel.coloured()
        return figures.picture_wall(pictures, columns=4)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Show a figure, too, for where widgets cannot be shown."""
        bundle = super()._repr_mimebundle_(**options) or {}
        picture = figures.encode(self.figure(), "jpeg")
        return {**bundle, "image/jpeg": base64.b64encode(picture).decode()}

    def _request(self) -> _Request:
        return _Request(self._source.request(), self.strategies, self._metrics.value)

    def _ask(self) -> None:
        self._worker.ask(self._request())

    def close(self) -> None:
        """Forget the widgets, those inside too: ipywidgets keeps them otherwise."""
        if "_worker" in vars(self):  # one that could not begin is closed, too
            self._worker.end()
        for widget in _all_inside(self):
            widget.close()
        super().close()

    def _update(self, request: _Request) -> None:
        """Compute and show what was asked for."""
        with self._picture.hold_sync():
            self._picture.busy, self._picture.message = True, ""
        pair = self._source.read(request.pair)
        if pair is not self._comparison.pair:
            self._comparison.pair = pair
        self._show(request)

    def _show(self, request: _Request) -> None:
        """Show pictures and metrics together; the pictures first, if metrics took long before.

        Drawing takes the browser what the metrics then lack.
        """
        fused = [self._comparison.fuse(strategy) for strategy in request.strategies]
        for side, one in zip(self._sides, fused, strict=True):
            side.show_code(one.code)
        shown = _Shown(self._comparison.pair, fused, [])
        panels = _images(shown) + _maps(shown)
        if self._scoring > LONG:
            self._picture.show(panels)
        started = time.perf_counter()
        scores = [self._comparison.score(one, request.metrics) for one in request.strategies]
        self._scoring = time.perf_counter() - started
        self._shown = shown._replace(scores=scores)
        notes = [note for one in scores for note in one.notes]
        with self._picture.hold_sync():
            self._picture.show(panels)
            self._picture.table = self.show_scores().to_html() + _notes(shown.pair)
            self._picture.message = " ".join(dict.fromkeys(notes))
            self._picture.busy = False

    def _report(self, error: Exception) -> None:
        text = str(error)
        if not isinstance(error, FusionError | MemoryError):  # a defect: say where
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        with self._picture.hold_sync():
            self._picture.busy = False
            self._picture.message = f"{text} Shown is what was shown before."
            # What did come before the error may be drawn already.
            self._picture.show(_images(self._shown) + _maps(self._shown))
        for side, fused in zip(self._sides, self._shown.fused, strict=True):
            side.show_code(fused.code)


class _Shown(NamedTuple):
    """What is seen at one time."""

    pair: Pair
    fused: list[Fused]
    scores: list[Scores]


def _images(shown: _Shown) -> list[_Panel]:
    return [_Panel(name, name, one.image) for name, one in zip(SIDES, shown.fused, strict=True)]


def _maps(shown: _Shown) -> list[_Panel]:
    left, right = shown.fused
    apart = figures.difference(left.image, right.image)
    # The scale changes in steps, not with every image.
    end = next(scale for scale in SCALES if scale >= min(np.abs(apart).max(), SCALES[-1]))
    maps = [
        _Panel("infrared", "infrared", shown.pair.ir),
        _Panel("visible", "visible", shown.pair.vis),
        _Panel("difference", "left − right, gray levels", apart, DIFFERENCE, -end, end),
    ]
    for name, fused in zip(SIDES, shown.fused, strict=True):
        title = f"weight of infrared, {name}" + (": none" if fused.weights is None else "")
        maps.append(_Panel(f"weights {name}", title, fused.weights, WEIGHTS, 0, 1))
    return maps


def _notes(pair: Pair) -> str:
    height, width = pair.ir.shape
    reduced = ", shown reduced" * (_reduction(pair.ir) > 1)
    return (
        f"<p>{RANKS[1][0]} the better of the two. {escape(pair.name)}, {width}x{height}"
        f"{reduced}; {escape(pair.source or 'source not stated')}.</p>"
    )


def _all_inside(box: Any) -> list[Any]:
    """List the widgets in a box, at any depth."""
    children = getattr(box, "children", ())
    return [*children, *(inner for child in children for inner in _all_inside(child))]


def _find_methods(
    weights_dir: str | os.PathLike[str] | None,
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Say what can be created: methods -> settings, the default one first; and what is missing.

    That is methods of which nothing is here -> the weights that they need.
    """
    listed = list_weights(weights_dir)
    found = set(listed.loc[listed["state"] == "found", "name"])
    methods: dict[str, list[str]] = {}
    for spec in registry().values():
        for setting, configuration in spec.configurations.items():
            files = configuration.weights
            usable = {one.name for one in files[1:] if one.packaged} | {
                one.name for one in files[:1]
            }
            if not files or usable & found:
                methods.setdefault(spec.name, []).append(setting)
    missing = {
        spec.name: spec.default.weights[0].name
        for spec in registry().values()
        if spec.name not in methods
    }
    return methods, missing


def _missing_text(missing: Mapping[str, str]) -> str:
    if not missing:
        return ""
    names = ", ".join(f"{find_method(name).title} ({weights})" for name, weights in missing.items())
    return (
        f"<p>Weights that are not here: {escape(names)}. "
        "<code>fusionlib weights fetch NAME</code> gets those that authors publish. "
        "<code>blend</code>, <code>sharpen</code> and <code>favour</code> are in "
        "<code>reproduction.strategies</code>.</p>"
    )


class _Request(NamedTuple):
    """What the widgets ask for."""

    pair: Any
    strategies: tuple[Strategy, ...]
    metrics: str


class _Picture(anywidget.AnyWidget):
    """What the browser draws: see explorer.js."""

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

    def show(self, panels: Sequence[_Panel]) -> None:
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


class _Panel(NamedTuple):
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
        step = _reduction(image)
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


def _reduction(image: np.ndarray) -> int:
    """Return by how much a picture is reduced to be shown."""
    return -(-max(image.shape[:2]) // LARGEST_SIDE)


class _Source:
    """The widgets that choose a pair: of a data set that is here, or two files."""

    def __init__(
        self, dataset: str, pair: str | None, data_dir: str | os.PathLike[str] | None
    ) -> None:
        self._data_dir = data_dir
        found = list_datasets(data_dir)
        pairs = found[(found["kind"] != "images") & (found["found"] != "no")]
        names = [*pairs["name"], OWN_FILES]
        self._pairs = load_dataset(dataset, data_dir=data_dir)
        self._last: tuple[Any, Pair] | None = None
        if pair is not None and pair not in self._pairs.names:
            raise unknown(f"pair of {dataset}", pair, self._pairs.names)
        self._dataset = _dropdown("images", names, dataset)
        self._pair = _dropdown("pair", self._pairs.names, pair or self._pairs.names[0])
        self._files = [
            ipywidgets.FileUpload(accept="image/*", description=f"{what} image …")
            for what in ("infrared", "visible")
        ]
        for upload in self._files:
            upload.layout.width = "auto"
        self._names = ipywidgets.HTML()
        self._own = ipywidgets.HBox([*self._files, self._names])
        self._own.layout.display = "none"
        self.widgets = [self._dataset, self._pair, self._own]

    def when_changed(self, act: Callable[[], None]) -> None:
        """Call `act` when another pair is chosen."""

        def choose_dataset(change: Mapping[str, Any]) -> None:
            own = change["new"] == OWN_FILES
            self._own.layout.display = "flex" if own else "none"
            self._pair.layout.display = "none" if own else "flex"
            if not own:
                self._pairs = load_dataset(change["new"], data_dir=self._data_dir)
                self._pair.options = self._pairs.names
            act()

        def choose_file(_: Mapping[str, Any]) -> None:
            names = [upload.value[0]["name"] if upload.value else "…" for upload in self._files]
            self._names.value = escape(" + ".join(names))
            if all(upload.value for upload in self._files):
                act()

        self._dataset.observe(choose_dataset, "value")
        self._pair.observe(lambda _: act(), "value")
        for upload in self._files:
            upload.observe(choose_file, "value")

    def request(self) -> Any:
        """Return what is chosen, for `read`."""
        files = [upload.value[0] for upload in self._files if upload.value]
        if self._dataset.value == OWN_FILES and len(files) == 2:
            return tuple((file["name"], bytes(file["content"])) for file in files)
        if self._dataset.value == OWN_FILES and self._last:  # until both files are there
            return self._last[0]
        return self._dataset.value, self._pair.value

    def read(self, request: Any) -> Pair:
        """Return the pair that was chosen, the same object until another is.

        Raises
        ------
        FusionError
            If it cannot be read, or the two files are no pair.
        """
        if self._last is None or self._last[0] != request:
            self._last = request, self._read(*request)
        return self._last[1]

    def _read(self, first: Any, second: Any) -> Pair:
        if isinstance(first, str):
            pairs = load_dataset(first, data_dir=self._data_dir)
            return pairs[pairs.names.index(second)]
        (ir, ir_data), (vis, vis_data) = first, second
        return Pair(
            name=Path(ir).stem,
            ir=require_gray(decode_image(ir_data, ir), what=f"infrared image {ir}"),
            vis=collapse_gray(decode_image(vis_data, vis)),
            source=f"{ir} + {vis}",
        )


class _Side:
    """The widgets that make one side's strategy."""

    def __init__(self, name: str, methods: Mapping[str, Sequence[str]], start: Strategy) -> None:
        _check_here(start, methods)
        self._methods = methods
        self._act: Callable[[], None] = lambda: None
        self._arranging = True
        titles = [(_title(method), method) for method in methods]
        self._method = _dropdown("method", titles, start.method)
        self._setting = _dropdown("setting")
        self._rule = _dropdown("rule")
        self._other = _dropdown("blend with")
        self._share = _slider("its share", start.share, 1)
        self._power = _slider("sharpness", start.power, SHARPEST, step=0.25)
        self._infrared = _slider("infrared", start.infrared, 1)
        self._post = _dropdown("finish")
        self._stretch = _slider("stretch", 0.5, 1)
        self._code = ipywidgets.HTML()
        # Row by row of two columns.
        widgets = (
            *(self._method, self._setting, self._rule, self._power, self._other),
            *(self._share, self._post, self._stretch, self._infrared),
        )
        self._start(start)
        self._enable()
        self._arranging = False
        for widget in widgets:
            widget.observe(self._changed, "value")
        for widget in widgets:
            widget.layout.width, widget.style.description_width = "auto", "5.6em"
        columns = ipywidgets.Layout(grid_template_columns="1fr 1.2fr")
        self.box = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<b>{name}</b>"),
                ipywidgets.GridBox(widgets, layout=columns),
                self._code,
            ],
            layout=ipywidgets.Layout(flex="1 1 420px"),
        )

    def when_changed(self, act: Callable[[], None]) -> None:
        """Call `act` when the strategy is another."""
        self._act = act

    def strategy(self) -> Strategy:
        """Return what the widgets say."""
        post = self._post.value
        if post == BY_SLIDER:
            post = f"{STRETCH}{self._stretch.value:g}"
        usual = next(iter(find_method(self._method.value).configurations))
        return Strategy(
            self._method.value,
            "" if self._setting.value == usual else self._setting.value,
            rule=self._rule.value or "",
            other=self._other.value or "average",
            share=round(self._share.value, 6),  # 0.3, not 0.30000000000000004
            power=round(self._power.value, 6),
            infrared=round(self._infrared.value, 6),
            post=post,
        )

    def show_code(self, code: str) -> None:
        """Show the Python that makes this side's method."""
        self._code.value = f"<code>{escape(code)}</code>"

    def _start(self, start: Strategy) -> None:
        self._offer_settings()
        if start.setting:
            self._setting.value = start.setting
        self._offer_rules()
        if self._rules():
            self._rule.value = start.rule or self._rules()[0]
            self._other.value = start.other
        if start.post.startswith(STRETCH):
            self._post.value = BY_SLIDER
            self._stretch.value = float(start.post.removeprefix(STRETCH))
        else:
            self._post.value = start.post

    def _changed(self, change: Mapping[str, Any]) -> None:
        """Arrange what depends on the widget that changed, then tell it once."""
        if self._arranging:
            return
        self._arranging = True
        try:
            if change["owner"] is self._method:
                self._offer_settings()
            if change["owner"] in (self._method, self._setting):
                self._offer_rules()
            if change["owner"] is self._stretch:
                self._post.value = BY_SLIDER
            self._enable()
        finally:
            self._arranging = False
        self._act()

    def _offer_settings(self) -> None:
        settings = self._methods[self._method.value]
        self._setting.options, self._setting.value = settings, settings[0]

    def _offer_rules(self) -> None:
        configuration = find_method(self._method.value).configurations[self._setting.value]
        for dropdown in (self._rule, self._other):
            dropdown.options = configuration.rules
            if configuration.rules:
                dropdown.value = configuration.rules[0]
        published = (f"as published: {configuration.post}", "")
        self._post.options = [published, *((post, post) for post in POSTS), (BY_SLIDER, BY_SLIDER)]
        self._post.value = ""

    def _rules(self) -> tuple[str, ...]:
        return self._rule.options

    def _enable(self) -> None:
        rule = self.strategy().made_rule()
        for widget in (self._rule, self._other, self._share, self._infrared):
            widget.disabled = rule is None
        self._power.disabled = rule is None or rule.weigh is None
        self._setting.disabled = len(self._setting.options) < 2


def _check_here(start: Strategy, methods: Mapping[str, Sequence[str]]) -> None:
    """Make sure that the sliders can begin with a strategy.

    Raises
    ------
    WeightsNotFound
        If its weights are not here.
    FusionError
        If a number is beyond its slider.
    """
    spec = find_method(start.method)
    usual = next(iter(spec.configurations))
    if (start.setting or usual) not in methods.get(start.method, ()):
        setting: dict[str, Any] = {spec.axis: start.setting or usual}
        create(start.method, retrained=True, **setting)  # says what is missing
    if start.power > SHARPEST:
        raise FusionError(
            f"the power of the weights is {start.power:g}; the slider ends at {SHARPEST}."
        )


def _title(method: str) -> str:
    slow = " (slow)" * (method in SLOW)
    return f"{find_method(method).title}{slow}"


def _dropdown(name: str, options: Sequence[Any] = (), value: Any = None) -> Any:
    return ipywidgets.Dropdown(options=options, value=value, description=name)


def _slider(name: str, value: float, most: float, step: float = 0.05) -> Any:
    return ipywidgets.FloatSlider(
        value=value, min=0, max=most, step=step, description=name, readout_format=".2f"
    )


class _Latest:
    """Runs a task for the newest request on a thread; requests that it overtakes are dropped.

    The thread stays: another would have PyTorch's workers started and memory fetched anew.
    """

    def __init__(
        self, task: Callable[[_Request], None], report: Callable[[Exception], None]
    ) -> None:
        self._task, self._report = task, report
        self._thread = ThreadPoolExecutor(1)
        self._changed = threading.Condition()
        self._wanted: _Request | None = None
        self._running = self._ended = False

    def ask(self, request: _Request) -> None:
        """Have the task run for this request, after the one that runs now; at the end, no more."""
        with self._changed:
            if self._ended:
                return
            self._wanted = request
            if not self._running:
                self._running = True
                self._thread.submit(self._run)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing runs; False if it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)

    def end(self) -> None:
        """Let the thread end, after what runs now."""
        with self._changed:
            self._wanted, self._ended = None, True
        self._thread.shutdown(wait=False)

    def _run(self) -> None:
        while True:
            with self._changed:
                request, self._wanted = self._wanted, None
                if request is None:
                    self._running = False
                    self._changed.notify_all()
                    return
            try:
                self._task(request)
            except Exception as error:
                self._report(error)
