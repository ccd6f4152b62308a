"""The explorer's page: widgets that choose a pair and two strategies, above what they make."""

from __future__ import annotations

import base64
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from fusionlib.datasets import list_datasets, load_dataset
from fusionlib.errors import FusionError, unknown
from fusionlib.images import collapse_gray, decode_image, require_gray
from fusionlib.methods import create, find_method, list_weights, registry
from fusionlib.metrics import SELECTIONS
from fusionlib.pairs import Pair
from fusionlib.pipelines import POSTS, STRETCH

from .. import figures
from ..show import RANKS, show_scores
from .picture import Panel, Picture, reduction
from .strategies import Comparison, Fused, Scores, Strategy

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = ["Explorer"]

OWN_FILES = "your own two files"
BY_SLIDER = "by the slider"
# A dictionary learnt from every pair, or windows of attention: 10 seconds and more on two cores.
SLOW = ("cddfuse", "jsr", "jsrsd", "swinfusion")
SHARPEST = 8
# Colour maps that the colour-blind can read, from low to high.
WEIGHTS, DIFFERENCE = "cividis", "PuOr_r"
# Gray levels at the ends of the difference's scale.
SCALES = (4, 8, 16, 32, 64, 128, 255)
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
        self._sides = [_Side(methods, start) for start in (left, right)]
        if metrics not in SELECTIONS:
            raise unknown("selection of metrics", metrics, SELECTIONS)
        self._metrics = _dropdown("metrics", list(SELECTIONS), metrics)
        self._picture = Picture()
        request = self._request()
        pair_now = self._source.read(request.pair)
        self._comparison = Comparison(pair_now, weights_dir=weights_dir, device=device)
        self._shown: _Shown  # since `_show` returns without an error
        self._show(request)
        self._worker = _Latest(self._update, self._report)
        self._source.act = self._ask
        for side in self._sides:
            side.act = self._ask
        self._metrics.observe(lambda _: self._ask(), "value")
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
        return self._worker.wait(seconds)

    def figure(self) -> Figure:
        """Draw what is shown, without any widget."""
        shown = self._shown
        pictures = {"infrared": shown.pair.ir, "visible": shown.pair.vis}
        for name, fused in zip(SIDES, shown.fused, strict=True):
            pictures[f"{name}: {fused.title}"] = fused.image
        for panel in shown.panels()[4:]:
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
        if "_worker" in vars(self):  # one that could not begin is closed, too
            self._worker.end()
        for widget in _all_inside(self):
            widget.close()
        super().close()

    def _request(self) -> _Request:
        return _Request(self._source.request(), self.strategies, self._metrics.value)

    def _ask(self) -> None:
        self._worker.ask(self._request())

    def _update(self, request: _Request) -> None:
        """Compute and show what was asked for."""
        with self._picture.hold_sync():
            self._picture.busy, self._picture.message = True, ""
        pair = self._source.read(request.pair)
        if pair is not self._comparison.pair:
            self._comparison.pair = pair
        self._show(request)

    def _show(self, request: _Request) -> None:
        """Show the pictures, then the metrics, which take longer."""
        fused = [self._comparison.fuse(strategy) for strategy in request.strategies]
        shown = _Shown(self._comparison.pair, fused, [])
        self._draw(shown)
        scores = [self._comparison.score(one, request.metrics) for one in request.strategies]
        self._shown = shown._replace(scores=scores)
        notes = [note for one in scores for note in one.notes]
        with self._picture.hold_sync():
            self._picture.table = self.show_scores().to_html() + _notes(shown.pair)
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


class _Request(NamedTuple):
    """What the widgets ask for."""

    pair: Any
    strategies: tuple[Strategy, ...]
    metrics: str


class _Shown(NamedTuple):
    """What is seen at one time."""

    pair: Pair
    fused: list[Fused]
    scores: list[Scores]

    def panels(self) -> list[Panel]:
        """Return left, right, infrared, visible, the difference, and the weights of both."""
        images = [Panel(name, name, one.image) for name, one in zip(SIDES, self.fused, strict=True)]
        apart = figures.difference(*(one.image for one in self.fused))
        # The scale changes in steps, not with every image.
        end = next(scale for scale in SCALES if scale >= min(np.abs(apart).max(), SCALES[-1]))
        images += [
            Panel("infrared", "infrared", self.pair.ir),
            Panel("visible", "visible", self.pair.vis),
            Panel("difference", "left − right, gray levels", apart, DIFFERENCE, -end, end),
        ]
        for name, one in zip(SIDES, self.fused, strict=True):
            title = f"weight of infrared, {name}" + (": none" if one.weights is None else "")
            images.append(Panel(f"weights {name}", title, one.weights, WEIGHTS, 0, 1))
        return images


