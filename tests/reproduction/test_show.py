"""show: each form is read back and compared with the numbers that it was made from."""

from __future__ import annotations

import functools
import re

import numpy as np
import pandas as pd
import pytest

from fusionlib.evaluation import summarise
from reproduction.compare import compare
from reproduction.papers import paper_values
from reproduction.show import latex, markdown, show, show_scores

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
    return compare(
        summarise(per_pair(metric, **rows)),
        "table_02",
        papers={"row 0": "DenseFuse"},
        comparable=comparable,
    )


def marks(html):
    """Row -> mark of its mean."""
    rows = re.findall(r">(row \d)</th>(.*?)</tr>", html, re.DOTALL)
    found = {row: re.search("[①②③]", cells) for row, cells in rows}
    return {row: mark and mark.group() for row, mark in found.items()}


def test_best_three_are_marked_by_more_than_colour():
    html = show(compared(1.0, 4.0, 3.0, 2.0)).to_html()
    assert marks(html) == {"row 1": "①", "row 2": "②", "row 3": "③", "row 0": None}
    styles = re.findall(r"\{\s*(font-[^}]*)\}", html)
    assert len(styles) == 3
    assert all(re.search("font-weight: bold|font-style: italic", style) for style in styles)
    assert len({re.search(r"color: (#\w+)", style)[1] for style in styles}) == 3


@pytest.mark.parametrize("metric", ["MSE", "Nabf:standard"])
def test_lower_is_better(metric):
    html = show(compared(1.0, 4.0, 3.0, 2.0, metric=metric)).to_html()
    assert marks(html) == {"row 0": "①", "row 3": "②", "row 2": "③", "row 1": None}


def test_convention_in_the_label():
    assert list(marks(show(compared(1.0, 2.0, metric="EN:li")).to_html()).values()) == ["②", "①"]


def test_nothing_is_best_of_an_unknown_metric():
    assert set(marks(show(compared(1.0, 2.0, metric="seconds")).to_html()).values()) == {None}


def test_ties_share_a_mark():
    assert list(marks(show(compared(2.0, 2.0, 1.0)).to_html()).values()) == ["①", "①", "③"]


def test_undefined_mean_has_no_mark():
    html = show(compared(np.nan, 2.0)).to_html()
    assert marks(html) == {"row 0": None, "row 1": "①"}
    assert "nan" not in html


def test_html_is_the_same_every_time():
    frame = compared(1.0, 2.0)
    assert show(frame, caption="Table").to_html() == show(frame, caption="Table").to_html()


def texts(cell):
    """The lines of a cell, without their markup."""
    return [re.sub("<[^>]*>", "", line) for line in cell.split("<br>")]


def test_cells():
    frame = show(compared(6.5, 7.0), decimals=2).data
    assert list(frame.columns) == [("EN", "paper"), ("EN", "ours"), ("EN", "difference")]
    assert [texts(cell) for cell in frame.loc["row 0"]] == [
        ["6.66"],
        ["6.50 ②", "6.50 to 6.50"],
        ["−0.16", "differs"],
    ]
    assert [texts(cell) for cell in frame.loc["row 1"]] == [
        [""],
        ["7.00 ①", "7.00 to 7.00"],
        ["", "not in the paper"],
    ]


def test_other_data_in_the_caption():
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


def expected_ranks(values, metric):
    """Count the better ones, instead of sorting."""
    better = (lambda a, b: a < b) if metric == "Nabf" else (lambda a, b: a > b)
    ranks = [1 + sum(better(other, value) for other in values) for value in values]
    return [r if r <= 3 and v == v else 0 for r, v in zip(ranks, values, strict=True)]


def check(read, frame):
    """Compare (row, metric, part) -> (number, rank, below) with the table it was read from."""
    values = frame.set_index(["row", "metric"])
    paper = paper_values("table_02").groupby("metric")["paper"].apply(list)
    for metric in METRIC_NAMES:
        ranks = expected_ranks([values.loc[(row, metric), "mean"] for row in NAMES], metric)
        for row, rank in zip(NAMES, ranks, strict=True):
            facts = values.loc[(row, metric)]
            number, mark, below = read.pop((row, metric, "ours"))
            assert mark == rank
            if np.isnan(facts["mean"]):
                assert (number, below) == ("", "")
            else:
                ends = [float(end) for end in below.split(" to ")]
                expected = [facts["mean"], facts["ci_low"], facts["ci_high"]]
                assert [float(number), *ends] == pytest.approx(expected, abs=0.5001e-5)
            number, mark, below = read.pop((row, metric, "paper"))
            assert below == ""
            if np.isnan(facts["paper"]):
                assert (number, mark) == ("", 0)
            else:
                place = 1 + sum(other > facts["paper"] for other in paper[metric])
                assert (float(number), mark) == (facts["paper"], place if place <= 3 else 0)
            if frame["difference"].notna().any():
                number, mark, below = read.pop((row, metric, "difference"))
                assert (mark, below) == (0, facts["verdict"])
                if np.isnan(facts["difference"]):
                    assert number == ""
                else:
                    assert number[0] in "+-"
                    assert float(number) == pytest.approx(facts["difference"], abs=0.5001e-5)
    assert not read


def read_marked(text):
    """A cell of Markdown."""
    number, _, below = text.partition("<br>")
    number, _, mark = number.replace("−", "-").partition(" ")
    return number, " ①②③".find(mark) if mark else 0, below.replace("−", "-")


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
@pytest.mark.parametrize("seed", range(3))
def test_markdown_read_back(seed, comparable):
    frame = table(seed, comparable=comparable)
    (header, *lines), note = read_grid(markdown(frame))
    columns = [tuple(name.rsplit(" ", 1)) for name in header[1:]]
    read = {
        (row, *column): read_marked(cell)
        for row, *cells in lines
        for column, cell in zip(columns, cells, strict=True)
    }
    check(read, frame)
    # In a notebook the same, apart from what is small there.
    cells = show(frame).data.map(lambda cell: re.sub("</?small[^>]*>", "", cell))
    assert cells.to_numpy().tolist() == [line[1:] for line in lines]
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


