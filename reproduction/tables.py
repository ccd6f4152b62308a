"""The papers' tables beside ours: paper values, means with intervals, verdicts.

A compared table is written in three forms from the same cells: `show` (notebooks),
`markdown` and `latex`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from fusionlib.datasets import package_data
from fusionlib.errors import unknown
from fusionlib.metrics import METRICS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "PAPER_TABLES",
    "compare",
    "grid",
    "latex",
    "markdown",
    "paper_values",
    "shared_values",
    "show",
    "show_lines",
    "show_scores",
]

#: Table name -> file with its printed values.
PAPER_TABLES = {
    "table_02": "res2netfuse_table_02_training_strategy.csv",
    "table_03": "res2netfuse_table_03_reconstruction.csv",
    "table_04_2021": "res2netfuse_table_04_2021.csv",
    "table_04_2023": "res2netfuse_table_04_2023.csv",
    "refinefuse_01": "refinefuse_table_01_msrs.csv",
    "refinefuse_02": "refinefuse_table_02_m3fd.csv",
    "refinefuse_03": "refinefuse_table_03_tno.csv",
    "refinefuse_05": "refinefuse_table_05_mri_ct.csv",
    "refinefuse_06": "refinefuse_table_06_mri_pet.csv",
    "refinefuse_07": "refinefuse_table_07_mri_spect.csv",
    "refinefuse_08": "refinefuse_table_08_loss_ablation.csv",
    "refinefuse_09": "refinefuse_table_09_module_ablation.csv",
    "refinefuse_10": "refinefuse_table_10_depth_ablation.csv",
}

# Means over 20 images, five decimals, from the authors' MATLAB: those of the same pictures lie
# up to 1.1e-5 from ours (Table II, EN of DenseFuse).
PRINT_TOLERANCE = 2e-5
CLOSE = 0.02
# Best, second, third: a mark and a weight besides the colour, which are those of Okabe and Ito.
# An unmarked number comes first.
RANKS = (
    ("", "", ""),
    ("①", "font-weight: bold; color: #9d4400", r"\textbf"),
    ("②", "font-weight: bold; color: #00567d", r"\underline"),
    ("③", "font-style: italic; color: #006b4d", r"\textit"),
)
SYMBOLS = {"exact": "✓", "within 2 %": "≈", "differs": "≠", "for orientation": "○"}
OTHER_DATA = "other data than the paper's, so no differences"
MOST_DECIMALS = 8
SMALL = "<small style='color: #555; font-weight: normal'>{}</small>"
# What begins a command or an option in LaTeX ("[" and "*" after the end of a line).
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"[": "{[}", "*": "{*}", "\N{MINUS SIGN}": "$-$", "<": "$<$", ">": "$>$", "|": "$|$"}
)


def paper_values(table: str) -> pd.DataFrame:
    """Return a paper's table, tidy: columns row (the printed method and strategy), metric, paper.

    Columns of the print that are no metric of `METRICS` (modules, times) are left out.

    Raises
    ------
    UnknownName
        If there is no such table.
    """
    frame = _printed(table)
    return frame.assign(paper=frame["paper"].astype(float))


def _printed(table: str) -> pd.DataFrame:
    """Read a paper's table as `paper_values` does, but as text, with the digits as printed."""
    if table not in PAPER_TABLES:
        raise unknown("paper table", table, PAPER_TABLES)
    frame = pd.read_csv(package_data(f"paper_tables/{PAPER_TABLES[table]}"), dtype=str)
    row = next(frame[name] for name in ("method", "row", "setting") if name in frame)
    if "strategy" in frame:
        row = (row + " " + frame["strategy"].fillna("").replace("-", "")).str.strip()
    metrics = frame[[name for name in frame if name in METRICS]]
    tidy = metrics.assign(row=row).melt("row", var_name="metric", value_name="paper")
    return tidy.dropna(ignore_index=True)


