"""The papers' tables as experiments: which rows, with which settings, on which data.

A notebook asks for a table; this module creates the methods that can be had, says which
cannot and what would fill them, measures, compares with the print and saves.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from tqdm.auto import tqdm

from . import results, tables
from .card import Identity
from .datasets import load_dataset, load_images, package_data
from .errors import FusionError, UnknownName, unknown
from .evaluation import COLUMNS, Fuser, benchmark, levels
from .files import write_text
from .methods import Method, create, registry
from .metrics import METRICS, select
from .metrics.structure import mse, psnr, ssim
from .networks.refinefuse import ABLATIONS
from .networks.res2netfuse import Res2NetFuse
from .published import PublishedImages, fused_dataset
from .tracing import layer_table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

__all__ = [
    "READINGS",
    "TABLES",
    "Measured",
    "Row",
    "available",
    "convention_table",
    "data_hash",
    "fusion_table",
    "keep_scores",
    "network_table",
    "pipeline_effect",
    "printed_inside_interval",
    "recorded",
    "reconstruction_table",
    "show_texts",
]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    label : str
        How our row is called.
    paper : str
        The paper's row ("method strategy"), empty if it has none.
    method : str
        A registered method.
    options : mapping
        For `fusionlib.create`.
    images : str
        A data set of the authors' fused images, which then stand in for the method.
    orientation : str
        Where ours is no reproduction of the paper's row, which then stands beside it for
        orientation only: what would be one.
    slow : str
        Why profile "sample" leaves it out.
    """

    label: str
    paper: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    images: str = ""
    orientation: str = ""
    slow: str = ""


def _res2netfuse(
    label: str, paper: str, *, orientation: str = "", **options: str
) -> tuple[Row, ...]:
    """Rows of one Res2NetFuse model, for both published rules."""
    return tuple(
        Row(
            f"{label} {rule}",
            f"{paper} {rule}",
            "res2netfuse",
            options | {"rule": rule},
            orientation=orientation,
        )
        for rule in ("l1_norm", "mean")
    )


#: What would reproduce the rows of Res2NetFuse_80000.
_80000 = (
    "80,000 COCO images: fusionlib train res2netfuse FOLDER -o OUT.safetensors follows the "
    "published schedule"
)

_DENSEFUSE = Row("DenseFuse", "DenseFuse", "densefuse")
_MSDNET = (
    Row("MSDNet l1_norm", "MSDNet l1_norm", "msdnet", {"rule": "l1_norm"}),
    Row("MSDNet mean", "MSDNet mean", "msdnet", {"rule": "mean"}),
)


def _images(paper: str, method: str, dataset: str) -> Row:
    """Row of the images that a method's authors published."""
    return Row(f"{paper}, authors' images", paper, method, images=f"published_{dataset}_{method}")


def _retrained(title: str, method: str, paper: str = "") -> tuple[Row, ...]:
    """Rows of a method with the authors' weights, and with our own where there are some."""
    rows = [Row(title, paper or title, method)]
    configurations = registry()[method].configurations.values()
    names = {file.name for one in configurations for file in one.weights}
    if (ours := f"{method}_retrained") in names:
        label, instead = f"{title}, retrained", f"the authors' weights of {title}"
        options = {"weights": ours}
        rows.append(Row(label, paper or title, method, options, orientation=instead))
    return tuple(rows)


def _sparse(title: str, method: str) -> tuple[Row, ...]:
    """Rows of a method with dictionaries from different places."""
    slow = "learns a dictionary from each pair, for minutes; profile paper measures it"
    one = "a dictionary learnt from each pair: the other rows"
    fixed = {"pipeline": "fixed"}
    return (
        Row(title, title, method, {"pipeline": "published"}, slow=slow),
        Row(f"{title}, all learnt here", title, method, slow=slow),
        Row(f"{title}, one dictionary", title, method, fixed, orientation=one),
        _images(title, method, "tno20"),
    )


_DCHWT = Row("DCHWT", "DCHWT", "dchwt")

