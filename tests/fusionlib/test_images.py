"""images: files written by Pillow, OpenCV and tifffile are read back; bad input is refused."""

from __future__ import annotations

import io
import itertools
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps
from skimage import color

from fusionlib import images
from fusionlib.errors import CannotWrite, FusionError, ImageError
from fusionlib.images import (
    check_image,
    collapse_gray,
    luminance,
    merge_luminance,
    quantise,
    read_image,
    require_gray,
    rgb_to_ycbcr,
    write_image,
    ycbcr_to_rgb,
)

SIZES = [(1, 1), (7, 5), (33, 46)]


def random(shape, dtype=np.uint8, seed=0):
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, high, shape, dtype=dtype)


def smooth(shape=(61, 83, 3)):
    """A picture that lossy formats keep well."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    planes = [127 + 100 * np.sin(x / 9 + k) * np.cos(y / 7 - k) for k in range(3)]
    image = np.stack(planes, axis=-1).round().astype(np.uint8)
    return image if len(shape) == 3 else image[..., 0]


def saved(pixels, kind, mode=None, **options):
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, colour, *, bits=16, extra=b"", size=None):
    """A PNG encoder of our own, for what Pillow cannot write."""
    height, width = size or pixels.shape[:2]
    rows = pixels.astype(">u2" if bits == 16 else "u1")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def read(tmp_path):
    """Read bytes through a file of the given name."""

    def read(data, name="image.bin"):
        path = tmp_path / name
        path.write_bytes(data)
        image = read_image(path)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        return image

    return read


def scaled(pixels):
    peak = np.iinfo(pixels.dtype).max
    return (pixels.astype(np.float64) / peak).astype(np.float32)


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_lossless_8_bit(read, kind, size, channels):
    pixels = random((*size, *channels))
    image = collapse_gray(read(saved(pixels, kind, lossless=True)))  # WebP knows no gray
    assert np.array_equal(image, collapse_gray(scaled(pixels)))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("shape", [(61, 83), (61, 83, 3)])
def test_jpeg(read, shape, progressive):
    data = saved(smooth(shape), "JPEG", quality=95, progressive=progressive)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    expected = expected[..., ::-1] if len(shape) == 3 else expected
    image = read(data)
    assert image.shape == shape
    assert np.abs(image - scaled(expected)).max() <= 2 / 255  # decoders differ by a level


def test_cmyk_jpeg(read):
    rgb = smooth()
    data = saved(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read(data) - scaled(rgb)).mean() < 0.02


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("writer", ["cv2.png", "cv2.tif", "tifffile", "zlib", "planar", "tiled"])
def test_16_bit(read, size, channels, writer):
    pixels = random((*size, *channels), np.uint16)
    photometric = "rgb" if channels else "minisblack"
    if writer.startswith("cv2"):  # OpenCV compresses TIFF by LZW
        bgr = pixels[..., ::-1] if channels else pixels
        data = cv2.imencode(writer[3:], bgr)[1].tobytes()
    elif writer == "planar":
        stored = np.moveaxis(pixels, -1, 0).copy() if channels else pixels
        data = tiff(stored, photometric=photometric, planarconfig="separate" if channels else None)
    else:
        options = {"zlib": {"compression": "zlib"}, "tiled": {"tile": (16, 16)}}
        data = tiff(pixels, photometric=photometric, **options.get(writer, {}))
    image = read(data)
    assert np.array_equal(image, scaled(pixels))


def test_16_bit_lzw_alpha_and_white_is_zero(read):
    """By OpenCV, which declares no alpha; the other by editing the tag (262) it wrote."""
    pixels = random((7, 5, 4), np.uint16)
    gray = pixels[..., 0]
    assert np.array_equal(read(tiff(gray, photometric="miniswhite")), scaled(65535 - gray))
    with pytest.warns(UserWarning, match="transparent"):
        image = read(cv2.imencode(".tif", pixels[..., [2, 1, 0, 3]])[1].tobytes())
    assert np.allclose(image, blend(scaled(pixels[..., :3]), scaled(pixels[..., 3])), atol=1e-6)
    data = cv2.imencode(".tif", gray)[1].tobytes()
    at = tag_offset(data, 262)
    data = data[: at + 8] + bytes(4) + data[at + 12 :]
    assert np.array_equal(read(data), scaled(65535 - gray))


def test_every_16_bit_value_is_exact(read):
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(read(png(pixels, 0)), scaled(pixels))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_float_tiff(read, dtype, channels):
    pixels = np.random.default_rng(1).random((7, 5, *channels)).astype(dtype)
    data = tiff(pixels, photometric="rgb" if channels else "minisblack")
    assert np.array_equal(read(data), pixels.astype(np.float32))
    assert read(tiff(np.full((4, 4), 1 + 5e-7))).max() == 1


def test_palette_1_bit_and_low_depths(read):
    rgb = smooth()
    palette = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    expected = scaled(np.asarray(palette.convert("RGB")))
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(read(saved(palette, kind)), expected)
    bits = rgb[..., 0] > 128
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(read(saved(bits, kind)), bits.astype(np.float32))
    four = np.array([[0x0F, 0x73]], np.uint8)  # four pixels of 4 bits: 0 15 7 3
    expected = np.float32([[0, 15, 7, 3]]) / np.float32(15)
    assert np.allclose(read(png(four, 0, bits=4, size=(1, 4))), expected, atol=1e-7)


def blend(colour, alpha):
    return colour * (alpha if colour.ndim == 2 else alpha[..., None])


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        *itertools.product(["PNG", "TIFF", "PNG 16", "TIFF 16", "TIFF associated"], [2, 4]),
        ("WEBP", 4),
    ],
)
def test_alpha(read, kind, channels):
    dtype = np.uint16 if "16" in kind or "associated" in kind else np.uint8
    pixels = random((7, 5, channels), dtype)
    opaque = pixels.copy()
    opaque[..., -1] = np.iinfo(dtype).max

    def encoded(pixels):
        if kind == "PNG 16":
            return png(pixels, 4 if channels == 2 else 6)
        if dtype == np.uint16:
            photometric = "minisblack" if channels == 2 else "rgb"
            extra = "assocalpha" if "associated" in kind else "unassalpha"
            return tiff(
                pixels, photometric=photometric, extrasamples=[extra], planarconfig="contig"
            )
        exact = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        return saved(pixels, kind, **exact)

    colour = scaled(pixels[..., 0] if channels == 2 else pixels[..., :3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(encoded(opaque)), colour)
    if "associated" in kind:  # multiplied in already
        assert np.array_equal(read(encoded(pixels)), colour)
        return
    with pytest.warns(UserWarning, match=r"35 pixels are transparent; .* over black"):
        image = read(encoded(pixels))
    assert np.allclose(image, blend(colour, scaled(pixels[..., -1])), atol=1e-6)


def test_transparent_palette_and_colour_keys(read):
    palette = Image.fromarray(smooth()).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    clear = np.asarray(palette) == 3
    expected = scaled(np.asarray(palette.convert("RGB"))) * ~clear[..., None]
    with pytest.warns(UserWarning, match="transparent"):
        assert np.array_equal(read(saved(palette, "PNG", transparency=3)), expected)
    gray = random((7, 5), np.uint16)
    gray[2, 3] = 1000
    data = png(gray, 0, extra=chunk(b"tRNS", struct.pack(">H", 1000)))
    with pytest.warns(UserWarning, match="transparent"):
        assert np.array_equal(read(data), scaled(np.where(gray == 1000, 0, gray).astype(np.uint16)))
    rgb = random((7, 5, 3), np.uint16)
    data = png(rgb, 2, extra=chunk(b"tRNS", struct.pack(">HHH", *rgb[1, 1])))
    expected = scaled(rgb)
    expected[1, 1] = 0
    with pytest.warns(UserWarning, match="1 of 35 pixels are transparent"):
        assert np.array_equal(read(data), expected)


def turned(pixels, orientation):
    """Pillow is the oracle; it turns 16 bits a byte at a time."""
    exif = Image.Exif()
    exif[0x0112] = orientation

    def turn(byte):
        picture = Image.open(io.BytesIO(saved(byte.astype(np.uint8), "PNG", exif=exif)))
        return np.asarray(ImageOps.exif_transpose(picture)).astype(pixels.dtype)

    return turn(pixels) if pixels.dtype == np.uint8 else 256 * turn(pixels >> 8) + turn(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "PNG 16", "TIFF 16", "TIFF LZW"])
def test_orientation(read, kind, orientation):
    stored = random((6, 4, 3), np.uint16 if kind.endswith(("16", "LZW")) else np.uint8)
    if kind == "JPEG":
        stored = smooth()
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "PNG 16":
        data = png(stored, 2, extra=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    elif kind == "TIFF LZW":
        data = cv2.imencode(".tif", stored[..., ::-1])[1].tobytes()
        data = with_orientation(data, orientation)
    elif kind.startswith("TIFF"):
        tag = [(0x0112, "H", 1, orientation, True)]
        data = tiff(stored, photometric="rgb", extratags=tag)
    else:
        options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
        data = saved(stored, kind, exif=exif, **options.get(kind, {}))
    far = np.abs(read(data) - scaled(turned(stored, orientation)))
    assert far.max() <= (8 / 255 if kind == "JPEG" else 0)


def with_orientation(data, orientation):
    """Write the tag Orientation over one that these files do not need."""
    at = tag_offset(data, 339)  # SampleFormat; unsigned integers are the default
    return data[:at] + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + data[at + 12 :]


def tag_offset(data, code):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.byteorder == "<"
        return file.pages[0].tags[code].offset


def test_suffix_does_not_matter_and_paths_may_be_text(tmp_path):
    pixels = np.repeat(random((7, 5, 1)), 3, axis=2)  # gray stored as RGB stays RGB
    path = tmp_path / "Ünïcode ➜.jpg"
    path.write_bytes(saved(pixels, "PNG"))
    assert np.array_equal(read_image(str(path)), scaled(pixels))


# ---------------------------------------------------------------- refusing


def whole_files():
    rgb = smooth()
    deep = rgb.astype(np.uint16) * 257
    yield "png", saved(rgb, "PNG")
    yield "png gray", saved(rgb[..., 0], "PNG")
    yield "png 16", png(deep, 2)
    yield "jpeg", saved(rgb, "JPEG")
    yield "jpeg gray", saved(rgb[..., 0], "JPEG")
    yield "jpeg progressive", saved(rgb, "JPEG", progressive=True)
    yield "bmp", saved(np.repeat(rgb, 4, axis=1), "BMP")  # rows without padding
    yield "webp", saved(rgb, "WEBP")
    yield "webp lossless", saved(rgb, "WEBP", lossless=True)
    yield "tiff", saved(rgb, "TIFF")
    yield "tiff lzw", saved(rgb, "TIFF", compression="tiff_lzw")
    yield "tiff 16", tiff(deep, photometric="rgb")
    yield "tiff 16 zlib", tiff(deep, photometric="rgb", compression="zlib", rowsperstrip=8)
    yield "tiff 16 lzw", cv2.imencode(".tif", deep)[1].tobytes()
    yield "tiff float", tiff(scaled(rgb), photometric="rgb")


FILES = dict(whole_files())


@pytest.mark.filterwarnings("ignore")  # Pillow warns of the damage before it fails
@pytest.mark.parametrize("kept", [0.001, 0.05, 0.3, 0.5, 0.8, 0.95, -100, -13, -1])
@pytest.mark.parametrize("kind", FILES)
def test_truncated(read, kind, kept):
    whole = FILES[kind]
    read(whole)
    cut = int(len(whole) * kept) if kept > 0 else kept
    with pytest.raises(ImageError, match=r"image\.bin: ") as caught:
        read(whole[: max(cut, 1) if kept > 0 else cut])
    assert "Download" in str(caught.value) or "Convert" in str(caught.value)


@settings(max_examples=150)
@given(kind=st.sampled_from(sorted(FILES)), where=st.floats(0, 1), noise=st.binary(max_size=40))
def test_damage_raises_nothing_else(kind, where, noise):
    """Overwritten bytes give an image or an ImageError, whatever the decoder raises."""
    whole = FILES[kind]
    at = int(where * len(whole))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            images.decode_image(whole[:at] + noise + whole[at + len(noise) :], "x")
        except ImageError as error:
            assert str(error).startswith("x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "error page"),
        (b"GIF89a" + bytes(50), "known format"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
    ],
)
def test_not_an_image(read, data, reason):
    with pytest.raises(ImageError, match=f"photo.png.*{reason}"):
        read(data, "photo.png")


def test_no_file(tmp_path):
    for path, words in (("absent", "no such file"), (".", "folder"), ("/dev/zero", "regular")):
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / path)


def bombs():
    yield "png", png(np.zeros((1, 1)), 0, bits=8, size=(100_000, 100_000))
    with tifffile.TiffFile(io.BytesIO(data := tiff(np.zeros((3, 3), np.uint8)))) as file:
        order, tags = file.byteorder, file.pages[0].tags
        for name in ("ImageWidth", "ImageLength"):
            at = tags[name].offset
            entry = struct.pack(order + "HHII", tags[name].code, 4, 1, 100_000)
            data = data[:at] + entry + data[at + 12 :]
    yield "tiff", data
    size = (16_383).to_bytes(3, "little") * 2  # the largest that WebP can claim, less one
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    webp = saved(np.zeros((8, 8), np.uint8), "WEBP", lossless=True)[12:]
    yield "webp", b"RIFF" + struct.pack("<I", 4 + len(chunk) + len(webp)) + b"WEBP" + chunk + webp


@pytest.mark.parametrize(("kind", "data"), list(bombs()), ids=lambda value: str(value)[:4])
def test_bomb(read, kind, data):
    """Refused by its header: decoding 10^10 pixels would not get as far as an assertion."""
    assert len(data) < 2000
    with pytest.raises(ImageError, match=r"at most|exceeds limit"):
        read(data)


def test_large_images_are_read_without_complaint(read, monkeypatch):
    """8192 x 8192 must pass; Pillow's warning of less than our limit must not be heard."""
    assert images.MAX_PIXELS > 8192 * 8192
    size = 61 * 83
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", size - 1)
    with warnings.catch_warnings(action="error"):
        for kind in ("png", "jpeg", "webp", "tiff", "png 16"):
            assert read(FILES[kind]).shape == (61, 83, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", size // 2 - 1)
    with pytest.raises(ImageError, match=r"exceeds limit.*raise `PIL\.Image\.MAX_IMAGE"):
        read(FILES["png"])
    monkeypatch.setattr(images, "MAX_PIXELS", 5000)
    with pytest.raises(ImageError, match="83x61 pixels, at most 5000"):
        read(FILES["tiff 16"])


def test_several_frames(read):
    frames = [Image.fromarray(random((8, 8, 3), seed=k)) for k in range(3)]
    for kind in ("TIFF", "PNG", "WEBP"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="3 frames or pages"):
            read(data)


def test_the_first_of_a_cameras_pictures(read):
    """A JPEG with a smaller copy behind it, as many phones and drones write it, is an MPO."""
    first, small = Image.fromarray(smooth()), Image.fromarray(smooth((20, 30, 3)))
    data = saved(first, "MPO", save_all=True, append_images=[small])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "MPO" and picture.n_frames == 2
        assert np.array_equal(read(data), scaled(np.asarray(picture)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.ones((4, 4), np.int32)), "int32"),
        (tiff(np.ones((4, 4, 4), np.uint16), photometric="separated"), "SEPARATED"),
        (tiff(np.full((4, 4), np.nan, np.float32)), "NaN"),
        (saved(Image.new("LAB", (4, 4)), "TIFF"), "LAB"),
    ],
)
def test_unsupported_content(read, data, reason):
    with pytest.raises(ImageError, match=reason):
        read(data)


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("thing", [[[0.5], [0.5, 0.5]], torch.ones(3, 3, requires_grad=True)])
def test_check_image_refuses_what_is_no_array(thing):
    with pytest.raises(ImageError, match="my picture: not an array"):
        check_image(thing, "my picture")


