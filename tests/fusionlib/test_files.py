"""files: a file appears whole or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from fusionlib.errors import FusionError
from fusionlib.files import atomic_file, check_writable, write_text


def test_whole_file_in_new_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename is atomic within a file system only
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("before", [None, b"old"])
def test_fault_leaves_the_old_file(tmp_path, fault, before):
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(fault), atomic_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise fault
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("place", ["file/below.txt", "file/far/below.txt", "folder"])
def test_unwritable(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FusionError, match=rf"cannot write .*{place}: .*(Choose|Name) a file"):
        write_text(tmp_path / place, "text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_fault_at_the_end(tmp_path, monkeypatch, step, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(*_):
        raise error

    monkeypatch.setattr(f"os.{step}", fail)
    told = pytest.raises(FusionError, match=r"No space left on device\. Free some space")
    with pytest.raises(error) if error is KeyboardInterrupt else told:
        write_text(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_nothing_written_is_an_error(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(FusionError, match="cannot write"), atomic_file(path):
        pass
    assert list(tmp_path.iterdir()) == []


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=50)
def test_text_is_utf8_with_plain_line_ends(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "file.txt"
    write_text(path, text)
    assert path.read_bytes() == text.encode()


def test_whether_a_file_can_be_written(tmp_path):
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv", "folder/new.csv"):
        check_writable(tmp_path / name)
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"old.csv"}
    assert (tmp_path / "old.csv").read_text() == "old"
    for name in ("folder", "old.csv/new.csv"):
        with pytest.raises(FusionError, match=f"cannot write .*{name}"):
            check_writable(tmp_path / name)
