"""errors: one family, and messages that name what is near."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from fusionlib import errors
from fusionlib.errors import FusionError, UnknownName, unknown

KNOWN = ["densefuse", "msdnet", "res2netfuse"]
INPUT_ERRORS = {"ImageError", "ImageTooSmall", "PairMismatch", "UnknownName", "WeightsMismatch"}
CLASSES = [name for name in errors.__all__ if name not in ("unknown", "MetricWarning")]


@pytest.mark.parametrize("name", CLASSES)
def test_one_family(name):
    kind = getattr(errors, name)
    assert issubclass(kind, FusionError)
    # Where the input is at fault, code that catches ValueError catches it too.
    assert issubclass(kind, ValueError) == (name in INPUT_ERRORS)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("res2netfus", "'res2netfuse'"),
        ("Res2NetFuse", "'res2netfuse'"),
        ("dense-fuse", "'densefuse'"),
        ("MSDNET", "'msdnet'"),
    ],
)
def test_near_names(given, near):
    message = str(unknown("method", given, KNOWN))
    assert message.startswith(f"unknown method {given!r}. Did you mean {near}")
    assert message.endswith("Known: densefuse, msdnet, res2netfuse.")


def test_near_names_keep_their_case():
    assert "Did you mean 'Qabf'?" in str(unknown("metric", "QABF", ["EN", "Qabf"]))


def test_nothing_near():
    message = str(unknown("method", "xyz", KNOWN))
    assert message == "unknown method 'xyz'. Known: densefuse, msdnet, res2netfuse."


@given(st.one_of(st.text(), st.integers(), st.none()), st.sets(st.text(min_size=1)))
def test_every_name_is_listed(name, known):
    error = unknown("thing", name, known)
    assert isinstance(error, UnknownName)
    assert repr(name) in str(error)
    assert ", ".join(sorted(known)) in str(error)
