"""RefineFuse's Table 4: does fusing help a detector?

Twice, as in the paper: a detector that was trained on COCO looks at the sources and at the fused
images as it is, and it is fine-tuned on each of them. The paper's data are M3FD's; here they are
those of MSRS that there are, divided into blocks, each of which is tested by a detector that
learnt from the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .. import results
from ..datasets import Box, Dataset, Pair, dataset_parts, load_dataset, package_data
from ..errors import FusionError, unknown
from ..experiments import Row, available, data_hash
from ..files import write_text
from ..methods import Method, registry
from ..tables import show_lines
from ..weights import digest
from .average_precision import (
    DRAWS,
    Matches,
    Truth,
    interval,
    match,
    mean_over_classes,
    of_classes,
    search,
)
from .detector import TO_SEE, Detections, Detector, create_detector, save_detector
from .layout import EVERYTHING, Example, Layout, Renderer, class_names, export, parts_by_block
from .training import PUBLISHED, SHORT, Schedule, fine_tune

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "PROTOCOLS",
    "DetectionTable",
    "Protocol",
    "boxes_of",
    "claims",
    "detection_rows",
    "paper_values",
    "pretrained_table",
    "recorded",
    "renderers",
    "retrained_table",
    "show_differences",
    "show_precision",
]

#: Name of the rows that are no fusion.
INFRARED, VISIBLE = "Infrared", "Visible"
OURS = "RefineFuse"

#: How a row's mean over the classes is called.
ALL = "all"

METRICS = ("AP50", "AP")


class Protocol(NamedTuple):
    """How detectors are retrained and tested.

    Attributes
    ----------
    dataset : str
    classes : tuple of str
        Those that are scored; detectors learn all classes of the data set.
    weights : str
        Where they start from.
    schedule : Schedule
    blocks : int
        Into how many blocks the pairs are divided, each of which is tested once; 0: tested is the
        part "test" of the data set's own division, and "val" chooses the best epoch.
    seeds : tuple of int
    rows : tuple of str
        Labels of the rows, in the order in which they are trained.
    """

    dataset: str
    classes: tuple[str, ...]
    weights: str
    schedule: Schedule
    blocks: int
    seeds: tuple[int, ...]
    rows: tuple[str, ...]


#: Rows of the paper's Table 4, those that matter most first.
_TABLE_4 = (
    *(INFRARED, VISIBLE, "DenseFuse", "SeAFusion", OURS, "MST", "U2Fusion", "SDNet", "LRRNet"),
    *("CDDFuse", "SwinFusion", "RFN-Nest", "EMMA"),
)

_STREET = ("person", "bicycle", "car")

#: The scenes that are built in; what stands here for the paper's data; and the paper's own.
PROTOCOLS = {
    "sample": Protocol("sample", _STREET, "yolov5n", SHORT, 2, (0,), _TABLE_4[:5]),
    "msrs": Protocol("msrs", _STREET, "yolov5n", SHORT, 3, (0, 1), _TABLE_4),
    "m3fd": Protocol(
        "m3fd_detection", ("People", "Car", "Bus"), "yolov5s", PUBLISHED, 0, (0,), _TABLE_4
    ),
}


#: Methods that take too long for this table.
SLOW = ("jsr", "jsrsd")


def detection_rows() -> tuple[Row, ...]:
    """Return a row per method and set of weights, those of the paper's Table 4 first."""
    printed = list(paper_values()["row"].unique())
    rows = []
    for name, spec in registry().items():
        paper = spec.title if spec.title in printed else ""
        slow = "learns a dictionary from each pair, for more than a minute" if name in SLOW else ""
        rows.append(Row(spec.title, paper, name, slow=slow))
        retrained = f"{name}_retrained"
        if any(
            retrained == file.name for one in spec.configurations.values() for file in one.weights
        ):
            instead = f"the authors' weights of {spec.title}"
            options = {"weights": retrained}
            rows.append(Row(f"{spec.title}, retrained", paper, name, options, orientation=instead))
    places = {title: place for place, title in enumerate(printed)}
    return tuple(sorted(rows, key=lambda row: places.get(row.paper, len(places))))


