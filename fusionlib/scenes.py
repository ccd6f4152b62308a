"""The built-in offline sample: rendered scenes, phantoms and a few real pictures.

Nothing here is downloaded. The infrared-visible scenes and the medical phantoms
are rendered from code; the Sentinel-2 pair and the photographs are real and come
inside two Python packages. The ``source`` of everything says which it is.
"""

from __future__ import annotations

import importlib.util
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from ._props import (
    Frame,
    asphalt,
    between,
    board,
    box,
    bush,
    car,
    cyclist,
    dashes,
    fence,
    grass,
    house,
    line_paint,
    paving,
    person,
    ribs,
    scaled,
    soil,
    street,
    street_lamp,
    tree,
    upright,
    zebra,
    zones,
)
from ._render import (
    Array,
    Blob,
    Colour,
    Lamp,
    Limb,
    Puff,
    Sky,
    Spot,
    Stage,
    Surface,
    photograph,
    quantise,
    smoothstep,
)
from .errors import DatasetNotFound, ImageError, unknown
from .pairs import Pair

__all__ = [
    "SCENES",
    "NaturalImage",
    "infrared_visible",
    "medical",
    "natural_images",
    "render",
    "sentinel2",
]

_SMALLEST = 64  # pixels per side below which nothing can be recognised

# -------------------------------------------------------------------- skies

_CLEAR = Sky((0.13, 0.27, 0.6), (0.5, 0.64, 0.84), clouds=0.55, cloud_colour=(1.05, 1.05, 1.07))
_GREY = Sky(
    (0.5, 0.53, 0.58),
    (0.68, 0.7, 0.73),
    clouds=0.8,
    cloud_colour=(0.62, 0.64, 0.67),
    zenith_temp=-4,
)
_DUSK = Sky((0.05, 0.07, 0.17), (0.62, 0.3, 0.14), clouds=0.5, cloud_colour=(0.3, 0.16, 0.15))
_NIGHT = Sky(
    (0.002, 0.003, 0.007), (0.014, 0.012, 0.014), clouds=0.4, cloud_colour=(0.012, 0.011, 0.012)
)
_MIST = Sky((0.6, 0.62, 0.65), (0.68, 0.69, 0.7), clouds=0.0, zenith_temp=2, horizon_temp=7)


# ------------------------------------------------------------------- scenes

_Builder = Callable[[np.random.Generator], Stage]
_BUILDERS: dict[str, _Builder] = {}


def _scene(build: _Builder) -> _Builder:
    _BUILDERS[build.__name__.removeprefix("_")] = build
    return build


@_scene
def _day_street(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng, _CLEAR, street(-2.4, 4.4), sun=(2.0, 1.85, 1.6), to_sun=(0.75, 0.85, -0.45),
        ambient=(0.5, 0.58, 0.72), exposure=1.25, treeline=9,
    )  # fmt: skip
    house(stage, (-5.4, 3), (-5.4, 21), 9.5, ground_floor=3.3)
    house(stage, (-5.6, 21), (-5.6, 48), 11.5, wall=(0.45, 0.37, 0.25), brick=False)
    house(stage, (8.6, 60), (8.6, 24), 8.5, wall=(0.36, 0.34, 0.32), brick=False)
    house(stage, (8.6, 24), (17, 24), 8.5, wall=(0.36, 0.34, 0.32), brick=False)
    board(
        stage, "BAKERY", (-5.3, 11.3), (-5.3, 17.0), 2.75, 3.45, (0.05, 0.13, 0.1), (0.8, 0.7, 0.35)
    )
    for z in (19, 31):
        tree(stage, 6.3, z, 6.5, spread=2.0)
    street_lamp(stage, -2.9, 17)
    car(stage, 2.6, 12.5, 0.0, colour=(0.4, 0.035, 0.03), engine=14)
    car(stage, -0.9, 24, np.pi, colour=(0.5, 0.5, 0.5), engine=20)
    car(stage, 3.4, 27, 0.0, colour=(0.04, 0.08, 0.2), engine=0, tall=1.25)
    person(stage, -3.4, 8.6, 0.15, stride=0.55, coat=(0.09, 0.14, 0.3))
    person(stage, -4.1, 14.0, np.pi, stride=0.4)
    person(stage, -3.3, 14.5, np.pi, stride=-0.45, height=1.65)
    return stage


@_scene
def _night_headlights(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng, _NIGHT, zones(grass(), (between(-3.6, 3.6), asphalt()), (dashes(0.0), line_paint),
                            (lambda x, z: np.abs(np.abs(x) - 3.3) < 0.07, line_paint)),
        ambient=(0.012, 0.014, 0.022), air=(0.01, 0.01, 0.014), exposure=2.3, read_noise=0.009,
        air_temp=8, treeline=11,
    )  # fmt: skip
    car(stage, -1.7, 13, np.pi, colour=(0.2, 0.21, 0.22), engine=26, lights=85)
    car(stage, 1.9, 21, 0.0, colour=(0.1, 0.1, 0.12), engine=20, tail=2.2)
    person(stage, 2.9, 9.5, np.pi, stride=0.5, coat=(0.03, 0.03, 0.04))
    person(stage, -3.9, 11.5, 1.2, stride=0.55, coat=(0.05, 0.05, 0.05))
    person(stage, 4.4, 15.0, np.pi, stride=-0.4)
    for x, z in ((-7, 17), (7.5, 20), (-9, 28)):
        tree(stage, x, z, 7, spread=2.4)
    return stage


