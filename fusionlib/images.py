"""File <-> array: bit depth, colour, alpha, size checks, RGB <-> YCbCr, safe writing.

Inside fusionlib an image is a float32 array with values in [0, 1], of shape (H, W) when gray and
(H, W, 3) when RGB. Everything that comes in, as a file or as an array, is brought to that form
here or is refused with an ``ImageError``.

Pillow decodes what has up to 8 bits, tifffile deeper TIFF, and OpenCV 16-bit PNG and deeper TIFF
that is compressed by LZW: neither of the other two reads these.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

from .errors import ImageError, PairMismatch
from .files import atomic_file

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "check_image",
    "check_one_size",
    "collapse_gray",
    "decode_image",
    "exact_levels",
    "luminance",
    "merge_luminance",
    "quantise",
    "read_image",
    "require_gray",
    "rgb_to_ycbcr",
    "write_image",
    "ycbcr_to_rgb",
]

# Larger files are refused before they are decoded: a file of a few kilobytes can
# claim any size. 2**27 pixels (16384 x 8192) take 1.5 GB as RGB float32.
MAX_PIXELS = 2**27

TOLERANCE = 1e-6  # how far a float may leave [0, 1] by rounding; it is clipped then

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_FORMATS = sorted(set(SUFFIXES.values()))
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_END = b"IEND\xaeB`\x82"
_ORIENTATION = 0x0112  # the tag of EXIF and TIFF
_AGAIN = "Download or export the file again."


# ---------------------------------------------------------------- arrays


def check_image(array: np.ndarray, what: str = "image") -> np.ndarray:
    """Bring a uint8, uint16 or float array to float32 in [0, 1]; drop a last axis of one channel.

    A float may leave [0, 1] by 1e-6, which is clipped. What needs no change is returned itself;
    what is no image is an ImageError, which calls it `what`.
    """
    try:
        array = np.asarray(array)
    except (ValueError, RuntimeError, TypeError) as error:  # ragged lists, tensors in training
        raise ImageError(f"{what}: not an array ({error}).") from error
    # Files of other machines need not have this one's order of bytes.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    _check_shape(array.shape, what)
    if array.shape[2:] == (1,):
        array = array[:, :, 0]
    if array.dtype in (np.uint8, np.uint16):
        return array / np.float32(np.iinfo(array.dtype).max)
    if np.issubdtype(array.dtype, np.floating):
        return _check_range(array, what)
    if array.dtype == np.bool_:
        remedy = "If True means white, pass `image.astype(numpy.uint8) * 255`."
    elif np.issubdtype(array.dtype, np.integer):
        remedy = (
            f"Its values are {array.min()} to {array.max()}: pass `image.astype(numpy.uint8)` if "
            "they are on the scale 0 to 255, `image.astype(numpy.uint16)` if 0 to 65535."
        )
    else:
        remedy = "Convert it first."
    raise ImageError(
        f"{what}: the type is {array.dtype}, expected uint8, uint16 or a float in [0, 1]. {remedy}"
    )


def _check_shape(shape: tuple[int, ...], what: str) -> None:
    if len(shape) in (2, 3) and 0 not in shape and (len(shape) == 2 or shape[2] in (1, 3)):
        return
    if 0 in shape:
        remedy = "The image is empty: check the crop or the slice that made it."
    elif len(shape) == 3 and shape[2] in (2, 4):
        remedy = (
            f"The last channel looks like alpha: drop it with `image[..., :{shape[2] - 1}]`, or "
            "blend it with a background first."
        )
    elif len(shape) == 3 and shape[0] in (1, 3):
        remedy = "The channels come first: use `numpy.moveaxis(image, 0, -1)`."
    elif len(shape) == 4:
        remedy = "This looks like a batch: pass one image at a time."
    else:
        remedy = "Pass one gray or one RGB image."
    raise ImageError(f"{what}: the shape is {shape}, expected (H, W) or (H, W, 3). {remedy}")


def _check_range(array: np.ndarray, what: str) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        span = f"{finite.min():g} to {finite.max():g}" if finite.size else "none"
        raise ImageError(
            f"{what}: {array.size - finite.size} of {array.size} values are NaN or infinite "
            f"(finite values: {span}), expected values in [0, 1]. Repair or replace them first, "
            "for instance with `numpy.nan_to_num`."
        )
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        remedy = (
            "Divide by 255 if they are 8-bit values, by 65535 if 16-bit."
            if low >= -TOLERANCE
            else "Shift and scale them, for instance `(image + 1) / 2` if they are in [-1, 1], or "
            "clip them if they overshoot."
        )
        raise ImageError(
            f"{what}: the values are {low:g} to {high:g}, expected floats in [0, 1]. {remedy}"
        )
    if low < 0 or high > 1:
        array = np.clip(array, 0, 1)
    return array.astype(np.float32, copy=False)


def check_one_size(images: Sequence[np.ndarray], what: str) -> None:
    """Make sure that images which belong together, called `what`, have one height and width."""
    sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
    if len(set(sizes)) > 1:
        raise PairMismatch(
            f"{what} must have one size, not {' and '.join(sizes)} (width x height); register or "
            "crop them first."
        )


def collapse_gray(image: np.ndarray) -> np.ndarray:
    """Return a gray picture stored as RGB with its one channel, any other as it is."""
    first = image[..., :1] if image.ndim == 3 else image
    return first[..., 0] if image.ndim == 3 and (image == first).all() else image


def require_gray(image: np.ndarray, *, what: str = "infrared image") -> np.ndarray:
    """Return a gray image as (H, W), also when it is stored as RGB with equal channels."""
    gray = collapse_gray(image)
    if gray.ndim == 2:
        return gray
    differ = int((image != image[..., :1]).any(axis=-1).sum())
    raise ImageError(
        f"{what}: it is in colour (the channels differ in {differ} of {gray[..., 0].size} pixels), "
        "expected a gray image. Check that infrared and visible are not swapped; if it is a "
        "false-colour picture, take the gray original; if it is gray saved as JPEG, convert it "
        "to one channel with `fusionlib.images.luminance`."
    )


def quantise(image: np.ndarray, bits: int = 8) -> np.ndarray:
    """Round [0, 1] to the integers that a file of 8 or 16 bits holds, halves upwards."""
    if bits not in (8, 16):
        raise ImageError(f"bits is {bits!r}, expected 8 or 16.")
    scaled = np.asarray(image, np.float64) * (2**bits - 1)
    return np.floor(scaled + 0.5).astype(np.uint8 if bits == 8 else np.uint16)


# ---------------------------------------------------------------- colour

# BT.601 luma weights. Full range: Y, Cb and Cr all span [0, 1], Cb and Cr around 0.5.
_KR, _KB = 0.299, 0.114
_KG = 1 - _KR - _KB


def luminance(image: np.ndarray) -> np.ndarray:
    """Y of BT.601: 0.299 R + 0.587 G + 0.114 B; a gray image is its own luminance.

    Parameters
    ----------
    image : ndarray of float, shape (H, W) or (H, W, 3)

    Returns
    -------
    ndarray of the same type, shape (H, W)

    Raises
    ------
    ImageError
        If the image is neither gray nor RGB, or not of a float type.
    """
    if image.ndim == 2:
        return image
    _check_channels(image)
    return _luma(image).astype(image.dtype)


def exact_levels(image: np.ndarray) -> np.ndarray:
    """Undo the rounding to float32 of an image of 8 or 16 bits: whole levels over 255 or 65535.

    Returns float64; other images keep their values.
    """
    for most in (255, 65535):
        exact = np.rint(image * np.float64(most)) / most
        if np.array_equal(exact.astype(np.float32), image):
            return exact
    return image.astype(np.float64)


def rgb_to_ycbcr(rgb: np.ndarray) -> np.ndarray:
    """Convert RGB in [0, 1] to full-range BT.601 YCbCr of the same float type and shape (..., 3).

    Y, Cb and Cr are in [0, 1], computed in float64; Cb = Cr = 0.5 is gray.
    """
    _check_channels(rgb)
    y = _luma(rgb)
    cb = (rgb[..., 2] - y) / (2 * (1 - _KB)) + 0.5
    cr = (rgb[..., 0] - y) / (2 * (1 - _KR)) + 0.5
    return np.stack([y, cb, cr], axis=-1).astype(rgb.dtype)


def ycbcr_to_rgb(ycbcr: np.ndarray) -> np.ndarray:
    """Convert full-range BT.601 YCbCr to RGB: the exact inverse of `rgb_to_ycbcr`.

    Not clipped: a YCbCr triple that no RGB colour has gives values outside [0, 1].
    """
    _check_channels(ycbcr)
    y, cb, cr = (ycbcr[..., channel].astype(np.float64) for channel in range(3))
    red = y + 2 * (1 - _KR) * (cr - 0.5)
    blue = y + 2 * (1 - _KB) * (cb - 0.5)
    green = (y - _KR * red - _KB * blue) / _KG
    return np.stack([red, green, blue], axis=-1).astype(ycbcr.dtype)


def merge_luminance(y: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Give an RGB image in [0, 1] a new luminance (H, W) and keep its chroma, clipped to [0, 1].

    So colour pairs are fused.
    """
    _check_channels(rgb)
    if y.shape != rgb.shape[:-1]:
        raise ImageError(
            f"the luminance has the shape {y.shape} and the RGB image {rgb.shape}; expected "
            "(H, W) and (H, W, 3) of one size."
        )
    # In YCbCr each of R, G and B is Y plus a function of the chroma alone, so exchanging
    # Y adds the same difference to all three.
    change = y - _luma(rgb)
    out = np.empty_like(rgb)
    for channel in range(3):
        out[..., channel] = np.clip(rgb[..., channel] + change, 0, 1)
    return out


