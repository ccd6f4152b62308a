"""Builds the documentation: ``python docs/build.py [FOLDER]``; by default into build/docs.

Its pages are those of this folder, the notebooks, and the repository's Markdown files. They are
copied into one tree first, where they lie beside each other as in the repository, so that links
between them hold. Fails if there is a warning or a dead link between
pages, or if a page would load anything from the net.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.cmd.build import main as sphinx

import fusionlib.__main__
import reproduction.__main__

ROOT = Path(__file__).parent.parent
PROGRAMS = {"fusionlib": fusionlib.__main__, "python -m reproduction": reproduction.__main__}
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")
LINKS = re.compile(r"\s(?:src|href)=\"([^\"#?:]+)[\"#?]")
LOADS = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"https?://[^>]*>")
CSS_LOADS = re.compile(r"(?:@import|url\()\s*['\"]?https?://[^)]*")


def copy_pages(folder: Path) -> None:
    """Copy everything that becomes a page, or is linked from one, into a new folder."""
    # The guide and the pictures come along with README, which links to them.
    others = shutil.ignore_patterns("*.py", "__pycache__", "guide", "*.jpg")
    shutil.copytree(ROOT / "docs", folder, ignore=others)
    shutil.copy2(ROOT / "docs/conf.py", folder)
    for name in FILES:
        copy_with_links(Path(name), folder)
    (folder / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy_notebook(path, folder / "notebooks" / path.name)
    (folder / "cli.md").write_text(command_line(), encoding="utf-8")


def copy_with_links(name: Path, folder: Path) -> None:
    """Copy a file of the repository; if it is a page, also the files that it links to."""
    if name.suffix == ".ipynb" or not (ROOT / name).is_file() or (folder / name).exists():
        return
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / name, folder / name)
    if name.suffix == ".md":
        for link in re.findall(r"\]\(([^)#:\s]+)", (ROOT / name).read_text(encoding="utf-8")):
            copy_with_links(Path(os.path.normpath(name.parent / link)), folder)


def copy_notebook(source: Path, target: Path) -> None:
    """Copy a notebook; what Jupyter does for its HTML outputs is done here.

    Formulas become MathML, and links to other notebooks lead to their pages.
    """
    notebook = json.loads(source.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                html = "".join(data["text/html"])
                html = re.sub(r"\$([^$]+)\$", lambda m: tex2mathml(m[1]), html)
                data["text/html"] = re.sub(r"(href=\"[^\":]+)\.ipynb\b", r"\1.html", html)
    target.write_text(json.dumps(notebook), encoding="utf-8")


def command_line() -> str:
    """Return a page with the help of every command."""
    os.environ["COLUMNS"] = "90"
    parts = ["# Command line"]
    for program, line in PROGRAMS.items():
        parts += helps(line.main, program, [], line.make_parser())
    return "\n\n".join(parts) + "\n"


def helps(
    main: Callable[[list[str]], int], program: str, command: list[str], parser: ArgumentParser
) -> list[str]:
    """Return the sections of a command and of its own commands."""
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*command, "--help"])
    title = f"{'##' if not command else '###'} `{' '.join([program, *command])}`"
    sections = [title, f"```text\n{text.getvalue()}```"]
    for group in parser._actions:
        if isinstance(group, _SubParsersAction):
            for name, one in group.choices.items():
                sections += helps(main, program, [*command, name], one)
    return sections


def loads_from_net(folder: Path) -> list[str]:
    """Name what the pages in a folder would load from the net, each with its file."""
    return [
        f"{path.relative_to(folder)}: {found}"
        for suffix, loads in ((".html", LOADS), (".css", CSS_LOADS))
        for path in sorted(folder.rglob(f"*{suffix}"))
        for found in loads.findall(path.read_text(encoding="utf-8"))
    ]


def dead_links(folder: Path) -> list[str]:
    """Name the links between pages, and to pictures, that lead nowhere, each with its page."""
    return [
        f"{page.relative_to(folder)}: {link}"
        for page in sorted(folder.rglob("*.html"))
        for link in sorted(set(LINKS.findall(page.read_text(encoding="utf-8"))))
        if not (page.parent / unquote(link)).exists()
    ]


def build(out: Path, work: Path) -> int:
    """Write the pages into `out`, by way of the folder `work`; return the exit status."""
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    copy_pages(work)
    status = sphinx(["-W", "--keep-going", "-q", "-j", "2", str(work), str(out)])
    faults = [
        *(f"loaded from the net, {one}" for one in loads_from_net(out)),
        *(f"dead link, {one}" for one in dead_links(out)),
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"wrote {out / 'index.html'}")
    return status or bool(faults)


if __name__ == "__main__":
    out = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build/docs"
    sys.exit(build(out, ROOT / "build/docs_pages"))