@_scene
def _smoke(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng, _GREY, zones(paving(0.8, (0.24, 0.235, 0.225)), (between(-60, -4.2), grass())),
        ambient=(1.15, 1.18, 1.22), exposure=1.2, air_temp=16,
    )  # fmt: skip
    house(stage, (-11, 19), (11, 19), 8.5, pitch=2.6, leak=7)
    tree(stage, -6.4, 13, 5.5, spread=1.6)
    car(stage, 3.8, 14.5, -2.3, colour=(0.45, 0.45, 0.46), engine=17)
    person(stage, -0.6, 10.0, 2.6, stride=0.55, coat=(0.42, 0.33, 0.06))
    person(stage, 1.0, 12.0, 1.4, stride=-0.5)
    person(stage, -3.3, 8.2, np.pi, stride=0.3)
    for x, y, z, radius, depth in (
        (0.2, 0.9, 8.6, 1.5, 4.6),
        (1.4, 1.3, 9.2, 1.7, 4.2),
        (-0.9, 1.7, 9.0, 1.5, 3.6),
        (2.7, 2.6, 9.8, 1.9, 2.6),
        (0.6, 3.0, 9.4, 1.9, 2.4),
        (3.9, 3.9, 10.2, 2.2, 1.5),
    ):
        stage.puffs.append(Puff((x, y, z), radius, depth))
    return stage


@_scene
def _low_light_park(rng: np.random.Generator) -> Stage:
    def path(x: Array, z: Array) -> Array:
        return np.abs(x - 0.9 + 0.004 * z**2 - 0.09 * z) < 1.3

    stage = Stage(
        rng,
        Sky(
            (0.006, 0.008, 0.016), (0.03, 0.032, 0.04), clouds=0.3, cloud_colour=(0.02, 0.02, 0.026)
        ),
        zones(grass(), (path, soil((0.26, 0.22, 0.17)))),
        ambient=(0.06, 0.07, 0.1),
        air=(0.02, 0.022, 0.03),
        exposure=2.4,
        read_noise=0.035,
        air_temp=11,
        treeline=12,
    )
    for x, z, height in ((-5.2, 12, 7), (6.4, 15, 7.5), (-7.5, 22, 8), (10, 27, 8)):
        tree(stage, x, z, height, spread=2.3)
    bush(stage, -3.4, 9, 0.8)
    bush(stage, 4.3, 11, 0.9)
    bench = Surface((0.14, 0.09, 0.05), 11.5, grain=0.15)
    box(stage, Frame(-1.6, 11.5, 0.1), 0.5, 1.7, 0.45, bench)
    street_lamp(stage, 4.4, 24, -0.9, 11.0)
    person(stage, 0.6, 8.5, 2.9, stride=0.5, coat=(0.03, 0.035, 0.05))
    person(stage, 2.1, 16, 0.1, stride=-0.5)
    person(stage, -3.9, 17, 1.4, stride=0.4, coat=(0.06, 0.05, 0.04))
    return stage


@_scene
def _dusk_crossing(rng: np.random.Generator) -> Stage:
    ground = street(-4.5, 4.5, (zebra(9.0, 12.0, -4.4, 4.4), line_paint))
    stage = Stage(
        rng, _DUSK, ground, ambient=(0.17, 0.15, 0.19), air=(0.3, 0.17, 0.11), haze=0.006,
        exposure=1.9, read_noise=0.014, air_temp=13, treeline=7,
    )  # fmt: skip
    house(stage, (-7.2, 5), (-7.2, 45), 10, lit=0.35, wall=(0.33, 0.2, 0.14))
    house(stage, (7.4, 45), (7.4, 7), 9, lit=0.3, wall=(0.34, 0.31, 0.28), brick=False)
    for z in (15, 27):
        street_lamp(stage, -5.0, z, 1.0, 9.0)
        street_lamp(stage, 5.0, z, -1.0, 9.0)
    car(stage, -2.2, 17.0, np.pi, colour=(0.08, 0.1, 0.14), engine=21, lights=14)
    car(stage, 2.4, 24, 0.0, colour=(0.3, 0.3, 0.3), engine=18, tail=3.0)
    person(stage, -1.5, 10.4, np.pi / 2, stride=0.6, coat=(0.05, 0.05, 0.06))
    person(stage, 0.5, 10.9, -np.pi / 2, stride=0.5, coat=(0.35, 0.07, 0.06))
    person(stage, 5.3, 12.0, np.pi, stride=0.4)
    return stage


@_scene
def _forest_camouflage(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        Sky((0.5, 0.56, 0.6), (0.75, 0.8, 0.78), clouds=0.6),
        soil((0.1, 0.075, 0.04), litter=0.7),
        sun=(1.5, 1.4, 1.1),
        to_sun=(-0.45, 0.85, -0.25),
        ambient=(0.38, 0.42, 0.36),
        air=(0.4, 0.46, 0.4),
        haze=0.008,
        exposure=1.7,
        air_temp=15,
        sun_heat=4,
        treeline=22,
    )
    for x, z in zip(rng.uniform(-14, 14, 26), np.linspace(42, 9, 26), strict=True):
        if abs(x) > 1.2 + 0.02 * z:
            tree(stage, x, z, rng.uniform(11, 15), spread=rng.uniform(1.8, 2.6), bare=0.42,
                  trunk=rng.uniform(0.13, 0.26), clumps=12, colour=(0.07, 0.12, 0.03))  # fmt: skip
    for x, z in zip(rng.uniform(-15, 15, 16), np.linspace(40, 15, 16), strict=True):
        if abs(x - 0.5) > 1.3:
            tree(stage, x, z, rng.uniform(3.5, 6.5), spread=rng.uniform(1.2, 1.8), bare=0.12,
                  trunk=0.07, clumps=11, colour=(0.075, 0.14, 0.035))  # fmt: skip
    for x, z, size in (
        (-2.6, 7.8, 0.8),
        (2.9, 8.8, 0.9),
        (-0.2, 13, 0.9),
        (4.4, 13, 1.1),
        (-4.6, 12, 1.1),
    ):
        bush(stage, x, z, size)
    person(stage, 1.7, 9.6, 2.9, crouch=0.8, camouflage=True)
    person(stage, -2.2, 12.5, 2.4, stride=0.4, camouflage=True)
    person(stage, 0.5, 17.0, np.pi, stride=0.5, camouflage=True)
    return stage


