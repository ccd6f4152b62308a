"""A small deferred renderer for the built-in sample: one scene, two cameras.

Primitives are intersected with the rays of a pinhole camera and fill one buffer
per pixel: albedo, normal, depth, temperature, emission. The visible picture is
that buffer lit by sun, sky and lamps; the infrared one is its temperature. Both
therefore show the same objects in the same places, with different contrast.

World coordinates are metres: x to the right, y up, z away from the camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw
from scipy import fft, ndimage

from .pairs import Box

Array = np.ndarray
Colour = tuple[float, float, float]
Point = tuple[float, float, float]
GroundPaint = Callable[[Array, Array], tuple[Array, Array]]
Where = Callable[[Array, Array], Array]

OVERSAMPLING = 2  # per axis; edges are averaged over four samples
_NEAR = 0.3  # metres; nothing nearer than this is drawn
_FAR = 400.0  # metres; the ground ends here
_TILE = 1024  # texels per side of a noise tile
_SMALLEST_TARGET = 12  # pixels that a target needs to be annotated
_CONE = 0.93  # cosine of the half angle at which a lamp's cone fades out
_SMOKE_COLOUR = np.array([0.62, 0.62, 0.63], np.float32)
_CUBE = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])  # its corners


# ------------------------------------------------------------------ textures


@cache
def _tile(kind: str) -> Array:
    """A periodic texture, float32, read-only: mean 0 and deviation 1, or leaves in [0, 1]."""
    tile = _leaf_tile() if kind == "leaf" else _spectral_tile(kind)
    tile.setflags(write=False)
    return tile


def _spectral_tile(kind: str) -> Array:
    exponent, lowest, seed = {"cloud": (1.75, 1.0, 11), "grain": (0.75, 6.0, 12)}[kind]
    white = np.random.default_rng(seed).standard_normal((_TILE, _TILE)).astype(np.float32)
    fy = np.fft.fftfreq(_TILE)[:, None] * _TILE
    fx = np.fft.rfftfreq(_TILE)[None, :] * _TILE
    radius = np.hypot(fy, fx)
    shape = np.where(radius < lowest, 0.0, np.maximum(radius, 1.0) ** -exponent)
    tile = fft.irfft2(fft.rfft2(white) * shape.astype(np.float32), s=(_TILE, _TILE))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def _leaf_tile() -> Array:
    """Overlapping leaves of random lightness; 0 is a hole between them."""
    rng = np.random.default_rng(13)
    picture = Image.new("L", (_TILE, _TILE), 0)
    draw = ImageDraw.Draw(picture)
    for grey in np.sort(rng.uniform(40, 255, 2600)):
        centre = rng.uniform(0, _TILE, 2)
        angle, length = rng.uniform(0, np.pi), rng.uniform(14, 30)
        along = length * np.array([np.cos(angle), np.sin(angle)])
        across = 0.42 * np.array([-along[1], along[0]])
        outline = np.array([along, across, -along, -across])
        for shift in ((0, 0), (_TILE, 0), (0, _TILE), (-_TILE, 0), (0, -_TILE)):
            draw.polygon([tuple(p) for p in outline + centre + shift], fill=int(grey))
    return np.asarray(picture, np.float32) / 255


def texture(kind: str, u: Array, v: Array) -> Array:
    """Look up a tile at coordinates counted in tiles."""
    row = (v * _TILE).astype(np.int32) & (_TILE - 1)
    column = (u * _TILE).astype(np.int32) & (_TILE - 1)
    return _tile(kind)[row, column]


def smoothstep(low: float | Array, high: float, value: Array) -> Array:
    """0 below ``low``, 1 above ``high``, and an S-curve between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def unit(vector: Iterable[float] | Array) -> Array:
    """Vectors of length one along the last axis."""
    vector = np.asarray(vector, np.float32)
    return vector / np.maximum(np.sqrt(_dot(vector, vector)), 1e-6)[..., None]


def _dot(a: Array, b: Array) -> Array:
    """Scalar products along the last axis; numpy's ``sum`` is slow over three numbers."""
    return np.einsum("...i,...i->...", a, b)


# --------------------------------------------------------------------- views


class View(Protocol):
    """Something that looks at the world: the camera, or the sun."""

    height: int
    width: int

    def project(self, points: Array) -> Array | None: ...

    def rays(self, window: tuple[slice, slice]) -> tuple[Array, Array]: ...


