"""Planes: what is kept and forgotten, and the shared intermediates by their definitions."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from fusionlib.errors import ImageError, MetricWarning
from fusionlib.metrics import plane
from fusionlib.metrics.plane import Plane, as_planes, once
from tests.fusionlib.metrics.pictures import flat, noise, stretch

pytestmark = pytest.mark.filterwarnings("error")


def test_a_plane_has_the_levels_and_the_same_as_floats():
    image = noise()[0]
    (x,) = as_planes({"picture": image})
    assert x.given is image and x.values.dtype == np.float64 and (x.values == image).all()
    assert x.shape == image.shape == (40, 53)
    assert as_planes({"picture": x}) == [x]
    assert Plane(x.values).values is x.values


@pytest.mark.parametrize(
    "image",
    [
        np.ones((4, 5)),
        np.ones((4, 5), np.uint16),
        np.ones((4, 5), bool),
        np.ones((4, 5, 3), np.uint8),
        np.ones(4, np.uint8),
        np.ones((0, 5), np.uint8),
        [[1, 2], [3, 4]],
        None,
    ],
    ids=lambda image: f"{np.asarray(image).dtype}{np.shape(image)}",
)
def test_only_gray_levels_become_a_plane(image):
    given_ = np.asarray(image)
    with pytest.raises(ImageError) as caught:
        as_planes({"picture": image})
    assert f"picture: given {given_.dtype} of shape {given_.shape}, expected" in str(caught.value)
    assert "fusionlib.evaluate" in str(caught.value)


# ---------------------------------------------------------------- memory


def counted():
    """A remembered function and the list of its calls."""
    calls = []

    @once
    def scaled(x: Plane, other: Plane | None = None, factor: float = 1) -> np.ndarray:
        """Scale."""
        calls.append((x, other, factor))
        return x.values * factor + (0 if other is None else other.values)

    return scaled, calls


def test_once_computes_once_per_plane_and_arguments():
    scaled, calls = counted()
    x, y = map(Plane, noise(count=2))
    first = scaled(x)
    assert scaled(x) is first and len(calls) == 1
    scaled(y)
    assert len(calls) == 2
    scaled(x, y), scaled(x, y), scaled(x, Plane(y.given)), scaled(y, x)
    assert len(calls) == 5
    scaled(x, factor=2), scaled(x, factor=3), scaled(x, factor=2)
    assert len(calls) == 7
    assert (scaled(x, factor=3) == x.values * 3).all() and len(calls) == 7
    assert scaled.__name__ == "scaled" and scaled.__doc__ == "Scale."


def test_a_plane_is_freed_at_once():
    """Neither its own memory nor that of another plane keeps it, without a search for cycles."""
    scaled, calls = counted()
    other, fleeting = map(Plane, noise(count=2))
    gc.disable()
    try:
        scaled(fleeting, fleeting), scaled(fleeting, other), scaled(other, fleeting)
        watched = weakref.ref(fleeting)
        calls.clear()
        del fleeting
        assert watched() is None
    finally:
        gc.enable()


def test_what_was_used_longest_ago_is_forgotten(monkeypatch):
    scaled, calls = counted()
    x = Plane(noise((4, 8))[0])
    monkeypatch.setattr(plane, "KEPT_BYTES", (1 + 3 * 8) * 4 * 8)  # levels, floats, two results
    one, two = scaled(x, factor=1), scaled(x, factor=2)
    assert scaled(x, factor=1) is one and len(calls) == 2
    scaled(x, factor=3)  # forgets 2, which was used before 1
    assert scaled(x, factor=1) is one and len(calls) == 3
    again = scaled(x, factor=2)
    assert len(calls) == 4 and again is not two and (again == two).all()


# ---------------------------------------------------------------- sums and histograms


def test_sums_of_large_pictures_are_exact():
    """Where 32 bits, and the 24 bits of float32, are too few."""
    white = Plane(np.full((2910, 2911), 255, np.uint8))
    assert plane.total(white) == 2910 * 2911 * 255 > 2**31
    assert plane.inner(white, white) == 2910 * 2911 * 255**2
    assert isinstance(plane.inner(white, white), int) and isinstance(plane.total(white), int)


def test_stretch_rounds_halves_upwards():
    """Every span and every level in it, against whole numbers."""
    for span, low in ((s, low) for s in range(1, 256) for low in {0, (255 - s) // 2, 255 - s}):
        image = np.arange(low, low + span + 1, dtype=np.uint8)[None]
        stretched = plane.stretched(Plane(image)).given
        assert stretched.dtype == np.uint8 and (stretched == stretch(image)).all()
        assert stretched[0, 0] == 0 and stretched[0, -1] == 255


def test_a_constant_picture_is_stretched_to_black():
    black, gray = map(Plane, flat(0, 7))
    assert not plane.stretched(black).given.any()  # 0 stays 0: nothing to warn of
    with pytest.warns(MetricWarning, match="constant"):
        assert not plane.stretched(gray).given.any()


# ---------------------------------------------------------------- derivatives and windows


@pytest.mark.parametrize("shape", [(1, 1), (480, 640), (1000, 99), (3, 40000)])
def test_strips_cover_every_row_once(shape):
    image = np.zeros(shape)
    for rows in plane.strips(shape):
        image[rows] += 1
        assert image[rows].size <= max(2**15, shape[1])
    assert (image == 1).all()


# ---------------------------------------------------------------- notes


def test_notes_are_warnings_unless_they_are_collected():
    with pytest.warns(MetricWarning, match="0/0 here; its value is set to 0.5"):
        assert plane.undefined("0/0 here", 0.5) == 0.5
    with plane.notes() as outer:
        plane.note("first")
        with plane.notes() as inner:
            plane.note("second")
        plane.note("third")
    assert (outer, inner) == (["first", "third"], ["second"])
    with pytest.warns(MetricWarning, match="fourth"):
        plane.note("fourth")


def test_what_is_remembered_cannot_be_changed():
    mean = plane.local_mean(Plane(noise()[0]))
    with pytest.raises(ValueError, match="read-only"):
        mean += 1
