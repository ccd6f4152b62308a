"""parity: files made from our own network pass, disturbed ones fail, others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusionlib.methods import create
from tests import parity

SYSTEM = "res2netfuse_1_released_coco86"


def reference(size=(23, 30)):
    """What the authors' code would have written: our own outputs, as (H, W)."""
    generator = np.random.default_rng(0)
    ir, vis = generator.integers(0, 256, (2, *size)).astype(np.float32)
    method = create("res2netfuse")
    raw = method.raw(ir / np.float32(255), vis / np.float32(255))
    return {
        "ir": ir,
        "vis": vis,
        "fused": raw,
        "fused_u8": np.rint(method.finish(raw) * 255).astype(np.uint8),
        "fused_add": create("res2netfuse", rule="addition").raw(ir / 255, vis / 255),
        "recon_ir": method.raw_reconstruction(ir / 255),
        "notes": np.array("any text"),
    }


@pytest.fixture
def check(tmp_path):
    def check(arrays, system=SYSTEM):
        path = tmp_path / "reference.npz"
        np.savez(path, **arrays)
        return parity.main([system, str(path)])

    return check


@pytest.mark.parametrize("size, layout", [((23, 30), "HW"), ((7, 5), "NHWC"), ((1, 1), "NCHW")])
def test_our_own_output_passes(check, size, layout, capsys):
    index = {"HW": ..., "NCHW": (None, None), "NHWC": (None, ..., None)}[layout]
    arrays = reference(size)
    for key in ("ir", "vis", "fused", "fused_add", "recon_ir"):
        arrays[key] = arrays[key][index]
    assert check(arrays) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["fused:", "fused_add:", "recon_ir:", "fused_u8:"]
    assert check({key: arrays[key] for key in ("ir", "vis", "fused")}) == 0


@pytest.mark.parametrize("key", ["fused", "fused_add", "recon_ir"])
@pytest.mark.parametrize("error, status", [(0.9e-4, 0), (1.1e-4, 1)])
def test_one_pixel_off(check, key, error, status, capsys):
    arrays = reference()
    arrays[key] = arrays[key].astype(np.float64)
    arrays[key][5, 6] += error * np.ptp(arrays[key]) * (1 if arrays[key][5, 6] < 99 else -1)
    assert check(arrays) == status
    assert f"{key}: largest error {error:.2e}"[:-5] in capsys.readouterr().out


@pytest.mark.parametrize(
    "post, pixels, levels, status",
    [
        *(("clip", 1, 1, 0), ("clip", 2, 1, 1), ("clip", 1, 2, 1)),
        *(("clahe", 1023, 1, 0), ("clahe", 1, 3, 0), ("clahe", 2, 2, 1)),
    ],
)
def test_8_bit_pixels_off(check, post, pixels, levels, status, monkeypatch, capsys):
    """Of 31 x 33 = 1023 pixels one may differ, by one level; after CLAHE, by more than one."""
    method = create("res2netfuse", post=post)
    monkeypatch.setattr(parity, "load", lambda *_, **__: method)
    arrays = {key: reference((31, 33))[key] for key in ("ir", "vis", "fused")}
    saved = np.rint(method.finish(arrays["fused"]) * 255).astype(int).ravel()
    saved[:pixels] += np.where(saved[:pixels] < 99, levels, -levels)
    assert check(arrays | {"fused_u8": saved.reshape(31, 33)}) == status
    by_more = " by more than 1 (" if post == "clahe" else " ("
    assert f"of the pixels differ{by_more}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vis": None}, "lacks vis"),
        ({"fused": None, "ir": None}, "lacks ir, fused"),
        ({"fused": np.zeros((3, 4))}, "one size"),
        ({"ir": np.zeros((1, 3, 23, 30))}, "expected one gray image"),
        ({"ir": np.full((23, 30), 256.0)}, "expected floats in"),
        ({"vis_rgb": np.ones(())}, "vis_rgb is"),
        ({"vis_rgb": np.ones((3, 4, 7)), "fused_u8": np.ones((23, 30, 3))}, "vis_rgb is"),
        ({"fused_u8": np.ones((3, 30, 3))}, "vis_rgb is"),
    ],
)
def test_unusable_content(check, change, message, capsys):
    arrays = {key: value for key, value in (reference() | change).items() if value is not None}
    assert check(arrays) == 2
    out, err = capsys.readouterr()
    assert not out and message in err and err.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no zip", b"\x93NUMPY", np.zeros(3)])
def test_unreadable_file(tmp_path, content, capsys):
    path = tmp_path / "reference.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:  # a single array is no archive
        with path.open("wb") as file:
            np.save(file, content)
    assert parity.main([SYSTEM, str(path)]) == 2
    assert f"{path} is not a readable .npz file" in capsys.readouterr().err


