"""Scores: one fused image, or methods x pairs -> one tidy table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from .card import Identity
from .errors import FusionError
from .files import write_text
from .images import check_image, check_one_size, luminance, quantise
from .metrics import select

if TYPE_CHECKING:
    import pandas as pd

    from .datasets import Pair
    from .methods import Method

__all__ = ["benchmark", "evaluate", "levels"]

KEYS = [*Identity._fields, "dataset", "pair"]
COLUMNS = [*KEYS, "metric", "convention", "value"]


def levels(image: np.ndarray, what: str = "image") -> np.ndarray:
    """Return the 8-bit gray levels (H, W) on which metrics work; RGB by its luminance."""
    return quantise(luminance(check_image(image, what)))


def evaluate(
    fused: np.ndarray,
    ir: np.ndarray,
    vis: np.ndarray,
    metrics: str | Sequence[str] = "res2netfuse",
) -> dict[str, float]:
    """Score a fused image against its sources.

    Parameters
    ----------
    fused, ir, vis : ndarray, shape (H, W) or (H, W, 3)
        uint8, uint16 or float in [0, 1]; RGB is scored by its luminance.
    metrics : str or sequence of str
        A selection such as "res2netfuse", or names from `fusionlib.list_metrics`.

    Returns
    -------
    dict of str to float

    Raises
    ------
    ImageError
        If an image has a wrong type, range or number of channels.
    PairMismatch
        If the sizes differ.
    UnknownName
        If a metric is unknown.
    """
    chosen = select(metrics)
    images = [
        levels(image, what)
        for image, what in ((fused, "fused image"), (ir, "infrared image"), (vis, "visible image"))
    ]
    check_one_size(images, "the fused image and its sources")
    return {metric.name: metric.compute(*images) for metric in chosen}


def benchmark(
    methods: Sequence[str | Method] | str | Method,
    dataset: str | Sequence[Pair],
    *,
    metrics: str | Sequence[str] = "res2netfuse",
    limit: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Fuse every pair with every method and score the results.

    Parameters
    ----------
    methods : name, Method or a sequence of them
    dataset : str or sequence of Pair
        Name of a data set, or the pairs themselves.
    metrics : str or sequence of str
        As in `evaluate`.
    limit : int, optional
        Use only the first pairs.
    data_dir, weights_dir : path, optional
        Where to look first.
    csv : path, optional
        Rows are written there after every pair; rows that it holds already, of the same
        method with the same weights, are not computed again (and are returned too).
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    DataFrame
        Columns method, variant, rule, post, weights, dataset, pair, metric, convention,
        value.

    Raises
    ------
    FusionError
        Of what is found wrong with a method, the data set, a pair or a metric.
    """
    import pandas as pd

    from .datasets import Dataset, load_dataset
    from .methods import create

    chosen = select(metrics)
    if not isinstance(methods, Sequence) or isinstance(methods, str):
        methods = [methods]
    ready = [create(m, weights_dir=weights_dir) if isinstance(m, str) else m for m in methods]
    if isinstance(dataset, str):
        name = dataset
        pairs: Sequence[Pair] = load_dataset(dataset, data_dir=data_dir, limit=limit)
    else:
        name, pairs = getattr(dataset, "name", "given pairs"), dataset[:limit]
    names = pairs.names if isinstance(pairs, Dataset) else [pair.name for pair in pairs]
    rows = _read_rows(csv)
    known = {tuple(row[key] for key in [*KEYS, "metric"]) for row in rows}
    work = [(method, i) for method in ready for i in range(len(pairs))]
    for method, i in tqdm(work, desc=f"scoring on {name}", disable=not progress):
        key = (*method.identity, name, names[i])
        missing = [metric for metric in chosen if (*key, metric.name) not in known]
        if not missing:
            continue
        pair = pairs[i]
        fused = method.fuse(pair.ir, pair.vis)
        scores = evaluate(fused, pair.ir, pair.vis, [metric.name for metric in missing])
        rows += [
            dict(zip(COLUMNS, (*key, m.name, m.convention, scores[m.name]), strict=True))
            for m in missing
        ]
        if csv is not None:
            write_text(csv, pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
    return pd.DataFrame(rows, columns=COLUMNS)


def _read_rows(csv: str | os.PathLike[str] | None) -> list[dict[str, Any]]:
    import pandas as pd

    if csv is None or not Path(csv).exists():
        return []
    try:
        # As text, since a pair may be called "007" or "NA"; only a value can be missing.
        frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
        if list(frame.columns) != COLUMNS:
            raise ValueError(f"it has the columns {', '.join(frame.columns)}")
        frame["value"] = [float(value or "nan") for value in frame["value"]]
    except ValueError as error:  # the base of what pandas raises on a damaged file
        raise FusionError(
            f"{csv} does not hold scores: {error}; expected the columns {', '.join(COLUMNS)}. "
            "Delete it or name another file."
        ) from error
    return [dict(zip(COLUMNS, row, strict=True)) for row in frame.itertuples(index=False)]
