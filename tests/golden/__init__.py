"""Reference values of metrics: which of our definitions each of their variants is.

A file of reference values has the columns triple, metric, variant, value (others are ignored).
A triple NAME_KIND stands for the images NAME_ir.png, NAME_vi.png and NAME_f_KIND.png of a folder,
8-bit gray. ``skimage.csv`` is such a file for images that scikit-image ships; `write_images`
makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


#: Metric and variant of a file -> our convention, of the metric of that name if no other is named.
CONVENTIONS = {
    "AG": {"cddfuse_f64": "cddfuse", "linfeng_div_(r-1)(c-1)": "tang", "vifb": "vifb"},
    "CC": {"cddfuse_f64": "cddfuse"},
    "CE": {"vifb": "vifb"},
    "EI": {"vifb": "vifb"},
    "EN": {"cddfuse_f64": "cddfuse", "log2_256bins": "li", "octave_direct": "li"},
    "FMI_dct": {"octave_direct": "li", "w3": "li"},
    "FMI_gradient": {"w3": "standard"},
    "FMI_none_rawpixels": {"w3": "FMI_pixel:standard"},
    "FMI_w": {"w3_dmey102": "li", "w3_dmey62_pywt": "pywt"},
    "MI": {
        **{"bits_sum_true": "standard", "cddfuse_f64_nats_sum": "cddfuse", "hli_2xEN": "li"},
        **{"linfeng_bits_merge254_255": "tang", "octave_direct": "li", "vifb": "vifb"},
    },
    "MSE": {"cddfuse_f64": "cddfuse", "linfeng_range01": "tang"},
    "MS_SSIM": {"mef_3scale": "li", "octave_direct": "li"},
    "Nabf": {
        **{"hli_range01_matlab_order": "li", "linfeng_range255_argorder_ir_vis_fused": "tang"},
        **{"octave_direct": "li", "range255_correct_args": "standard"},
    },
    "PSNR": {
        **{"cddfuse_f64_peak_maxF": "cddfuse", "linfeng_20log10(255/sqrt(mse01))": "tang"},
        **{"vifb": "vifb"},
    },
    "Qabf": {
        **{"hli_range01_matlab_order": "li", "range255_exact": "tang"},
        **{"range255_f32": "cddfuse", "vifb": "vifb"},
    },
    "Qcb": {"vifb": "Q_CB:vifb"},
    "Qcv": {"vifb": "Q_CV:vifb"},
    "RMSE": {"vifb": "vifb"},
    "SCD": {"cddfuse_f64": "cddfuse", "octave_direct": "li", "sum_corr": "li"},
    "SD": {"cddfuse_f64": "cddfuse", "hli_sqrt_sum_range01": "li", "vifb": "vifb"},
    "SF": {"cddfuse_f64": "cddfuse", "vifb": "vifb"},
    "SSIM": {
        **{"cddfuse_sum_skimage_dr2_f32": "cddfuse", "sum_skimage_dr255_f64": "cddfuse_255"},
        **{"hli_SSIM_a_mean_L1_on01": "SSIM_a:li", "octave_direct": "SSIM_a:li"},
        **{"linfeng_mean_L1_on255": "tang", "vifb": "vifb"},
    },
    "VIF": {"cddfuse_sum": "cddfuse"},
}


def _octave_qabf(*images: Plane) -> float:
    return gradient.qabf(*images, own_strength=True, peak=1, octave=True)


DEFINITIONS: dict[tuple[str, str], Definition] = {
    (metric, variant): _as(*(f"{metric}:{ours}".split(":")[-2:]))
    for metric, variants in CONVENTIONS.items()
    for variant, ours in variants.items()
} | {
    # What is no convention of ours.
    ("MSE", "recon_ir_255"): lambda fused, ir, vis: structure.mse(fused, ir),
    ("MS_SSIM", "mef_scale1"): lambda *images: multiscale.multi_exposure_scores(*images)[0],
    ("MS_SSIM", "mef_scale2"): lambda *images: multiscale.multi_exposure_scores(*images)[1],
    ("MS_SSIM", "mef_scale3"): lambda *images: multiscale.multi_exposure_scores(*images)[2],
    ("PSNR", "recon_ir_255"): lambda fused, ir, vis: structure.psnr(fused, ir),
    ("Qabf", "hli_range01_octave_order"): _octave_qabf,
    ("Qabf", "octave_direct"): _octave_qabf,
    ("SF", "linfeng_xlsx_range01"): lambda fused, ir, vis: gradient.spatial_frequency(fused) / 255,
    ("SSIM", "cddfuse_sum_skimage_dr2_f64"): lambda *images: structure.ssim_uniform(
        *images, peak=2, dtype=np.float64
    ),
    ("SSIM", "hli_ir_only"): lambda fused, ir, vis: structure.ssim(fused, ir),
    ("SSIM", "hli_vis_only"): lambda fused, ir, vis: structure.ssim(fused, vis),
    ("SSIM", "recon_ir_skimage_gauss_dr255"): lambda fused, ir, vis: structure.ssim(
        fused, ir, border="valid"
    ),
    ("VIF", "cddfuse_ir_only"): lambda fused, ir, vis: visual.vif(fused, ir),
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


def read_references(path: str | Path) -> pd.DataFrame:
    """Read a file of reference values."""
    try:
        frame = pd.read_csv(path, float_precision="round_trip")
        return frame[["triple", "metric", "variant", "value"]].astype({"value": float})
    except OSError as error:
        raise FusionError(f"{path}: {error.strerror or error}.") from error
    except (KeyError, ValueError) as error:
        raise FusionError(
            f"{path} does not hold reference values: {error!r}; expected the columns triple, "
            "metric, variant and value."
        ) from error


def read_triple(folder: str | Path, triple: str) -> tuple[Plane, Plane, Plane]:
    """Read fused, infrared and visible image of a triple, see the text of the module."""
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


def compare(references: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """Compute every reference value that one of `DEFINITIONS` defines: columns ours and error."""
    keys = zip(references["metric"], references["variant"], strict=True)
    found = references[[key in DEFINITIONS for key in keys]].copy()
    for triple, rows in found.groupby("triple"):
        planes = read_triple(folder, str(triple))
        for row in rows.itertuples():
            ours = float(DEFINITIONS[row.metric, row.variant](*planes))
            found.loc[row.Index, ["ours", "error"]] = ours, relative(ours, row.value)
    return found


def relative(ours: float, theirs: float) -> float:
    """Return the relative error; equal infinities have none, and of 0 the error is absolute."""
    if ours == theirs:
        return 0.0
    error = abs(ours - theirs) / (abs(theirs) or 1)
    return error if np.isfinite(error) else np.inf


def worst(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return one row per metric and variant: the worst error, where, and what is allowed."""
    by = comparisons.groupby(["metric", "variant"])
    rows = comparisons.loc[by["error"].idxmax()].set_index(["metric", "variant"])
    table = pd.DataFrame({"triples": by.size(), "worst": rows["error"]})
    table["allowed"] = [TOLERANCES.get(key, TOLERANCE) for key in table.index]
    return table.assign(**{"in": rows["triple"]}).reset_index()


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
