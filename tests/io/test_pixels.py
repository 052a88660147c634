"""The same scene, whatever camera and colleague made the file: modes x depths x containers x orientations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from thfr import io
from thfr.errors import InputError
from thfr.io.orientation import turned

Writer = Callable[..., None]
SIZE = (12, 10)
PLAIN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scene(seed: int, colour: bool, height: int = 31, width: int = 47) -> np.ndarray:
    """float64 [H, W, 3 or 1] in 0 to 1: a slope with noise, black and white both present."""
    rng = np.random.default_rng(seed)
    channels = 3 if colour else 1
    slope = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.3, 1, height)[:, None, None]
    values = np.clip(slope + rng.normal(0, 0.05, (height, width, channels)), 0, 1)
    values[0, 0], values[-1, -1] = 0, 1
    return values


def as_integers(values: np.ndarray, bits: int) -> np.ndarray:
    whole = np.rint(values * ((1 << bits) - 1))
    return whole.astype(np.uint8 if bits == 8 else np.uint16)


def write(path: Path, kind: str, values: np.ndarray, bits: int, png16: Writer, pnm16: Writer) -> None:
    """The scene as a file of that kind; grey has one channel."""
    flat = values[..., 0] if values.shape[2] == 1 else values
    photometric = "rgb" if values.shape[2] == 3 else "minisblack"
    if kind == "png16":
        png16(path, as_integers(values, bits), filters=(4, 3, 2, 1, 0))
    elif kind == "pnm":
        pnm16(path, as_integers(flat, bits), (1 << bits) - 1)
    elif kind == "tiff":
        tifffile.imwrite(path, as_integers(flat, bits), photometric=photometric, compression="zlib")
    elif kind == "tiff_planar":
        planes = np.ascontiguousarray(np.moveaxis(as_integers(values, bits), -1, 0))
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    elif kind == "tiff_white_is_zero":
        tifffile.imwrite(path, 65535 - as_integers(flat, 16), photometric="miniswhite")
    elif kind == "tiff_float":
        tifffile.imwrite(path, flat.astype(np.float32), photometric=photometric)
    elif kind == "tiff_float_counts":
        tifffile.imwrite(path, (flat * 4095).astype(np.float32), photometric=photometric)
    else:
        raise AssertionError(kind)


SUFFIX = {"png16": ".png", "pnm": ".pgm"}
KINDS = st.sampled_from(
    ["png16", "pnm", "tiff", "tiff_planar", "tiff_white_is_zero", "tiff_float", "tiff_float_counts"]
)


@given(kind=KINDS, bits=st.sampled_from([10, 12, 14, 16]), colour=st.booleans(), seed=st.integers(0, 99))
@PLAIN
def test_same_scene_same_input(
    tmp_path_factory, write_png16: Writer, write_pnm16: Writer, kind: str, bits: int, colour: bool, seed: int
) -> None:
    colour = (colour and kind != "tiff_white_is_zero") or kind == "tiff_planar"
    folder = tmp_path_factory.mktemp("scene")
    values = scene(seed, colour)
    eight = as_integers(values, 8)
    Image.fromarray(eight if colour else eight[..., 0]).save(folder / "a.png")
    path = folder / f"deep{SUFFIX.get(kind, '.tif')}"
    write(path, kind, values, bits, write_png16, write_pnm16)
    options = io.ReadOptions(io.find_pixel_range([path]))
    expected = io.read_input(folder / "a.png", SIZE).pixels.astype(int)
    found = io.read_input(path, SIZE, options)
    assert np.abs(found.pixels - expected).max() <= 1
    assert found.native == values.shape[:2]
    assert np.abs(io.read_image(path, options).astype(int) - io.read_image(folder / "a.png")).max() <= 1
    assert found.notes == ()


@given(
    orientation=st.integers(1, 8),
    kind=st.sampled_from(["png", "jpg", "tif", "deep.tif", "webp"]),
    seed=st.integers(0, 9),
)
@PLAIN
def test_same_scene_however_the_camera_was_held(
    tmp_path_factory, orientation: int, kind: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("held")
    upright = as_integers(scene(seed, False), 8)[..., 0]
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = turned(upright, inverse)
    path = folder / f"a.{kind}"
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "deep.tif":
        tag = [(274, "H", 1, orientation, False)]
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, photometric="minisblack", extratags=tag)
    elif kind == "tif":
        Image.fromarray(stored).save(path, tiffinfo={274: orientation})
    else:
        Image.fromarray(stored).save(
            path, exif=exif, **({"quality": 100} if kind == "jpg" else {"lossless": True})
        )
    loose = 0 if kind != "jpg" else 4
    as_seen, as_stored = io.ReadOptions(oriented=True), io.ReadOptions(oriented=False)
    for options, expected in ((as_seen, upright), (as_stored, stored)):
        found = io.read_image(path, options)
        assert found.shape[:2] == expected.shape == io.image_size(path, options.oriented)
        assert np.abs(found[..., 0].astype(int) - expected).max() <= loose
        note = [note for note in io.read_input(path, SIZE, options).notes if "EXIF" in note]
        assert len(note) == (orientation != 1)
        assert all(("not applied" in text) != options.oriented for text in note)
        assert io.read_input(path, SIZE, options).native == expected.shape


def test_8_bits_are_read_and_resized_as_ever(tmp_path: Path) -> None:
    """Bit for bit Pillow's decoding to RGB and its resize, whatever the mode."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (57, 83, 4), dtype=np.uint8)
    for mode in ("L", "LA", "RGB", "RGBA", "P", "1", "CMYK"):
        suffix = "tif" if mode == "CMYK" else "png"
        image = Image.fromarray(pixels[..., :3]).convert(mode)
        image.save(tmp_path / f"{mode}.{suffix}")
        with Image.open(tmp_path / f"{mode}.{suffix}") as opened:
            before = opened.convert("RGB")
        np.testing.assert_array_equal(io.read_image(tmp_path / f"{mode}.{suffix}"), np.array(before))
        expected = np.array(before.resize((16, 24), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(io.read_resized(tmp_path / f"{mode}.{suffix}", (24, 16)), expected)
        np.testing.assert_array_equal(io.resize_for_model(np.array(before), (24, 16)), expected)


def test_12_bits_keep_their_precision_until_the_resize(tmp_path: Path) -> None:
    """Three rows of 62.45 (of 255) and one of 63.1 are 62.6 on average; rounded first they would be 62.25."""
    values = np.full((64, 64), 1003, np.uint16)
    values[::4] = 1013
    tifffile.imwrite(tmp_path / "a.tif", values)
    options = io.ReadOptions(io.PixelRange.of_bits(12))
    assert set(np.unique(io.read_resized(tmp_path / "a.tif", (8, 8), options)[1:-1])) == {63}


@pytest.mark.parametrize(
    ("top", "bits"), [(200, 8), (1023, 10), (1024, 12), (4095, 12), (9000, 14), (65535, 16)]
)
def test_range_is_the_smallest_depth_that_holds_all(tmp_path: Path, top: int, bits: int) -> None:
    for name, value in (("a", top // 2), ("b", top)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((4, 4), value, np.uint16))
    found = io.find_pixel_range([tmp_path / "a.tif", tmp_path / "b.tif"])
    assert (found.low, found.high, found.in_words()) == (0, (1 << bits) - 1, f"{bits} bits")
    assert io.PixelRange.from_dict(found.as_dict()) == found


def test_bit_depth_given_overrides_what_is_found(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "dark.tif", np.full((4, 4), 300, np.uint16))
    assert io.find_pixel_range([tmp_path / "dark.tif"], 12).high == 4095
    with pytest.raises(InputError, match=r"bit depth must be one of .* got 11"):
        io.find_pixel_range([tmp_path / "dark.tif"], 11)


def test_files_outside_of_the_run_are_named(tmp_path: Path) -> None:
    options = io.ReadOptions(io.PixelRange.of_bits(12))
    ramp = np.linspace(0, 1, 100).reshape(10, 10)
    Image.fromarray((ramp * 255).astype(np.uint8)).save(tmp_path / "eight.png")
    tifffile.imwrite(tmp_path / "sixteen.tif", (ramp * 65535).astype(np.uint16))
    tifffile.imwrite(tmp_path / "float.tif", ramp.astype(np.float32))
    eight = io.read_input(tmp_path / "eight.png", (10, 10), options)
    assert eight.notes == ("8 bits (uint8) in a run of 12 bits (integer)",)
    assert eight.pixels.max() == 255
    (note,) = io.read_input(tmp_path / "sixteen.tif", (10, 10), options).notes
    assert "outside of the run's 12 bits (up to 65535)" in note
    (note,) = io.read_input(tmp_path / "float.tif", (10, 10), options).notes
    assert "values from 0 to 1 (float32) in a run of 12 bits" in note
    (note,) = io.read_input(tmp_path / "sixteen.tif", (10, 10), io.ReadOptions(io.EIGHT_BITS)).notes
    assert "16 bits (uint16) in a run of 8 bits" in note


def test_training_images_of_integers_and_floats_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 300, np.uint16))
    tifffile.imwrite(tmp_path / "b.tif", np.full((4, 4), 0.5, np.float32))
    with pytest.raises(InputError, match="one kind of pixels, got integers and floats"):
        io.find_pixel_range([tmp_path / "a.tif", tmp_path / "b.tif"])


def test_options_go_through_json() -> None:
    options = io.ReadOptions(io.PixelRange.of_bits(12), oriented=True, max_pixels=5)
    assert io.ReadOptions.from_dict(options.as_dict()) == io.ReadOptions(io.PixelRange.of_bits(12), True)
    for wrong in (None, {}, {"oriented": 1}, {"oriented": True, "pixel_range": {"low": 3}}):
        with pytest.raises(InputError, match=r"expected|damaged"):
            io.ReadOptions.from_dict(wrong)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_with_every_filter(tmp_path: Path, write_png16: Writer, channels: int) -> None:
    values = np.random.default_rng(channels).integers(0, 65536, (23, 17, channels)).astype(np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535
    write_png16(tmp_path / "a.png", values, filters=(4, 1, 3, 2, 0, 4, 3))
    found = io.decode(tmp_path / "a.png")
    shown = values[..., 0] if channels < 3 else values[..., :3]
    np.testing.assert_array_equal(found.pixels, shown)
    assert (found.bits, found.notes) == (16, ())


def test_damaged_16_bit_png_is_named(tmp_path: Path, write_png16: Writer) -> None:
    write_png16(tmp_path / "a.png", np.full((9, 9, 3), 7000, np.uint16))
    content = (tmp_path / "a.png").read_bytes()
    for start in range(33, len(content) - 12, 3):
        (tmp_path / "b.png").write_bytes(
            content[:start] + bytes([content[start] ^ 255]) + content[start + 1 :]
        )
        with pytest.raises(InputError, match=r"b\.png"):
            io.read_image(tmp_path / "b.png")
        (tmp_path / "b.png").write_bytes(content[:start])
        with pytest.raises(InputError, match=r"b\.png"):
            io.read_image(tmp_path / "b.png")


def test_lzw_tiff_of_16_bits(tmp_path: Path) -> None:
    """tifffile leaves LZW to a package that may be absent: grey comes by libtiff, without loss."""
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(io.decode(tmp_path / "a.tif").pixels, values)
    Image.fromarray(values).save(tmp_path / "b.tif", compression="tiff_lzw", tiffinfo={274: 6})
    np.testing.assert_array_equal(io.decode(tmp_path / "b.tif").pixels, values)
    np.testing.assert_array_equal(io.decode(tmp_path / "b.tif", oriented=True).pixels, np.rot90(values, -1))