def shared_values(first: str, second: str) -> pd.DataFrame:
    """Return what two printed tables both print: row, metric, both values and whether equal.

    Rows are matched without regard to case: one edition writes fusionGAN, the other FusionGAN.

    Raises
    ------
    UnknownName
        If there is no such table.
    """
    one, other = (
        paper_values(name)[["row", "metric", "paper"]].assign(key=lambda f: f["row"].str.lower())
        for name in (first, second)
    )
    both = one.drop(columns="row").merge(other, on=["key", "metric"], suffixes=("_1", "_2"))
    both = both.rename(columns={"paper_1": first, "paper_2": second})
    return both[["row", "metric", first, second]].assign(equal=both[first] == both[second])


def compare(
    summary: pd.DataFrame,
    table: str,
    *,
    papers: Mapping[str, str],
    comparable: bool,
    orientation: Collection[str] = (),
) -> pd.DataFrame:
    """Put the paper's values beside ours and judge the difference.

    Parameters
    ----------
    summary : DataFrame
        From `summarise`.
    table : str
        A key of `PAPER_TABLES`.
    papers : mapping of str to str
        Our row -> the paper's row. Rows without a partner keep an empty paper value.
    comparable : bool
        Whether ours was measured on the paper's images, or a sample of the same data set.
        If not, no difference is given.
    orientation : collection of str
        Rows of ours that are no reproduction of the paper's row beside them.

    Returns
    -------
    DataFrame
        The summary with paper, difference, verdict and paper_rank (1 to 3 for the best three
        values of the paper's own column, else 0). A verdict is "exact" (rounded as printed,
        within 2e-5: two units of Res2NetFuse's last digit, equal digits of RefineFuse's four;
        and within 0.1 %), "within 2 %", "differs", "for orientation", "other data" or "not in
        the paper".
    """
    printed = _printed(table)
    decimals = max(len(text.partition(".")[2]) for text in printed["paper"])
    paper = paper_values(table).set_index(["row", "metric"])["paper"]
    ranks = {
        key: rank
        for metric, column in paper.groupby("metric")
        for key, rank in zip(column.index, _ranks(column, str(metric)), strict=True)
    }
    keys = [(papers.get(row, ""), metric) for row, metric in summary[["row", "metric"]].to_numpy()]
    frame = summary.copy()
    frame["paper"] = [paper.get(key, np.nan) for key in keys]
    frame["difference"] = (frame["mean"] - frame["paper"]) if comparable else np.nan
    frame["verdict"] = [
        _verdict(mean, value, comparable, decimals)
        for mean, value in zip(frame["mean"], frame["paper"], strict=True)
    ]
    frame["paper_rank"] = [ranks.get(key, 0) for key in keys]
    if comparable:
        beside = frame["row"].isin(list(orientation)) & frame["paper"].notna()
        frame.loc[beside, "verdict"] = "for orientation"
    return frame


def _verdict(mean: float, printed: float, comparable: bool, decimals: int) -> str:
    if np.isnan(printed):
        return "not in the paper"
    if not comparable:
        return "other data"
    # Both as printed. Where a print has few digits of a small value it tells little, so the
    # mean itself must be near it too. 1e-9: for the rounding of the difference.
    as_printed = abs(round(mean, decimals) - printed) <= PRINT_TOLERANCE + 1e-9
    if as_printed and abs(mean - printed) <= 1e-3 * abs(printed):
        return "exact"
    return "within 2 %" if abs(mean / printed - 1) <= CLOSE else "differs"


def _ranks(values: pd.Series, metric: str) -> list[int]:
    """Return 1 to 3 for the best three, ties sharing the better one, and 0 for the others.

    The registry says which end is best; of a metric that is not there (a label may end in
    ":convention") nothing is best.
    """
    known = METRICS.get(metric.partition(":")[0])
    if known is None:
        return [0] * len(values)
    ranks = values.rank(ascending=not known.higher_is_better, method="min")
    return [int(rank) if rank < len(RANKS) else 0 for rank in ranks]


class Cell(NamedTuple):
    """What every form writes: a number, its rank (0: none) and what stands below it."""

    number: str
    rank: int
    below: str


