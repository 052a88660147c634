"""thfr.io: decoding of every pixel kind, map files bit for bit, and writes that leave nothing half done."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from thfr import io
from thfr.data import load_inputs
from thfr.errors import InputError


def png16_rgb(path: Path, values: np.ndarray) -> None:
    """A 16-bit colour PNG, which Pillow can read but not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


# Images


def test_read_image_rgb(tmp_path: Path, colours: np.ndarray) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png")
    result = io.read_image(tmp_path / "a.png")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, colours)


def test_read_image_repeats_grey(tmp_path: Path, colours: np.ndarray) -> None:
    Image.fromarray(colours[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.png"), np.repeat(colours[..., :1], 3, axis=2))


def test_read_image_drops_alpha_without_blending(tmp_path: Path, colours: np.ndarray) -> None:
    alpha = np.zeros((7, 5, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.png"), colours)


@pytest.mark.parametrize("transparent", [False, True])
def test_read_image_expands_palette(tmp_path: Path, transparent: bool) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", **({"transparency": bytes([0, 128])} if transparent else {}))
    assert io.read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_read_image_scales_16_bit_grey_and_colour_alike(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 257 * 7], [32768, 65279, 65280, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    png16_rgb(tmp_path / "colour.png", np.repeat(values[..., None], 3, axis=2))
    grey, colour = io.read_image(tmp_path / "grey.png"), io.read_image(tmp_path / "colour.png")
    np.testing.assert_array_equal(grey[..., 0], [[0, 1, 1, 7], [128, 254, 254, 255]])
    np.testing.assert_array_equal(grey, colour)


def test_read_image_1_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert io.read_image(tmp_path / "a.png").tolist() == [[[255] * 3, [0] * 3]]


def test_read_image_ignores_exif_orientation(tmp_path: Path, colours: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    assert io.read_image(tmp_path / "a.png").shape == (7, 5, 3)
    assert io.image_size(tmp_path / "a.png") == (7, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_read_image_refuses_pixels_that_are_no_number(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.full((3, 3), value, dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=r"read_image.*a\.tiff.*NaN or infinite"):
        io.read_image(tmp_path / "a.tiff")


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File):UserWarning")  # Pillow, before it fails
@pytest.mark.parametrize("keep", [0, 20, 60, 150])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated_image_is_named(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=rf"read_image: .*cut\.{suffix}"):
        io.read_image(path)


@given(position=st.integers(8, 400), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damaged_png_is_read_or_refused_by_name(tmp_path_factory, position: int, value: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        result = io.read_image(path)
    except InputError as error:
        message = str(error)
    else:
        assert result.dtype == np.uint8
        return
    assert str(path) in message


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_read_image_needs_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected an image file"):
        io.read_image(tmp_path / name)


def test_read_resized_is_anti_aliased(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    result = io.read_resized(tmp_path / "a.png", (4, 8))
    assert result.shape == (4, 8, 3)
    assert np.abs(result.astype(int) - 127).max() <= 12  # plain sampling would give 0 or 255


# Masks


def test_read_mask_keeps_values(tmp_path: Path) -> None:
    values = np.array([[0, 1, 254], [255, 3, 0]], dtype=np.uint8)
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
        result = io.read_mask(tmp_path / "a.png")
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, values, err_msg=mode)


def test_read_mask_1_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert io.read_mask(tmp_path / "a.png").tolist() == [[255, 0]]


def test_read_mask_refuses_colour_and_16_bit(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "red.png")
    Image.fromarray(np.full((2, 2), 40000, dtype=np.uint16)).save(tmp_path / "deep.png")
    for name in ("red.png", "deep.png"):
        with pytest.raises(InputError, match=rf"read_mask: expected 8-bit grey.*{name}"):
            io.read_mask(tmp_path / name)


# Anomaly maps

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=True, allow_subnormal=True)


@given(values=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FLOATS))
@settings(max_examples=50, deadline=None)
def test_map_round_trip_is_bit_exact(tmp_path_factory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("maps") / "000.tiff"
    io.write_map(path, values)
    result = io.read_map(path)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.view(np.uint32), values.view(np.uint32))


def test_write_map_of_a_strided_view(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    io.write_map(tmp_path / "a.tiff", values)
    np.testing.assert_array_equal(io.read_map(tmp_path / "a.tiff"), values)


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "uint16"])
def test_read_map_takes_other_methods_types(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1, 2], [100, 7, 255]], dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tiff", values)
    np.testing.assert_array_equal(io.read_map(tmp_path / "a.tiff"), values.astype(np.float32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 4, 5), np.float32), r"shape \[3, 4, 5\]"),
        (np.array([[0, np.nan]], np.float32), "1 NaN of 2"),
        (np.array([[0, 1]], np.int32), "int32"),
        (np.array([[0, 1e300]]), "beyond the range"),
    ],
)
def test_read_map_refuses_by_name(tmp_path: Path, values: np.ndarray, message: str) -> None:
    tifffile.imwrite(tmp_path / "bad.tiff", values, photometric="minisblack")
    with pytest.raises(InputError, match=rf"read_map.*(bad\.tiff.*{message}|{message}.*bad\.tiff)"):
        io.read_map(tmp_path / "bad.tiff")


@pytest.mark.parametrize("content", [b"", b"not a tiff", b"II*\0\x08\0\0\0"])
def test_read_map_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.tiff").write_bytes(content)
    with pytest.raises(InputError, match=r"read_map: .*bad\.tiff"):
        io.read_map(tmp_path / "bad.tiff")


def test_read_map_truncated(tmp_path: Path) -> None:
    io.write_map(tmp_path / "bad.tiff", np.ones((50, 50), np.float32))
    content = (tmp_path / "bad.tiff").read_bytes()
    for keep in (40, 200, len(content) // 2, len(content) - 1):
        (tmp_path / "bad.tiff").write_bytes(content[:keep])
        with pytest.raises(InputError, match=r"read_map: .*bad\.tiff"):
            io.read_map(tmp_path / "bad.tiff")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2)), "float64"),
        (np.zeros(4, np.float32), r"\[4\]"),
        (np.zeros((0, 2), np.float32), r"\[0, 2\]"),
        (np.full((2, 2), np.nan, np.float32), "4 NaN"),
    ],
)
def test_write_map_refuses_and_writes_nothing(tmp_path: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"write_map: .*{message}"):
        io.write_map(tmp_path / "new" / "a.tiff", values)
    assert list(tmp_path.iterdir()) == []