@_scene
def _car_park(rng: np.random.Generator) -> Stage:
    def bays(x: Array, z: Array) -> Array:
        return (np.abs((x + 1.35) % 2.7) < 0.11) & (((z > 8) & (z < 13)) | ((z > 19) & (z < 24)))

    stage = Stage(
        rng,
        _CLEAR,
        zones(asphalt(), (bays, line_paint), (lambda x, z: z > 27, grass())),
        eye=3.4,
        horizon=0.27,
        sun=(1.9, 1.75, 1.5),
        to_sun=(-0.7, 0.7, -0.35),
        ambient=(0.5, 0.57, 0.7),
        exposure=1.25,
        air_temp=17,
        treeline=11,
    )
    car(stage, -4.05, 10.8, np.pi, colour=(0.5, 0.5, 0.5), engine=0)
    car(stage, -1.35, 10.8, np.pi, colour=(0.03, 0.05, 0.12), engine=22)
    car(stage, 4.05, 10.8, np.pi, colour=(0.35, 0.03, 0.03), engine=0)
    car(stage, -6.75, 21.5, 0.0, colour=(0.12, 0.2, 0.28), engine=0)
    car(stage, -1.35, 21.5, 0.0, colour=(0.06, 0.06, 0.06), engine=0)
    car(stage, 1.35, 21.5, 0.0, colour=(0.35, 0.03, 0.03), engine=15)
    car(stage, 6.75, 21.5, 0.0, colour=(0.03, 0.05, 0.12), engine=0, tall=1.25)
    stage.warm_ground(1.35, 10.8, 0.75, 2.0, 9.0)  # a car has just left this bay
    person(stage, 2.4, 15.5, -1.5, stride=0.55)
    person(stage, -5.2, 16.5, 1.6, stride=-0.5, coat=(0.4, 0.06, 0.05))
    for x in (-11, 0.5, 9):
        tree(stage, x, 30, 6.5, spread=2.3)
    board(stage, "P", (5.6, 18), (6.3, 18), 2.0, 2.7, (0.02, 0.08, 0.4), (0.85, 0.85, 0.85))
    stage.add(Limb(Surface((0.3, 0.3, 0.3), 17.0), (5.95, 0, 18.1), (5.95, 2.1, 18.1), 0.04, 0.04))
    return stage


@_scene
def _cyclist_road(rng: np.random.Generator) -> Stage:
    def offset(x: Array, z: Array) -> Array:
        return x - 0.0022 * z**2 - 0.4

    stage = Stage(
        rng, Sky((0.12, 0.26, 0.6), (0.52, 0.66, 0.84), clouds=0.7, cloud_colour=(1.05, 1.05, 1.1)),
        zones(
            grass((0.11, 0.15, 0.04)),
            (lambda x, z: offset(x, z) < -9, soil((0.3, 0.24, 0.12))),
            (lambda x, z: np.abs(offset(x, z)) < 3.2, soil((0.24, 0.21, 0.17))),
            (lambda x, z: np.abs(offset(x, z)) < 2.8, asphalt()),
            (lambda x, z: (np.abs(offset(x, z)) < 0.06) & (z % 6 < 3), line_paint),
        ),
        sun=(2.1, 1.95, 1.65), to_sun=(0.6, 0.6, -0.6), ambient=(0.48, 0.56, 0.7), exposure=1.25,
        air_temp=19, treeline=13,
    )  # fmt: skip
    cyclist(stage, 1.5, 7.4, 0.25)
    cyclist(stage, -0.9, 15.5, np.pi + 0.1, coat=(0.1, 0.2, 0.45))
    car(stage, 3.6, 31, 0.2, colour=(0.45, 0.46, 0.47), engine=20)
    tree(stage, -5.4, 17, 6.5, spread=2.2)
    tree(stage, 8.6, 22, 7, spread=2.4)
    fence(stage, 4.6, 14, 13.5)
    post = Surface((0.6, 0.6, 0.6), 19.5)
    for z in (10, 18, 27, 38):
        x = -3.3 + 0.0022 * z**2 + 0.4
        stage.add(Limb(post, (x, 0, z), (x, 0.85, z), 0.06, 0.06))
    return stage


@_scene
def _courtyard(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng, _GREY, paving(0.5, (0.25, 0.22, 0.19)), eye=1.8, ambient=(1.15, 1.18, 1.22),
        exposure=1.25, air_temp=5,
    )  # fmt: skip
    house(stage, (-12, 21), (12, 21), 13, wall=(0.42, 0.35, 0.24), brick=False, leak=9)
    house(stage, (-6.2, 4), (-6.2, 21), 13, leak=6)
    house(stage, (8.0, 21), (8.0, 5), 9, wall=(0.2, 0.1, 0.08), leak=7)
    door = Surface((0.06, 0.1, 0.07), 8.5, grain=0.1)
    stage.add(upright(door, (0.4, 20.9), (1.7, 20.9), 0, 2.3))
    board(stage, "No 14", (2.1, 20.85), (3.2, 20.85), 1.5, 1.9, (0.1, 0.14, 0.3), (0.8, 0.8, 0.8))
    bin_, crate = Surface((0.03, 0.09, 0.05), 5.5), Surface((0.2, 0.14, 0.08), 5.2, grain=0.2)
    box(stage, Frame(6.6, 14, 0.0), 0.9, 1.2, 1.15, bin_)
    box(stage, Frame(6.7, 16.2, 0.1), 0.9, 1.2, 1.15, bin_)
    box(stage, Frame(-4.6, 12.5, 0.4), 1.0, 0.9, 0.7, crate)
    tree(stage, -3.3, 17, 5.2, spread=1.5, colour=(0.13, 0.13, 0.04))
    person(stage, -1.6, 9.2, 2.7, stride=0.45, coat=(0.24, 0.16, 0.1))
    person(stage, 1.2, 19.6, np.pi, stride=0.1, height=1.68)
    person(stage, 4.1, 13.0, -1.3, stride=0.5)
    car(stage, 3.4, 17.5, 1.35, colour=(0.08, 0.12, 0.1), engine=0)
    return stage


