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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fusionlib.datasets import dataset_parts, load_dataset
from fusionlib.errors import unknown
from fusionlib.files import write_text
from fusionlib.methods import Method, registry
from fusionlib.pairs import Dataset, Pair
from fusionlib.weights import digest

from .. import results
from ..experiments import available
from ..rows import Row, data_hash, with_retrained
from .average_precision import Matches, Truth, match, of_classes, search
from .detector import TO_SEE, Detections, Detector, create_detector, save_detector
from .layout import EVERYTHING, Example, Layout, Renderer, class_names, export, parts_by_block
from .report import INFRARED, OURS, VISIBLE, DetectionTable, paper_values, save_table
from .training import PUBLISHED, SHORT, Schedule, fine_tune

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "detection_rows",
    "pretrained_table",
    "renderers",
    "retrained_table",
]


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


#: Rows of the paper's Table 4, those that are retrained everywhere first.
_MAIN = (INFRARED, VISIBLE, "DenseFuse", "SeAFusion", OURS)
_TABLE_4 = (
    *(*_MAIN, "MST", "U2Fusion", "SDNet", "LRRNet"),
    *("CDDFuse", "SwinFusion", "RFN-Nest", "EMMA"),
)

_STREET = ("person", "bicycle", "car")

#: The scenes that are built in; what stands here for the paper's data; and the paper's own.
PROTOCOLS = {
    "sample": Protocol("sample", _STREET, "yolov5n", SHORT, 2, (0,), _MAIN),
    "msrs": Protocol("msrs", _STREET, "yolov5n", SHORT, 3, (0, 1), _MAIN),
    "m3fd": Protocol(
        "m3fd_detection", ("People", "Car", "Bus"), "yolov5s", PUBLISHED, 0, (0,), _TABLE_4
    ),
}


#: Methods that take too long for this table.
SLOW = ("jsr", "jsrsd")


def detection_rows() -> tuple[Row, ...]:
    """Return a row per method and set of weights, those of the paper's Table 4 first."""
    printed = list(paper_values()["row"].unique())
    rows: list[Row] = []
    for name, spec in registry().items():
        paper = spec.title if spec.title in printed else ""
        if name in SLOW:
            slow = "learns a dictionary from each pair, for more than a minute"
            rows.append(Row(spec.title, paper, name, slow=slow))
        else:
            rows += with_retrained(spec.title, name, paper)
    places = {title: place for place, title in enumerate(printed)}
    return tuple(sorted(rows, key=lambda row: places.get(row.paper, len(places))))


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
    return save_table(
        folder,
        matches,
        truths,
        papers={},  # the paper prints no numbers of this, only pictures
        missing=missing,
        facts=facts,
        seed=seed,
        boxes=pd.DataFrame(boxes),
    )


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
        Labels of `detection_rows`; default: those of the protocol. The other rows of the paper
        are listed as missing.

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
    wanted = tuple(plan.rows if rows is None else rows)
    printed = [row.label for row in detection_rows() if row.paper]
    every, missing, methods = renderers(
        dict.fromkeys([*wanted, INFRARED, VISIBLE, *printed]),
        dataset=plan.dataset,
        weights_dir=weights_dir,
        device=device,
    )
    found = {label: renderer for label, renderer in every.items() if label in wanted}
    missing |= _not_trained(plan, [label for label in every if label not in found])
    methods = {label: method for label, method in methods.items() if label in found}
    cache = _cache(folder, plan)
    layouts = _layouts(found, pairs, cache / f"pairs-{len(pairs)}")
    bench = _Bench(cache / "runs", start, class_names(pairs), plan, device)
    matches: dict[str, list[Matches]] = {label: [] for label in layouts}
    truths: dict[str, Truth] = {}
    runs = []
    order = pairs.names if isinstance(pairs, Dataset) else [pair.name for pair in pairs]
    pictures = {label: layout.digest() for label, layout in layouts.items()}
    for number in (seed + offset for offset in plan.seeds):
        for label, layout in layouts.items():
            divisions = _divisions(plan, layout, order)
            truths, detections, histories = bench.tried(label, pictures[label], divisions, number)
            matches[label].append(match(truths, detections, plan.classes))
            runs += [history.assign(row=label, seed=number) for history in histories]
    how = {"schedule": repr(plan.schedule), "blocks": plan.blocks, "seeds": [*plan.seeds]}
    losses = pd.concat(runs, ignore_index=True)
    return save_table(
        folder,
        matches,
        truths,
        papers=_papers(),
        missing=missing,
        facts=_facts(started, plan, start, methods, device=device, seed=seed, limit=limit, **how),
        seed=seed,
        runs=losses[["row", "block", "seed", *losses.columns.drop(["row", "block", "seed"])]],
    )


