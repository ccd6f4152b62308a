"""datasets: pairs from files and folders, the registry, finding, verifying, fetching."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from fusionlib import datasets, pairs
from fusionlib.datasets import (
    dataset_parts,
    fetch_dataset,
    find_data,
    list_datasets,
    load_dataset,
    load_images,
    package_data,
)
from fusionlib.errors import DatasetNotFound, FusionError, ImageError, PairMismatch, UnknownName
from fusionlib.pairs import Box, Dataset, Pair, match_folders, pixel_hash, read_pair, read_pairs

ROLES = ("ir", "vis", "image", "mask", "labels")
SAMPLES = ("sample", "sample_mri_ct", "sample_mri_pet", "sample_mri_spect")


def random(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def no_outside_data(monkeypatch, request):
    """Only what a test puts somewhere is found."""
    if "data_root" not in request.fixturenames:
        monkeypatch.delenv("FUSIONLIB_DATA", raising=False)


# ---------------------------------------------------------------- Pair and own files


def test_pair_checks_sizes():
    gray = np.zeros((5, 4), np.float32)
    assert not Pair("a", gray, gray).colour
    assert Pair("a", gray, np.zeros((5, 4, 3), np.float32)).colour
    with pytest.raises(PairMismatch, match="infrared is 4x5 and visible is 5x4"):
        Pair("a", gray, gray.T)
    with pytest.raises(PairMismatch, match="the mask is 5x4"):
        Pair("a", gray, gray, mask=gray.T > 0)


def test_read_pair(tmp_path):
    gray, colour = random((6, 8)), random((6, 8, 3))
    ir = save(tmp_path / "ir.png", np.stack([gray] * 3, axis=-1))
    vis = save(tmp_path / "vis.png", colour)
    pair = read_pair(ir, str(vis))
    assert pair.name == "ir" and pair.colour and str(vis) in pair.source
    assert np.array_equal(pair.ir, gray / np.float32(255))
    assert np.array_equal(pair.vis, colour / np.float32(255))
    again = read_pair(ir, ir, name="same")
    assert again.name == "same" and again.vis.ndim == 2  # gray stored as RGB is gray
    with pytest.raises(ImageError, match=r"vis.png.*colour.*swapped"):
        read_pair(vis, ir)
    small = save(tmp_path / "small.png", random((6, 7)))
    with pytest.raises(PairMismatch, match="infrared is 8x6 and visible is 7x6"):
        read_pair(ir, small)
    with pytest.raises(ImageError, match="no such file"):
        read_pair(ir, tmp_path / "absent.png")


def test_match_folders(tmp_path):
    for name in ("10.png", "2.png", "a1.PNG", "only.png", ".hidden.png", "notes.txt"):
        save(tmp_path / "ir" / name, random((4, 4)), format="PNG")
    for name in ("2.JPG", "10.tif", "a1.png", "b2.png", "b10.png"):
        save(tmp_path / "vi" / name, random((4, 4)))
    match = match_folders(tmp_path / "ir", str(tmp_path / "vi"))
    assert [name for name, _, _ in match.matched] == ["2", "10", "a1"]
    assert match.matched[0][1:] == (tmp_path / "ir" / "2.png", tmp_path / "vi" / "2.JPG")
    assert [path.name for path in match.only_ir] == ["only.png"]
    assert [path.name for path in match.only_vis] == ["b2.png", "b10.png"]
    with pytest.warns(UserWarning, match=r"3 images without partner.*only.png"):
        pairs = read_pairs(tmp_path / "ir", tmp_path / "vi")
    assert pairs.names == ("2", "10", "a1") and pairs[1].name == "10"
    assert [pair.name for pair in pairs] == list(pairs.names)


@given(st.lists(st.text("0a1²b. ٣_", min_size=1, max_size=6)))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=pairs._natural)) == sorted(names)


def test_match_folders_refuses(tmp_path):
    save(tmp_path / "ir" / "IR1.png", random((4, 4)))
    save(tmp_path / "vi" / "VIS1.png", random((4, 4)))
    with pytest.raises(PairMismatch, match=r"holds IR1, .* holds VIS1.*one name"):
        match_folders(tmp_path / "ir", tmp_path / "vi")
    save(tmp_path / "ir" / "IR1.bmp", random((4, 4)))
    with pytest.raises(PairMismatch, match=r"IR1.bmp and IR1.png"):
        match_folders(tmp_path / "ir", tmp_path / "vi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairMismatch, match="no images"):
        match_folders(tmp_path / "empty", tmp_path / "vi")
    with pytest.raises(DatasetNotFound, match="absent: no such folder"):
        match_folders(tmp_path / "absent", tmp_path / "vi")


# ---------------------------------------------------------------- a data set of our own


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Registers "toy" by one file, and makes its pictures below tmp_path/data."""
    splits, data = tmp_path / "splits", tmp_path / "data"
    folder = data / "toys"
    lines = ["name,ir,ir_sha256,ir_url,vis,vis_sha256,vis_url,mask,mask_sha256,mask_url,labels,"
             "labels_sha256,labels_url"]  # fmt: skip
    for k in range(4):
        save(folder / f"ir/{k}.png", random((20, 30), k))
        save(folder / f"vi/{k} é.png", random((20, 30, 3), 10 + k))
        save(folder / f"mask/{k}.png", np.where(random((20, 30), k) > 200, 255, 0).astype(np.uint8))
        (folder / "labels").mkdir(exist_ok=True)
        text = "" if k else "2  0.5 0.25 0.2 0.5  \n0 0.1 0.9 0.2 0.2\n"
        (folder / f"labels/{k}.txt").write_text(text)
        row = [str(k)]
        for role, file, url in (
            ("ir", f"ir/{k}.png", f"{k}.png"),
            ("vis", f"vi/{k} é.png", f"{k}%20%C3%A9.png"),
            ("mask", f"mask/{k}.png", f"mask/{k}.png"),
            ("labels", f"labels/{k}.txt", f"labels/{k}.txt"),
        ):
            if role != "mask" or k != 3:
                row += [file, sha256(folder / file), url]
            else:
                row += ["", "", ""]
        lines.append(",".join(row))
    header = [
        "# title: A toy",
        "# kind: infrared-visible",
        "# folder: toys",
        "# home: https://example.org: the home",
        "# classes: person, bicycle, car",
        "# ir_url: URL/ir/",
        "# vis_url: URL/vi/",
        "# mask_url: URL/",
        "# labels_url: URL/",
    ]
    splits.mkdir()
    (splits / "toy.csv").write_text("\n".join(header + lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(datasets, "package_data", lambda relative: tmp_path / relative)
    return data


def test_toy_pairs(toy):
    pairs = load_dataset("toy", data_dir=toy)
    assert isinstance(pairs, Dataset) and len(pairs) == 4 and pairs.names == ("0", "1", "2", "3")
    assert pairs.card.title == "A toy" and pairs.card.home == "https://example.org: the home"
    pair = pairs[0]
    assert np.array_equal(pair.ir, random((20, 30), 0) / np.float32(255))
    assert np.array_equal(pair.vis, random((20, 30, 3), 10) / np.float32(255))
    assert np.array_equal(pair.mask, random((20, 30), 0) > 200) and pair.mask.dtype == bool
    # class cx cy w h as fractions of 30 x 20 pixels
    assert [box.label for box in pair.boxes] == ["car", "person"]
    assert np.allclose(pair.boxes[0][1:], (12, 0, 18, 10))
    assert np.allclose(pair.boxes[1][1:], (0, 16, 6, 20))
    assert pairs[1].boxes == () and pairs[3].mask is None and pair.source == "A toy"


def test_sequence(toy):
    pairs = load_dataset("toy", data_dir=toy)
    assert pairs[-1].name == "3" and [pair.name for pair in pairs] == ["0", "1", "2", "3"]
    part = pairs[1:][::-2]
    assert part.names == ("3", "1") and [pair.name for pair in part] == ["3", "1"]
    assert len(pairs[10:]) == 0 and "4" in repr(pairs)
    for index in (4, -5):
        with pytest.raises(IndexError):
            pairs[index]
    assert load_dataset("toy", data_dir=toy, limit=2).names == ("0", "1")
    assert len(load_dataset("toy", data_dir=toy, limit=99)) == 4
    assert pairs["2"].name == "2" and part["3"].name == "3"
    with pytest.raises(UnknownName, match=r"item of data set 'toy', '2'\. Known: 1, 3\."):
        part["2"]
    for limit in (0, -1):
        with pytest.raises(FusionError, match=f"limit is {limit}"):
            load_dataset("toy", data_dir=toy, limit=limit)


def test_reading_is_lazy(toy):
    pairs = load_dataset("toy", data_dir=toy)
    (toy / "toys/ir/2.png").unlink()
    assert pairs[1].name == "1"
    with pytest.raises(DatasetNotFound, match=r"2.png cannot be read"):
        pairs[2]


def test_damaged_files_are_refused(toy):
    path = toy / "toys/ir/1.png"
    good = sha256(path)
    save(path, random((20, 30), 99))
    pairs = load_dataset("toy", data_dir=toy)
    with pytest.raises(DatasetNotFound, match=f"{sha256(path)}, expected {good}.*fetch"):
        pairs[1]
    assert load_dataset("toy", data_dir=toy, verify=False)[1].ir.shape == (20, 30)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetNotFound, match="sha256"):
        pairs[1]
    (toy / "toys/labels/0.txt").write_text("0 0.5 0.5 1 1\n")
    with pytest.raises(DatasetNotFound, match=r"labels/0.txt"):
        pairs[0]


@pytest.mark.parametrize(
    "line", ["3 0.5 0.5 1 1", "-1 0.5 0.5 1 1", "0 0.5 0.5 1", "person 0 0 1 1", "0 a b c d"]
)
def test_bad_labels(toy, line):
    (toy / "toys/labels/0.txt").write_text(f"0 0.5 0.5 1 1\n{line}\n")
    with pytest.raises(FusionError, match=r"line 2: .*0 to 2.*four numbers"):
        load_dataset("toy", data_dir=toy, verify=False)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object>", "no label file of Pascal VOC for person, bicycle, car"),
        ("<a><object><name>bus</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>"
         "<ymax>2</ymax></bndbox></object></a>", "class 'bus'"),
        ("<a><object><name>car</name></object></a>", "could not convert"),
    ],
)  # fmt: skip
def test_bad_labels_of_pascal_voc(toy, tmp_path, text, words):
    """Good ones are tested with M3FD's, in tests/detection/test_experiment.py."""
    split = tmp_path / "splits/toy.csv"
    split.write_text(split.read_text(encoding="utf-8").replace("labels/0.txt", "labels/0.xml", 1))
    (toy / "toys/labels/0.xml").write_text(text)
    with pytest.raises(FusionError, match=rf"0\.xml .*{words}"):
        load_dataset("toy", data_dir=toy, verify=False)[0]


