"""RefineFuse's Table 4: does fusing help a detector?

Twice, as in the paper: a detector that was trained on COCO looks at the sources and at the fused
images as it is, and it is fine-tuned on each of them. The paper's data are M3FD's; here they are
those of MSRS that there are, divided into blocks, each of which is tested by a detector that
learnt from the others.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fusionlib.datasets import dataset_parts, load_dataset
from fusionlib.errors import unknown
from fusionlib.methods import Method, registry
from fusionlib.pairs import Box
from fusionlib.weights import digest

from .. import results
from ..experiments import available
from ..rows import Row, data_hash, with_retrained
from .average_precision import Matches, annotated, match, search
from .detector import TO_SEE, Detections, Detector, create_detector
from .layout import EVERYTHING, PARTS, Example, export, facts_of, parts_by_block
from .report import INFRARED, OURS, VISIBLE, DetectionTable, paper_table, save_table
from .training import PUBLISHED, SHORT, Schedule, Task, fine_tune


class Protocol(NamedTuple):
    """How detectors are retrained and tested.

    Of the data set's classes, all are learnt and `classes` are scored. Its pairs are divided into
    so many blocks, each of which is tested once; 0: tested is the part "test" of its own division,
    and "val" chooses the best epoch. Rows are trained in their order.
    """

    dataset: str
    classes: tuple[str, ...]
    weights: str
    schedule: Schedule
    blocks: int
    seeds: tuple[int, ...]
    rows: tuple[str, ...]


#: Rows that are retrained everywhere, then the others of the paper's Table 4.
_MAIN = (INFRARED, VISIBLE, "DenseFuse", "SeAFusion", OURS)
_MORE = ("MST", "U2Fusion", "SDNet", "LRRNet", "CDDFuse", "SwinFusion", "RFN-Nest", "EMMA")
_STREET = ("person", "bicycle", "car")

#: The scenes that are built in; what stands here for the paper's data; and the paper's own.
PROTOCOLS = {
    "sample": Protocol("sample", _STREET, "yolov5n", SHORT, 2, (0,), _MAIN),
    "msrs": Protocol("msrs", _STREET, "yolov5n", SHORT, 3, (0, 1), _MAIN),
    "m3fd": Protocol(
        "m3fd_detection", ("People", "Car", "Bus"), "yolov5s", PUBLISHED, 0, (0,), _MAIN + _MORE
    ),
}

#: Methods that take too long for this table.
SLOW = ("jsr", "jsrsd")

#: Rows that are no fusion, and the role of their pictures.
PLAIN = {INFRARED: "ir", VISIBLE: "vis"}


def detection_rows() -> tuple[Row, ...]:
    """Return a row per method and set of weights, those of the paper's Table 4 first."""
    printed = list(paper_table().index)
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


def sources(
    rows: Sequence[str] | None = None, *, dataset: str, **how: Any
) -> tuple[dict[str, Method | str], dict[str, str]]:
    """Return what makes the pictures of each row, or of those with these labels, for `render`.

    And of the rows that cannot be had, why, and what to do. Methods are created with `how`:
    weights_dir, device.
    """
    every = {row.label: row for row in detection_rows()}
    known = [*PLAIN, *every]
    wanted = known if rows is None else list(rows)
    for label in wanted:
        if label not in known:
            raise unknown("row of Table 4", label, known)
    chosen = [row for row in every.values() if row.label in wanted]
    missing = {row.label: row.slow for row in chosen if row.slow}
    fast = [row for row in chosen if not row.slow]
    methods, others = available(fast, dataset, **how)
    found: dict[str, Any] = {**PLAIN, **methods}
    return {label: found[label] for label in wanted if label in found}, missing | others


# ---------------------------------------------------------------- tables