#: The comparison of RefineFuse on infrared and visible images.
_REFINEFUSE = (
    Row("MST", "MST", "mst"),
    Row("MST, images exchanged", "MST", "mst", {"pipeline": "exchanged"}),
    _DENSEFUSE,
    Row("DenseFuse, PyTorch release", "DenseFuse", "densefuse", {"pipeline": "pytorch"}),
    Row("U2Fusion", "U2Fusion", "u2fusion"),
    Row("U2Fusion, as released", "U2Fusion", "u2fusion", {"pipeline": "released"}),
    Row("RFN-Nest", "RFN-Nest", "rfn_nest"),
    _images("RFN-Nest", "rfn_nest", "tno42"),
    Row("SDNet", "SDNet", "sdnet"),
    Row("SDNet, as released", "SDNet", "sdnet", {"pipeline": "released"}),
    Row("SeAFusion", "SeAFusion", "seafusion"),
    *_retrained("SwinFusion", "swinfusion"),
    Row("LRRNet", "LRRNet", "lrrnet"),
    *_retrained("CDDFuse", "cddfuse"),
    *_retrained("EMMA", "emma"),
    Row("RefineFuse", "RefineFuse", "refinefuse"),
    Row("RefineFuse, stretched", "RefineFuse", "refinefuse", {"post": "minmax"}),
)

#: The same on medical images, of which no authors' results are to be had.
_MEDICAL = tuple(row for row in _REFINEFUSE if not row.images)

#: What would reproduce a row of RefineFuse's ablations.
_ABLATIONS = "300 epochs for every row; here they have a short training, all alike"


def _ablation(label: str, paper: str, weights: str) -> Row:
    variant = ABLATIONS[weights].variant
    options = {"variant": variant, "weights": weights}
    return Row(label, paper, "refinefuse", options, orientation=_ABLATIONS)


def _ours(paper: str) -> tuple[Row, ...]:
    """Rows of the whole network, trained as those it is compared with, three times."""
    return (
        _ablation("Ours", paper, "refinefuse_short"),
        _ablation("Ours, seed 1", paper, "refinefuse_short_seed_1"),
        _ablation("Ours, seed 2", paper, "refinefuse_short_seed_2"),
    )


#: Table -> its rows, as far as the methods exist in this package.
TABLES: dict[str, tuple[Row, ...]] = {
    "table_02": (
        _DENSEFUSE,
        *_MSDNET,
        *_res2netfuse(
            "Res2NetFuse_40",
            "Res2NetFuse_80000",
            weights="res2netfuse_40_released",
            orientation=_80000,
        ),
        *_res2netfuse("Res2NetFuse_1", "Res2NetFuse_1"),
        *_res2netfuse(
            "Res2NetFuse_1, trained again",
            "Res2NetFuse_1",
            weights="res2netfuse_1_released_coco86_again",
        ),
        *_res2netfuse(
            "Res2NetFuse_1, another image",
            "Res2NetFuse_1",
            weights="res2netfuse_1_released_coco34",
        ),
        *_res2netfuse("Res2NetFuse_1, paper's text", "Res2NetFuse_1", variant="paper"),
        Row(
            "Res2NetFuse_1 eq. 7 as printed",
            "Res2NetFuse_1 mean",
            "res2netfuse",
            {"rule": "mean_eq7"},
        ),
    ),
    "table_03": (
        _DENSEFUSE,
        Row("MSDNet", "MSDNet", "msdnet"),
        Row("Res2NetFuse_1", "Res2NetFuse_1", "res2netfuse"),
        Row(
            "Res2NetFuse_1, another image",
            "Res2NetFuse_1",
            "res2netfuse",
            {"weights": "res2netfuse_1_released_coco34"},
        ),
        Row("Res2NetFuse_1, paper's text", "Res2NetFuse_1", "res2netfuse", {"variant": "paper"}),
        Row(
            "Res2NetFuse_40",
            "Res2NetFuse_80000",
            "res2netfuse",
            {"weights": "res2netfuse_40_released"},
            orientation=_80000,
        ),
    ),
    "table_04_2021": (
        _DCHWT,
        *_sparse("JSR", "jsr"),
        *_sparse("JSRSD", "jsrsd"),
        _DENSEFUSE,
        *_retrained("FusionGAN", "fusiongan", paper="fusionGAN"),
        *_MSDNET,
        *_res2netfuse("Res2NetFuse", "Res2NetFuse"),
    ),
    "table_04_2023": (
        _DCHWT,
        *_sparse("JSR", "jsr"),
        *_sparse("JSRSD", "jsrsd"),
        _DENSEFUSE,
        *_retrained("FusionGAN", "fusiongan"),
        Row("AEFusion", "AEFusion", "aefusion"),
        Row("AT-GAN", "AT-GAN", "atgan"),
        Row("CUFD", "CUFD", "cufd"),
        Row("MUFusion", "MUFusion", "mufusion"),
        Row("MUFusion, as released", "MUFusion", "mufusion", {"pipeline": "released"}),
        *_MSDNET,
        *_res2netfuse("Res2NetFuse", "Res2NetFuse"),
    ),
    "refinefuse_01": _REFINEFUSE,
    "refinefuse_02": _REFINEFUSE,
    "refinefuse_03": _REFINEFUSE,
    "refinefuse_05": _MEDICAL,
    "refinefuse_06": _MEDICAL,
    "refinefuse_07": _MEDICAL,
    "refinefuse_08": (
        _ablation("Setting A", "Setting A", "refinefuse_setting_a"),
        _ablation("Setting B", "Setting B", "refinefuse_setting_b"),
        _ablation("Setting C", "Setting C", "refinefuse_setting_c"),
        *_ours("RefineFuse"),
    ),
    "refinefuse_09": (
        _ablation("I", "I", "refinefuse_scales_1_no_sfim"),
        _ablation("II", "II", "refinefuse_scales_1"),
        _ablation("III", "III", "refinefuse_scales_2_no_psim"),
        _ablation("IV", "IV", "refinefuse_scales_2"),
        _ablation("V", "V", "refinefuse_no_fim"),
        *_ours("Ours"),
    ),
    "refinefuse_10": (
        _ablation("A", "A", "refinefuse_scales_3"),
        _ablation("B", "B", "refinefuse_scales_5"),
        *_ours("Ours"),
    ),
}


