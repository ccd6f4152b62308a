"""tables: the print is read as printed, intervals are scipy's, verdicts follow their rules.

What is written in each form is read back and compared with the numbers it was made from.
"""

from __future__ import annotations

import csv
import functools
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fusionlib.datasets import package_data
from fusionlib.errors import UnknownName
from fusionlib.evaluation import bootstrap_interval, summarise
from reproduction.tables import (
    PAPER_TABLES,
    compare,
    latex,
    markdown,
    paper_values,
    shared_values,
    show,
    show_scores,
)

# ---------------------------------------------------------------- the print


@pytest.mark.parametrize("table", PAPER_TABLES)
def test_every_printed_number(table):
    """Against the file read by the standard library."""
    with open(package_data(f"paper_tables/{PAPER_TABLES[table]}"), encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    expected = {}
    for line in lines:
        name = next(line.pop(key) for key in ("method", "row", "setting") if key in line)
        row = f"{name} {line.pop('strategy', '').strip('-')}".strip()
        for other in ("scales", "sfim", "psim", "fim", "time_ms_rtx4090"):
            line.pop(other, None)
        expected |= {(row, metric): float(text) for metric, text in line.items() if text}
    ours = paper_values(table)
    assert list(ours) == ["row", "metric", "paper"]
    assert ours.set_index(["row", "metric"])["paper"].to_dict() == expected


def test_sizes_of_refinefuse_tables():
    """Rows and metrics, counted in the files."""
    sizes = {
        table: tuple(paper_values(table)[["row", "metric"]].nunique())
        for table in PAPER_TABLES
        if table.startswith("refinefuse")
    }
    compared = dict.fromkeys((f"refinefuse_{i:02}" for i in (1, 2, 3, 5, 6, 7)), (11, 7))
    ablations = {"refinefuse_08": (4, 7), "refinefuse_09": (6, 7), "refinefuse_10": (3, 7)}
    assert sizes == compared | ablations


@pytest.mark.parametrize(
    ("table", "row", "metric", "printed"),
    [  # typed from the papers
        ("table_02", "Res2NetFuse_1 mean", "SSIM_a", 0.74206),
        ("table_02", "DenseFuse", "EN", 6.66296),
        ("table_03", "MSDNet", "PSNR", 52.10881),
        ("table_04_2021", "JSRSD", "MI", 13.33541),
        ("table_04_2023", "MUFusion", "SCD", 1.6934),
        ("table_04_2023", "Res2NetFuse l1_norm", "Qabf", 0.48364),
    ],
)
def test_some_printed_numbers(table, row, metric, printed):
    values = paper_values(table).set_index(["row", "metric"])["paper"]
    assert values[row, metric] == printed


def test_unknown_table():
    with pytest.raises(UnknownName, match=r"Did you mean .*'table_04_2021'"):
        paper_values("table_04_2022")


# ---------------------------------------------------------------- the interval


@pytest.mark.parametrize("seed", range(3))
def test_interval_is_scipys(seed):
    """Two independent sets of resamples estimate the same two quantiles.

    The standard error of a quantile p from n draws is sqrt(p (1 - p) / n) over the density
    there; for a normal law's 2.5 % that is 0.0267 of its deviation at n = 10,000. The
    difference of two such estimates stays below 5 sqrt(2) of it.
    """
    values = np.random.default_rng(seed).normal(3, 2, 20)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=seed + 100
    ).confidence_interval
    deviation = values.std() / np.sqrt(len(values))
    tolerance = 5 * np.sqrt(2) * 0.0267 * deviation
    ours = bootstrap_interval(values)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=tolerance)
    assert ours[0] < values.mean() < ours[1]


