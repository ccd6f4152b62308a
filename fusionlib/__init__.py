"""fusionlib: reproducible infrared-visible and medical image fusion. ::

    import fusionlib as fl

    pair = fl.read_pair("ir.png", "vis.png")
    fused = fl.create("res2netfuse", rule="mean").fuse(pair.ir, pair.vis)
    scores = fl.evaluate(fused, pair.ir, pair.vis, metrics="res2netfuse")

Names are loaded when they are first used, so that ``import fusionlib`` stays fast and
PyTorch is imported only where a network is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets import (
        fetch_dataset as fetch_dataset,
        list_datasets as list_datasets,
        load_dataset as load_dataset,
        load_images as load_images,
    )
    from .errors import (
        DatasetNotFound as DatasetNotFound,
        FusionError as FusionError,
        ImageError as ImageError,
        ImageTooSmall as ImageTooSmall,
        MetricWarning as MetricWarning,
        PairMismatch as PairMismatch,
        UnknownName as UnknownName,
        WeightsMismatch as WeightsMismatch,
        WeightsNotFound as WeightsNotFound,
    )
    from .evaluation import (
        benchmark as benchmark,
        evaluate as evaluate,
        evaluate_files as evaluate_files,
    )
    from .images import luminance as luminance, read_image as read_image, write_image as write_image
    from .methods import (
        Method as Method,
        create as create,
        create_available as create_available,
        list_methods as list_methods,
    )
    from .metrics import list_metrics as list_metrics
    from .own import OwnMethod as OwnMethod
    from .pairs import Pair as Pair, read_pair as read_pair, read_pairs as read_pairs
    from .tiles import Execution as Execution

__version__ = "0.1.0"

_HOME = {
    "Pair": "pairs",
    "fetch_dataset": "datasets",
    "list_datasets": "datasets",
    "load_dataset": "datasets",
    "load_images": "datasets",
    "read_pair": "pairs",
    "read_pairs": "pairs",
    "DatasetNotFound": "errors",
    "FusionError": "errors",
    "ImageError": "errors",
    "ImageTooSmall": "errors",
    "MetricWarning": "errors",
    "PairMismatch": "errors",
    "UnknownName": "errors",
    "WeightsMismatch": "errors",
    "WeightsNotFound": "errors",
    "benchmark": "evaluation",
    "evaluate": "evaluation",
    "evaluate_files": "evaluation",
    "Execution": "tiles",
    "read_image": "images",
    "luminance": "images",
    "write_image": "images",
    "Method": "methods",
    "create": "methods",
    "create_available": "methods",
    "list_methods": "methods",
    "list_metrics": "metrics",
    "OwnMethod": "own",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
