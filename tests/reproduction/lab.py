"""Notebook 12 in a real JupyterLab, seen by headless Chromium: for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "12_explorer.ipynb"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
# The first two are needed as root; the others keep it from calling home.
FLAGS = (
    *("--no-sandbox", "--disable-dev-shm-usage", "--headless=new", "--disable-gpu"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1400,1900"),
)
TOKEN = "explorer"
#: Seconds after which a page is said to hang.
PATIENCE = 600

PIXELS = """
const canvas = arguments[0];
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""


class Page:
    """Notebook 12 in JupyterLab, run."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, ready: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if found := ready():
                    return found
            except WebDriverException:  # a part of the page that is being replaced
                pass
            assert time.monotonic() < end, f"not within {PATIENCE} s; {self.text('.status')!r}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        return " ".join(part.text for part in self.all(f".fusionlib-explorer {selector}"))

    def frame(self) -> int:
        return int(self.find(".fusionlib-explorer").get_attribute("data-frame"))

    def pixels(self, panel: str) -> np.ndarray:
        canvas = self.find(f'.fusionlib-explorer canvas[data-panel="{panel}"]')
        width, height = (int(canvas.get_attribute(side)) for side in ("width", "height"))
        values = self.driver.execute_script(PIXELS, canvas)
        return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]

    def control(self, name: str, side: int, inside: str) -> Any:
        rows = [
            row
            for row in self.all(".widget-inline-hbox")
            if row.find_element(By.CSS_SELECTOR, "label").text == name
        ]
        return rows[side].find_element(By.CSS_SELECTOR, inside)

    def focus(self, element: Any) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.driver.execute_script("arguments[0].focus()", element)

    def press(self, *keys: str) -> None:
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()

    def changed(self, act: Callable[[], None]) -> None:
        """Do something and wait until pictures and table are new and nothing is computed."""
        frame, table = self.frame(), self.text(".table")
        act()
        self.until(lambda: self.frame() > frame)
        self.until(lambda: self.text(".table") != table)
        self.until(lambda: not self.all(".fusionlib-explorer.busy"))

    def shoot(self, name: str) -> None:
        if folder := os.environ.get("FUSIONLIB_SCREENSHOTS"):
            self.find(".fusionlib-controls").screenshot(str(Path(folder) / f"{name}.png"))


@contextmanager
def opened_lab() -> Iterator[str]:
    """Start a JupyterLab with a copy of the notebook; give its address."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        folder, home = Path(root) / "lab", Path(root) / "home"
        folder.mkdir()
        shutil.copy(NOTEBOOK, folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        hidden = ("FUSIONLIB_DATA", "FUSIONLIB_WEIGHTS")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        # Settings of whoever runs this stay out of it, and their files untouched.
        environment |= {"HOME": str(home), "JUPYTER_PREFER_ENV_PATH": "1"}
        # No question that would cover a part of the page.
        settings = home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        options = (f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--no-browser")
        command = [sys.executable, "-m", "jupyterlab", *options, "--allow-root"]
        with (home / "lab.log").open("w") as log:
            server = subprocess.Popen(
                [*command, f"--ServerApp.root_dir={folder}"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            while not _answers(port):
                assert server.poll() is None, (home / "lab.log").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOK.name}?token={TOKEN}"
        finally:
            server.terminate()
            server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def opened_page(lab: str) -> Iterator[Page]:
    """Open the notebook at that address and run all its cells."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        page = Page(driver)
        driver.get(lab)
        page.until(lambda: page.all(".jp-Notebook .jp-Cell-outputArea img"))
        page.until(lambda: page.find(".jp-Notebook .jp-Cell").click() or True)
        next(item for item in page.all(".lm-MenuBar-item") if item.text == "Run").click()
        run = "//li[contains(@class, 'lm-Menu-item')][starts-with(., 'Run All Cells')]"
        page.until(lambda: driver.find_element(By.XPATH, run)).click()
        page.until(lambda: page.frame() and page.text(".table"))
        idle = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
        page.until(lambda: page.all(idle))
        yield page
    finally:
        driver.quit()
