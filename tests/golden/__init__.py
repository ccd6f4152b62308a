"""Reference values of metrics: which of our definitions each of their variants is.

A file of reference values has the columns triple, metric, variant, value (others are ignored).
A triple NAME_KIND stands for the images NAME_ir.png, NAME_vi.png and NAME_f_KIND.png of a folder,
8-bit gray. ``skimage.csv`` is such a file for images that scikit-image ships; `write_images`
makes them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from skimage import data

from fusionlib.errors import FusionError, ImageError
from fusionlib.evaluation import levels
from fusionlib.images import read_image, write_image
from fusionlib.metrics import METRICS, gradient, multiscale, structure, visual
from fusionlib.metrics.plane import Plane

SKIMAGE = Path(__file__).with_name("skimage.csv")

Definition = Callable[[Plane, Plane, Plane], float]


def _as(metric: str, convention: str) -> Definition:
    return lambda fused, ir, vis: METRICS[metric].compute(fused, ir, vis, convention)


DEFINITIONS: dict[tuple[str, str], Definition] = {
    ("AG", "cddfuse_f64"): _as("AG", "cddfuse"),
    ("AG", "linfeng_div_(r-1)(c-1)"): _as("AG", "tang"),
    ("AG", "vifb"): _as("AG", "vifb"),
    ("CC", "cddfuse_f64"): _as("CC", "cddfuse"),
    ("CE", "vifb"): _as("CE", "vifb"),
    ("EI", "vifb"): _as("EI", "vifb"),
    ("EN", "cddfuse_f64"): _as("EN", "cddfuse"),
    ("EN", "log2_256bins"): _as("EN", "li"),
    ("EN", "octave_direct"): _as("EN", "li"),
    ("FMI_dct", "octave_direct"): _as("FMI_dct", "li"),
    ("FMI_dct", "w3"): _as("FMI_dct", "li"),
    ("FMI_gradient", "w3"): _as("FMI_gradient", "standard"),
    ("FMI_none_rawpixels", "w3"): _as("FMI_pixel", "standard"),
    ("FMI_w", "w3_dmey102"): _as("FMI_w", "li"),
    ("FMI_w", "w3_dmey62_pywt"): _as("FMI_w", "pywt"),
    ("MI", "bits_sum_true"): _as("MI", "standard"),
    ("MI", "cddfuse_f64_nats_sum"): _as("MI", "cddfuse"),
    ("MI", "hli_2xEN"): _as("MI", "li"),
    ("MI", "linfeng_bits_merge254_255"): _as("MI", "tang"),
    ("MI", "octave_direct"): _as("MI", "li"),
    ("MI", "vifb"): _as("MI", "vifb"),
    ("MSE", "cddfuse_f64"): _as("MSE", "cddfuse"),
    ("MSE", "linfeng_range01"): _as("MSE", "tang"),
    ("MSE", "recon_ir_255"): lambda fused, ir, vis: structure.mse(fused, ir),
    ("MS_SSIM", "mef_3scale"): _as("MS_SSIM", "li"),
    ("MS_SSIM", "octave_direct"): _as("MS_SSIM", "li"),
    ("MS_SSIM", "mef_scale1"): lambda *images: multiscale.multi_exposure_scores(*images)[0],
    ("MS_SSIM", "mef_scale2"): lambda *images: multiscale.multi_exposure_scores(*images)[1],
    ("MS_SSIM", "mef_scale3"): lambda *images: multiscale.multi_exposure_scores(*images)[2],
    ("Nabf", "hli_range01_matlab_order"): _as("Nabf", "li"),
    ("Nabf", "linfeng_range255_argorder_ir_vis_fused"): _as("Nabf", "tang"),
    ("Nabf", "octave_direct"): _as("Nabf", "li"),
    ("Nabf", "range255_correct_args"): _as("Nabf", "standard"),
    ("PSNR", "cddfuse_f64_peak_maxF"): _as("PSNR", "cddfuse"),
    ("PSNR", "linfeng_20log10(255/sqrt(mse01))"): _as("PSNR", "tang"),
    ("PSNR", "recon_ir_255"): lambda fused, ir, vis: structure.psnr(fused, ir),
    ("PSNR", "vifb"): _as("PSNR", "vifb"),
    ("Qabf", "hli_range01_matlab_order"): _as("Qabf", "li"),
    ("Qabf", "hli_range01_octave_order"): lambda *images: gradient.qabf(
        *images, own_strength=True, peak=1, octave=True
    ),
    ("Qabf", "octave_direct"): lambda *images: gradient.qabf(
        *images, own_strength=True, peak=1, octave=True
    ),
    ("Qabf", "range255_exact"): _as("Qabf", "tang"),
    ("Qabf", "range255_f32"): _as("Qabf", "cddfuse"),
    ("Qabf", "vifb"): _as("Qabf", "vifb"),
    ("Qcb", "vifb"): _as("Q_CB", "vifb"),
    ("Qcv", "vifb"): _as("Q_CV", "vifb"),
    ("RMSE", "vifb"): _as("RMSE", "vifb"),
    ("SCD", "cddfuse_f64"): _as("SCD", "cddfuse"),
    ("SCD", "octave_direct"): _as("SCD", "li"),
    ("SCD", "sum_corr"): _as("SCD", "li"),
    ("SD", "cddfuse_f64"): _as("SD", "cddfuse"),
    ("SD", "hli_sqrt_sum_range01"): _as("SD", "li"),
    ("SD", "vifb"): _as("SD", "vifb"),
    ("SF", "cddfuse_f64"): _as("SF", "cddfuse"),
    ("SF", "linfeng_xlsx_range01"): lambda fused, ir, vis: gradient.spatial_frequency(fused) / 255,
    ("SF", "vifb"): _as("SF", "vifb"),
    ("SSIM", "cddfuse_sum_skimage_dr2_f32"): _as("SSIM", "cddfuse"),
    ("SSIM", "cddfuse_sum_skimage_dr2_f64"): lambda *images: structure.ssim_uniform(
        *images, peak=2, dtype=np.float64
    ),
    ("SSIM", "hli_SSIM_a_mean_L1_on01"): _as("SSIM_a", "li"),
    ("SSIM", "hli_ir_only"): lambda fused, ir, vis: structure.ssim(fused, ir),
    ("SSIM", "hli_vis_only"): lambda fused, ir, vis: structure.ssim(fused, vis),
    ("SSIM", "linfeng_mean_L1_on255"): _as("SSIM", "tang"),
    ("SSIM", "octave_direct"): _as("SSIM_a", "li"),
    ("SSIM", "recon_ir_skimage_gauss_dr255"): lambda fused, ir, vis: structure.ssim(
        fused, ir, border="valid"
    ),
    ("SSIM", "sum_skimage_dr255_f64"): _as("SSIM", "cddfuse_255"),
    ("SSIM", "vifb"): _as("SSIM", "vifb"),
    ("VIF", "cddfuse_ir_only"): lambda fused, ir, vis: visual.vif(fused, ir),
    ("VIF", "cddfuse_sum"): _as("VIF", "cddfuse"),
    ("VIF", "cddfuse_vis_only"): lambda fused, ir, vis: visual.vif(fused, vis),
}

#: Allowed relative error. The references carry 12 digits.
TOLERANCE = 1e-9
#: Where rounding in the definition itself is larger: separable windows against whole ones near
#: VIF's thresholds; FFT noise where a medical image is exactly 0; float32 on another processor.
TOLERANCES = {
    ("VIF", "cddfuse_ir_only"): 1e-8,
    ("VIF", "cddfuse_sum"): 1e-8,
    ("VIF", "cddfuse_vis_only"): 1e-8,
    ("Qcb", "vifb"): 1e-6,
    ("Qabf", "range255_f32"): 1e-6,
}


class Reference(NamedTuple):
    """One reference value."""

    triple: str
    metric: str
    variant: str
    value: float


def read_references(path: str | Path) -> list[Reference]:
    """Read a file of reference values.

    Raises
    ------
    FusionError
        If it cannot be read, lacks a column or has a value that is no number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            Reference(row["triple"], row["metric"], row["variant"], float(row["value"]))
            for row in rows
        ]
    except OSError as error:
        raise FusionError(f"{path}: {error.strerror or error}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FusionError(
            f"{path} does not hold reference values: {error!r}; expected the columns triple, "
            "metric, variant and value."
        ) from error


