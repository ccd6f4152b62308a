"""The source: functions of a length to read at once, no block written twice."""

from __future__ import annotations

import ast
import io
import tokenize
from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("fusionlib", "docs", "benchmarks")

#: A function has at most so many lines of code.
LONGEST = 60
_DRAWING = "a drawing, a call per part; the order of its random numbers decides the pictures"
#: Function -> why it has more.
LONG = {
    "fusionlib/_props.py car": _DRAWING,
    "fusionlib/_props.py person": _DRAWING,
}

#: Equal statements in a row that take so many lines are a block written twice.
BLOCK = 6
#: The two files and what the block begins with -> why it is there twice.
TWICE: dict[tuple[str, str, str], str] = {}


class Statement(NamedTuple):
    """A simple statement, or the head of a compound one."""

    file: str
    start: int
    words: tuple[str, ...]
    #: Numbers of the lines that hold more than a comment or closing brackets.
    lines: frozenset[int]


NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
}


def statements(text, file=""):
    """Return the statements of a source in order, without docstrings."""
    found, words, lines = [], [], set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in NO_CODE:
            continue
        if token.type != tokenize.NEWLINE:
            words.append(token.string)
            if token.string not in (")", "]", "}", ","):
                lines |= {*range(token.start[0], token.end[0] + 1)}
            continue
        is_text = len(words) == 1 and words[0].endswith(("'", '"'))
        if not is_text:
            found.append(Statement(file, min(lines), tuple(words), frozenset(lines)))
        words, lines = [], set()
    return found


def lengths(text, parts):
    """Return each function and how many lines of code it has, from its `def` on."""
    lines = sorted(line for one in parts for line in one.lines)
    return [
        (node.name, bisect_right(lines, node.end_lineno) - bisect_left(lines, node.lineno))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def repeats(files):
    """Return the first statements of blocks that are equal, and how many lines they take.

    A statement is compared as a whole and counts for the lines that it takes, so a list of
    arguments or a table is a repeat only where all of its statement is. Imports, and heads of
    functions and classes, do not count.
    """
    heads = ("import", "from", "def", "async", "class", "@")
    every = []
    for file, parts in files.items():
        every += [one for one in parts if one.words[0] not in heads]
        every.append(Statement(file, 0, (file,), frozenset()))  # which equals nothing
    places = defaultdict(list)
    for place, one in enumerate(every):
        places[one.words].append(place)
    found = []
    for equal in places.values():
        for first, second in combinations(equal, 2):
            if first and every[first - 1].words == every[second - 1].words:
                continue  # found from an earlier statement on
            last = first
            while last < second and every[last].words == every[second + last - first].words:
                last += 1
            lines = sum(len(one.lines) for one in every[first:last])
            if lines >= BLOCK:
                found.append((every[first], every[second], lines))
    return found


@pytest.fixture(scope="module")
def sources():
    """File -> its text, of everything that is not a test."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    assert len(paths) > 100
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="module")
def parts(sources):
    """File -> its statements."""
    return {file: statements(text, file) for file, text in sources.items()}


def test_functions_are_short(sources, parts):
    found = defaultdict(int)
    for file, text in sources.items():
        for name, length in lengths(text, parts[file]):
            found[f"{file} {name}"] = max(length, found[f"{file} {name}"])
    too_long = {name: length for name, length in found.items() if length > LONGEST}
    assert {name: too_long[name] for name in too_long if name not in LONG} == {}
    assert [name for name in LONG if name not in too_long] == [], "no exceptions any more"


def test_nothing_is_written_twice(parts):
    found = {
        (one.file, other.file, " ".join(one.words)): f"lines {one.start}, {other.start}: {lines}"
        for one, other, lines in repeats(parts)
    }
    assert {block: found[block] for block in found if block not in TWICE} == {}
    assert [block for block in TWICE if block not in found] == [], "no exceptions any more"


EXAMPLE = '''
def first(a, b):
    """Say what it does,

    at length."""
    # A comment, and a blank line:

    return call(
        a,
        b,
    )
'''


def test_what_a_line_of_code_is():
    """Neither docstring nor comment nor blank line nor lone bracket."""
    assert lengths(EXAMPLE, statements(EXAMPLE)) == [("first", 4)]
    nested = EXAMPLE + "\n    def second():\n        pass\n"
    assert lengths(nested, statements(nested)) == [("first", 6), ("second", 2)]


def test_what_a_repeat_is():
    block = "a = 1\nif a:\n    b = f(\n        2,\n        3,  # any comment\n    )\n"
    for text, expected in (
        (block + "last = 1\n", 6),
        (block, 0),  # five lines
        (block.replace("3", "4") + "last = 1\n", 0),  # an argument differs
        ("x = 1\n" + block + "last = 1\n", 6),  # wherever it is
    ):
        files = {"one.py": statements(block + "last = 1\n", "one.py")}
        files["two.py"] = statements(text, "two.py")
        assert [lines for _, _, lines in repeats(files)] == [expected] * bool(expected)
    twice = {"one.py": statements((block + "last = 1\n") * 2)}
    assert [(one.start, other.start) for one, other, _ in repeats(twice)] == [(1, 8)]
    heads = "".join(f"import {name}\n" for name in "abcdefg")
    assert repeats({name: statements(heads) for name in ("one.py", "two.py")}) == []
