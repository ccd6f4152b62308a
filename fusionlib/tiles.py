"""How networks are run: fast on a CPU, in bounded memory, with unchanged results.

Images are processed in tiles that overlap by the network's receptive field, so memory does not grow
with the image; the result is the same to float32 rounding. Where only the coarser scales need the
whole image, as in RefineFuse, the finest is run in tiles. A network whose every pixel sees the
whole image runs at once, or in tiles with an overlap that the caller states, which changes its
results. What a layer frees is kept for the next one, see `fusionlib.memory`.

Channels-last memory saves up to a third more, but its kernels add up in another order. So it is
used where it is asked for, or where a network says that it needs it. bfloat16 is as a rule faster
again. `python -m benchmarks` measures all of it.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .errors import FusionError, unknown
from .memory import keep_pages, memory_errors
from .networks.network import AutoEncoder, FusionNetwork, PyramidNetwork

__all__ = [
    "SAFE",
    "TILE",
    "Execution",
    "check_device",
    "check_execution",
    "has_bfloat16",
    "rule_weights",
    "run_network",
    "running",
]

# Side of a tile in pixels without its halo: the fastest in benchmarks/inference.py.
TILE = 320
# Features of all tiles are kept between two passes if they take no more than this.
KEPT_BYTES = 512 << 20
# A tile without halo begins at a multiple of this where a network has strides.
STRIDE = 32
PRECISIONS = ("float32", "bfloat16")
# What a run sets, threads, allocator, precision of layers, is set for the whole process.
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Execution:
    """How a network is run; without arguments so that results are those of the plain module.

    Numbers that are not possible raise `FusionError`, an unknown precision `UnknownName`.

    Attributes
    ----------
    tile : int or None
        Side in pixels of the tiles in which a network of bounded receptive field is run, or the
        finest scale of a `PyramidNetwork`; None: images at once.
    overlap : int or None
        For the other networks, which need the whole image: run them in tiles nevertheless, which
        see so many pixels beyond their border (rounded up to a multiple of 32). Bounds memory,
        and **changes results**: rows of results say so. None: images at once.
    channels_last : bool or None
        Whether tensors lie pixel after pixel. Faster, and other rounding: as a rule up to 3e-6 of
        the range, of AEFusion and RFN-Nest 2e-5, of LRRNet 4e-4.
        None: as the network says, `FusionNetwork.channels_last`.
    precision : {"float32", "bfloat16"}
        bfloat16 for convolutions and products, by PyTorch's autocast, where the hardware has it.
        **Changes results** in the second or third digit: rows of results say so.
    threads : int or None
        PyTorch's threads meanwhile; None: as they are.
    batch : int
        How many pairs of one size `Method.fuse_all` runs together. Pays on an accelerator.
    """

    tile: int | None = TILE
    overlap: int | None = None
    channels_last: bool | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        for name, least in {"tile": 1, "overlap": 0, "threads": 1, "batch": 1}.items():
            value = getattr(self, name)
            if value is None and name != "batch":
                continue
            if not isinstance(value, int) or value < least:
                raise FusionError(f"{name} must be a whole number from {least}, not {value!r}.")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.overlap is not None and self.tile is None:
            raise FusionError("an overlap is of tiles: give the side of a tile, too.")

    def departure(self, network: nn.Module | None) -> str:
        """Say what makes results differ from the plain module's beyond rounding; "" if nothing."""
        parts: list[str] = []
        if network is not None and self.precision != "float32":
            parts.append(self.precision)
        if self.overlap is not None and isinstance(network, FusionNetwork) and not network.radius:
            parts.append(f"tiles {self.tile}+{self.halo}")
        return ", ".join(parts)

    @property
    def halo(self) -> int:
        """The overlap in whole strides."""
        return -(-(self.overlap or 0) // STRIDE) * STRIDE


SAFE = Execution()


def check_execution(how: Execution, device: str) -> None:
    """Make sure that the hardware has the precision; warn of more threads than cores."""
    if how.precision == "bfloat16" and not has_bfloat16(device):
        raise FusionError(
            f"the device {device!r} has no bfloat16 arithmetic here (on a CPU that is AVX512-BF16 "
            "or AMX); it would be slower and less exact. Use precision float32."
        )
    if how.threads is None:
        return
    import loky

    cores = loky.cpu_count()  # knows the limits of a container
    if how.threads > cores:
        warnings.warn(
            f"{how.threads} threads for {cores} cores: they wait for each other; "
            f"give {cores} or fewer.",
            stacklevel=3,
        )


#: What ONEDNN_MAX_CPU_ISA may say of the instruction sets that have no bfloat16 arithmetic.
WITHOUT_BFLOAT16 = {
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"),
}


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 itself, and libraries are not told to do without.

    The variables ATEN_CPU_CAPABILITY, which PyTorch reads as it is imported, and
    ONEDNN_MAX_CPU_ISA tell them.
    """
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    have = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return (
        bool(have.get("avx512_bf16") or have.get("amx_bf16"))
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in WITHOUT_BFLOAT16
    )


def check_device(name: str) -> None:
    """Make sure that tensors can be made on a device."""
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


def _axis(size: int, tile: int, halo: int, step: int = 1) -> list[tuple[slice, slice, slice]]:
    """Split one axis evenly into the fewest pieces of at most `tile` pixels.

    With a `step` pieces begin at its multiples, so they may be up to that much longer.
    """
    pieces = -(-size // tile)
    edges = [size * i // pieces // step * step for i in range(pieces)]
    edges = [*dict.fromkeys(edges), size]
    axis = []
    for start, stop in pairwise(edges):
        low, high = max(0, start - halo), min(size, stop + halo)
        axis.append((slice(start, stop), slice(low, high), slice(start - low, stop - low)))
    return axis


def _tiles(height: int, width: int, tile: int, halo: int, step: int = 1) -> list[_Tile]:
    return [
        _Tile(*zip(rows, columns, strict=True))
        for rows in _axis(height, tile, halo, step)
        for columns in _axis(width, tile, halo, step)
    ]


def run_network(network: nn.Module, images: Sequence[Tensor], how: Execution = SAFE) -> Tensor:
    """Run a fusion network on two or more images, or an auto-encoder on one.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(*images)``, in evaluation mode and in the order of memory that `how`
        asks for, in which it stays.
    images : sequence of Tensor, shape (B, 1, H, W)
        On the network's device, in the range its card states.
    how : Execution

    Returns
    -------
    Tensor of float32, shape (B, 1, H, W)
        Unless `Execution.departure` says otherwise equal to ``network(*images)``: a tile overlaps
        its neighbours by the receptive field, and a rule that looks at the whole activity map gets
        it, from a first pass over all tiles. Differences are float32 rounding: below 1e-6 of the
        range; in channels-last memory as `Execution` says.

    Raises
    ------
    FusionError
        If tiles and their overlap are smaller than the network takes.
    MemoryError
        Naming network and size, if there is not enough memory.
    """
    with running(network, images, how):
        output = _run(network, images, how)
    return output.to(images[0].dtype)


@contextmanager
def running(
    network: nn.Module,
    images: Sequence[Tensor],
    how: Execution = SAFE,
    remedy: str = "smaller tiles or batches, or where it has no tiles an overlap",
) -> Iterator[None]:
    """Prepare a network, and PyTorch while it runs on images; networks wait for each other.

    Too little memory is a MemoryError that names network, size and remedy.
    """
    count, height, width = len(images[0]), *images[0].shape[-2:]
    several = f"{count} pairs of " if count > 1 else ""
    task = f"{type(network).__name__} on {several}{width}x{height} pixels"
    with ExitStack() as stack:
        stack.enter_context(memory_errors(task, remedy))
        stack.enter_context(_ONE_AT_A_TIME)
        network.eval()
        last = how.channels_last
        if last is None:
            last = isinstance(network, FusionNetwork) and network.channels_last
        network.to(memory_format=torch.channels_last if last else torch.contiguous_format)  # type: ignore[call-overload]
        device = next((p.device.type for p in network.parameters()), "cpu")
        stack.enter_context(torch.inference_mode())
        if how.precision != "float32":
            stack.enter_context(torch.autocast(device, getattr(torch, how.precision)))
            stack.enter_context(_exact_last_layer(network, device))
        if how.threads is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(how.threads)
        if device == "cpu":
            stack.enter_context(keep_pages())
        yield


@contextmanager
def _exact_last_layer(network: nn.Module, device: str) -> Iterator[None]:
    """Let the convolutions that make the image compute in float32: bfloat16 has 8 bits in all.

    `FusionNetwork.last_layers` names them; else it is the last one of one channel.
    """
    named = network.last_layers if isinstance(network, FusionNetwork) else ()
    layers = [network.get_submodule(name) for name in named]
    if not layers:
        of_one = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 1]
        layers = [*of_one[-1:]]
    for layer in layers:
        compute = layer.forward

        def exact(x: Tensor, compute: Callable[[Tensor], Tensor] = compute) -> Tensor:
            with torch.autocast(device, enabled=False):
                return compute(x.float())

        layer.forward = exact
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _run(network: nn.Module, images: Sequence[Tensor], how: Execution) -> Tensor:
    if how.tile is None or not isinstance(network, FusionNetwork):
        return network(*images)
    height, width = images[0].shape[-2:]
    if network.radius is not None:
        tiles = _tiles(height, width, how.tile, network.radius)
        if len(tiles) > 1 and isinstance(network, AutoEncoder):
            return _run_autoencoder(network, images, tiles)
        return _run_tiles(network, images, tiles)
    if how.overlap is not None:
        tiles = _tiles(height, width, how.tile, how.halo, STRIDE)
        smallest = min(side.stop - side.start for part in tiles for side in part.view)
        if len(tiles) > 1 and smallest < network.min_side:
            raise FusionError(
                f"{type(network).__name__} needs {network.min_side} pixels a side; tiles with "
                f"their overlap have {smallest}. Give larger tiles or more overlap."
            )
        return _run_tiles(network, images, tiles)
    if isinstance(network, PyramidNetwork):
        return _run_pyramid(network, images, how.tile)
    return network(*images)


def _run_tiles(network: nn.Module, images: Sequence[Tensor], tiles: Sequence[_Tile]) -> Tensor:
    if len(tiles) == 1:
        return network(*images)
    output = torch.empty_like(images[0])
    for part in tiles:
        fused = network(*(image[..., *part.view] for image in images))
        output[..., *part.place] = fused[..., *part.inner]
    return output


def rule_weights(network: AutoEncoder, images: Sequence[Tensor], how: Execution = SAFE) -> Tensor:
    """Return the weights (K, groups, B, 1, H, W) that the rule gives K images (B, 1, H, W)."""
    height, width = images[0].shape[-2:]
    tiles = _tiles(height, width, how.tile or max(height, width), network.radius)
    with running(network, images, how):
        return _whole_map_weights(network, images, tiles, keep=0)[0]


def _run_pyramid(network: PyramidNetwork, images: Sequence[Tensor], tile: int) -> Tensor:
    ir, vis = images
    height, width = ((side + 1) // 2 for side in ir.shape[-2:])
    # Tiles of the second scale, so that those of the finest begin at even rows and columns.
    tiles = _tiles(height, width, max(1, tile // 2), network.halo // 2)
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
    network: AutoEncoder, images: Sequence[Tensor], tiles: Sequence[_Tile], *, keep: int
) -> tuple[Tensor, dict[int, list[Tensor]]]:
    """Weights (K, groups, B, 1, H, W) of a rule that needs whole activity maps.

    Also returns the features of the tiles, by index, up to `keep` bytes of them.
    """
    batch, _, height, width = images[0].shape
    maps = network.rule.maps
    activity = images[0].new_empty((len(images), network.groups, batch, maps, height, width))
    kept: dict[int, list[Tensor]] = {}
    for i, part in enumerate(tiles):
        features = _encode(network, images, part)
        for k, feature in enumerate(features):
            activity[k][..., *part.place] = network.activity(feature)[..., *part.inner]
        keep -= sum(feature.nbytes for feature in features)
        if keep >= 0:
            kept[i] = features
    return network.weigh(activity), kept
