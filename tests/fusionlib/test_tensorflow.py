"""tensorflow: TensorFlow checkpoints by an independent writer and by hand, and damaged ones."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from fusionlib.errors import WeightsMismatch
from fusionlib.tensorflow import read_bundle
from tests.fusionlib import bundles
from tests.fusionlib.bundles import CHECKSUM, message, table, write_bundle


def tensors():
    generator = np.random.default_rng(0)
    return {
        "encoder/conv1/bias": generator.random(3, np.float32),
        "encoder/conv1/kernel": generator.random((3, 3, 1, 3), np.float32),
        "encoder/conv2/bias": generator.random(2, np.float32),
        "global_step": np.array(70_000, np.int64),
    }


def same(found, written):
    assert found.keys() == written.keys()
    for name, values in written.items():
        assert found[name].numpy().dtype == values.dtype
        assert tuple(found[name].shape) == values.shape
        assert found[name].numpy().tobytes() == values.tobytes()
    return True


# ---------------------------------------------------------------- reading


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text("ab/_é", min_size=1, max_size=12),
        st.tuples(st.sampled_from(sorted(bundles.DTYPES)), st.lists(st.integers(0, 4), max_size=4)),
        max_size=12,
    ),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_any_names_types_and_shapes(tmp_path_factory, layout, per_block, interval):
    generator = np.random.default_rng(0)
    written = {
        name: generator.integers(0, 2, shape).astype(dtype)
        for name, (dtype, shape) in layout.items()
    }
    stem = tmp_path_factory.mktemp("bundle") / "model"
    paths = write_bundle(stem, written, per_block=per_block, interval=interval)
    assert same(read_bundle(*paths), written)


def test_a_table_made_by_hand(tmp_path):
    """Two blocks; "w/b" shares two bytes with "w/a", and "w/c" is in a block of its own."""
    values = np.array([1, 2, 3, 4], "<f4").tobytes()

    def entry(offset):  # float32 of shape (1,) at an offset
        place = b"\x20" + bytes([offset]) if offset else b""
        kind, shape, size = b"\x08\x01", b"\x12\x04\x12\x02\x08\x01", b"\x28\x04"
        return kind + shape + place + size + b"\x35" + CHECKSUM

    a, b, c = entry(0), entry(4), entry(8)
    assert (len(a), len(b)) == (15, 17)
    first = b"".join(
        [
            b"\x00\x00\x06" + b"\x08\x01\x1a\x02\x08\x01",  # "": one shard, version 1
            b"\x00\x03\x0f" + b"w/a" + a,
            b"\x02\x01\x11" + b"b" + b,
            b"\x00\x00\x00\x00" + b"\x01\x00\x00\x00",  # one key in full, at 0
        ]
    )
    second = b"\x00\x03\x11" + b"w/c" + c + b"\x00\x00\x00\x00" + b"\x01\x00\x00\x00"
    (tmp_path / "i").write_bytes(table([first, second], [b"w/b", b"w/c"]))
    (tmp_path / "d").write_bytes(values)
    found = read_bundle(tmp_path / "i", tmp_path / "d")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "w/a": [1.0], "w/b": [2.0], "w/c": [3.0]
    }  # fmt: skip


def test_texts_are_left_out_and_tensors_are_their_own(tmp_path):
    text = {b"_GRAPH": message((1, 7), (5, 9))}
    found = read_bundle(*write_bundle(tmp_path / "model", tensors(), extra=text))
    assert same(found, tensors())
    for tensor in found.values():
        tensor.add_(1)
    assert torch.equal(found["global_step"], torch.tensor(70_001))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compression": 1}, "compressed"),
        ({"header": message((1, 2))}, "several data files"),
        ({"header": message((1, 1), (2, 1))}, "highest byte first"),
        ({"extra": {b"x": message((1, 1), (3, 1))}}, "cut into slices"),
        ({"extra": {b"x": message((1, 1), (7, b""))}}, "cut into slices"),
        ({"extra": {b"x": message((1, 8), (5, 8))}}, r"x has a type \(8\)"),
        ({"extra": {b"x": message((1, 1), (5, 8))}}, "8 bytes, which is not its shape"),
        ({"extra": {b"x": message((1, 1), (4, 10**9), (5, 4))}}, "x lies outside"),
        ({"extra": {b"\xff": message((1, 1))}}, "codec can't decode"),
        ({"extra": {b"x": b"\x0b"}}, "no known kind"),
        ({"extra": {b"x": b"\x12\x05a"}}, "cut off, or damaged"),
        ({"extra": {b"x": b"\x08" + b"\xff" * 20}}, "without end"),
    ],
)
def test_parts_of_the_format_that_are_not_read(tmp_path, changes, words):
    paths = write_bundle(tmp_path / "model", tensors(), **changes)
    paths[1].write_bytes(paths[1].read_bytes() + bytes(100))  # which nothing uses
    with pytest.raises(WeightsMismatch, match=rf"model.index and model.data.*{words}") as error:
        read_bundle(*paths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("which", [0, 1])
def test_every_cut_is_noticed(tmp_path, which):
    paths = write_bundle(tmp_path / "model", tensors(), per_block=2)
    whole = paths[which].read_bytes()
    for length in range(len(whole)):
        paths[which].write_bytes(whole[:length])
        with pytest.raises(WeightsMismatch):
            read_bundle(*paths)


def test_damage_in_the_index_is_one_error(tmp_path):
    """Or gives other tensors, which their digest tells; nothing else is raised."""
    index, data = write_bundle(tmp_path / "model", tensors(), per_block=2)
    whole = index.read_bytes()
    for place in range(len(whole)):
        for bits in (1, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= bits
            index.write_bytes(damaged)
            with contextlib.suppress(WeightsMismatch):
                assert read_bundle(index, data) is not None
