"""The explorer: how soon the page answers a key, against the plain computation of what it shows.

Usage: python -m benchmarks.explorer [--presses 24]

Notebook 12 is opened in JupyterLab and headless Chromium (Debian: apt install chromium
chromium-driver), and the left slider "infrared" moved by the keyboard. An answer takes from the key
until pictures and metrics on the page are new. The plain computation is fusing and scoring that
pair by the package, in a process of its own. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from selenium.webdriver.common.keys import Keys

import fusionlib as fl
from benchmarks.shared import alone
from reproduction.explorer import favour
from tests.reproduction.lab import CHROMIUM, DRIVER, opened_lab, opened_page

# When a key was pressed and how long it took until pictures and table were new, in milliseconds.
WATCH = """
const explorer = arguments[0];
window.answers = {pictures: [], metrics: []};
let pressed = 0;
document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
const note = (name) => () => window.answers[name].push(performance.now() - pressed);
new MutationObserver(note("pictures")).observe(
  explorer, {attributes: true, attributeFilter: ["data-frame"]});
new MutationObserver(note("metrics")).observe(explorer.querySelector(".table"), {childList: true});
"""


def plain(presses: int) -> list[float]:
    """Return the milliseconds of fusing and scoring the explorer's pair, again and again."""
    pair = fl.load_dataset("sample")["night_headlights"]
    method, times = fl.create("res2netfuse", rule=favour("l1_norm", 0.6)), []
    for _ in range(presses + 1):
        started = time.perf_counter()
        fl.evaluate(method.fuse_pair(pair), pair.ir, pair.vis, "common")
        times.append(1000 * (time.perf_counter() - started))
    return times[1:]  # the first warms up


def answers(presses: int) -> dict[str, list[float]]:
    """Return the milliseconds from a key until pictures, and until metrics, are new."""
    with opened_lab() as address, opened_page(address) as page:
        page.focus(page.control("infrared", 0, ".noUi-handle"))
        page.changed(lambda: page.press(Keys.ARROW_RIGHT))  # warms up
        page.driver.execute_script(WATCH, page.find(".fusionlib-explorer"))
        for number in range(presses):
            key = Keys.ARROW_LEFT if number // 8 % 2 else Keys.ARROW_RIGHT  # the slider has ends
            page.changed(lambda key=key: page.press(key))
        return page.driver.execute_script("return window.answers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=24, help="of the key; default: 24")
    presses = parser.parse_args().presses
    if not (CHROMIUM and DRIVER):
        print("not measured, without Chromium and its driver: apt install chromium chromium-driver")
        return 0
    usual = statistics.median(alone(plain, presses))
    print(f"plain computation {usual:.0f} ms")
    for what, times in answers(presses).items():
        median = statistics.median(times)
        print(f"{what:<9} new after {median:.0f} ms, {median / usual:.2f} of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
