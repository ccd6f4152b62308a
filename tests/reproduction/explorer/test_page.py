"""page: widgets moved from Python; what a browser shows is in test_browser.py."""

from __future__ import annotations

import base64
import datetime
import importlib
import io
import sys
import threading
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import fusionlib as fl
from fusionlib.errors import DatasetNotFound, FusionError, UnknownName, WeightsNotFound

pytest.importorskip("anywidget")
import ipywidgets

from reproduction.explorer import Explorer, Strategy, blend, page as module, picture as drawing
from reproduction.explorer.page import OWN_FILES
from reproduction.explorer.picture import Panel

#: Seconds after which a thread is said to hang.
PATIENCE = 600


@pytest.fixture(scope="module", autouse=True)
def only_our_weights(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FUSIONLIB_WEIGHTS", raising=False)
        patch.delenv("FUSIONLIB_DATA", raising=False)
        patch.setattr("pooch.os_cache", lambda name: tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture
def explorer():
    return Explorer(left=Strategy("mst"), right=Strategy("res2netfuse"))


@pytest.fixture(autouse=True)
def all_closed():
    """ipywidgets keeps every widget that is open, and with it pictures and networks."""
    yield
    ipywidgets.Widget.close_all()


def move(explorer, name, value, side=1):
    """Move a widget of one side and wait for what comes."""
    getattr(explorer._sides[side], name).value = value
    assert explorer.wait()


def picture(message):
    return np.asarray(Image.open(io.BytesIO(message["png"])))


def png(image):
    stream = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(stream, "png")
    return stream.getvalue()


def upload(explorer, **files):
    """Choose files as a browser does: one after the other."""
    for widget, (name, content) in zip(explorer._source.files, files.items(), strict=True):
        facts = {"name": name, "type": "image/png", "size": len(content)}
        dated = {**facts, "last_modified": datetime.datetime(2026, 1, 1)}
        widget.value = ({**dated, "content": memoryview(content)},)
    assert explorer.wait()


def test_it_begins_with_what_was_asked_for(explorer):
    pair = fl.load_dataset("sample")[0]
    for strategy, image in zip(explorer.strategies, explorer.images, strict=True):
        assert np.array_equal(image, fl.create(strategy.method).fuse(pair.ir, pair.vis))
    assert explorer.scores["left"] == fl.evaluate(explorer.images[0], pair.ir, pair.vis)
    left = Strategy("res2netfuse", "paper", "maximum", "mean", 0.25, 2, 0.75, "stretch:0.25")
    right = Strategy("mst", "exchanged", post="clip")
    other = Explorer("sample_mri_ct", left=left, right=right, metrics="refinefuse")
    assert other.strategies == (left, right)
    assert {*other.scores["right"]} == {"VIF", "AG", "SCD", "Qabf", "SF", "EN", "SSIM"}


def test_sliders_change_the_picture_and_its_numbers(explorer):
    pair = fl.load_dataset("sample")[0]
    before, scores = explorer.images, explorer.scores
    move(explorer, "other", "mean")
    assert np.array_equal(explorer.images[1], before[1])  # of a share of 0 nothing is seen
    move(explorer, "share", 0.4)
    expected = fl.create("res2netfuse", rule=blend("l1_norm", "mean", 0.4)).fuse(pair.ir, pair.vis)
    assert np.array_equal(explorer.images[1], expected)
    assert explorer.images[0] is before[0]
    assert explorer.scores["right"] == fl.evaluate(expected, pair.ir, pair.vis) != scores["right"]
    assert "blend(" in explorer._sides[1].code.value
    shown = {panel["name"]: panel for panel in explorer._picture.panels}
    # Of two changes, both of the right side.
    assert {name for name, panel in shown.items() if panel["stamp"] == 3} == {
        *("right", "difference", "weights right")
    }
    assert {panel["stamp"] for panel in shown.values()} == {1, 3}
    assert np.array_equal(picture(shown["right"]), np.rint(expected * 255))
    assert f"{explorer.scores['right']['SSIM']:.4f}" in explorer._picture.table
    assert not explorer._picture.busy and not explorer._picture.message
    assert explorer._shown.panels()[4].high in module.SCALES[1:]
    move(explorer, "method", "mst")  # no difference
    assert explorer._shown.panels()[4].high == module.SCALES[0]


def test_pictures_do_not_wait_for_metrics(explorer, monkeypatch):
    score, before, seen = explorer._comparison.score, explorer._picture.panels, []

    def watched(*asked):
        seen.append(explorer._picture.panels is not before)
        return score(*asked)

    monkeypatch.setattr(explorer._comparison, "score", watched)
    move(explorer, "stretch", 0.25)
    assert seen == [True, True] and explorer.strategies[1].post == "stretch:0.25"
    for post in ("clahe", ""):
        move(explorer, "post", post)
        assert explorer.strategies[1].post == post


def test_what_a_method_does_not_take_cannot_be_moved(explorer):
    def disabled(side):
        names = ("setting", "rule", "other", "share", "power", "infrared", "post", "stretch")
        return {name for name in names if getattr(explorer._sides[side], name).disabled}

    ruled = {"rule", "other", "share", "power", "infrared"}
    assert disabled(0) == ruled  # MST has two pipelines
    assert disabled(1) == set()
    move(explorer, "rule", "maximum")
    assert disabled(1) == {"power"}
    move(explorer, "other", "mean")
    move(explorer, "share", 0.5)
    assert disabled(1) == set()
    move(explorer, "method", "refinefuse")
    assert ruled <= disabled(1)
    assert not explorer._picture.message


def test_another_method_brings_its_own_settings(explorer):
    explorer._thread = mock.Mock()
    for method in ("res2netfuse", "mst"):
        explorer._sides[0].method.value = method
    # Once each, though method, setting, rule and finish changed.
    asked = [call.args[2][0] for call in explorer._thread.submit.call_args_list]
    assert asked == [Strategy("res2netfuse", rule="l1_norm"), Strategy("mst")]


def test_another_pair_and_data_set(explorer):
    source = explorer._source
    source.pair.value = "smoke"
    assert explorer.wait()
    assert explorer._shown.pair.name == "smoke" and "smoke" in explorer._picture.table
    source.dataset.value = "sample_mri_pet"
    assert explorer.wait()
    assert source.pair.options == tuple(fl.load_dataset("sample_mri_pet").names)
    assert explorer._shown.pair.name == source.pair.options[0] and not explorer._picture.message


def test_own_files(explorer):
    pair = fl.load_dataset("sample")[2]
    before = explorer.images
    explorer._source.dataset.value = OWN_FILES
    assert explorer.wait() and explorer._source.pair.layout.display == "none"
    assert explorer.images[0] is before[0]  # until both files are there
    upload(explorer, **{"my ir.png": png(pair.ir), "my vis.png": png(pair.vis)})
    ir, vis = (np.rint(image * 255).astype(np.uint8) for image in (pair.ir, pair.vis))
    assert np.array_equal(explorer.images[0], fl.create("mst").fuse(ir, vis))
    assert "my ir.png + my vis.png" in explorer._picture.table
    explorer._source.dataset.value = "sample"
    assert explorer.wait() and explorer._shown.pair.name == "day_street"
    explorer._source.dataset.value = OWN_FILES  # which are still chosen
    assert explorer.wait() and explorer._shown.pair.name == "my ir"


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a.png": png(np.ones((40, 50))), "b.png": png(np.ones((40, 51)))}, "50x40"),
        ({"a.png": b"no picture", "b.png": png(np.ones((40, 50)))}, "a.png"),
        ({"a.png": png(np.random.default_rng(0).random((40, 50, 3))),
          "b.png": png(np.ones((40, 50)))}, "infrared image a.png"),
    ],
)  # fmt: skip
def test_files_that_are_no_pair(explorer, files, message):
    before = explorer.images
    explorer._source.dataset.value = OWN_FILES
    upload(explorer, **files)
    assert message in explorer._picture.message and not explorer._picture.busy
    assert explorer.images[0] is before[0]  # the last good one stays
    explorer._source.dataset.value = "sample"
    assert explorer.wait() and not explorer._picture.message


