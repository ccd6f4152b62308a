"""Writing TensorFlow checkpoints (version 2), from the description of the format alone.

Shares no code with `fusionlib.tensorflow`, which the tests read the files with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

__all__ = ["CHECKSUM", "DATA", "INDEX", "message", "table", "write_bundle"]

INDEX, DATA = ".index", ".data-00000-of-00001"
DTYPES = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i2": 5, "i1": 6, "i8": 9, "b1": 10, "f2": 19}


#: In place of the CRC-32C of a block or tensor, which the reader passes over.
CHECKSUM = b"\xde\xad\xbe\xef"


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the highest bit says that more follow."""
    low = []
    while value > 127:
        low.append(value % 128 + 128)
        value //= 128
    return bytes([*low, value])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer of numbers and of parts with a length; fixed32 is four raw bytes."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number * 8) + varint(value)
        elif number == 6:  # crc32c, the only fixed32 there is
            out += varint(number * 8 + 5) + value
        else:
            out += varint(number * 8 + 2) + varint(len(value)) + value
    return out


def block(pairs: Iterable[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """Entries with shared prefixes, and where a key is written in full."""
    out, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(blocks: Iterable[bytes], keys: Iterable[bytes], compression: int = 0) -> bytes:
    """A whole table: data blocks, an empty meta block, index block, footer."""
    out, handles = b"", []

    def add(part: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(part))
        part += bytes([compression])
        out += part + CHECKSUM
        return handle

    handles = [add(part) for part in blocks]
    footer = add(block([])) + add(block(zip(keys, handles, strict=True), 1))
    return out + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def write_bundle(
    stem: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    per_block: int = 16,
    interval: int = 16,
    extra: Mapping[bytes, bytes] | None = None,
    compression: int = 0,
    header: bytes = message((1, 1), (3, message((1, 1)))),
) -> tuple[Path, Path]:
    """Write ``stem.index`` and ``stem.data-00000-of-00001``; return their paths."""
    data = b""
    entries = {b"": header, **(extra or {})}
    for name, values in sorted(tensors.items()):
        raw = np.ascontiguousarray(values).tobytes()
        dims = [(2, message((1, side)) if side else b"") for side in values.shape]
        entries[name.encode()] = message(
            (1, DTYPES[values.dtype.str[1:]]),
            (2, message(*dims)),
            *([(4, len(data))] if data else []),
            *([(5, len(raw))] if raw else []),
            (6, CHECKSUM),
        )
        data += raw
    pairs = sorted(entries.items())
    groups = [pairs[i : i + per_block] for i in range(0, len(pairs), per_block)]
    index = table(
        [block(group, interval) for group in groups],
        [group[-1][0] for group in groups],
        compression,
    )
    paths = (stem.with_name(stem.name + INDEX), stem.with_name(stem.name + DATA))
    for path, content in zip(paths, (index, data), strict=True):
        path.write_bytes(content)
    return paths
