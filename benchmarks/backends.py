"""Other engines at the same work: ONNX Runtime and OpenVINO against the plain module and ours.

Usage: python -m benchmarks.backends [--methods res2netfuse,densefuse,seafusion] [--save FOLDER]

They are no part of this project; pip install onnx onnxscript onnxruntime openvino to measure them.
A backend would be worth having where it is more than 1.3 times as fast as ours at equal output,
that is no further from the plain module than our engine in the same precision.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import inference
from benchmarks.inference import MODES, SIZE, Contestant, build, contestants, tensors
from benchmarks.shared import alone, difference, save, show, what_decides
from fusionlib.files import check_writable

REPEATS = 7


def onnx_file(who: Contestant, folder: str) -> tuple[Path, list[np.ndarray]]:
    """Export a network, and return the file with the images it is to fuse."""
    images = tensors(who, SIZE)
    path = Path(folder) / "network.onnx"
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = build(who)[0].eval()
        torch.onnx.export(network, tuple(images), str(path), dynamo=True, verbose=False)
    return path, [image.numpy() for image in images]


def onnxruntime(path: Path, images: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a function that fuses with ONNX Runtime on all cores."""
    import onnxruntime as engine

    session = engine.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {node.name: x for node, x in zip(session.get_inputs(), images, strict=True)}
    return lambda: session.run(None, feed)[0]


def openvino(precision: str, path: Path, images: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a function that fuses with OpenVINO in a precision."""
    import openvino as engine

    hint = {"INFERENCE_PRECISION_HINT": precision}
    model = engine.Core().compile_model(str(path), "CPU", hint)
    return lambda: model(images)[0]


#: Backend -> how it starts, and the mode of ours that it stands against.
BACKENDS: dict[str, tuple[Callable[..., Callable[[], np.ndarray]], str]] = {
    "onnxruntime": (onnxruntime, "ours"),
    "openvino": (partial(openvino, "f32"), "channels last"),
    "openvino bfloat16": (partial(openvino, "bf16"), "bfloat16"),
}


def measure_backend(who: Contestant, name: str) -> tuple[list[float], np.ndarray] | str:
    """Run a backend again and again in this process; or say why it cannot be."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            fuse = BACKENDS[name][0](*onnx_file(who, folder))
            output, times = fuse(), []
            for _ in range(REPEATS):
                started = time.perf_counter()
                output = fuse()
                times.append(time.perf_counter() - started)
        return times, output[0, 0]
    except ImportError as error:
        return f"not installed ({error.name})"
    except Exception as error:  # exporters and backends raise what they like
        return f"cannot run it: {str(error).splitlines()[0][:80]}"


def compare(who: Contestant, name: str) -> dict[str, Any]:
    """Measure a backend and ours in the same precision, in turn."""
    mode = BACKENDS[name][1]
    row: dict[str, Any] = {"method": who.label, "backend": name, "ours": mode}
    theirs, ours = [], []
    for _ in range(inference.ROUNDS):
        found = alone(measure_backend, who, name)
        if isinstance(found, str):
            return row | {"remark": found}
        theirs += found[0]
        ours.append(alone(inference.measure, who, MODES[mode], SIZE))
    plain = alone(inference.measure, who, None, SIZE).output
    seconds, mine = statistics.median(theirs), inference.median(ours)
    row |= {"backend s": seconds, "ours s": mine, "ratio": mine / seconds}
    row["difference"] = difference(found[1], plain)
    row["ours difference"] = difference(ours[0].output, plain)
    return row | {"remark": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="res2netfuse,densefuse,seafusion")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write a CSV file there")
    options = parser.parse_args()
    if options.save:
        check_writable(options.save / "backends.csv")
    facts = what_decides(torch.get_num_threads())
    rows: list[dict[str, Any]] = []
    for name in options.methods.split(","):
        for backend in BACKENDS:
            rows.append(compare(contestants([name])[0], backend))
            show(rows)
    if options.save:
        save(options.save, "backends", pd.DataFrame(rows), facts)


if __name__ == "__main__":
    main()
