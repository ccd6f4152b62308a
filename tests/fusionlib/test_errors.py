"""errors: one family, and messages that name what is near."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from fusionlib import errors
from fusionlib.errors import FusionError, UnknownName, unknown

INPUT_ERRORS = {"ImageError", "ImageTooSmall", "PairMismatch", "UnknownName", "WeightsMismatch"}


@pytest.mark.parametrize(
    "name", [n for n in errors.__all__ if n not in ("unknown", "MetricWarning")]
)
def test_one_family(name):
    kind = getattr(errors, name)
    assert issubclass(kind, FusionError)
    # Where the input is at fault, code that catches ValueError catches it too.
    assert issubclass(kind, ValueError) == (name in INPUT_ERRORS)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("res2netfus", "Did you mean 'Res2NetFuse'"),
        ("MSDNET", "Did you mean 'msdnet'"),
        ("xyz", "Known: "),
    ],
)
def test_near_names(given, hint):
    message = str(unknown("method", given, ["densefuse", "msdnet", "Res2NetFuse"]))
    assert message.startswith(f"unknown method {given!r}. {hint}")
    assert message.endswith("Known: Res2NetFuse, densefuse, msdnet.")


@given(st.one_of(st.text(), st.integers(), st.none()), st.sets(st.text(min_size=1)))
def test_every_name_is_listed(name, known):
    error = unknown("thing", name, known)
    assert isinstance(error, UnknownName)
    assert repr(name) in str(error)
    assert ", ".join(sorted(known)) in str(error)