def test_interval_of_two_values():
    """The mean of two draws from {0, 1} is 0, 1/2 or 1, the ends with a quarter each."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.floats(0.1, 10))
@settings(max_examples=25)
def test_interval_properties(values, scale):
    low, high = bootstrap_interval(values, draws=500)
    slack = 1e-9 * (1 + max(map(abs, values)))  # rounding of a mean
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert bootstrap_interval(values, draws=500) == (low, high)
    scaled = bootstrap_interval(np.array(values) * scale, draws=500)
    assert scaled == pytest.approx((low * scale, high * scale), rel=1e-9, abs=10 * slack)


def test_seed_changes_the_interval():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_of_fewer_than_two(values):
    assert np.isnan(bootstrap_interval(values)).all()


# ---------------------------------------------------------------- the summary


def per_pair(metric="EN", **rows):
    return pd.DataFrame(
        {"row": row, "metric": metric, "pair": str(i), "value": value}
        for row, values in rows.items()
        for i, value in enumerate(values)
    )


def test_summary():
    frame = summarise(per_pair(b=[1.0, 2.0, 6.0], a=[5.0]))
    assert list(frame) == ["row", "metric", "n", "mean", "ci_low", "ci_high"]
    assert frame[["row", "n", "mean"]].values.tolist() == [["b", 3, 3.0], ["a", 1, 5.0]]
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 2.0, 6.0])
    assert frame.loc[1, ["ci_low", "ci_high"]].isna().all()


def test_undefined_values_are_not_counted():
    frame = summarise(per_pair(a=[1.0, np.nan, 3.0], b=[np.nan]))
    assert frame[["n", "mean"]].fillna(-1).values.tolist() == [[2, 2.0], [0, -1]]
    assert tuple(frame.loc[0, ["ci_low", "ci_high"]]) == bootstrap_interval([1.0, 3.0])


def test_summary_by_other_columns():
    frame = summarise(per_pair(a=[1.0, 2.0]), by=["pair"])
    assert frame[["pair", "n", "mean"]].values.tolist() == [["0", 1, 1.0], ["1", 1, 2.0]]


def test_summary_of_nothing():
    empty = per_pair(a=[1.0]).iloc[:0]
    assert len(summarise(empty)) == 0
    assert len(compare(summarise(empty), "table_02", papers={}, comparable=True)) == 0


# ---------------------------------------------------------------- verdicts

PRINTED = 6.66296  # DenseFuse, EN, table II


def judged(mean, *, paper="DenseFuse", comparable=True):
    summary = summarise(per_pair(ours=[mean]))
    return compare(summary, "table_02", papers={"ours": paper}, comparable=comparable).iloc[0]


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (PRINTED, "exact"),
        (PRINTED + 1.9e-5, "exact"),
        (PRINTED - 1.9e-5, "exact"),
        (PRINTED + 2.4e-5, "exact"),  # rounds to two units more
        (PRINTED + 2.6e-5, "within 2 %"),
        (PRINTED * 1.0199, "within 2 %"),
        (PRINTED * 0.9801, "within 2 %"),
        (PRINTED * 1.0201, "differs"),
        (PRINTED * 0.9799, "differs"),
        (np.nan, "differs"),
    ],
)
def test_verdict(mean, verdict):
    row = judged(mean)
    assert row["verdict"] == verdict
    assert row["paper"] == PRINTED
    assert row["difference"] == pytest.approx(mean - PRINTED, nan_ok=True)


@pytest.mark.parametrize(
    ("table", "paper", "metric", "mean", "verdict"),
    [  # 1.0554 and 0.72 are printed
        ("refinefuse_01", "RefineFuse", "VIF", 1.0554 + 4.9e-5, "exact"),
        ("refinefuse_01", "RefineFuse", "VIF", 1.0554 - 4.9e-5, "exact"),
        ("refinefuse_01", "RefineFuse", "VIF", 1.0554 + 5.1e-5, "within 2 %"),
        # Two decimals allow 0.005, but 0.1 % of the value is less.
        ("refinefuse_09", "Ours", "Qabf", 0.7207, "exact"),
        ("refinefuse_09", "Ours", "Qabf", 0.7208, "within 2 %"),
    ],
)
def test_tolerance_follows_the_printed_decimals(table, paper, metric, mean, verdict):
    summary = summarise(per_pair(metric, ours=[mean]))
    row = compare(summary, table, papers={"ours": paper}, comparable=True).iloc[0]
    assert row["verdict"] == verdict


@pytest.mark.parametrize(
    ("table", "metric", "ranks"),
    [  # JSRSD is third, which is no row of ours
        (
            "table_04_2021",
            "EN",
            {"Res2NetFuse l1_norm": 1, "Res2NetFuse mean": 2, "DenseFuse": 0, "": 0},
        ),
        # The smallest error is best; the two that print 0.99560 are both third.
        (
            "table_03",
            "MSE",
            {"MSDNet": 1, "Res2NetFuse_80000": 2, "DenseFuse": 3, "Res2NetFuse_1": 0},
        ),
        (
            "table_03",
            "SSIM",
            {"MSDNet": 1, "Res2NetFuse_80000": 2, "DenseFuse": 3, "Res2NetFuse_1": 3},
        ),
    ],
)
def test_best_three_of_the_paper(table, metric, ranks):
    summary = summarise(per_pair(metric, **{f"our {paper}": [1.0] for paper in ranks}))
    papers = {f"our {paper}": paper for paper in ranks}
    frame = compare(summary, table, papers=papers, comparable=False)
    assert dict(zip(ranks, frame["paper_rank"], strict=True)) == ranks


def test_other_data_have_no_difference():
    row = judged(PRINTED, comparable=False)
    assert (row["verdict"], row["paper"]) == ("other data", PRINTED)
    assert np.isnan(row["difference"])


@pytest.mark.parametrize("paper", ["", "RefineFuse"])
@pytest.mark.parametrize("comparable", [True, False])
def test_not_in_the_paper(paper, comparable):
    row = judged(1.0, paper=paper, comparable=comparable)
    assert row["verdict"] == "not in the paper"
    assert np.isnan(row["paper"]) and np.isnan(row["difference"])


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


def test_orientation_is_no_verdict_on_a_reproduction():
    summary = summarise(per_pair(ours=[PRINTED], other=[PRINTED]))
    papers = {"ours": "DenseFuse", "other": "DenseFuse"}
    compared = compare(summary, "table_02", papers=papers, comparable=True, orientation=["other"])
    assert list(compared["verdict"]) == ["exact", "for orientation"]
    assert compared["difference"].notna().all()


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
    """A cell of Markdown or HTML."""
    number, _, below = text.partition("<br>")
    number, _, mark = number.replace("−", "-").partition(" ")
    return number, " ①②③".find(mark) if mark else 0, re.sub("<[^>]*>", "", below).replace("−", "-")


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
    assert "95 %" in note and "①②③" in note and "means over 0 to 4 images" in note
    assert ("no differences" in note) == (not comparable) == ("verdict" not in note)


def test_html_says_the_same():
    frame = table(0)
    data = show(frame).data
    read = {
        (row, *column): read_marked(cell)
        for column in data.columns
        for row, cell in data[column].items()
    }
    check(read, frame)


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
        body = re.search(r"\\begin\{tabular\}\{(l(r+))\}\n(.*)\\end\{tabular\}", one, re.DOTALL)
        count = len(body[2])
        top, head, rules, parts, middle, *lines, bottom = body[3].splitlines()
        assert (top, middle, bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
        spans = re.findall(r" & \\multicolumn\{(\d)\}\{c\}\{([^{}]*)\}", head)
        assert sum(int(width) for width, _ in spans) == count
        ends = [int(end) for pair in re.findall(r"\{(\d+)-(\d+)\}", rules) for end in pair]
        edges = np.cumsum([2] + [int(width) for width, _ in spans])
        assert ends == [e for a, b in itertools.pairwise(edges) for e in (a, b - 1)]
        split = []
        for line in (parts, *lines):
            assert line.endswith(r" \\")
            split.append(re.split(r"(?<!\\) & ", line[:-3]))
            assert len(split[-1]) == count + 1
        names, *cells = split
        metrics = [read_tex(name) for width, name in spans for _ in range(int(width))]
        for i, line in enumerate(cells):
            if line[0] == "":  # intervals and verdicts, read with the line above
                continue
            following = cells[i + 1] if i + 1 < len(cells) else [line[0]]
            below = following if following[0] == "" else [""] * (count + 1)
            for metric, part, *cell in zip(metrics, names[1:], line[1:], below[1:], strict=True):
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
    assert re.sub(r"\\\$", "", text).count("$") % 2 == 0
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    inside = [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    assert opened == inside * 3
    known = "begin end centering caption scriptsize tiny setlength tabcolsep multicolumn textbf "
    known += "underline textit textbackslash textasciitilde textasciicircum "
    booktabs = "toprule cmidrule midrule bottomrule"
    assert set(re.findall(r"\\([a-z]+)", text)) <= set((known + booktabs).split())
    assert text.isascii()


def test_the_readers_notice_damage():
    """The checks above are worth something: each kind of damage fails one."""
    frame = table(0)
    text = latex(frame)
    for old, new in [
        (" & ", " "),
        (r"\textbf", r"\textit"),
        (r"\_", "_"),
        (r" \%", " %"),
        ("$-$", ""),
        ("{2-4}", "{2-5}"),
        (r"\bottomrule", ""),
    ]:
        assert old in text
        with pytest.raises((AssertionError, ValueError, TypeError)):
            read, captions = read_latex(text.replace(old, new, 1))
            [read_tex(caption) for caption in captions]
            check(read, frame)


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
def test_written_without_the_ranks_of_the_paper(write):
    """Results that were saved before there was such a column can be written too."""
    frame = table(0)
    assert frame["paper_rank"].any()
    frame["paper_rank"] = 0
    assert write(frame.drop(columns="paper_rank")) == write(frame)


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


@pytest.mark.parametrize(
    ("values", "expected"),
    [([np.inf] * 3, (np.inf, np.inf)), ([-np.inf] * 2, (-np.inf, -np.inf))],
)
def test_infinite_values_have_no_interval_but_themselves(recwarn, values, expected):
    assert bootstrap_interval(values) == expected
    assert np.isnan(bootstrap_interval([*values, 3.0])).all()
    assert not recwarn


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


def test_a_row_for_orientation_without_a_print_is_not_in_the_paper():
    summary = summarise(per_pair("MI:standard", ours=[2.0]))
    for orientation in ((), ("ours",)):
        row = compare(
            summary,
            "table_02",
            papers={"ours": "DenseFuse"},
            comparable=True,
            orientation=orientation,
        ).iloc[0]
        assert row["verdict"] == "not in the paper"


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


def test_both_editions_print_the_same():
    both = shared_values("table_04_2021", "table_04_2023")
    assert len(both) == 54 and both["equal"].all() and "FusionGAN" in set(both["row"])
    two = shared_values("table_04_2021", "table_02")
    assert {"DenseFuse", "MSDNet mean"} <= set(two["row"]) <= set(paper_values("table_02")["row"])
    other = shared_values("refinefuse_01", "refinefuse_03")
    assert not other["equal"].any()
    one = other[(other["row"] == "MST") & (other["metric"] == "VIF")].iloc[0]
    assert (one["refinefuse_01"], one["refinefuse_03"]) == (0.9277, 0.6068)