def _cells(compared: pd.DataFrame, decimals: int | Mapping[str, int] | None) -> pd.DataFrame:
    """Prepare a compared table: rows as they appear, columns (metric, part), values `Cell`.

    The parts are paper, ours (below it the interval) and, unless the data are others,
    difference (below it the verdict).
    """
    order = list(dict.fromkeys(compared["row"]))
    comparable = compared["difference"].notna().any()
    printed = max(map(_decimals, compared["paper"].dropna()), default=0)
    cells: dict[tuple[str, str], list[Cell]] = {}
    for metric in dict.fromkeys(compared["metric"]):
        part = compared[compared["metric"] == metric].set_index("row").reindex(order)
        paper_ranks = part.get("paper_rank", pd.Series(0, order)).fillna(0).astype(int)
        if decimals is None:
            digits = min(max(printed, _two_digits(part["mean"])), MOST_DECIMALS)
        else:
            digits = decimals if isinstance(decimals, int) else decimals[metric]
        cells[metric, "paper"] = [
            Cell(_number(value, min(digits, printed)), rank, "")
            for value, rank in zip(part["paper"], paper_ranks, strict=True)
        ]
        # Of the numbers as shown: what reads the same shares a rank.
        ranks = _ranks(part["mean"].round(digits), metric)
        values = part[["mean", "ci_low", "ci_high"]].to_numpy()
        cells[metric, "ours"] = [
            Cell(_number(mean, digits), rank, _interval(low, high, digits))
            for (mean, low, high), rank in zip(values, ranks, strict=True)
        ]
        if comparable:
            verdicts = part["verdict"].fillna("")
            cells[metric, "difference"] = [
                Cell(_number(value, digits, sign=True), 0, verdict)
                for value, verdict in zip(part["difference"], verdicts, strict=True)
            ]
    return pd.DataFrame(
        list(zip(*cells.values(), strict=True)),
        index=pd.Index(order, name=""),
        columns=pd.MultiIndex.from_arrays([[m for m, _ in cells], [part for _, part in cells]]),
        dtype=object,
    )


def _decimals(value: float) -> int:
    return len(np.format_float_positional(value).partition(".")[2])


def _two_digits(means: pd.Series) -> int:
    """Return the decimals that show two digits of the smallest mean that is not 0."""
    sizes = means.abs()[means.abs() > 0]
    return 1 - int(np.floor(np.log10(sizes.min()))) if len(sizes) else 0


def _lines(cells: pd.DataFrame) -> list[tuple[str, list[Cell]]]:
    return list(zip(cells.index, cells.to_numpy().tolist(), strict=True))


def _metrics(cells: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(cells.columns.get_level_values(0)))


def _comparable(cells: pd.DataFrame) -> bool:
    return "difference" in cells.columns.get_level_values(1)


def _note(compared: pd.DataFrame, cells: pd.DataFrame, *facts: str) -> str:
    """Join what a reader must know: the given facts, over how many images, whether the paper's."""
    low, high = compared["n"].min(), compared["n"].max()
    images = f"{low:.0f} to {high:.0f}" if low < high else f"{high:.0f}"
    every = [*facts, *[f"means over {images} images"] * (not compared.empty)]
    return "; ".join(every + [OTHER_DATA] * (not _comparable(cells))) + "."


def _full_note(compared: pd.DataFrame, cells: pd.DataFrame, best: str) -> str:
    facts = [
        f"{best} of a column, the paper's among all of its rows",
        "below our mean its 95 % interval",
        *["below the difference the verdict"] * _comparable(cells),
    ]
    return _note(compared, cells, *facts)


