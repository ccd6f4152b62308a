"""The registry: names, selections, cards, input checks, and what holds for every metric."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fusionlib import metrics
from fusionlib.errors import ImageError, ImageTooSmall, MetricWarning, PairMismatch, UnknownName
from fusionlib.metrics import (
    CONVENTIONS,
    METRICS,
    SELECTIONS,
    Convention,
    list_metrics,
    plane,
    registry,
    select,
)
from fusionlib.metrics.plane import Plane
from tests.fusionlib.metrics.pictures import (
    flat,
    large_triples,
    noise,
    photos,
    triples,
    undefined_allowed,
)

pytestmark = pytest.mark.filterwarnings("error")

LOWER_IS_BETTER = {"Nabf", "CE", "MSE", "RMSE", "Q_CV"}
WITHOUT_DOI = {"SD", "EI", "CC"}
# Shortest sides: of the windows, of five or three scales of windows, of differences.
SMALLEST = {
    "SF": 2,
    "AG": 2,
    "Nabf": 2,
    "FMI_dct": 3,
    "FMI_pixel": 3,
    "FMI_gradient": 3,
    "SSIM": 11,
    "SSIM:cddfuse": 7,
    "SSIM:cddfuse_255": 7,
    "SSIM:tang": 1,
    "VIF": 41,
    "MS_SSIM:standard": 176,
    "MS_SSIM:li": 44,
}
# One convention of each definition.
EVERY = [
    f"{name}:{convention}"
    for name, metric in METRICS.items()
    for convention in {c.summary: n for n, c in reversed(metric.conventions.items())}.values()
]
# Those that see the fused image alone.
ALONE = [label for label in EVERY if label[:3] in ("EN:", "SD:", "SF:", "AG:", "EI:")] + ["MI:li"]
# Least and greatest value, where the definition has such bounds.
BOUNDS = {
    "EN": (0, 8),
    "MI": (0, 16),
    "MI:cddfuse": (0, 16 * math.log(2)),
    "MI:vifb": (0, 16 * math.log(2)),
    # The joint histogram may miss one bit of each image.
    "MI:tang": (0, 18),
    "Q_MI": (0, 2),
    "Q_NCIE": (1 - math.log(3, 256), 1),
    "MSE": (0, 255**2),
    "MSE:tang": (0, 1),
    "RMSE": (0, 255),
    "CC": (-1, 1),
    "SCD": (-2, 2),
    "SSIM_a": (-1, 1),
    "SSIM": (-1, 1),
    "SSIM:cddfuse": (-2, 2),
    "SSIM:cddfuse_255": (-2, 2),
    "SSIM:vifb": (-2, 2),
    "MS_SSIM": (0, 1),
    "SD": (0, 127.5),
    "SF": (0, 255 * math.sqrt(2)),
    "AG": (0, 255),
    # Divided by a quarter of the pixels of 2x2.
    "AG:tang": (0, 4 * 255),
    "Qabf": (0, 0.9754),
    "Nabf": (0, 1),
    "Q_CB": (0, 1),
    "CE": (-math.inf, math.inf),
    "PSNR": (-math.inf, math.inf),
}


def smallest(label):
    name = label.partition(":")[0]
    return SMALLEST.get(label, SMALLEST.get(name, 1))


def compute(label, *images):
    name, convention = label.split(":")
    return METRICS[name].compute(*images, convention)


def definitions(*left_out):
    return pytest.mark.parametrize("label", [label for label in EVERY if label not in left_out])


# ---------------------------------------------------------------- names and selections


def test_names_and_conventions():
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == (
        LOWER_IS_BETTER
    )
    assert all(next(iter(metric.conventions)) == "standard" for metric in METRICS.values())
    named = {name for metric in METRICS.values() for name in metric.conventions}
    assert named == set(CONVENTIONS)


@pytest.mark.parametrize(
    "selection, names, convention",
    [
        ("res2netfuse", "SSIM_a EN MI Qabf FMI_dct FMI_w SCD MS_SSIM", {"li"}),
        ("refinefuse", "VIF AG SCD Qabf SF EN SSIM", {"cddfuse", "tang"}),
        ("common", "EN MI SD SF AG CC SCD SSIM VIF Qabf Nabf", {"standard"}),
        ("all", " ".join(METRICS), {"standard"}),
    ],
)
def test_selections_are_the_columns_in_order(selection, names, convention):
    chosen = select(selection)
    assert [c.label for c in chosen] == [c.metric.name for c in chosen] == names.split()
    assert {c.convention for c in chosen} == convention
    assert all(c.metric is METRICS[c.label] for c in chosen)


def test_names_select_themselves_and_may_bring_their_convention():
    en, mi, sd, scd, vif = (METRICS[name] for name in ("EN", "MI", "SD", "SCD", "VIF"))
    assert select("EN") == [("EN", en, "standard")]
    assert select(["SCD", "EN"], "li") == [("SCD", scd, "li"), ("EN", en, "li")]
    assert select("MI:tang") == [("MI:tang", mi, "tang")]
    # Its own goes before the one for all.
    assert select(("MI:vifb", "MI"), "tang") == [("MI:vifb", mi, "vifb"), ("MI", mi, "tang")]
    # With selections, whose own conventions one for all replaces.
    assert select(["SD", "refinefuse"])[1:] == select("refinefuse")
    assert select(["SD", "refinefuse"], "tang")[:2] == [("SD", sd, "tang"), ("VIF", vif, "tang")]
    assert [c.convention for c in select("refinefuse")] == ["cddfuse", "tang"] + ["cddfuse"] * 5
    for nothing in ([], ()):
        with pytest.raises(UnknownName, match=r"no metric is named\. Known: .*EN.*common"):
            select(nothing)


@pytest.mark.parametrize("name", ["SSIM_b", ["EN", "SSIM_b"], "SSIM_b:li"])
def test_unknown_metric(name):
    with pytest.raises(UnknownName, match=r"unknown metric 'SSIM_b'\. .*Known: ") as e:
        select(name)
    # A selection has no convention of its own.
    known = [*METRICS, *([] if name == "SSIM_b:li" else SELECTIONS)]
    assert str(e.value).endswith(f"Known: {', '.join(sorted(known))}.")


@pytest.mark.parametrize(
    "names, convention", [("EN:pywt", None), ("EN", "pywt"), ("all", "li"), (["MI:"], "none")]
)
def test_unknown_convention(names, convention):
    with pytest.raises(UnknownName, match=r"metric \w+ has no convention '\w*', only standard"):
        select(names, convention)
    with pytest.raises(UnknownName, match="metric EN has no convention 'pywt', only standard, li"):
        METRICS["EN"].compute(*noise(), "pywt")
    with pytest.raises(UnknownName, match="'SSIM_a:standard'"):
        METRICS["SSIM_a"].convention("tang")


def test_list_metrics():
    frame = list_metrics()
    assert list(frame.index) == list(METRICS)
    assert list(frame) == ["meaning", "better", "range", "conventions", "doi"]
    assert frame.loc["Nabf", "better"] == "lower" and frame.loc["VIF", "better"] == "higher"
    assert frame.loc["MI", "conventions"] == "standard, li, cddfuse, tang, vifb"
    assert frame.loc["SD", "range"] == "0..127.5 gray levels"
    assert frame.loc["EN", "meaning"] == "entropy"
    for name, doi in frame["doi"].items():
        assert re.fullmatch("" if name in WITHOUT_DOI else r"10\.\d{4,}/\S+", doi)


# ---------------------------------------------------------------- cards and docstrings


@pytest.mark.parametrize("name", METRICS)
def test_cards_and_docstrings_have_the_facts(name):
    metric = METRICS[name]
    rows = metric.rows()
    assert rows["metric"] == f"{name}: {metric.title}" and rows["range"] == metric.range
    assert rows["better"] == ("lower" if name in LOWER_IS_BETTER else "higher")
    assert rows["source"] == metric.paper + (f", doi {metric.doi}" if metric.doi else "")
    for convention, facts in metric.conventions.items():
        side = smallest(f"{name}:{convention}")
        size = f"; images of at least {side}x{side} pixels" if side > 1 else ""
        labels = [label for label, text in rows.items() if text == facts.summary + size]
        assert len(labels) == 1 and convention in re.split(r"[ ,]+", labels[0])
    # Wrapped at blanks and hyphens.
    texts = {label: "".join(f"-{label}:{text}".split()) for label, text in rows.items()}
    assert "".join(str(metric).split()) == "".join(texts.values())
    del texts["definition"]
    document = metric.function.__doc__
    assert "".join(document.split()).endswith("".join(texts.values()))
    assert max(map(len, (str(metric) + "\n" + document).splitlines())) <= 100
    # With formulas between dollars, as a notebook shows them.
    assert metric.definition and "Parameters" not in metric.definition
    assert metric.definition.count("$") % 2 == 0 and ":math:" not in metric.definition
    assert metric._repr_html_().count("<tr>") == len(rows)


def test_the_definition_is_the_docstrings_beginning():
    assert METRICS["EN"].definition == (
        r"Shannon entropy of the gray levels: $-\sum_k p_k \log_2 p_k$."
    )
    assert r"$Q = \frac{0.9994}" in METRICS["Qabf"].definition
    assert "&#x27;Information measure" in METRICS["Q_MI"]._repr_html_()
    assert METRICS["MI"].function is metrics.information.mutual_information


# ---------------------------------------------------------------- registering


@pytest.fixture
def own(monkeypatch):
    """A metric of one's own, in an empty registry."""
    monkeypatch.setattr(registry, "METRICS", {})

    @registry.metric(
        "OWN",
        "a metric of one's own",
        range="any",
        paper="none",
        smallest=4,
        version=2,
        conventions={
            "standard li": Convention("the sum"),
            "tang": Convention("scaled", {"factor": 3}),
            "vifb": Convention("the fused image alone", {}, lambda fused: fused.values[0, 0], 6),
        },
    )
    def own(fused, vis, ir, *, factor=1):
        """Scale a sum."""
        return factor * np.int64(fused.values[0, 0] + vis.values[0, 0])

    return own


