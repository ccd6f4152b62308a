"""A table in three forms from the same cells: a notebook's, Markdown and LaTeX.

A compared table comes from `reproduction.compare.compare`. Per metric it shows the paper, ours with
its 95 % interval below, and unless the data are others the difference with the verdict below. The
best three means of a column are marked by more than colour; so are the best three that the paper
prints, among all of its rows. `decimals` are the digits after the point, also per metric; by
default as printed, and at least two digits of every mean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .compare import SYMBOLS, rank
from .papers import printed_decimals

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = ["grid", "latex", "markdown", "show", "show_lines", "show_scores"]

Decimals = int | Mapping[str, int] | None

# Best, second, third: a mark and a weight besides the colour, which are those of Okabe and Ito.
# An unmarked number comes first.
RANKS = (
    ("", "", "{}"),
    ("①", "font-weight: bold; color: #9d4400", r"\textbf{{{}}}"),
    ("②", "font-weight: bold; color: #00567d", r"\underline{{{}}}"),
    ("③", "font-style: italic; color: #006b4d", r"\textit{{{}}}"),
)
OTHER_DATA = "other data than the paper's, so no differences"
MOST_DECIMALS = 8
# What begins a command or an option in LaTeX ("[" and "*" after the end of a line).
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"[": "{[}", "*": "{*}", "\N{MINUS SIGN}": "$-$", "<": "$<$", ">": "$>$", "|": "$|$"}
)
SMALL = "<small style='color: #555; font-weight: normal'>{}</small>"


class Cell(NamedTuple):
    """What every form writes: a number, its rank (0: none) and what stands below it."""

    number: str
    rank: int = 0
    below: str = ""

    def marked(self, below: str = "{}") -> str:
        """Write it with its mark, and what stands below in the given form."""
        number = f"{self.number} {RANKS[self.rank][0]}".strip()
        return number + "<br>" + below.format(self.below) if self.below else number


def _cells(compared: pd.DataFrame, decimals: Decimals = None) -> pd.DataFrame:
    """Prepare a compared table: rows as they appear, columns (metric, part), values `Cell`."""
    order = list(dict.fromkeys(compared["row"]))
    printed = printed_decimals(compared["paper"])
    cells: dict[tuple[str, str], list[Cell]] = {}
    for metric in dict.fromkeys(compared["metric"]):
        part = compared[compared["metric"] == metric].set_index("row").reindex(order)
        if decimals is None:
            digits = min(max(printed, _two_digits(part["mean"])), MOST_DECIMALS)
        else:
            digits = decimals if isinstance(decimals, int) else decimals[metric]
        # Of the numbers as shown: what reads the same shares a rank.
        part["rank"] = rank(part["mean"].round(digits), metric)
        part = part.fillna({"paper_rank": 0, "verdict": ""}).astype({"paper_rank": int})
        rows = part.to_dict("records")
        cells[metric, "paper"] = [
            Cell(_number(row["paper"], min(digits, printed)), row["paper_rank"]) for row in rows
        ]
        cells[metric, "ours"] = [
            Cell(_number(row["mean"], digits), row["rank"], _interval(row, digits)) for row in rows
        ]
        if _comparable(compared):
            cells[metric, "difference"] = [
                Cell(_number(row["difference"], digits, sign="+"), below=row["verdict"])
                for row in rows
            ]
    columns = pd.MultiIndex.from_tuples(cells) if cells else pd.MultiIndex.from_arrays([[], []])
    table = pd.DataFrame(index=pd.Index(order, name=""), columns=columns, dtype=object)
    for column, values in cells.items():
        table[column] = values
    return table


def _comparable(compared: pd.DataFrame) -> bool:
    return bool(compared["difference"].notna().any())


def _two_digits(means: pd.Series) -> int:
    """Return the decimals that show two digits of the smallest mean that is not 0."""
    sizes = means.abs()[means.abs() > 0]
    return 1 - int(np.floor(np.log10(sizes.min()))) if len(sizes) else 0


def _interval(row: Mapping[Any, float], digits: int) -> str:
    ends = [_number(row[end], digits) for end in ("ci_low", "ci_high")]
    return " to ".join(ends) if all(ends) else ""


def _number(value: float, digits: int, *, sign: str = "") -> str:
    if pd.isna(value):
        return ""
    return f"{value:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _metrics(cells: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(cells.columns.get_level_values(0)))


def _note(compared: pd.DataFrame, *facts: str) -> str:
    """Join what a reader must know: the given facts, over how many images, whether the paper's."""
    low, high = compared["n"].min(), compared["n"].max()
    images = f"{low:.0f} to {high:.0f}" if low < high else f"{high:.0f}"
    every = [*facts, *[f"means over {images} images"] * (not compared.empty)]
    return "; ".join(every + [OTHER_DATA] * (not _comparable(compared))) + "."