def test_parts_of_a_data_set():
    parts = dataset_parts("m3fd_detection")
    assert len(parts) == 4200 and set(parts.values()) == {"train", "val", "test"}
    assert dataset_parts("msrs") == dataset_parts("sample") == {}
    with pytest.raises(UnknownName, match="data set 'toys'"):
        dataset_parts("toys")


def test_reencoded_files_are_accepted_by_their_pixels(toy, tmp_path):
    split = tmp_path / "splits/toy.csv"
    first = load_dataset("toy", data_dir=toy)[0]
    pixels = pixel_hash(first.ir)
    text = split.read_text(encoding="utf-8").replace("ir_url,vis", "ir_pixels,vis")
    split.write_text(text.replace(",0.png,vi", f",{pixels},vi"), encoding="utf-8")
    save(toy / "toys/ir/0.png", random((20, 30), 0), compress_level=0)
    assert np.array_equal(load_dataset("toy", data_dir=toy)[0].ir, first.ir)
    save(toy / "toys/ir/0.png", random((20, 30), 5))
    with pytest.raises(DatasetNotFound, match="damaged or another"):
        load_dataset("toy", data_dir=toy)[0]


def test_pixel_hash():
    image = random((3, 4, 3)) / np.float32(255)
    assert pixel_hash(image) == pixel_hash(image.copy())
    assert pixel_hash(image) != pixel_hash(image.reshape(4, 3, 3))
    other = image.copy()
    other[0, 0, 0] = abs(other[0, 0, 0] - 1 / 255)
    assert pixel_hash(image) != pixel_hash(other)


