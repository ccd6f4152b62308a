"""How networks are run: fast on a CPU, in bounded memory, with unchanged results.

Calling a module on a whole image makes intermediate tensors so large that the
allocator fetches fresh pages from the system for every layer, and they leave the
processor's caches between layers; both cost more than the arithmetic. So images are
processed in tiles that overlap by the network's receptive field. The result is the
same to float32 rounding, and memory no longer grows with the image. A network whose every
pixel sees the whole image runs at once; the pages that a layer frees are then kept for the
next, which makes CDDFuse three times as fast on 640x480. Where only the coarser scales need the
whole image, as in RefineFuse, the finest is run in tiles.
(Channels-last memory would save another fifth of the time, but adds up in another
order: 1e-6 of the range instead of 3e-7.)
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .errors import FusionError
from .networks.autoencoder import AutoEncoder
from .networks.network import FusionNetwork, PyramidNetwork

__all__ = ["TILE", "check_device", "rule_weights", "run_network"]

# Side of a tile in pixels without its halo: the fastest in benchmarks/inference.py.
TILE = 160
# Features of all tiles are kept between two passes if they take no more than this.
KEPT_BYTES = 512 << 20


def check_device(name: str) -> None:
    """Make sure that tensors can be made on a device.

    Raises
    ------
    FusionError
        If the device does not exist, or this PyTorch was not built for it.
    """
    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # torch raises many types, depending on how it was built
        raise FusionError(
            f"the device {name!r} cannot be used here ({str(error).splitlines()[0]}). "
            "Use 'cpu', or 'cuda' where there is an NVIDIA GPU and a PyTorch built for it."
        ) from error


class _Tile(NamedTuple):
    """A tile: where its result goes, what the network sees, where the result is in that."""

    place: tuple[slice, slice]
    view: tuple[slice, slice]
    inner: tuple[slice, slice]


def _axis(size: int, tile: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """Split one axis evenly into the fewest pieces of at most `tile` pixels."""
    pieces = -(-size // tile)
    edges = [size * i // pieces for i in range(pieces + 1)]
    axis = []
    for start, stop in pairwise(edges):
        low, high = max(0, start - halo), min(size, stop + halo)
        axis.append((slice(start, stop), slice(low, high), slice(start - low, stop - low)))
    return axis


def _tiles(height: int, width: int, tile: int, halo: int) -> Iterator[_Tile]:
    for rows in _axis(height, tile, halo):
        for columns in _axis(width, tile, halo):
            yield _Tile(*zip(rows, columns, strict=True))


def run_network(network: nn.Module, images: Sequence[Tensor], *, tile: int | None = TILE) -> Tensor:
    """Run a fusion network on two or more images, or an auto-encoder on one.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(*images)``. A `FusionNetwork` of bounded receptive field is run
        tile by tile, of a `PyramidNetwork` the finest scale.
    images : sequence of Tensor, shape (B, 1, H, W)
        On the network's device, in the range its card states.
    tile : int or None
        Side of a tile in pixels; None runs the whole image at once.

    Returns
    -------
    Tensor, shape (B, 1, H, W)
        Equal to ``network(*images)``: a tile overlaps its neighbours by the receptive
        field, and a rule that looks at the whole activity map gets it, from a first
        pass over all tiles. Differences are float32 rounding (below 1e-6 of the range).

    Raises
    ------
    MemoryError
        Naming network and size, if there is not enough memory.
    """
    network = network.eval()
    height, width = images[0].shape[-2:]
    task = f"{type(network).__name__} on {width}x{height} pixels"
    with memory_errors(task, "smaller images"), torch.inference_mode():
        if tile is None or not isinstance(network, FusionNetwork) or network.radius is None:
            with _kept_pages():
                if tile is not None and isinstance(network, PyramidNetwork):
                    return _run_pyramid(network, images, tile)
                return network(*images)
        tiles = list(_tiles(height, width, tile, network.radius))
        if len(tiles) == 1:
            return network(*images)
        if isinstance(network, AutoEncoder):
            return _run_autoencoder(network, images, tiles)
        output = torch.empty_like(images[0])
        for part in tiles:
            fused = network(*(image[..., *part.view] for image in images))
            output[..., *part.place] = fused[..., *part.inner]
        return output


# Parameters of glibc's mallopt, and the values that a process settles at by itself.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
USUAL = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}


@contextmanager
def _kept_pages() -> Iterator[None]:
    """Keep freed blocks of any size for the next ones; at the end, give them to the system.

    Where the C library is not glibc, or on an accelerator, this changes nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    for parameter in USUAL:
        libc.mallopt(parameter, 2**31 - 1)
    try:
        yield
    finally:
        for parameter, value in USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