def show(
    compared: pd.DataFrame,
    *,
    decimals: int | Mapping[str, int] | None = None,
    caption: str = "",
) -> Styler:
    """Style a compared table for a notebook: per metric the paper, ours and the difference.

    Below each mean stands its 95 % interval, below each difference the verdict. The best
    three means of a column are marked by a digit, weight and colour; so are the best three
    that the paper prints, among all of its rows.

    Parameters
    ----------
    compared : DataFrame
        From `compare`.
    decimals : int or mapping, optional
        Digits after the point, also per metric. Default: as printed, and at least two digits
        of every mean.
    caption : str
        Shown above the table.
    """
    cells = _cells(compared, decimals)
    styles = cells.map(lambda cell: RANKS[cell.rank][1])
    if not _comparable(cells):
        caption += f" ({OTHER_DATA})"
    styler = cells.map(_marked, below=SMALL).style
    styler.apply(lambda _: styles, axis=None).set_caption(caption)
    # An identifier of its own, since the styles of tables on one page would mix; not a random
    # one nor one of the numbers, which would change the notebook at every run.
    headings = repr((caption, list(cells.index), list(cells.columns)))
    styler.set_uuid(hashlib.sha256(headings.encode()).hexdigest()[:8]).set_table_styles(
        [
            {"selector": "th, td", "props": "text-align: right; padding: 0.2em 0.4em"},
            {"selector": "th.col_heading.level0", "props": "text-align: center"},
            {"selector": "th.row_heading", "props": "text-align: left; min-width: 9em"},
            {"selector": "td", "props": "white-space: nowrap; font-variant-numeric: tabular-nums"},
            {"selector": "caption", "props": "text-align: left; font-weight: bold"},
        ]
    )
    return styler


def show_lines(cells: Mapping[str, Sequence[str]], rows: Sequence[str], caption: str) -> Styler:
    """Style a table of texts whose cells have several lines.

    Parameters
    ----------
    cells : mapping of str to sequence of str
        Heading -> a text for each row.
    rows : sequence of str
        Their names.
    caption : str
        Shown above the table.
    """
    styler = pd.DataFrame(cells, index=pd.Index(list(rows))).style.set_caption(caption)
    lines = {"selector": "td", "props": "white-space: pre-line; text-align: right; max-width: 22em"}
    # Tables of one page must not share what their styles are addressed by. Measured values differ
    # from machine to machine, so they are no part of it.
    identifier = hashlib.sha256(repr((caption, *cells, *rows)).encode()).hexdigest()[:8]
    return styler.set_table_styles([lines]).set_uuid(identifier)  # type: ignore[list-item]


def show_scores(scores: Mapping[str, Mapping[str, float]]) -> Styler:
    """Style the metrics of a few images of one scene, the best of each marked.

    Parameters
    ----------
    scores : mapping of str to mapping of str to float
        Heading -> metric -> value, as of `fusionlib.evaluate`; NaN is shown as "–".
    """
    values = pd.DataFrame(scores)
    shown = values.round(4)
    ranks = pd.DataFrame(
        [_ranks(row, str(metric)) for metric, row in shown.iterrows()],
        index=values.index,
        columns=values.columns,
    )
    best = ranks == 1
    marks = best.map({True: f" {RANKS[1][0]}", False: ""}.get)
    cells = shown.map(lambda value: "–" if pd.isna(value) else f"{value:.4f}") + marks
    # Several such tables may be on one page, where their styles would mix: one table, one name.
    styler = cells.style.set_uuid(hashlib.sha256(cells.to_csv().encode()).hexdigest()[:8])
    numbers = "text-align: right; font-variant-numeric: tabular-nums; padding: 0.2em 0.6em"
    styler.set_table_styles([{"selector": "th, td", "props": numbers}])
    return styler.apply(lambda _: best.map({True: RANKS[1][1], False: ""}.get), axis=None)


def markdown(
    frame: pd.DataFrame,
    *,
    decimals: int | Mapping[str, int] | None = None,
    compact: bool = False,
) -> str:
    """Write a table as GitHub Markdown; below a compared one stands what its marks mean.

    Parameters
    ----------
    frame : DataFrame
        From `compare`: the columns are those of `show`. Any other frame is written as it is.
    decimals
        As for `show`.
    compact : bool
        Turn the table, so that it stays narrow: one line per metric, one column per row, and
        in a cell the paper's value above ours with a sign for the verdict.
    """
    if "paper" not in frame:
        rows = [[_plain(value) for value in row] for row in frame.itertuples(index=False)]
        return grid([_escape(str(name)) for name in frame], rows)
    cells = _cells(frame, decimals)
    if compact:
        return _compact(frame, cells)
    header = ["", *(f"{_escape(column[0])} {column[1]}" for column in cells.columns)]
    rows = [[_escape(row), *map(_marked, line)] for row, line in _lines(cells)]
    note = _full_note(frame, cells, "①②③: the best three")
    return f"{grid(header, rows)}\n{note}\n"


