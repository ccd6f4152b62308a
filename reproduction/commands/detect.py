"""``python -m reproduction detect``: objects in images; feed, score and train detectors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from fusionlib import methods
from fusionlib.card import WeightUsers
from fusionlib.commands import (
    DEVICE,
    SHARED,
    WEIGHTS_DIR,
    Commands,
    Options,
    fail_each,
    given,
)
from fusionlib.datasets import dataset_parts, load_dataset
from fusionlib.errors import DatasetNotFound, FusionError, ImageError, unknown
from fusionlib.files import check_writable, write_text
from fusionlib.images import read_image, write_image
from fusionlib.methods import create
from fusionlib.pairs import Box, images_by_stem

from ..detection.average_precision import annotated, match, precision_table, read_coco, search
from ..detection.detector import (
    DETECTORS,
    TO_SCORE,
    TO_SEE,
    Detector,
    Thresholds,
    create_detector,
    eight_bits,
)
from ..detection.layout import EVERYTHING, Example, export, parts_by_block, read_layout
from ..detection.training import PUBLISHED, SHORT, Task, fine_tune

DETECTOR: Options = {
    "-w --weights NAME": "yolov5n (default) or yolov5s, as Ultralytics published them; or a file, "
    ".safetensors of 'detect train' or .pt of Ultralytics' YOLOv5 n or s",
    "--input N": "scale images so that the longer side has N pixels; default: as the weights were "
    "trained",
    "--classes NAMES": "only these, separated by commas; default: all",
    "--overlap X": "of two boxes of a class with a larger intersection over union the better stays",
    **WEIGHTS_DIR,
    **DEVICE,
}
RUN: Options = {
    "IMAGE": {"type": Path, "help": "image or folder"},
    "-o --output FOLDER": "write images with boxes",
    "--csv FILE": "write the lines there instead",
    "--confidence X": "lowest score; default: 0.25",
    **DETECTOR,
}
EXPORT: Options = {
    "METHOD": "a method with its defaults; or ir, or vis: a source",
    "DATASET": "with boxes: sample, msrs, m3fd_detection, ...",
    "-o --output FOLDER": {"required": True, "help": "new, or to continue"},
    "--block K/N": "of N blocks of pairs in their order the K-th is for testing, the rest to learn "
    "from; default: the data set's own division, or none",
    **SHARED,
}
EVALUATE: Options = {
    "FOLDER": "with data.yaml, or images",
    "--annotations FILE": "such as instances_val2017.json",
    "--draws N": "of the bootstrap, 0: none; default: 1000",
    "--csv FILE": "write the table, too",
    **DETECTOR,
}
TRAIN: Options = {
    "FOLDER": "with data.yaml",
    "-o --output FILE": {"required": True, "help": "weights, .safetensors"},
    "-w --weights NAME": "to start from, as of 'detect evaluate'",
    "--epochs N": "default: 100",
    "--batch N": "images per batch; default: 16",
    "--rate X": "learning rate; default: 0.01",
    "--input N": "side in pixels; default: 640",
    "--short": "for some hundred images: 30 epochs, every batch is a step, classes of the same "
    "name are kept",
    "--seed N": "default: 0",
    **WEIGHTS_DIR,
    **DEVICE,
}


#: The part of a data set that a detector is scored on: the first of these that there is.
TESTED = ("test", "val", EVERYTHING, "train")


def weight_users() -> WeightUsers:
    """Return the weight sets of methods and detectors, and what they are for."""
    users = methods.weight_users()
    users.update((one.weights, {"detector": one}) for one in DETECTORS.values())
    return users


def _thresholds(options: argparse.Namespace, usual: Thresholds) -> Thresholds:
    shares = given(options, "confidence", "overlap")
    for name, value in shares.items():
        if not 0 < value < 1:
            raise FusionError(f"--{name} must be between 0 and 1, not {value}.")
    return usual._replace(**shares)


def _detector(options: argparse.Namespace) -> Detector:
    return create_detector(**given(options, "weights", "input", "weights_dir", "device"))


def _check_apart(sources: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Make sure that outputs can be written, are none of the images, and are each another file."""
    taken = {path.resolve() for path in sources}
    for path in outputs:
        if path.resolve() in taken:
            raise FusionError(
                f"{path} is one of the images, or to be written twice. Name another file or folder."
            )
        taken.add(path.resolve())
    for path in [*outputs[:1], *outputs[-1:]]:
        check_writable(path)