@contextmanager
def memory_errors(task: str, remedy: str) -> Iterator[None]:
    """Turn PyTorch's ways to say that memory does not suffice into one.

    Raises
    ------
    MemoryError
        Naming `task` and what to give instead.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU it is a plain RuntimeError that only its text tells from others.
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "can't allocate memory" not in str(error):
            raise
        raise MemoryError(f"not enough memory for {task}; give {remedy}.") from error


def rule_weights(network: AutoEncoder, images: Sequence[Tensor], *, tile: int = TILE) -> Tensor:
    """Return the weights that the network's rule gives two or more images (B, 1, H, W).

    Returns
    -------
    Tensor, shape (K, groups, B, 1, H, W)
    """
    network = network.eval()
    height, width = images[0].shape[-2:]
    tiles = list(_tiles(height, width, tile, network.radius))
    with torch.inference_mode():
        return _whole_map_weights(network, images, tiles, keep=0)[0]


def _run_pyramid(network: PyramidNetwork, images: Sequence[Tensor], tile: int) -> Tensor:
    ir, vis = images
    height, width = ((side + 1) // 2 for side in ir.shape[-2:])
    # Tiles of the second scale, so that those of the finest begin at even rows and columns.
    tiles = list(_tiles(height, width, max(1, tile // 2), network.halo // 2))
    if len(tiles) == 1:
        return network(ir, vis)
    features: list[Tensor] = []
    for part in tiles:
        view = _doubled(part.view)
        found = network.descend(ir[..., *view], vis[..., *view])
        if not features:
            features = [x.new_empty((*x.shape[:2], height, width)) for x in found]
        for whole, x in zip(features, found, strict=True):
            whole[..., *part.place] = x[..., *part.inner]
    coarse = network.join(*features)
    del features
    output = torch.empty_like(ir)
    for part in tiles:
        place, view, inner = map(_doubled, part)
        fused = network.finish(ir[..., *view], vis[..., *view], coarse[..., *part.view])
        output[..., *place] = fused[..., *inner]
    return output


def _doubled(part: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (slice(2 * some.start, 2 * some.stop) for some in part)
    return rows, columns


def _run_autoencoder(
    network: AutoEncoder, images: Sequence[Tensor], tiles: Sequence[_Tile]
) -> Tensor:
    output = torch.empty_like(images[0])
    if network.rule.whole_map and len(images) > 1:
        weights, kept = _whole_map_weights(network, images, tiles, keep=KEPT_BYTES)
    else:
        weights, kept = None, {}
    for i, part in enumerate(tiles):
        features = kept.pop(i, None) or _encode(network, images, part)
        fused = network.fuse(features, None if weights is None else weights[..., *part.view])
        output[..., *part.place] = network.decode(fused)[..., *part.inner]
    return output


def _encode(network: AutoEncoder, images: Sequence[Tensor], part: _Tile) -> list[Tensor]:
    return [network.encode(image[..., *part.view]) for image in images]


def _whole_map_weights(
    network: AutoEncoder,
    images: Sequence[Tensor],
    tiles: Sequence[_Tile],
    *,
    keep: int,
) -> tuple[Tensor, dict[int, list[Tensor]]]:
    """Weights (K, groups, B, 1, H, W) of a rule that needs whole activity maps.

    Also returns the features of the tiles, by index, up to `keep` bytes of them.
    """
    batch, _, height, width = images[0].shape
    activity = images[0].new_empty((len(images), network.groups, batch, 1, height, width))
    kept: dict[int, list[Tensor]] = {}
    for i, part in enumerate(tiles):
        features = _encode(network, images, part)
        for k, feature in enumerate(features):
            activity[k][..., *part.place] = network.activity(feature)[..., *part.inner]
        keep -= sum(feature.nbytes for feature in features)
        if keep >= 0:
            kept[i] = features
    return network.weigh(activity), kept
