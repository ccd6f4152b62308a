"""The papers' tables as experiments: measured, compared with the print and saved.

A notebook asks for a table; this module creates the methods of its rows (`reproduction.rows`) that
can be had, says which cannot and what would fill them, measures, compares and saves.
"""

from __future__ import annotations

import html
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.datasets import load_dataset, load_images, package_data
from fusionlib.errors import FusionError, UnknownName, unknown
from fusionlib.evaluation import Fuser, benchmark, evaluate, levels, summarise
from fusionlib.methods import Method, create
from fusionlib.metrics import METRICS, select
from fusionlib.metrics.structure import mse, psnr, ssim
from fusionlib.networks.res2netfuse import Res2NetFuse
from fusionlib.pairs import Dataset, Pair

from . import results, show
from .compare import compare
from .papers import paper_values
from .published import PublishedImages, fused_dataset
from .rows import READINGS, SOURCES, TABLES, Row, Source, data_hash, dataset_of
from .scores import Scores, score_versions, this_run
from .tracing import layer_table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "READINGS",
    "SOURCES",
    "TABLES",
    "Measured",
    "Row",
    "Source",
    "available",
    "compare_with_plain",
    "convention_table",
    "fusion_table",
    "network_table",
    "pipeline_effect",
    "printed_inside_interval",
    "rank_agreement",
    "recorded",
    "reconstruction_table",
    "show_texts",
]


#: Metrics of which codes in circulation give different values.
DISPUTED = tuple(name for name, one in METRICS.items() if len(one.definitions()) > 1)


@dataclass(frozen=True)
class Measured:
    """A measured table.

    Attributes
    ----------
    table : str
    per_pair : DataFrame
        One value per row, pair and metric.
    compared : DataFrame
        Mean, interval, paper value, difference, verdict.
    missing : mapping of str to str
        Row of the paper -> what would fill it.
    facts : mapping
        The provenance.
    """

    table: str
    per_pair: pd.DataFrame
    compared: pd.DataFrame
    missing: Mapping[str, str]
    facts: Mapping[str, Any]

    def show(self, *metrics: str, caption: str = "", **options: Any) -> Styler:
        """Style the table, or some of its columns; see `reproduction.show.show`."""
        asked = self.compared["metric"].isin(metrics or self.compared["metric"])
        return show.show(self.compared[asked], caption=caption, **options)

    def caption(self, title: str, *, images: str = "pair") -> str:
        """Return a caption: the title, over how many pairs the means are, and the profile."""
        count = self.per_pair["pair"].nunique()
        return f"{title}, {count} {images}{'s' * (count != 1)}, profile {self.facts['profile']}"

    def show_missing(self) -> Styler:
        """List the rows of the paper that could not be measured and what would fill them."""
        return show_texts(self.missing)


def show_texts(texts: Mapping[str, str]) -> Styler:
    """Show names and what they mean as a table of two columns that wraps long texts."""
    shown = [re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text)) for text in texts.values()]
    frame = pd.DataFrame({"": list(texts), "meaning": shown})
    styler = frame.style.hide(axis="index").hide(axis="columns").set_uuid("texts")
    return styler.set_table_styles(
        [
            {"selector": "td", "props": "text-align: left; vertical-align: top"},
            {"selector": "td.col0", "props": "white-space: nowrap"},
            {"selector": "td.col1", "props": "overflow-wrap: anywhere"},
        ]
    )


def network_table(
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    device: str = "cpu",
    seed: int = 0,
) -> pd.DataFrame:
    """Check Table I layer by layer against the network as it runs, and save the comparison.

    Parameters
    ----------
    profile, results_dir, device, seed
        As in `fusion_table`; the network is the same in both profiles.

    Returns
    -------
    DataFrame
        One row per convolution in the order they run: the paper's part and layer, then size,
        stride, channels and activation of the live ``paper`` variant, and whether all agree.
    """
    printed = pd.read_csv(
        package_data("paper_tables/res2netfuse_table_01_network.csv"), keep_default_na=False
    )
    # A row such as "(Conv3) x2" stands for two convolutions.
    times = printed["layer"].str.endswith("x2").map({True: 2, False: 1})
    printed = printed.loc[printed.index.repeat(times)].reset_index(drop=True)
    network = Res2NetFuse("paper")
    live = layer_table(network)
    facts = ["size", "stride", "input channels", "output channels", "activation"]
    agrees = (printed[facts] == live[facts]).all(axis=1).rename("agrees")
    checked = pd.concat([printed[["part", "layer"]], live[facts], agrees], axis=1)
    provenance = results.provenance(
        seed=seed,
        device=device,
        profile=profile,
        parameters=sum(p.numel() for p in network.parameters()),
    )
    results.save(Path(results_dir) / profile / "table_01", summary=checked, facts=provenance)
    return checked