def _luma(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = (rgb[..., channel].astype(np.float64) for channel in range(3))
    return _KR * red + _KG * green + _KB * blue


def _check_channels(image: np.ndarray) -> None:
    if image.ndim == 0 or image.shape[-1] != 3 or not np.issubdtype(image.dtype, np.floating):
        raise ImageError(
            f"colour conversion: the shape is {image.shape} and the type {image.dtype}, expected "
            "(..., 3) and a float type. Pass the image through `check_image` first."
        )


# ---------------------------------------------------------------- reading


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a PNG, JPEG, BMP, TIFF or WebP file.

    8 and 16 bits (and float TIFF in [0, 1]) are read at full depth. Palettes, 1-bit and
    CMYK become gray or RGB; the EXIF orientation is applied; colour profiles are not.
    Alpha that is opaque everywhere is dropped; otherwise the picture is blended over
    black and a warning says so. A gray picture stored as RGB stays RGB.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    ndarray of float32, shape (H, W) or (H, W, 3), values in [0, 1]

    Raises
    ------
    ImageError
        If there is no such file, or it is empty, truncated, not an image, larger than
        `MAX_PIXELS`, has several frames, or holds values that are no intensities.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path}: no such file. Check the spelling and the folder.")
    if not path.is_file():
        found = "this is a folder" if path.is_dir() else "not a regular file"
        raise ImageError(f"{path}: {found}, expected an image file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of an image file as `read_image`; error messages call it `name`."""
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes). {_AGAIN}")
    decode = _decode_tiff if data.startswith(_TIFF) else _decode_other
    try:
        with warnings.catch_warnings():  # Pillow warns of sizes below `MAX_PIXELS`
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            pixels, alpha = decode(data, name)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: {error} Crop it or reduce it; if it is genuine, raise "
            "`PIL.Image.MAX_IMAGE_PIXELS` and `fusionlib.images.MAX_PIXELS`."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: damaged, or not an image in a known format (it begins with {data[:8]!r}), "
            "expected PNG, JPEG, BMP, TIFF or WebP. Convert it, or check that the download is not "
            "an error page."
        ) from error
    except Exception as error:  # decoders raise nearly every type on damaged input
        raise ImageError(
            f"{name}: the file is truncated or damaged ({type(error).__name__}: {error}). {_AGAIN}"
        ) from error
    image = check_image(pixels, name)
    if alpha is None:
        return image
    opacity = check_image(alpha, f"{name}, alpha channel")
    if (opacity == 1).all():
        return image
    warnings.warn(
        f"{name}: {int((opacity < 1).sum())} of {opacity.size} pixels are transparent; the picture "
        "is blended over black. Save it without alpha to choose another background.",
        stacklevel=3,
    )
    return image * (opacity if image.ndim == 2 else opacity[..., None])