class Camera:
    """A pinhole camera that looks along z; the horizon may lie off the middle row.

    The focal length follows the longer side (relative to 4:3), so another aspect
    ratio shows less of the scene and never its unbuilt outside.
    """

    def __init__(self, width: int, height: int, eye: float, horizon: float) -> None:
        self.width, self.height = width, height
        self.scale = max(width / 320, height / 240)
        self.focal = 320 * self.scale
        self.origin = np.array([0.0, eye, 0.0], np.float32)
        self.column = width / 2
        self.row = height / 2 + (horizon - 0.5) * 240 * self.scale
        x = (np.arange(width, dtype=np.float32) + 0.5 - self.column) / self.focal
        y = (self.row - np.arange(height, dtype=np.float32) - 0.5) / self.focal
        self.directions = np.ones((height, width, 3), np.float32)
        self.directions[..., 0] = x[None, :]
        self.directions[..., 1] = y[:, None]

    def project(self, points: Array) -> Array | None:
        """Columns and rows of the points; None if one of them is behind the camera."""
        z = points[:, 2]
        if z.min() < _NEAR:
            return None
        x = self.column + self.focal * points[:, 0] / z
        y = self.row - self.focal * (points[:, 1] - self.origin[1]) / z
        return np.stack([x, y], axis=1)

    def rays(self, window: tuple[slice, slice]) -> tuple[Array, Array]:
        return self.origin, self.directions[window]


class SunView:
    """An orthographic view from the sun; its depths tell what lies in shadow."""

    def __init__(self, to_sun: Array) -> None:
        self.width = self.height = size = 720
        self.reach = 26.0  # half of the side that the map covers, in metres
        self.forward = -to_sun
        self.right = unit(np.cross([0, 1, 0], to_sun))
        self.up = np.cross(to_sun, self.right)
        self.start = np.array([0, 0, 15], np.float32) + 60 * to_sun
        self.depth = np.full((size, size), np.inf, np.float32)
        step = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        self.origins = (
            self.start
            + self.reach * step[None, :, None] * self.right
            + self.reach * step[:, None, None] * self.up
        )

    def project(self, points: Array) -> Array:
        offset = points - self.start
        plane = np.stack([offset @ self.right, offset @ self.up], axis=-1)
        return (plane / self.reach + 1) * (0.5 * self.width)

    def rays(self, window: tuple[slice, slice]) -> tuple[Array, Array]:
        return self.origins[window], self.forward

    def draw(self, shape: Shape) -> None:
        window = _window(self, shape.corners)
        if window is None:
            return
        inside, t = shape.hit(*self.rays(window))
        part = self.depth[window]
        np.copyto(part, t, where=inside & (t < part))

    def lit(self, points: Array) -> Array:
        """How much of the sun each point sees, 0 to 1, with soft edges."""
        plane = self.project(points)
        depth = (points - self.start) @ self.forward - 0.07
        total = np.zeros(points.shape[:-1], np.float32)
        taps = ((-1.0, -0.4), (0.4, -1.0), (1.0, 0.4), (-0.4, 1.0), (0.0, 0.0))
        for dx, dy in taps:
            column = np.clip(plane[..., 0] + dx, 0, self.width - 1).astype(np.int32)
            row = np.clip(plane[..., 1] + dy, 0, self.height - 1).astype(np.int32)
            total += self.depth[row, column] > depth
        return total / len(taps)


def _window(view: View, corners: Array) -> tuple[slice, slice] | None:
    """The pixels that a shape may touch; None if it is out of view."""
    flat = view.project(corners)
    if flat is None:
        if corners[:, 2].max() < _NEAR:
            return None
        return slice(0, view.height), slice(0, view.width)
    x0, y0 = np.floor(flat.min(axis=0)).astype(int)
    x1, y1 = np.ceil(flat.max(axis=0)).astype(int) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, view.width), min(y1, view.height)
    return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None


# -------------------------------------------------------------------- shapes


@dataclass
class Spot:
    """The pixels of one surface while it is painted; every array has one row per pixel."""

    u: Array
    v: Array
    point: Array
    normal: Array
    albedo: Array
    temp: Array
    emit: Array
    gloss: Array
    absorb: Array  # share of the sun's heat that it takes up


@dataclass(frozen=True)
class Surface:
    """What a shape is made of: linear albedo, temperature in Celsius, texture depth."""

    colour: Colour
    temp: float
    gloss: float = 0.0
    grain: float = 0.06
    emit: Colour = (0.0, 0.0, 0.0)
    paint: Callable[[Spot], None] | None = None


class Shape(Protocol):
    """A primitive: bounding points, an intersection, and a frame at the points hit."""

    surface: Surface
    corners: Array

    def hit(self, origin: Array, ray: Array) -> tuple[Array, Array]: ...

    def frame(self, points: Array) -> tuple[Array, Array, Array]: ...


class Blob:
    """An ellipsoid: centre, and semi-axes as the columns of a matrix."""

    def __init__(self, surface: Surface, centre: Iterable[float], axes: Array) -> None:
        self.surface = surface
        self.centre = np.asarray(centre, np.float32)
        self.inverse = np.linalg.inv(axes).astype(np.float32)
        self.corners = self.centre + _CUBE @ axes.T

    def hit(self, origin: Array, ray: Array) -> tuple[Array, Array]:
        start = (origin - self.centre) @ self.inverse.T
        step = ray @ self.inverse.T
        a = _dot(step, step)
        b = _dot(start, step)
        c = _dot(start, start) - 1
        root = b * b - a * c
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        return (root > 0) & (t > _NEAR), t

    def frame(self, points: Array) -> tuple[Array, Array, Array]:
        local = (points - self.centre) @ self.inverse.T
        return unit(local @ self.inverse), local[:, 0], local[:, 1]