def test_check_image_scales():
    deep = random((5, 4), np.uint16)
    assert np.array_equal(check_image(deep), scaled(deep))
    assert np.array_equal(check_image(deep.astype(">u2")), scaled(deep))
    assert np.array_equal(check_image(random((5, 4, 3))), scaled(random((5, 4, 3))))
    assert check_image(random((5, 4, 1))).shape == (5, 4)
    ready = scaled(deep)
    assert check_image(ready) is ready
    for dtype in (np.float16, np.float64):
        checked = check_image(np.array([[0.5, -5e-7, 1.0]], dtype))
        assert checked.dtype == np.float32 and checked.tolist() == [[0.5, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4), 200.0), ["200", "[0, 1]", "255"]),
        (np.linspace(-1, 1, 16).reshape(4, 4), ["-1 to 1", "(image + 1) / 2"]),
        (np.array([[0.5, np.nan]]), ["1 of 2", "NaN", "0.5 to 0.5"]),
        (np.array([[0.5, -np.inf]]), ["1 of 2", "infinite"]),
        (np.ones((4, 4), bool), ["bool", "255"]),
        (np.full((4, 4), 7), ["int64", "7 to 7", "uint8"]),
        (np.ones((4, 4), complex), ["complex128"]),
        (np.full((2, 2), "a"), ["<U1"]),
        (np.ones((3, 8, 9)), ["(3, 8, 9)", "moveaxis"]),
        (np.ones((8, 9, 4)), ["(8, 9, 4)", "alpha", "[..., :3]"]),
        (np.ones((2, 1, 8, 9)), ["batch"]),
        (np.ones((8, 9, 7)), ["(8, 9, 7)"]),
        (np.float32(1), ["()"]),
        (np.ones((0, 4)), ["empty"]),
    ],
)
def test_check_image_refuses(array, words):
    with pytest.raises(ImageError) as caught:
        check_image(array, "my picture")
    assert str(caught.value).startswith("my picture: ")
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, FusionError) and isinstance(caught.value, ValueError)


