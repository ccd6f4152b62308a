"""Both command lines: every command has help, with examples that can be given so."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

import reproduction.__main__
from fusionlib import __main__ as library
from fusionlib.metrics import CONVENTIONS
from fusionlib.pipelines import POSTS, STRETCH
from reproduction.claims import PAPERS, VERDICTS

PROGRAMS = {"fusionlib": library, "python -m reproduction": reproduction.__main__}


def walk(path, parser):
    """Give the parsers of a program: its own, of its commands, of their actions."""
    yield path, parser
    for group in parser._actions:
        if isinstance(group, argparse._SubParsersAction):
            for name, one in group.choices.items():
                yield from walk(f"{path} {name}", one)


PARSERS = {
    path: parser
    for program, line in PROGRAMS.items()
    for path, parser in walk(program, line.make_parser())
}


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("path", PARSERS)
def test_help(path, capsys):
    (program,) = [program for program in PROGRAMS if path.startswith(program)]
    with pytest.raises(SystemExit) as caught:
        PROGRAMS[program].main([*path.removeprefix(program).split(), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {path} ") and PARSERS[path].description in shown
    assert max(map(len, shown.splitlines())) <= 90


@pytest.mark.parametrize("path", [path for path in PARSERS if path not in PROGRAMS])
def test_examples(path):
    """They come last, fit a line and can be parsed."""
    before, found, lines = PARSERS[path].format_help().partition("\nexamples:\n")
    assert before and found
    (program,) = [program for program in PROGRAMS if path.startswith(program)]
    for line in lines.splitlines():
        assert line.startswith(f"  {program} ") and len(line) <= 90
        words = shlex.split(line.strip().removeprefix(program))
        assert callable(PROGRAMS[program].make_parser().parse_args(words).run)


def test_options_say_what_they_take():
    """N and not LIMIT: the name of an option again tells nothing."""
    options = [(path, one) for path, parser in PARSERS.items() for one in parser._actions]
    takes = [(path, one) for path, one in options if one.option_strings and one.nargs != 0]
    assert len(takes) > 80
    numbers = {int: {"N"}, float: {"X", "MINUTES", "IOU"}}
    for path, one in takes:
        assert one.metavar or one.choices, (path, one.dest)
        assert one.help and one.metavar in numbers.get(one.type, {one.metavar}), (path, one.dest)


def about(path, name):
    """Return what the help says of an option."""
    return next(one.help for one in PARSERS[path]._actions if one.dest == name)


def test_names_in_the_help_are_those_there_are():
    """Written out in the help, whose making must not import what defines them."""
    posts = re.search(r"levels: (.*), or (\w+:)SHARE ", about("fusionlib fuse", "post"))
    assert (posts[1].split(", "), posts[2]) == ([*POSTS], STRETCH)
    followed = re.search(r"followed: (.*), \.\.\.", about("fusionlib evaluate", "convention"))
    named = followed[1].split(", ")
    assert named == [*CONVENTIONS][: len(named)]
    assert all(paper in about("python -m reproduction claims", "paper") for paper in PAPERS)
    assert all(one in about("python -m reproduction claims", "verdict") for one in VERDICTS)