class Leaves(Blob):
    """An ellipsoid of foliage: leaves with holes between them, ragged at the outline."""

    def __init__(
        self, surface: Surface, centre: Iterable[float], axes: Array, leaf: float, shift: float
    ) -> None:
        super().__init__(surface, centre, axes)
        self.pitch = 22 * leaf  # metres per tile: a leaf is about 1/22 of it
        self.shift = shift

    def _leaf(self, points: Array) -> Array:
        u = (points[..., 0] + 0.45 * points[..., 2]) / self.pitch + self.shift
        v = (points[..., 1] + 0.35 * points[..., 2]) / self.pitch - 2.3 * self.shift
        return texture("leaf", u, v)

    def hit(self, origin: Array, ray: Array) -> tuple[Array, Array]:
        inside, t = super().hit(origin, ray)
        points = origin + t[..., None] * ray
        local = (points - self.centre) @ self.inverse.T
        facing = np.abs(_dot(local, unit(ray @ self.inverse.T)))
        return inside & (self._leaf(points) > 0.62 - 0.75 * facing), t

    def frame(self, points: Array) -> tuple[Array, Array, Array]:
        normal, _, v = super().frame(points)
        leaf = self._leaf(points)
        tilt = texture("grain", points[:, 0] * 0.31 + self.shift, points[:, 1] * 0.31)
        normal[:, 0] += 0.35 * tilt
        normal[:, 1] += 0.9 * (leaf - 0.5)
        return unit(normal), leaf, v


class Limb:
    """A rounded cone between two points, for limbs, poles, tubes and branches."""

    def __init__(
        self, surface: Surface, start: Iterable[float], end: Iterable[float], r0: float, r1: float
    ) -> None:
        self.surface = surface
        self.start = np.asarray(start, np.float32)
        self.along = np.asarray(end, np.float32) - self.start
        self.r0, self.slope = r0, r1 - r0
        ends = np.stack([self.start, self.start + self.along])
        self.corners = (ends[:, None] + max(r0, r1) * _CUBE).reshape(-1, 3)

    def hit(self, origin: Array, ray: Array) -> tuple[Array, Array]:
        w = origin - self.start
        a = _dot(ray, ray)
        b = ray @ self.along
        c = float(self.along @ self.along)
        d = _dot(ray, w)
        e = w @ self.along
        s = np.clip((a * e - b * d) / np.maximum(a * c - b * b, 1e-9), 0, 1)
        t = (s * b - d) / a
        gap = w + t[..., None] * ray - s[..., None] * self.along
        depth2 = (self.r0 + self.slope * s) ** 2 - _dot(gap, gap)
        t = t - np.sqrt(np.maximum(depth2, 0) / a)
        return (depth2 > 0) & (t > _NEAR), t

    def frame(self, points: Array) -> tuple[Array, Array, Array]:
        offset = points - self.start
        s = np.clip(offset @ self.along / float(self.along @ self.along), 0, 1)
        normal = unit(offset - s[:, None] * self.along)
        return normal, normal[:, 0], s * float(np.linalg.norm(self.along))


class Face:
    """A flat convex polygon; u runs along its first edge and v across, in metres.

    ``bend`` gives the normals at v = 0 and at the largest v, for a curved look.
    """

    def __init__(
        self, surface: Surface, corners: ArrayLike, bend: tuple[Array, Array] | None = None
    ) -> None:
        self.surface = surface
        self.corners = np.asarray(corners, np.float32)
        self.bend = bend
        edge = self.corners[1] - self.corners[0]
        far = self.corners[2] - self.corners[0]
        self.normal = unit(np.cross(edge, far))
        self.u_axis = unit(edge)
        self.v_axis = np.cross(self.normal, self.u_axis)
        self.v_size = float(((self.corners - self.corners[0]) @ self.v_axis).max())
        edges = np.roll(self.corners, -1, axis=0) - self.corners
        self.inward = np.cross(self.normal, edges)
        self.limits = (self.inward * self.corners).sum(axis=1)

    def hit(self, origin: Array, ray: Array) -> tuple[Array, Array]:
        slant = ray @ self.normal
        slant = np.where(np.abs(slant) < 1e-6, 1e-6, slant)
        t = ((self.corners[0] - origin) @ self.normal) / slant
        inside = t > _NEAR
        for inward, limit in zip(self.inward, self.limits, strict=True):
            inside &= origin @ inward + t * (ray @ inward) >= limit
        return inside, t

    def frame(self, points: Array) -> tuple[Array, Array, Array]:
        offset = points - self.corners[0]
        u, v = offset @ self.u_axis, offset @ self.v_axis
        if self.bend is None:
            return np.broadcast_to(self.normal, points.shape).copy(), u, v
        s = np.clip(v / self.v_size, 0, 1)[:, None]
        return unit(self.bend[0] * (1 - s) + self.bend[1] * s), u, v


