"""datasets: the registry, finding, reading, verifying, fetching."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionlib import datasets
from fusionlib.datasets import (
    dataset_parts,
    fetch_dataset,
    find_data,
    list_datasets,
    load_dataset,
    load_images,
    package_data,
)
from fusionlib.errors import DatasetNotFound, FusionError, UnknownName
from fusionlib.pairs import Box, Dataset, pixel_hash
from tests.web import serve

ROLES = ("ir", "vis", "image", "mask", "labels")


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


# ---------------------------------------------------------------- a data set of our own


TOY = """\
# title: A toy
# kind: infrared-visible
# folder: toys
# home: https://example.org: the home
# classes: person, bicycle, car
# ir_url: URL/ir/
# vis_url: URL/vi/
# mask_url: URL/
# labels_url: URL/
name,ir,ir_sha256,ir_url,vis,vis_sha256,vis_url,mask,mask_sha256,mask_url,labels,labels_sha256,\
labels_url
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Registers "toy" by one file, and makes its pictures below tmp_path/data."""
    data, lines = tmp_path / "data", []
    for k in range(4):
        ir, vis = random((20, 30), k), random((20, 30, 3), 10 + k)
        labels = data / f"toys/labels/{k}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("" if k else "2  0.5 0.25 0.2 0.5  \n0 0.1 0.9 0.2 0.2\n")
        files = {
            save(data / f"toys/ir/{k}.png", ir): f"{k}.png",
            save(data / f"toys/vi/{k} é.png", vis): f"{k}%20%C3%A9.png",
            save(data / f"toys/mask/{k}.png", np.uint8(255) * (ir > 200)): f"mask/{k}.png",
            labels: f"labels/{k}.txt",
        }
        row = [f"{f.relative_to(data / 'toys')},{sha256(f)},{url}" for f, url in files.items()]
        if k == 3:
            row[2] = ",,"  # no mask
        lines.append(",".join([str(k), *row]))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/toy.csv").write_text(TOY + "\n".join(lines) + "\n", encoding="utf-8")
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
    assert np.allclose([box[1:] for box in pair.boxes], [(12, 0, 18, 10), (0, 16, 6, 20)])
    assert pairs[1].boxes == () and pairs[3].mask is None and pair.source == "A toy"
    (toy / "toys/ir/2.png").unlink()  # each is read when it is asked for
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
    assert load_dataset("toy", data_dir=toy, limit=1).names == ("0",)
    for limit in (0, -1):
        with pytest.raises(FusionError, match=f"limit is {limit}"):
            load_dataset("toy", data_dir=toy, limit=limit)


def test_where_data_are_found(toy, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "toys").mkdir(parents=True)
    monkeypatch.setenv("FUSIONLIB_DATA", str(toy))
    assert find_data("toy") == find_data("toy", tmp_path / "absent") == toy / "toys"
    assert find_data("toy", other) == other / "toys"
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetNotFound, match="fusionlib datasets fetch toy") as caught:
        find_data("toy", tmp_path / "absent")
    repository = Path(datasets.__file__).resolve().parent.parent
    for place in (tmp_path / "absent", tmp_path / "nowhere", repository / "data"):
        assert str(place / "toys") in str(caught.value)


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


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("# colour: red", "lines of colour, expected `# key: value`.*licence"),
        ("# pairs: many", "lines of pairs, .*pairs is a number"),
        ("# title: T", "lacks kind, folder"),
        ("# title", "lacks title"),
    ],
)
def test_bad_split_files(toy, tmp_path, header, words):
    (tmp_path / "splits/bad.csv").write_text(f"{header}\n")
    with pytest.raises(FusionError, match=f"bad.csv: .*{words}"):
        load_images("bad")


# ---------------------------------------------------------------- fetching


@pytest.fixture
def web(toy, tmp_path):
    """Serves the toy's files."""
    with serve() as web:
        for file in (toy / "toys").rglob("*.*"):
            web.put(file.relative_to(toy / "toys").as_posix(), file.read_bytes())
        split = tmp_path / "splits/toy.csv"
        split.write_text(split.read_text(encoding="utf-8").replace("URL", web.address), "utf-8")
        yield web


def test_fetch(toy, web, tmp_path, monkeypatch, capsys):
    home = tmp_path / "new home"
    monkeypatch.setenv("FUSIONLIB_DATA", str(home))
    folder = fetch_dataset("toy", progress=False)
    assert folder == home / "toys" and len(web.asked) == 15  # 4 pairs, one without a mask
    assert capsys.readouterr() == ("", "")
    for mine, published in zip(load_dataset("toy"), load_dataset("toy", data_dir=toy), strict=True):
        assert np.array_equal(mine.vis, published.vis) and mine.boxes == published.boxes
    web.asked.clear()
    (folder / "ir/2.png").unlink()  # an interrupted download
    (folder / "vi/1 é.png").write_bytes(b"half a fi")  # and a damaged file
    fetch_dataset("toy", data_dir=home, progress=True)
    assert sorted(web.asked) == ["ir/2.png", "vi/1 é.png"]
    assert "toy" in capsys.readouterr().err  # the bar
    assert len(list(load_dataset("toy", data_dir=home))) == 4


def test_fetch_while_another_thread_makes_the_folder(toy, web, tmp_path, monkeypatch):
    makedirs = os.makedirs

    def just_made(path, mode=0o777, exist_ok=False):
        makedirs(path, mode, exist_ok=True)
        makedirs(path, mode, exist_ok)

    monkeypatch.setattr(os, "makedirs", just_made)
    fetch_dataset("toy", data_dir=tmp_path / "home", progress=False)