def _not_trained(plan: Protocol, labels: Iterable[str]) -> dict[str, str]:
    """Say of rows that could be trained, but were not asked for, what would fill them."""
    trainings = max(plan.blocks, 1) * len(plan.seeds)
    more = (
        f"takes {trainings} more trainings: name it, and those that it is to be compared with, in "
        "`rows` of `retrained_table`"
    )
    return dict.fromkeys(labels, more)


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


class _Bench(NamedTuple):
    """What all detectors of a table have in common.

    Attributes
    ----------
    folder : Path
        Keeps those that are trained.
    start : Detector
        Where they start from.
    names : sequence of str
        The classes that they learn.
    protocol : Protocol
    device : str
    """

    folder: Path
    start: Detector
    names: Sequence[str]
    protocol: Protocol
    device: str

    def tried(
        self,
        label: str,
        pictures: str,
        divisions: Sequence[Mapping[str, Sequence[Example]]],
        seed: int,
    ) -> tuple[dict[str, Truth], dict[str, Detections], list[pd.DataFrame]]:
        """Train a detector for each division of a row's pictures, and test it on the rest."""
        truths: dict[str, Truth] = {}
        detections: dict[str, Detections] = {}
        histories = []
        classes = self.protocol.classes
        for block, division in enumerate(divisions, 1):
            detector, history = self.trained(label, pictures, division, seed)
            tested = of_classes(division["test"], classes)
            there, found = search(detector, tested, classes, progress=False)
            truths |= there
            detections |= found
            histories.append(history.assign(block=block))
        return truths, detections, histories

    def trained(
        self, label: str, pictures: str, division: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[Detector, pd.DataFrame]:
        """Fine-tune a detector, or take the one that was fine-tuned so before."""
        schedule = self.protocol.schedule
        decides = {
            "pictures": pictures,
            "train": [example.name for example in division["train"]],
            "val": [example.name for example in division["val"]],
            "start": digest(self.start.network.state_dict()),
            "schedule": repr(schedule),
            "seed": seed,
            "code": _training_code(),
        }
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
        path = self.folder / f"{_slug(label)}-{key}.safetensors"
        losses = path.with_suffix(".csv")
        if not (path.is_file() and losses.is_file()):
            checkpoint = path.with_suffix(".checkpoint")
            tuned = fine_tune(
                self.start,
                division["train"],
                self.names,
                schedule,
                validation=division["val"],
                seed=seed,
                checkpoint=checkpoint,
                device=self.device,
            )
            write_text(losses, tuned.history.to_csv(index=False, float_format="%.7g"))
            save_detector(path, tuned.detector, {**tuned.facts, "row": label})
            checkpoint.unlink()
        return create_detector(path, device=self.device), pd.read_csv(losses)


def _training_code() -> str:
    """Hash the source that decides what a detector learns."""
    package = Path(__file__).resolve().parent
    files = [package / f"{name}.py" for name in ("augmentation", "loss", "training", "yolov5")]
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


def _papers() -> dict[str, str]:
    """Return the paper's row of each of ours."""
    papers = {row.label: row.paper for row in detection_rows()}
    return papers | {INFRARED: INFRARED, VISIBLE: VISIBLE}