def _compact(compared: pd.DataFrame, cells: pd.DataFrame) -> str:
    rows = []
    for metric in _metrics(cells):
        parts = cells[metric]
        rows.append([_escape(metric)])
        for row in parts.index:
            paper, ours = parts.loc[row, "paper"].number, parts.loc[row, "ours"].number
            verdict = parts.loc[row, "difference"].below if "difference" in parts else ""
            both = f"{paper or '–'}<br>{ours or '–'} {SYMBOLS.get(verdict, '')}".strip()
            rows[-1].append(both if paper or ours else "")
    used = set(compared["verdict"])
    signs = [f"{sign} {verdict}" for verdict, sign in SYMBOLS.items() if verdict in used]
    facts = ["The paper's value, below it ours", ", ".join(signs)]
    note = _note(compared, cells, *filter(None, facts))
    return f"{grid(['', *map(_escape, cells.index)], rows)}\n{note}\n"


def _marked(cell: Cell, below: str = "{}") -> str:
    """Write a cell with its mark, and what stands below it in the given form."""
    number = f"{cell.number} {RANKS[cell.rank][0]}".strip()
    return number + "<br>" + below.format(cell.below) if cell.below else number


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


def latex(
    compared: pd.DataFrame,
    *,
    decimals: int | Mapping[str, int] | None = None,
    caption: str = "",
    abreast: int = 2,
) -> str:
    """Write a compared table as LaTeX for the package booktabs.

    Contents as of `show`; the best three are bold, underlined and italic.

    Parameters
    ----------
    compared, decimals
        As for `show`.
    caption : str
        Plain text; what the marks mean is added.
    abreast : int
        Metrics side by side, two of which fill a page. More metrics take more tables.
    """
    cells = _cells(compared, decimals)
    note = _full_note(compared, cells, "Bold, underlined, italic: the best three")
    title = _tex(f"{caption.rstrip('.')}. {note}" if caption else note)
    metrics = _metrics(cells)
    groups = [metrics[i : i + abreast] for i in range(0, len(metrics), abreast)]
    return "\n".join(_tabular(cells[group], title) for group in groups)


def _tabular(cells: pd.DataFrame, caption: str) -> str:
    metrics = _metrics(cells)
    parts = list(dict.fromkeys(cells.columns.get_level_values(1)))
    width = len(parts)
    heads = [rf"\multicolumn{{{width}}}{{c}}{{{_tex(metric)}}}" for metric in metrics]
    rules = [
        rf"\cmidrule(lr){{{i}-{i + width - 1}}}" for i in range(2, len(cells.columns) + 2, width)
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        r"\scriptsize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{l{'r' * len(cells.columns)}}}",
        r"\toprule",
        _row("", heads),
        " ".join(rules),
        _row("", parts * len(metrics)),
        r"\midrule",
    ]
    for row, line in _lines(cells):
        lines.append(_row(_tex(row), [_emphasised(cell) for cell in line]))
        if any(cell.below for cell in line):
            below = [rf"{{\tiny {_tex(cell.below)}}}" if cell.below else "" for cell in line]
            lines.append(_row("", below))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _row(label: str, cells: Iterable[str]) -> str:
    return " & ".join([label, *cells]) + r" \\"


def _emphasised(cell: Cell) -> str:
    command = RANKS[cell.rank][2]
    return f"{command}{{{_tex(cell.number)}}}" if command else _tex(cell.number)


def _tex(text: str) -> str:
    return text.translate(LATEX)


def _interval(low: float, high: float, digits: int) -> str:
    return "" if pd.isna(low) else f"{_number(low, digits)} to {_number(high, digits)}"


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")