def _full_note(compared: pd.DataFrame, best: str) -> str:
    facts = [f"{best} of a column, the paper's among all of its rows"]
    facts.append("below our mean its 95 % interval")
    if _comparable(compared):
        facts.append("below the difference the verdict")
    return _note(compared, *facts)


# ---------------------------------------------------------------- notebooks


def show(compared: pd.DataFrame, *, decimals: Decimals = None, caption: str = "") -> Styler:
    """Style a compared table for a notebook, the caption above it."""
    cells = _cells(compared, decimals)
    styles = cells.map(lambda cell: RANKS[cell.rank][1])
    if not _comparable(compared):
        caption += f" ({OTHER_DATA})"
    styler = cells.map(Cell.marked, below=SMALL).style
    styler.apply(lambda _: styles, axis=None).set_caption(caption)
    rules = {
        "th, td": "text-align: right; padding: 0.2em 0.4em",
        "th.col_heading.level0": "text-align: center",
        "th.row_heading": "text-align: left; min-width: 9em",
        "td": "white-space: nowrap; font-variant-numeric: tabular-nums",
        "caption": "text-align: left; font-weight: bold",
    }
    return _ruled(styler, (caption, list(cells.index), list(cells.columns)), rules)


def _ruled(styler: Styler, name: object, rules: Mapping[str, str]) -> Styler:
    """Set a table's CSS, selector -> properties, and tell it from other tables by its name.

    Styles of tables on one page would mix if they had one identifier; a random one, or one of
    measured values, would change the notebook at every run.
    """
    styler.set_uuid(hashlib.sha256(repr(name).encode()).hexdigest()[:8])
    return styler.set_table_styles([{"selector": s, "props": css} for s, css in rules.items()])


def show_lines(cells: Mapping[str, Sequence[str]], rows: Sequence[str], caption: str) -> Styler:
    """Style a table of texts of several lines: heading -> a text for each of the named rows."""
    styler = pd.DataFrame(cells, index=pd.Index(list(rows))).style.set_caption(caption)
    rules = {"td": "white-space: pre-line; text-align: right; max-width: 22em"}
    return _ruled(styler, (caption, *cells, *rows), rules)


def show_scores(scores: Mapping[str, Mapping[str, float]]) -> Styler:
    """Style the metrics of a few images of one scene, the best of each marked.

    Heading -> metric -> value, as of `fusionlib.evaluate`; NaN is shown as "–".
    """
    shown = pd.DataFrame(scores).round(4)
    best = shown.apply(lambda values: rank(values, str(values.name)), axis=1) == 1
    mark, style, _ = RANKS[1]
    marks = best.map({True: f" {mark}", False: ""}.get)
    cells = shown.map(lambda value: "–" if pd.isna(value) else f"{value:.4f}") + marks
    styler = cells.style.apply(lambda _: best.map({True: style, False: ""}.get), axis=None)
    numbers = "text-align: right; font-variant-numeric: tabular-nums; padding: 0.2em 0.6em"
    # Tables of one identifier have one style, whatever their numbers.
    return _ruled(styler, best.to_dict(), {"th, td": numbers})


