"""sources: what is known of the published files, and downloads that go wrong."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlparse

import pytest

from fusionlib.errors import UnknownName, WeightsMismatch, WeightsNotFound
from fusionlib.sources import (
    Checkpoint,
    PublishedFile,
    Source,
    check_file,
    download,
    find_source,
    sources,
)
from reproduction.commands.detect import weight_users
from tests.fusionlib.bundles import DATA, INDEX
from tests.web import serve

CONTENT = b"published\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB = "7a85ea4df37734c24dc10ccd171c24e536735fa4"


@pytest.fixture
def web():
    with serve() as web:
        yield web


def theirs():
    return {entry.name: entry for entry in weight_users() if entry.origin}


# ---------------------------------------------------------------- the registry as shipped


def test_every_set_of_the_authors_has_a_source():
    """Where it says the same as the set's origin, which is for people; no source is of nothing."""
    assert sources().keys() == theirs().keys()
    for name, entry in theirs().items():
        source = find_source(name)
        assert f"github.com/{source.repository}" in entry.origin
        commit = re.search(r" @([\w.]+)", entry.origin)
        assert source.commit.startswith(commit[1]) if commit else source.commit == "HEAD"


@pytest.mark.parametrize("name", sorted(sources()))
def test_shipped_sources_are_sound(name):
    source = sources()[name]
    assert re.fullmatch(r"[\w-]+/[\w.-]+", source.repository)
    assert re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{7}|HEAD|v[0-9.]+", source.commit)
    for checkpoint in source.checkpoints:
        names = checkpoint.members or [file.name for file in checkpoint.files]
        if checkpoint.format == "tensorflow":
            assert [name[-6:] for name in names] == [INDEX, DATA[-6:]]
            assert names[0].removesuffix(INDEX) == names[1].removesuffix(DATA)
        else:
            assert checkpoint.format in ("pytorch", "modules", "matlab") and len(names) == 1
        assert len(checkpoint.files) == (1 if checkpoint.members else len(names))
        assert (checkpoint.files[0].name.endswith(".zip")) == bool(checkpoint.members)
        re.compile(checkpoint.keep)
    assert len({file.name for file in source.files}) == len(source.files)
    for file in source.files:
        url = urlparse(file.url)
        assert url.scheme == "https" and url.path.endswith(f"/{file.path}")
        assert source.commit in url.path and source.repository in url.path
        assert file.sha256 == "" or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.blob == "" or re.fullmatch("[0-9a-f]{40}", file.blob)


def test_addresses():
    """A full commit is addressed directly, a short one through the page that resolves it."""
    assert [file.url for file in find_source("densefuse").files] == [
        "https://raw.githubusercontent.com/hli1221/densefuse-pytorch/"
        "4394b63e9295db1c6b7a5c3664551c90f0605f2b/models/densefuse_gray.model"
    ]
    assert [file.url for file in find_source("u2fusion").files] == [
        f"https://github.com/hanna-xu/U2Fusion/raw/0a58821/model/model.ckpt{end}"
        for end in (INDEX, DATA)
    ]
    assert [file.url for file in find_source("yolov5s").files] == [
        "https://github.com/ultralytics/yolov5/releases/download/v6.1/yolov5s.pt"
    ]


def test_parts_of_cufd():
    """Part 2 also holds variables m_*, which are not the trained ones."""
    names = [f"{scope}{part}_{half}/x" for scope in ("", "DenseFuseNet/") for part in "ms"
             for half in ("encoder", "decoder")]  # fmt: skip
    parts = [
        [name for name in names if re.search(checkpoint.keep, name)]
        for checkpoint in find_source("cufd").checkpoints
    ]
    assert sorted(parts[0] + parts[1]) == sorted(names)
    assert all("m_" in name for name in parts[0]) and all("s_" in name for name in parts[1])


def test_unknown_name():
    with pytest.raises(UnknownName, match="Did you mean 'densefuse'"):
        find_source("densfuse")


def test_texts():
    file = PublishedFile("a/b.pt", "https://x/b.pt")
    assert file.name == "b.pt" and str(file) == "https://x/b.pt"
    sized = PublishedFile("a/b.pt", "https://x/b.pt", 0)
    assert str(sized) == "https://x/b.pt (0 bytes)"
    known = PublishedFile("c.pt", "https://x/c.pt", 1234567, "ab", "cd")
    assert str(known) == "https://x/c.pt (1,234,567 bytes, sha256 ab, git blob cd)"
    source = Source("x/y", "HEAD", tuple(Checkpoint("pytorch", (one,)) for one in (file, known)))
    assert str(source) == f"{file} and {known}" and source.files == (file, known)
    many = Source("x/y", "HEAD", tuple(Checkpoint("matlab", (one,)) for one in (file, known) * 3))
    assert str(many) == f"6 files, {file} to {known}"


# ---------------------------------------------------------------- files


def published(url="https://x/b.pt", **facts):
    return PublishedFile("a/b.pt", url, **facts)


@pytest.mark.parametrize(
    "facts", [{}, {"size": 10}, {"sha256": SHA256}, {"blob": BLOB}, {"size": 10, "sha256": SHA256}]
)
def test_the_right_file(tmp_path, facts):
    (tmp_path / "b.pt").write_bytes(CONTENT)
    check_file(tmp_path / "b.pt", published(**facts))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"size": 11}, "size is 10, expected 11"),
        ({"size": 0}, "size is 10, expected 0"),
        ({"sha256": "0" * 64}, f"sha256 is {SHA256}, expected 000"),
        ({"sha256": SHA256, "blob": "0" * 40}, f"git blob is {BLOB}, expected 000"),
    ],
)
def test_another_file(tmp_path, facts, words):
    (tmp_path / "b.pt").write_bytes(CONTENT)
    with pytest.raises(WeightsMismatch, match=f"published at https://x/b.pt: its {words}"):
        check_file(tmp_path / "b.pt", published(**facts))


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "gone.pt"):
        with pytest.raises(WeightsNotFound, match=f"no such file: {path}"):
            check_file(path, published())


# ---------------------------------------------------------------- downloads


def test_download(web, tmp_path, capsys):
    web.put("a b.pt", CONTENT)
    file = PublishedFile("x/a b.pt", f"{web.address}/a%20b.pt", 10, SHA256, BLOB)
    path = download(file, tmp_path / "new", progress=False)
    assert path == tmp_path / "new" / "a b.pt" and path.read_bytes() == CONTENT
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "words"), [("gone.pt", "404"), ("cut.pt", "[Ii]ncomplete")])
def test_failed_download(web, tmp_path, name, words):
    web.put("cut.pt", CONTENT, missing=3)
    with pytest.raises(WeightsNotFound, match=f"Downloading b.pt failed .*{words}") as error:
        download(published(f"{web.address}/{name}"), tmp_path / "new", progress=False)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "new").iterdir())


def test_nobody_answers(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"failed \(ConnectionError"):
        download(published("http://127.0.0.1:9/b.pt"), tmp_path, progress=False)


def test_download_of_another_file(web, tmp_path):
    web.put("b.pt", b"PUBLISHED\n")
    with pytest.raises(WeightsMismatch, match="its sha256 is"):
        download(published(f"{web.address}/b.pt", sha256=SHA256), tmp_path, progress=False)
