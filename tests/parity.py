"""Run a file of reference outputs through our network and say how far off we are.

    python -m tests.parity SYSTEM FILE.npz

SYSTEM is the name of a weight set (`fusionlib weights` lists them), so a newly registered
network needs nothing here. FILE holds gray levels 0..255 as the authors' code saw them: ir,
vis and fused, its raw output, each (H, W) or with axes of length 1 around, channels first or
last; and, where known, fused_u8 (the saved 8-bit image), fused_add (output of the rule
``addition``) and recon_ir (the infrared image encoded and decoded). Weights are looked for
as everywhere, so $FUSIONLIB_WEIGHTS works.

Exit status: 0 if every raw output is within 1e-4 of the reference's range and at most 1e-3
of the 8-bit pixels differ, by one level; 1 if not; 2 if the comparison cannot be made.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from fusionlib.errors import FusionError, ImageError, unknown
from fusionlib.methods import Method, create, registry

RAW_TOLERANCE = 1e-4
SHARE_TOLERANCE = 1e-3

# The rule behind `fused`, where it is not the configuration's default.
RULES = {"densefuse_tf_1e2": "l1_norm"}


def load(system: str, rule: str | None = None) -> Method:
    """Create the method that a weight set belongs to."""
    owners = {
        entry.name: (spec, name)
        for spec in registry().values()
        for name, configuration in spec.configurations.items()
        for entry in configuration.weights
    }
    if system not in owners:
        raise unknown("system", system, owners)
    spec, name = owners[system]
    rule = rule or RULES.get(system)
    if spec.axis == "variant":
        return create(spec.name, variant=name, rule=rule, weights=system)
    return create(spec.name, pipeline=name, rule=rule, weights=system)


def read(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of a file, brought to (H, W)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            known = ("ir", "vis", "fused", "fused_u8", "fused_add", "recon_ir")
            arrays = {key: _plane(key, file[key]) for key in known if key in file}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path} is not a readable .npz file ({error}).") from error
    missing = [key for key in ("ir", "vis", "fused") if key not in arrays]
    if missing:
        raise ImageError(f"{path} lacks {', '.join(missing)}; it must hold ir, vis and fused.")
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ImageError(f"{path}: the images must have one size, not {shapes}.")
    return arrays


def _plane(key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or not array.size or array.dtype.kind not in "uif":
        raise ImageError(f"{key} is {array.dtype} {array.shape}, expected one gray image.")
    return array


def compare(system: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Print one line per reference array; True if all are within tolerance."""
    ir, vis = (arrays[key].astype(np.float32) / np.float32(255) for key in ("ir", "vis"))
    method = load(system)
    outputs = {"fused": method.raw(ir, vis)}
    if "fused_add" in arrays:
        outputs["fused_add"] = load(system, "addition").raw(ir, vis)
    if "recon_ir" in arrays:
        outputs["recon_ir"] = method.raw_reconstruction(ir)
    close = True
    for key, ours in outputs.items():
        theirs = arrays[key].astype(np.float64)
        # A constant reference has no range of its own.
        error = float(np.abs(ours - theirs).max() / (np.ptp(theirs) or 255))
        close &= error <= RAW_TOLERANCE
        print(f"{system} {key}: largest error {error:.2e} of the range ({RAW_TOLERANCE:g} allowed)")
    if "fused_u8" in arrays:
        levels = np.rint(method.finish(outputs["fused"]) * 255)
        difference = np.abs(levels - arrays["fused_u8"])
        share, largest = float(np.mean(difference > 0)), int(difference.max())
        close &= share <= SHARE_TOLERANCE and largest <= 1
        print(
            f"{system} fused_u8: {share:.2e} of the pixels differ ({SHARE_TOLERANCE:g} allowed), "
            f"by up to {largest} gray levels (1 allowed)"
        )
    return close


def main(arguments: Sequence[str]) -> int:
    """Run the comparison; the exit status is in the module's text."""
    if len(arguments) != 2:
        print("usage: python -m tests.parity SYSTEM FILE.npz", file=sys.stderr)
        return 2
    system, path = arguments
    try:
        return 0 if compare(system, read(path)) else 1
    except FusionError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