Decoded = tuple[np.ndarray, np.ndarray | None]  # pixels, and alpha where there is one


def _decode_other(data: bytes, name: str) -> Decoded:
    """Decode PNG, JPEG, BMP or WebP."""
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    # Cameras add a smaller copy, or the other eye's picture, to a JPEG; the first one counts.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    _check_header(name, *picture.size, frames)
    if picture.format == "PNG":
        if _PNG_END not in data:  # Pillow forgives a missing end
            raise ImageError(f"{name}: the PNG file is truncated (its end is missing). {_AGAIN}")
        if data[24] == 16:  # the header's bit depth
            return _decode_png16(data, picture)
    return _from_pillow(picture, name)


def _decode_png16(data: bytes, picture: Image.Image) -> Decoded:
    """Decode a 16-bit PNG, which Pillow reduces to 8 bits unless it is plain gray."""
    pixels = _orient(_decode_cv2(data), picture.getexif().get(_ORIENTATION, 1))
    key = picture.info.get("transparency")
    gray = data[25] in (0, 4)  # the colour type: gray, gray and alpha
    if pixels.ndim == 2:
        return pixels, None if key is None else np.where(pixels == key, 0, 65535).astype(np.uint16)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return pixels[..., 0] if gray else pixels[..., :3], alpha