def _notes(pair: Pair) -> str:
    height, width = pair.ir.shape
    reduced = ", shown reduced" * (reduction(pair.ir) > 1)
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
    missing = {}
    for spec in registry().values():
        for setting, configuration in spec.configurations.items():
            files = configuration.weights
            usable = {one.name for one in (*files[:1], *(f for f in files if f.packaged))}
            if not files or usable & found:
                methods.setdefault(spec.name, []).append(setting)
        if spec.name not in methods:
            missing[spec.name] = spec.default.weights[0].name
    return methods, missing


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


# ---------------------------------------------------------------- widgets


def _dropdown(name: str, options: Sequence[Any] = (), value: Any = None) -> Any:
    return ipywidgets.Dropdown(options=options, value=value, description=name)


def _slider(name: str, value: float, most: float, step: float = 0.05) -> Any:
    return ipywidgets.FloatSlider(
        value=value, min=0, max=most, step=step, description=name, readout_format=".2f"
    )


class _Source:
    """The widgets that choose a pair: of a data set that is here, or two files.

    `act` is called when another pair is chosen.
    """

    def __init__(
        self, dataset: str, pair: str | None, data_dir: str | os.PathLike[str] | None
    ) -> None:
        self.act: Callable[[], None] = lambda: None
        self._data_dir = data_dir
        found = list_datasets(data_dir)
        names = found[(found["kind"] != "images") & (found["found"] != "no")]["name"]
        pairs = load_dataset(dataset, data_dir=data_dir)
        self._last: tuple[Any, Pair] | None = None
        if pair is not None and pair not in pairs.names:
            raise unknown(f"pair of {dataset}", pair, pairs.names)
        self.dataset = _dropdown("images", [*names, OWN_FILES], dataset)
        self.pair = _dropdown("pair", pairs.names, pair or pairs.names[0])
        self.files = [
            ipywidgets.FileUpload(accept="image/*", description=f"{what} image …")
            for what in ("infrared", "visible")
        ]
        self._names = ipywidgets.HTML()
        self._own = ipywidgets.HBox([*self.files, self._names])
        self._own.layout.display = "none"
        self.widgets = [self.dataset, self.pair, self._own]
        self.dataset.observe(self._choose_dataset, "value")
        self.pair.observe(lambda _: self.act(), "value")
        for upload in self.files:
            upload.layout.width = "auto"
            upload.observe(self._choose_file, "value")

    def _choose_dataset(self, change: Mapping[str, Any]) -> None:
        own = change["new"] == OWN_FILES
        self._own.layout.display = "flex" if own else "none"
        self.pair.layout.display = "none" if own else "flex"
        if not own:
            self.pair.options = load_dataset(change["new"], data_dir=self._data_dir).names
        self.act()

    def _choose_file(self, _: Mapping[str, Any]) -> None:
        names = [upload.value[0]["name"] if upload.value else "…" for upload in self.files]
        self._names.value = escape(" + ".join(names))
        if all(upload.value for upload in self.files):
            self.act()

    def request(self) -> Any:
        """Return what is chosen, for `read`."""
        files = [upload.value[0] for upload in self.files if upload.value]
        if self.dataset.value == OWN_FILES and len(files) == 2:
            return tuple((file["name"], bytes(file["content"])) for file in files)
        if self.dataset.value == OWN_FILES and self._last:  # until both files are there
            return self._last[0]
        return self.dataset.value, self.pair.value

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
            return load_dataset(first, data_dir=self._data_dir)[second]
        (ir, ir_data), (vis, vis_data) = first, second
        return Pair(
            name=Path(ir).stem,
            ir=require_gray(decode_image(ir_data, ir), what=f"infrared image {ir}"),
            vis=collapse_gray(decode_image(vis_data, vis)),
            source=f"{ir} + {vis}",
        )