class Source(NamedTuple):
    """What a table is measured on.

    Attributes
    ----------
    sample, paper : str
        The data set, by profile.
    metrics : str
        The selection of metrics that the table prints.
    departs : str
        How our data set differs from the paper's.
    comparable : bool
        Whether a difference from the print means something in spite of that.
    """

    sample: str
    paper: str
    metrics: str = ""
    departs: str = ""
    comparable: bool = True


THIRD_OF_MSRS = "every third pair (121) of the paper's 361"

#: The papers name these data sets; of the 20 COCO images of Table III they do not say which.
SOURCES = {
    "table_02": Source("sample", "tno20", "res2netfuse"),
    "table_03": Source("sample_images", "coco_val2017"),
    "table_04_2021": Source("sample", "tno20", "res2netfuse"),
    "table_04_2023": Source("sample", "tno20", "res2netfuse"),
    "refinefuse_01": Source("sample", "msrs", "refinefuse", THIRD_OF_MSRS),
    "refinefuse_02": Source(
        "sample", "m3fd", "refinefuse", "one pair of the paper's 300", comparable=False
    ),
    "refinefuse_03": Source("sample", "tno42", "refinefuse"),
    "refinefuse_05": Source(
        "sample_mri_ct",
        "mri_ct",
        "refinefuse",
        "which 20 pairs the paper took is not known; these may be others",
        comparable=False,
    ),
    "refinefuse_06": Source(
        "sample_mri_pet",
        "mri_pet",
        "refinefuse",
        "which 15 pairs the paper took is not known; these may be others",
        comparable=False,
    ),
    "refinefuse_07": Source(
        "sample_mri_spect",
        "mri_spect",
        "refinefuse",
        "which 20 pairs the paper took is not known; these may be others",
        comparable=False,
    ),
    **{
        f"refinefuse_{number:02}": Source("sample", "msrs", "refinefuse", THIRD_OF_MSRS)
        for number in (8, 9, 10)
    },
    "metric_conventions": Source("sample", "tno20"),
}

#: Metrics of which codes in circulation give different values.
DISPUTED = tuple(name for name, one in METRICS.items() if len(one.definitions()) > 1)