def _decode_tiff(data: bytes, name: str) -> Decoded:
    """Decode TIFF; tifffile reads the header of all."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        _check_header(name, page.imagewidth, page.imagelength, len(tiff.pages))
        if page.bitspersample <= 8:
            return _from_pillow(Image.open(io.BytesIO(data), formats=_FORMATS), name)
        lzw = page.compression == 5  # for which tifffile needs another package
        axes = ("YX", "YXS") if lzw else ("YX", "YXS", "SYX")  # OpenCV mixes planes up
        known = page.bitspersample in (16, 32, 64) and page.photometric <= 2
        if not known or page.axes not in axes:
            raise ImageError(
                f"{name}: a TIFF of {page.bitspersample} bits, photometric {page.photometric!r} "
                f"and axes {page.axes} is not supported, expected gray or RGB. Convert it."
            )
        if lzw:
            pixels = _decode_cv2(data)  # applies the orientation
        else:
            pixels = page.asarray()
            if page.axes == "SYX":
                pixels = np.moveaxis(pixels, 0, -1)
            pixels = _orient(pixels, page.tags.valueof(_ORIENTATION, 1))
        if page.photometric == 0:  # white is zero
            pixels = (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) - pixels
        colours = 3 if page.photometric == 2 else 1
        if pixels.ndim == 2 or pixels.shape[2] == colours:
            return pixels, None
        # Declared as 2, or not at all: alpha. As 1: alpha that is multiplied in already.
        alpha = pixels[..., colours] if page.extrasamples[:1] in ((), (2,)) else None
        return pixels[..., :colours], alpha


def _decode_cv2(data: bytes) -> np.ndarray:
    """Decode at the depth of the file, as gray, RGB or RGBA; the bytes must be complete."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    if pixels.ndim == 2:
        return pixels
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _from_pillow(picture: Image.Image, name: str) -> Decoded:
    picture.load()  # applies the orientation of a TIFF
    picture = ImageOps.exif_transpose(picture)
    gray = picture.mode in ("1", "L", "LA")
    if picture.has_transparency_data:
        pixels = np.asarray(picture.convert("LA" if gray else "RGBA"))
        return pixels[..., 0] if gray else pixels[..., :3], pixels[..., -1]
    if gray or picture.mode in ("P", "RGB", "RGBX", "CMYK", "YCbCr"):
        return np.asarray(picture.convert("L" if gray else "RGB")), None
    raise ImageError(
        f"{name}: the pixel type {picture.mode!r} is not supported, expected gray or RGB of 8 or "
        "16 bits. Convert it."
    )


def _check_header(name: str, width: int, height: int, frames: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: the header claims {width}x{height} pixels, at most {MAX_PIXELS} are read. "
            "Crop it or reduce it; if it is genuine, raise `fusionlib.images.MAX_PIXELS`."
        )
    if frames != 1:
        raise ImageError(
            f"{name}: the file has {frames} frames or pages, expected one. Extract the one to use."
        )


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as the EXIF or TIFF orientation (1 to 8) asks."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


# ---------------------------------------------------------------- writing


def write_image(path: str | os.PathLike[str], image: np.ndarray, *, bits: int = 8) -> None:
    """Write an image; the file appears whole or not at all.

    PNG, BMP, TIFF and WebP are lossless (WebP stores gray as RGB); JPEG, at quality 95
    without chroma subsampling, is not. Missing parent folders are made.

    Parameters
    ----------
    path : path
        The suffix selects the format.
    image : ndarray, shape (H, W) or (H, W, 3)
        uint8, uint16 or float in [0, 1]; rounded to the levels of the file, halves upwards.
    bits : {8, 16}
        16 for PNG and TIFF only.

    Raises
    ------
    ImageError
        If the image is not valid, or the suffix is unknown or cannot hold 16 bits.
    CannotWrite
        If the file cannot be written.
    """
    path = Path(path)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ImageError(
            f"{path}: the suffix {path.suffix!r} is no image format, expected one of "
            f"{', '.join(SUFFIXES)}."
        )
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise ImageError(f"{path}: {kind} cannot hold 16 bits. Use .png or .tif, or bits=8.")
    pixels = quantise(check_image(image, f"image for {path}"), bits)
    if path.is_dir():
        raise ImageError(f"{path}: this is a folder, expected the name of a file to write.")
    try:
        content = _encode(pixels, kind)
    except Exception as error:  # a format may refuse a size: WebP ends at 16383 pixels
        raise ImageError(
            f"{path}: {kind} cannot hold this image of {pixels.shape[1]}x{pixels.shape[0]} pixels "
            f"({error}). Use .png or .tif."
        ) from error
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def _encode(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(stream, kind, **_OPTIONS.get(kind, {}))
    elif kind == "TIFF":
        photometric = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(stream, pixels, photometric=photometric, metadata=None)
    else:
        bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        return cv2.imencode(".png", bgr)[1].tobytes()
    return stream.getvalue()