def read_triple(folder: str | Path, triple: str) -> tuple[Plane, Plane, Plane]:
    """Read fused, infrared and visible image of a triple, see the text of the module.

    Raises
    ------
    ImageError
        If they are not there or cannot be read.
    """
    words = triple.split("_")
    for cut in range(len(words) - 1, 0, -1):
        name, kind = "_".join(words[:cut]), "_".join(words[cut:])
        files = [Path(folder) / f"{name}_{part}.png" for part in (f"f_{kind}", "ir", "vi")]
        if all(file.is_file() for file in files):
            fused, ir, vis = (Plane(levels(read_image(file))) for file in files)
            return fused, ir, vis
    raise ImageError(
        f"{folder} has no images of the triple {triple}: expected, for instance, "
        f"{files[0].name}, {files[1].name} and {files[2].name}."
    )


def compare(references: list[Reference], folder: str | Path) -> Iterator[dict[str, object]]:
    """Compute every reference value that one of `DEFINITIONS` defines; yield the comparisons."""
    by_triple: dict[str, list[Reference]] = {}
    for reference in references:
        by_triple.setdefault(reference.triple, []).append(reference)
    for triple, rows in by_triple.items():
        planes = read_triple(folder, triple)
        for row in rows:
            definition = DEFINITIONS.get((row.metric, row.variant))
            if definition is not None:
                ours = float(definition(*planes))
                yield row._asdict() | {"ours": ours, "error": relative(ours, row.value)}