# --------------------------------------------------------------------- scene


@dataclass(frozen=True)
class Lamp:
    """A point light, or with ``aim`` a cone of light."""

    place: Point
    colour: Colour
    aim: Point | None = None


@dataclass(frozen=True)
class Puff:
    """A cloud of smoke: centre and radius in metres, optical depth at its centre."""

    place: Point
    radius: float
    depth: float


@dataclass(frozen=True)
class Sky:
    """Colours and temperatures above the horizon."""

    zenith: Colour
    horizon: Colour
    clouds: float = 0.5  # 0 is clear, 1 is overcast
    cloud_colour: Colour = (0.85, 0.86, 0.9)
    zenith_temp: float = -18.0
    horizon_temp: float = 6.0

    def look(self, directions: Array, shift: float) -> tuple[Array, Array]:
        """Radiance and temperature along rays."""
        up = np.clip(directions[..., 1] / np.sqrt(_dot(directions, directions)), 0, 1)
        rise = (up**0.6)[..., None]
        colour = np.asarray(self.horizon) * (1 - rise) + np.asarray(self.zenith) * rise
        flat = 1 / (up + 0.16)
        u, v = directions[..., 0] * flat * 0.09 + shift, flat * 0.09 + 0.5 * shift
        density = texture("cloud", u, v) * 0.85 + 0.12 * texture("grain", u, v)
        cover = smoothstep(0.9 - 1.9 * self.clouds, 2.1 - 1.5 * self.clouds, density)
        cover = cover * smoothstep(0.0, 0.12, up) * min(1.0, 1.6 * self.clouds)
        tone = 1.0 - 0.3 * smoothstep(0.2, 2.2, density)[..., None] * cover[..., None]
        colour = colour + cover[..., None] * (np.asarray(self.cloud_colour) * tone - colour)
        temp = self.horizon_temp + (self.zenith_temp - self.horizon_temp) * up**0.45
        temp = temp + cover * (0.55 * self.horizon_temp + 1 - temp) * 0.5
        return colour.astype(np.float32), temp.astype(np.float32)


