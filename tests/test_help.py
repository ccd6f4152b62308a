"""Both command lines: commands have examples that can be given so, and what help names is there."""

from __future__ import annotations

import argparse
import re
import shlex
from collections import Counter

import pytest

import reproduction.__main__
from fusionlib import __main__ as library
from fusionlib.commands.shared import Help
from fusionlib.metrics import CONVENTIONS
from fusionlib.pipelines import POSTS, STRETCH
from reproduction.claims import PAPERS, VERDICTS


def below(parser):
    """Return the commands of a parser, or the actions of a command, by name."""
    found = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return found[0].choices if found else {}


def walk(parser, path=()):
    yield " ".join(path), parser
    for name, one in below(parser).items():
        yield from walk(one, (*path, name))


PROGRAMS = {"fusionlib": library, "python -m reproduction": reproduction.__main__}
PARSERS = {
    f"{program} {path}".strip(): parser
    for program, line in PROGRAMS.items()
    for path, parser in walk(line._parser())
    if path not in getattr(line, "MOVED", ())
}
OPTIONS = [
    (path, option)
    for path, parser in PARSERS.items()
    for option in parser._actions
    if not isinstance(option, argparse._SubParsersAction)
]


def shown(path):
    """Return a help as one line."""
    return " ".join(PARSERS[path].format_help().split())


def examples(path):
    """Return what follows on the last heading of a help."""
    *_, title, lines = re.split(r"^(\S.*:)\n", PARSERS[path].format_help(), flags=re.MULTILINE)
    assert title == "examples:"
    return lines.splitlines()


#: Commands that have actions.
WITH_ACTIONS = [path for path in PARSERS if path not in PROGRAMS and below(PARSERS[path])]


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("path", PARSERS)
def test_examples(path):
    """One to four, of this very command, which fit a line and can be parsed."""
    found = examples(path)
    assert 1 <= len(found) <= (4 if path in PROGRAMS else 3)
    (program,) = [program for program in PROGRAMS if path.startswith(program)]
    for line in found:
        assert line.startswith(f"  {path}") and len(line) <= 90
        words = shlex.split(line.strip().removeprefix(program))
        options = PROGRAMS[program]._parser().parse_args(words)
        assert callable(options.run)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_named_once(program):
    line = PROGRAMS[program]
    text = line._parser().format_help()
    before, _, _ = text.partition("examples:")
    named = Counter(re.findall(r"^  (\w+)  ", before, re.MULTILINE))
    assert named == Counter({*below(line._parser())} - {*getattr(line, "MOVED", ())})
    assert re.findall(r"^(\S.*):$", text, re.MULTILINE) == ["options", *line.COMMANDS, "examples"]


@pytest.mark.parametrize("path", WITH_ACTIONS)
def test_actions_are_called_so(path):
    text = PARSERS[path].format_help()
    assert "\nactions:\n" in text and "positional arguments" not in text


@pytest.mark.parametrize("path", PARSERS)
def test_help_is_for_a_narrow_terminal(path):
    assert PARSERS[path].description and PARSERS[path].formatter_class is Help
    assert max(map(len, PARSERS[path].format_help().splitlines())) <= 90


def test_options_say_what_they_take():
    """N and not LIMIT: the name of an option again tells nothing."""
    takes = [(path, one) for path, one in OPTIONS if one.option_strings and one.nargs != 0]
    assert len(takes) > 80
    assert [(path, one.dest) for path, one in takes if not (one.metavar or one.choices)] == []
    numbers = {int: "N", float: "X"}
    for path, one in takes:
        words = {numbers[one.type], "MINUTES", "IOU"} if one.type in numbers else {one.metavar}
        assert one.metavar in words, (path, one.dest)


def test_names_in_the_help_are_those_there_are():
    """Written out in the help, whose making must not import what defines them."""
    posts = re.search(r"--post NAME how .* levels: (.*), or (\w+:)SHARE ", shown("fusionlib fuse"))
    assert (posts[1].split(", "), posts[2]) == ([*POSTS], STRETCH)
    for path in ("fusionlib evaluate", "fusionlib benchmark"):
        conventions = re.search(
            r"--convention NAME whose code .* followed: ([^(]*) \(", shown(path)
        )
        assert conventions[1].split(", ") == [*CONVENTIONS]
    verdicts = re.search(
        r"--verdict NAME only .* one: (.*) or (.*) --write", shown("python -m reproduction claims")
    )
    assert [*verdicts[1].replace("'", "").split(", "), verdicts[2].strip("'")] == [*VERDICTS]
    papers = re.search(
        r"--paper NAME only .* one: (\w+) or (\w+)", shown("python -m reproduction claims")
    )
    assert [*papers.groups()] == [*PAPERS]
