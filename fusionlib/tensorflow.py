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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import WeightsMismatch

__all__ = ["read_bundle"]

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48

#: NumPy's types by the numbers of tensorflow.DataType.
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2"}
STRING = 7


class _Entry(NamedTuple):
    """Where a tensor is and what it is."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int


def read_bundle(
    index: Path, data: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Tensor]:
    """Read a checkpoint's tensors.

    Parameters
    ----------
    index, data : Path
        The files ``NAME.index`` and ``NAME.data-00000-of-00001``.
    wanted : callable
        Name of a tensor -> whether to read it.

    Returns
    -------
    dict of str to Tensor
        Texts, which a checkpoint may hold too, are left out.

    Raises
    ------
    WeightsMismatch
        If the files are damaged, do not belong together, or use a part of the format that is
        not read here (compression, several data files, sliced variables).
    """
    try:
        entries = {
            name: entry
            for name, entry in _entries(index.read_bytes())
            if entry.dtype != STRING and wanted(name)
        }
        values = data.read_bytes()
        return {name: _tensor(values, name, entry) for name, entry in entries.items()}
    except _Fault as fault:
        raise WeightsMismatch(
            f"{index.name} and {data.name} are not a whole TensorFlow checkpoint that can be read "
            f"here: {fault}."
        ) from fault


class _Fault(Exception):
    """What is wrong, for `read_bundle` to report."""


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
            raise _Fault("the index is cut off, or damaged")
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
        raise _Fault("a number without end")


# ---------------------------------------------------------------- the table


def _entries(table: bytes) -> Iterator[tuple[str, _Entry]]:
    """Yield the names and places of all tensors."""
    if len(table) < FOOTER or not table.endswith(MAGIC):
        raise _Fault("the index does not end as one (cut off, another file, or version 1)")
    footer = _Reader(table[-FOOTER:])
    footer.number(), footer.number()  # place of a block that says nothing here
    blocks = [place for _, place in _block(table, footer)]
    pairs = (pair for place in blocks for pair in _block(table, _Reader(place)))
    key, header = next(pairs, (b"none", b""))
    if key:
        raise _Fault("the index has no header")
    _check_header(header)
    for key, value in pairs:
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise _Fault("a name that is no text") from None
        yield name, _entry(value)


def _block(table: bytes, place: _Reader) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the block whose offset and size stand at a place."""
    offset, size = place.number(), place.number()
    end = offset + size
    if size < 4 or end >= len(table) - FOOTER:
        raise _Fault("a block of the index lies outside of it")
    if table[end]:
        raise _Fault("the index is compressed")
    # At its end stand places where a key is written in full, and their number.
    end -= 4 + 4 * int.from_bytes(table[end - 4 : end], "little")
    block, key = _Reader(table[offset : max(end, offset)]), b""
    while block:
        shared, fresh, length = block.number(), block.number(), block.number()
        key = key[:shared] + block.take(fresh)
        yield key, block.take(length)


# ---------------------------------------------------------------- protocol buffers


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the numbers and values of a message's fields."""
    reader = _Reader(message)
    while reader:
        number, kind = divmod(reader.number(), 8)
        if kind == 0:
            yield number, reader.number()
        elif kind == 2:
            yield number, reader.take(reader.number())
        elif kind in (1, 5):  # eight or four bytes: a checksum
            reader.take(8 if kind == 1 else 4)
        else:
            raise _Fault("a field of no known kind")


def _numbers(message: bytes, **fields: int) -> dict[str, int]:
    """Read fields that hold one number each; they are 0 where they are not written."""
    found = {number: value for number, value in _fields(message) if isinstance(value, int)}
    return {name: found.get(number, 0) for name, number in fields.items()}


def _check_header(message: bytes) -> None:
    """Check a BundleHeaderProto."""
    header = _numbers(message, shards=1, endianness=2)
    if header != {"shards": 1, "endianness": 0}:
        raise _Fault("several data files, or numbers with the highest byte first")


def _entry(message: bytes) -> _Entry:
    """Read a BundleEntryProto."""
    numbers = _numbers(message, dtype=1, shard=3, offset=4, size=5)
    parts = [(number, value) for number, value in _fields(message) if isinstance(value, bytes)]
    if numbers.pop("shard") or any(number == 7 for number, _ in parts):
        raise _Fault("a variable that is cut into slices")
    shape = [
        _numbers(dimension, size=1)["size"]
        for number, value in parts
        if number == 2
        for field, dimension in _fields(value)
        if field == 2 and isinstance(dimension, bytes)
    ]
    return _Entry(shape=tuple(shape), **numbers)


# ---------------------------------------------------------------- tensors


def _tensor(values: bytes, name: str, entry: _Entry) -> Tensor:
    if entry.dtype not in DTYPES:
        raise _Fault(f"{name} has a type ({entry.dtype}) that is not read")
    dtype = np.dtype(DTYPES[entry.dtype])
    if entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise _Fault(f"{name} has {entry.size} bytes, which is not its shape {entry.shape}")
    part = values[entry.offset : entry.offset + entry.size]
    if len(part) != entry.size:
        raise _Fault(f"{name} lies outside of the data file of {len(values):,} bytes")
    # A bytearray, since a tensor may be written to.
    return torch.from_numpy(np.frombuffer(bytearray(part), dtype).reshape(entry.shape))
