"""show: each form is read back and compared with the numbers that it was made from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusionlib.evaluation import summarise
from reproduction.compare import compare
from reproduction.rows import TABLES
from reproduction.show import latex, markdown, show, show_scores
from tests.notebooks import same_within_print

RESULTS = Path(__file__).parents[2] / "results" / "paper"
PRINTED = 6.66296  # DenseFuse, EN, table II


def per_pair(metric="EN", **rows):
    return pd.DataFrame(
        {"row": row, "metric": metric, "pair": str(i), "value": value}
        for row, values in rows.items()
        for i, value in enumerate(values)
    )


# ---------------------------------------------------------------- styling


def compared(*means, comparable=True, metric="EN"):
    rows = {f"row {i}": [mean, mean] for i, mean in enumerate(means)}
    summary = summarise(per_pair(metric, **rows))
    return compare(summary, "table_02", papers={"row 0": "DenseFuse"}, comparable=comparable)


def texts(cell):
    """The lines of a cell, without their markup."""
    return [re.sub("<[^>]*>", "", line) for line in cell.split("<br>")]


def test_best_three_are_marked_by_more_than_colour():
    styler = show(compared(1.0, 4.0, 3.0, 2.0, np.nan))
    shown = [texts(cell)[0] for cell in styler.data["EN", "ours"]]
    assert [cell[-1:] for cell in shown] == ["0", "①", "②", "③", ""]
    styles = re.findall(r"\{\s*(font-[^}]*)\}", html := styler.to_html())
    assert len(styles) == 3 and "nan" not in html
    assert all(re.search("font-weight: bold|font-style: italic", style) for style in styles)
    assert len({re.search(r"color: (#\w+)", style)[1] for style in styles}) == 3


def test_cells():
    frame = show(compared(6.5, 7.0), decimals=2).data
    assert list(frame.columns) == [("EN", "paper"), ("EN", "ours"), ("EN", "difference")]
    assert [[texts(cell) for cell in line] for line in frame.values] == [
        [["6.66"], ["6.50 ②", "6.50 to 6.50"], ["−0.16", "differs"]],
        [[""], ["7.00 ①", "7.00 to 7.00"], ["", "not in the paper"]],
    ]
    styler = show(compared(6.5, comparable=False), decimals={"EN": 1}, caption="Table II")
    assert list(styler.data.columns) == [("EN", "paper"), ("EN", "ours")]
    assert [texts(cell)[0] for cell in styler.data.loc["row 0"]] == ["6.7", "6.5 ①"]
    assert re.search("<caption>Table II .*other data", styler.to_html())


# ---------------------------------------------------------------- the written forms

NAMES = ["DenseFuse", "MSDNet l1_norm", "a|b_1 100 % & #{x}", "[c] *d* <e>", "_f_ ~^\\\\$"]
PAPERS = {NAMES[0]: "DenseFuse", NAMES[1]: "MSDNet l1_norm", NAMES[2]: "Res2NetFuse_1 mean"}
METRIC_NAMES = ["SSIM_a", "EN", "Qabf", "SCD", "Nabf"]


def table(seed, *, comparable=True):
    """A table with ties, an undefined mean and odd labels; Nabf is lower is better."""
    random = np.random.default_rng(seed)
    values = random.normal(1, 0.5, (len(METRIC_NAMES), len(NAMES), 4))
    values[0, 1] = values[0, 0]
    values[1, 2] = np.nan
    frames = [
        per_pair(metric, **dict(zip(NAMES, rows, strict=True)))
        for metric, rows in zip(METRIC_NAMES, values, strict=True)
    ]
    summary = summarise(pd.concat(frames))
    return compare(summary, "table_02", papers=PAPERS, comparable=comparable)


def read_grid(text):
    """The cells of a Markdown table, without its escapes, and what stands below it."""
    grid, _, note = text.partition("\n\n")
    lines = [
        [re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r"(?<!\\)(?:\\\\)* ?\| ?", line)[1:-1]]
        for line in grid.splitlines()
    ]
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == ["---"] + ["---:"] * (len(lines[0]) - 1)
    return [lines[0], *lines[2:]], note


@pytest.mark.parametrize("comparable", [True, False])
def test_a_notebook_and_markdown_say_the_same(comparable):
    """And that are the numbers of the table, as far as they are shown."""
    frame = table(0, comparable=comparable)
    (_, *lines), note = read_grid(markdown(frame))
    cells = show(frame).data.map(lambda cell: re.sub("</?small[^>]*>", "", cell))
    assert cells.to_numpy().tolist() == [line[1:] for line in lines]
    values = frame.set_index(["row", "metric"])
    for part, name in {"paper": "paper", "ours": "mean", "difference": "difference"}.items():
        for metric in METRIC_NAMES if (METRIC_NAMES[0], part) in cells else ():
            for row, cell in cells[metric, part].items():
                number, _, below = cell.replace("−", "-").partition("<br>")
                facts, value = values.loc[row, metric], float((number or "nan").split()[0])
                assert value == pytest.approx(facts[name], abs=0.5001e-5, nan_ok=True)
                assert part == "ours" or below == (facts["verdict"] if part != "paper" else "")
    assert "95 %" in note and "①②③" in note and "means over 0 to 4 images" in note
    assert ("no differences" in note) == (not comparable) == ("verdict" not in note)


def test_compact_markdown():
    frame = table(0)
    (header, *lines), note = read_grid(markdown(frame, compact=True))
    assert header == ["", *NAMES] and [line[0] for line in lines] == METRIC_NAMES
    signs = {"✓": "exact", "≈": "within 2 %", "≠": "differs", "": "not in the paper"}
    values = frame.set_index(["row", "metric"])
    for metric, *cells in lines:
        for row, cell in zip(NAMES, cells, strict=True):
            facts = values.loc[(row, metric)]
            if not cell:
                assert facts[["paper", "mean"]].isna().all()
                continue
            paper, ours, sign = re.fullmatch(r"(\S+)<br>(\S+)(?: (\S))?", cell).groups("")
            assert signs[sign] == facts["verdict"]
            for text, name in ((paper, "paper"), (ours, "mean")):
                value = float("nan" if text == "–" else text.replace("−", "-"))
                assert value == pytest.approx(facts[name], abs=0.5001e-5, nan_ok=True)
    # Only the signs that stand in the table are explained.
    used = {sign for sign, verdict in signs.items() if sign and verdict in set(frame["verdict"])}
    assert {sign for sign in "✓≈≠○" if sign in note} == used
    assert "✓" not in markdown(compared(PRINTED, comparable=False), compact=True)


@pytest.mark.parametrize("table", TABLES)
def test_recorded_tables_are_written_as_committed(table):
    """The eight digits of summary.csv may round to another last one than is written."""
    folder = RESULTS / table
    compared = pd.read_csv(folder / "summary.csv")
    assert same_within_print(latex(compared, caption=table), (folder / "summary.tex").read_text())
    text = f"# {table}\n\n{markdown(compared)}"
    assert same_within_print(text, (folder / "summary.md").read_text())


def test_latex_is_well_formed():
    """Braces are balanced, no command needs a package besides booktabs, odd labels are escaped."""
    text = latex(table(2), caption="a {b")
    assert r"a$|$b\_1 100 \% \& \#\{x\} &" in text and r"{[}c] {*}d{*} $<$e$>$ &" in text
    plain = re.sub(r"\\\\|\\[{}]", "", text)
    depths = np.cumsum([{"{": 1, "}": -1}.get(character, 0) for character in plain])
    assert depths.min() == 0 and depths[-1] == 0
    known = "begin end centering caption scriptsize tiny setlength tabcolsep multicolumn textbf "
    known += "underline textit textbackslash textasciitilde textasciicircum "
    booktabs = "toprule midrule bottomrule"
    assert set(re.findall(r"\\([a-z]+)", text)) <= set((known + booktabs).split())
    assert text.isascii()


def test_decimals_follow_the_print():
    """As many as the paper prints and two digits of the smallest mean; its own are not padded."""
    summary = pd.concat(
        [summarise(per_pair("MSE", a=[1.96e-6], b=[0.5])), summarise(per_pair("PSNR", a=[40.0]))]
    )
    frame = compare(summary, "table_03", papers={"a": "DenseFuse"}, comparable=True)
    (_, a, b), _ = read_grid(markdown(frame))
    assert a[:4] == ["a", "0.00016 ③", "0.0000020 ①", "−0.0001580<br>differs"]
    assert a[4:] == ["43.62612 ③", "40.00000 ①", "−3.62612<br>differs"]
    assert b == ["b", "", "0.5000000 ②", "<br>not in the paper", "", "", ""]
    a = show(frame, decimals={"MSE": 1, "PSNR": 2}).data.loc["a"]
    shown = [texts(cell)[0] for cell in a]
    assert shown[:2] + shown[3:5] == ["0.0 ③", "0.0 ①", "43.63 ③", "40.00 ①"]


def test_nothing_measured():
    nothing = compare(summarise(per_pair(a=[1.0]).iloc[:0]), "table_02", papers={}, comparable=True)
    assert "nan" not in markdown(nothing) + markdown(nothing, compact=True)
    assert latex(nothing) == ""


def test_tables_on_one_page_do_not_share_styles():
    """Their cells would otherwise have one identifier, and each the other's colours too."""
    one = compared_with_print("EN", PRINTED)
    tables = {
        "itself": show(one),
        "other numbers": show(compared_with_print("EN", PRINTED + 1)),
        "other caption": show(one, caption="x"),
        "other metric": show(compared_with_print("SCD", PRINTED)),
    }
    identifiers = {
        name: set(re.findall(r'id="(T_\w{8})', table.to_html())) for name, table in tables.items()
    }
    assert identifiers["itself"] == identifiers["other numbers"] and len(identifiers["itself"]) == 1
    assert len(set.union(*identifiers.values())) == 3