def test_collapse_and_require_gray():
    gray = scaled(random((7, 5)))
    rgb = np.stack([gray] * 3, axis=-1)
    assert collapse_gray(gray) is gray
    assert np.array_equal(collapse_gray(rgb), gray)
    assert np.array_equal(require_gray(rgb), gray)
    rgb[3, 2, 1] += 0.1
    assert collapse_gray(rgb) is rgb
    with pytest.raises(ImageError, match=r"ir\.png: .*colour .*1 of 35 pixels.*swapped"):
        require_gray(rgb, what="ir.png")


# ---------------------------------------------------------------- colour


def test_ycbcr_against_skimage_and_opencv():
    rgb = np.random.default_rng(2).random((40, 30, 3))
    ycbcr = rgb_to_ycbcr(rgb)
    # scikit-image has the studio range: 16 to 235 and 16 to 240
    studio = color.rgb2ycbcr(rgb)
    full = (studio - [16, 128, 128]) / [219, 224, 224] + [0, 0.5, 0.5]
    assert np.abs(ycbcr - full).max() < 2e-5  # its constants are rounded to three digits
    assert np.abs(luminance(rgb) - (rgb @ [0.299, 0.587, 0.114])).max() < 1e-12
    # OpenCV has the full range, in the order Y Cr Cb, with constants of three digits
    opencv = cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    assert np.abs(ycbcr - opencv).max() < 1e-3


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 3e-7), (np.float64, 2e-15)])
def test_ycbcr_round_trip(dtype, bound):
    rgb = np.random.default_rng(3).random((5, 50, 40, 3)).astype(dtype)
    back = ycbcr_to_rgb(rgb_to_ycbcr(rgb))
    assert back.dtype == dtype and np.abs(back - rgb).max() < bound