def paper_values() -> pd.DataFrame:
    """Return the paper's Table 4, tidy: row, class, metric ("AP50" or "AP"), paper, in percent.

    The last class is `ALL`. Classes are called as those of COCO.
    """
    printed = pd.read_csv(package_data("paper_tables/refinefuse_table_04_detection.csv"))
    columns = {
        f"{theirs}_{end}": (ours, metric)
        for theirs, ours in (("people", "person"), ("car", "car"), ("bus", "bus"))
        for end, metric in (("ap50", "AP50"), ("ap", "AP"))
    } | {"map50": (ALL, "AP50"), "map": (ALL, "AP")}
    tidy = printed.melt("method", var_name="column", value_name="paper")
    pairs = [columns[name] for name in tidy["column"]]
    return pd.DataFrame(
        {
            "row": tidy["method"],
            "class": [label for label, _ in pairs],
            "metric": [metric for _, metric in pairs],
            "paper": tidy["paper"],
        }
    )


# ---------------------------------------------------------------- pictures


def renderers(
    rows: Iterable[str] | None = None,
    *,
    dataset: str,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> tuple[dict[str, Renderer], dict[str, str], dict[str, Method]]:
    """Return what makes the pictures of each row.

    Parameters
    ----------
    rows : iterable of str, optional
        Labels; by default the sources and all of `detection_rows`.
    dataset : str
        What is to be fused.
    weights_dir, device
        As of `fusionlib.create`.

    Returns
    -------
    renderers : dict of str to Renderer
    missing : dict of str to str
        Label -> why not, and what to do.
    methods : dict of str to Method
        Of those that fuse.
    """
    every = detection_rows()
    wanted = [INFRARED, VISIBLE, *(row.label for row in every)] if rows is None else list(rows)
    for label in wanted:
        if label not in (INFRARED, VISIBLE, *(row.label for row in every)):
            raise unknown("row of Table 4", label, [INFRARED, VISIBLE, *(r.label for r in every)])
    chosen = [row for row in every if row.label in wanted]
    slow = {row.label: row.slow for row in chosen if row.slow}
    created, missing = available(
        [row for row in chosen if not row.slow], dataset, weights_dir=weights_dir, device=device
    )
    methods = {label: one for label, one in created.items() if isinstance(one, Method)}
    found = {
        INFRARED: Renderer(lambda pair: pair.ir, {"source": "infrared"}),
        VISIBLE: Renderer(lambda pair: pair.vis, {"source": "visible"}),
    } | {
        label: Renderer(
            method.fuse_pair, {**method.identity._asdict(), "code": results.score_hash()}
        )
        for label, method in methods.items()
    }
    return {label: found[label] for label in wanted if label in found}, slow | missing, methods


def _layouts(
    found: Mapping[str, Renderer], pairs: Dataset[Pair] | Sequence[Pair], folder: Path
) -> dict[str, Layout]:
    """Render the pictures of each row, once: they are kept."""
    layouts = {}
    for label, renderer in found.items():
        key = hashlib.sha256(repr(sorted(renderer.facts.items())).encode()).hexdigest()[:8]
        layouts[label] = export(renderer, pairs, folder / f"{_slug(label)}-{key}")
    return layouts


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in label.lower()).strip("_")


def _annotated(
    dataset: str, data_dir: str | os.PathLike[str] | None, limit: int | None
) -> Sequence[Pair] | Dataset[Pair]:
    """Open a data set; of the built-in one the pairs that have boxes."""
    pairs = load_dataset(dataset, data_dir=data_dir, limit=limit)
    if dataset != "sample":
        return pairs
    kept = [place for place, pair in enumerate(pairs) if pair.boxes is not None]
    return Dataset(pairs.name, pairs.card, [pairs.names[i] for i in kept], lambda i: pairs[kept[i]])


