"""What stands in the rendered scenes: grounds, people, vehicles, plants, buildings.

Metres and kelvin as in `fusionlib._render`, which draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ._render import (
    Array,
    Blob,
    Colour,
    Face,
    GroundPaint,
    Lamp,
    Leaves,
    Limb,
    Spot,
    Stage,
    Surface,
    Where,
    smoothstep,
    texture,
    unit,
)

# ------------------------------------------------------------------- grounds


def _tinted(colour: Colour, light: Array) -> Array:
    return np.maximum(np.asarray(colour, np.float32) * light[:, None], 0.004)


def _fade(z: Array, metres: float) -> Array:
    """Weight of a fine texture, which distance averages out."""
    return 1 / (1 + (z / metres) ** 2)


def asphalt(colour: Colour = (0.105, 0.105, 0.11)) -> GroundPaint:
    def paint(x: Array, z: Array) -> tuple[Array, Array]:
        stain = texture("cloud", x * 0.09, z * 0.022) * _fade(z, 90)
        grit = texture("grain", x * 0.37, z * 0.37) * _fade(z, 9)
        crack = np.abs(texture("cloud", x * 0.05 + 0.4, z * 0.05)) < 0.012
        light = 1 + 0.09 * stain + 0.16 * grit - 0.35 * crack * _fade(z, 25)
        return _tinted(colour, light), 2.5 + 0.5 * stain + 0.25 * grit

    return paint


def grass(colour: Colour = (0.075, 0.125, 0.035)) -> GroundPaint:
    def paint(x: Array, z: Array) -> tuple[Array, Array]:
        # log z makes the blades stand upright in the picture, at every distance
        depth = np.log(z)
        blades = texture("grain", x * 0.35, depth * 0.75) * _fade(z, 22)
        tufts = texture("cloud", x * 0.16, depth * 0.33) * _fade(z, 60)
        patches = texture("cloud", x * 0.021 + 0.3, z * 0.021) * _fade(z, 45)
        light = 1 + 0.34 * blades + 0.2 * tufts + 0.14 * patches
        dry = np.clip(0.25 + 0.3 * patches, 0, 1)[:, None]
        albedo = _tinted(colour, light) * (1 - dry)
        albedo += dry * _tinted((1.5 * colour[0], 1.05 * colour[1], colour[2]), light)
        return albedo, -0.8 + 0.5 * tufts + 0.4 * blades + 0.5 * patches

    return paint


def soil(colour: Colour, litter: float = 0.0) -> GroundPaint:
    def paint(x: Array, z: Array) -> tuple[Array, Array]:
        clods = texture("grain", x * 0.16, z * 0.16) * _fade(z, 12)
        broad = texture("cloud", x * 0.07, z * 0.07)
        leaf = texture("leaf", x * 0.42, z * 0.33) * _fade(z, 22)
        light = 1 + 0.22 * clods + 0.2 * broad + litter * (1.5 * leaf - 0.5)
        albedo = _tinted(colour, light)
        albedo[:, 0] *= 1 + 0.25 * litter * leaf
        return albedo, 0.4 + 0.6 * broad + 0.3 * clods + 0.4 * litter * leaf

    return paint


def paving(slab: float = 0.6, colour: Colour = (0.27, 0.26, 0.245)) -> GroundPaint:
    def paint(x: Array, z: Array) -> tuple[Array, Array]:
        row = np.floor(z / slab)
        shifted = x / slab + 0.5 * (row % 2)
        tone = texture("grain", np.floor(shifted) * 0.137, row * 0.173)
        fx = np.abs(shifted % 1 - 0.5)
        fz = np.abs((z / slab) % 1 - 0.5)
        joint = np.maximum(fx, fz) > 0.5 - 0.014 / slab
        grit = texture("grain", x * 0.31, z * 0.31) * _fade(z, 8)
        stain = texture("cloud", x * 0.11, z * 0.11)
        light = 1 + _fade(z, 20) * (0.1 * tone - 0.5 * joint) + 0.07 * grit + 0.08 * stain
        return _tinted(colour, light), 1.2 + 0.4 * stain + 0.3 * tone * _fade(z, 20) - 0.6 * joint

    return paint


def line_paint(x: Array, z: Array) -> tuple[Array, Array]:
    """Worn white road paint: bright in the visible, next to nothing in the infrared."""
    worn = texture("grain", x * 0.5, z * 0.3) + texture("cloud", x * 0.3, z * 0.11)
    light = np.where(worn > 1.1, 0.3, 1.0) * (1 + 0.06 * worn)
    return _tinted((0.62, 0.62, 0.58), light), np.full_like(x, 2.2)


def zones(base: GroundPaint, *parts: tuple[Where, GroundPaint]) -> GroundPaint:
    """A ground with other materials, or road markings, laid on part of it."""

    def paint(x: Array, z: Array) -> tuple[Array, Array]:
        albedo, temp = base(x, z)
        for where, material in parts:
            here = where(x, z)
            albedo[here], temp[here] = material(x[here], z[here])
        return albedo, temp

    return paint


def between(low: float, high: float) -> Where:
    return lambda x, z: (x > low) & (x < high)


def dashes(centre: float) -> Where:
    return lambda x, z: (np.abs(x - centre) < 0.065) & (z % 6.6 < 3)


def zebra(near: float, far: float, left: float, right: float) -> Where:
    return lambda x, z: (z > near) & (z < far) & (x > left) & (x < right) & (x % 1.0 < 0.5)


def street(left: float, right: float, *extra: tuple[Where, GroundPaint]) -> GroundPaint:
    """Pavements, kerbs and a two-lane road between ``left`` and ``right``."""
    kerb = soil((0.34, 0.33, 0.31))
    gutter = asphalt((0.06, 0.06, 0.062))
    return zones(
        paving(),
        (between(left - 0.18, right + 0.18), kerb),
        (between(left, right), gutter),
        (between(left + 0.22, right - 0.22), asphalt()),
        (dashes((left + right) / 2), line_paint),
        *extra,
    )


# ------------------------------------------------------------------- objects


class Frame(NamedTuple):
    """A local frame on the ground: forward, up, and to the side."""

    x: float
    z: float
    heading: float  # 0 faces away from the camera, pi faces it, pi/2 faces right

    def at(self, forward: float, up: float, side: float) -> Array:
        s, c = np.sin(self.heading), np.cos(self.heading)
        return np.array([self.x + forward * s + side * c, up, self.z + forward * c - side * s])

    def direction(self, forward: float, up: float, side: float) -> Array:
        return self.at(forward, up, side) - self.at(0, 0, 0)

    def axes(self, forward: float, up: float, side: float) -> Array:
        s, c = np.sin(self.heading), np.cos(self.heading)
        return np.array([[forward * s, 0, side * c], [0, up, 0], [forward * c, 0, -side * s]])


def _folds(depth: float, waist: float) -> Callable[[Spot], None]:
    """Cloth: darker creases, and a hem that is a little warmer."""

    def paint(spot: Spot) -> None:
        crease = texture("cloud", spot.point[:, 0] * 0.9, spot.point[:, 1] * 0.45)
        spot.albedo *= np.clip(1 + depth * crease, 0.3, 1.7)[:, None]
        spot.temp += 0.9 * crease + 1.2 * smoothstep(waist - 0.25, waist + 0.35, spot.point[:, 1])

    return paint


_SKIN: tuple[Colour, ...] = ((0.5, 0.32, 0.23), (0.36, 0.21, 0.14), (0.2, 0.11, 0.07))
_CLOTHES: tuple[Colour, ...] = (
    (0.09, 0.13, 0.28), (0.4, 0.06, 0.05), (0.34, 0.33, 0.3), (0.05, 0.05, 0.06),
    (0.1, 0.2, 0.12), (0.5, 0.38, 0.1), (0.24, 0.16, 0.1),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = ((0.05, 0.07, 0.13), (0.06, 0.06, 0.065), (0.2, 0.17, 0.12))


def _any_of(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    return colours[rng.integers(len(colours))]


def person(
    stage: Stage,
    x: float,
    z: float,
    heading: float,
    *,
    stride: float = 0.45,
    height: float = 1.75,
    crouch: float = 0.0,
    coat: Colour | None = None,
    camouflage: bool = False,
) -> None:
    """A walking (or, with ``crouch`` above 0, a crouching) person."""
    rng, owner = stage.rng, stage.target("person")
    frame = Frame(x, z, heading)
    skin = Surface(_any_of(_SKIN, rng), 33.0, grain=0.03)
    hair = Surface((0.04, 0.03, 0.02), 28.5, grain=0.2)
    cloth_temp = 0.6 * stage.air_temp + 0.4 * 33 + 2.5
    colour = coat or _any_of(_CLOTHES, rng)
    cloth = _camouflage if camouflage else _folds(0.22, 0.75 * height)
    top = Surface(colour, cloth_temp + 1.5, paint=cloth)
    trousers = _any_of(_TROUSERS, rng)
    legs = Surface(
        colour if camouflage else trousers,
        cloth_temp,
        paint=_camouflage if camouflage else _folds(0.18, 1.2),
    )
    shoe = Surface((0.04, 0.035, 0.03), stage.air_temp + 5)
    h, drop = height, crouch * 0.36 * height
    hip, lean = 0.53 * h - drop, crouch * 0.22 * h
    shoulder, head = 0.815 * h - drop, 0.928 * h - drop

    def limb(surface: Surface, start: Array, end: Array, r0: float, r1: float) -> None:
        stage.add(Limb(surface, start, end, r0 * h, r1 * h), owner=owner)

    for sign in (-1, 1):
        swing = sign * stride * (1 - crouch)
        knee_x = 0.24 * h * np.sin(0.75 * swing) + 0.02 * h + crouch * 0.24 * h
        knee_y = 0.285 * h - 0.35 * drop + 0.01 * h * abs(swing)
        foot_x = knee_x + 0.25 * h * np.sin(0.75 * swing - 0.45 * max(-swing, 0)) - crouch * 0.2 * h
        lift = 0.05 * h * max(-swing, 0)
        side = sign * 0.055 * h
        knee = frame.at(knee_x, knee_y, side)
        limb(legs, frame.at(0, hip, side), knee, 0.052, 0.038)
        limb(legs, knee, frame.at(foot_x, 0.05 * h + lift, side), 0.037, 0.026)
        toe = frame.at(foot_x + 0.09 * h, 0.02 * h + 0.4 * lift, side)
        limb(shoe, frame.at(foot_x - 0.02 * h, 0.028 * h + lift, side), toe, 0.027, 0.02)
        elbow_x = lean - 0.15 * h * np.sin(0.9 * swing)
        arm = 0.118 * h * sign
        elbow = frame.at(elbow_x, shoulder - 0.165 * h, 1.12 * arm)
        hand = frame.at(
            elbow_x - 0.08 * h * np.sin(swing) + 0.05 * h, shoulder - 0.31 * h, 1.12 * arm
        )
        limb(top, frame.at(lean, shoulder - 0.034 * h, arm), elbow, 0.034, 0.028)
        limb(top, elbow, hand, 0.027, 0.02)
        stage.add(Blob(skin, hand, frame.axes(0.022 * h, 0.034 * h, 0.016 * h)), owner=owner)
    chest = frame.at(0.9 * lean, shoulder - 0.1 * h, 0)
    belly = frame.at(0.4 * lean, (hip + shoulder) / 2 - 0.05 * h, 0)
    stage.add(
        Blob(top, chest, frame.axes(0.072 * h, 0.155 * h, 0.118 * h)),
        Blob(top, belly, frame.axes(0.068 * h, 0.15 * h, 0.098 * h)),
        Blob(legs, frame.at(0, hip, 0), frame.axes(0.068 * h, 0.08 * h, 0.096 * h)),
        owner=owner,
    )
    left, right = (frame.at(lean, shoulder - 0.006 * h, side * h) for side in (-0.072, 0.072))
    limb(top, left, right, 0.03, 0.03)
    chin = frame.at(lean + 0.01 * h, head - 0.03 * h, 0)
    limb(skin, frame.at(lean, shoulder, 0), chin, 0.034, 0.03)
    face = frame.at(lean + 0.015 * h, head, 0)
    crown = frame.at(lean - 0.003 * h, head + 0.016 * h, 0)
    stage.add(
        Blob(skin, face, frame.axes(0.05 * h, 0.066 * h, 0.043 * h)),
        Blob(hair, crown, frame.axes(0.052 * h, 0.061 * h, 0.047 * h)),
        owner=owner,
    )
    stage.contact(x, z, 0.12, 0.1, heading, 0.6)


def _camouflage(spot: Spot) -> None:
    """Green and brown patches; the warm body under them still shows in the infrared."""
    patch = texture("cloud", spot.point[:, 0] * 1.3, spot.point[:, 1] * 1.3)
    brown, dark = (patch > 0.45)[:, None], (patch < -0.75)[:, None]
    colour = np.where(brown, (0.1, 0.075, 0.04), (0.055, 0.075, 0.03))
    spot.albedo[:] = np.where(dark, (0.02, 0.025, 0.015), colour)


_PROFILE = np.array(  # a hatchback from the side: forward, up, half width
    [
        (2.02, 0.22, 0.80), (2.12, 0.48, 0.85), (2.06, 0.66, 0.85), (1.86, 0.78, 0.84),
        (1.02, 0.96, 0.83), (0.30, 1.40, 0.62), (-0.2, 1.46, 0.62), (-1.15, 1.40, 0.61),
        (-1.80, 1.0, 0.80), (-2.04, 0.92, 0.82), (-2.10, 0.58, 0.85), (-2.02, 0.24, 0.80),
    ]
)  # fmt: skip


def car(
    stage: Stage,
    x: float,
    z: float,
    heading: float,
    *,
    colour: Colour,
    engine: float,
    lights: float = 0.0,
    tail: float = 0.0,
    tall: float = 1.0,
) -> None:
    """A car; ``engine`` is how many kelvin its bonnet is above the air.

    ``lights`` and ``tail`` are the radiances of its head and tail lamps; ``tall``
    stretches it upwards (1.3 gives a van).
    """
    owner, frame, air = stage.target("car"), Frame(x, z, heading), stage.air_temp
    stretch = np.array([1.0, tall, 1.0 + 0.1 * (tall - 1)])
    profile = _PROFILE * stretch
    body = Surface(colour, air + 1.5, gloss=0.55, grain=0.03)
    glass = Surface((0.02, 0.025, 0.03), air + 2.0, gloss=1.0, grain=0.02)

    def bonnet(spot: Spot) -> None:
        across = (spot.u - spot.u.mean()) / 0.62
        spot.temp += (
            engine
            * np.exp(-(across**4))
            * (0.85 + 0.1 * texture("cloud", 0.2 * spot.u, 0.2 * spot.v))
        )

    def nose(spot: Spot) -> None:
        middle = np.abs(spot.u - 0.83)
        grille = (middle < 0.5) & (spot.v % 0.1 < 0.075)
        spot.albedo[grille] = 0.015
        spot.temp += 0.9 * engine * np.exp(-((middle / 0.55) ** 6))

    def pane(spot: Spot) -> None:
        rim = (spot.v < 0.04) | (np.abs(spot.u - 0.72) > 0.66)
        spot.albedo[rim], spot.gloss[rim] = np.asarray(colour) * 0.5, 0.3

    def flank(spot: Spot) -> None:
        seam = np.minimum(np.abs(spot.u - 1.62), np.abs(spot.u - 2.75)) < 0.014
        height = spot.point[:, 1] / tall
        spot.albedo[seam & (height > 0.35)] *= 0.35
        spot.albedo *= (0.45 + 0.55 * smoothstep(0.28, 0.5, height))[:, None]
        spot.albedo[np.abs(height - 0.62) < 0.016] *= 1.35
        spot.temp += 0.5 * engine * np.exp(-(((_forward(frame, spot.point) - 1.5) / 0.7) ** 4))

    strips = {0: nose, 1: nose, 2: bonnet, 3: bonnet, 4: pane, 7: pane}
    normals = _profile_normals(frame, profile)
    for index in range(len(profile) - 1):
        (f0, y0, w0), (f1, y1, w1) = profile[index], profile[index + 1]
        quad = [
            frame.at(f0, y0, -w0),
            frame.at(f0, y0, w0),
            frame.at(f1, y1, w1),
            frame.at(f1, y1, -w1),
        ]
        paint = strips.get(index)
        surface = replace(glass if paint is pane else body, paint=paint)
        stage.add(Face(surface, quad, (normals[index], normals[index + 1])), owner=owner)
    for side in (-1, 1):
        _car_side(stage, frame, owner, side, stretch, body, glass, flank)
        for forward in (1.32, -1.3):
            _wheel(stage, frame, owner, forward, side, engine)
        head = Surface((0.5, 0.5, 0.5), air + 3, 0.9, emit=(lights, 0.95 * lights, 0.82 * lights))
        rear = Surface((0.3, 0.02, 0.02), air + 2, 0.6, emit=(tail, 0.06 * tail, 0.04 * tail))
        stage.add(
            Blob(head, frame.at(2.02, 0.66 * tall, 0.64 * side), frame.axes(0.09, 0.075, 0.16)),
            Blob(rear, frame.at(-2.03, 0.76 * tall, 0.7 * side), frame.axes(0.07, 0.11, 0.11)),
            Blob(body, frame.at(0.82, 0.99 * tall, 0.94 * side), frame.axes(0.07, 0.07, 0.1)),
            owner=owner,
        )
        if lights:
            power = 2.2 * lights
            stage.lamps.append(
                Lamp(
                    tuple(frame.at(2.15, 0.68, 0.64 * side)),
                    (power, 0.95 * power, 0.82 * power),
                    tuple(frame.direction(1, -0.045, 0)),
                )
            )
    pipe = Surface((0.1, 0.1, 0.1), air + 2.6 * engine)
    stage.add(Blob(pipe, frame.at(-2.08, 0.27, 0.45), frame.axes(0.06, 0.05, 0.07)), owner=owner)
    plate = _lettering("FL 204", (0.75, 0.74, 0.68), (0.03, 0.03, 0.03), air + 1)
    for forward, half in ((2.135, 0.26), (-2.115, -0.26)):
        corners = ((0.4, half), (0.4, -half), (0.52, -half), (0.52, half))
        stage.add(Face(plate, [frame.at(forward, y, s) for y, s in corners]), owner=owner)
    stage.contact(x, z, 1.95, 0.8, heading, 0.88)
    if engine:
        bonnet_x, _, bonnet_z = frame.at(1.3, 0, 0)
        stage.warm_ground(bonnet_x, bonnet_z, 0.9, 0.9, 0.3 * engine)


def _forward(frame: Frame, points: Array) -> Array:
    return (points[:, 0] - frame.x) * np.sin(frame.heading) + (points[:, 2] - frame.z) * np.cos(
        frame.heading
    )


def _profile_normals(frame: Frame, profile: Array) -> Array:
    """Normals at the corners of a profile, so that the sheet metal looks curved."""
    step = np.diff(profile[:, :2], axis=0)
    flat = unit(np.stack([step[:, 1], -step[:, 0]], axis=1))
    flat[flat @ [0, 1] < -0.5] *= -1
    corner = unit(np.vstack([flat[:1], flat[:-1] + flat[1:], flat[-1:]]))
    return np.array([frame.direction(f, y, 0) for f, y in corner], np.float32)


def _car_side(
    stage: Stage, frame: Frame, owner: int, side: int, stretch: Array,
    body: Surface, glass: Surface, flank: Callable[[Spot], None],
) -> None:  # fmt: skip
    outline = [(-2.02, 0.24), (2.02, 0.22), (2.12, 0.48), (2.06, 0.66), (1.86, 0.78), (1.02, 0.96),
               (-1.8, 1.0), (-2.04, 0.92), (-2.1, 0.58)]  # fmt: skip
    windows = [
        (-1.8, 1.0, 0.83),
        (1.02, 0.96, 0.83),
        (0.3, 1.4, 0.63),
        (-0.2, 1.46, 0.63),
        (-1.15, 1.4, 0.63),
    ]

    def panes(spot: Spot) -> None:
        along, up = _forward(frame, spot.point), spot.point[:, 1] / stretch[1]
        pillar = (np.abs(along + 0.42) < 0.05) | (up > 1.375) | (up < 1.0) | (along < -1.45)
        pillar |= np.abs(along - 1.02 + (up - 0.96) * 1.62) < 0.07
        spot.albedo[pillar] = np.asarray(body.colour) * 0.8
        spot.gloss[pillar] = body.gloss

    out = frame.direction(0, 0, side)
    rise = np.array([0.0, 1.0, 0.0])
    low, belt, roof = unit(out - 0.3 * rise), unit(out + 0.35 * rise), unit(out + 0.9 * rise)
    panel = [frame.at(f, y * stretch[1], 0.855 * side) for f, y in outline]
    cabin = [frame.at(f, y * stretch[1], w * side) for f, y, w in windows]
    stage.add(
        Face(replace(body, paint=flank), panel, (low, belt)),
        Face(replace(glass, paint=panes), cabin, (belt, roof)),
        owner=owner,
    )


def _wheel(
    stage: Stage, frame: Frame, owner: int, forward: float, side: int, engine: float
) -> None:
    air = stage.air_temp

    def rim(spot: Spot) -> None:
        along, up = _forward(frame, spot.point) - forward, spot.point[:, 1] - 0.31
        radius, angle = np.hypot(along, up), np.arctan2(up, along)
        metal = (radius < 0.2) & ((np.cos(5 * angle) > -0.35) | (radius < 0.06) | (radius > 0.17))
        spot.albedo[metal] = (0.36, 0.37, 0.38)
        spot.gloss[metal] = 0.4
        spot.temp += np.where(radius < 0.2, 0.45, 0.3) * engine

    tyre = Surface((0.018, 0.018, 0.02), air + 2 + 0.25 * engine)
    arch = Surface((0.008, 0.008, 0.008), air + 1 + 0.1 * engine)
    face = Surface(tyre.colour, air + 1, paint=rim)
    angles = np.linspace(0, 2 * np.pi, 15)[:-1]
    for radius, offset, surface in ((0.375, 0.86, arch), (0.305, 0.868, face)):
        ring = [
            frame.at(forward + radius * np.cos(a), 0.31 + radius * np.sin(a), offset * side)
            for a in angles
        ]
        stage.add(Face(surface, ring), owner=owner)
    stage.add(
        Blob(tyre, frame.at(forward, 0.31, 0.74 * side), frame.axes(0.31, 0.31, 0.13)), owner=owner
    )


def cyclist(
    stage: Stage, x: float, z: float, heading: float, coat: Colour = (0.55, 0.42, 0.03)
) -> None:
    """A rider on a bicycle: two targets, the bicycle and the person."""
    frame, air = Frame(x, z, heading), stage.air_temp
    bicycle = stage.target("bicycle")
    tyre = Surface((0.02, 0.02, 0.02), air + 4)
    tube = Surface((0.05, 0.16, 0.35), air + 1, gloss=0.4)
    rear_hub, front_hub = (-0.52, 0.34), (0.55, 0.34)
    for forward, up in (rear_hub, front_hub):
        angles = np.linspace(0, 2 * np.pi, 19)
        rim = [frame.at(forward + 0.33 * np.cos(a), up + 0.33 * np.sin(a), 0) for a in angles]
        for start, end in pairwise(rim):
            stage.add(Limb(tyre, start, end, 0.02, 0.02), owner=bicycle)
        for a in angles[::3]:
            spoke = frame.at(forward + 0.32 * np.cos(a), up + 0.32 * np.sin(a), 0)
            stage.add(Limb(tube, frame.at(forward, up, 0), spoke, 0.004, 0.004), owner=bicycle)
    crank, saddle, steer = (0.0, 0.3), (-0.2, 0.92), (0.38, 0.88)
    for rear, front in (
        (rear_hub, crank),
        (crank, saddle),
        (saddle, steer),
        (crank, steer),
        (steer, front_hub),
        (rear_hub, saddle),
    ):
        stage.add(Limb(tube, frame.at(*rear, 0), frame.at(*front, 0), 0.022, 0.022), owner=bicycle)
    stage.add(
        Limb(tyre, frame.at(-0.32, 0.97, 0), frame.at(-0.08, 0.97, 0), 0.05, 0.03),
        Limb(tube, frame.at(0.38, 0.86, 0), frame.at(0.36, 1.02, 0), 0.02, 0.02),
        Limb(tyre, frame.at(0.42, 1.02, -0.24), frame.at(0.42, 1.02, 0.24), 0.018, 0.018),
        owner=bicycle,
    )
    rider = stage.target("person")
    skin = Surface(_any_of(_SKIN, stage.rng), 33.0, grain=0.03)
    warm = 0.5 * air + 18.0
    top, legs = Surface(coat, warm, paint=_folds(0.2, 1.2)), Surface((0.04, 0.04, 0.05), warm)
    shoe = Surface((0.5, 0.5, 0.5), air + 6)
    for side, pedal in ((-1, 0.16), (1, 0.45)):
        knee = frame.at(0.2, 0.62 + 0.9 * (pedal - 0.3), 0.1 * side)
        foot = frame.at(0.04, pedal, 0.12 * side)
        toe = foot + frame.direction(0.16, -0.02, 0)
        shoulder, elbow = frame.at(0.26, 1.42, 0.17 * side), frame.at(0.3, 1.18, 0.24 * side)
        stage.add(
            Limb(legs, frame.at(-0.2, 1.0, 0.08 * side), knee, 0.09, 0.062),
            Limb(skin, knee, foot, 0.058, 0.04),
            Limb(shoe, foot, toe, 0.045, 0.03),
            Limb(top, shoulder, elbow, 0.055, 0.045),
            Limb(skin, elbow, frame.at(0.44, 1.04, 0.2 * side), 0.042, 0.032),
            owner=rider,
        )
    helmet = Surface((0.6, 0.6, 0.6), air + 4, gloss=0.4)
    stage.add(
        Limb(top, frame.at(-0.2, 1.04, 0), frame.at(0.22, 1.38, 0), 0.14, 0.16),
        Limb(top, frame.at(0.24, 1.42, -0.16), frame.at(0.24, 1.42, 0.16), 0.06, 0.06),
        Limb(skin, frame.at(0.28, 1.44, 0), frame.at(0.36, 1.6, 0), 0.055, 0.05),
        Blob(skin, frame.at(0.38, 1.62, 0), frame.axes(0.085, 0.115, 0.075)),
        Blob(helmet, frame.at(0.36, 1.69, 0), frame.axes(0.125, 0.075, 0.085)),
        owner=rider,
    )
    stage.contact(x, z, 0.6, 0.03, heading, 0.55)


def _foliage(colour: Colour) -> Callable[[Spot], None]:
    def paint(spot: Spot) -> None:
        light = (0.3 + 0.95 * spot.u) * (0.78 + 0.3 * np.clip(spot.v, -1, 1))
        spot.albedo[:] = np.asarray(colour, np.float32) * light[:, None]
        spot.albedo[:, 0] *= 0.8 + 0.5 * spot.u
        spot.temp += 1.2 * (spot.u - 0.5) + 0.5 * spot.v

    return paint


def _bark(spot: Spot) -> None:
    ridge = texture("grain", spot.point[:, 0] * 0.9 + spot.point[:, 2] * 0.5, spot.v * 0.12)
    spot.albedo *= np.clip(1 + 0.4 * ridge, 0.3, 1.8)[:, None]
    spot.temp += 0.5 * ridge


def tree(
    stage: Stage,
    x: float,
    z: float,
    height: float,
    *,
    spread: float,
    colour: Colour = (0.085, 0.15, 0.04),
    trunk: float = 0.15,
    bare: float = 0.3,
    clumps: int = 22,
) -> None:
    """A deciduous tree; ``bare`` is the share of its height without leaves."""
    rng, air = stage.rng, stage.air_temp
    wood = Surface((0.11, 0.085, 0.06), air + 0.8, paint=_bark)
    leaves = Surface(colour, air + 0.3, paint=_foliage(colour))
    fork = np.array([x + rng.normal(0, 0.12), (bare + 0.12) * height, z])
    stage.add(Limb(wood, (x, -0.05, z), fork, trunk, 0.75 * trunk))
    middle = np.array([x, (0.5 + 0.5 * bare) * height, z])
    half = np.array([spread, 0.5 * (1 - bare) * height, spread])
    for _ in range(5):
        tip = middle + half * rng.uniform(-0.7, 0.7, 3)
        stage.add(Limb(wood, fork, tip, 0.55 * trunk, 0.15 * trunk))
    for _ in range(clumps):
        direction = unit(rng.normal(size=3))
        place = middle + 0.8 * half * direction * rng.uniform(0.35, 1) ** 0.6
        size = spread * rng.uniform(0.26, 0.46)
        axes = np.diag([size, 0.72 * size, size])
        stage.add(Leaves(leaves, place, axes, 0.13 + 0.004 * z, rng.uniform()))
    stage.contact(x, z, 0.1, 0.1, 0.0, 0.6)


def bush(
    stage: Stage, x: float, z: float, size: float, colour: Colour = (0.07, 0.125, 0.035)
) -> None:
    rng = stage.rng
    leaves = Surface(colour, stage.air_temp + 0.2, paint=_foliage(colour))
    for _ in range(7):
        place = np.array([x, 0.45 * size, z]) + size * rng.uniform(
            [-0.8, -0.2, -0.5], [0.8, 0.5, 0.5]
        )
        axes = np.diag(size * np.array([0.5, 0.42, 0.5]) * rng.uniform(0.7, 1.15))
        stage.add(Leaves(leaves, place, axes, 0.1 + 0.004 * z, rng.uniform()))
    stage.contact(x, z, 0.5 * size, 0.7 * size, 0.0, 0.6)


def upright(
    surface: Surface, left: tuple[float, float], right: tuple[float, float], low: float, high: float
) -> Face:
    """A rectangle that stands between two ground points (x, z), from ``low`` to ``high``."""
    (x0, z0), (x1, z1) = left, right
    return Face(surface, [(x0, low, z0), (x1, low, z1), (x1, high, z1), (x0, high, z0)])


@cache
def _word(text: str) -> Array:
    """A line of text as coverage in [0, 1], top row first; read-only."""
    font = ImageFont.load_default(48)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (int(right - left) + 24, int(bottom - top) + 24), 0)
    ImageDraw.Draw(picture).text((12 - left, 12 - top), text, 255, font=font)
    word = np.asarray(picture, np.float32) / 255
    word.setflags(write=False)
    return word


def _lettering(text: str, ground: Colour, ink: Colour, temp: float, emit: float = 0.0) -> Surface:
    """A board with text that only the visible camera can read: paint has one temperature."""
    word = _word(text)

    def paint(spot: Spot) -> None:
        width, height = spot.u.max() + 1e-6, spot.v.max() + 1e-6
        column = (np.clip(spot.u / width, 0, 1) * (word.shape[1] - 1)).astype(int)
        row = (np.clip(1 - spot.v / height, 0, 1) * (word.shape[0] - 1)).astype(int)
        cover = word[row, column][:, None]
        spot.albedo[:] = np.asarray(ground) * (1 - cover) + np.asarray(ink) * cover
        spot.emit[:] = emit * spot.albedo

    return Surface(ground, temp, grain=0.02, paint=paint)


def board(
    stage: Stage,
    text: str,
    left: tuple[float, float],
    right: tuple[float, float],
    low: float,
    high: float,
    ground: Colour,
    ink: Colour,
    emit: float = 0.0,
) -> None:
    """A sign between two ground points (x, z), from height ``low`` to ``high``."""
    sign = _lettering(text, ground, ink, stage.air_temp + 1.5, emit)
    stage.add(upright(sign, left, right, low, high))


def house(
    stage: Stage,
    left: tuple[float, float],
    right: tuple[float, float],
    height: float,
    *,
    wall: Colour = (0.3, 0.13, 0.085),
    brick: bool = True,
    pitch: float = 2.5,
    lit: float = 0.0,
    leak: float = 3.0,
    ground_floor: float = 0.0,
) -> None:
    """A facade from ``left`` to ``right`` (x, z) with rows of windows.

    ``lit`` is the share of windows with light behind them, ``leak`` how many kelvin
    the worst ones lose; below ``ground_floor`` metres the wall has no windows.
    """
    air = stage.air_temp
    lottery = stage.rng.uniform(size=(16, 16))
    storey, half, tall = 3.0, 0.55, 1.55

    def paint(spot: Spot) -> None:
        u, v = spot.u, spot.v
        if brick:
            _brickwork(spot)
        else:
            _plaster(spot)
        spot.temp += 0.5 * texture("cloud", u * 0.05, v * 0.05)
        above = v - ground_floor
        column, row = np.floor(u / pitch), np.floor(above / storey)
        a, b = np.abs(u - (column + 0.5) * pitch), above - row * storey - 0.95
        chance = lottery[row.astype(int) % 16, column.astype(int) % 16]
        valid = (above > 0) & (v < height - 0.5 - storey + tall + 0.95 + 0.9)
        frame = valid & (a < half + 0.09) & (b > -0.09) & (b < tall + 0.09)
        sill = valid & (a < half + 0.2) & (b > -0.22) & (b <= -0.09)
        lintel_shadow = valid & (a < half + 0.2) & (b > -0.34) & (b <= -0.22)
        beside, beyond = np.maximum(a - half, 0), np.maximum(np.abs(b - tall / 2) - tall / 2, 0)
        spot.temp += valid * (leak * chance**2) * np.exp(-beside / 0.25 - beyond / 0.3)
        spot.albedo[lintel_shadow] *= 0.6
        spot.albedo[sill] = (0.36, 0.35, 0.32)
        spot.albedo[frame] = (0.5, 0.49, 0.46)
        pane = valid & (a < half) & (b > 0) & (b < tall)
        glass = pane & (a > 0.035) & (np.abs(b - 0.62 * tall) > 0.03)  # less the glazing bars
        curtain = glass & (a > half * (0.3 + 0.9 * chance))
        spot.albedo[glass] = 0.022
        spot.albedo[curtain] = 0.16
        spot.albedo[glass & (b > tall - 0.14)] *= 0.4
        spot.gloss[glass] = 0.8
        spot.temp[glass] += 2.2 * (chance[glass] - 0.55) + 1.0
        on = glass & (chance < lit)
        warm = np.array([1.0, 0.72, 0.38]) * 1.2 * (0.55 + 0.9 * ((37 * chance) % 1))[:, None]
        shade = (0.45 + 0.55 * b / tall) * np.where(curtain, 0.55, 1.0)
        spot.emit[on] = (warm * shade[:, None])[on]
        spot.albedo *= (1 - 0.4 * np.exp(-np.maximum(v, 0) / 0.35))[:, None]
        plinth = v < 0.45
        spot.albedo[plinth] = spot.albedo[plinth] * 0.5 + 0.05

    (x0, z0), (x1, z1) = left, right
    cornice = Surface((0.33, 0.31, 0.28), air + 1.0)
    stage.add(upright(Surface(wall, air + 2.0, paint=paint), left, right, -0.1, height))
    stage.add(Limb(cornice, (x0, height, z0), (x1, height, z1), 0.18, 0.18))


def _brickwork(spot: Spot) -> None:
    course, length = 0.1, 0.3
    row = np.floor(spot.v / course)
    shifted = spot.u / length + 0.5 * (row % 2)
    tone = texture("grain", np.floor(shifted) * 0.0913 + 0.11, row * 0.0717)
    fine = _fade(spot.point[:, 2], 22)
    mortar = ((spot.v / course) % 1 < 0.17) | (shifted % 1 < 0.07)
    spot.albedo *= (1 + 0.24 * fine * tone)[:, None]
    joint = (mortar * fine * 0.75)[:, None]
    spot.albedo[:] = spot.albedo * (1 - joint) + joint * 0.25
    spot.temp -= 0.4 * mortar * fine


def _plaster(spot: Spot) -> None:
    streak = texture("cloud", spot.u * 0.3, spot.v * 0.03)
    spot.albedo *= (1 + 0.1 * streak + 0.05 * texture("grain", spot.u * 0.3, spot.v * 0.3))[:, None]


def scaled(colour: Colour, factor: float) -> Colour:
    """A colour made brighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def street_lamp(stage: Stage, x: float, z: float, reach: float = 0.8, light: float = 0.0,
                 tint: Colour = (1.0, 0.66, 0.3)) -> None:  # fmt: skip
    pole = Surface((0.12, 0.13, 0.13), stage.air_temp + 0.3, gloss=0.2)
    warmth = 9 if light else 1
    bulb = Surface((0.4, 0.4, 0.4), stage.air_temp + warmth, emit=scaled(tint, light))
    stage.add(
        Limb(pole, (x, 0, z), (x, 4.9, z), 0.08, 0.05),
        Limb(pole, (x, 4.9, z), (x + reach, 5.2, z), 0.045, 0.04),
        Limb(bulb, (x + reach, 5.17, z), (x + 1.25 * reach, 5.2, z), 0.1, 0.08),
    )
    stage.contact(x, z, 0.05, 0.05, 0.0, 0.5)
    if light:
        stage.lamps.append(Lamp((x + 1.1 * reach, 5.0, z), scaled(tint, 1.7 * light)))


