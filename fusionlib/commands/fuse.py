"""``fusionlib fuse``: two images, or all pairs of two folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FusionError, ImageError
from .shared import add_command, add_execution, add_shared, execution_of, fail_each

if TYPE_CHECKING:
    from ..methods import Method

#: The keys of `fusionlib.pipelines.POSTS`, whose import takes NumPy; a test compares.
POSTS = ("minmax", "clip", "minmax_eps", "white", "imageio", "clahe")


def add(commands: argparse._SubParsersAction) -> None:
    fuse = add_command(
        commands,
        "fuse",
        "Fuse an infrared and a visible image, or all pairs of two folders (matched by file name). "
        "Colour of the visible image is kept.",
        "fuse ir.png vis.png -o fused.png",
        "fuse ir.png vis.png -o fused.png --rule mean --post stretch:0.5",
        "fuse ir vis -o fused --method mst --skip-existing",
    )
    fuse.add_argument("ir", type=Path, metavar="IR", help="infrared image or folder")
    fuse.add_argument("vis", type=Path, metavar="VIS", help="visible image or folder")
    fuse.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="image file or folder"
    )
    _add_method(fuse)
    add_shared(fuse, "--weights-dir", "--device")
    folders = fuse.add_argument_group("for folders")
    folders.add_argument("--skip-existing", action="store_true", help="leave outputs that exist")
    folders.add_argument(
        "-j",
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes that fuse at a time, which share the cores; default: %(default)s",
    )
    folders.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="pairs that run together, where they have one size; default: 1; more pays on a GPU",
    )
    add_execution(fuse)
    fuse.set_defaults(run=_fuse)


def _add_method(fuse: argparse.ArgumentParser) -> None:
    fuse.add_argument(
        "-m",
        "--method",
        default="res2netfuse",
        metavar="NAME",
        help="default: %(default)s; 'fusionlib methods' lists them, and with a name the rules, "
        "variants and pipelines of one",
    )
    fuse.add_argument(
        "-r", "--rule", metavar="NAME", help="fusion rule; default: the method's published one"
    )
    fuse.add_argument(
        "--variant", metavar="NAME", help="reading of the paper, where a method has several"
    )
    fuse.add_argument(
        "--pipeline", metavar="NAME", help="published way of use, where a method has several"
    )
    fuse.add_argument(
        "--post",
        metavar="NAME",
        help=f"how output becomes gray levels: {', '.join(POSTS)}, or stretch:SHARE with a share "
        "from 0 (clip) to 1 (minmax); default: as published",
    )
    fuse.add_argument(
        "--weights", metavar="NAME", help="of a weight set, or of a .safetensors or .npz file"
    )


def _fuse(options: argparse.Namespace) -> None:
    from ..folders import fuse_file
    from ..methods import create

    if options.ir.is_dir() != options.vis.is_dir():
        file, folder = sorted((options.ir, options.vis), key=Path.is_dir)
        raise ImageError(f"give two files or two folders, not the file {file} and {folder}.")
    method = create(
        options.method,
        rule=options.rule,
        variant=options.variant,
        pipeline=options.pipeline,
        post=options.post,
        weights=options.weights,
        weights_dir=options.weights_dir,
        device=options.device,
        execution=execution_of(options),
    )
    if options.ir.is_dir():
        return _fuse_folders(method, options)
    if options.jobs != 1 or options.batch is not None:
        raise FusionError("--jobs and --batch are of folders; leave them out for two files.")
    fuse_file(method, options.ir, options.vis, options.output)
    print(f"wrote {options.output}")


def _fuse_folders(method: Method, options: argparse.Namespace) -> None:
    from ..folders import fuse_folders

    done = fuse_folders(
        method,
        options.ir,
        options.vis,
        options.output,
        jobs=options.jobs,
        skip_existing=options.skip_existing,
    )
    there = f", {done.skipped} were there" * (done.skipped > 0)
    print(f"wrote {done.written} images to {options.output}{there}")
    fail_each(done.faults, "fused")