def relative(ours: float, theirs: float) -> float:
    """Return the relative error; equal infinities have none, and of 0 the error is absolute."""
    if ours == theirs:
        return 0.0
    error = abs(ours - theirs) / (abs(theirs) or 1)
    return error if np.isfinite(error) else np.inf


def worst(comparisons: list[dict[str, object]]) -> pd.DataFrame:
    """Return one row per metric and variant: the worst error, where, and what is allowed."""
    frame = pd.DataFrame(comparisons).sort_values(["metric", "variant"], kind="stable")
    rows = frame.loc[frame.groupby(["metric", "variant"])["error"].idxmax()]
    counts = frame.groupby(["metric", "variant"]).size()
    keys = list(zip(rows["metric"], rows["variant"], strict=True))
    return pd.DataFrame(
        {
            "metric": rows["metric"],
            "variant": rows["variant"],
            "triples": [counts[key] for key in keys],
            "worst": rows["error"],
            "allowed": [TOLERANCES.get(key, TOLERANCE) for key in keys],
            "in": rows["triple"],
        }
    ).reset_index(drop=True)


def write_images(folder: str | Path) -> None:
    """Write the images of ``skimage.csv``: pictures of scikit-image and three simple fusions."""
    sources = {
        "cam_moon": (data.moon()[::2, ::2], data.camera()[::2, ::2]),
        "coins_page": (data.coins()[:191], data.page()),
        "brick_camera_odd": (data.brick()[101:300, 50:301], data.camera()[101:300, 50:301]),
    }
    for name, (ir, vis) in sources.items():
        a, b = ir.astype(int), vis.astype(int)
        fused = {"avg": (a + b + 1) // 2, "max": np.maximum(a, b), "wsum": (3 * a + b + 2) // 4}
        pictures = {"ir": a, "vi": b} | {f"f_{kind}": image for kind, image in fused.items()}
        for part, image in pictures.items():
            write_image(Path(folder) / f"{name}_{part}.png", image.astype(np.uint8))