# ---------------------------------------------------------------- tables


@dataclass(frozen=True)
class DetectionTable:
    """A measured part of Table 4.

    Attributes
    ----------
    summary : DataFrame
        Columns row, class (the last is "all", the mean), metric ("AP50", "AP"), n (pictures),
        objects, mean, ci_low, ci_high, in percent, spread (between the random starts: the largest
        less the smallest), paper.
    differences : DataFrame
        RefineFuse less each other row: row, class, metric, difference, ci_low, ci_high, spread,
        paper, verdict.
    missing : mapping of str to str
        Row of the paper -> what would fill it.
    facts : mapping
        The provenance.
    runs : DataFrame or None
        Of retraining: row, block, seed, epoch and its losses.
    boxes : DataFrame or None
        Without retraining: row, pair, class, score and corners of the boxes that one would show.
    """

    summary: pd.DataFrame
    differences: pd.DataFrame
    missing: Mapping[str, str]
    facts: Mapping[str, Any]
    runs: pd.DataFrame | None = None
    boxes: pd.DataFrame | None = None


def pretrained_table(
    folder: str | os.PathLike[str],
    protocol: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    limit: int | None = None,
) -> DetectionTable:
    """Let a detector that knows COCO look at sources and fused images, and save what it finds.

    Parameters
    ----------
    folder : path
        Receives the results; fused images are kept in ``cache/`` beside it.
    protocol : str
        A key of `PROTOCOLS`, of which data, classes and detector count.
    data_dir, weights_dir, device, seed, limit
        As a notebook's parameters. The seed is that of the intervals.

    Raises
    ------
    UnknownName
        If there is no such protocol, or the detector does not know one of the classes.
    WeightsNotFound
        If the detector's weights are not there.
    FusionError
        If the data are not there, or a file cannot be written.
    """
    started = time.perf_counter()
    folder, plan = Path(folder), _protocol(protocol)
    detector = create_detector(plan.weights, weights_dir=weights_dir, device=device)
    pairs = _annotated(plan.dataset, data_dir, limit)
    found, missing, methods = renderers(
        dataset=plan.dataset, weights_dir=weights_dir, device=device
    )
    layouts = _layouts(found, pairs, _cache(folder, plan) / f"pairs-{len(pairs)}")
    matches: dict[str, list[Matches]] = {}
    truths: dict[str, Truth] = {}
    boxes: list[dict[str, Any]] = []
    for label, layout in layouts.items():
        examples = of_classes(layout.part(EVERYTHING), plan.classes)
        truths, detections = search(detector, examples, plan.classes, title=label)
        matches[label] = [match(truths, detections, plan.classes)]
        _, visible = search(
            detector, examples, plan.classes, thresholds=TO_SEE, title=f"{label}, boxes"
        )
        boxes += _listed(label, visible, plan.classes)
    facts = _facts(started, plan, detector, methods, device=device, seed=seed, limit=limit)
    return _save(folder, matches, truths, missing, facts, seed, boxes=pd.DataFrame(boxes))