@_scene
def _foggy_morning(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        _MIST,
        zones(grass((0.07, 0.1, 0.04)), (between(-3.0, 3.4), asphalt()), (dashes(0.2), line_paint)),
        ambient=(0.62, 0.65, 0.7),
        air=(0.6, 0.615, 0.64),
        haze=0.085,
        haze_ir=0.012,
        exposure=1.15,
        air_temp=7,
        treeline=10,
    )
    car(stage, -1.3, 19, np.pi, colour=(0.12, 0.13, 0.15), engine=23, lights=9)
    person(stage, 2.9, 9.5, np.pi, stride=0.5, coat=(0.1, 0.12, 0.16))
    person(stage, -3.7, 16, 0.2, stride=0.5)
    cyclist(stage, 1.6, 24, np.pi, coat=(0.4, 0.1, 0.05))
    for x, z in ((-6.5, 13), (6.4, 17), (-7.5, 26), (8.5, 30)):
        tree(stage, x, z, 7, spread=2.0, clumps=16)
    fence(stage, 4.3, 11, 14.0)
    return stage


@_scene
def _shop_night(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        _NIGHT,
        zones(
            asphalt(),
            (lambda x, z: z > 8.6, paving()),
            (lambda x, z: np.abs(z - 8.5) < 0.12, soil((0.3, 0.3, 0.29))),
        ),
        horizon=0.5,
        ambient=(0.05, 0.055, 0.08),
        exposure=1.7,
        read_noise=0.018,
        air_temp=9,
    )
    house(stage, (-10, 13), (10, 13), 10, ground_floor=3.7, lit=0.25, wall=(0.28, 0.15, 0.1))
    for left, right, text, ink, glow in (
        (-6.0, -0.9, "CAFE LUNA", (0.95, 0.7, 0.25), (1.5, 1.15, 0.7)),
        (0.7, 5.6, "BOOKS", (0.6, 0.85, 0.95), (1.2, 1.2, 1.1)),
    ):
        pane = Surface((0.03, 0.03, 0.03), 13.0, gloss=0.5, paint=_shop_window(glow, rng))
        stage.add(upright(pane, (left, 12.9), (right, 12.9), 0.5, 2.75))
        board(
            stage, text, (left, 12.8), (right, 12.8), 2.85, 3.55, (0.03, 0.03, 0.04), ink, emit=1.8
        )
        for x in np.linspace(left + 0.8, right - 0.8, 3):
            stage.lamps.append(Lamp((x, 1.9, 12.2), scaled(glow, 4.5)))
    person(stage, -2.6, 9.6, np.pi / 2, stride=0.55, coat=(0.08, 0.08, 0.1))
    person(stage, 0.0, 11.6, np.pi, stride=0.15, coat=(0.3, 0.06, 0.05))
    person(stage, 3.0, 10.4, -np.pi / 2, stride=0.5)
    cyclist(stage, 1.2, 7.4, np.pi / 2, coat=(0.1, 0.12, 0.14))
    return stage


def _shop_window(glow: Colour, rng: np.random.Generator) -> Callable[[Spot], None]:
    """A lit shop behind glass: shelves with goods. The glass hides all heat behind it."""
    goods = rng.uniform(0.15, 1.0, (8, 32, 3)) ** 1.6

    def paint(spot: Spot) -> None:
        column, row = (spot.u / 0.22).astype(int), (spot.v / 0.55).astype(int)
        item = goods[row % 8, column % 32]
        within = (spot.v % 0.55 < 0.1 + 0.34 * item[:, 1]) & (spot.u % 0.22 < 0.17) & (row < 3)
        light = 0.35 + 0.65 * smoothstep(0.0, 2.4, spot.v)
        shelf = np.where((spot.v % 0.55 > 0.5) & (row < 3), 0.25, 0.8)
        colour = np.where(within[:, None], 0.75 * item, (0.75 * shelf)[:, None])
        frame = (spot.u % 1.7 < 0.07) | (spot.v < 0.07) | (spot.v > 2.18)
        spot.emit[:] = np.where(frame[:, None], 0.01, np.asarray(glow) * colour * light[:, None])
        spot.temp += 2.0 * smoothstep(0.0, 2.2, spot.v) - 1.5 * frame

    return paint


@_scene
def _alley_shadow(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        _CLEAR,
        paving(0.35, (0.22, 0.2, 0.18)),
        sun=(2.6, 2.35, 1.9),
        to_sun=(0.8, 0.95, 0.12),
        ambient=(0.3, 0.35, 0.45),
        exposure=1.35,
        air_temp=19,
        sun_heat=8,
    )
    house(stage, (-3.4, 3), (-3.4, 40), 9, wall=(0.42, 0.3, 0.18), brick=False)
    house(stage, (3.4, 13), (3.4, 2.5), 7.5, wall=(0.32, 0.14, 0.09))
    house(stage, (3.6, 40), (3.6, 17), 6.5, wall=(0.4, 0.38, 0.34), brick=False)
    house(stage, (3.6, 17), (9, 17), 6.5, wall=(0.4, 0.38, 0.34), brick=False)
    house(stage, (-8, 40), (8, 40), 8, wall=(0.4, 0.3, 0.22), brick=False)
    board(stage, "HOTEL", (-3.3, 7.4), (-3.3, 10.2), 3.0, 3.6, (0.35, 0.03, 0.03), (0.9, 0.88, 0.8))
    crate = Surface((0.24, 0.16, 0.09), 21.5, grain=0.22)
    box(stage, Frame(2.7, 10.5, 0.2), 0.9, 0.7, 0.8, crate)
    box(stage, Frame(2.8, 9.4, -0.1), 0.7, 0.6, 0.55, crate)
    person(stage, 1.9, 8.0, np.pi, stride=0.4, coat=(0.05, 0.05, 0.06))
    person(stage, -1.3, 15.0, np.pi, stride=0.5, coat=(0.34, 0.33, 0.3))
    person(stage, 0.4, 22.0, 0.1, stride=-0.5)
    cyclist(stage, -0.6, 28, np.pi)
    return stage