def available(
    rows: Sequence[Row],
    dataset: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> tuple[dict[str, Fuser], dict[str, str]]:
    """Create the methods of the rows that can be had.

    Returns
    -------
    methods : dict of str to Method or PublishedImages
        By row label.
    missing : dict of str to str
        Row label -> why not, and what to do.
    """
    methods: dict[str, Fuser] = {}
    missing: dict[str, str] = {}
    for row in rows:
        if row.slow and dataset == "sample":
            missing[row.label] = row.slow
            continue
        try:
            if row.images:
                methods[row.label] = _published(row, dataset, data_dir)
            else:
                methods[row.label] = create(
                    row.method, weights_dir=weights_dir, device=device, **row.options
                )
        except UnknownName:
            raise
        except FusionError as error:
            missing[row.label] = getattr(error, "remedy", "") or str(error)
    return methods, missing


def _published(row: Row, dataset: str, data_dir: str | os.PathLike[str] | None) -> PublishedImages:
    fused = fused_dataset(row.method, row.images)
    if fused != dataset:
        raise FusionError(f"the authors' images are of {fused}, this is {dataset}")
    return PublishedImages(row.method, row.images, data_dir=data_dir)


def fusion_table(
    table: str,
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    limit: int | None = None,
) -> Measured:
    """Measure a table of fusion results, compare it with the paper and save it.

    Parameters
    ----------
    table : str
        A key of `TABLES`.
    profile : {"sample", "paper"}
        The built-in pairs, or the paper's.
    results_dir : path
        ``<results_dir>/<profile>/<table>/`` receives the results. Scores that are there, of any
        table or of a run that was stopped, are not measured again.
    data_dir, weights_dir, device, seed, limit
        As a notebook's parameters.

    Raises
    ------
    UnknownName
        If there is no such table or profile.
    FusionError
        If the data set is not there or a file cannot be written.
    """
    started = time.perf_counter()
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    dataset = dataset_of(table, profile)
    methods, missing = available(
        TABLES[table], dataset, data_dir=data_dir, weights_dir=weights_dir, device=device
    )
    folder = Path(results_dir) / profile / table
    pairs = load_dataset(dataset, data_dir=data_dir, limit=limit)
    columns = _columns(table)
    run = {"profile": profile, "device": device, "seed": seed, "limit": limit}
    this = this_run(_facts(started, methods, dataset, **run))
    rows, runs = Scores(folder.parent, dataset).measure(methods, pairs, list(columns), this)
    rows.insert(0, "table", table)
    facts = _facts(started, methods, dataset, score_versions=score_versions(), **run)
    if earlier := {row: every for row, every in runs.items() if every != [this]}:
        facts["measured_by"] = earlier
    headings = (rows["metric"] + ":" + rows["convention"]).map(columns)
    by_label = {row.label: row for row in TABLES[table]}
    return _compared(table, rows, headings, by_label, missing, facts, folder)


def recorded(table: str) -> Measured:
    """Return a table of fusion results as the committed run of profile "paper" measured it.

    Parameters
    ----------
    table : str
        A key of `TABLES`.

    Raises
    ------
    UnknownName
        If there is no such table.
    FusionError
        If its results are not there: they are part of the repository, not of the package.
    """
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    (per_pair, compared), facts = results.read_recorded(table, "per_pair", "summary")
    assert per_pair is not None and compared is not None  # a table of fusion results has both
    return Measured(table, per_pair, compared, {}, facts)


#: Columns whose printed convention is a mistake -> the right value to show beside them.
MENDED = {"MI:li": "MI:standard", "SSIM:cddfuse": "SSIM:cddfuse_255"}


def _columns(table: str) -> dict[str, str]:
    """Return the columns to measure, "metric:convention" -> heading."""
    printed = list(dict.fromkeys(paper_values(table)["metric"]))
    columns = {
        f"{one.metric.name}:{one.convention}": one.metric.name
        for one in select(SOURCES[table].metrics)
        if one.metric.name in printed
    }
    return columns | {MENDED[name]: MENDED[name] for name in columns if name in MENDED}


def convention_table(
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    limit: int | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the same fused images in every convention of every disputed metric, and save it.

    Parameters
    ----------
    profile, results_dir, data_dir, weights_dir, device, seed, limit
        As in `fusion_table`. Profile "paper" fuses with DenseFuse's published weights, "sample"
        with Res2NetFuse.

    Returns
    -------
    summary : DataFrame
        Columns metric, convention, n, mean, ci_low, ci_high.
    facts : dict
        The provenance.
    """
    started = time.perf_counter()
    dataset = dataset_of("metric_conventions", profile)
    method = create(
        "densefuse" if profile == "paper" else "res2netfuse",
        weights_dir=weights_dir,
        device=device,
    )
    pairs = load_dataset(dataset, data_dir=data_dir, limit=limit)
    metrics = [f"{name}:{other}" for name in DISPUTED for other in METRICS[name].conventions]
    per_pair = benchmark(method, pairs, metrics=metrics, jobs=None)
    per_pair.insert(0, "table", "metric_conventions")
    summary = summarise(per_pair, by=("metric", "convention"))
    run = {"profile": profile, "device": device, "seed": seed, "limit": limit}
    facts = _facts(started, {method.card.method: method}, dataset, **run)
    folder = Path(results_dir) / profile / "metric_conventions"
    results.save(folder, per_pair=per_pair, summary=summary, facts=facts)
    return summary, facts


def compare_with_plain(
    fused: np.ndarray, ir: np.ndarray, vis: np.ndarray, metrics: Sequence[str]
) -> pd.DataFrame:
    """Score a fused image beside what needs no method: both images' average, maximum, the visible.

    Parameters
    ----------
    fused, ir, vis : ndarray
        (H, W) in uint8, as of `fusionlib.evaluation.levels`.
    metrics : sequence of str
        As in `fusionlib.evaluate`.

    Returns
    -------
    DataFrame
        A row per picture, a column per metric.
    """
    pictures = {
        "average": ((ir.astype(int) + vis + 1) // 2).astype(np.uint8),
        "maximum": np.maximum(ir, vis),
        "visible alone": vis,
        "fused": fused,
    }
    return pd.DataFrame({name: evaluate(one, ir, vis, metrics) for name, one in pictures.items()}).T


def rank_agreement(pairs: Dataset[Pair], method: Fuser, metrics: Sequence[str]) -> pd.DataFrame:
    """Count the pairs in which metrics rank the pictures of `compare_with_plain` as the first does.

    Returns
    -------
    DataFrame
        A row per metric after the first, one column.
    """
    first, *others = metrics
    agree = pd.Series(0, index=pd.Index(others))
    for pair in pairs:
        fused, ir, vis = (levels(one) for one in (method.fuse_pair(pair), pair.ir, pair.vis))
        ranks = compare_with_plain(fused, ir, vis, metrics).rank(ascending=False)
        agree += ranks[others].eq(ranks[first], axis=0).all()
    return agree.to_frame(f"same ranking, of {len(pairs)} pairs")


def reconstruction_table(
    *,
    profile: str,
    results_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    weights_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    limit: int | None = None,
) -> Measured:
    """Measure Table III: encode and decode natural images, compare with the originals.

    Each method is measured in every reading of `READINGS`; the row is called
    "method (reading)". Parameters as in `fusion_table`; the paper's 20 COCO images are not
    named, ours are the first 20 of data set coco_val2017.
    """
    started = time.perf_counter()
    table = "table_03"
    dataset = dataset_of(table, profile)
    methods, missing = available(
        TABLES[table], dataset, data_dir=data_dir, weights_dir=weights_dir, device=device
    )
    images = load_images(dataset, data_dir=data_dir, limit=20 if limit is None else min(limit, 20))
    rows = []
    for label, method in methods.items():
        assert isinstance(method, Method)
        for name, image in tqdm(images, desc=label):
            raw = method.raw_reconstruction(image)
            original = levels(image)
            clipped = levels(method.finish(raw, "clip"))
            stretched = levels(method.finish(raw, "minmax"))
            for reading, output, reference in (
                ("clipped", clipped, original),
                ("stretched", stretched, original),
                ("both stretched", stretched, levels(method.finish(original, "minmax"))),
            ):
                values = {
                    "MSE": mse(output, reference) / 255**2,  # printed on 0..1
                    "SSIM": ssim(output, reference),
                    "PSNR": psnr(output, reference),
                }
                post = "clip" if reading == "clipped" else "minmax"
                identity = method.identity._replace(rule="", post=post)
                rows += [
                    {"table": table, "row": f"{label} ({reading})"}
                    | identity._asdict()
                    | {"dataset": dataset, "pair": name}
                    | {"metric": metric, "convention": reading, "colour": "Y", "value": value}
                    for metric, value in values.items()
                ]
    run = {"profile": profile, "device": device, "seed": seed, "limit": limit}
    facts = _facts(started, methods, dataset, readings=READINGS, **run)
    labels = {f"{row.label} ({reading})": row for row in TABLES[table] for reading in READINGS}
    folder = Path(results_dir) / profile / table
    frame = pd.DataFrame(rows)
    return _compared(table, frame, frame["metric"], labels, missing, facts, folder)


def _compared(
    table: str,
    per_pair: pd.DataFrame,
    headings: pd.Series,
    labels: Mapping[str, Row],
    missing: Mapping[str, str],
    facts: Mapping[str, Any],
    folder: Path,
) -> Measured:
    """Put the paper's values beside the measured rows, by label and heading, and save them."""
    compared = compare(
        summarise(per_pair.assign(metric=headings)),
        table,
        papers={label: row.paper for label, row in labels.items()},
        comparable=facts["profile"] == "paper"
        and facts["limit"] is None
        and SOURCES[table].comparable,
        orientation=[label for label, row in labels.items() if row.orientation],
    )
    results.save(folder, per_pair=per_pair, summary=compared, facts=facts)
    return Measured(table, per_pair, compared, _missing_rows(table, missing), facts)


def pipeline_effect(compared: pd.DataFrame, others: Mapping[str, str]) -> Styler:
    """Show how far another pipeline of the same network moves each mean, in percent.

    Parameters
    ----------
    compared : DataFrame
        `Measured.compared`.
    others : mapping of str to str
        Row -> the row of the other pipeline; what was not measured is left out.
    """
    means = compared.pivot_table(index="row", columns="metric", values="mean", sort=False)
    both = {row: other for row, other in others.items() if {row, other} <= set(means.index)}
    theirs = means.loc[[*both.values()]].rename_axis(index=None, columns=None)
    change = theirs.div(means.loc[[*both]].to_numpy()).sub(1).mul(100)
    caption = "change in percent" if both else "no row has both pipelines on this machine"
    return change.style.format("{:+.1f} %").set_caption(caption).set_uuid("pipelines")


def printed_inside_interval(measured: Measured) -> pd.DataFrame:
    """Count, per method and reading of Table III, the printed values inside our 95 % interval.

    Returns
    -------
    DataFrame
        Rows are methods, columns the `READINGS`; values from 0 to 3 (MSE, SSIM, PSNR).
    """
    frame = measured.compared
    parts = frame["row"].str.extract(r"(?P<method>.*) \((?P<reading>.*)\)")
    inside = frame["paper"].between(frame["ci_low"], frame["ci_high"]).astype(int)
    counts = parts.assign(inside=inside).pivot_table(
        index="method", columns="reading", values="inside", aggfunc="sum", sort=False
    )
    return counts.rename_axis(index=None, columns=None)


def _facts(
    started: float, methods: Mapping[str, Fuser], dataset: str, **facts: Any
) -> dict[str, Any]:
    """Collect the provenance of a table whose measurement began at `started`."""
    departs = {one.paper: one.departs for one in SOURCES.values() if one.departs}
    if dataset in departs:
        facts["data_departs"] = departs[dataset]
    return results.provenance(
        methods=methods,
        data={dataset: data_hash(dataset)},
        seconds=time.perf_counter() - started,
        **facts,
    )


def _missing_rows(table: str, missing: Mapping[str, str]) -> dict[str, str]:
    """Rows without weights, and rows of the paper that none of ours can reproduce."""
    rest = {}
    for paper in dict.fromkeys(paper_values(table)["row"]):
        rows = [row for row in TABLES[table] if row.paper == paper]
        if not rows:
            rest[paper] = "its method is not in this version of fusionlib"
        elif all(row.orientation for row in rows):
            rest[paper] = f"{rows[0].orientation}; {rows[0].label} stands here for orientation"
    return dict(missing) | rest