class _Run:
    """What both tables begin with: the plan, its detector and pairs, and what pictures are of."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        protocol: str,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        weights_dir: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        self.started, self.folder, self.seed = time.perf_counter(), Path(folder), seed
        self.asked: Any = {"device": device, "seed": seed, "limit": limit}
        if protocol not in PROTOCOLS:
            raise unknown("protocol of detection", protocol, PROTOCOLS)
        self.plan = plan = PROTOCOLS[protocol]
        self.cache = self.folder.parent / "cache" / "detection" / plan.dataset
        self.made: Any = {"weights_dir": weights_dir, "device": device}
        self.detector = create_detector(plan.weights, **self.made)
        self.pairs = load_dataset(plan.dataset, data_dir=data_dir, limit=limit)

    def choose(self, rows: Sequence[str] | None = None) -> None:
        """Take rows: all, or those with these labels."""
        self.found, self.missing = sources(rows, dataset=self.plan.dataset, **self.made)

    def pictures(self) -> dict[str, tuple[Example, ...]]:
        """Render the pictures of each row, once: they are kept."""
        pictures = {}
        for label, source in self.found.items():
            place = self.cache / f"{len(self.pairs)}-pairs"
            place /= f"{_slug(label)}-{_hash(sorted(facts_of(source).items()))[:8]}"
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # not annotated
                pictures[label] = export(source, self.pairs, place).parts[EVERYTHING]
        return pictures

    def save(
        self,
        matches: Mapping[str, Sequence[Matches]],
        truth: Mapping[str, Any],
        papers: Mapping[str, str],
        how: Mapping[str, Any],
        **frames: pd.DataFrame,
    ) -> DetectionTable:
        """Save the table with its provenance, and how else it was made."""
        name, start = self.plan.dataset, self.detector
        begins = digest(start.network.state_dict())
        facts = results.provenance(
            methods={label: one for label, one in self.found.items() if isinstance(one, Method)},
            data={name: data_hash(name)},
            detector={"name": self.plan.weights, "sha256": begins, "input": start.input},
            seconds=time.perf_counter() - self.started,
            missing=self.missing,
            **self.asked,
            **how,
        )
        return save_table(self.folder, matches, truth, papers, facts, **frames)


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in label.lower()).strip("_")


def _hash(what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def pretrained_table(
    folder: str | os.PathLike[str], protocol: str, **parameters: Any
) -> DetectionTable:
    """Let a detector that knows COCO look at sources and fused images, and save what it finds.

    Parameters
    ----------
    folder
        Receives the results; fused images are kept in ``cache/`` beside it.
    protocol
        A key of `PROTOCOLS`, of which data, classes and detector count.
    **parameters
        Those of a notebook: data_dir, weights_dir, device, limit, and seed, that of the intervals.

    Raises
    ------
    UnknownName
        If there is no such protocol, or the detector does not know one of the classes.
    WeightsNotFound
        If the detector's weights are not there.
    FusionError
        If the data are not there, or a file cannot be written.
    """
    run = _Run(folder, protocol, **parameters)
    run.choose()
    classes = run.plan.classes
    matches: dict[str, list[Matches]] = {}
    rows = []
    for label, examples in run.pictures().items():
        there, found = search(run.detector, examples, classes, title=label)
        truth = annotated(there, classes)
        matches[label] = [match(truth, found)]
        title = f"{label}, boxes"
        _, seen = search(run.detector, examples, classes, thresholds=TO_SEE, title=title)
        rows += [
            (label, pair, box.label, round(float(score), 3), *(round(x, 1) for x in box[1:]))
            for pair, some in seen.items()
            for box, score in zip(some.named(classes), some.scores, strict=True)
        ]
    boxes = pd.DataFrame(rows, columns=["row", "pair", "class", "score", *Box._fields[1:]])
    # The paper prints no numbers of this, only pictures.
    return run.save(matches, truth, {}, {}, boxes=boxes)


def retrained_table(
    folder: str | os.PathLike[str],
    protocol: str,
    *,
    rows: Sequence[str] | None = None,
    **parameters: Any,
) -> DetectionTable:
    """Fine-tune a detector on each row's pictures, test it on others, and save the comparison.

    Every row has the same pictures, schedule, blocks and seeds. A training that is finished is
    not done again; one that was stopped continues. Parameters and errors are as of
    `pretrained_table`; the seed is added to those of the protocol, of which "m3fd" is the paper's
    own. Others than its rows may be named; those of the paper that are left out are listed as
    missing.
    """
    run = _Run(folder, protocol, **parameters)
    plan, papers = run.plan, {row.label: row.paper for row in detection_rows()}
    papers |= {row: row for row in PLAIN}
    wanted = plan.rows if rows is None else tuple(rows)
    every = [*wanted, *(label for label, paper in papers.items() if paper)]
    run.choose(every)
    more = (
        f"takes {max(plan.blocks, 1) * len(plan.seeds)} more trainings: name it, and those that it "
        "is to be compared with, in `rows` of `retrained_table`"
    )
    run.missing |= {label: more for label in run.found if label not in wanted}
    run.found = {label: one for label, one in run.found.items() if label in wanted}
    pictures = run.pictures()
    matches: dict[str, list[Matches]] = {label: [] for label in pictures}
    boxes: dict[str, Sequence[Box]] = {}
    histories = []
    for seed in (run.seed + offset for offset in plan.seeds):
        for label, examples in pictures.items():
            detections: dict[str, Detections] = {}
            for block, parts in enumerate(_divisions(plan, examples, run.pairs.names), 1):
                detector, history = _trained(run, label, parts, seed)
                there, some = search(detector, parts["test"], plan.classes)
                boxes, detections = boxes | there, detections | some
                place = pd.DataFrame({"row": label, "block": block, "seed": seed}, history.index)
                histories.append(place.join(history))
            matches[label].append(match(annotated(boxes, plan.classes), detections))
    how = {"schedule": repr(plan.schedule), "blocks": plan.blocks, "seeds": [*plan.seeds]}
    runs = pd.concat(histories, ignore_index=True)
    return run.save(matches, annotated(boxes, plan.classes), papers, how, runs=runs)


def _divisions(
    plan: Protocol, examples: Sequence[Example], order: Sequence[str]
) -> list[dict[str, list[Example]]]:
    """Divide the pictures of a row: one division per block, or the data set's own."""
    examples = sorted(examples, key=lambda one: order.index(one.name))
    names = [example.name for example in examples]
    every = [parts_by_block(names, i + 1, plan.blocks) for i in range(plan.blocks)]
    return [
        {part: [e for e in examples if parts[e.name] == part] for part in PARTS}
        for parts in every or [dataset_parts(plan.dataset)]
    ]


def _trained(
    run: _Run, label: str, parts: Mapping[str, Sequence[Example]], seed: int
) -> tuple[Detector, pd.DataFrame]:
    """Fine-tune a detector, or take the one that was fine-tuned so before."""
    names = run.pairs.card.classes if run.pairs.card else ()
    task = Task(run.detector, parts["train"], names, run.plan.schedule, parts["val"], seed)
    path = run.cache / "runs" / f"{_slug(label)}-{_hash(task.identity())[:16]}.safetensors"
    if not path.is_file():
        fine_tune(task, path)
    history = pd.read_csv(path.with_suffix(".losses.csv"))
    return create_detector(path, device=run.detector.device), history
