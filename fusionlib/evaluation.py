"""Scores: one fused image, files and folders, or methods x pairs -> one tidy table."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
from tqdm.auto import tqdm

from .card import Card, Identity, Origin
from .datasets import load_dataset
from .errors import FusionError, ImageError, MetricWarning, PairMismatch, unknown
from .executors import checked_jobs, in_order, measure, processes
from .files import check_writable, write_text
from .images import check_image, check_one_size, collapse_gray, luminance, quantise, read_image
from .metrics import Chosen, select
from .metrics.plane import Plane, notes, undefined
from .pairs import Dataset, Pair, images_by_stem, pixel_hash

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLOURS",
    "COLUMNS",
    "COSTS",
    "Fuser",
    "OwnMethod",
    "Scored",
    "benchmark",
    "bootstrap_interval",
    "evaluate",
    "evaluate_files",
    "levels",
    "summarise",
]

T = TypeVar("T")
PathLike = str | os.PathLike[str]
Measured = tuple[str, str]  # a metric and its convention, as rows state them
Key = tuple[str, ...]  # the columns before these: what image a value is of

COLUMNS = [*Identity._fields, "dataset", "pair", "metric", "convention", "colour", "value"]
FILE_COLUMNS = ["pair", "sha256", "metric", "convention", "colour", "value"]

#: How colour images are scored.
COLOURS = {
    "Y": "on the luminance Y (ITU-R BT.601)",
    "channels": "on red, green and blue by themselves, then averaged",
}
#: What fusing an image costs, as metrics of it -> how that is measured.
COSTS = {"seconds": "wall clock", "peak GiB": "resident memory"}

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
    chosen = _asked(metrics, convention, colour)
    scores = _scores(_made((fused, ir, vis), colour, {}).views, chosen)
    return {one.label: score for one, score in zip(chosen, scores, strict=True)}


def _asked(metrics: str | Sequence[str], convention: str | None, colour: str) -> list[Chosen]:
    if colour not in COLOURS:
        raise unknown("way to score colour", colour, COLOURS)
    return select(metrics, convention)


class _Made(NamedTuple):
    """A fused image with its sources, ready to be scored."""

    colour: str  # as the rows state it
    views: list[tuple[np.ndarray, ...]]  # three times gray levels: once, or per colour channel
    cost: dict[Measured, float]


def _made(given: Sequence[np.ndarray], colour: str, cost: dict[Measured, float]) -> _Made:
    """Check the images; a gray picture stored as RGB is gray."""
    images = [collapse_gray(check_image(one, what)) for one, what in zip(given, WHAT, strict=True)]
    check_one_size(images, "the fused image and its sources")
    if all(image.ndim == 2 for image in images):
        colour = "gray"
    views = (
        [[image[..., k] if image.ndim == 3 else image for image in images] for k in range(3)]
        if colour == "channels"
        else [[luminance(image) for image in images]]
    )
    return _Made(colour, [tuple(map(quantise, view)) for view in views], cost)


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


# ---------------------------------------------------------------- files and folders


class Scored(NamedTuple):
    """What `evaluate_files` measured."""

    rows: pd.DataFrame  # columns pair, sha256, metric, convention, colour, value
    faults: list[str]  # what could not be scored, and why


def evaluate_files(
    fused: PathLike,
    ir: PathLike,
    vis: PathLike,
    *,
    metrics: str | Sequence[str] = "common",
    convention: str | None = None,
    colour: str = "Y",
    csv: PathLike | None = None,
    jobs: int | None = 1,
    progress: bool = True,
) -> Scored:
    """Score fused image files, or a folder of them, against their sources.

    Parameters
    ----------
    fused, ir, vis : path
        Three files, or three folders whose images are matched by name without suffix.
    metrics, convention, colour, jobs
        As in `evaluate` and `benchmark`.
    csv : path, optional
        Rows are written there while they are measured. Rows that it holds already, of files
        with the same content, are not measured again.

    Returns
    -------
    Scored
        The rows, and which images of the folders could not be scored: without partners,
        damaged, of unequal sizes. Of three files that is an error.
    """
    chosen = _asked(metrics, convention, colour)
    jobs = checked_jobs(jobs)
    found, faults = _match(Path(fused), Path(ir), Path(vis))
    table = _Table(csv, FILE_COLUMNS, chosen, colour)
    keys: list[Key] = []

    def work() -> Iterator[tuple[Key, Callable[[], _Made]]]:
        for name, files in found:
            try:
                keys.append(key := (name, _sha256(files)))
                if table.missing(key):
                    yield key, partial(_same, _made([*map(read_image, files)], colour, {}))
                    continue
            except (FusionError, OSError, MemoryError) as error:
                if not Path(fused).is_dir():
                    raise
                faults.append(f"{name}: {error}")
            bar.update()

    bar = tqdm(total=len(found), desc="scoring", unit="image", disable=not progress)
    with bar, table:
        table.fill(work(), processes(min(jobs, len(found))), 4 * jobs, bar)
    return Scored(table.frame(keys), faults)


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
    found, faults = [], []
    for name in dict.fromkeys(itertools.chain(*files)):
        if lacking := [str(path) for path, of in zip(paths, files, strict=True) if name not in of]:
            faults.append(f"{name}: not in {' and '.join(lacking)}")
        else:
            found.append((name, [of[name] for of in files]))
    if not found:
        raise PairMismatch(
            f"no image of {fused} has partners of the same name in {ir} and {vis}. Give a fused "
            "image and its sources one name (the suffix may differ)."
        )
    return found, faults


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
    def identity(self) -> Identity: ...
    @property
    def card(self) -> Card | Origin: ...
    def fuse_pair(self, pair: Pair) -> np.ndarray: ...


class OwnMethod:
    """A method of one's own, for `fusionlib.benchmark`.

    Parameters
    ----------
    name : str
        What rows call it.
    fuse : callable or path
        A function ``(ir, vis) -> fused`` on arrays of float32 in [0, 1], infrared (H, W), visible
        (H, W) or (H, W, 3); or the folder of images that the method made, named as the pairs are.
        The function's image may be uint8, uint16 or float in [0, 1], gray or RGB; it is rounded
        to the 8 bits that would be saved.
    version : str
        Of a function: rows of the same version in a CSV file are taken for its own. Without one
        its rows are not kept. Of a folder it is a hash of the images.

    Raises
    ------
    FusionError
        If there is no such folder, or a registered method has that name.
    """

    def __init__(
        self,
        name: str,
        fuse: Callable[[np.ndarray, np.ndarray], np.ndarray] | PathLike,
        *,
        version: str = "",
    ) -> None:
        from .methods import registry

        if name in registry():
            raise FusionError(f"{name!r} is the name of a registered method; choose another one.")
        self._fuse = fuse
        self._files = {} if callable(fuse) else images_by_stem(Path(fuse))
        if not callable(fuse):
            content = hashlib.sha256()
            for stem, path in sorted(self._files.items()):
                content.update(stem.encode() + hashlib.sha256(path.read_bytes()).digest())
            version = content.hexdigest()[:16]
        self.name, self.version = name, version
        self.card = Origin("own", version)
        self.identity = Identity(name, "own", "", "", "@".join(filter(None, self.card)))

    def fuse_pair(self, pair: Pair) -> np.ndarray:
        """Return the fused image of a pair: float32 in [0, 1], multiples of 1/255."""
        if callable(self._fuse):
            image = self._fuse(pair.ir.copy(), pair.vis.copy())
            if not isinstance(image, np.ndarray):
                raise ImageError(
                    f"{self.name} returned {type(image).__name__} for the pair {pair.name!r}; it "
                    "must return a numpy array (H, W) or (H, W, 3)."
                )
            image = check_image(image, f"image that {self.name} made of {pair.name!r}")
        elif pair.name in self._files:
            image = read_image(self._files[pair.name])
        else:
            raise FusionError(
                f"the folder {self._fuse} has no image of the pair {pair.name!r}. Its files "
                "must be named as the pairs are, with any suffix; or give those pairs only."
            )
        check_one_size([image, pair.ir], f"the image of {self.name} and its pair {pair.name!r}")
        return quantise(image).astype(np.float32) / np.float32(255)


def benchmark(
    methods: Sequence[str | Fuser] | str | Fuser,
    dataset: str | Sequence[Pair],
    *,
    metrics: str | Sequence[str] = "common",
    convention: str | None = None,
    colour: str = "Y",
    limit: int | None = None,
    data_dir: PathLike | None = None,
    weights_dir: PathLike | None = None,
    csv: PathLike | None = None,
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
        Where to look for the data set and for weights first.
    csv : path, optional
        Rows are written there while they are measured; rows that it holds already, of the
        same method with the same weights, are not measured again. For pairs that are not of a
        registered data set, the column dataset also names a hash of their content.
    jobs : int, optional
        Processes that score at the same time; this one fuses. None: one per core. Rows and their
        order do not depend on it.
    executor : concurrent.futures.Executor, optional
        Fuses and scores there instead, 4 `jobs` images at a time: give the number of its workers.
        Pairs are sent to them, and methods with their weights. On Dask's workers
        (``client.get_executor(pure=False)``, `fusionlib.executors.dask_workers`) the loss of one
        loses no row and doubles none.
    cost : bool
        Whether each image also gets rows with the seconds that fusing took, and the most memory
        (resident, in GiB) that the process which did it held meanwhile, where the system tells.

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
    chosen = _asked(metrics, convention, colour)
    jobs = checked_jobs(jobs) if executor is None else jobs or 1
    ready = _created(methods, weights_dir)
    pairs: Sequence[Pair]
    if isinstance(dataset, str):
        pairs = load_dataset(dataset, data_dir=data_dir, limit=limit)
    else:
        pairs = dataset[:limit]
    name = getattr(pairs, "name", "given pairs")
    table = _Table(csv, COLUMNS, chosen, colour, COSTS if cost else (), _unkept(ready, csv))
    places = _places(name, pairs, verified=csv is None)
    of_key: dict[Key, tuple[Fuser, int]]
    of_key = {(*m.identity, *place): (m, i) for m in ready for i, place in enumerate(places)}
    if len(of_key) < len(ready) * len(places):
        raise FusionError(f"several pairs of {name} have one name; give each its own.")
    left = [key for key in of_key if table.missing(key)]

    def work(keys: Sequence[Key]) -> Iterator[tuple[Key, Callable[[], _Made]]]:
        for key in keys:
            method, i = of_key[key]
            call = partial(_fuse, method, pairs[i], colour)
            yield key, partial(_same, call()) if executor is None else call

    pool = executor or processes(min(jobs, len(left)))
    # Without an executor first fuse some, then score them: PyTorch's threads and the processes
    # would fight for the cores.
    size = 4 * jobs if executor is None else max(1, len(left))
    held = {"total": len(of_key), "initial": len(of_key) - len(left)}
    with tqdm(**held, desc=f"scoring on {name}", disable=not progress) as bar, table:
        for start in range(0, len(left), size):
            table.fill(work(left[start : start + size]), pool, 4 * jobs, bar)
    return table.frame(of_key)


def _created(
    methods: Sequence[str | Fuser] | str | Fuser, weights_dir: PathLike | None
) -> list[Fuser]:
    """Create the methods that are named; what is asked for twice counts once."""
    from .methods import create

    if not isinstance(methods, Sequence) or isinstance(methods, str):
        methods = [methods]
    ready = [create(m, weights_dir=weights_dir) if isinstance(m, str) else m for m in methods]
    return list({method.identity: method for method in ready}.values())


def _unkept(methods: Iterable[Fuser], csv: PathLike | None) -> set[Identity]:
    """Return methods whose rows are not to be kept: the next call may mean another function."""
    found = {m.identity for m in methods if isinstance(m, OwnMethod) and not m.version}
    if found and csv is not None:
        warnings.warn(
            f"rows of {', '.join(sorted(one.method for one in found))} are not kept in {csv}: "
            "nothing says when a function has changed. Give OwnMethod a version.",
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


def _fuse(method: Fuser, pair: Pair, colour: str) -> _Made:
    fused, cost = measure(partial(method.fuse_pair, pair))
    values = zip(COSTS.items(), cost, strict=True)
    known = {what: value for what, value in values if value is not None}
    return _made((fused, pair.ir, pair.vis), colour, known)


def _same(value: T) -> T:
    return value


# ---------------------------------------------------------------- rows, also on disk


class _Table:
    """Values by what they are of, also in a CSV file if one is named; a context that saves it.

    Rows that begin as one of `unkept` are not written.
    """

    def __init__(
        self,
        csv: PathLike | None,
        columns: list[str],
        chosen: Iterable[Chosen],
        colour: str,
        costs: Collection[str] = (),
        unkept: Collection[Key] = (),
    ) -> None:
        if csv is not None:
            check_writable(csv)
        self.csv, self.columns, self.colour, self.unkept = csv, columns, colour, unkept
        # What is asked for twice counts once.
        asked = dict.fromkeys((one.metric.name, one.convention) for one in chosen)
        self.asked: list[Measured] = [*asked, *((name, COSTS[name]) for name in costs)]
        self.values = _read_values(csv, columns)
        self._saved = time.monotonic()
        self._changed = False

    def value(self, key: Key, measured: Measured) -> tuple[str, float] | None:
        """Return how the image was scored and a metric's value, if it is there.

        That an image is gray shows only when it is read.
        """
        for how in ("gray", self.colour):
            if (row := (*key, *measured, how)) in self.values:
                return how, self.values[row]
        return None

    def missing(self, key: Key) -> list[Measured]:
        """Return what is asked for and is not there; not every system tells the peak."""
        asked = (what for what in self.asked if what[0] != "peak GiB")
        return [what for what in asked if self.value(key, what) is None]

    def fill(
        self,
        work: Iterable[tuple[Key, Callable[[], _Made]]],
        executor: Executor | None,
        ahead: int,
        bar: tqdm,
    ) -> None:
        """Score images in their order, `ahead` at a time, and add their rows."""
        name = self.columns.index("pair")
        calls = ((key, partial(_score, make, self.missing(key))) for key, make in work)
        for key, (colour, values, messages) in in_order(calls, executor, ahead):
            for message in messages:
                warnings.warn(f"{key[name]}: {message}", MetricWarning, stacklevel=3)
            for what in self.asked:
                if what in values:
                    self.values.setdefault((*key, *what, colour), values[what])
            self._changed = True
            if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
                self._save()
            bar.update()

    def frame(self, keys: Iterable[Key]) -> pd.DataFrame:
        """Return what is asked for of these images, in this order; a file may hold other rows."""
        import pandas as pd

        rows = [
            (*key, *what, *found)
            for key, what in itertools.product(keys, self.asked)
            if (found := self.value(key, what)) is not None
        ]
        return pd.DataFrame(rows, columns=self.columns)

    def _save(self) -> None:
        if self.csv is not None and self._changed:
            import pandas as pd

            kept = {key: v for key, v in self.values.items() if key[:5] not in self.unkept}
            rows = [(*key, value) for key, value in kept.items()]
            write_text(self.csv, pd.DataFrame(rows, columns=self.columns).to_csv(index=False))
        self._saved, self._changed = time.monotonic(), False

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()


def _score(
    make: Callable[[], _Made], asked: Sequence[Measured]
) -> tuple[str, dict[Measured, float], list[str]]:
    """Make an image and score it, on a worker, which knows metrics by their names.

    Returns how colour was scored, the values, the cost among them, and what is to be warned of.
    """
    made = make()
    metrics = [what for what in asked if what[0] not in COSTS]
    chosen = select([":".join(what) for what in metrics]) if metrics else []
    with notes() as messages:
        scores = _scores(made.views, chosen)
    values = dict(zip(metrics, scores, strict=True)) | made.cost
    return made.colour, values, list(dict.fromkeys(messages))


def _read_values(csv: PathLike | None, columns: list[str]) -> dict[Key, float]:
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
    """Return the 95 % percentile bootstrap interval of the mean, from resamples of this seed.

    It is (NaN, NaN) for fewer than two values, or if some are infinite and others not.
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
    """Reduce the column ``value`` to n, mean, ci_low and ci_high (95 % bootstrap).

    There is a row per value of the columns `by`, in their order of appearance. A metric that is
    not defined for a pair (NaN) is left out, and n does not count it.
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