UNDO = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^"}
UNDO |= {"{[}": "[", "{*}": "*", "$-$": "-", "$<$": "<", "$>$": ">", "$|$": "|"}
UNDO |= {f"\\{character}": character for character in "{}$&#_%"}


def read_tex(text):
    """Undo the escapes; anything else that LaTeX would read is an error."""
    pattern = "|".join(map(re.escape, UNDO))
    assert not re.search(r"[\\{}$&#_%~^\[*<>|−]", re.sub(pattern, "", text)), text
    return re.sub(pattern, lambda match: UNDO[match.group()], text)


def read_cell(above, below):
    emphasis = re.fullmatch(r"\\(textbf|underline|textit)\{(.*)\}", above)
    rank = 1 + ["textbf", "underline", "textit"].index(emphasis[1]) if emphasis else 0
    small = re.fullmatch(r"\{\\tiny (.*)\}", below)
    return read_tex(emphasis[2] if emphasis else above), rank, read_tex(small[1]) if small else ""


def read_latex(text):
    """The cells of LaTeX tables and their captions, with every line's columns counted."""
    read, captions = {}, []
    for one in re.findall(r"\\begin\{table\}\n(.*?)\\end\{table\}\n", text, re.DOTALL):
        captions.append(re.search(r"^\\caption\{(.*)\}$", one, re.MULTILINE)[1])
        body = re.search(r"\\begin\{tabular\}\{l(r+)\}\n(.*)\\end\{tabular\}", one, re.DOTALL)
        count = len(body[1])
        top, head, *lines, bottom = body[2].splitlines()
        assert (top, lines.pop(1), bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
        spans = re.findall(r" & \\multicolumn\{(\d)\}\{c\}\{([^{}]*)\}", head)
        metrics = [read_tex(name) for width, name in spans for _ in range(int(width))]
        assert len(metrics) == count and all(line.endswith(r" \\") for line in lines)
        (_, *parts), *cells = (re.split(r"(?<!\\) & ", line[:-3]) for line in lines)
        assert {len(line) for line in cells} == {count + 1}
        for line, following in zip(cells, [*cells[1:], ["end"]], strict=True):
            if line[0] == "":  # intervals and verdicts, read with the line above
                continue
            below = following[1:] if following[0] == "" else [""] * count
            for metric, part, *cell in zip(metrics, parts, line[1:], below, strict=True):
                read[read_tex(line[0]), metric, part] = read_cell(*cell)
    return read, captions


@pytest.mark.parametrize("comparable", [True, False])
@pytest.mark.parametrize("abreast", [1, 2, 5])
def test_latex_read_back(abreast, comparable):
    frame = table(1, comparable=comparable)
    text = latex(frame, caption="Table_II, 100 %.", abreast=abreast)
    read, captions = read_latex(text)
    check(read, frame)
    assert len(captions) == -(-len(METRIC_NAMES) // abreast)
    for caption in map(read_tex, captions):
        assert caption.startswith("Table_II, 100 %. Bold, underlined, italic: the best three")
        assert "95 % interval" in caption and "①" not in caption
        assert ("no differences" in caption) == (not comparable)


def test_latex_is_well_formed():
    """Braces are balanced, and no command needs a package besides booktabs."""
    text = latex(table(2), caption="a {b")
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
    (_, a, b), _ = read_grid(markdown(frame, decimals={"MSE": 1, "PSNR": 2}))
    assert a[1:3] + a[4:6] == ["0.0 ③", "0.0 ①", "43.63 ③", "40.00 ①"]


@pytest.mark.parametrize("write", [markdown, functools.partial(markdown, compact=True), latex])
def test_saved_numbers_are_written_the_same(write, tmp_path):
    frame = table(0)
    frame.to_csv(tmp_path / "summary.csv", index=False, float_format="%.8g")
    assert write(pd.read_csv(tmp_path / "summary.csv")) == write(frame)


def test_nothing_measured():
    nothing = compare(summarise(per_pair(a=[1.0]).iloc[:0]), "table_02", papers={}, comparable=True)
    assert "nan" not in markdown(nothing) + markdown(nothing, compact=True)
    assert latex(nothing) == ""


def test_markdown_of_another_frame():
    frame = pd.DataFrame({"layer": ["a|b", "_c_"], "x_y": [1 / 3, np.nan], "n": [1, 2]})
    assert markdown(frame).splitlines() == [
        "| layer | x_y | n |",
        "| --- | ---: | ---: |",
        r"| a\|b | 0.333333 | 1 |",
        r"| \_c\_ |  | 2 |",
    ]


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
    tied = show_scores({"left": {"EN": 6.00001}, "right": {"EN": 6.00002}})
    assert tied.data.to_numpy().tolist() == [["6.0000 ①", "6.0000 ①"]]
    assert tied.to_html().count("font-weight: bold") == 1
    small = show_scores({"left": {"VIF": np.nan, "EN": 5.0}, "right": {"VIF": np.nan, "EN": 6.0}})
    assert small.data.to_numpy().tolist() == [["–", "–"], ["5.0000", "6.0000 ①"]]
    # Styles are by identifiers: two tables on a page must not share them.
    assert tied.uuid != frame.uuid == show_scores(scores).uuid