def test_registering(own):
    metric = registry.METRICS["OWN"]
    assert metric.function is own and list(metric.conventions) == ["standard", "li", "tang", "vifb"]
    assert metric.conventions["standard"] == metric.conventions["li"]
    assert [c.smallest for c in metric.conventions.values()] == [4, 4, 4, 6]
    assert metric.doi == "" and metric.higher_is_better
    assert metric.version == 2 and "version" not in str(metric) + repr(metric)
    assert own.__name__ == "own" and own.__doc__.startswith(
        "Scale a sum.\n\nNotes\n-----\nImages are gray levels"
    )
    assert "- convention standard, li: the sum" in own.__doc__
    images = flat(2, 3, 5, size=(6, 7))
    assert [metric.compute(*images, c) for c in metric.conventions] == [5, 5, 15, 2]
    assert own(*images, factor=2) == 10 and type(own(*images)) is float
    fused, vis, ir = images
    assert own(ir=ir, vis=vis, fused=fused, factor=2) == 10
    with pytest.raises(TypeError, match="too many positional"):
        own(*images, images[0])


def test_the_smallest_size_is_that_of_the_convention(own):
    metric = registry.METRICS["OWN"]
    images = flat(2, 3, 5, size=(5, 7))
    assert metric.compute(*images) == 5
    with pytest.raises(ImageTooSmall, match=r"OWN needs images of at least 6x6 pixels.*have 7x5"):
        metric.compute(*images, "vifb")