def retrained_table(
    folder: str | os.PathLike[str],
    protocol: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    limit: int | None = None,
    rows: Sequence[str] | None = None,
) -> DetectionTable:
    """Fine-tune a detector on each row's pictures, test it on others, and save the comparison.

    Every row has the same pictures, schedule, blocks and seeds. A training that is finished is
    not done again; one that was stopped continues.

    Parameters
    ----------
    folder : path
        Receives the results; fused images and trained detectors are kept in ``cache/`` beside it.
    protocol : str
        A key of `PROTOCOLS`; "m3fd" is the paper's own, and needs its data set.
    data_dir, weights_dir, device, seed, limit
        As a notebook's parameters. The seed is added to those of the protocol.
    rows : sequence of str, optional
        Only these.

    Raises
    ------
    UnknownName
        If there is no such protocol or row.
    WeightsNotFound
        If the weights to start from are not there.
    FusionError
        If the data are not there, or a file cannot be written.
    """
    started = time.perf_counter()
    folder, plan = Path(folder), _protocol(protocol)
    start = create_detector(plan.weights, weights_dir=weights_dir, device=device)
    pairs = _annotated(plan.dataset, data_dir, limit)
    found, missing, methods = renderers(
        plan.rows if rows is None else rows,
        dataset=plan.dataset,
        weights_dir=weights_dir,
        device=device,
    )
    cache = _cache(folder, plan)
    layouts = _layouts(found, pairs, cache / f"pairs-{len(pairs)}")
    names = class_names(pairs)
    matches: dict[str, list[Matches]] = {label: [] for label in layouts}
    truths: dict[str, Truth] = {}
    runs = []
    order = pairs.names if isinstance(pairs, Dataset) else [pair.name for pair in pairs]
    pictures = {label: layout.digest() for label, layout in layouts.items()}
    for number in (seed + offset for offset in plan.seeds):
        for label, layout in layouts.items():
            truths = {}
            detections: dict[str, Detections] = {}
            for block, division in enumerate(_divisions(plan, layout, order), 1):
                detector, history = _trained(
                    cache / "runs", start, pictures[label], label, division, names, plan, number,
                    device,
                )  # fmt: skip
                tested = of_classes(division["test"], plan.classes)
                some = search(detector, tested, plan.classes, progress=False)
                truths |= some[0]
                detections |= some[1]
                runs.append(history.assign(row=label, block=block, seed=number))
            matches[label].append(match(truths, detections, plan.classes))
    how = {"schedule": repr(plan.schedule), "blocks": plan.blocks, "seeds": [*plan.seeds]}
    facts = _facts(started, plan, start, methods, device=device, seed=seed, limit=limit, **how)
    every = pd.concat(runs, ignore_index=True)
    every = every[["row", "block", "seed", *every.columns[:-3]]]
    return _save(folder, matches, truths, missing, facts, seed, runs=every)


def _cache(folder: Path, plan: Protocol) -> Path:
    return folder.parent / "cache" / "detection" / plan.dataset


def _listed(
    label: str, found: Mapping[str, Detections], names: Sequence[str]
) -> list[dict[str, Any]]:
    """List the boxes of a row's pictures."""
    return [
        {"row": label, "pair": pair, "class": box.label, "score": round(float(score), 3)}
        | {side: round(getattr(box, side), 1) for side in ("x0", "y0", "x1", "y1")}
        for pair, some in found.items()
        for box, score in zip(some.named(names), some.scores, strict=True)
    ]


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise unknown("protocol of detection", name, PROTOCOLS)
    return PROTOCOLS[name]


def _divisions(
    protocol: Protocol, layout: Layout, names: Sequence[str]
) -> list[dict[str, list[Example]]]:
    """Divide the pictures of a row: one division per block, or the data set's own."""
    by_name = {example.name: example for example in layout.part(EVERYTHING)}
    examples = [by_name[name] for name in names]
    if protocol.blocks:
        every = [parts_by_block(names, i + 1, protocol.blocks) for i in range(protocol.blocks)]
    else:
        every = [dataset_parts(protocol.dataset)]
    return [
        {part: [e for e in examples if parts[e.name] == part] for part in ("train", "val", "test")}
        for parts in every
    ]