def test_merge_luminance():
    generator = np.random.default_rng(4)
    rgb = generator.random((20, 30, 3)).astype(np.float32)
    y = generator.random((20, 30)).astype(np.float32)
    ycbcr = rgb_to_ycbcr(rgb.astype(np.float64))
    ycbcr[..., 0] = y
    expected = np.clip(ycbcr_to_rgb(ycbcr), 0, 1)
    merged = merge_luminance(y, rgb)
    assert merged.dtype == np.float32 and np.abs(merged - expected).max() < 1e-6
    assert ycbcr_to_rgb(ycbcr).max() > 1  # so there was something to clip
    assert np.abs(merge_luminance(luminance(rgb), rgb) - rgb).max() < 1e-6


def test_colour_refuses():
    for function in (rgb_to_ycbcr, ycbcr_to_rgb, luminance):
        for wrong in (np.ones((4, 4, 2)), np.ones((4, 4, 3), np.uint8)):
            with pytest.raises(ImageError, match="check_image"):
                function(wrong)
    with pytest.raises(ImageError, match=r"\(4, 5\).*\(5, 4, 3\)"):
        merge_luminance(np.ones((4, 5)), np.ones((5, 4, 3)))


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    ("suffix", "bits"),
    [*((suffix, 8) for suffix in (".png", ".bmp", ".TIFF", ".webp")), (".png", 16), (".tif", 16)],
)
def test_written_files_read_back(tmp_path, suffix, bits, channels, size):
    pixels = random((*size, *channels), np.uint8 if bits == 8 else np.uint16)
    path = tmp_path / "new" / f"out{suffix}"
    write_image(path, scaled(pixels), bits=bits)
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    image = read_image(path)
    if suffix == ".webp" and not channels:
        image = require_gray(image)
    assert np.array_equal(image, scaled(pixels))
    if suffix in (".png", ".tif"):  # and as OpenCV sees it
        seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert seen.dtype == pixels.dtype
        assert np.array_equal(seen[..., ::-1] if channels else seen, pixels)