def test_optional_parts(toy):
    for file in (toy / "toys/mask").iterdir():
        file.unlink()
    with pytest.raises(DatasetNotFound, match="mask"):  # part of it: something went wrong
        load_dataset("toy", data_dir=toy)[0]
    (toy / "toys/mask").rmdir()  # not downloaded
    pair = load_dataset("toy", data_dir=toy)[0]
    assert pair.mask is None and len(pair.boxes) == 2


def test_incomplete_data_set(toy):
    (toy / "toys/vi/1 é.png").unlink()
    with pytest.raises(DatasetNotFound, match=r"1 of 8 files .* such as vi/1 é.png.*fetch toy"):
        load_dataset("toy", data_dir=toy)
    assert len(load_dataset("toy", data_dir=toy, limit=1)) == 1


def test_where_data_are_found(toy, tmp_path, monkeypatch):
    assert find_data("toy", toy) == toy / "toys"
    monkeypatch.setenv("FUSIONLIB_DATA", str(toy))
    assert find_data("toy") == toy / "toys"
    assert find_data("toy", tmp_path / "absent") == toy / "toys"
    other = tmp_path / "other"
    (other / "toys").mkdir(parents=True)
    assert find_data("toy", other) == other / "toys"
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetNotFound) as caught:
        find_data("toy", tmp_path / "absent")
    repository = Path(datasets.__file__).resolve().parent.parent
    for words in (
        str(tmp_path / "absent/toys"),
        str(tmp_path / "nowhere/toys"),
        str(repository / "data/toys"),
        "fusionlib datasets fetch toy",
    ):
        assert words in str(caught.value)