def test_errors_name_the_image_by_its_parameter(own):
    good, bad = np.zeros((6, 6), np.uint8), np.zeros((6, 6))
    for images, name in [
        ((bad, good, good), "fused image"),
        ((good, bad, good), "visible image"),
        ((good, good, bad), "infrared image"),
    ]:
        with pytest.raises(ImageError, match=f"^{name}: given float64 of shape"):
            own(*images)
    with pytest.raises(PairMismatch, match=r"^fused image and visible image and infrared image"):
        own(good, good, good[:5])


@definitions()
def test_the_smallest_size_works_and_the_next_smaller_does_not(label):
    side = smallest(label)
    images = noise((side, side))
    with undefined_allowed():
        assert math.isfinite(compute(label, *images))
    if side == 1:
        return
    name, convention = label.split(":")
    assert METRICS[name].conventions[convention].smallest == side
    for height, width in [(side - 1, side + 3), (side + 3, side - 1)]:
        needed = f"{side}x{side} pixels, these have {width}x{height}. Leave this metric out"
        with pytest.raises(ImageTooSmall, match=f"^{name} needs images of at least {needed}"):
            compute(label, *noise((height, width)))


# ---------------------------------------------------------------- what holds for every metric


def drawn(label, data):
    side = smallest(label)
    # Below 30 pixels hypothesis draws them one by one.
    return data.draw(triples(side, side + 9) if side < 20 else large_triples(side))


@definitions()
@given(data=st.data())
@settings(max_examples=12)
def test_values_are_numbers_in_their_range(label, data):
    images = drawn(label, data)
    with undefined_allowed():
        value = compute(label, *images)
        shared = compute(label, *map(Plane, images))
    low, high = BOUNDS.get(label, BOUNDS.get(label.partition(":")[0], (0, math.inf)))
    # Sums round to 1e-12 of the greatest value; in float32 to 1e-6.
    slack = 1e-6 if label in ("SSIM:cddfuse", "Qabf:cddfuse") else 1e-12 * max(1, min(high, 1e9))
    assert type(value) is float and low - slack <= value <= high + slack
    assert shared == value


