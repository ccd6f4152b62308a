"""TensorFlow's checkpoints (version 2, "tensor bundles"), read without TensorFlow.

A bundle is two files. ``NAME.index`` is a sorted table in the format of LevelDB: blocks of
entries whose keys share prefixes, an index block that says where they are, a footer with a
magic number. It maps the names of the tensors to protocol buffers: type, shape, and place in
``NAME.data-00000-of-00001``, where the values stand as raw little-endian bytes. Blocks and
tensors carry checksums, which are not read: `fusionlib.weights` compares a digest of all tensors
with the registered one.

Sources: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/framework/types.proto
and LevelDB's doc/table_format.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import WeightsMismatch

__all__ = ["ENDS", "read_bundle"]

#: How the names of a bundle's two files end.
ENDS = (".index", ".data-00000-of-00001")

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48

#: NumPy's types by the numbers of tensorflow.DataType.
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2"}
STRING = 7


def read_bundle(index: Path, data: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint; texts, which it may hold too, are left out.

    Raises `WeightsMismatch` if the files are damaged, do not belong together, or use a part of
    the format that is not read here: compression, several data files, sliced variables.
    """
    try:
        values = data.read_bytes()
        found = ((name, _tensor(name, at, values)) for name, at in _entries(index.read_bytes()))
        return {name: tensor for name, tensor in found if tensor is not None}
    except ValueError as fault:
        raise WeightsMismatch(
            f"{index.name} and {data.name} are not a whole TensorFlow checkpoint that can be read "
            f"here: {fault}."
        ) from fault


class _Reader:
    """Bytes that are taken one part after the other; true while some are left."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise ValueError("the index is cut off, or damaged")
        self._at += size
        return part

    def number(self) -> int:
        """Return an integer of seven bits a byte, lowest first."""
        value = 0
        for i in range(10):
            (byte,) = self.take(1)
            value |= (byte & 127) << (7 * i)
            if byte < 128:
                return value
        raise ValueError("a number without end")


def _entries(table: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each tensor and the message about it."""
    if len(table) < FOOTER or not table.endswith(MAGIC):
        raise ValueError("the index does not end as one (cut off, another file, or version 1)")
    footer = _Reader(table[-FOOTER:])
    footer.number(), footer.number()  # place of a block that says nothing here
    blocks = [place for _, place in _block(table, footer)]
    pairs = (pair for place in blocks for pair in _block(table, _Reader(place)))
    key, header = next(pairs, (b"none", b""))
    if key:
        raise ValueError("the index has no header")
    numbers, _ = _fields(header)  # of a BundleHeaderProto: data files, order of bytes
    if (numbers.get(1, 0), numbers.get(2, 0)) != (1, 0):
        raise ValueError("several data files, or numbers with the highest byte first")
    for key, message in pairs:
        yield key.decode(), message


def _block(table: bytes, place: _Reader) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the block whose offset and size stand at a place."""
    offset, size = place.number(), place.number()
    end = offset + size
    if size < 4 or end >= len(table) - FOOTER:
        raise ValueError("a block of the index lies outside of it")
    if table[end]:
        raise ValueError("the index is compressed")
    # At its end stand places where a key is written in full, and their number.
    end -= 4 + 4 * int.from_bytes(table[end - 4 : end], "little")
    block, key = _Reader(table[offset : max(end, offset)]), b""
    while block:
        shared, fresh, length = block.number(), block.number(), block.number()
        key = key[:shared] + block.take(fresh)
        yield key, block.take(length)


def _fields(message: bytes) -> tuple[dict[int, int], list[tuple[int, bytes]]]:
    """Return a protocol buffer's numbers by field, and its messages, each with its field."""
    numbers: dict[int, int] = {}
    messages: list[tuple[int, bytes]] = []
    reader = _Reader(message)
    while reader:
        field, kind = divmod(reader.number(), 8)
        if kind == 0:
            numbers[field] = reader.number()
        elif kind == 2:
            messages.append((field, reader.take(reader.number())))
        elif kind in (1, 5):  # eight or four bytes: a checksum
            reader.take(8 if kind == 1 else 4)
        else:
            raise ValueError("a field of no known kind")
    return numbers, messages


def _tensor(name: str, message: bytes, values: bytes) -> Tensor | None:
    """Read what a BundleEntryProto says of a tensor, and its values; None for a text."""
    numbers, messages = _fields(message)
    kind, shard, offset, size = (numbers.get(field, 0) for field in (1, 3, 4, 5))
    if shard or any(field == 7 for field, _ in messages):
        raise ValueError("a variable that is cut into slices")
    if kind == STRING:
        return None
    if kind not in DTYPES:
        raise ValueError(f"{name} has a type ({kind}) that is not read")
    sides = [side for field, part in messages if field == 2 for side in _fields(part)[1]]
    shape = tuple(_fields(side)[0].get(1, 0) for field, side in sides if field == 2)
    dtype = np.dtype(DTYPES[kind])
    if size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {size} bytes, which is not its shape {shape}")
    part = values[offset : offset + size]
    if len(part) != size:
        raise ValueError(f"{name} lies outside of the data file of {len(values):,} bytes")
    # A bytearray, since a tensor may be written to.
    return torch.from_numpy(np.frombuffer(bytearray(part), dtype).reshape(shape))