def _trained(
    folder: Path,
    start: Detector,
    pictures: str,
    label: str,
    division: Mapping[str, Sequence[Example]],
    names: Sequence[str],
    protocol: Protocol,
    seed: int,
    device: str,
) -> tuple[Detector, pd.DataFrame]:
    """Fine-tune a detector, or take the one that was fine-tuned so before."""
    decides = {
        "pictures": pictures,
        "train": [example.name for example in division["train"]],
        "val": [example.name for example in division["val"]],
        "start": digest(start.network.state_dict()),
        "schedule": repr(protocol.schedule),
        "seed": seed,
        "code": _training_code(),
    }
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    path = folder / f"{_slug(label)}-{key}.safetensors"
    losses = path.with_suffix(".csv")
    if not (path.is_file() and losses.is_file()):
        checkpoint = path.with_suffix(".checkpoint")
        tuned = fine_tune(
            start,
            division["train"],
            names,
            protocol.schedule,
            validation=division["val"],
            seed=seed,
            checkpoint=checkpoint,
            device=device,
        )
        write_text(losses, tuned.history.to_csv(index=False, float_format="%.7g"))
        save_detector(path, tuned.detector, {**tuned.facts, "row": label})
        checkpoint.unlink()
    return create_detector(path, device=device), pd.read_csv(losses)


def _training_code() -> str:
    """Hash the source that decides what a detector learns."""
    package = Path(__file__).resolve().parent
    files = [package / f"{name}.py" for name in ("augmentation", "loss", "training")]
    files.append(package.parent / "networks" / "yolov5.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _facts(
    started: float,
    protocol: Protocol,
    detector: Detector,
    methods: Mapping[str, Method],
    **run: Any,
) -> dict[str, Any]:
    return results.provenance(
        methods=methods,
        data={protocol.dataset: data_hash(protocol.dataset)},
        detector={
            "name": protocol.weights,
            "sha256": digest(detector.network.state_dict()),
            "input": detector.input,
        },
        seconds=time.perf_counter() - started,
        **run,
    )