def test_a_defect_says_where_it_is(explorer, monkeypatch):
    monkeypatch.setattr(explorer._comparison, "fuse", lambda strategy: 1 / 0)
    move(explorer, "share", 0.3)
    assert "ZeroDivisionError" in explorer._picture.message
    assert "test_page.py, line" in explorer._picture.message


@pytest.mark.parametrize("part", ["fuse", "score"])
def test_after_an_error_all_that_is_shown_belongs_together(explorer, monkeypatch, part):
    """Another pair is chosen and something fails: pictures, maps, code and numbers stay."""

    def seen():
        panels = {p["name"]: picture(p).tolist() for p in explorer._picture.panels if p["png"]}
        return panels, explorer._picture.table, explorer._sides[1].code.value

    def fail(*_):
        raise FusionError("out of order.")

    before = seen()
    monkeypatch.setattr(explorer._comparison, part, fail)
    explorer._source.pair.value = "smoke"
    assert explorer.wait()
    assert explorer._picture.message.startswith("out of order. Shown is what was shown before.")
    assert seen() == before and explorer._shown.pair.name == "day_street"


def test_a_pair_that_is_too_small_for_a_metric_has_the_others(explorer):
    explorer._source.dataset.value = OWN_FILES
    noise = png(np.random.default_rng(0).random((30, 30)))
    upload(explorer, **{"a.png": noise, "b.png": noise})
    assert explorer.images[0].shape == (30, 30) and "a.png + b.png" in explorer._picture.table
    assert np.isnan(explorer.scores["left"]["VIF"]) and explorer.scores["left"]["EN"] > 0
    assert "VIF needs" in explorer._picture.message and "–" in explorer._picture.table
    # Constant images: some metrics are 0/0, for which a rule stands in.
    flat = png(np.full((48, 48), 0.5))
    upload(explorer, **{"a.png": flat, "b.png": flat})
    assert "SCD" in explorer._picture.message or "CC" in explorer._picture.message


