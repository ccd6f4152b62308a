"""TensorFlow's checkpoints (version 2, "tensor bundles"), read without TensorFlow.

A bundle is two files. ``NAME.index`` is a sorted table in the format of LevelDB: blocks of
entries whose keys share prefixes, an index block that says where they are, a footer with a
magic number. It maps the names of the tensors to protocol buffers: type, shape, and place in
``NAME.data-00000-of-00001``, where the values stand as raw little-endian bytes. Blocks and
tensors carry CRC-32C checksums, and all that are read are checked.

Sources: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/framework/types.proto
and LevelDB's doc/table_format.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import WeightsMismatch

__all__ = ["crc32c", "masked_crc32c", "read_bundle"]

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
#: A block is followed by its kind of compression and its checksum.
TRAILER = 5
#: No index that we know of is larger than some kilobytes.
INDEX_LIMIT = 64 << 20

#: Numbers of tensorflow.DataType.
FLOAT32, STRING = 1, 7
DTYPES = {
    FLOAT32: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    19: "<f2",
}


class _Entry(NamedTuple):
    """Where a tensor is and what it is."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


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
            for name, entry in _entries(_read_index(index))
            if entry.dtype != STRING and wanted(name)
        }
        if sum(entry.size for entry in entries.values()) > data.stat().st_size:
            raise _Fault(
                "the tensors need more bytes than the data file has: it is cut off, or another"
            )
        with data.open("rb") as file:
            return {name: _read_tensor(file, name, entry) for name, entry in entries.items()}
    except _Fault as fault:
        raise WeightsMismatch(
            f"{index.name} and {data.name} are not a whole TensorFlow checkpoint that can be read "
            f"here: {fault}."
        ) from fault


class _Fault(Exception):
    """What is wrong, for `read_bundle` to report."""


def _read_index(path: Path) -> bytes:
    if path.stat().st_size > INDEX_LIMIT:
        raise _Fault(f"an index of more than {INDEX_LIMIT:,} bytes")
    return path.read_bytes()


# ---------------------------------------------------------------- the table


def _entries(table: bytes) -> Iterator[tuple[str, _Entry]]:
    """Yield the names and places of all tensors."""
    pairs = _table(table)
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


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a sorted table."""
    if len(table) < FOOTER or table[-8:] != struct.pack("<Q", MAGIC):
        raise _Fault("the index does not end as one (cut off, another file, or version 1)")
    footer = table[-FOOTER:]
    *_, start = _handle(footer, 0)  # of a block that says nothing here
    offset, size, _ = _handle(footer, start)
    for _, value in _block(table, offset, size):
        offset, size, _ = _handle(value, 0)
        yield from _block(table, offset, size)


def _handle(data: bytes, start: int) -> tuple[int, int, int]:
    """Read a block's offset and size; also return where the next thing starts."""
    offset, start = _varint(data, start)
    size, start = _varint(data, start)
    return offset, size, start


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of one block."""
    end = offset + size
    if end + TRAILER > len(table) - FOOTER:
        raise _Fault("a block of the index lies outside of it")
    kind, checksum = struct.unpack_from("<BI", table, end)
    if masked_crc32c(table[offset : end + 1]) != checksum:
        raise _Fault("a block of the index has a wrong checksum")
    if kind:
        raise _Fault("the index is compressed")
    block = table[offset:end]
    # At its end stand places where a key is written in full, and their number.
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if size < 4 or end < 0:
        raise _Fault("a block of the index is too short")
    key, start = b"", 0
    while start < end:
        shared, start = _varint(block, start)
        fresh, start = _varint(block, start)
        length, start = _varint(block, start)
        if shared > len(key) or start + fresh + length > end:
            raise _Fault("an entry of the index lies outside of it")
        key = key[:shared] + block[start : start + fresh]
        start += fresh + length
        yield key, block[start - length : start]


# ---------------------------------------------------------------- protocol buffers


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """Read an integer of seven bits a byte, lowest first; also return where the next starts."""
    value = 0
    for i, byte in enumerate(data[start : start + 10]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, start + i + 1
    raise _Fault("a number without end")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the numbers and values of a message's fields."""
    start = 0
    while start < len(message):
        tag, start = _varint(message, start)
        kind = tag & 7
        if kind == 0:
            value, start = _varint(message, start)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, start = _varint(message, start)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise _Fault("a field of no known kind")
        if start + size > len(message):
            raise _Fault("a field lies outside of its message")
        part = message[start : start + size]
        start += size
        yield tag >> 3, part if kind == 2 else int.from_bytes(part, "little")


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
    numbers = _numbers(message, dtype=1, shard=3, offset=4, size=5, checksum=6)
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


def _read_tensor(file: BinaryIO, name: str, entry: _Entry) -> Tensor:
    if entry.dtype not in DTYPES:
        raise _Fault(f"{name} has a type ({entry.dtype}) that is not read")
    dtype = np.dtype(DTYPES[entry.dtype])
    if entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise _Fault(f"{name} has {entry.size} bytes, which is not its shape {entry.shape}")
    length = file.seek(0, 2)
    if entry.offset + entry.size > length:
        raise _Fault(f"{name} lies outside of the data file of {length:,} bytes")
    file.seek(entry.offset)
    data = file.read(entry.size)
    if masked_crc32c(data) != entry.checksum:
        raise _Fault(f"{name} has a wrong checksum")
    return torch.from_numpy(np.frombuffer(data, dtype).reshape(entry.shape).copy())


def masked_crc32c(data: bytes) -> int:
    """Return the checksum as it is stored: turned, and a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc_table() -> list[int]:
    """For each byte, what it adds to the remainder (reversed polynomial 0x82F63B78)."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()
