"""The explorer in a real JupyterLab: notebook 12 opened in headless Chromium, run, and used.

Skipped where there is no Chromium with its driver (Debian: apt install chromium chromium-driver).
With FUSIONLIB_SCREENSHOTS set to a folder, a picture of it is left there, explorer.png. How soon
it answers is measured by ``python -m benchmarks.explorer``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from fusionlib.datasets import load_dataset
from fusionlib.methods import create
from reproduction.strategies import sharpen

pytest.importorskip("jupyterlab")
pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.reproduction.lab import CHROMIUM, DRIVER, Page, opened_lab, opened_page

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no Chromium with its driver: the explorer's page is not seen",
)

# Buttons for files open a chooser that no key or script reaches: they show it on the page instead.
CHOOSERS = """
HTMLInputElement.prototype.click = function () {
  this.className = "chooser";
  document.body.append(this);
};
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """The notebook, all cells run."""
    with opened_lab() as address, opened_page(address) as page:
        yield page


def test_moved_by_keyboard_it_answers(page):
    """Pictures, maps and numbers are others."""
    before = {name: page.pixels(name) for name in ("left", "right", "difference", "weights right")}
    slider = page.control("infrared", 1, ".noUi-handle")
    page.focus(slider)
    for _ in range(8):
        page.changed(lambda: page.press(Keys.ARROW_RIGHT))
    assert page.control("infrared", 1, ".widget-readout").text == "0.90"
    after = {name: page.pixels(name) for name in before}
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"right", "difference", "weights right"}
    # More infrared: yellow has more red and less blue than blue has.
    assert after["weights right"][..., 0].mean() > before["weights right"][..., 0].mean()
    assert page.driver.switch_to.active_element == slider  # no key went to the notebook
    page.shoot("explorer")


def test_pictures_are_the_right_way_round(page):
    pair = load_dataset("sample")["night_headlights"]
    expected = np.rint(pair.ir * 255)
    assert np.array_equal(page.pixels("infrared"), np.dstack([expected] * 3))
    assert np.array_equal(page.pixels("visible"), np.rint(pair.vis * 255))


def test_an_output_is_one_output(page):
    """However often it changed: one explorer, nothing written below it."""
    assert len(page.all(".fusionlib-explorer")) == 1
    stderr = ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
    assert [part.text for part in page.all(stderr)] == []


def test_a_burst_of_keys_ends_at_the_last(page):
    slider = page.control("sharpness", 0, ".noUi-handle")
    page.focus(slider)
    page.press(*[Keys.ARROW_RIGHT] * 8)
    assert page.control("sharpness", 0, ".widget-readout").text == "3.00"
    method = create("res2netfuse", rule=sharpen("l1_norm", 3))
    last = np.rint(255 * method.fuse_pair(load_dataset("sample")["night_headlights"]))
    # Rounding may move a level by one; a step of the slider moves some by three.
    page.until(lambda: np.abs(page.pixels("left") - last).max() <= 1)
    code = page.until(
        lambda: [c.text for c in page.all("code") if "sharpen(" in c.text and ", 3)" in c.text]
    )
    assert code[0] == 'fl.create("res2netfuse", rule=sharpen("l1_norm", 3))'


def test_swipe_and_zoom(page):
    stage = page.find(".fusionlib-explorer .stage")
    page.focus(stage)
    line = page.find(".fusionlib-explorer .line")
    page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert line.get_attribute("style") == "left: 46%;"
    frame = page.frame()
    page.press("+", "+", "+", "+", Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    views = {canvas.get_attribute("style") for canvas in page.all(".fusionlib-explorer canvas")}
    assert len(views) == 1 and "scale(2.44141)" in views.pop()  # all alike: 1.25 to the fourth
    webdriver.ActionChains(page.driver).key_down(Keys.CONTROL).send_keys("0").key_up(
        Keys.CONTROL
    ).perform()  # is the browser's
    assert page.find(".fusionlib-explorer .zoomed, .fusionlib-explorer.zoomed")
    page.press("0")
    views = {canvas.get_attribute("style") for canvas in page.all(".fusionlib-explorer canvas")}
    assert len(views) == 1 and "scale(1)" in views.pop()
    # By mouse, too.
    box = stage.size
    mouse = webdriver.ActionChains(page.driver)
    mouse.move_to_element_with_offset(stage, 0, 0).click_and_hold()
    mouse.move_by_offset(box["width"] // 4, 0).release().perform()
    assert float(line.get_attribute("style").split(":")[1].strip(" %;")) == pytest.approx(75, abs=1)
    assert page.frame() == frame  # all of it in the browser


STATUSES = """
const status = arguments[0];
window.statuses = [];
new MutationObserver(() => window.statuses.push(status.textContent)).observe(
  status, {childList: true});
"""


def test_what_takes_long_says_that_it_works(page):
    """All metrics take seconds. The picture stays."""
    page.driver.execute_script(STATUSES, page.find(".fusionlib-explorer .status"))
    menu = Select(page.control("metrics", 0, "select"))
    frame = page.frame()
    menu.select_by_visible_text("all")
    page.until(lambda: "PSNR" in page.text(".table"))
    page.until(lambda: page.text(".status") == "")
    assert "working …" in page.driver.execute_script("return window.statuses")
    assert page.frame() >= frame and page.pixels("left").any()


def test_own_files_and_what_is_wrong_with_them(page, tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("ir", (150, 300)), ("vis", (150, 300, 3)), ("other", (151, 300))):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    menu = Select(page.control("images", 0, "select"))
    menu.select_by_visible_text("your own two files")
    page.driver.execute_script(CHOOSERS)
    for button in page.all(".widget-upload"):
        button.click()
    infrared, visible = page.all(".chooser")
    infrared.send_keys(str(tmp_path / "ir.png"))
    visible.send_keys(str(tmp_path / "other.png"))
    page.until(lambda: "300x150" in page.text(".status") and "300x151" in page.text(".status"))
    visible.send_keys(str(tmp_path / "vis.png"))
    page.until(lambda: "ir.png + vis.png" in page.text(".table"))
    assert page.pixels("left").shape == (150, 300, 3)
    # All metrics are asked for, and this one needs more.
    assert "MS_SSIM needs" in page.text(".status") and "–" in page.text(".table")
    size = page.find(".fusionlib-explorer .stage").size
    assert size["width"] == pytest.approx(2 * size["height"], rel=0.02) and size["height"] > 100