def compared_with_print(metric, mean):
    summary = summarise(per_pair(metric, ours=[mean]))
    return compare(summary, "table_02", papers={"ours": "DenseFuse"}, comparable=True)


def test_means_that_read_the_same_share_a_rank():
    summary = summarise(per_pair("EN", a=[6.8004], b=[6.8001], c=[6.7]))
    papers = dict.fromkeys("abc", "DenseFuse")
    compared = compare(summary, "table_02", papers=papers, comparable=False)
    text = show(compared, decimals=3).to_html()
    assert text.count("6.800 ①") == 2 and "6.700 ③" in text
    assert "6.8001 ②" in show(compared, decimals=4).to_html()


def test_scores_side_by_side_mark_the_better_one():
    scores = {"left": {"SSIM": 0.71234, "Nabf": 0.1}, "right": {"SSIM": 0.71236, "Nabf": 0.2}}
    frame = show_scores(scores)
    # To four digits the first is a tie, of which either is best; of Nabf less is better.
    assert frame.data.to_numpy().tolist() == [["0.7123", "0.7124 ①"], ["0.1000 ①", "0.2000"]]
    small = {"left": {"VIF": np.nan, "EN": 6.00001}, "right": {"VIF": np.nan, "EN": 6.00002}}
    tied = show_scores(small)
    assert tied.data.to_numpy().tolist() == [["–", "–"], ["6.0000 ①", "6.0000 ①"]]
    assert tied.to_html().count("font-weight: bold") == 1
    # Styles are by identifiers: two tables on a page must not share them.
    assert tied.uuid != frame.uuid == show_scores(scores).uuid
