"""Scores: one fused image, files and folders, or methods x pairs -> one tidy table."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
from tqdm.auto import tqdm

from .card import Card, Identity, Origin
from .costs import COSTS, Cost, measure
from .datasets import load_dataset
from .errors import FusionError, ImageError, MetricWarning, PairMismatch, unknown
from .executors import checked_jobs, in_order, processes
from .files import check_writable, write_text
from .images import check_image, check_one_size, collapse_gray, luminance, quantise, read_image
from .metrics import Chosen, select
from .metrics.plane import Plane, notes, undefined
from .own import OwnMethod
from .pairs import Dataset, Pair, images_by_stem, pixel_hash

if TYPE_CHECKING:
    import pandas as pd

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

T = TypeVar("T")

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


# ---------------------------------------------------------------- many


class _Wanted(NamedTuple):
    """An image to score: the first columns of its rows, its name for warnings, what is missing."""

    key: tuple[str, ...]
    name: str
    chosen: list[Chosen]
    priced: bool = False  # whether the cost of fusing it is asked for


class _Made(NamedTuple):
    """An image and its sources, ready to be scored."""

    colour: str  # as the rows state it
    views: list[tuple[np.ndarray, ...]]
    cost: Cost | None = None


class _Outcome(NamedTuple):
    """What a worker measured; warnings are returned."""

    colour: str
    scores: list[float]
    messages: list[str]
    cost: Cost | None


def _made(images: Sequence[np.ndarray], colour: str, cost: Cost | None = None) -> _Made:
    images = _checked(images)
    return _Made(colour if _coloured(images) else "gray", _views(images, colour), cost)


def _score(make: Callable[[], _Made], labels: list[str]) -> _Outcome:
    """Make an image and score it, on a worker, which knows metrics by their names."""
    made = make()
    with notes() as messages:
        scores = _scores(made.views, select(labels)) if labels else []
    return _Outcome(made.colour, scores, list(dict.fromkeys(messages)), made.cost)


def _score_all(
    work: Iterable[tuple[_Wanted, Callable[[], _Made]]],
    table: _Table,
    executor: Executor | None,
    ahead: int,
    bar: tqdm,
) -> None:
    """Score images in their order, `ahead` at a time, and add their rows to the table."""
    calls = ((one, partial(_score, make, _labels(one.chosen))) for one, make in work)
    for one, outcome in in_order(calls, executor, ahead):
        for message in outcome.messages:
            warnings.warn(f"{one.name}: {message}", MetricWarning, stacklevel=3)
        table.record(one, outcome)
        bar.update()


def _labels(chosen: Iterable[Chosen]) -> list[str]:
    return [":".join(_measured(one)) for one in chosen]


def _measured(one: Chosen) -> tuple[str, str]:
    """What a row says of the metric."""
    return one.metric.name, one.convention


def _same(value: T) -> T:
    return value


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
    jobs, progress
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
    jobs = checked_jobs(jobs)
    chosen = _once_each(select(metrics, convention))
    found, faults = _match(Path(fused), Path(ir), Path(vis))
    table = _Table(csv, FILE_COLUMNS)
    keys = []

    def work() -> Iterator[tuple[_Wanted, Callable[[], _Made]]]:
        for name, files in found:
            try:
                keys.append(key := (name, _sha256(files)))
                if missing := table.lacking(key, chosen, colour):
                    made = _made([read_image(file) for file in files], colour)
                    yield _Wanted(key, name, missing), partial(_same, made)
                    continue
            except (FusionError, OSError, MemoryError) as error:
                if not Path(fused).is_dir():
                    raise
                faults.append(f"{name}: {error}")
            bar.update()

    bar = tqdm(total=len(found), desc="scoring", unit="image", disable=not progress)
    with bar, table:
        _score_all(work(), table, processes(min(jobs, len(found))), 4 * jobs, bar)
    return Scored(table.frame(keys, map(_measured, chosen), colour), faults)


def _once_each(chosen: list[Chosen]) -> list[Chosen]:
    """Leave out what is asked for twice, which would count twice."""
    return list({(one.metric.name, one.convention): one for one in chosen}.values())


def _match(fused: Path, ir: Path, vis: Path) -> tuple[list[tuple[str, list[Path]]], list[str]]:
    """Return (name, files) of what belongs together, and images without partners."""
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
    executor: Executor | None = None,
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
        Processes that score at the same time; this one fuses. None: one per core. Rows and their
        order do not depend on it.
    executor : concurrent.futures.Executor, optional
        Fuses and scores there instead, 4 `jobs` images at a time: give the number of its workers.
        Methods are sent with their weights, and pairs; but a data set that is given by name must
        be where the workers are, in the same folder `data_dir` or environment. On Dask's workers
        (``client.get_executor(pure=False)``, `fusionlib.executors.dask_workers`) the loss of one
        loses no row and doubles none.
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
        Of what is found wrong with a method, the data set, a pair or a metric; or if a process is
        killed: rows that are measured are then in `csv`.
    """
    _check_colour(colour)
    jobs = checked_jobs(jobs) if executor is None else jobs or 1
    chosen = _once_each(select(metrics, convention))
    ready = _created(methods, weights_dir)
    if isinstance(dataset, str):
        name = dataset
        pairs: Sequence[Pair] = load_dataset(dataset, data_dir=data_dir, limit=limit)
    else:
        name, pairs = getattr(dataset, "name", "given pairs"), dataset[:limit]
    table = _Table(csv, COLUMNS, without=_unkept(ready, csv))
    places = _places(name, pairs, verified=csv is None)
    keys = [(*method.identity, *place) for method in ready for place in places]
    if len({*keys}) < len(keys):
        raise FusionError(f"several pairs of {name} have one name; give each its own.")
    wanted = []
    for number, key in enumerate(keys):
        missing = table.lacking(key, chosen, colour)
        priced = cost and table.value(key, ("seconds", COSTS["seconds"]), colour) is None
        if missing or priced:
            wanted.append((number, _Wanted(key, key[-1], missing, priced)))

    def work(some: Sequence[tuple[int, _Wanted]]) -> Iterator[tuple[_Wanted, Callable[[], _Made]]]:
        for number, one in some:
            method, i = ready[number // len(pairs)], number % len(pairs)
            if executor is None:
                yield one, partial(_same, _fuse(method, partial(_same, pairs[i]), colour))
            elif isinstance(dataset, str):
                yield one, partial(_fuse, method, partial(_pair_of, dataset, folder, i), colour)
            else:
                yield one, partial(_fuse, method, partial(_same, pairs[i]), colour)

    # Workers look from folders of their own.
    folder = None if data_dir is None else str(Path(data_dir).absolute())
    pool = executor or processes(min(jobs, len(wanted)))
    # Without an executor first fuse some, then score them: PyTorch's threads and the processes
    # would fight for the cores.
    size = 4 * jobs if executor is None else max(1, len(wanted))
    held = {"total": len(keys), "initial": len(keys) - len(wanted)}
    with tqdm(**held, desc=f"scoring on {name}", disable=not progress) as bar, table:
        for start in range(0, len(wanted), size):
            _score_all(work(wanted[start : start + size]), table, pool, 4 * jobs, bar)
    measured = [*map(_measured, chosen), *(COSTS.items() if cost else ())]
    return table.frame(keys, measured, colour)


def _created(
    methods: Sequence[str | Fuser] | str | Fuser, weights_dir: str | os.PathLike[str] | None
) -> list[Fuser]:
    """Create the methods that are named; what is asked for twice counts once."""
    from .methods import create

    if not isinstance(methods, Sequence) or isinstance(methods, str):
        methods = [methods]
    ready = [create(m, weights_dir=weights_dir) if isinstance(m, str) else m for m in methods]
    return list({method.identity: method for method in ready}.values())


def _unkept(methods: Iterable[Fuser], csv: str | os.PathLike[str] | None) -> set[Identity]:
    """Return methods whose rows are not to be kept: the next call may mean another function."""
    found = {m.identity for m in methods if isinstance(m, OwnMethod) and not m.version}
    for one in found if csv is not None else ():
        warnings.warn(
            f"rows of {one.method} are not kept in {csv}: nothing says when its function has "
            "changed. Give OwnMethod a version.",
            stacklevel=3,
        )
    return found


def _places(name: str, pairs: Sequence[Pair], *, verified: bool) -> list[tuple[str, str]]:
    """Return what rows say of each pair: data set and name.

    Files of a registered data set are verified; of others only the content tells whether a value
    in the CSV file is theirs.
    """
    if verified or getattr(pairs, "card", None) is not None:
        names = pairs.names if isinstance(pairs, Dataset) else [pair.name for pair in pairs]
        return [(name, each) for each in names]
    return [
        (f"{name} {pixel_hash(pair.ir)[:6]}{pixel_hash(pair.vis)[:6]}", pair.name) for pair in pairs
    ]


def _fuse(method: Fuser, open_pair: Callable[[], Pair], colour: str) -> _Made:
    pair = open_pair()
    fused, spent = measure(partial(method.fuse_pair, pair))
    return _made((fused, pair.ir, pair.vis), colour, spent)


def _pair_of(dataset: str, data_dir: str | None, number: int) -> Pair:
    return _opened(dataset, data_dir)[number]


@cache
def _opened(dataset: str, data_dir: str | None) -> Sequence[Pair]:
    """Open a data set once in each worker."""
    return load_dataset(dataset, data_dir=data_dir)


# ---------------------------------------------------------------- rows on disk


class _Table:
    """Values by what they are of, also in a CSV file if one is named; a context that saves it.

    Parameters
    ----------
    csv : path or None
    columns : list of str
        The last one is the value.
    without : collection of tuple
        Beginnings of rows that are not written.
    """

    def __init__(
        self,
        csv: str | os.PathLike[str] | None,
        columns: list[str],
        without: Collection[tuple[str, ...]] = (),
    ) -> None:
        if csv is not None:
            check_writable(csv)
        self.csv, self.columns, self.without = csv, columns, without
        self.values = _read_values(csv, columns)
        self._saved = time.monotonic()
        self._changed = False

    def value(
        self, key: tuple[str, ...], measured: tuple[str, str], colour: str
    ) -> tuple[str, float] | None:
        """Return how the image was scored and a metric's value, if it is there.

        That an image is gray shows only when it is read.
        """
        for how in ("gray", colour):
            if (row := (*key, *measured, how)) in self.values:
                return how, self.values[row]
        return None

    def lacking(self, key: tuple[str, ...], chosen: Iterable[Chosen], colour: str) -> list[Chosen]:
        """Return those of the metrics whose value is not there."""
        return [one for one in chosen if self.value(key, _measured(one), colour) is None]

    def record(self, one: _Wanted, outcome: _Outcome) -> None:
        """Add the rows of an image, and those of its cost where that was asked for."""
        new = dict(zip(map(_measured, one.chosen), outcome.scores, strict=True))
        if one.priced and outcome.cost is not None:
            costs = zip(COSTS.items(), outcome.cost, strict=True)
            new |= {what: value for what, value in costs if value is not None}
        self.values |= {(*one.key, *what, outcome.colour): value for what, value in new.items()}
        self._changed = True
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self._save()

    def frame(
        self, keys: Iterable[tuple[str, ...]], measured: Iterable[tuple[str, str]], colour: str
    ) -> pd.DataFrame:
        """Return the rows of these images and metrics, in this order; a file may hold others."""
        import pandas as pd

        rows = [
            (*key, *what, *found)
            for key, what in itertools.product(keys, measured)
            if (found := self.value(key, what, colour)) is not None
        ]
        return pd.DataFrame(rows, columns=self.columns)

    def _save(self) -> None:
        if self.csv is not None and self._changed:
            import pandas as pd

            rows = [
                (*key, value)
                for key, value in self.values.items()
                if key[: len(Identity._fields)] not in self.without
            ]
            write_text(self.csv, pd.DataFrame(rows, columns=self.columns).to_csv(index=False))
        self._saved, self._changed = time.monotonic(), False

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()


def _read_values(
    csv: str | os.PathLike[str] | None, columns: list[str]
) -> dict[tuple[str, ...], float]:
    import pandas as pd

    if csv is None or not Path(csv).exists():
        return {}
    try:
        # As text, since a pair may be called "007" or "NA"; only a value is a number.
        frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
        if list(frame.columns) != columns:
            raise ValueError(f"it has the columns {', '.join(frame.columns)}")
        return {(*row[:-1],): float(row[-1]) for row in frame.itertuples(index=False)}
    except (ValueError, OSError) as error:  # ValueError: base of pandas' errors of damaged files
        raise FusionError(
            f"{csv} does not hold scores: {error}; expected the columns {', '.join(columns)}. "
            "Delete it or name another file."
        ) from error


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
    from scipy import stats

    # random_state is what SciPy before 1.15 calls rng.
    random = {"random_state": np.random.default_rng(seed)}
    drawn = stats.bootstrap((values,), np.mean, n_resamples=draws, method="percentile", **random)
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


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