@_scene
def _field_path(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        Sky((0.22, 0.32, 0.55), (0.95, 0.7, 0.45), clouds=0.6, cloud_colour=(0.85, 0.66, 0.55)),
        zones(
            grass((0.14, 0.15, 0.045)),
            (lambda x, z: np.abs(x + 0.6 - 0.06 * z) < 0.9, soil((0.28, 0.21, 0.13))),
        ),
        sun=(2.2, 1.45, 0.8),
        to_sun=(0.85, 0.32, -0.25),
        ambient=(0.34, 0.36, 0.46),
        air=(0.75, 0.6, 0.45),
        haze=0.006,
        exposure=1.4,
        air_temp=12,
        sun_heat=6,
        treeline=9,
    )
    person(stage, -0.4, 8.6, 0.1, stride=0.6, coat=(0.42, 0.07, 0.05))
    person(stage, 0.5, 10.2, 0.1, stride=-0.5, coat=(0.08, 0.17, 0.3), height=1.62)
    person(stage, 1.6, 21, np.pi, stride=0.5)
    tree(stage, -5.2, 15, 6.8, spread=2.3, colour=(0.15, 0.14, 0.03))
    tree(stage, 7.2, 24, 7.5, spread=2.6, colour=(0.2, 0.12, 0.03))
    fence(stage, -12, -2.6, 18)
    fence(stage, 3.2, 16, 16)
    for x, z in ((3.9, 9.5), (-3.8, 11)):
        bush(stage, x, z, 0.6, (0.12, 0.13, 0.04))
    return stage


@_scene
def _overcast_square(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        _GREY,
        paving(1.0, (0.3, 0.29, 0.275)),
        eye=2.6,
        horizon=0.33,
        ambient=(1.15, 1.18, 1.23),
        exposure=1.2,
        haze=0.004,
        air_temp=10,
        treeline=6,
    )
    house(stage, (-26, 38), (2, 38), 12, wall=(0.4, 0.34, 0.27), brick=False, leak=7)
    house(stage, (4, 42), (30, 42), 10, leak=7)
    board(stage, "STATION", (-9, 37.8), (-1, 37.8), 3.6, 4.9, (0.08, 0.1, 0.2), (0.85, 0.85, 0.85))
    stone = Surface((0.36, 0.35, 0.32), 10.5, grain=0.1)
    box(stage, Frame(0.2, 21, 0.3), 2.6, 2.6, 0.6, stone)
    box(stage, Frame(0.2, 21, 0.3), 1.2, 1.2, 2.4, stone)
    stage.add(
        Blob(Surface((0.09, 0.16, 0.13), 9.0, grain=0.2), (0.2, 3.2, 21), np.diag([0.45, 0.9, 0.4]))
    )
    for x, z in ((-9.0, 26.0), (10.0, 27.0)):
        tree(stage, x, z, 6, spread=1.9)
    places = (
        (-3.2, 9.0, 2.5),
        (-2.4, 9.3, 2.7),
        (3.4, 10.5, -1.4),
        (1.2, 14.5, 0.2),
        (-5.6, 16.0, 1.3),
        (5.8, 18.0, 3.0),
    )
    for index, (x, z, heading) in enumerate(places):
        person(
            stage, x, z, heading, stride=0.55 if index % 2 else -0.45, height=rng.uniform(1.6, 1.85)
        )
    cyclist(stage, -4.3, 23, np.pi / 2 + 0.2, coat=(0.1, 0.3, 0.15))
    return stage


@_scene
def _night_yard(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng, _NIGHT, asphalt((0.1, 0.1, 0.1)), ambient=(0.07, 0.078, 0.11), exposure=2.6,
        read_noise=0.032, air_temp=4, treeline=6,
    )  # fmt: skip
    for x, z, heading, colour in (
        (-6.4, 15, 0.15, (0.3, 0.09, 0.04)),
        (-5.8, 22, 1.5, (0.06, 0.14, 0.26)),
        (8.0, 20, 0.0, (0.1, 0.2, 0.1)),
    ):
        box(
            stage, Frame(x, z, heading), 6.0, 2.5, 2.6, Surface(colour, 4.5, grain=0.08, paint=ribs)
        )
    car(stage, 4.4, 13.0, -2.5, colour=(0.4, 0.4, 0.4), engine=12, tall=1.3)
    person(stage, -2.9, 10.5, 2.4, crouch=0.55, coat=(0.02, 0.02, 0.025))
    person(stage, 0.8, 16.5, -1.2, stride=0.7, coat=(0.03, 0.03, 0.03))
    post, wire = Surface((0.25, 0.26, 0.27), 3.5), Surface((0.25, 0.26, 0.27), 3.0)
    for x in np.arange(-14, 15, 2.0):
        stage.add(Limb(post, (x, 0, 27), (x, 2.4, 27), 0.05, 0.05))
    for y in np.linspace(0.3, 2.3, 6):
        stage.add(Limb(wire, (-14, y, 27), (14, y, 27), 0.02, 0.02))
    street_lamp(stage, 7.4, 25, -1.2, 12.0, (0.75, 0.85, 1.0))
    return stage