def test_jpeg_quality(tmp_path):
    write_image(tmp_path / "a.jpg", smooth())
    assert np.abs(read_image(tmp_path / "a.jpg") - scaled(smooth())).max() < 6 / 255


@pytest.mark.parametrize("most", [255, 65535])
def test_exact_levels(most):
    """Every level of 8 and of 16 bits comes back from float32 as a whole level."""
    ramp = np.arange(most + 1)
    exact = images.exact_levels((ramp / most).astype(np.float32))
    assert exact.dtype == np.float64 and np.array_equal(exact, ramp / most)
    others = np.array([0.1, 0.2, 0.5], np.float32)
    assert np.array_equal(images.exact_levels(others), others)


def test_quantise_halves_upwards():
    assert quantise(np.array([0.5 / 255, 1.5 / 255, 127.5 / 255])).tolist() == [1, 2, 128]
    assert quantise(np.array([0.0, 1.0])).tolist() == [0, 255]
    assert quantise(np.float32(np.arange(256) / 255)).tolist() == list(range(256))
    with pytest.raises(ImageError, match=r"12.*8 or 16"):
        quantise(np.zeros(2), 12)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.gif", {}, r"\.gif.*\.png"),
        ("a", {}, r"suffix ''"),
        ("a.jpg", {"bits": 16}, "JPEG cannot hold 16 bits"),
        ("a.webp", {"bits": 16}, "WEBP cannot hold 16 bits"),
        ("a.png", {"bits": 10}, "expected 8 or 16"),
        ("folder.png", {}, "folder"),
        ("file/a.png", {}, "write"),
        ("a.png", {"image": np.full((4, 4), np.nan)}, "NaN"),
        ("/proc/absent/a.png", {}, "write"),
    ],
)
def test_write_refuses(tmp_path, name, options, reason):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    expected = CannotWrite if reason == "write" else ImageError
    with pytest.raises(expected, match=reason):
        write_image(tmp_path / name, **{"image": np.zeros((4, 4))} | options)
    with pytest.raises(ImageError, match="WEBP cannot hold this image of 20000x1"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20_000)))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder.png"]