def _run(options: argparse.Namespace) -> None:
    """Find objects in an image, or in all images of a folder.

    Prints a line per object: image, class, score and corners in pixels.

    detect run fused.png -o boxes
    detect run fused --classes person,car --csv boxes.csv
    """
    thresholds, path, folder = _thresholds(options, TO_SEE), options.image, options.output
    files = [*images_by_stem(path).values()] if path.is_dir() else [path]
    if not files:
        raise ImageError(f"no image in the folder {path}.")
    pictures = [folder / f"{file.stem}.png" for file in files] if folder else []
    _check_apart(files, [*pictures, options.csv] if options.csv else pictures)
    detector = _detector(options)
    wanted = dict.fromkeys(detector.indices(options.classes or detector.names))
    classes = [detector.names[index] for index in wanted]
    rows, faults = [], []
    for place, file in enumerate(files):
        try:
            image = read_image(file)
            found = detector.detect(image, thresholds, classes)
        except FusionError as error:
            if len(files) == 1:
                raise
            faults.append(str(error))
            continue
        boxes = [*zip(found.named(classes), found.scores.tolist(), strict=True)]
        for box, score in boxes:
            rows.append([file.name, box.label, f"{score:.3f}", *(f"{x:.1f}" for x in box[1:])])
        if folder:
            write_image(pictures[place], _drawn(image, boxes))
    table = pd.DataFrame(rows, columns=["image", "class", "score", *Box._fields[1:]])
    text = table.to_csv(index=False, lineterminator="\n")
    if options.csv:
        write_text(options.csv, text)
        text = f"wrote {len(rows)} boxes to {options.csv}\n"
    print(text, end="")
    if folder:
        print(f"wrote {len(files) - len(faults)} images to {folder}")
    fail_each(faults, "searched")


#: Okabe and Ito's colours, told apart by the colour-blind; classes take them in turn.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")


def _drawn(image: np.ndarray, boxes: Sequence[tuple[Box, float]]) -> np.ndarray:
    """Draw boxes on a copy of a picture, each with its class and score."""
    picture = Image.fromarray(eight_bits(image))
    draw = ImageDraw.Draw(picture)
    thick = max(round(max(picture.size) / 500), 1)
    labels = list(dict.fromkeys(box.label for box, _ in boxes))
    for (label, *corners), score in boxes:
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        draw.rectangle(corners, outline=colour, width=thick)
        text, size = f"{label} {score:.2f}", 10 * thick
        place = (corners[0], max(corners[1] - 1.3 * size, 0))
        draw.rectangle(draw.textbbox(place, text, font_size=size), fill=colour)
        draw.text(place, text, fill="white", font_size=size)
    return np.asarray(picture)


def _export(options: argparse.Namespace) -> None:
    """Write a fused data set in the layout of YOLO.

    Fuses all pairs of a data set with boxes, and writes images, label files and data.yaml,
    which detectors of any kind can be trained on. Stopped, it continues.

    detect export mst sample -o fused_set --block 1/4
    detect export vis msrs -o visible_set
    """
    pairs = load_dataset(options.dataset, **given(options, "data_dir", "limit"))
    source: Any = options.method
    if source not in ("ir", "vis"):
        source = create(source, **given(options, "weights_dir", "device"))
    if options.block is None:
        parts = dataset_parts(options.dataset)
    else:
        part, slash, whole = options.block.partition("/")
        if not (slash and part.isdecimal() and whole.isdecimal()):
            raise FusionError(f"--block takes K/N, such as 1/3, not {options.block!r}.")
        parts = parts_by_block(pairs.names, int(part), int(whole))
    layout = export(source, pairs, options.output, parts=parts)
    for part, examples in layout.parts.items():
        print(f"{part}: {len(examples)} images")
    if "val" not in layout.parts:
        print("no images are apart for validation: data.yaml names those to learn from")
    print(f"wrote {options.output / 'data.yaml'}")


