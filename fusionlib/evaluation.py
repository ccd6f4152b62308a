"""Scores: one fused image, files and folders, or methods x pairs -> one tidy table."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from tqdm.auto import tqdm

from .card import Identity
from .costs import COSTS, measure
from .errors import FusionError, ImageError, MetricWarning, PairMismatch, unknown
from .files import check_writable, write_text
from .folders import check_workers, has_processes
from .images import check_image, check_one_size, collapse_gray, luminance, quantise, read_image
from .metrics import Chosen, select
from .metrics.plane import Plane, notes, undefined

if TYPE_CHECKING:
    import pandas as pd

    from .card import Card, Origin
    from .costs import Cost
    from .pairs import Pair

__all__ = [
    "COLOURS",
    "Scored",
    "benchmark",
    "bootstrap_interval",
    "evaluate",
    "evaluate_files",
    "levels",
    "summarise",
]

KEYS = [*Identity._fields, "dataset", "pair"]
MEASURED = ["metric", "convention", "colour"]
COLUMNS = [*KEYS, *MEASURED, "value"]
FILE_COLUMNS = ["pair", "sha256", *MEASURED, "value"]

#: How colour images are scored.
COLOURS = {
    "Y": "on the luminance Y (ITU-R BT.601)",
    "channels": "on red, green and blue by themselves, then averaged",
}

WHAT = ("fused image", "infrared image", "visible image")
SECONDS_BETWEEN_SAVES = 2.0


# ---------------------------------------------------------------- one fused image


def levels(image: np.ndarray, what: str = "image") -> np.ndarray:
    """Return the 8-bit gray levels (H, W) on which metrics work; RGB by its luminance.

    16 bits and floats are brought to [0, 1] and rounded to 8 bits, halves upwards.
    """
    return quantise(luminance(check_image(image, what)))


def evaluate(
    fused: np.ndarray,
    ir: np.ndarray,
    vis: np.ndarray,
    metrics: str | Sequence[str] = "common",
    convention: str | None = None,
    *,
    colour: str = "Y",
) -> dict[str, float]:
    """Score a fused image against its sources.

    Metrics work on the 8-bit image that would be saved: 16 bits and floats are rounded to 8
    bits first, each image by its own type.

    Parameters
    ----------
    fused, ir, vis : ndarray, shape (H, W) or (H, W, 3)
        uint8, uint16 or float in [0, 1].
    metrics : str or sequence of str
        A selection ("common", "res2netfuse", "refinefuse", "all"), or names from
        `fusionlib.list_metrics`, each with its convention if wanted: "MI:tang".
    convention : str, optional
        For all metrics that do not name their own; otherwise a selection's own, else
        "standard".
    colour : {"Y", "channels"}
        Colour images are scored on their luminance, or per channel and averaged.

    Returns
    -------
    dict of str to float
        Metric, as it was named -> value. (In "res2netfuse", "MI" is what that paper prints
        as MI: 2 x EN.) Never NaN: where a formula gives 0/0 (constant images), the value is
        set by a rule that the metric's card states, with a `MetricWarning`.

    Raises
    ------
    ImageError
        If an image has a wrong type, range or number of channels; `ImageTooSmall` if it is
        smaller than a metric's windows.
    PairMismatch
        If the sizes differ.
    UnknownName
        If a metric, or its convention, is unknown.
    """
    _check_colour(colour)
    chosen = select(metrics, convention)
    views = _views(_checked((fused, ir, vis)), colour)
    return {one.label: score for one, score in zip(chosen, _scores(views, chosen), strict=True)}


def _check_colour(colour: str) -> None:
    if colour not in COLOURS:
        raise unknown("way to score colour", colour, COLOURS)


def _views(images: Sequence[np.ndarray], colour: str) -> list[tuple[np.ndarray, ...]]:
    """Return the triples of gray levels to score: one, or one per colour channel."""
    check_one_size(images, "the fused image and its sources")
    if colour == "Y" or not _coloured(images):
        return [tuple(quantise(luminance(image)) for image in images)]
    return [
        tuple(quantise(image[..., k] if image.ndim == 3 else image) for image in images)
        for k in range(3)
    ]


def _checked(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bring images to [0, 1]; a gray picture stored as RGB is gray."""
    return [
        collapse_gray(check_image(image, what)) for image, what in zip(images, WHAT, strict=True)
    ]