def fence(stage: Stage, x0: float, x1: float, z: float) -> None:
    wood, height = Surface((0.22, 0.16, 0.1), stage.air_temp + 0.6, grain=0.2), 1.1
    for x in np.arange(x0, x1 + 0.01, 1.6):
        stage.add(Limb(wood, (x, 0, z), (x, height, z), 0.06, 0.05))
    for level in (0.45, 0.85):
        stage.add(Limb(wood, (x0, level * height, z), (x1, level * height, z), 0.04, 0.04))


def box(stage: Stage, frame: Frame, length: float, width: float, height: float,
         surface: Surface) -> None:  # fmt: skip
    """A cuboid standing on the ground: a container, a kiosk, a bench slab."""
    a, b = length / 2, width / 2
    ring = [(-a, -b), (a, -b), (a, b), (-a, b)]
    for (f0, s0), (f1, s1) in pairwise([*ring, ring[0]]):
        wall = [
            frame.at(f0, 0, s0),
            frame.at(f1, 0, s1),
            frame.at(f1, height, s1),
            frame.at(f0, height, s0),
        ]
        stage.add(Face(surface, wall))
    stage.add(Face(surface, [frame.at(f, height, s) for f, s in ring]))
    stage.contact(frame.x, frame.z, a, b, frame.heading, 0.8)


def ribs(spot: Spot) -> None:
    wave = np.cos(spot.u * 2 * np.pi / 0.28)
    spot.albedo *= (1 + 0.22 * wave + 0.1 * texture("cloud", spot.u * 0.2, spot.v * 0.1))[:, None]
    spot.temp += 0.3 * wave