def test_folders_without_list(toy, tmp_path):
    (tmp_path / "splits/big.csv").write_text(
        "# title: Big\n# kind: infrared-visible\n# folder: Big\n# home: https://big.example\n"
        "# remedy: Ask for it.\n# ir: test/ir\n# vis: test/vi\n# pairs: 2\n"
    )
    with pytest.raises(DatasetNotFound, match=r"https://big.example.*test/ir/NAME.*Ask for it\."):
        load_dataset("big", data_dir=toy)
    for k in range(2):
        save(toy / f"Big/test/ir/{k}.png", random((6, 5), k))
        save(toy / f"Big/test/vi/{k}.jpg", random((6, 5, 3), k))
    assert [pair.name for pair in load_dataset("big", data_dir=toy)] == ["0", "1"]
    save(toy / "Big/test/ir/2.png", random((6, 5)))
    save(toy / "Big/test/vi/2.png", random((6, 5)))
    with pytest.raises(DatasetNotFound, match=r"holds 3 pairs.*expected 2"):
        load_dataset("big", data_dir=toy)


def test_single_images(toy, tmp_path):
    save(toy / "pics/a.png", random((6, 5, 3)))
    (tmp_path / "splits/pics.csv").write_text(
        "# title: Pictures\n# kind: images\n# folder: pics\nname,image,image_sha256\n"
        f"a,a.png,{sha256(toy / 'pics/a.png')}\n"
    )
    ((name, image),) = load_images("pics", data_dir=toy)
    assert name == "a" and np.array_equal(image, random((6, 5, 3)) / np.float32(255))
    with pytest.raises(FusionError, match="load_images"):
        load_dataset("pics", data_dir=toy)
    with pytest.raises(FusionError, match="load_dataset"):
        load_images("toy", data_dir=toy)


@pytest.mark.parametrize("line", ["# colour: red", "# title", "# pairs: many"])
def test_bad_split_files(toy, tmp_path, line):
    head = "# title: T\n# kind: images\n# folder: f\n"
    (tmp_path / "splits/bad.csv").write_text(f"{head}{line}\n")
    with pytest.raises(FusionError, match=r"bad.csv: .*expected `# key: value`.*licence"):
        load_images("bad")
    (tmp_path / "splits/bad.csv").write_text("# title: T\n")
    with pytest.raises(FusionError, match="lacks folder, kind"):
        load_images("bad")


# ---------------------------------------------------------------- fetching