def _coloured(images: Iterable[np.ndarray]) -> bool:
    return any(image.ndim == 3 for image in images)


def _scores(views: Sequence[tuple[np.ndarray, ...]], chosen: Sequence[Chosen]) -> list[float]:
    """Score in the order of `chosen`; what metrics share is computed once per view."""
    values = []
    for view in views:
        fused, ir, vis = map(Plane, view)
        values.append([one.metric.compute(fused, ir, vis, one.convention) for one in chosen])
    return [_mean(channels) for channels in zip(*values, strict=True)]


def _mean(values: Sequence[float]) -> float:
    if np.inf in values and -np.inf in values:
        return undefined("the mean of infinite values of both signs", -np.inf)
    return float(np.mean(values))


# ---------------------------------------------------------------- many, in parallel


class _Task(NamedTuple):
    """One fused image to score."""

    key: tuple[str, ...]  # the first columns of its rows
    name: str  # for warnings
    colour: str  # as the rows state it
    views: list[tuple[np.ndarray, ...]]
    chosen: list[Chosen]
    cost: Cost | None  # of fusing it, where that is asked for


def _task(
    key: tuple[str, ...],
    name: str,
    images: Sequence[np.ndarray],
    chosen: list[Chosen],
    colour: str,
    cost: Cost | None = None,
) -> _Task:
    images = _checked(images)
    views = _views(images, colour)
    return _Task(key, name, colour if _coloured(images) else "gray", views, chosen, cost)


def _score_task(
    views: list[tuple[np.ndarray, ...]], labels: list[str]
) -> tuple[list[float], list[str]]:
    """Score in a worker, which knows metrics by their names; warnings are returned."""
    if not labels:  # only what fusing costs was asked for
        return [], []
    with notes() as collected:
        scores = _scores(views, select(labels))
    return scores, list(dict.fromkeys(collected))


def _score_all(
    tasks: Iterable[_Task], table: _Table, jobs: int | None, executor: Any, bar: tqdm
) -> None:
    """Score tasks in their order, several at a time, and add their rows to the table."""
    for task, (scores, messages) in _in_order(tasks, jobs, executor):
        _warn(task.name, messages)
        table.record(task.key, task.colour, task.chosen, scores, task.cost)
        bar.update()


def _warn(name: str, messages: Iterable[str]) -> None:
    for message in messages:
        warnings.warn(f"{name}: {message}", MetricWarning, stacklevel=4)


def _in_order(
    tasks: Iterable[_Task], jobs: int | None, executor: Any
) -> Iterator[tuple[_Task, tuple[list[float], list[str]]]]:
    import loky

    jobs = loky.cpu_count() if jobs is None else jobs
    check_workers(jobs, "jobs")
    if executor is None and (jobs == 1 or not has_processes()):
        for task in tasks:
            yield task, _score_task(task.views, _labels(task))
        return
    tasks, pool = iter(tasks), executor
    # First fuse, then score: PyTorch's threads and these processes would fight for the cores.
    while batch := list(itertools.islice(tasks, 4 * jobs)):
        # No more processes than tasks, on a machine of many cores.
        pool = pool or loky.get_reusable_executor(max_workers=min(jobs, len(batch)))
        futures = [pool.submit(_score_task, task.views, _labels(task)) for task in batch]
        try:
            for task, future in zip(batch, futures, strict=True):
                yield task, future.result()
        finally:
            for future in futures:
                future.cancel()


def _measured(one: Chosen) -> tuple[str, str]:
    """What a row says of the metric."""
    return one.metric.name, one.convention


def _labels(task: _Task) -> list[str]:
    return [f"{one.metric.name}:{one.convention}" for one in task.chosen]


