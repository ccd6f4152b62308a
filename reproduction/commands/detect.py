"""``python -m reproduction detect``: objects in images; feed, score and train detectors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusionlib.commands.shared import (
    SHARED,
    add_actions,
    add_command,
    add_shared,
    check_apart,
    fail_each,
    given,
    split_names,
)
from fusionlib.errors import FusionError, ImageError, unknown

if TYPE_CHECKING:
    from fusionlib.card import WeightUsers

    from ..detection.average_precision import Matches
    from ..detection.detector import Detector, Thresholds


def weight_users() -> WeightUsers:
    """Return the weight sets of methods and detectors, and what they are for."""
    from fusionlib import methods

    from ..detection.detector import DETECTORS

    users = methods.weight_users()
    users.update((one.weights, {"detector": one}) for one in DETECTORS.values())
    return users


def add(commands: argparse._SubParsersAction) -> None:
    detect = add_command(
        commands,
        "detect",
        "Objects in images by YOLOv5: find them, write fused data sets that any detector can be "
        "trained on, score a detector, fine-tune one. The detector's weights are Ultralytics'; "
        "'python -m reproduction weights fetch yolov5n' gets them.",
        "detect run fused.png -o boxes",
        "detect export mst sample -o fused_set --block 1/4",
    )
    actions = add_actions(detect, required=True)
    _add_run(actions)
    _add_export(actions)
    _add_evaluate(actions)
    _add_train(actions)


# ---------------------------------------------------------------- the detector


def _add_detector(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-w",
        "--weights",
        default="yolov5n",
        metavar="NAME",
        help="yolov5n (default) or yolov5s, as Ultralytics published them; or a file, "
        ".safetensors of 'detect train' or .pt of Ultralytics' YOLOv5 n or s",
    )
    parser.add_argument(
        "--input",
        type=int,
        metavar="N",
        help="scale images so that the longer side has N pixels; default: as the weights were "
        "trained",
    )
    parser.add_argument(
        "--classes", metavar="NAMES", help="only these, separated by commas; default: all"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="IOU",
        help="of two boxes of a class with a larger intersection over union the better stays",
    )
    add_shared(parser, "--weights-dir", "--device")


def _thresholds(options: argparse.Namespace, usual: Thresholds) -> Thresholds:
    shares = given(options, "overlap")
    if "confidence" in options:
        shares["confidence"] = options.confidence
    for name, value in shares.items():
        if not 0 < value < 1:
            raise FusionError(f"--{name} must be between 0 and 1, not {value}.")
    return usual._replace(**shares)


def _classes(options: argparse.Namespace, all_of_them: Sequence[str]) -> list[str]:
    return list(all_of_them) if options.classes is None else split_names(options.classes)


def _detector(options: argparse.Namespace) -> Detector:
    from ..detection.detector import create_detector

    return create_detector(
        options.weights,
        input=options.input,
        weights_dir=options.weights_dir,
        device=options.device,
    )


# ---------------------------------------------------------------- run


def _add_run(actions: argparse._SubParsersAction) -> None:
    run = add_command(
        actions,
        "run",
        "Find objects in an image, or in all images of a folder. Prints a line per object: image, "
        "class, score and corners in pixels.",
        "detect run fused.png -o boxes",
        "detect run fused --classes person,car --csv boxes.csv",
        help="find objects in an image or a folder of images",
    )
    run.add_argument("images", type=Path, metavar="IMAGE", help="image or folder")
    run.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="write images with boxes")
    run.add_argument("--csv", type=Path, metavar="FILE", help="write the lines there instead")
    run.add_argument(
        "--confidence",
        type=float,
        default=0.25,
        metavar="X",
        help="lowest score; default: %(default)s",
    )
    _add_detector(run)
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from fusionlib.files import check_writable, write_text
    from fusionlib.images import read_image, write_image
    from fusionlib.pairs import images_by_stem

    from ..detection.boxes import drawn
    from ..detection.detector import TO_SEE

    thresholds = _thresholds(options, TO_SEE)
    files = [options.images]
    if options.images.is_dir():
        files = list(images_by_stem(options.images).values())
        if not files:
            raise ImageError(f"no image in the folder {options.images}.")
    outputs = [options.output / f"{file.stem}.png" for file in files] if options.output else []
    check_apart(files, [*outputs, *([options.csv] if options.csv else [])])
    for path in [*outputs[:1], *([options.csv] if options.csv else [])]:
        check_writable(path)
    detector = _detector(options)
    classes = _classes(options, detector.names)
    detector.indices(classes)
    lines = ["image,class,score,x0,y0,x1,y1"]
    faults = []
    for place, file in enumerate(files):
        try:
            image = read_image(file)
            found = detector.detect(image, thresholds, only=classes)
        except FusionError as error:
            if len(files) == 1:
                raise
            faults.append(str(error))
            continue
        boxes = found.named(detector.names)
        for box, score in zip(boxes, found.scores, strict=True):
            corners = ",".join(f"{value:.1f}" for value in box[1:])
            lines.append(f"{_csv_text(file.name)},{_csv_text(box.label)},{score:.3f},{corners}")
        if outputs:
            texts = [f"{b.label} {score:.2f}" for b, score in zip(boxes, found.scores, strict=True)]
            write_image(outputs[place], drawn(image, boxes, texts))
    text = "\n".join(lines)
    if options.csv:
        write_text(options.csv, text + "\n")
        print(f"wrote {len(lines) - 1} boxes to {options.csv}")
    else:
        print(text)
    if options.output:
        print(f"wrote {len(files) - len(faults)} images to {options.output}")
    fail_each(faults, "searched")


def _csv_text(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


# ---------------------------------------------------------------- export


def _add_export(actions: argparse._SubParsersAction) -> None:
    export = add_command(
        actions,
        "export",
        "Fuse all pairs of a data set with boxes, and write images, label files and data.yaml, "
        "which detectors of any kind can be trained on. Stopped, it continues.",
        "detect export mst sample -o fused_set --block 1/4",
        "detect export vis msrs -o visible_set",
        help="write a fused data set in the layout of YOLO",
    )
    export.add_argument(
        "method", metavar="METHOD", help="a method with its defaults; or ir, or vis: a source"
    )
    export.add_argument(
        "dataset", metavar="DATASET", help="with boxes: sample, msrs, m3fd_detection, ..."
    )
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="new, or to continue"
    )
    export.add_argument(
        "--block",
        metavar="K/N",
        help="of N blocks of pairs in their order the K-th is for testing, the rest to learn from; "
        "default: the data set's own division, or none",
    )
    add_shared(export, *SHARED)
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from fusionlib.datasets import dataset_parts, load_dataset
    from fusionlib.methods import create, registry

    from ..detection.layout import Renderer, export, parts_by_block
    from ..results import score_hash

    sources = ("ir", "vis")
    if options.method not in (*registry(), *sources):
        raise unknown("method or source", options.method, [*registry(), *sources])
    pairs = load_dataset(options.dataset, data_dir=options.data_dir, limit=options.limit)
    if options.method in sources:
        role = options.method
        renderer = Renderer(lambda pair: getattr(pair, role), {"source": role})
    else:
        method = create(options.method, weights_dir=options.weights_dir, device=options.device)
        facts = {**method.identity._asdict(), "code": score_hash()}
        renderer = Renderer(method.fuse_pair, facts)
    if options.block is None:
        parts = dataset_parts(options.dataset)
    else:
        parts = parts_by_block(pairs.names, *_fraction(options.block))
    layout = export(renderer, pairs, options.output, parts=parts)
    for part, examples in layout.parts.items():
        print(f"{part}: {len(examples)} images")
    if "val" not in layout.parts:
        print("no images are apart for validation: data.yaml names those to learn from")
    print(f"wrote {options.output / 'data.yaml'}")


def _fraction(text: str) -> tuple[int, int]:
    part, slash, whole = text.partition("/")
    if not (slash and part.isdecimal() and whole.isdecimal()):
        raise FusionError(f"--block takes K/N, such as 1/3, not {text!r}.")
    return int(part), int(whole)


# ---------------------------------------------------------------- evaluate


def _add_evaluate(actions: argparse._SubParsersAction) -> None:
    evaluate = add_command(
        actions,
        "evaluate",
        "Average precision of a detector on a data set in the layout of YOLO, or on a folder of "
        "images with a file of COCO's annotations: at an IoU of 0.5, and over 0.5 to 0.95, with "
        "95 % bootstrap intervals over images.",
        "detect evaluate fused_set",
        "detect evaluate fused_set -w mine.safetensors --csv precision.csv",
        "detect evaluate val2017 --annotations instances_val2017.json",
        help="average precision of a detector",
    )
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="with data.yaml, or images")
    evaluate.add_argument(
        "--annotations", type=Path, metavar="FILE", help="such as instances_val2017.json"
    )
    evaluate.add_argument(
        "--part", metavar="NAME", help="train, val or test; default: test, else val, else all"
    )
    evaluate.add_argument(
        "--draws",
        type=int,
        default=1000,
        metavar="N",
        help="of the bootstrap, 0: none; default: %(default)s",
    )
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="write the table, too")
    _add_detector(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from fusionlib.files import check_writable, write_text

    from ..detection.average_precision import precision_table

    if options.csv:
        check_writable(options.csv)
    if options.draws < 0:
        raise FusionError(f"--draws must be 0 or more, not {options.draws}.")
    matches = _matches(_detector(options), options)
    table = precision_table(matches, draws=options.draws)
    print(table.to_string(index=False, float_format="{:.1f}".format, na_rep=""))
    print(f"in percent, {matches.pictures} images")
    if options.csv:
        write_text(options.csv, table.to_csv(index=False))
        print(f"wrote {options.csv}")


def _matches(detector: Detector, options: argparse.Namespace) -> Matches:
    """Search the images of a data set and compare with what is annotated."""
    from ..detection.average_precision import (
        match,
        match_coco,
        of_classes,
        read_coco,
        search,
        search_files,
    )
    from ..detection.detector import TO_SCORE
    from ..detection.layout import EVERYTHING, read_layout

    thresholds = _thresholds(options, TO_SCORE)
    if options.annotations is not None:
        if options.part is not None or options.classes is not None:
            raise FusionError(
                "--part and --classes are of the layout of YOLO; leave them out with --annotations."
            )
        annotations = read_coco(options.annotations)
        files = search_files(detector, options.folder, annotations, thresholds=thresholds)
        return match_coco(annotations, files)
    layout = read_layout(options.folder)
    parts = [part for part in ("test", "val", EVERYTHING) if part in layout.parts]
    examples = layout.part(options.part or next(iter(parts), "test"))
    classes = _classes(options, layout.names)
    for name in classes:
        if name not in layout.names:
            raise unknown(f"class of {options.folder}", name, layout.names)
    truths, found = search(
        detector,
        of_classes(examples, classes),
        classes,
        thresholds=thresholds,
        title=options.folder.name,
    )
    return match(truths, found, classes)


# ---------------------------------------------------------------- train


def _add_train(actions: argparse._SubParsersAction) -> None:
    train = add_command(
        actions,
        "train",
        "Fine-tune YOLOv5 on a data set in the layout of YOLO, by default with the published "
        "schedule. If there are images for validation they choose the best epoch.",
        "detect train fused_set -o mine.safetensors --short",
        "detect train fused_set -o mine.safetensors --scratch n --epochs 1",
        help="fine-tune a detector",
    )
    train.add_argument("folder", type=Path, metavar="FOLDER", help="with data.yaml")
    train.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="weights, .safetensors"
    )
    train.add_argument(
        "-w",
        "--weights",
        default="yolov5n",
        metavar="NAME",
        help="to start from, as of 'detect evaluate'",
    )
    train.add_argument(
        "--scratch", choices=["n", "s"], help="instead, start YOLOv5 n or s from random weights"
    )
    _add_schedule(train.add_argument_group("settings"))
    train.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="written after every epoch; where it exists the training continues from it; default: "
        "beside the weights, deleted at the end",
    )
    add_shared(train, "--weights-dir", "--device")
    train.set_defaults(run=_train)


def _add_schedule(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, metavar="N", help="default: 100")
    group.add_argument("--batch", type=int, metavar="N", help="images per batch; default: 16")
    group.add_argument("--rate", type=float, metavar="X", help="learning rate; default: 0.01")
    group.add_argument("--input", type=int, metavar="N", help="side in pixels; default: 640")
    group.add_argument(
        "--head",
        metavar="NAME",
        help="new (default): the last layer starts anew; named: it keeps what it knows of classes "
        "of the same name",
    )
    group.add_argument(
        "--short",
        action="store_true",
        help="for some hundred images: 30 epochs, every batch is a step, classes of the same name "
        "are kept",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def _train(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from fusionlib.files import check_writable, write_text

    from ..detection.detector import create_detector, save_detector
    from ..detection.layout import EVERYTHING, read_layout
    from ..detection.training import PUBLISHED, SHORT, fine_tune

    if options.output.suffix != ".safetensors":
        raise FusionError(f"the weights are a .safetensors file, not {options.output.name}.")
    check_writable(options.output)
    layout = read_layout(options.folder)
    settings = given(options, "epochs", "batch", "rate", "input", "head")
    schedule = replace(SHORT if options.short else PUBLISHED, **settings)
    start: Detector | str = options.scratch or create_detector(
        options.weights, weights_dir=options.weights_dir
    )
    checkpoint = options.checkpoint or options.output.with_suffix(".checkpoint")
    check_apart([], [options.output, checkpoint, options.output.with_suffix(".losses.csv")])
    whole = layout.parts.get(EVERYTHING, ())
    tuned = fine_tune(
        start,
        whole or layout.part("train"),
        layout.names,
        schedule,
        validation=layout.parts.get("val", ()),
        seed=options.seed,
        checkpoint=checkpoint,
        device=options.device,
    )
    history = options.output.with_suffix(".losses.csv")
    write_text(history, tuned.history.to_csv(index=False, float_format="%.7g"))
    save_detector(options.output, tuned.detector, tuned.facts)
    if options.checkpoint is None:
        checkpoint.unlink()
    print(f"wrote {options.output} and {history}")