def test_wrong_words(check, capsys):
    assert check(reference(), "densfuse") == 2
    assert "unknown system 'densfuse'. Did you mean 'densefuse'" in capsys.readouterr().err
    assert parity.main(["densefuse"]) == 2
    assert "usage: python -m tests.parity" in capsys.readouterr().err


def classical_reference(name, size):
    """Our own output in the authors' levels, with the dictionary that it needs."""
    atoms = np.random.default_rng(0).random((49, 256))
    extra = {"dictionary": atoms / np.linalg.norm(atoms, axis=0)} if name != "dchwt" else {}
    method = parity.load(name, Path(), dictionary=extra.get("dictionary"))
    white = method.levels.white
    ir, vis = np.random.default_rng(1).integers(0, 256, (2, *size)) / 255 * white
    raw = method.raw(*((image / white).astype(np.float32) for image in (ir, vis)))
    return {"ir": ir, "vis": vis, "fused": raw} | extra


@pytest.mark.parametrize("name", ["dchwt", "jsr", "jsrsd"])
def test_classical_methods(check, name, capsys):
    arrays = classical_reference(name, (13, 18))
    assert check(arrays, name) == 0
    allowed = {"dchwt": 1e-6}.get(name, 1e-4)
    for error, status in ((0.9, 0), (1.1, 1)):
        disturbed = arrays["fused"].copy()
        disturbed[5, 6] += error * allowed * np.ptp(disturbed)
        assert check(arrays | {"fused": disturbed}, name) == status
    assert f"({allowed:g} allowed)" in capsys.readouterr().out
    if "dictionary" in arrays:
        assert check(arrays | {"dictionary": arrays["dictionary"].T}, name) == 2
        assert "the dictionary has the shape (256, 49), expected (49" in capsys.readouterr().err


def test_networks_whose_weights_follow_a_recipe(check, capsys):
    """EMMA at a size that it cannot take as it is, under the weights of `tests.recipe`."""
    method = parity.load("emma", Path())
    ir, vis = np.random.default_rng(0).random((2, 41, 50), np.float32)
    arrays = {"ir": ir, "vis": vis, "fused": method.raw(ir, vis)}
    assert check(arrays, "emma_recipe") == 0
    arrays["fused"][3, 4] += 0.1
    assert check(arrays, "emma") == 1
    assert "emma fused: largest error" in capsys.readouterr().out


def test_sources_with_padding_and_colour(tmp_path):
    """Equal borders are cut from sources; an image saved as RGB is compared as RGB."""
    gray = np.arange(35.0).reshape(5, 7)
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3))
    padded = np.pad(gray, 6, mode="edge")[None, ..., None]
    np.savez(tmp_path / "x.npz", ir=padded, vis=padded, fused=gray, fused_u8=colour)
    arrays = parity.read(str(tmp_path / "x.npz"))
    assert np.array_equal(arrays["ir"], gray) and np.array_equal(arrays["vis"], gray)
    assert np.array_equal(arrays["vis_rgb"], np.dstack([gray] * 3))
    assert np.array_equal(arrays["fused_u8"], colour)
    for rgb in (colour, np.moveaxis(colour, 2, 0), np.moveaxis(colour, 2, 0)[None]):
        np.savez(tmp_path / "x.npz", ir=gray, vis=gray, fused=gray, fused_u8=colour, vis_rgb=rgb)
        assert np.array_equal(parity.read(str(tmp_path / "x.npz"))["vis_rgb"], colour)


def test_random_weights_that_are_nowhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parity, "places", lambda: [tmp_path / "weights"])
    monkeypatch.setattr(parity, "__file__", str(tmp_path / "a" / "b" / "parity.py"))
    np.savez(tmp_path / "x.npz", **{key: np.zeros((4, 4)) for key in ("ir", "vis", "fused")})
    assert parity.main(["fusiongan_random", str(tmp_path / "x.npz")]) == 2
    assert "fusiongan_random.safetensors is in none of" in capsys.readouterr().err


SYSTEMS = [
    *("densefuse", "densefuse_tf_1e2", "msdnet", "lrrnet", "seafusion", "u2fusion", "sdnet_irvis"),
    *("mufusion_tno", "mufusion_roadscene", "mufusion_medical", "cufd", "atgan"),
    *("rfn_nest_recipe", "cddfuse_recipe", "emma_recipe", "swinfusion_recipe", "aefusion_recipe"),
    "fusiongan_random",
    *("dchwt", "jsr", "jsrsd"),
]


@pytest.mark.realdata
@pytest.mark.parametrize("system", SYSTEMS)
def test_authors_files(golden_root, weights_root, system):
    assert parity.main([system, str(golden_root / "networks" / f"{system}.npz")]) == 0