# ---------------------------------------------------------------- files and folders


class Scored(NamedTuple):
    """What `evaluate_files` measured."""

    rows: pd.DataFrame  # columns pair, sha256, metric, convention, colour, value
    faults: list[str]  # what could not be scored, and why


def evaluate_files(
    fused: str | os.PathLike[str],
    ir: str | os.PathLike[str],
    vis: str | os.PathLike[str],
    *,
    metrics: str | Sequence[str] = "common",
    convention: str | None = None,
    colour: str = "Y",
    csv: str | os.PathLike[str] | None = None,
    jobs: int | None = 1,
    executor: Any = None,
    progress: bool = True,
) -> Scored:
    """Score fused image files, or a folder of them, against their sources.

    Parameters
    ----------
    fused, ir, vis : path
        Three files, or three folders whose images are matched by name without suffix.
    metrics, convention, colour
        As in `evaluate`.
    csv : path, optional
        Rows are written there while they are measured. Rows that it holds already, of files
        with the same content, are not measured again.
    jobs, executor, progress
        As in `benchmark`.

    Returns
    -------
    Scored
        The rows, and which images of the folders could not be scored: without partners,
        damaged, of unequal sizes.

    Raises
    ------
    FusionError
        If one of three files cannot be scored, files and folders are mixed, no name is in all
        three folders, a metric is unknown or the CSV file is not one of scores.
    """
    _check_colour(colour)
    chosen = _once_each(select(metrics, convention))
    found, faults = _match(Path(fused), Path(ir), Path(vis))
    table = _Table(csv, FILE_COLUMNS)
    keys = []

    def tasks() -> Iterator[_Task]:
        for name, files in found:
            try:
                keys.append(key := (name, _sha256(files)))
                missing = [one for one in chosen if not table.holds(key, _measured(one), colour)]
                if missing:
                    yield _task(key, name, [read_image(file) for file in files], missing, colour)
                    continue
            except (FusionError, OSError, MemoryError) as error:
                if not Path(fused).is_dir():
                    raise
                faults.append(f"{name}: {error}")
            bar.update()

    bar = tqdm(total=len(found), desc="scoring", unit="image", disable=not progress)
    with bar, table:
        _score_all(tasks(), table, jobs, executor, bar)
    return Scored(table.asked(keys, chosen, colour), faults)


def _once_each(chosen: list[Chosen]) -> list[Chosen]:
    """Leave out what is asked for twice, which would count twice."""
    return list({(one.metric.name, one.convention): one for one in chosen}.values())


def _match(fused: Path, ir: Path, vis: Path) -> tuple[list[tuple[str, list[Path]]], list[str]]:
    """Return (name, files) of what belongs together, and images without partners."""
    from .pairs import images_by_stem

    paths = fused, ir, vis
    folders = [path.is_dir() for path in paths]
    if not any(folders):
        return [(fused.stem, [fused, ir, vis])], []
    if not all(folders):
        kinds = ", ".join(
            f"{path} ({'folder' if path.is_dir() else 'file' if path.exists() else 'not there'})"
            for path in paths
        )
        raise ImageError(f"give three files or three folders, not {kinds}.")
    files = [images_by_stem(path) for path in paths]
    names = [name for name in files[0] if name in files[1] and name in files[2]]
    if not names:
        raise PairMismatch(
            f"no image of {fused} has partners of the same name in {ir} and {vis}. Give a fused "
            "image and its sources one name (the suffix may differ)."
        )
    faults = []
    for name in dict.fromkeys(name for every in files for name in every):
        lacking = [str(path) for path, every in zip(paths, files, strict=True) if name not in every]
        if lacking:
            faults.append(f"{name}: not in {' and '.join(lacking)}")
    return [(name, [every[name] for every in files]) for name in names], faults


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise ImageError(f"{file}: {error.strerror or error}.") from error
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------- methods x pairs