#: How a reconstruction is compared with its original, since the paper does not say.
READINGS = {
    "clipped": "the reconstruction is clipped to 0..255, then rounded or truncated as released",
    "stretched": "the reconstruction is stretched to 0..255, the original is not",
    "both stretched": "reconstruction and original are each stretched to 0..255",
}


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
        """Style the table, or some of its columns; see `fusionlib.tables.show`."""
        asked = self.compared["metric"].isin(metrics or self.compared["metric"])
        return tables.show(self.compared[asked], caption=caption, **options)

    def show_missing(self) -> Styler:
        """List the rows of the paper that could not be measured and what would fill them."""
        return show_texts(self.missing)


def show_texts(texts: Mapping[str, str]) -> Styler:
    """Show names and what they mean as a table of two columns that wraps long texts."""
    frame = pd.DataFrame({"": list(texts), "meaning": list(texts.values())})
    styler = frame.style.hide(axis="index").hide(axis="columns").set_uuid("texts")
    return styler.set_table_styles([{"selector": "td", "props": "text-align: left"}])


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
        ``<results_dir>/<profile>/<table>/`` receives the results. Scores that this code has
        measured before, for another table or in a run that was interrupted, are reused.
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
    dataset = _dataset(table, profile)
    methods, missing = available(
        TABLES[table], dataset, data_dir=data_dir, weights_dir=weights_dir, device=device
    )
    folder = Path(results_dir) / profile / table
    pairs = load_dataset(dataset, data_dir=data_dir, limit=limit)
    scores = _scores_file(dataset, folder.parent)
    columns = _columns(table)
    rows = benchmark(list(methods.values()), pairs, metrics=list(columns), csv=scores, jobs=None)
    labels = {method.identity: label for label, method in methods.items()}
    keys = rows[list(Identity._fields)].itertuples(index=False)
    rows.insert(0, "table", table)
    rows.insert(1, "row", [labels.get(Identity(*key)) for key in keys])
    places = {label: i for i, label in enumerate(methods)}
    rows = rows.sort_values("row", key=lambda row: row.map(places), kind="stable")
    rows = rows.reset_index(drop=True)
    run = {"profile": profile, "device": device, "seed": seed, "limit": limit}
    facts = _facts(started, methods, dataset, **run)
    kept = _kept(scores)
    if entries := {label: kept[key] for key, label in labels.items() if key in kept}:
        facts["kept"] = entries
    headings = (rows["metric"] + ":" + rows["convention"]).map(columns)
    by_label = {row.label: row for row in TABLES[table]}
    return _compared(table, rows, headings, by_label, missing, facts, folder)


def _scores_file(dataset: str, folder: Path) -> Path:
    """Return where scores are cached, by the folder of a profile.

    Tables share pairs and methods; scores of other code are not used, unless `keep_scores` says so.
    """
    return folder / "cache" / f"{dataset}-{results.score_hash()[:12]}.csv"


def keep_scores(profile: str, results_dir: str | os.PathLike[str]) -> dict[str, int]:
    """Take the scores of the tables in `results_dir` for this code's own.

    After a change that moves no score of theirs, a method added for example, tables then measure
    the new rows only. A method with this configuration and these weights of which this code has
    measured anything on that data set is left as it is. The provenance of a table lists the rows
    that have kept scores: how many, of which commits, with which PyTorch, on which device.

    Whether the change moves none is for whoever asks for this to know, and for
    ``tests/test_tables_reproduced.py`` to check: it fuses and scores a pair of each row anew.

    Parameters
    ----------
    profile : {"sample", "paper"}
    results_dir : path
        As in `fusion_table`.

    Returns
    -------
    dict of str to int
        Table -> number of scores that were taken from it.

    Raises
    ------
    UnknownName
        If there is no such profile.
    FusionError
        If results are not whole or of other data, or a file cannot be written.
    """
    folder = Path(results_dir) / profile
    given = {}
    for table in TABLES:
        dataset, source = _dataset(table, profile), folder / table
        if table == "table_03" or not source.is_dir():
            continue  # scores of reconstructions are not cached
        rows, facts = _read_results(source, dataset)
        scores = _scores_file(dataset, folder)
        known = _read_text(scores) if scores.exists() else rows.iloc[:0]
        measured = set(known[[*Identity._fields]].itertuples(index=False, name=None))
        kept, taken = _kept(scores), []
        for (row, *key), some in rows.groupby(["row", *Identity._fields], sort=False):
            if (*key,) in measured:
                continue
            earlier = facts.get("kept", {}).get(row, {"commits": [], "scores": 0})
            commits = list(earlier["commits"])
            if len(some) > earlier["scores"]:
                commits.append(facts["commit"])
            kept[Identity(*map(str, key))] = {
                "commits": commits,
                "scores": len(some),
                "torch": facts["versions"]["torch"],
                "device": facts["device"]["name"],
            }
            taken.append(some[COLUMNS])
        given[table] = sum(map(len, taken))
        write_text(scores, pd.concat([known[COLUMNS], *taken]).to_csv(index=False))
        listed = [[*key, entry] for key, entry in kept.items()]
        write_text(_kept_file(scores), json.dumps(listed, indent=1) + "\n")
    return given


