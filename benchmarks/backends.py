"""Other engines at the same work: ONNX Runtime and OpenVINO against the plain module and ours.

Usage: python -m benchmarks.backends [--methods res2netfuse,densefuse,seafusion] [--rounds 2]
                                     [--save FOLDER]

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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.inference import MODES, Contestant, build, contestants, measure, tensors
from benchmarks.saving import save, what_decides
from benchmarks.timing import alone
from fusionlib.files import check_writable

SIZE = (640, 480)
#: A backend repeats its run so many times after one that warms up.
REPEATS = 7


def onnx_file(who: Contestant, folder: str) -> tuple[Path, list[np.ndarray]]:
    """Export a network, and return the file with the images it is to fuse."""
    network, configuration, _ = build(who)
    images = tensors(configuration.levels, SIZE)
    path = Path(folder) / "network.onnx"
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), tuple(images), str(path), dynamo=True, verbose=False)
    return path, [image.numpy() for image in images]


def onnxruntime(path: Path, images: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a function that fuses with ONNX Runtime on all cores."""
    import onnxruntime as engine

    session = engine.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {node.name: x for node, x in zip(session.get_inputs(), images, strict=True)}
    return lambda: session.run(None, feed)[0]


def openvino(path: Path, images: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a function that fuses with OpenVINO in float32."""
    import openvino as engine

    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = engine.Core().compile_model(str(path), "CPU", hint)
    return lambda: model(images)[0]


def openvino_bfloat16(path: Path, images: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a function that fuses with OpenVINO in bfloat16."""
    import openvino as engine

    hint = {"INFERENCE_PRECISION_HINT": "bf16"}
    model = engine.Core().compile_model(str(path), "CPU", hint)
    return lambda: model(images)[0]


#: Backend -> how it starts, and the mode of ours that it stands against.
BACKENDS = {
    "onnxruntime": (onnxruntime, "ours"),
    "openvino": (openvino, "channels last"),
    "openvino bfloat16": (openvino_bfloat16, "bfloat16"),
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


def compare(who: Contestant, name: str, rounds: int) -> dict[str, Any]:
    """Measure a backend and ours in the same precision, in turn."""
    mode = BACKENDS[name][1]
    plain = alone(measure, who, None, SIZE).output
    theirs: list[float] = []
    ours: list[float] = []
    row: dict[str, Any] = {"method": who.label, "backend": name, "ours": mode}
    for _ in range(rounds):
        found = alone(measure_backend, who, name)
        if isinstance(found, str):
            return row | {"remark": found}
        run = alone(measure, who, MODES[mode], SIZE)
        theirs += found[0]
        ours += run.seconds
    seconds, mine = statistics.median(theirs), statistics.median(ours)
    far, near = (
        np.abs(output - plain).max() / (plain.max() - plain.min())
        for output in (found[1], run.output)
    )
    return row | {
        "backend s": seconds,
        "ours s": mine,
        "ratio": mine / seconds,
        "difference": far,
        "ours difference": near,
        "remark": "",
    }


def table(names: list[str], rounds: int) -> pd.DataFrame:
    """Measure, print and return every network on every backend."""
    rows: list[dict[str, Any]] = []
    for name in names:
        for backend in BACKENDS:
            rows.append(compare(contestants([name])[0], backend, rounds))
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="res2netfuse,densefuse,seafusion")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write a CSV file there")
    options = parser.parse_args()
    if options.save:
        check_writable(options.save / "backends.csv")
    facts = what_decides(torch.get_num_threads())
    found = table(options.methods.split(","), options.rounds)
    if options.save:
        save(options.save, "backends", found, facts)


if __name__ == "__main__":
    main()