class Fuser(Protocol):
    """What can be scored on pairs: a `Method`, one's own, or images that authors published."""

    @property
    def identity(self) -> Identity:
        """What rows state about it."""

    @property
    def card(self) -> Card | Origin:
        """Its facts, those of its weights among them."""

    def fuse_pair(self, pair: Pair) -> np.ndarray:
        """Return the fused image of a pair, (H, W) or (H, W, 3)."""


def benchmark(
    methods: Sequence[str | Fuser] | str | Fuser,
    dataset: str | Sequence[Pair],
    *,
    metrics: str | Sequence[str] = "common",
    convention: str | None = None,
    colour: str = "Y",
    limit: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    jobs: int | None = 1,
    executor: Any = None,
    client: Any = None,
    cost: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Fuse every pair with every method and score the results.

    Parameters
    ----------
    methods : name, Method, OwnMethod, PublishedImages or a sequence of them
    dataset : str or sequence of Pair
        Name of a data set, or the pairs themselves.
    metrics, convention, colour
        As in `evaluate`.
    limit : int, optional
        Use only the first pairs.
    data_dir, weights_dir : path, optional
        Where to look first.
    csv : path, optional
        Rows are written there while they are measured; rows that it holds already, of the
        same method with the same weights, are not measured again. For pairs that are not of a
        registered data set, the column dataset also names a hash of their content.
    jobs : int, optional
        Processes that score at the same time; None: one per core. Rows and their order do not
        depend on it.
    executor : concurrent.futures.Executor, optional
        Scores there instead, four times `jobs` images at a time.
    client : distributed.Client, optional
        Fuses and scores on the workers of this Dask scheduler. A data set given by name must be
        where they are, with the same folder `data_dir` or environment; pairs are sent, and methods
        with their weights. The loss of a worker loses no row and doubles none. `jobs` and
        `executor` are then not used.
    cost : bool
        Whether each image also gets rows with the seconds that fusing took and the most memory
        that the process which did it held meanwhile (see `fusionlib.costs.Cost`).
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    DataFrame
        Columns method, variant, rule, post, weights, dataset, pair, metric, convention,
        colour ("gray", "Y" or "channels"), value.

    Raises
    ------
    FusionError
        Of what is found wrong with a method, the data set, a pair or a metric; or with the
        scheduler and its workers: rows that are measured are then in `csv`.
    """
    from .datasets import load_dataset
    from .methods import create
    from .pairs import Dataset, pixel_hash

    _check_colour(colour)
    chosen = _once_each(select(metrics, convention))
    if not isinstance(methods, Sequence) or isinstance(methods, str):
        methods = [methods]
    ready = [create(m, weights_dir=weights_dir) if isinstance(m, str) else m for m in methods]
    ready = list({method.identity: method for method in ready}.values())
    if isinstance(dataset, str):
        name = dataset
        pairs: Sequence[Pair] = load_dataset(dataset, data_dir=data_dir, limit=limit)
    else:
        name, pairs = getattr(dataset, "name", "given pairs"), dataset[:limit]
    names = pairs.names if isinstance(pairs, Dataset) else [pair.name for pair in pairs]
    # Files of a registered data set are verified; of others only the content tells whether a
    # value in the CSV file is theirs.
    verified = getattr(pairs, "card", None) is not None or csv is None

    def source(i: int) -> str:
        if verified:
            return name
        return f"{name} {pixel_hash(pairs[i].ir)[:6]}{pixel_hash(pairs[i].vis)[:6]}"

    sources = [source(i) for i in range(len(pairs))]
    work = [(method, i) for method in ready for i in range(len(pairs))]
    keys = [(*method.identity, sources[i], names[i]) for method, i in work]
    table = _Table(csv, COLUMNS)

    def wanted() -> Iterator[_Wanted]:
        for (method, i), key in zip(work, keys, strict=True):
            missing = [one for one in chosen if not table.holds(key, _measured(one), colour)]
            unpriced = cost and not table.holds(key, ("seconds", COSTS["seconds"]), colour)
            if missing or unpriced:
                yield _Wanted(key, names[i], method, i, missing, unpriced)
            else:
                bar.update()

    bar = tqdm(total=len(work), desc=f"scoring on {name}", disable=not progress)
    with bar, table:
        if client is not None:
            # Workers look from folders of their own.
            place = None if data_dir is None else Path(data_dir).absolute()
            opened = partial(_pair_of, dataset, place) if isinstance(dataset, str) else None
            _spread(client, wanted(), opened, pairs, colour, table, bar)
        else:
            _score_all(_fused(wanted(), pairs, colour), table, jobs, executor, bar)
    return table.asked(keys, chosen, colour, cost=cost)


class _Wanted(NamedTuple):
    """One image to fuse and to score."""

    key: tuple[str, ...]
    name: str
    method: Fuser
    pair: int
    chosen: list[Chosen]
    priced: bool  # whether its cost is asked for


def _fused(wanted: Iterable[_Wanted], pairs: Sequence[Pair], colour: str) -> Iterator[_Task]:
    for one in wanted:
        pair = pairs[one.pair]
        fused, spent = measure(partial(one.method.fuse_pair, pair))
        images = fused, pair.ir, pair.vis
        cost = spent if one.priced else None
        yield _task(one.key, one.name, images, one.chosen, colour, cost)


# ---------------------------------------------------------------- on a cluster


def _spread(
    client: Any,
    wanted: Iterable[_Wanted],
    opened: Callable[[int], Pair] | None,
    pairs: Sequence[Pair],
    colour: str,
    table: _Table,
    bar: tqdm,
) -> None:
    """Fuse and score on the workers of a Dask scheduler.

    They open pairs of a named data set themselves, by `opened`; others are sent.
    """
    from .scale import share, spread

    sent: dict[Identity, Any] = {}
    asked: deque[_Wanted] = deque()

    def calls() -> Iterator[tuple[Any, ...]]:
        for one in wanted:
            if one.method.identity not in sent:
                sent[one.method.identity] = share(client, one.method)
            labels = [f"{each.metric.name}:{each.convention}" for each in one.chosen]
            number = one.pair
            source = partial(opened, number) if opened else partial(_given, pairs[number])
            asked.append(one)
            yield sent[one.method.identity], source, labels, colour

    for how, scores, messages, spent in spread(client, _fuse_and_score, calls()):
        one = asked.popleft()
        _warn(one.name, messages)
        table.record(one.key, how, one.chosen, scores, spent if one.priced else None)
        bar.update()


def _fuse_and_score(
    method: Fuser, open_pair: Callable[[], Pair], labels: list[str], colour: str
) -> tuple[str, list[float], list[str], Cost]:
    """Work on a worker: what the rows say of colour, scores, warnings, and what fusing took."""
    pair = open_pair()
    fused, spent = measure(partial(method.fuse_pair, pair))
    chosen = select(labels) if labels else []
    task = _task((), pair.name, (fused, pair.ir, pair.vis), chosen, colour)
    return task.colour, *_score_task(task.views, labels), spent


def _pair_of(dataset: str, data_dir: str | os.PathLike[str] | None, number: int) -> Pair:
    """Open a pair of a data set that this process opens once."""
    return _opened(dataset, None if data_dir is None else str(data_dir))[number]


@cache
def _opened(dataset: str, data_dir: str | None) -> Sequence[Pair]:
    from .datasets import load_dataset

    return load_dataset(dataset, data_dir=data_dir)


def _given(pair: Pair) -> Pair:
    return pair


# ---------------------------------------------------------------- rows on disk


class _Table:
    """Rows that are also kept in a CSV file, if one is named; a context that saves at its end."""

    def __init__(self, csv: str | os.PathLike[str] | None, columns: list[str]) -> None:
        self.csv = csv
        self.columns = columns
        if csv is not None:
            check_writable(csv)
        self.rows = _read_rows(csv, columns)
        self.known = {tuple(row[c] for c in columns[:-1]) for row in self.rows}
        self._saved = time.monotonic()
        self._changed = False

    def holds(self, key: tuple[str, ...], measured: tuple[str, str], colour: str) -> bool:
        """Tell whether a metric's value in a convention is there.

        That an image is gray shows only when it is read.
        """
        return any((*key, *measured, how) in self.known for how in ("gray", colour))

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows += rows
        self._changed = True
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self._save()

    def record(
        self,
        key: tuple[str, ...],
        colour: str,
        chosen: Sequence[Chosen],
        scores: Sequence[float],
        cost: Cost | None,
    ) -> None:
        """Add the rows of one fused image, and those of its cost where that was asked for."""
        values: list[tuple[str, str, float | None]] = [
            (*_measured(one), score) for one, score in zip(chosen, scores, strict=True)
        ]
        if cost is not None:
            values += [(*what, value) for what, value in zip(COSTS.items(), cost, strict=True)]
        self.add(
            dict(zip(self.columns, (*key, metric, how, colour, value), strict=True))
            for metric, how, value in values
            if value is not None
        )

    def asked(
        self,
        keys: Iterable[tuple[str, ...]],
        chosen: Sequence[Chosen],
        colour: str,
        *,
        cost: bool = False,
    ) -> pd.DataFrame:
        """Return the rows of these images and metrics; a file may hold others."""
        import pandas as pd

        measured = [_measured(one) for one in chosen]
        measured += COSTS.items() if cost else ()
        wanted = {
            (*key, *what, how) for key in keys for what in measured for how in ("gray", colour)
        }
        rows = [row for row in self.rows if tuple(row[c] for c in self.columns[:-1]) in wanted]
        return pd.DataFrame(rows, columns=self.columns)

    def _save(self) -> None:
        if self.csv is not None and self._changed:
            import pandas as pd

            frame = pd.DataFrame(self.rows, columns=self.columns)
            write_text(self.csv, frame.to_csv(index=False))
        self._saved, self._changed = time.monotonic(), False

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()


def _read_rows(csv: str | os.PathLike[str] | None, columns: list[str]) -> list[dict[str, Any]]:
    import pandas as pd

    if csv is None or not Path(csv).exists():
        return []
    try:
        # As text, since a pair may be called "007" or "NA"; only a value is a number.
        frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
        if list(frame.columns) != columns:
            raise ValueError(f"it has the columns {', '.join(frame.columns)}")
        frame["value"] = [float(value) for value in frame["value"]]
    except (ValueError, OSError) as error:  # ValueError: base of pandas' errors of damaged files
        raise FusionError(
            f"{csv} does not hold scores: {error}; expected the columns {', '.join(columns)}. "
            "Delete it or name another file."
        ) from error
    return [dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False)]


# ---------------------------------------------------------------- means


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : sequence of float
        One value per image.
    draws : int
        Resamples.
    seed : int
        Of the resampling, so that the same values give the same interval.

    Returns
    -------
    (float, float)
        NaN, NaN for fewer than two values, or if some are infinite and others not.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    if not np.isfinite(values).all():  # PSNR of equal images: no mean to speak of
        low, high = float(values.min()), float(values.max())
        return (low, high) if low == high else (float("nan"), float("nan"))
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def summarise(per_pair: pd.DataFrame, by: Sequence[str] = ("row", "metric")) -> pd.DataFrame:
    """Reduce one value per pair to n, mean, ci_low and ci_high (95 % bootstrap).

    A metric that is not defined for a pair (NaN) is left out, and n does not count it.

    Parameters
    ----------
    per_pair : DataFrame
        With the columns `by` and ``value``.
    by : sequence of str
        What identifies a cell of the table; the order of appearance is kept.
    """
    import pandas as pd

    rows = []
    for key, group in per_pair.groupby(list(by), sort=False):
        values = group["value"].dropna()
        low, high = bootstrap_interval(values.to_numpy())
        rows.append(
            dict(zip(by, key, strict=True))
            | {"n": len(values), "mean": values.mean(), "ci_low": low, "ci_high": high}
        )
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "ci_low", "ci_high"])