def test_fetch_refuses_a_damaged_download_and_a_dead_address(toy, web, tmp_path):
    home = tmp_path / "home"
    web.put("ir/1.png", b"another")
    with pytest.raises(DatasetNotFound, match=r"ir/1.png could not be fetched from http.*hash"):
        fetch_dataset("toy", data_dir=home, progress=False)
    assert not (home / "toys/ir/1.png").exists()
    assert not [file for file in home.rglob("*") if "tmp" in file.name]
    web.put("ir/1.png", (toy / "toys/ir/1.png").read_bytes())
    split = tmp_path / "splits/toy.csv"
    split.write_text(
        split.read_text(encoding="utf-8").replace(",labels/3.txt\n", ",gone.txt\n"), "utf-8"
    )
    with pytest.raises(DatasetNotFound, match=r"labels/3.txt.*404.*https://example.org"):
        fetch_dataset("toy", data_dir=tmp_path / "other", progress=False)


def test_fetch_without_addresses(tmp_path):
    for name in ("tno42", "llvip"):
        with pytest.raises(DatasetNotFound) as caught:
            fetch_dataset(name, data_dir=tmp_path)
        assert "cannot be fetched" in str(caught.value) and str(tmp_path) in str(caught.value)
        assert "https://" in str(caught.value)
    with pytest.raises(DatasetNotFound, match=r"built in.*`load_dataset\('sample'\)`"):
        fetch_dataset("sample")
    with pytest.raises(DatasetNotFound, match=r"`load_images\('sample_images'\)`"):
        fetch_dataset("sample_images")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the registry as shipped


def shipped():
    return {path.stem: datasets._read_split(path) for path in package_data("splits").glob("*.csv")}


def test_shipped_counts():
    counts = {name: len(split.rows) for name, split in shipped().items() if split.rows}
    assert counts == {
        "sample": 17, "sample_mri_ct": 3, "sample_mri_pet": 3, "sample_mri_spect": 3,
        "sample_images": 11, "tno20": 20, "tno42": 42, "roadscene": 50, "msrs": 121,
        "msrs_train128": 1083, "m3fd": 1, "m3fd_detection": 4200, "mri_ct": 20, "mri_pet": 15,
        "mri_spect": 20, "coco_val2017": 40, "coco_train2017": 20, "published_tno20_jsr": 20,
        "published_tno20_jsrsd": 20, "published_tno20_rfn_nest": 20,
        "published_tno42_rfn_nest": 42,
    }  # fmt: skip
    assert set(shipped()) - set(counts) == {"llvip", "msrs361", "m3fd300"}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_lists_are_sound(name):
    split = shipped()[name]
    card, rows, files = split.card, split.rows, split.files()
    assert card.kind in ("infrared-visible", "medical", "images")
    assert card.title and card.about and card.licence
    assert not Path(card.folder).is_absolute() and ".." not in card.folder
    assert len({row["name"] for row in rows}) == len(rows)
    assert len({file for file, _, _ in files}) == len(files)
    needed = {"image"} if card.kind == "images" else {"ir", "vis"}
    for row in rows:
        assert None not in row and None not in row.values()
        assert all(row[role] for role in needed) or row["name"] == "s2"
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
    if not card.package:
        assert card.home.startswith("https://") and card.reference != "not stated"
        assert (rows and split.fetchable()) or card.remedy


def test_addresses():
    file, _, url = shipped()["tno20"].files()[1]
    home = "https://raw.githubusercontent.com/hli1221/imagefusion_deeplearning/"
    assert file == "vi/01.png" and url.startswith(home) and url.endswith("/IV_images/VIS1.png")
    by_hand = {name for name, split in shipped().items() if not split.fetchable()}
    assert {name for name in by_hand if not name.startswith(("published", "sample"))} == {
        "tno42", "llvip", "msrs361", "m3fd300", "m3fd_detection",
    }  # fmt: skip


def test_list_datasets(tmp_path):
    (tmp_path / "msrs_test").mkdir()
    frame = list_datasets(tmp_path).set_index("name")
    assert set(frame.index) == set(shipped()) and frame.index[0] == "sample"
    assert list(frame.columns) == ["title", "kind", "pairs", "licence", "found", "home"]
    assert frame.loc["tno20", "licence"] == "CC BY 4.0" and frame.loc["msrs", "pairs"] == 121
    found = {"tno20": "no", "sample": "built in", "msrs": str(tmp_path / "msrs_test")}
    assert frame.loc[[*found], "found"].to_dict() == found


def test_parts_of_a_data_set():
    parts = dataset_parts("m3fd_detection")
    assert len(parts) == 4200 and set(parts.values()) == {"train", "val", "test"}
    assert dataset_parts("msrs") == dataset_parts("sample") == {}


def test_unknown_names():
    for function in (load_dataset, load_images, find_data, fetch_dataset, dataset_parts):
        with pytest.raises(UnknownName, match=r"unknown data set 'tno21'. Did you mean 'tno"):
            function("tno21")
    with pytest.raises(UnknownName, match="'coco_val2017'"):
        load_dataset("coco")


def test_package_data():
    with pytest.raises(FusionError, match=r"absent.*install"):
        package_data("absent")


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
