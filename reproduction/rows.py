"""The rows of the papers' tables: which method, with which settings, on which data."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fusionlib.datasets import package_data
from fusionlib.errors import unknown
from fusionlib.methods import registry

from .ablations import ABLATIONS

__all__ = [
    "READINGS",
    "SOURCES",
    "TABLES",
    "Row",
    "Source",
    "data_hash",
    "dataset_of",
    "with_retrained",
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
    "80,000 COCO images: python -m reproduction train res2netfuse FOLDER -o OUT.safetensors "
    "follows the published schedule"
)

_DENSEFUSE = Row("DenseFuse", "DenseFuse", "densefuse")
_MSDNET = (
    Row("MSDNet l1_norm", "MSDNet l1_norm", "msdnet", {"rule": "l1_norm"}),
    Row("MSDNet mean", "MSDNet mean", "msdnet", {"rule": "mean"}),
)


def _images(paper: str, method: str, dataset: str) -> Row:
    """Row of the images that a method's authors published."""
    return Row(f"{paper}, authors' images", paper, method, images=f"published_{dataset}_{method}")


def with_retrained(title: str, method: str, paper: str | None = None) -> tuple[Row, ...]:
    """Return the rows of a method: with the authors' weights, and with our own if there are some.

    Parameters
    ----------
    title : str
        The label of the first.
    method : str
    paper : str, optional
        The paper's row; default: called as the title is.
    """
    paper = title if paper is None else paper
    rows = [Row(title, paper, method)]
    configurations = registry()[method].configurations.values()
    names = {file.name for one in configurations for file in one.weights}
    if (ours := f"{method}_retrained") in names:
        label, instead = f"{title}, retrained", f"the authors' weights of {title}"
        options = {"weights": ours}
        rows.append(Row(label, paper, method, options, orientation=instead))
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
    *with_retrained("SwinFusion", "swinfusion"),
    Row("LRRNet", "LRRNet", "lrrnet"),
    *with_retrained("CDDFuse", "cddfuse"),
    *with_retrained("EMMA", "emma"),
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
        # Section III-C calls it too rough, and prints no row of it.
        Row("Res2NetFuse_1 average", "", "res2netfuse", {"rule": "average"}),
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
        *with_retrained("FusionGAN", "fusiongan", paper="fusionGAN"),
        *_MSDNET,
        *_res2netfuse("Res2NetFuse", "Res2NetFuse"),
    ),
    "table_04_2023": (
        _DCHWT,
        *_sparse("JSR", "jsr"),
        *_sparse("JSRSD", "jsrsd"),
        _DENSEFUSE,
        *with_retrained("FusionGAN", "fusiongan"),
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
    named : bool
        Whether the paper says which images it took; else ours may be others.
    """

    sample: str
    paper: str
    metrics: str = ""
    departs: str = ""
    comparable: bool = True
    named: bool = True


THIRD_OF_MSRS = "every third pair (121) of the paper's 361"

#: The papers name these data sets; of the 20 COCO images of Table III they do not say which.
SOURCES = {
    "table_02": Source("sample", "tno20", "res2netfuse"),
    "table_03": Source("sample_images", "coco_val2017", named=False),
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
        named=False,
    ),
    "refinefuse_06": Source(
        "sample_mri_pet",
        "mri_pet",
        "refinefuse",
        "which 15 pairs the paper took is not known; these may be others",
        comparable=False,
        named=False,
    ),
    "refinefuse_07": Source(
        "sample_mri_spect",
        "mri_spect",
        "refinefuse",
        "which 20 pairs the paper took is not known; these may be others",
        comparable=False,
        named=False,
    ),
    **{
        f"refinefuse_{number:02}": Source("sample", "msrs", "refinefuse", THIRD_OF_MSRS)
        for number in (8, 9, 10)
    },
    "metric_conventions": Source("sample", "tno20"),
}

#: How a reconstruction is compared with its original, since the paper does not say.
READINGS = {
    "clipped": "the reconstruction is clipped to 0..255, then rounded or truncated as released",
    "stretched": "the reconstruction is stretched to 0..255, the original is not",
    "both stretched": "reconstruction and original are each stretched to 0..255",
}


def dataset_of(table: str, profile: str) -> str:
    """Return the data set that a table is measured on.

    Raises
    ------
    UnknownName
        If there is no such profile.
    """
    if profile not in ("sample", "paper"):
        raise unknown("profile", profile, ("sample", "paper"))
    return SOURCES[table].paper if profile == "paper" else SOURCES[table].sample


def data_hash(dataset: str) -> str:
    """Hash what a data set is: the names of its items and the hashes of their files."""
    text = package_data(f"splits/{dataset}.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    facts = [
        sorted((key, row[key]) for key in row if key == "name" or key.endswith("_sha256"))
        for row in rows
    ]
    return hashlib.sha256(json.dumps([dataset, facts]).encode()).hexdigest()