@definitions("Nabf:tang")
@given(data=st.data())
@settings(max_examples=8)
def test_the_sources_may_change_places(label, data):
    f, a, b = drawn(label, data)
    with undefined_allowed():
        # Two terms in another order; weights that add up to 1 by subtraction.
        expected = pytest.approx(compute(label, f, a, b), rel=1e-12, abs=1e-12)
        assert compute(label, f, b, a) == expected


CASES = {
    "equal": lambda f, a, b: (f, f, f),
    "equal constants": lambda f, a, b: flat(9, 9, 9, size=f.shape),
    "black": lambda f, a, b: flat(0, 0, 0, size=f.shape),
    "constants": lambda f, a, b: flat(9, 0, 255, size=f.shape),
    "constant fused": lambda f, a, b: (*flat(9, size=f.shape), a, b),
    "black fused": lambda f, a, b: (*flat(0, size=f.shape), a, b),
    "constant source": lambda f, a, b: (f, *flat(9, size=f.shape), b),
    "constant sources": lambda f, a, b: (f, *flat(9, 9, size=f.shape)),
    "black sources": lambda f, a, b: (f, *flat(0, 0, size=f.shape)),
    "one source": lambda f, a, b: (a, a, b),
    "shifted source": lambda f, a, b: (a // 2 + 9, a // 2, b),
    "photos": lambda f, a, b: (f, a, b),
}
GRAY = {"equal constants", "constants", "constant fused", "constant source", "constant sources"}
NO_CONTRAST = {"equal constants", "black", "constants"}
# Where a formula gives 0/0; black needs no stretch.
UNDEFINED = {
    "CC": GRAY | {"black", "black fused", "black sources"},
    "SCD": NO_CONTRAST
    | {"equal", "constant source", "constant sources", "black sources", "one source"}
    | {"shifted source"},
    "Q_MI": NO_CONTRAST,
    "MI:vifb": GRAY,
    "VIF": NO_CONTRAST | {"constant source", "constant sources", "black sources"},
    "Q_CB": GRAY,
    "Q_CV": GRAY | {"black", "black sources"},
    "Qabf": {"black", "black sources"},
    "FMI_dct": GRAY | {"black", "black fused", "black sources"},
    "FMI_w": GRAY | {"black", "black fused", "black sources"},
}
INFINITE = {"equal", "equal constants", "black"}


@pytest.mark.parametrize("case", CASES)
@definitions()
def test_a_rule_sets_what_is_undefined_and_says_so(label, case):
    name = label.partition(":")[0]
    side = smallest(label)
    images = CASES[case](*photos((side + 20, side + 13)))
    if case in UNDEFINED.get(label, UNDEFINED.get(name, ())):
        with pytest.warns(MetricWarning):
            value = compute(label, *images)
    else:
        value = compute(label, *images)
    if name == "PSNR" and case in INFINITE:
        assert value == math.inf
    elif label == "PSNR:cddfuse" and case == "black fused":
        assert value == -math.inf
    else:
        assert math.isfinite(value)


# ---------------------------------------------------------------- shared planes


@pytest.mark.parametrize("room", [0, 10**5, plane.KEPT_BYTES])
@pytest.mark.parametrize("size, left_out", [((48, 50), "MS_SSIM:standard"), ((180, 177), "FMI")])
def test_values_do_not_depend_on_what_planes_remember(monkeypatch, size, left_out, room):
    """Fresh images, planes that every metric uses in turn, and planes that forget."""
    images = photos(size)
    labels = [label for label in EVERY if not label.startswith(left_out)]
    fresh = {label: compute(label, *images) for label in labels}
    monkeypatch.setattr(plane, "KEPT_BYTES", room)
    planes = [Plane(image) for image in images]
    for order in (labels, labels[::-1]):
        assert {label: compute(label, *planes) for label in order} == fresh
    for x in planes:
        assert len(x._kept) == 1 or x.nbytes <= room


def test_strips_do_not_matter(monkeypatch):
    images = photos((180, 177))
    labels = [label for label in EVERY if not label.startswith("FMI")]
    values = {label: compute(label, *images) for label in labels}
    for module in (metrics.gradient, metrics.multiscale, metrics.visual):
        monkeypatch.setattr(
            module, "strips", lambda shape: (slice(i, i + 7) for i in range(0, shape[0], 7))
        )
    # Sums of strips instead of one sum.
    assert {label: compute(label, *images) for label in labels} == pytest.approx(values, rel=1e-13)