@pytest.fixture
def server(toy, tmp_path):
    """Serves the toy's pictures, and lists what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(toy / "toys"))

        def do_GET(self):
            asked.append(unquote(self.path).lstrip("/"))
            super().do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        split = tmp_path / "splits/toy.csv"
        address = f"http://127.0.0.1:{httpd.server_port}"
        split.write_text(split.read_text(encoding="utf-8").replace("URL", address), "utf-8")
        yield asked
        httpd.shutdown()


def test_fetch(toy, server, tmp_path, monkeypatch, capsys):
    home = tmp_path / "new home"
    monkeypatch.setenv("FUSIONLIB_DATA", str(home))
    folder = fetch_dataset("toy", progress=False)
    assert folder == home / "toys" and len(server) == 15  # 4 pairs, one without a mask
    assert capsys.readouterr() == ("", "")
    for mine, published in zip(load_dataset("toy"), load_dataset("toy", data_dir=toy), strict=True):
        assert np.array_equal(mine.vis, published.vis) and mine.boxes == published.boxes
    server.clear()
    (folder / "ir/2.png").unlink()  # an interrupted download
    (folder / "vi/1 é.png").write_bytes(b"half a fi")  # and a damaged file
    fetch_dataset("toy", data_dir=home, progress=True)
    assert sorted(server) == ["ir/2.png", "vi/1 é.png"]
    assert "toy" in capsys.readouterr().err  # the bar
    assert len(list(load_dataset("toy", data_dir=home))) == 4


def test_fetch_while_another_thread_makes_the_folder(toy, server, tmp_path, monkeypatch):
    makedirs = os.makedirs

    def just_made(path, mode=0o777, exist_ok=False):
        makedirs(path, mode, exist_ok=True)
        makedirs(path, mode, exist_ok)

    monkeypatch.setattr(os, "makedirs", just_made)
    folder = fetch_dataset("toy", data_dir=tmp_path / "home", progress=False)
    assert len(list(load_dataset("toy", data_dir=tmp_path / "home"))) == 4 and folder.is_dir()


def test_fetch_refuses_a_damaged_download(toy, server, tmp_path):
    save(toy / "toys/ir/1.png", random((20, 30), 99))
    home = tmp_path / "home"
    with pytest.raises(DatasetNotFound, match=r"ir/1.png could not be fetched from http.*hash"):
        fetch_dataset("toy", data_dir=home, progress=False)
    assert not (home / "toys/ir/1.png").exists()
    assert not [file for file in home.rglob("*") if "tmp" in file.name]


def test_fetch_when_the_address_is_dead(toy, server, tmp_path):
    (toy / "toys/labels/3.txt").unlink()
    with pytest.raises(DatasetNotFound, match=r"labels/3.txt.*404.*https://example.org"):
        fetch_dataset("toy", data_dir=tmp_path / "home", progress=False)


def test_fetch_without_addresses(tmp_path):
    for name in ("tno42", "llvip"):
        with pytest.raises(DatasetNotFound) as caught:
            fetch_dataset(name, data_dir=tmp_path)
        assert "cannot be fetched" in str(caught.value) and str(tmp_path) in str(caught.value)
        assert "https://" in str(caught.value)
    with pytest.raises(DatasetNotFound, match="built in"):
        fetch_dataset("sample")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the registry as shipped


def shipped():
    return {path.stem: datasets._read_split(path) for path in package_data("splits").glob("*.csv")}


def test_shipped_counts():
    counts = {name: len(rows) for name, (_, rows) in shipped().items()}
    assert counts == {
        "tno20": 20,
        "tno42": 42,
        "msrs": 121,
        "msrs_train128": 1083,
        "m3fd": 1,
        "m3fd_detection": 4200,
        "roadscene": 50,
        "mri_ct": 20,
        "mri_pet": 15,
        "mri_spect": 20,
        "coco_val2017": 40,
        "coco_train2017": 20,
        "published_tno20_jsr": 20,
        "published_tno20_jsrsd": 20,
        "published_tno20_rfn_nest": 20,
        "published_tno42_rfn_nest": 42,
        "llvip": 0,
        "msrs361": 0,
        "m3fd300": 0,
    }


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_lists_are_sound(name):
    card, rows = shipped()[name]
    assert card.kind in ("infrared-visible", "medical", "images")
    assert card.title and card.about and card.home.startswith("https://")
    assert card.reference != "not stated"
    assert not Path(card.folder).is_absolute() and ".." not in card.folder
    assert len({row["name"] for row in rows}) == len(rows)
    files = datasets._files(card, rows)
    assert len({file for file, _, _ in files}) == len(files)
    needed = {"image"} if card.kind == "images" else {"ir", "vis"}
    for row in rows:
        assert all(row[role] for role in needed) and None not in row and None not in row.values()
        assert all(Path(row[role]).stem == row["name"] for role in ROLES if row.get(role))
    hashes = {digest for _, digest, _ in files}
    assert hashes == {""} or all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
    assert hashes != {""} or "not verified" in card.about
    for file, _, url in files:
        assert not file.startswith("/") and ".." not in file
        assert not url or (
            url.startswith("https://raw.githubusercontent.com/") and " " not in url
            and Path(url).suffix == Path(file).suffix
        )  # fmt: skip
    assert rows or card.remedy
    if rows and not datasets._fetchable(card, rows):
        assert card.remedy


def test_addresses():
    card, rows = shipped()["tno20"]
    assert datasets._files(card, rows)[1][0::2] == (
        "vi/01.png",
        "https://raw.githubusercontent.com/hli1221/imagefusion_deeplearning/"
        + card.urls["vis"].split("/")[5] + "/IV_images/VIS1.png",
    )  # fmt: skip
    fetchable = {name for name, entry in shipped().items() if datasets._fetchable(*entry)}
    others = {name for name in set(shipped()) - fetchable if not name.startswith("published")}
    assert others == {"tno42", "llvip", "msrs361", "m3fd300", "m3fd_detection"}


def test_list_datasets(tmp_path):
    frame = list_datasets(tmp_path).set_index("name")
    assert set(frame.index) == {*shipped(), *SAMPLES, "sample_images"}
    assert list(frame.columns) == ["title", "kind", "pairs", "licence", "found", "home"]
    assert frame.loc["tno20", "licence"] == "CC BY 4.0" and frame.loc["msrs", "pairs"] == 121
    assert frame.loc["tno20", "found"] == "no" and frame.loc["sample", "found"] == "built in"
    (tmp_path / "tno20").mkdir()
    assert list_datasets(tmp_path).set_index("name").loc["tno20", "found"] == str(
        tmp_path / "tno20"
    )


def test_unknown_names():
    for function in (load_dataset, load_images, find_data, fetch_dataset):
        with pytest.raises(UnknownName, match=r"unknown data set 'tno21'. Did you mean 'tno"):
            function("tno21")
    with pytest.raises(UnknownName, match="'coco_val2017'"):
        load_dataset("coco")
    with pytest.raises(DatasetNotFound, match="built in"):
        find_data("sample")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name):
    pairs = load_dataset(name)
    assert len(pairs) >= 3 and len(set(pairs.names)) == len(pairs)
    assert load_dataset(name, limit=1).names == pairs.names[:1]
    for index in (0, 1, len(pairs) - 1):  # not all: rendering takes a while
        pair = pairs[index]
        assert pair.name == pairs.names[index] and pair.source and pair.ir.dtype == np.float32
        assert pairs[index] is pair  # rendered once
    if name == "sample":
        assert pairs[0].mask.any() and pairs[0].boxes and pairs.names[-1] == "s2"
    if name in ("sample_mri_pet", "sample_mri_spect"):
        assert all(pair.colour for pair in pairs)


def test_sample_images():
    images = load_images("sample_images")
    assert len(images) > 5 and images[0][0] == images.names[0] == "astronaut"
    assert {image.ndim for _, image in images} == {2, 3}
    with pytest.raises(DatasetNotFound, match="load_images"):
        find_data("sample_images")


def test_package_data():
    assert (package_data("splits") / "tno20.csv").is_file()
    with pytest.raises(FusionError, match=r"absent.*install"):
        package_data("absent")


def test_import_is_light():
    code = (
        "import sys, fusionlib.datasets, fusionlib.images;"
        "heavy = {'torch', 'pooch', 'pandas', 'scipy', 'skimage', 'cv2', 'tifffile', 'tqdm'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(datasets.__file__).resolve().parent.parent
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


# ---------------------------------------------------------------- real data


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "size", "colour"),
    [
        ("tno20", None, False),
        ("tno42", None, False),
        ("msrs", (480, 640), True),
        ("msrs_train128", (128, 128), True),
        ("m3fd", (768, 1024), True),
        ("roadscene", None, True),
        ("mri_ct", (256, 256), False),
        ("mri_pet", (256, 256), True),
        ("mri_spect", (256, 256), True),
    ],
)
def test_real_pairs(data_root, name, size, colour):
    pairs = load_dataset(name, data_dir=data_root)
    for pair in pairs[:: max(1, len(pairs) // 20)]:
        assert pair.ir.ndim == 2 and pair.colour == colour
        assert size is None or pair.ir.shape == size
        assert (pair.boxes is not None) == name.startswith("msrs")
        for box in pair.boxes or ():
            assert isinstance(box, Box) and box.label in ("person", "bicycle", "car")
            height, width = pair.ir.shape
            assert -1 < box.x0 < box.x1 < width + 1 and -1 < box.y0 < box.y1 < height + 1


@pytest.mark.realdata
def test_real_masks(data_root):
    pairs = list(load_dataset("tno42", data_dir=data_root))
    assert sum(pair.mask is not None for pair in pairs) == 20
    for pair in pairs:
        if pair.mask is not None:  # a target is warm
            assert pair.ir[pair.mask].mean() > pair.ir[~pair.mask].mean()


@pytest.mark.realdata
def test_real_images(data_root):
    for name, count in (("coco_val2017", 40), ("coco_train2017", 20)):
        items = dict(load_images(name, data_dir=data_root))
        assert len(items) == count
    assert items["000000000086"].ndim == 2  # the gray one that Res2NetFuse is trained on