def _read_results(folder: Path, dataset: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the scores of a table, as text, and its provenance."""
    remedy = "Delete the folder, or measure without keeping."
    try:
        rows = _read_text(folder / "per_pair.csv")
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        data = facts["data"].get(dataset)
        if missing := {"row", *COLUMNS} - set(rows.columns):
            raise KeyError(*missing)
    except (OSError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise FusionError(f"{folder} does not hold whole results ({reason}). {remedy}") from error
    if data != data_hash(dataset):
        raise FusionError(f"the results in {folder} are of other data than {dataset}. {remedy}")
    return rows, facts


def _read_text(csv: Path) -> pd.DataFrame:
    """Read a table as text: a pair may be called "007", and a value is to stay as it is."""
    return pd.read_csv(csv, dtype=str, keep_default_na=False)


def _kept_file(scores: Path) -> Path:
    return scores.with_suffix(".kept.json")


def _kept(scores: Path) -> dict[Identity, dict[str, Any]]:
    """Return the methods some of whose cached scores were kept, and what is known of those."""
    file = _kept_file(scores)
    if not file.exists():
        return {}
    listed = json.loads(file.read_text(encoding="utf-8"))
    return {Identity(*key): entry for *key, entry in listed}


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
    printed = list(dict.fromkeys(tables.paper_values(table)["metric"]))
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
    dataset = _dataset("metric_conventions", profile)
    method = create(
        "densefuse" if profile == "paper" else "res2netfuse",
        weights_dir=weights_dir,
        device=device,
    )
    pairs = load_dataset(dataset, data_dir=data_dir, limit=limit)
    metrics = [f"{name}:{other}" for name in DISPUTED for other in METRICS[name].conventions]
    per_pair = benchmark(method, pairs, metrics=metrics, jobs=None)
    per_pair.insert(0, "table", "metric_conventions")
    summary = tables.summarise(per_pair, by=("metric", "convention"))
    run = {"profile": profile, "device": device, "seed": seed, "limit": limit}
    facts = _facts(started, {method.card.method: method}, dataset, **run)
    folder = Path(results_dir) / profile / "metric_conventions"
    results.save(folder, per_pair=per_pair, summary=summary, facts=facts)
    return summary, facts


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
    dataset = _dataset(table, profile)
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
    compared = tables.compare(
        tables.summarise(per_pair.assign(metric=headings)),
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


def _dataset(table: str, profile: str) -> str:
    if profile not in ("sample", "paper"):
        raise unknown("profile", profile, ("sample", "paper"))
    return SOURCES[table].paper if profile == "paper" else SOURCES[table].sample


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
    for paper in dict.fromkeys(tables.paper_values(table)["row"]):
        rows = [row for row in TABLES[table] if row.paper == paper]
        if not rows:
            rest[paper] = "its method is not in this version of fusionlib"
        elif all(row.orientation for row in rows):
            rest[paper] = f"{rows[0].orientation}; {rows[0].label} stands here for orientation"
    return dict(missing) | rest


def data_hash(dataset: str) -> str:
    """Hash what a data set is: the list of its files and their hashes, or the renderer's code."""
    if dataset.startswith("sample"):
        here = Path(__file__).parent
        files = [here / "scenes.py", here / "_props.py", here / "_render.py"]
    else:
        files = [package_data(f"splits/{dataset}.csv")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
