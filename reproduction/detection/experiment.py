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
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fusionlib.datasets import dataset_parts, load_dataset
from fusionlib.errors import unknown
from fusionlib.files import write_text
from fusionlib.methods import Method, registry
from fusionlib.pairs import Box, Dataset, Pair
from fusionlib.weights import digest

from .. import results
from ..experiments import available
from ..rows import Row, data_hash, with_retrained
from .average_precision import Matches, annotated, match, search
from .detector import TO_SEE, Detections, Detector, create_detector, save_detector
from .layout import EVERYTHING, Example, Renderer, export, parts_by_block
from .report import INFRARED, OURS, VISIBLE, DetectionTable, paper_values, save_table
from .training import PUBLISHED, SHORT, VERSION, Schedule, fine_tune, fingerprint

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
    printed = list(paper_values().index.unique("row"))
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
    """Return what makes the pictures of each row: of all rows, or of those with these labels.

    Returns
    -------
    renderers : dict of str to Renderer
    missing : dict of str to str
        Label -> why not, and what to do.
    methods : dict of str to Method
        Of those that fuse.
    """
    every = {row.label: row for row in detection_rows()}
    known = [*SOURCES, *every]
    wanted = known if rows is None else list(rows)
    for label in wanted:
        if label not in known:
            raise unknown("row of Table 4", label, known)
    chosen = [row for label, row in every.items() if label in wanted]
    missing = {row.label: row.slow for row in chosen if row.slow}
    fast = [row for row in chosen if not row.slow]
    created, not_there = available(fast, dataset, weights_dir=weights_dir, device=device)
    methods = {label: one for label, one in created.items() if isinstance(one, Method)}
    found = {
        label: Renderer.of(SOURCES[label] if label in SOURCES else methods[label])
        for label in wanted
        if label in SOURCES or label in methods
    }
    return found, missing | not_there, methods


#: Rows that are no fusion, and the role of their pictures.
SOURCES = {INFRARED: "ir", VISIBLE: "vis"}