@_scene
def _wet_evening(rng: np.random.Generator) -> Stage:
    stage = Stage(
        rng,
        Sky(
            (0.012, 0.018, 0.04),
            (0.07, 0.07, 0.09),
            clouds=0.7,
            cloud_colour=(0.05, 0.05, 0.06),
            zenith_temp=0,
        ),
        street(-3.6, 3.6),
        wet=0.75,
        ambient=(0.075, 0.085, 0.12),
        air=(0.06, 0.06, 0.075),
        haze=0.008,
        exposure=1.9,
        read_noise=0.016,
        air_temp=9,
        treeline=6,
    )
    house(stage, (-6.4, 4), (-6.4, 50), 11, lit=0.4, wall=(0.24, 0.14, 0.1))
    house(stage, (6.6, 50), (6.6, 5), 10, lit=0.35, wall=(0.3, 0.28, 0.26), brick=False)
    board(
        stage,
        "HOTEL",
        (6.5, 13.5),
        (6.5, 9.5),
        3.2,
        4.0,
        (0.02, 0.02, 0.02),
        (1.0, 0.12, 0.2),
        emit=2.6,
    )
    for z in (12, 24, 38):
        street_lamp(stage, -4.2, z, 1.1, 12.0)
    car(stage, 1.7, 11.5, 0.0, colour=(0.06, 0.07, 0.09), engine=19, tail=5.0)
    car(stage, -1.8, 20, np.pi, colour=(0.3, 0.3, 0.32), engine=22, lights=22)
    person(stage, -4.4, 11.0, np.pi, stride=0.5, coat=(0.08, 0.08, 0.1))
    person(stage, 4.5, 14.5, 0.1, stride=0.5, coat=(0.3, 0.25, 0.1))
    return stage


SCENES: tuple[str, ...] = tuple(_BUILDERS)


def render(
    name: str, *, size: tuple[int, int] = (320, 240), seed: int = 0, misregistration: float = 0.0
) -> Pair:
    """Render one infrared-visible scene: two pictures of the same geometry.

    Parameters
    ----------
    name : str
        One of `SCENES`.
    size : tuple of int
        Width and height in pixels, each at least 64.
    seed : int
        0 or more; varies textures, noise and the people's clothes, not the layout.
    misregistration : float
        Pixels by which the infrared image alone is shifted; it is also turned so that
        its corners move by about half as much again.

    Returns
    -------
    Pair
        ``ir`` (H, W) and ``vis`` (H, W, 3), float32 multiples of 1/255 in [0, 1];
        ``mask`` where people, cars and bicycles are in sight (smoke does not hide
        them); ``boxes`` around their whole silhouettes. Mask and boxes belong to the
        visible image. Equal arguments give equal bytes.

    Raises
    ------
    UnknownName
        If there is no such scene.
    ImageError
        If the size is below 64x64.
    """
    if name not in _BUILDERS:
        raise unknown("scene", name, SCENES)
    width, height = size
    if min(width, height) < _SMALLEST:
        raise ImageError(
            f"cannot render {width}x{height} (width x height): a scene needs at least "
            f"{_SMALLEST}x{_SMALLEST} pixels. Pass a larger size."
        )
    stage = _BUILDERS[name](_generator(name, seed))
    shot = photograph(stage, width, height, misregistration)
    source = _rendered_by(seed)
    if misregistration:
        source += f", infrared misregistered by {misregistration:g} px"
    return Pair(name, shot.ir, shot.vis, shot.mask, shot.boxes, source)


def infrared_visible(
    *,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    misregistration: float = 0.0,
    limit: int | None = None,
) -> list[Pair]:
    """Render the infrared-visible scenes, in the order of `SCENES`.

    Parameters
    ----------
    size, seed, misregistration
        As for `render`.
    limit : int, optional
        Render only the first so many scenes.

    Returns
    -------
    list of Pair

    Raises
    ------
    ImageError
        If the size is below 64x64.
    """
    return [
        render(name, size=size, seed=seed, misregistration=misregistration)
        for name in SCENES[:limit]
    ]