@dataclass
class Stage:
    """Everything that one scene consists of; painters add to it, `photograph` renders it."""

    rng: np.random.Generator
    sky: Sky
    ground: GroundPaint  # albedo and kelvin above the air
    eye: float = 1.7
    horizon: float = 0.42
    sun: Colour = (0.0, 0.0, 0.0)
    to_sun: Point = (0.5, 0.6, -0.5)
    ambient: Colour = (0.35, 0.4, 0.5)
    air: Colour = (0.6, 0.66, 0.75)
    haze: float = 0.002  # extinction per metre in the visible
    haze_ir: float = 0.0008
    wet: float = 0.0  # mirror-like share of the ground
    exposure: float = 1.6
    read_noise: float = 0.006
    air_temp: float = 14.0
    sun_heat: float = 9.0  # kelvin that full sun adds to a black surface
    treeline: float = 0.0  # metres; height of the woods at the horizon
    shapes: list[tuple[Shape, int]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    puffs: list[Puff] = field(default_factory=list)
    contacts: list[tuple[float, float, float, float, float, float]] = field(default_factory=list)
    prints: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def add(self, *shapes: Shape, owner: int = 0) -> None:
        """Add shapes; ``owner`` is what `target` returned, or 0 for scenery."""
        self.shapes.extend((shape, owner) for shape in shapes)

    def target(self, label: str) -> int:
        """Announce an annotated object; its shapes are added with the returned number."""
        self.targets.append(label)
        return len(self.targets)

    def contact(
        self, x: float, z: float, along: float, across: float, heading: float, strength: float
    ) -> None:
        """Darken the ground under an object."""
        self.contacts.append((x, z, along, across, heading, strength))

    def warm_ground(self, x: float, z: float, rx: float, rz: float, kelvin: float) -> None:
        """Leave heat on the ground, which only the infrared camera sees."""
        self.prints.append((x, z, rx, rz, kelvin))


class _Canvas:
    """The per-pixel buffers that the camera fills."""

    def __init__(self, camera: Camera, stage: Stage) -> None:
        self.camera, self.stage = camera, stage
        shape = (camera.height, camera.width)
        self.depth = np.full(shape, np.inf, np.float32)
        self.albedo = np.zeros((*shape, 3), np.float32)
        self.normal = np.zeros((*shape, 3), np.float32)
        self.emit = np.zeros((*shape, 3), np.float32)
        self.temp = np.zeros(shape, np.float32)
        self.gloss = np.zeros(shape, np.float32)
        self.absorb = np.ones(shape, np.float32)
        self.shade = np.ones(shape, np.float32)
        self.owner = np.zeros(shape, np.int16)
        self.silhouettes = np.zeros((len(stage.targets), *shape), bool)

    def draw_ground(self) -> None:
        camera, stage = self.camera, self.stage
        down = -camera.directions[..., 1]
        z = camera.origin[1] / np.maximum(down, 1e-6)
        below = z < _FAR
        z = z[below]
        x = camera.directions[..., 0][below] * z
        self.depth[below] = z
        albedo, warmer = stage.ground(x, z)
        temp = stage.air_temp + warmer
        shade = np.ones_like(z)
        for cx, cz, along, across, heading, strength in stage.contacts:
            s, c = np.sin(heading), np.cos(heading)
            near = np.flatnonzero((np.abs(z - cz) < 4) & (np.abs(x - cx) < 4))
            dx, dz = x[near] - cx, z[near] - cz
            a = np.maximum(np.abs(dx * s + dz * c) - along, 0)
            b = np.maximum(np.abs(dx * c - dz * s) - across, 0)
            shade[near] *= 1 - strength * np.exp(-np.hypot(a, b) / 0.22)
        for cx, cz, rx, rz, kelvin in stage.prints:
            temp = temp + kelvin * np.exp(-(((x - cx) / rx) ** 4) - ((z - cz) / rz) ** 4)
        rough = texture("grain", x * 0.23, z * 0.23) / (1 + (z / 9) ** 2)
        self.normal[below] = unit(
            np.stack([0.1 * rough, np.ones_like(x), 0.1 * np.roll(rough, 3)], axis=-1)
        )
        self.albedo[below], self.temp[below], self.shade[below] = albedo, temp, shade
        self.gloss[below] = stage.wet
        self.absorb[below] = 1 - albedo.mean(axis=1)

    def draw_treeline(self, shift: float) -> None:
        """Distant woods, drawn where the sky still shows."""
        stage, rays, far = self.stage, self.camera.directions, 140.0
        u = rays[..., 0]
        crown = texture("cloud", u[0] * 0.37 + shift, 0 * u[0] + 0.3)
        crown = 0.2 * ndimage.gaussian_filter1d(crown, 2 * self.camera.scale)
        crown += 0.05 * texture("cloud", u[0] * 1.9, 0 * u[0] + shift)
        top = stage.treeline * (1 + crown) - stage.eye
        here = np.isinf(self.depth) & (rays[..., 1] * far < top[None, :])
        height = rays[..., 1][here] * far
        leaf = texture("leaf", u[here] * 3.1 + shift, height * 0.05)
        mottle = texture("cloud", u[here] * 1.7, height * 0.03 + shift)
        light = (0.55 + 0.6 * leaf) * (1 + 0.22 * mottle)
        self.albedo[here] = np.array([0.05, 0.085, 0.032]) * light[:, None]
        self.temp[here] = stage.air_temp - 1.0 + 0.9 * mottle + 0.8 * leaf
        self.normal[here] = unit([0.0, 0.55, -0.8])
        self.depth[here] = far

    def draw(self, shape: Shape, owner: int) -> None:
        window = _window(self.camera, shape.corners)
        if window is None:
            return
        origin, ray = self.camera.rays(window)
        inside, t = shape.hit(origin, ray)
        if owner:
            self.silhouettes[owner - 1][window] |= inside
        part = self.depth[window]
        inside &= t < part
        if not inside.any():
            return
        part[inside] = t[inside]
        points = origin + t[inside][:, None] * ray[inside]
        normal, u, v = shape.frame(points)
        normal = np.where(_dot(normal, ray[inside])[:, None] > 0, -normal, normal)
        spot = _lay(shape.surface, u, v, points, normal)
        for name in ("albedo", "normal", "temp", "emit", "gloss", "absorb"):
            getattr(self, name)[window][inside] = getattr(spot, name)
        # objects darken towards the ground they stand on
        self.shade[window][inside] = 0.62 + 0.38 * smoothstep(-0.1, 0.7, points[:, 1])
        self.owner[window][inside] = owner


def _lay(surface: Surface, u: Array, v: Array, points: Array, normal: Array) -> Spot:
    count = len(u)
    x, y, z = points.T
    weave = texture("grain", 0.43 * (x + 0.7 * z), 0.43 * y)
    weave = 0.6 * weave + 0.6 * texture("cloud", 0.17 * (x + z), 0.17 * y)
    albedo = np.asarray(surface.colour, np.float32) * (1 + surface.grain * weave)[:, None]
    spot = Spot(
        u=u,
        v=v,
        point=points,
        normal=normal,
        albedo=np.maximum(albedo, 0.004).astype(np.float32),
        temp=(surface.temp + 5 * surface.grain * weave).astype(np.float32),
        emit=np.tile(np.asarray(surface.emit, np.float32), (count, 1)),
        gloss=np.full(count, surface.gloss, np.float32),
        absorb=np.full(count, 1 - np.mean(surface.colour), np.float32),
    )
    if surface.paint is not None:
        surface.paint(spot)
    return spot


# ------------------------------------------------------------------ exposure


@dataclass(frozen=True)
class Shot:
    """What both cameras deliver for a stage, on the pixel grid of the picture."""

    vis: Array
    ir: Array
    mask: Array
    boxes: tuple[Box, ...]


def photograph(stage: Stage, width: int, height: int, shift: float) -> Shot:
    """Render a stage with both cameras.

    Parameters
    ----------
    stage : Stage
        The scene.
    width, height : int
        Size of the pictures in pixels.
    shift : float
        Misregistration of the infrared camera in pixels.

    Returns
    -------
    Shot
        ``vis`` float32 (H, W, 3) and ``ir`` float32 (H, W), multiples of 1/255 in
        [0, 1]; ``mask`` bool (H, W), where a target is not hidden by a solid object;
        ``boxes`` of the whole silhouettes.
    """
    camera = Camera(width * OVERSAMPLING, height * OVERSAMPLING, stage.eye, stage.horizon)
    drift = float(stage.rng.uniform())
    canvas = _Canvas(camera, stage)
    canvas.draw_ground()
    for shape, owner in stage.shapes:
        canvas.draw(shape, owner)
    if stage.treeline:
        canvas.draw_treeline(drift)
    sky_colour, sky_temp = stage.sky.look(camera.directions, drift)
    sunlight = _sunlight(canvas)
    smoke = _smoke(canvas, drift)
    radiance = _light(canvas, sunlight, sky_colour, smoke)
    heat = _heat(canvas, sunlight, sky_temp, smoke)
    mask, boxes = _annotate(canvas)
    return Shot(
        vis=_visible_sensor(_shrink(radiance), stage, camera.scale / OVERSAMPLING),
        ir=_thermal_sensor(_misalign(_shrink(heat), shift), stage),
        mask=mask,
        boxes=boxes,
    )


def _shrink(image: Array) -> Array:
    n = OVERSAMPLING
    parts = [image[row::n, column::n] for row in range(n) for column in range(n)]
    return np.add.reduce(parts) / np.float32(n**2)


def _annotate(canvas: _Canvas) -> tuple[Array, tuple[Box, ...]]:
    mask = np.zeros(
        (canvas.camera.height // OVERSAMPLING, canvas.camera.width // OVERSAMPLING), bool
    )
    boxes = []
    for number, label in enumerate(canvas.stage.targets, start=1):
        seen = _shrink(canvas.owner == number) >= 0.5
        if np.count_nonzero(seen) < _SMALLEST_TARGET:
            continue
        mask |= seen
        whole = _shrink(canvas.silhouettes[number - 1]) >= 0.5
        y, x = ndimage.find_objects(whole.astype(np.uint8))[0]
        boxes.append(Box(label, float(x.start), float(y.start), float(x.stop), float(y.stop)))
    return mask, tuple(boxes)


def _distance(canvas: _Canvas) -> Array:
    """How deep the camera looks into the air: the depth, and `_FAR` where it meets the sky."""
    return np.where(np.isinf(canvas.depth), _FAR, canvas.depth)


def _points(canvas: _Canvas) -> Array:
    return canvas.camera.origin + _distance(canvas)[..., None] * canvas.camera.directions


def _sunlight(canvas: _Canvas) -> Array:
    """Cosine of the sun's incidence times its visibility, 0 without a sun."""
    stage = canvas.stage
    if not any(stage.sun):
        return np.zeros(canvas.depth.shape, np.float32)
    to_sun = unit(stage.to_sun)
    view = SunView(to_sun)
    for shape, _ in stage.shapes:
        view.draw(shape)
    facing = np.maximum(canvas.normal @ to_sun, 0)
    bright = facing > 0
    lit = np.zeros_like(facing)
    lit[bright] = view.lit(_points(canvas)[bright])
    return facing * lit


def _light(canvas: _Canvas, sunlight: Array, sky: Array, smoke: _Smoke) -> Array:
    stage = canvas.stage
    up = canvas.normal[..., 1]
    ambient = np.asarray(stage.ambient, np.float32)
    bounce = 0.22 * (ambient + 0.35 * np.asarray(stage.sun, np.float32))
    flux = ((0.5 + 0.5 * up) * canvas.shade)[..., None] * ambient
    flux += ((0.5 - 0.5 * up) * canvas.shade)[..., None] * bounce
    flux += sunlight[..., None] * np.asarray(stage.sun, np.float32)
    solid = np.isfinite(canvas.depth)
    _add_lamps(canvas, flux, solid)
    radiance = canvas.albedo * flux + canvas.emit
    _add_reflections(canvas, radiance, sunlight, solid)
    clear = np.exp(-stage.haze * _distance(canvas))[..., None]
    air = np.asarray(stage.air, np.float32)
    if stage.haze > 0.01:  # fog swallows the sky as well
        sky = 0.15 * sky + 0.85 * air
    radiance = np.where(solid[..., None], radiance * clear + air * (1 - clear), sky)
    if stage.puffs:
        veil = np.exp(-smoke.depth)[..., None]
        colour = _SMOKE_COLOUR * smoke.tone[..., None]
        radiance = radiance * veil + colour * (1 - veil)
    return radiance


def _add_lamps(canvas: _Canvas, flux: Array, solid: Array) -> None:
    if not canvas.stage.lamps:
        return
    points, normal = _points(canvas)[solid], canvas.normal[solid]
    total = np.zeros_like(points)
    for lamp in canvas.stage.lamps:
        towards = np.asarray(lamp.place, np.float32) - points
        distance2 = _dot(towards, towards) + 0.4
        cosine = _dot(towards, normal) / np.sqrt(distance2)
        strength = np.maximum(cosine, 0) / distance2
        if lamp.aim is not None:
            inside = -(towards @ unit(lamp.aim)) / np.sqrt(distance2)
            strength *= smoothstep(_CONE, 0.5 + 0.5 * _CONE, inside)
        total += strength[:, None] * np.asarray(lamp.colour, np.float32)
    flux[solid] += total * canvas.shade[solid][:, None]


def _add_reflections(canvas: _Canvas, radiance: Array, sunlight: Array, solid: Array) -> None:
    """Sky and sun mirrored in glass, car paint and wet ground."""
    stage = canvas.stage
    glossy = solid & (canvas.gloss > 0)
    normal = canvas.normal[glossy]
    ray = unit(canvas.camera.directions[glossy])
    cosine = -_dot(ray, normal)[:, None]
    mirrored = ray + 2 * cosine * normal
    fresnel = 0.06 + 0.94 * (1 - np.clip(cosine[:, 0], 0, 1)) ** 4
    rise = smoothstep(-0.04, 0.08, mirrored[:, 1])[:, None]
    high = np.clip(mirrored[:, 1], 0, 1)[:, None] ** 0.6
    sky = np.asarray(stage.sky.horizon) * (1 - high) + np.asarray(stage.sky.zenith) * high
    dark = 0.25 * np.asarray(stage.ambient)
    gain = (canvas.gloss[glossy] * fresnel)[:, None]
    radiance[glossy] += gain * (rise * 0.8 * sky + (1 - rise) * dark)
    glint = np.maximum(mirrored @ unit(stage.to_sun), 0) ** 60 * (sunlight[glossy] > 0.05)
    radiance[glossy] += (canvas.gloss[glossy] * glint)[:, None] * np.asarray(stage.sun) * 0.6
    if stage.wet:
        _add_wet_streaks(canvas, radiance)


def _add_wet_streaks(canvas: _Canvas, radiance: Array) -> None:
    """What shines above the road, mirrored in it and drawn out vertically."""
    camera = canvas.camera
    ground = (canvas.owner == 0) & (canvas.normal[..., 1] > 0.9)
    row, column = np.nonzero(ground)
    ripple = texture("grain", column / 900, row / 300) * 1.5 * camera.scale
    column = np.clip(column + ripple.astype(int), 0, camera.width - 1)
    above = np.minimum(radiance, 30.0)
    above[ground] = 0
    above = ndimage.gaussian_filter1d(above, 7 * camera.scale, axis=0)
    mirror = np.clip(2 * camera.row + 0.1 * (row - camera.row) - row, 0, camera.height - 1)
    radiance[ground] += canvas.stage.wet * 0.5 * above[mirror.astype(int), column]


class _Smoke(NamedTuple):
    depth: Array  # optical, of the smoke in front of each pixel
    tone: Array  # its brightness there


def _smoke(canvas: _Canvas, drift: float) -> _Smoke:
    camera = canvas.camera
    optical_depth = np.zeros((camera.height, camera.width), np.float32)
    if not canvas.stage.puffs:
        return _Smoke(optical_depth, np.ones_like(optical_depth))
    scale = 1 / (330 * camera.scale)
    rows, columns = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32) * scale
    warp = 0.05 * texture("cloud", columns * 0.6 + drift, rows * 0.6)
    billow = texture("cloud", columns * 0.45 + warp, rows * 0.45 - warp + drift)
    billow = billow + 0.4 * texture("cloud", columns * 1.3 - warp, rows * 1.3 + drift)
    for puff in canvas.stage.puffs:
        centre = np.asarray(puff.place, np.float32)
        extent = np.array([[-1, -1, 0], [1, 1, 0]]) * (2.2 * puff.radius)
        window = _window(camera, centre + extent)
        if window is None:
            continue
        radius = camera.focal * puff.radius / centre[2]
        x = camera.column + camera.focal * centre[0] / centre[2]
        y = camera.row - camera.focal * (centre[1] - camera.origin[1]) / centre[2]
        row, column = np.mgrid[window].astype(np.float32)
        spread = ((row - y) ** 2 + (column - x) ** 2) / radius**2
        density = puff.depth * np.exp(-1.6 * spread) * np.maximum(0.25, 1 + 0.55 * billow[window])
        optical_depth[window] += density * smoothstep(-1.5, 1.5, canvas.depth[window] - centre[2])
    return _Smoke(optical_depth, 1 + 0.16 * billow)


def _heat(canvas: _Canvas, sunlight: Array, sky: Array, smoke: _Smoke) -> Array:
    """Apparent temperature in Celsius: sun-warmed, seen through air and smoke."""
    stage = canvas.stage
    soaked = np.where(canvas.owner == 0, sunlight, 0.25 * sunlight)
    heat = canvas.temp + stage.sun_heat * canvas.absorb * soaked
    # surfaces seen at a grazing angle mirror the cold sky
    facing = -_dot(canvas.normal, unit(canvas.camera.directions))
    graze = np.clip(1 - facing, 0, 1) ** 3
    heat -= 0.16 * graze * np.maximum(heat - stage.sky.horizon_temp, 0) * (canvas.owner > 0)
    heat -= 1.5 * (1 - canvas.shade) * (canvas.owner == 0)
    clear = np.exp(-stage.haze_ir * _distance(canvas))
    heat = np.where(np.isinf(canvas.depth), sky, heat * clear + stage.air_temp * (1 - clear))
    return heat + 0.1 * (1 - np.exp(-smoke.depth)) * (stage.air_temp + 4 - heat)


# ------------------------------------------------------------------- sensors


def quantise(image: Array) -> Array:
    """Clip to [0, 1] and round to the nearest of 256 levels, as float32."""
    return (np.round(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def _visible_sensor(radiance: Array, stage: Stage, scale: float) -> Array:
    image = ndimage.gaussian_filter(radiance, (0.38, 0.38, 0))
    bright = np.maximum(image - 1.2, 0)
    if bright.max() > 0.5:  # light scattered in the lens around what saturates
        glow = 0.05 * ndimage.gaussian_filter(bright, (2 * scale, 2 * scale, 0))
        glow += 0.07 * ndimage.gaussian_filter(bright, (7 * scale, 7 * scale, 0), truncate=3)
        glow += 0.07 * ndimage.gaussian_filter(bright, (22 * scale, 22 * scale, 0), truncate=2.5)
        image = image + 0.9 * glow
    image = 1 - np.exp(-stage.exposure * np.maximum(image, 0))
    rng = stage.rng
    grain = rng.standard_normal(image.shape, np.float32)
    grain = ndimage.gaussian_filter(grain, (0.55, 0.55, 0)) * 2.0
    luma = rng.standard_normal(image.shape[:2], np.float32)[..., None]
    noise = (0.85 * luma + 0.3 * grain) * stage.read_noise * np.sqrt(0.35 + image)
    image = np.clip(image + noise * (0.25 + image) ** 0.5 + 0.3 * stage.read_noise, 0, 1) ** (
        1 / 2.2
    )
    return quantise(image * _vignette(image.shape[:2], 0.14)[..., None])


def _vignette(shape: tuple[int, int], strength: float) -> Array:
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    return 1 - strength * (0.5 * (x * x + y * y)) ** 1.5


def _misalign(heat: Array, shift: float) -> Array:
    """Turn and shift about the middle; the corners move by about ``shift`` pixels more."""
    if not shift:
        return heat
    angle = shift / np.hypot(*heat.shape)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(heat.shape) - 1) / 2
    offset = middle - turn @ middle + shift * np.array([0.6, -0.8])
    return ndimage.affine_transform(heat, turn, offset=offset, order=1, mode="nearest")


def _thermal_sensor(heat: Array, stage: Stage) -> Array:
    """Blur, detector noise, contrast stretch: a white-hot picture."""
    image = ndimage.gaussian_filter(heat, 0.75)
    image = image + 0.35 * (image - ndimage.gaussian_filter(image, 4.0))  # detail enhancement
    knee = stage.air_temp - 4
    image = np.where(image < knee, knee + 0.3 * (image - knee), image)  # the sky keeps few levels
    low, high = np.percentile(image, [0.5, 99.85])
    image = np.clip((image - low) / max(high - low, 9.0), 0, None)
    gamma = np.log(0.36) / np.log(np.clip(np.median(image), 0.05, 0.95))
    rng = stage.rng
    columns = rng.standard_normal(image.shape[1])[None, :] * 0.0035
    pattern = ndimage.gaussian_filter(rng.standard_normal(image.shape), 0.5) * 0.009
    image = image ** np.clip(gamma, 0.7, 2.2) + columns + pattern
    return quantise(0.045 + 0.94 * image * _vignette(image.shape, 0.06))
