"""Run a file of reference outputs through our network and say how far off we are.

    python -m tests.parity SYSTEM FILE.npz

SYSTEM is the name of a weight set (`fusionlib weights` lists them), so a newly registered
network needs nothing here; or the name of a classical method. Trained weights of some networks
cannot be had: rfn_nest, cddfuse, emma, swinfusion and aefusion run under the weights of
`tests.recipe`, fusiongan under the random ones in fusiongan_random.safetensors, which is looked
for beside FILE, then where weights are. FILE holds what entered and left the authors' code, in
the network's own levels: ir, vis and fused, its raw output, each (H, W) or with axes of length 1
around, channels first or last; for jsr and jsrsd the dictionary; and, where known, fused_u8 (the
saved 8-bit image; in colour, with vis_rgb), fused_u8_before_clahe, fused_add (output of the rule
``addition``) and recon_ir (the infrared image encoded and decoded). Sources may carry the padding
that the authors' code adds.

Exit status: 0 if every raw output is within 1e-4 of the reference's range (AEFusion: of its
2-norm, since its attention amplifies rounding at single pixels; `EXACT` has what is closer) and at
most 1e-3 of the 8-bit pixels differ, by one level (after CLAHE, at most 1e-3 differ by more than
one); 1 if not; 2 if the comparison cannot be made.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from fusionlib.errors import FusionError, ImageError, WeightsNotFound, unknown
from fusionlib.methods import Method, create, registry
from fusionlib.weights import places
from tests.recipe import GAINS, recipe_state

RAW_TOLERANCE = 1e-4
# Nothing but rounding between the authors' code and ours, of DCHWT's in float64.
EXACT = {"dchwt": 1e-6, "cddfuse": 1e-5, "emma": 1e-5, "swinfusion": 1e-5, "aefusion": 1e-5}
SHARE_TOLERANCE = 1e-3
# One pixel that falls into the next gray level changes the curve of its whole CLAHE tile, and the
# pixels of that tile by a level: of them only larger differences count.
UNCOUNTED = {"clahe": 1}

# The rule behind `fused`, where it is not the configuration's default.
RULES = {"densefuse_tf_1e2": "l1_norm"}
# Compared in the 2-norm over the image.
NOISY = ("aefusion",)

IMAGES = ("ir", "vis", "fused", "fused_u8", "fused_u8_before_clahe", "fused_add", "recon_ir")


def load(
    system: str, folder: Path, rule: str | None = None, dictionary: np.ndarray | None = None
) -> Method:
    """Create the method that a weight set belongs to, or the classical method of that name.

    Where several pipelines share the set, it is the authors' release that made the file.
    """
    owners = {}
    for spec in registry().values():
        for name, configuration in spec.configurations.items():
            for entry in configuration.weights:
                if entry.name not in owners or name == "released":
                    owners[entry.name] = (spec, name)
    with tempfile.TemporaryDirectory() as temporary:
        if dictionary is not None:
            path = Path(temporary) / "dictionary.npz"
            np.savez(path, dictionary=dictionary)
            return create(system, pipeline="fixed", weights=path)
        if system not in owners:
            if system in registry() and not registry()[system].default.weights:
                return create(system)
            raise unknown("system", system, owners)
        spec, name = owners[system]
        weights: str | Path = system
        if system in GAINS:
            weights = Path(temporary) / f"{system}_recipe.safetensors"
            save_file(recipe_state(system), weights)
        elif system == "fusiongan":
            weights = _random_weights(folder)
        options = {spec.axis: name, "rule": rule or RULES.get(system)}
        return create(spec.name, weights=weights, **options)


def _random_weights(folder: Path) -> Path:
    """Find the random weights that FusionGAN's reference was made with."""
    candidates = [folder, *places()]
    roots = [*(place.parent for place in places()), Path(__file__).parents[2] / "shared"]
    candidates += [root / "golden" / "networks" for root in roots]
    for place in candidates:
        path = place / "fusiongan_random.safetensors"
        if path.is_file():
            return path
    raise WeightsNotFound(
        f"fusiongan_random.safetensors is in none of {', '.join(map(str, candidates))}. Put it "
        "beside the file to compare, or set FUSIONLIB_WEIGHTS to its folder."
    )