def _examples(
    found: Mapping[str, Renderer], pairs: Dataset[Pair], cache: Path
) -> dict[str, tuple[Example, ...]]:
    """Render the pictures of each row, once: they are kept."""
    examples = {}
    for label, renderer in found.items():
        key = hashlib.sha256(repr(sorted(renderer.facts.items())).encode()).hexdigest()[:8]
        place = cache / f"pairs-{len(pairs)}" / f"{_slug(label)}-{key}"
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # not annotated
            examples[label] = export(renderer, pairs, place).parts[EVERYTHING]
    return examples


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in label.lower()).strip("_")


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
    plan = _protocol(protocol)
    detector = create_detector(plan.weights, weights_dir=weights_dir, device=device)
    pairs = load_dataset(plan.dataset, data_dir=data_dir, limit=limit)
    found, missing, methods = renderers(
        dataset=plan.dataset, weights_dir=weights_dir, device=device
    )
    matches: dict[str, list[Matches]] = {}
    boxes: list[dict[str, Any]] = []
    for label, examples in _examples(found, pairs, _cache(folder, plan)).items():
        there, detections = search(detector, examples, plan.classes, title=label)
        truth = annotated(there, plan.classes)
        matches[label] = [match(truth, detections)]
        _, seen = search(
            detector, examples, plan.classes, thresholds=TO_SEE, title=f"{label}, boxes"
        )
        boxes += _listed(label, seen, plan.classes)
    facts = _facts(started, plan, detector, methods, device=device, seed=seed, limit=limit)
    return save_table(
        Path(folder),
        matches,
        truth,
        papers={},  # the paper prints no numbers of this, only pictures
        facts={**facts, "missing": missing},
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
    folder, protocol, data_dir, weights_dir, device, limit
        As of `pretrained_table`; protocol "m3fd" is the paper's own, and needs its data set.
    seed : int
        Added to those of the protocol.
    rows : sequence of str, optional
        Labels of `detection_rows`; default: those of the protocol. The other rows of the paper
        are listed as missing.
    """
    started = time.perf_counter()
    plan = _protocol(protocol)
    start = create_detector(plan.weights, weights_dir=weights_dir, device=device)
    pairs = load_dataset(plan.dataset, data_dir=data_dir, limit=limit)
    wanted = tuple(plan.rows if rows is None else rows)
    papers = {row.label: row.paper for row in detection_rows()} | {row: row for row in SOURCES}
    printed = [label for label, paper in papers.items() if paper]
    every, missing, methods = renderers(
        dict.fromkeys([*wanted, *printed]),
        dataset=plan.dataset,
        weights_dir=weights_dir,
        device=device,
    )
    found = {label: renderer for label, renderer in every.items() if label in wanted}
    more = (
        f"takes {max(plan.blocks, 1) * len(plan.seeds)} more trainings: name it, and those that it "
        "is to be compared with, in `rows` of `retrained_table`"
    )
    missing |= {label: more for label in every if label not in found}
    methods = {label: method for label, method in methods.items() if label in found}
    cache = _cache(folder, plan)
    pictures = _examples(found, pairs, cache)
    matches: dict[str, list[Matches]] = {label: [] for label in pictures}
    boxes: dict[str, Sequence[Box]] = {}
    histories = []
    for number in (seed + offset for offset in plan.seeds):
        for label, examples in pictures.items():
            detections: dict[str, Detections] = {}
            for block, parts in enumerate(_divisions(plan, examples, pairs.names), 1):
                name = f"{cache / 'runs' / _slug(label)}"
                detector, history = _trained(name, start, parts, pairs, plan.schedule, number)
                there, some = search(detector, parts["test"], plan.classes, progress=False)
                boxes, detections = boxes | there, detections | some
                histories.append(history.assign(row=label, block=block, seed=number))
            matches[label].append(match(annotated(boxes, plan.classes), detections))
    runs = pd.concat(histories, ignore_index=True)
    how = {"schedule": repr(plan.schedule), "blocks": plan.blocks, "seeds": [*plan.seeds]}
    facts = _facts(started, plan, start, methods, device=device, seed=seed, limit=limit, **how)
    return save_table(
        Path(folder),
        matches,
        annotated(boxes, plan.classes),
        papers=papers,
        facts={**facts, "missing": missing},
        seed=seed,
        runs=runs[["row", "block", "seed", *runs.columns.drop(["row", "block", "seed"])]],
    )


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise unknown("protocol of detection", name, PROTOCOLS)
    return PROTOCOLS[name]


def _cache(folder: str | os.PathLike[str], plan: Protocol) -> Path:
    return Path(folder).parent / "cache" / "detection" / plan.dataset


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


def _divisions(
    plan: Protocol, examples: Sequence[Example], order: Sequence[str]
) -> list[dict[str, list[Example]]]:
    """Divide the pictures of a row: one division per block, or the data set's own."""
    examples = sorted(examples, key=lambda one: order.index(one.name))
    names = [example.name for example in examples]
    every = [parts_by_block(names, i + 1, plan.blocks) for i in range(plan.blocks)]
    return [
        {part: [e for e in examples if parts[e.name] == part] for part in ("train", "val", "test")}
        for parts in every or [dataset_parts(plan.dataset)]
    ]


def _trained(
    name: str,
    start: Detector,
    parts: Mapping[str, Sequence[Example]],
    pairs: Dataset[Pair],
    schedule: Schedule,
    seed: int,
) -> tuple[Detector, pd.DataFrame]:
    """Fine-tune a detector, or take the one that was fine-tuned so before."""
    names = pairs.card.classes if pairs.card else ()
    decides = {
        "pictures": [fingerprint(parts[part], names) for part in ("train", "val")],
        "start": digest(start.network.state_dict()),
        "schedule": repr(schedule),
        "seed": seed,
        "version": VERSION,
    }
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    path = Path(f"{name}-{key}.safetensors")
    losses, checkpoint = path.with_suffix(".csv"), path.with_suffix(".checkpoint")
    if not (path.is_file() and losses.is_file()):
        tuned = fine_tune(
            start,
            parts["train"],
            names,
            schedule,
            validation=parts["val"],
            seed=seed,
            checkpoint=checkpoint,
            device=start.device,
        )
        write_text(losses, tuned.history.to_csv(index=False, float_format="%.7g"))
        save_detector(path, tuned.detector, tuned.facts)
        checkpoint.unlink()
    return create_detector(path, device=start.device), pd.read_csv(losses)


def _facts(
    started: float, plan: Protocol, detector: Detector, methods: Mapping[str, Method], **run: Any
) -> dict[str, Any]:
    return results.provenance(
        methods=methods,
        data={plan.dataset: data_hash(plan.dataset)},
        detector={
            "name": plan.weights,
            "sha256": digest(detector.network.state_dict()),
            "input": detector.input,
        },
        seconds=time.perf_counter() - started,
        **run,
    )
