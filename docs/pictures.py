"""Draws the pictures of README.md from the built-in sample: ``python docs/pictures.py``.

With ``python docs/pictures.py FOLDER/explorer.png`` the explorer's, too, from a screenshot that its
test leaves:
``FUSIONLIB_SCREENSHOTS=FOLDER python -m pytest tests/reproduction/explorer/test_browser.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import fusionlib as fl
from reproduction import figures

HERE = Path(__file__).parent
#: What is fused without the authors' weights, by title; JSR and JSRSD would take minutes.
METHODS = {
    "MST": ("mst", {}),
    "DCHWT": ("dchwt", {}),
    "FusionGAN, retrained": ("fusiongan", {"weights": "fusiongan_retrained"}),
    "SwinFusion, retrained": ("swinfusion", {"weights": "swinfusion_retrained"}),
    "CDDFuse, retrained": ("cddfuse", {"weights": "cddfuse_retrained"}),
    "Res2NetFuse, l1_norm": ("res2netfuse", {"rule": "l1_norm"}),
    "Res2NetFuse, mean": ("res2netfuse", {"rule": "mean"}),
    "RefineFuse": ("refinefuse", {}),
}


def pair(name: str, dataset: str = "sample") -> fl.Pair:
    pairs = fl.load_dataset(dataset)
    return pairs[pairs.names.index(name)]


def overview() -> Figure:
    """Three scenes, fused by both published rules."""
    chosen = {name: METHODS[name] for name in ("Res2NetFuse, l1_norm", "Res2NetFuse, mean")}
    methods = [fl.create(name, **options) for name, options in chosen.values()]
    rows = [
        [one.ir, one.vis, *(method.fuse_pair(one) for method in methods)]
        for one in map(pair, ("night_headlights", "smoke", "day_street"))
    ]
    return figures.image_grid(rows, titles=["infrared", "visible", *chosen], width=12)


def methods(name: str) -> Figure:
    """One scene, fused by everything that needs no authors' weights."""
    scene = pair(name)
    pictures = {"infrared": scene.ir, "visible": scene.vis}
    for title, (method, options) in METHODS.items():
        pictures[title] = fl.create(method, **options).fuse_pair(scene)
    return figures.picture_wall(pictures, columns=5, width=13)


def medical() -> Figure:
    """A phantom of each kind, fused by RefineFuse and by MST."""
    chosen = [fl.create("mst"), fl.create("refinefuse")]
    rows = []
    for kind in ("ct", "pet", "spect"):
        one = fl.load_dataset(f"sample_mri_{kind}")[0]
        rows.append([one.ir, one.vis, *(method.fuse_pair(one) for method in chosen)])
    titles = ["CT, MRI, MRI", "MRI, PET, SPECT", "MST", "RefineFuse"]
    return figures.image_grid(
        rows, titles=titles, row_titles=["MRI-CT", "MRI-PET", "MRI-SPECT"], width=9
    )


def explorer(screenshot: Path) -> None:
    """The explorer down to its maps, without the list of weights that are not here."""
    with Image.open(screenshot) as page:
        whole = page.convert("RGB")
    part = whole.crop((0, 0, whole.width, min(whole.height, whole.width)))
    part.save(HERE / "explorer.jpg", quality=88)


def main(arguments: list[str]) -> None:
    for screenshot in arguments:
        explorer(Path(screenshot))
    drawn = {
        "overview": overview(),
        "methods_smoke": methods("smoke"),
        "methods_night": methods("night_yard"),
        "medical": medical(),
    }
    for name, figure in drawn.items():
        (HERE / f"{name}.jpg").write_bytes(figures.encode(figure, "jpeg"))


if __name__ == "__main__":
    main(sys.argv[1:])