class _Side:
    """The widgets that make one side's strategy; `act` is called when it is another."""

    def __init__(self, methods: Mapping[str, Sequence[str]], start: Strategy) -> None:
        _check_here(start, methods)
        self.act: Callable[[], None] = lambda: None
        self._methods = methods
        titles = [(_title(method), method) for method in methods]
        self.method = _dropdown("method", titles, start.method)
        self.setting = _dropdown("setting")
        self.rule = _dropdown("rule")
        self.power = _slider("sharpness", start.power, SHARPEST, step=0.25)
        self.other = _dropdown("blend with")
        self.share = _slider("its share", start.share, 1)
        self.post = _dropdown("finish")
        self.stretch = _slider("stretch", 0.5, 1)
        self.infrared = _slider("infrared", start.infrared, 1)
        self.code = ipywidgets.HTML()
        # Row by row of two columns.
        self._widgets = (
            *(self.method, self.setting, self.rule, self.power, self.other),
            *(self.share, self.post, self.stretch, self.infrared),
        )
        self._start(start)
        self._enable()
        self._arranging = False
        for widget in self._widgets:
            widget.observe(self._changed, "value")
            widget.layout.width, widget.style.description_width = "auto", "5.6em"

    def box(self, name: str) -> Any:
        """Return all widgets below the side's name."""
        columns = ipywidgets.Layout(grid_template_columns="1fr 1.2fr")
        grid = ipywidgets.GridBox(self._widgets, layout=columns)
        heading = ipywidgets.HTML(f"<b>{name}</b>")
        return ipywidgets.VBox(
            [heading, grid, self.code], layout=ipywidgets.Layout(flex="1 1 420px")
        )

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

    def _start(self, start: Strategy) -> None:
        self._offer_settings()
        if start.setting:
            self.setting.value = start.setting
        self._offer_rules()
        if self.rule.options:
            self.rule.value = start.rule or self.rule.options[0]
            self.other.value = start.other
        if start.post.startswith(STRETCH):
            self.post.value = BY_SLIDER
            self.stretch.value = float(start.post.removeprefix(STRETCH))
        else:
            self.post.value = start.post

    def _changed(self, change: Mapping[str, Any]) -> None:
        """Arrange what depends on the widget that changed, then tell it once."""
        if self._arranging:
            return
        self._arranging = True
        try:
            if change["owner"] is self.method:
                self._offer_settings()
            if change["owner"] in (self.method, self.setting):
                self._offer_rules()
            if change["owner"] is self.stretch:
                self.post.value = BY_SLIDER
            self._enable()
        finally:
            self._arranging = False
        self.act()

    def _offer_settings(self) -> None:
        settings = self._methods[self.method.value]
        self.setting.options, self.setting.value = settings, settings[0]

    def _offer_rules(self) -> None:
        configuration = find_method(self.method.value).configurations[self.setting.value]
        for dropdown in (self.rule, self.other):
            dropdown.options = configuration.rules
            if configuration.rules:
                dropdown.value = configuration.rules[0]
        published = (f"as published: {configuration.post}", "")
        self.post.options = [published, *((post, post) for post in (*POSTS, BY_SLIDER))]
        self.post.value = ""

    def _enable(self) -> None:
        rule = self.strategy().made_rule()
        for widget in (self.rule, self.other, self.share, self.infrared):
            widget.disabled = rule is None
        self.power.disabled = rule is None or rule.weigh is None
        self.setting.disabled = len(self.setting.options) < 2


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
    return find_method(method).title + " (slow)" * (method in SLOW)


# ---------------------------------------------------------------- the newest request wins


class _Latest:
    """Runs a task for the newest request on a thread; requests that it overtakes are dropped.

    The thread stays: another would have PyTorch's workers started and memory fetched anew.
    """

    def __init__(
        self, task: Callable[[_Request], None], report: Callable[[Exception], None]
    ) -> None:
        self._task, self._report = task, report
        self._thread = ThreadPoolExecutor(1)
        self._asked = 0
        self._ended = False
        self._last: Future[None] | None = None

    def ask(self, request: _Request) -> None:
        """Have the task run for this request, after the one that runs now; at the end, no more."""
        if not self._ended:
            self._asked += 1
            self._last = self._thread.submit(self._run, request, self._asked)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing runs; False if it takes longer."""
        return self._last is None or not wait([self._last], seconds).not_done

    def end(self) -> None:
        """Let the thread end, after what runs now."""
        self._ended = True
        self._thread.shutdown(wait=False)

    def _run(self, request: _Request, number: int) -> None:
        if number == self._asked and not self._ended:
            try:
                self._task(request)
            except Exception as error:
                self._report(error)
