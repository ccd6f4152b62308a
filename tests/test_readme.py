"""README and guide: every number in them comes from a run's results, or from a stated place."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from reproduction import compare

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results/paper"
PAGES = ("README.md", "docs/guide/results.md", "docs/guide/speed.md", "docs/guide/use.md")

#: What is checked: decimals, powers of ten, thousands with a comma, percentages and factors. Whole
#: numbers else count things: pairs, tables, pixels, years, cores.
NUMBER = re.compile(
    r"(?<![\w.,/:-])"
    r"(?:\d+(?:\.\d+)?e[-+]?\d+|\d{1,3}(?:,\d{3})+|\d+\.\d+|\d+(?=\s?(?:%|percent\b)|\stimes\b))"
    r"(?![\w-]|\.\d)"
)

#: What is not prose, or no result, and why.
EXEMPT = {
    r"<!-- begin (\w+) -->.*?<!-- end \1 -->": "docs/readme.py fills it from results/",
    r"^```.*?^```": "code",
    r"^    .*?$": "code, or commands; lists in lists are not used",
    r"`[^`]*`": "code",
    r"(?<=\])\([^)]*\)": "where a link leads",
    r"https?://\S+": "address",
    r"\b(?:doi\s*)?10\.\d{4,}/\S+": "DOI",
    r"\bPython \d\.\d+": "version",
    r"\b[A-Z]+-\d\.\d\b": "licence",
    r"\b95 % (?:bootstrap |confidence )?intervals?": "kind of interval, not its width",
    r"\bIoU (?:of |thresholds )?0\.\d+(?:(?: to |:)0\.\d+)?": "which average precision",
}

#: Files that hold single images, boxes or iterations: among so many values each number is found.
SINGLE = {"per_pair.csv", "runs.csv", "boxes.csv", "000000000086.csv"}
#: Tables all in percent, though no heading has the sign.
PERCENT = ("refinefuse_04", "mst_readings")
#: Columns that name what a line is about.
NAMES = ("row", "method", "title", "loop", "metrics", "metric", "class", "variant", "data set")


def _mst_off() -> float:
    """The largest relative difference, both rounded as RefineFuse prints, to four decimals."""
    frame = pd.read_csv(RESULTS / "refinefuse_03/summary.csv").query("row == 'MST'")
    return (frame["mean"].round(4) / frame["paper"] - 1).abs().max()


def _reference_values() -> float:
    text = (ROOT / "tests/test_golden.py").read_text(encoding="utf-8")
    return float(re.search(r"== len\(references\) == (\d+)", text)[1])


#: Prose around a number, {} -> where it comes from: what no line of results/ says as it stands.
SOURCES: dict[str, Callable[[], float]] = {
    r"five printed digits within {}": lambda: compare.PRINT_TOLERANCE,
    r"within {} %": lambda: 100 * compare.CLOSE,
    r"all columns are within {} of the print": _mst_off,
    r"{} reference values": _reference_values,
    # Ultralytics' table of released models; not measured here, and README says so.
    r"Published is an AP of {}": lambda: 28.0,
}


def unsupported(text: str) -> list[str]:
    """Name the numbers in a page that come from nowhere, each with its line."""
    for pattern in EXEMPT:  # blanked out; lines stay where they are
        text = re.sub(
            pattern, lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
        )
    return [
        f"line {text.count(chr(10), 0, found.start()) + 1}: {found[0]}"
        for found in NUMBER.finditer(text)
        if not _supported(text, found)
    ]


def _supported(text: str, found: re.Match[str]) -> bool:
    """Whether a source or a line of results/ that the paragraph names has the number."""
    for around, source in SOURCES.items():
        pattern = r"\s+".join(around.split()).replace("{}", f"({NUMBER.pattern})")
        if any(match.start(1) == found.start() for match in re.finditer(pattern, text)):
            return _equal(found[0], source())
    in_percent = re.match(r"\s?(?:%|percent\b)", text[found.end() :]) is not None
    start, end = text.rfind("\n\n", 0, found.start()), text.find("\n\n", found.start())
    words = _words(text[max(start, 0) : end if end >= 0 else None])
    return any(
        _equal(found[0], value)
        for line in _lines()
        if line.names <= words
        for value in (line.percent if in_percent else line.values)
    )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+(?::\w+)*", text.lower()))


class Line(NamedTuple):
    """A line of the results: the words that name it, its values, those of them in percent."""

    names: set[str]
    values: list[float]
    percent: list[float]


@cache
def _lines() -> list[Line]:
    """Read every line of the results; beside a print it gets by how many percent that is missed."""
    lines = []
    for path in sorted(RESULTS.rglob("*.csv")):
        if path.name in SINGLE:
            continue
        frame = pd.read_csv(path)
        if {"mean", "paper"} <= {*frame}:
            frame["missed %"] = 100 * (frame["mean"] / frame["paper"] - 1)
        numbers = frame.select_dtypes("number")
        percent = numbers
        if not path.relative_to(RESULTS).parts[0].startswith(PERCENT):
            percent = numbers.filter(like="%")
        names = frame[[name for name in NAMES if name in frame]].astype(str)
        for i in range(len(frame)):
            words = _words(" ".join(names.iloc[i]))
            if words:
                lines.append(Line(words, [*numbers.iloc[i].dropna()], [*percent.iloc[i].dropna()]))
    return lines


def _equal(number: str, value: float) -> bool:
    """Whether a value, rounded to the printed digits, is the printed number; signs are in words."""
    number = number.replace(",", "")
    mantissa, _, exponent = number.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return float(number) > 0 and abs(abs(value) - float(number)) <= unit * (0.5 + 1e-9)


@pytest.mark.parametrize("page", PAGES)
def test_every_number_comes_from_somewhere(page):
    missing = unsupported((ROOT / page).read_text(encoding="utf-8"))
    assert missing == [], (
        "found in no line of results/paper that the paragraph names (say of what method and "
        "metric the number is, in the tables' words), nor in SOURCES of this file"
    )


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("SCD of RefineFuse, Table 3, is 11.5 %\nbelow the print.", []),
        ("SCD of RefineFuse, Table 3, is 11.7 %\nbelow the print.", ["line 1: 11.7"]),
        ("It is\n\n11.5 % below.", ["line 3: 11.5"]),
        ("RefineFuse is 37 times as fast", ["line 1: 37"]),
        ("tested against 1,497 reference values", ["line 1: 1,497"]),
        ("equal to the five\nprinted digits within 3e-5.", ["line 2: 3e-5"]),
        ("Python 3.11 or newer, 95 % intervals, `1.234`, doi 10.1007/s44267-025-00087-w", []),
        ("[a 7.77](b_1.23.png) at 640x480", ["line 1: 7.77"]),
        ("    cost 1.234\n\n```\n5.678\n```\n\ncosts 9.123", ["line 7: 9.123"]),
    ],
)
def test_a_number_from_nowhere_is_found(text, missing):
    assert unsupported(text) == missing


def test_the_tables_are_those_of_results(tmp_path):
    spec = importlib.util.spec_from_file_location("docs_readme", ROOT / "docs/readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    (tmp_path / "docs/guide").mkdir(parents=True)
    (tmp_path / "results").symlink_to(ROOT / "results")
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in readme.FILES}
    for page, text in texts.items():
        emptied = re.sub(
            r"(<!-- begin (\w+) -->\n).*?(?=<!-- end \2 -->)", r"\1", text, flags=re.DOTALL
        )
        assert emptied != text
        (tmp_path / page).write_text(emptied, encoding="utf-8")
    readme.ROOT = tmp_path
    readme.fill()
    for page, text in texts.items():
        assert (tmp_path / page).read_text(encoding="utf-8") == text, "python docs/readme.py"


def test_every_notebook_is_in_the_indices():
    index = (ROOT / "README.md").read_text(encoding="utf-8")
    first = (ROOT / "notebooks/00_start_here.ipynb").read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"(notebooks/{path.name})" in index, f"add {path.name} to INDEX of docs/readme.py"
        assert path.stem == "00_start_here" or f"({path.name})" in first, f"name {path.name} in 00"