def _generator(name: str, seed: int) -> np.random.Generator:
    """Randomness of one picture, which no other picture's code can disturb."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _rendered_by(seed: int) -> str:
    return f"rendered (fusionlib.scenes, seed {seed})"


# ----------------------------------------------------------------- phantoms

_SLICES = 3
_SIDE = 256


class _Head(NamedTuple):
    """Tissue maps of one phantom slice, each (256, 256) in [0, 1], and its randomness."""

    scalp: Array
    skull: Array
    fluid: Array
    gray: Array
    white: Array
    nuclei: Array
    lesion: Array
    specks: Array  # calcifications, which only CT shows
    rng: np.random.Generator


def medical(kind: str, *, seed: int = 0) -> list[Pair]:
    """Render pairs of phantom brain slices, structural against the other modality.

    Parameters
    ----------
    kind : {"mri_ct", "mri_pet", "mri_spect"}
        ``mri_ct``: ``ir`` is CT-like (bone bright), ``vis`` MRI-like, both gray.
        ``mri_pet`` and ``mri_spect``: ``ir`` is MRI-like gray, ``vis`` a functional
        picture of lower resolution in pseudo-colour, (H, W, 3).
    seed : int
        0 or more; varies the anatomy and the noise.

    Returns
    -------
    list of Pair
        Three slices of 256x256, float32 multiples of 1/255 in [0, 1], no mask and no
        boxes. They are drawings that resemble the modalities, not simulated scans.

    Raises
    ------
    UnknownName
        If there is no such kind.
    """
    if kind not in _MODALITIES:
        raise unknown("kind of medical pair", kind, _MODALITIES)
    pairs = []
    for index in range(_SLICES):
        head = _head(index, _generator(f"{kind}_{index}", seed))
        mri, other = _mri(head), _MODALITIES[kind](head)
        ir, vis = (other, mri) if kind == "mri_ct" else (mri, other)
        pairs.append(
            Pair(f"{kind}_{index}", quantise(ir), quantise(vis), source=_rendered_by(seed))
        )
    return pairs


def _soft(inside: Array, width: float = 0.012) -> Array:
    """Coverage of the region where ``inside`` is positive, with a soft edge."""
    return smoothstep(-width, width, inside).astype(np.float32)


def _disc(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float, tilt: float = 0) -> Array:
    """Positive within an ellipse: about the distance to its edge."""
    c, s = np.cos(tilt), np.sin(tilt)
    u, v = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
    return (1 - np.hypot(u / rx, v / ry)) * min(rx, ry)


def _ripple(rng: np.random.Generator, scale: float) -> Array:
    """Smooth noise whose features are about ``scale`` pixels apart; deviation 1."""
    white = rng.standard_normal((_SIDE, _SIDE))
    fine, coarse = (ndimage.gaussian_filter(white, k * scale) for k in (0.35, 0.7))
    band = fine - coarse
    return (band / band.std()).astype(np.float32)


def _head(index: int, rng: np.random.Generator) -> _Head:
    """An axial slice: 0 is low, through the temporal lobes, and 2 is near the top."""
    y, x = (np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) + 0.5) / _SIDE * 2 - 1
    size = (0.97, 1.0, 0.92)[index]
    wobble = 0.012 * _ripple(rng, 90)
    rim = 1 - np.hypot(x / (0.7 * size), (y - 0.02) / (0.88 * size)) + wobble
    # the inner table of the skull varies in thickness, the outer one is smooth
    inner = rim - 0.135 - 0.006 * _ripple(rng, 40)
    scalp, outer, brain = _soft(rim), _soft(rim - 0.05), _soft(inner - 0.035)
    skull = outer * (1 - _soft(inner))
    folds = _ripple(rng, 17) + 0.25 * _ripple(rng, 10)
    depth = np.clip(inner - 0.035, 0, None)
    reach = smoothstep(0.48 + 0.06 * _ripple(rng, 50), 0.12, depth)
    gap = smoothstep(0.2, 0.3, np.abs(y)) if index < 2 else 1.0  # the hemispheres join below
    fissure = np.exp(-((np.abs(x + 0.012 * _ripple(rng, 70)) / 0.016) ** 2)) * gap
    sulci = np.maximum(np.exp(-((folds / 0.15) ** 2)) * smoothstep(0.2, 0.8, reach), fissure)
    ribbon = np.maximum(
        smoothstep(0.85, 0.5, np.abs(folds)) * smoothstep(0.12, 0.3, reach),
        _soft(0.07 - depth, 0.02),
    )
    ribbon = np.maximum(ribbon, np.exp(-((x / 0.05) ** 2)) * gap)
    opening = (0.7, 1.0, 0.45)[index]
    ventricles = np.zeros_like(x)
    nuclei = np.zeros_like(x)
    for side in (-1, 1):
        front = _disc(x, y, side * 0.095, -0.15, 0.05 * opening, 0.17 * opening, -side * 0.35)
        back = _disc(x, y, side * 0.15, 0.2, 0.05 * opening, 0.19 * opening, side * 0.45)
        ventricles = np.maximum(ventricles, np.maximum(_soft(front), _soft(back)))
        if index < 2:
            nuclei += _soft(_disc(x, y, side * 0.1, 0.06, 0.075, 0.12, side * 0.3), 0.02)
            nuclei += _soft(_disc(x, y, side * 0.23, -0.05, 0.055, 0.16, -side * 0.25), 0.02)
            nuclei += _soft(_disc(x, y, side * 0.14, -0.2, 0.035, 0.08, -side * 0.4), 0.02)
    third = _soft(_disc(x, y, 0, 0.05, 0.014, 0.12)) if index < 2 else np.zeros_like(x)
    cx, cy, radius = ((0.36, 0.3, 0.085), (-0.34, -0.28, 0.11), (0.27, -0.1, 0.075))[index]
    lesion = (
        _soft(_disc(x, y, cx, cy, radius, 0.85 * radius, 0.4) + 0.012 * _ripple(rng, 16)) * brain
    )
    fluid = np.clip(
        _soft(inner) - brain + brain * np.maximum.reduce([sulci, ventricles, third]), 0, 1
    )
    tissue = brain * (1 - fluid) * (1 - lesion)
    nuclei = np.clip(nuclei, 0, 1) * tissue
    gray = ribbon * tissue * (1 - nuclei)
    specks = sum(
        _soft(_disc(x, y, px, py, 0.018, 0.014), 0.01)
        for px, py in ((0.16, 0.24), (-0.165, 0.25), (0.0, 0.17), (cx + 0.02, cy - 0.015))
    )
    return _Head(
        scalp * (1 - outer), skull, fluid * (1 - lesion), gray, tissue - gray - nuclei, nuclei,
        lesion, specks * _soft(inner), rng,
    )  # fmt: skip


def _mri(head: _Head) -> Array:
    """T1-like: fat and white matter bright, fluid and bone dark."""
    marrow = head.skull * np.clip(0.1 + 0.06 * _ripple(head.rng, 9), 0, 1)
    signal = 0.82 * head.scalp + marrow + 0.09 * head.fluid + 0.45 * head.gray + 0.74 * head.white
    signal += 0.56 * head.nuclei + head.lesion * (0.3 + 0.1 * _ripple(head.rng, 14))
    signal = ndimage.gaussian_filter(signal, 0.7) * (1 + 0.035 * _ripple(head.rng, 150))
    noise = 0.014 * head.rng.standard_normal((2, _SIDE, _SIDE))
    return np.hypot(signal + noise[0], noise[1])  # the magnitude of a complex signal


def _ct(head: _Head) -> Array:
    """Bone and calcifications bright, little contrast within the brain."""
    diploe = head.skull * (0.94 - 0.1 * np.clip(_ripple(head.rng, 8), -1, 1))
    signal = 0.26 * head.scalp + diploe + 0.2 * head.fluid + 0.37 * head.gray + 0.335 * head.white
    signal += 0.375 * head.nuclei + 0.46 * head.lesion
    signal = np.maximum(signal, 0.95 * head.specks)
    signal = ndimage.gaussian_filter(signal, 0.8)
    noise = ndimage.gaussian_filter(head.rng.standard_normal(signal.shape), 0.8)
    return signal + 0.022 * noise * (signal > 0.05)


def _uptake(head: _Head, gray: float, white: float, lesion: float, blur: float) -> Array:
    tracer = gray * (head.gray + 1.08 * head.nuclei) + white * head.white + lesion * head.lesion
    tracer = tracer * (1 + 0.08 * _ripple(head.rng, 60)) + 0.06 * head.scalp
    tracer = ndimage.gaussian_filter(tracer, blur)
    counts = ndimage.gaussian_filter(head.rng.standard_normal(tracer.shape), 0.5 * blur)
    tracer = tracer * (1 + 0.09 * counts / counts.std() * 0.7)
    return np.clip(tracer / np.percentile(tracer, 99.7), 0, 1)


def _coloured(value: Array, stops: tuple[Colour, ...]) -> Array:
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(value, places, channel) for channel in zip(*stops, strict=True)], -1)


def _pet(head: _Head) -> Array:
    """Glucose-like uptake: gray matter high, a hungry lesion highest."""
    hot = ((0, 0, 0), (0.45, 0, 0.08), (0.88, 0.2, 0), (1, 0.62, 0.05), (1, 0.95, 0.5), (1, 1, 1))
    return _coloured(_uptake(head, 1.0, 0.38, 1.5, 3.2), hot)


def _spect(head: _Head) -> Array:
    """Perfusion-like: blurred, and a lesion without blood flow."""
    rainbow = (
        (0, 0, 0),
        (0.1, 0, 0.55),
        (0, 0.35, 0.9),
        (0, 0.75, 0.4),
        (0.85, 0.9, 0.1),
        (1, 0.5, 0),
        (0.95, 0.05, 0.05),
    )
    return _coloured(_uptake(head, 1.0, 0.45, 0.05, 5.0), rainbow)


_MODALITIES: dict[str, Callable[[_Head], Array]] = {
    "mri_ct": _ct,
    "mri_pet": _pet,
    "mri_spect": _spect,
}


# --------------------------------------------------------------- real pictures

_SENTINEL2 = "real: Sentinel-2 L2A bands 4/3/2 and 8, from spyndex 0.12 (MIT)"
_CROP = 192  # pixels; with 300x300, four overlapping crops reach every corner


class NaturalImage(NamedTuple):
    """A photograph: gray (H, W) or RGB (H, W, 3), float32 in [0, 1], and its origin."""

    name: str
    image: np.ndarray
    source: str


def sentinel2(*, crops: bool = False) -> list[Pair]:
    """A real registered pair: Sentinel-2 RGB and near-infrared, 300x300 pixels of 10 m.

    ``ir`` is band 8, NEAR-infrared reflectance (842 nm): sunlight that plants reflect,
    not heat. Each of ``ir`` and ``vis`` is stretched linearly from its own 1st to its
    own 99th percentile (the three visible bands share one stretch, which keeps their
    hues) and rounded to 8 bits.

    The file's band order is 2, 3, 4, 8. The data agree: the first three bands correlate
    above 0.95 with each other and the fourth with none of them, it is five times as
    high as the third where the three are dark (vegetation), and fields turn reddish
    and woods green when the third is shown as red.

    Parameters
    ----------
    crops : bool
        Append four overlapping 192x192 crops, one per corner, ``s2_0`` to ``s2_3``.

    Returns
    -------
    list of Pair
        ``s2`` and then the crops; float32 multiples of 1/255 in [0, 1], no mask or boxes.

    Raises
    ------
    DatasetNotFound
        If the package spyndex, which carries the data, is not installed.
    """
    path = _package_file("spyndex", "data/S2_10m.json", "spyndex==0.12")
    blue, green, red, near = np.asarray(json.loads(path.read_text()), np.float32)
    whole = Pair(
        "s2", _stretched(near), _stretched(np.stack([red, green, blue], -1)), source=_SENTINEL2
    )
    if not crops:
        return [whole]
    far = whole.ir.shape[0] - _CROP
    corners = [(0, 0), (0, far), (far, 0), (far, far)]
    return [whole, *(_crop(whole, f"s2_{k}", *corner) for k, corner in enumerate(corners))]


def _stretched(bands: Array) -> Array:
    low, high = np.percentile(bands, [1, 99])
    return quantise((bands - low) / (high - low))


def _crop(pair: Pair, name: str, top: int, left: int) -> Pair:
    window = slice(top, top + _CROP), slice(left, left + _CROP)
    return Pair(name, pair.ir[window].copy(), pair.vis[window].copy(), source=pair.source)


def _package_file(package: str, inside: str, requirement: str) -> Path:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DatasetNotFound(
            f"{inside} of the Python package {package} is not here. "
            f"Install it: pip install {requirement}"
        )
    return path


_PHOTOGRAPHS = {  # file in the scikit-image wheel: credit, from its documentation
    "astronaut.png": "NASA, public domain",
    "camera.png": "Lav Varshney, CC0",
    "chelsea.png": "Stefan van der Walt, CC0",
    "coffee.png": "Rachel Michetti, CC0",
    "rocket.jpg": "SpaceX, public domain",
    "motorcycle_left.png": "Middlebury Stereo 2014, Scharstein et al.",
    "coins.png": "Brooklyn Museum, no known restrictions",
    "brick.png": "CC0Textures, CC0",
    "grass.png": "linolafett, CC0",
    "gravel.png": "CC0Textures, CC0",
    "moon.png": "credit not stated",
}


def natural_images(*, colour: bool = False) -> list[NaturalImage]:
    """The photographs that scikit-image ships inside its wheel; nothing is downloaded.

    Parameters
    ----------
    colour : bool
        Return (H, W, 3); photographs that are gray get three equal channels.

    Returns
    -------
    list of NaturalImage
        Eleven photographs in a fixed order, float32 in [0, 1], of various sizes. Gray
        is the luma of ITU-R BT.601, rounded to 8 bits.

    Raises
    ------
    DatasetNotFound
        If scikit-image, or one of the files, is not installed.
    """
    images = []
    for file, credit in _PHOTOGRAPHS.items():
        path = _package_file("skimage", f"data/{file}", "scikit-image")
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB" if colour else "L"), np.float32) / 255
        source = f"real: scikit-image data/{file} ({credit})"
        images.append(NaturalImage(path.stem, pixels, source))
    return images