# ---------------------------------------------------------------- Markdown


def markdown(frame: pd.DataFrame, *, compact: bool = False) -> str:
    """Write a table as GitHub Markdown; below a compared one stands what its marks mean.

    A frame that is not compared is written as it is. `compact` turns the table, so that it stays
    narrow: one line per metric, one column per row, and in a cell the paper's value above ours with
    a sign for the verdict.
    """
    if "paper" not in frame:
        rows = [[_plain(value) for value in row] for row in frame.itertuples(index=False)]
        return grid([_escape(str(name)) for name in frame], rows)
    cells = _cells(frame)
    if compact:
        return _compact(frame, cells)
    header = ["", *(f"{_escape(column[0])} {column[1]}" for column in cells.columns)]
    rows = [[_escape(row), *map(Cell.marked, line)] for row, *line in cells.itertuples(name=None)]
    return f"{grid(header, rows)}\n{_full_note(frame, '①②③: the best three')}\n"


def _compact(compared: pd.DataFrame, cells: pd.DataFrame) -> str:
    rows = []
    for metric in _metrics(cells):
        rows.append([_escape(metric)])
        for paper, ours, *difference in cells[metric].itertuples(index=False, name=None):
            sign = SYMBOLS.get(difference[0].below, "") if difference else ""
            both = f"{paper.number or '–'}<br>{ours.number or '–'} {sign}".strip()
            rows[-1].append(both if paper.number or ours.number else "")
    used = set(compared["verdict"])
    signs = [f"{sign} {verdict}" for verdict, sign in SYMBOLS.items() if verdict in used]
    facts = ["The paper's value, below it ours", *[", ".join(signs)] * bool(signs)]
    return f"{grid(['', *map(_escape, cells.index)], rows)}\n{_note(compared, *facts)}\n"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are aligned to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _plain(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else _escape(str(value))


def _escape(text: str) -> str:
    """Keep Markdown from reading a label; an underscore inside a word is none of its marks."""
    return re.sub(r"([\\|*<`\[]|\b_|_\b)", r"\\\1", text)


# ---------------------------------------------------------------- LaTeX


def latex(compared: pd.DataFrame, *, caption: str = "") -> str:
    """Write a compared table as LaTeX for the package booktabs: bold, underlined, italic.

    What the marks mean is added to the caption, which is plain text.
    """
    cells = _cells(compared)
    note = _full_note(compared, "Bold, underlined, italic: the best three")
    title = _tex(f"{caption.rstrip('.')}. {note}" if caption else note)
    metrics = _metrics(cells)
    pages = [cells[metrics[i : i + 2]] for i in range(0, len(metrics), 2)]
    return "\n".join(_tabular(page, title) for page in pages)


def _tabular(cells: pd.DataFrame, caption: str) -> str:
    labels, lines = [], []
    for row, *line in cells.itertuples(name=None):
        labels.append(_tex(row))
        lines.append([RANKS[cell.rank][2].format(_tex(cell.number)) for cell in line])
        if any(cell.below for cell in line):
            labels.append("")
            small = [rf"{{\tiny {_tex(cell.below)}}}" if cell.below else "" for cell in line]
            lines.append(small)
    columns = cells.rename(columns=_tex, level=0).columns
    styler = pd.DataFrame(lines, labels, columns, dtype=str).style.set_caption(caption)
    smaller = {"scriptsize": ":", "setlength": r":{\tabcolsep}{4pt}"}
    styler.set_table_styles([{"selector": n, "props": value} for n, value in smaller.items()])
    return styler.to_latex(
        column_format="l" + "r" * len(columns),
        position_float="centering",
        multicol_align="c",
        hrules=True,
    )


def _tex(text: str) -> str:
    return text.translate(LATEX)