def test_a_closed_explorer_leaves_no_widget():
    registry = ipywidgets.widgets.widget._instances
    before = {*registry}
    Explorer(left=Strategy("mst"), right=Strategy("mst")).close()
    # What a widget looks like, its layout and style, belongs to it.
    kinds = {type(widget).__name__ for key, widget in registry.items() if key not in before}
    assert {name for name in kinds if not name.endswith(("Layout", "Style"))} == set()
    Explorer.__new__(Explorer).close()  # as Python does with one that could not begin


def test_panels_are_the_pictures_the_right_way_round(monkeypatch):
    rng = np.random.default_rng(0)
    for image in (rng.random((5, 7)), rng.random((5, 7, 3))):
        assert np.array_equal(picture(Panel("", "", image).message()), np.rint(image * 255))
    values = np.array([[-8.0, 0.0, 8.0, 99.0]])
    message = Panel("", "", values, "PuOr_r", -8, 8).message()
    low, middle, high, beyond = picture(message)[0].tolist()
    assert low[2] > low[0] and high[0] > high[2]  # purple and orange
    assert min(middle) > 240 and beyond == high
    assert (message["low"], message["high"]) == ("-8", "8")
    assert message["colours"].startswith("#") and message["colours"].count(",") == 8
    assert Panel("", "", None).message()["png"] is None
    monkeypatch.setattr(drawing, "LARGEST_SIDE", 4)  # larger ones are reduced
    image = np.kron([[0.2, 0.4], [0.6, 0.8]], np.ones((3, 3)))
    shown = picture(Panel("", "", image).message())
    assert shown.shape == (3, 3) and shown[0, 0] == 51 and shown[2, 2] == 204


def test_a_figure_stands_in_for_widgets(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    shown = Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"])))
    assert shown.format == "JPEG" and shown.width == 1100
    titles = [axis.get_title() for axis in explorer.figure().axes]
    assert titles[:4] == ["infrared", "visible", "left: MST", "right: Res2NetFuse l1_norm"]
    assert any(title.startswith("left − right, gray levels, -") for title in titles)
    assert not any("weight of infrared, left" in title for title in titles)  # MST has none


def test_what_is_offered_is_what_can_be_created_the_rest_is_named(explorer):
    offered, missing = module._find_methods(None)
    found, unavailable = fl.create_available()
    assert {*offered} == {method.name for method in found} and {*missing} == {*unavailable}
    assert offered["res2netfuse"] == ["released", "paper"]
    text = explorer.children[-1].value
    assert "DenseFuse (densefuse_tf_1e2)" in text and "fusionlib weights fetch" in text


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"dataset": "sampel"}, UnknownName, "Did you mean"),
        ({"dataset": "tno20"}, DatasetNotFound, "tno20"),
        ({"pair": "nobody"}, UnknownName, "pair of sample"),
        ({"metrics": "all of them"}, UnknownName, "selection of metrics"),
        ({"left": Strategy("densefuse")}, WeightsNotFound, "densefuse_tf_1e2"),
        ({"left": Strategy("jsr", "published")}, WeightsNotFound, "jsr"),
        ({"right": Strategy("res2netfuse", power=12)}, FusionError, "slider ends at 8"),
    ],
)
def test_beginnings_that_cannot_be(options, kind, message):
    with pytest.raises(kind, match=message):
        Explorer(**options)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "reproduction.explorer")
    with pytest.raises(FusionError, match=r"pip install -e .\[notebooks\]"):
        importlib.import_module("reproduction.explorer")


def test_overtaken_requests_are_dropped(explorer, monkeypatch):
    """All run on one thread; at the end what runs is waited for, and nothing else begins."""
    started, go, shown = threading.Event(), threading.Event(), []

    def show(strategies, _):
        started.set()
        assert go.wait(PATIENCE)
        shown.append((strategies[1].share, threading.current_thread()))

    monkeypatch.setattr(explorer, "_show", show)
    share = explorer._sides[1].share
    share.value = 0.1
    assert started.wait(PATIENCE)
    for value in (0.2, 0.3, 0.4):
        share.value = value
    assert not explorer.wait(0.05)  # it says that it is not ready
    go.set()
    assert explorer.wait()
    assert [value for value, _ in shown] == [0.1, 0.4]
    go.clear()
    started.clear()
    share.value = 0.5
    assert started.wait(PATIENCE)
    share.value = 0.6
    explorer.close()
    assert explorer.wait(0)  # for nothing
    share.value = 0.7
    go.set()
    thread = shown[0][1]
    thread.join(PATIENCE)
    assert [value for value, _ in shown] == [0.1, 0.4, 0.5] and not thread.is_alive()
    assert {one for _, one in shown} == {thread}