def read(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of a file; images are brought to (H, W), sources to the size of `fused`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            known = (*IMAGES, "vis_rgb", "dictionary")
            arrays = {key: file[key] for key in known if key in file}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path} is not a readable .npz file ({error}).") from error
    missing = [key for key in ("ir", "vis", "fused") if key not in arrays]
    if missing:
        raise ImageError(f"{path} lacks {', '.join(missing)}; it must hold ir, vis and fused.")
    extra = {"dictionary": arrays.pop("dictionary")} if "dictionary" in arrays else {}
    colour = _colour(arrays.pop("vis_rgb")) if "vis_rgb" in arrays else None
    if "fused_u8" in arrays and arrays["fused_u8"].shape[-1:] == (3,):
        extra["fused_u8"] = arrays.pop("fused_u8")
    arrays = {key: _plane(key, array) for key, array in arrays.items()}
    for key in ("ir", "vis"):
        arrays[key] = _without_padding(arrays[key], arrays["fused"].shape)
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ImageError(f"{path}: the images must have one size, not {shapes}.")
    if "fused_u8" in extra:
        # Without a colour image, the gray one was saved as RGB.
        extra["vis_rgb"] = np.dstack([arrays["vis"]] * 3) if colour is None else colour
        shape = (*arrays["fused"].shape, 3)
        if not extra["vis_rgb"].shape == extra["fused_u8"].shape == shape:
            raise ImageError(
                f"{path}: vis_rgb is {extra['vis_rgb'].shape}, fused_u8 "
                f"{extra['fused_u8'].shape}, expected {shape}."
            )
    return arrays | extra


def _colour(array: np.ndarray) -> np.ndarray:
    """Bring (1, 3, H, W), (3, H, W) or (H, W, 3) to the last."""
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and len(array) == 3:
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind not in "uif":
        raise ImageError(f"vis_rgb is {array.dtype} {array.shape}, expected one RGB image.")
    return array


def _without_padding(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cut equal borders on all sides from a source that is larger than the output."""
    borders = {large - small for large, small in zip(image.shape, shape, strict=True)}
    if len(borders) > 1 or min(borders) <= 0 or min(borders) % 2:
        return image
    side = borders.pop() // 2
    return image[side:-side, side:-side]


def _plane(key: str, array: np.ndarray) -> np.ndarray:
    for axis in (0, 0, -1):
        if array.ndim > 2 and array.shape[axis] == 1:
            array = array.squeeze(axis)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "uif":
        raise ImageError(f"{key} is {array.dtype} {array.shape}, expected one gray image.")
    return array


def compare(system: str, arrays: Mapping[str, np.ndarray], folder: Path) -> bool:
    """Print one line per reference array; True if all are within tolerance."""
    method = load(system, folder, dictionary=arrays.get("dictionary"))
    tolerance = EXACT.get(system, RAW_TOLERANCE)
    levels = method.levels
    ir, vis = (levels.unscale(arrays[key]).astype(np.float32) for key in ("ir", "vis"))
    outputs = {"fused": method.raw(ir, vis)}
    if "fused_add" in arrays:
        outputs["fused_add"] = load(system, folder, "addition").raw(ir, vis)
    if "recon_ir" in arrays:
        outputs["recon_ir"] = method.raw_reconstruction(ir)
    close = True
    for key, ours in outputs.items():
        theirs = arrays[key].astype(np.float64)
        # A constant reference has no range of its own.
        error = float(np.abs(ours - theirs).max() / (np.ptp(theirs) or levels.white))
        line = f"{system} {key}: largest error {error:.2e} of the range"
        if system in NOISY:
            error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
            line += f", {error:.2e} of the 2-norm"
        close &= error <= tolerance
        print(f"{line} ({tolerance:g} allowed)")
    saved = {"fused_u8": method.finish(outputs["fused"])}
    if "vis_rgb" in arrays:
        saved["fused_u8"] = method.fuse(ir, levels.unscale(arrays["vis_rgb"]).astype(np.float32))
    saved["fused_u8_before_clahe"] = method.finish(outputs["fused"], "clip")
    for key in sorted(saved.keys() & arrays.keys()):
        difference = np.abs(np.rint(saved[key] * 255) - arrays[key])
        uncounted = UNCOUNTED.get(method.post, 0) if key == "fused_u8" else 0
        share, largest = float(np.mean(difference > uncounted)), int(difference.max())
        close &= share <= SHARE_TOLERANCE and (bool(uncounted) or largest <= 1)
        by_more = f" by more than {uncounted}" if uncounted else ""
        print(
            f"{system} {key}: {share:.2e} of the pixels differ{by_more} ({SHARE_TOLERANCE:g} "
            f"allowed), the largest difference is {largest} gray levels"
        )
    return close


def main(arguments: Sequence[str]) -> int:
    """Run the comparison; the exit status is in the module's text."""
    if len(arguments) != 2:
        print("usage: python -m tests.parity SYSTEM FILE.npz", file=sys.stderr)
        return 2
    system, path = arguments
    for ending in ("_recipe", "_random"):
        system = system.removesuffix(ending)
    try:
        return 0 if compare(system, read(path), Path(path).parent) else 1
    except FusionError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