def _evaluate(options: argparse.Namespace) -> None:
    """Compute average precision of a detector.

    On a data set in the layout of YOLO, of its images for testing, else for validation,
    else of all; or on a folder of images with a file of COCO's annotations. At an IoU of 0.5,
    and over 0.5 to 0.95, with 95 % bootstrap intervals over images.

    detect evaluate fused_set
    detect evaluate fused_set -w mine.safetensors --csv precision.csv
    detect evaluate val2017 --annotations instances_val2017.json
    """
    thresholds, folder = _thresholds(options, TO_SCORE), options.folder
    if options.csv:
        check_writable(options.csv)
    if (options.draws or 0) < 0:
        raise FusionError(f"--draws must be 0 or more, not {options.draws}.")
    if options.annotations is None:
        names, parts = read_layout(folder)
        classes = [*dict.fromkeys(options.classes or names)]
        for name in classes:
            if name not in names:
                raise unknown(f"class of {folder}", name, names)
        examples: Sequence[Example] = parts[next(one for one in TESTED if one in parts)]
    elif options.classes:
        raise FusionError("--annotations name the classes; leave --classes out.")
    else:
        truth = read_coco(options.annotations)
        classes = [category["name"] for category in truth["categories"]]
        files = [image["file_name"] for image in truth["images"]]
        examples = [Example(name, folder / name, ()) for name in files]
        if missing := [example.name for example in examples if not example.path.is_file()]:
            raise DatasetNotFound(
                f"{len(missing)} of {len(files)} images that are listed are not in {folder}, such "
                f"as {missing[0]}. Are these the images of that file?"
            )
    detector, how = _detector(options), {"thresholds": thresholds, "title": folder.name}
    boxes, found = search(detector, examples, classes, **how)
    if options.annotations is None:
        truth = annotated(boxes, classes)
    table = precision_table(match(truth, found), **given(options, "draws"))
    print(table.to_string(index=False, float_format="{:.1f}".format, na_rep=""))
    print(f"in percent, {len(examples)} images")
    if options.csv:
        write_text(options.csv, table.to_csv(index=False))
        print(f"wrote {options.csv}")


def _train(options: argparse.Namespace) -> None:
    """Fine-tune a detector on a data set in the layout of YOLO.

    By default with the published schedule. If there are images for validation they choose the
    best epoch. Stopped, it continues from the checkpoint beside its weights.

    detect train fused_set -o mine.safetensors --short
    """
    layout = read_layout(options.folder)
    settings = given(options, "epochs", "batch", "rate", "input")
    task = Task(
        create_detector(**given(options, "weights", "weights_dir", "device")),
        layout.parts.get(EVERYTHING) or layout.parts.get("train", ()),
        layout.names,
        replace(SHORT if options.short else PUBLISHED, **settings),
        layout.parts.get("val", ()),
        **given(options, "seed"),
    )
    losses = fine_tune(task, options.output)
    print(f"wrote {options.output} and {losses}")


def _detect(_: argparse.Namespace) -> None:
    """Find objects in images by YOLOv5; score, train and feed detectors.

    Fused data sets are written so that any detector can be trained on them. The weights are
    Ultralytics'; 'python -m reproduction weights fetch yolov5n' gets them.

    detect run fused.png -o boxes
    detect export mst sample -o fused_set --block 1/4
    """
    raise FusionError("name what to do: detect run, export, evaluate or train.")


COMMANDS: Commands = {
    "detect": (_detect, {}),
    "detect run": (_run, RUN),
    "detect export": (_export, EXPORT),
    "detect evaluate": (_evaluate, EVALUATE),
    "detect train": (_train, TRAIN),
}