def _save(
    folder: Path,
    matches: Mapping[str, Sequence[Matches]],
    truths: Mapping[str, Truth],
    missing: Mapping[str, str],
    facts: Mapping[str, Any],
    seed: int,
    *,
    runs: pd.DataFrame | None = None,
    boxes: pd.DataFrame | None = None,
) -> DetectionTable:
    """Compute precision with intervals, compare with the print and save."""
    scores = {label: _score(some, seed) for label, some in matches.items()}
    names = (*next(iter(matches.values()))[0].names, ALL)
    counts = pd.Series([box.label for one in truths.values() for box in one.boxes]).value_counts()
    titles = {row.label: row.paper for row in detection_rows()}
    titles |= {INFRARED: INFRARED, VISIBLE: VISIBLE}
    printed = _Printed(titles)
    summary = [
        {"row": label, "class": name, "metric": metric}
        | {"n": len(truths), "objects": int(counts.sum() if name == ALL else counts.get(name, 0))}
        | score.at(c, m)
        | {"paper": printed.value(label, name, metric)}
        for label, score in scores.items()
        for c, name in enumerate(names)
        for m, metric in enumerate(METRICS)
    ]
    differences = [
        {"row": label, "class": name, "metric": metric}
        | scores[OURS].less(score).at(c, m)
        | {"paper": printed.value(OURS, name, metric) - printed.value(label, name, metric)}
        for label, score in scores.items()
        for c, name in enumerate(names)
        for m, metric in enumerate(METRICS)
        if label != OURS and OURS in scores
    ]
    apart = pd.DataFrame(differences, columns=_DIFFERENCES[:-1])
    apart["verdict"] = [
        _verdict(low, high) for low, high in zip(apart["ci_low"], apart["ci_high"], strict=True)
    ]
    apart = apart.rename(columns={"mean": "difference"})
    unmeasured = {
        row: missing.get(row, "")
        for row in paper_values()["row"].unique()
        if row not in {titles[label] for label in scores}
    }
    table = DetectionTable(
        pd.DataFrame(summary), apart, unmeasured, {**facts, "missing": unmeasured}, runs, boxes
    )
    # A column called "paper" would make it a table with verdicts on differences from the print.
    plain = table.summary.rename(columns={"paper": "printed"})
    results.save(folder, summary=plain, facts=table.facts)
    write_text(folder / "differences.csv", apart.to_csv(index=False, float_format="%.8g"))
    for name, frame in (("runs", runs), ("boxes", boxes)):
        if frame is not None:
            write_text(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.8g"))
    return table


#: Columns of differences as they are computed.
_DIFFERENCES = ["row", "class", "metric", "mean", "ci_low", "ci_high", "spread", "paper", "verdict"]


class _Score(NamedTuple):
    """Average precision in percent: per seed (seeds, classes, 2) and of resampled pictures."""

    values: np.ndarray
    draws: np.ndarray

    def less(self, other: _Score) -> _Score:
        """Subtract, for the same seeds and the same pictures."""
        return _Score(self.values - other.values, self.draws - other.draws)

    def at(self, place: int, metric: int) -> dict[str, float]:
        values = self.values[:, place, metric]
        low, high = interval(self.draws[:, place, metric])
        return {
            "mean": float(values.mean()),
            "ci_low": float(low),
            "ci_high": float(high),
            "spread": float(np.ptp(values)),
        }


def _score(matches: Sequence[Matches], seed: int) -> _Score:
    """Compute precision; that of resampled pictures is the mean over the seeds of training."""
    values = np.stack([one.average_precision() for one in matches])
    draws = np.mean([mean_over_classes(one.bootstrap(DRAWS, seed)) for one in matches], axis=0)
    return _Score(100 * mean_over_classes(values), 100 * draws)


class _Printed:
    """The paper's values for our rows; NaN where it has none."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._values = paper_values().set_index(["row", "class", "metric"])["paper"].to_dict()

    def value(self, label: str, name: str, metric: str) -> float:
        name = {"People": "person"}.get(name, name.lower())
        return self._values.get((self._titles[label], name, metric), float("nan"))


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return ""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference"


def recorded(table: str) -> DetectionTable:
    """Return a part of Table 4 as the committed run of profile "paper" measured it.

    Parameters
    ----------
    table : {"refinefuse_04", "refinefuse_04_pretrained", "refinefuse_04_scenes"}

    Raises
    ------
    FusionError
        If its results are not there: they are part of the repository, not of the package.
    """
    folder = Path(__file__).resolve().parent.parent.parent / "results" / "paper" / table
    try:
        summary, differences = (
            pd.read_csv(folder / f"{name}.csv") for name in ("summary", "differences")
        )
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise FusionError(
            f"{table} has no recorded run in {folder}. Work in a clone of the repository, or "
            "measure it: fusionlib reproduce --profile paper --only 11."
        ) from error
    runs, boxes = (
        pd.read_csv(file) if (file := folder / f"{name}.csv").is_file() else None
        for name in ("runs", "boxes")
    )
    return DetectionTable(
        summary.rename(columns={"printed": "paper"}),
        differences,
        facts.get("missing", {}),
        facts,
        runs,
        boxes,
    )


# ---------------------------------------------------------------- showing

#: Sign of a verdict in a table.
SIGNS = {"better": "✓", "worse": "✗", "no difference": "~", "": ""}


def show_precision(table: DetectionTable, metric: str, caption: str = "") -> Styler:
    """Style average precision as a table: rows, a column per class, intervals below.

    Parameters
    ----------
    table : DetectionTable
    metric : {"AP50", "AP"}
    caption : str
        Shown above the table.
    """
    part = table.summary[table.summary["metric"] == metric]
    shown = pd.DataFrame(
        {
            "row": part["row"],
            "class": part["class"],
            "cell": [_precision_cell(one) for one in part.to_dict("records")],
        }
    )
    return _wide(shown, part, caption, f"precision-{metric}")


def _precision_cell(one: Mapping[Hashable, Any]) -> str:
    lines = [f"{one['mean']:.1f}", f"{one['ci_low']:.1f} to {one['ci_high']:.1f}"]
    if not pd.isna(one["paper"]):
        lines.append(f"paper {one['paper']:.1f}")
    return "\n".join(lines)


def _wide(shown: pd.DataFrame, part: pd.DataFrame, caption: str, identifier: str) -> Styler:
    """Spread cells over columns by class; the best mean of each is bold."""
    order = {name: list(dict.fromkeys(shown[name])) for name in ("row", "class")}
    wide = shown.pivot(index="row", columns="class", values="cell").loc[
        order["row"], order["class"]
    ]
    means = part.pivot(index="row", columns="class", values="mean").loc[
        order["row"], order["class"]
    ]
    best = means.round(1).eq(means.round(1).max())
    styler = wide.rename_axis(index=None, columns=None).style.set_caption(caption)
    styler.apply(lambda _: best.map({True: "font-weight: bold", False: ""}.get), axis=None)
    lines = {"selector": "td", "props": "white-space: pre; text-align: right; padding: 0.1em 0.8em"}
    names = {"selector": "th.row_heading", "props": "text-align: left; white-space: nowrap"}
    return styler.set_table_styles([lines, names]).set_uuid(identifier)  # type: ignore[list-item]


def show_differences(table: DetectionTable, caption: str = "") -> Styler:
    """Style what RefineFuse's mean over the classes is above or below each other row's."""
    part = table.differences[table.differences["class"] == ALL]
    cells = {
        metric: [_difference_cell(one) for one in part[part["metric"] == metric].to_dict("records")]
        for metric in METRICS
    }
    rows = [f"{OURS} − {row}" for row in dict.fromkeys(part["row"])]
    return show_lines(cells, rows, caption)


def _difference_cell(one: Mapping[Hashable, Any]) -> str:
    lines = [
        f"{SIGNS[one['verdict']]} {_signed(one['difference'])}",
        f"{_signed(one['ci_low'])} to {_signed(one['ci_high'])}",
    ]
    if not pd.isna(one["paper"]):
        lines.append(f"paper {_signed(one['paper'])}")
    return "\n".join(lines)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def claims(table: DetectionTable) -> pd.DataFrame:
    """Judge what the paper says of Table 4, by the intervals of the mean over the classes.

    Returns
    -------
    DataFrame
        Columns claim, metric, verdict: "holds" if RefineFuse is better than every row that the
        claim names and no interval holds 0; "refuted" if it is worse than one of them; else
        "not shown", or "not measured"; and by, the rows that decide.
    """
    part = table.differences[table.differences["class"] == ALL]
    fusions = [row for row in dict.fromkeys(part["row"]) if row not in (INFRARED, VISIBLE)]
    named = {
        "detection improves with RefineFuse, over infrared and visible": [INFRARED, VISIBLE],
        "RefineFuse is the best of all fusion methods": fusions,
    }
    found = []
    for claim, rows in named.items():
        for metric in METRICS:
            verdicts = part[(part["metric"] == metric) & part["row"].isin(rows)]
            by = {v: list(some["row"]) for v, some in verdicts.groupby("verdict")}
            if not by:
                verdict, decide = "not measured", []
            elif by.keys() == {"better"}:
                verdict, decide = "holds", by["better"]
            elif "worse" in by:
                verdict, decide = "refuted", by["worse"]
            else:
                verdict, decide = "not shown", by.get("no difference", [])
            found.append(
                {"claim": claim, "metric": metric, "verdict": verdict, "by": ", ".join(decide)}
            )
    return pd.DataFrame(found)


def boxes_of(table: DetectionTable, row: str, pair: str) -> list[Box]:
    """Return the boxes that one would show of a pair's picture, for `figures.picture_wall`."""
    if table.boxes is None:
        return []
    some = table.boxes[(table.boxes["row"] == row) & (table.boxes["pair"] == pair)]
    corners = some[["x0", "y0", "x1", "y1"]].to_numpy()
    return [Box(name, *c) for name, c in zip(some["class"], corners.tolist(), strict=True)]