# Whole or not at all


def test_atomic_path_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.txt"
    io.atomic_write_text(target, "one\n")
    io.atomic_write_text(target, "two ä\n")
    assert target.read_bytes() == "two ä\n".encode()
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_path_failure_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with io.atomic_path(target) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".txt"
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_failure_removes_folders_it_made(tmp_path: Path) -> None:
    def write() -> None:
        with io.atomic_path(tmp_path / "x" / "y" / "set") as temporary:
            (temporary / "train").mkdir(parents=True)
            (temporary / "train" / "0.png").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()  # an empty one may be filled
    with io.atomic_path(tmp_path / "set") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("a")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["set", "set/a"]


def test_atomic_path_does_not_replace_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_text("a")
    with pytest.raises(OSError, match=r"set"), io.atomic_path(tmp_path / "set") as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set" / "a").read_text() == "a"


def test_atomic_path_needs_something_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing was written"), io.atomic_path(tmp_path / "a"):
        pass


def test_atomic_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        io.atomic_write_text(tmp_path / "a" / "b" / "c.txt", "")


def test_atomic_write_json(tmp_path: Path) -> None:
    io.atomic_write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        io.atomic_write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}


# Lists


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.txt", "._a.png", "sub/d.tif", ".hidden/e.png", "sub/f.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in io.list_images(tmp_path)] == ["a.jpeg", "b.PNG"]
    names = [path.relative_to(tmp_path).as_posix() for path in io.list_images(tmp_path, recursive=True)]
    assert names == ["a.jpeg", "b.PNG", "sub/d.tif", "sub/f.webp"]


def test_list_images_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    for name, what in (("a.png", "a file"), ("none", "does not exist")):
        with pytest.raises(InputError, match=f"list_images: expected a folder.*{what}"):
            io.list_images(os.fspath(tmp_path / name))


@pytest.mark.parametrize("predictor", [1, 3])
def test_a_compressed_map_is_read_whatever_is_installed(tmp_path: Path, predictor: int) -> None:
    """LZW and floating-point prediction, which tifffile leaves to a package that may be absent."""
    values = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    path = tmp_path / "map.tiff"
    Image.fromarray(values).save(path, compression="tiff_lzw", tiffinfo={317: predictor})
    with tifffile.TiffFile(path) as file:
        assert (file.pages[0].compression, file.pages[0].predictor) == (5, predictor)
    np.testing.assert_array_equal(io.read_map(path), values)


def test_images_above_the_budget_lie_in_a_file_without_a_name(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (9, 7, 3), np.uint8)).save(paths[-1])
    folder = tmp_path / "not" / "there"
    some = load_inputs(paths, (8, 8), budget=5 * 3 * 64, folder=folder).images
    mapped = load_inputs(paths, (8, 8), budget=5 * 3 * 64 - 1, folder=folder).images
    assert torch.equal(some, mapped)
    assert sorted(tmp_path.iterdir()) == paths


@pytest.mark.parametrize("number", [errno.ENOSPC, None])
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    monkeypatch.setattr("thfr.io.files.free_bytes", lambda folder: 100)
    error = OSError("200 requested and 100 written") if number is None else OSError(number, "no space")

    def write_half() -> None:
        with io.atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(OSError, match=r"No space left on device, 100 bytes are free: .*a\.txt"):
        write_half()
    assert list(tmp_path.iterdir()) == []
