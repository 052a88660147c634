"""What is opened at all, with what limits, and the notes on what was decided."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from thfr import io
from thfr.errors import InputError

SIZE = (8, 8)


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def notes_of(path: Path) -> str:
    return "; ".join(io.read_input(path, SIZE).notes)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".tif", ".bmp", ".gif", ".webp"])
def test_postscript_is_refused_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    for reader in (io.read_image, io.image_size, io.read_mask, io.read_binary_mask):
        with pytest.raises(InputError, match=r"cannot read .*its content is none of"):
            reader(path)


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "JPEG", "jfif", "bmp", "tif", "TIFF", "gif", "webp", "jp2", "avif", "ppm"]
)
def test_formats_by_suffix_in_any_case(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if f".{suffix.lower()}" not in io.IMAGE_SUFFIXES:
        pytest.skip("this Pillow was built without it")
    kind = {"jfif": "JPEG", "tif": "TIFF", "ppm": "PPM"}.get(suffix)
    Image.fromarray(picture()).save(path, format=kind)
    assert io.list_images(tmp_path) == [path]
    assert io.read_image(path).shape == (40, 60, 3)
    assert io.read_image(path).flags.writeable
    assert io.image_size(path) == (40, 60)


def test_content_of_another_suffix_is_read_and_noted(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png", format="JPEG")
    assert notes_of(tmp_path / "a.png") == "content is JPEG, not what the suffix .png says"
    Image.fromarray(picture()).save(tmp_path / "b.jfif", format="JPEG")
    assert notes_of(tmp_path / "b.jfif") == ""


def test_alpha(tmp_path: Path) -> None:
    pixels = np.dstack([picture(), np.full((40, 60), 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert notes_of(tmp_path / "a.png") == ""
    pixels[:10, :, 3] = 3
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert notes_of(tmp_path / "a.png") == "alpha dropped, not blended (25.0% of the pixels are transparent)"
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.png"), pixels[..., :3])


def test_palette_cmyk_pages_and_animations(tmp_path: Path) -> None:
    image = Image.fromarray(picture())
    image.convert("P").save(tmp_path / "palette.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    other = Image.fromarray(255 - picture())
    for name in ("pages.tif", "animated.gif", "animated.webp", "animated.png"):
        image.save(tmp_path / name, save_all=True, append_images=[other, image])
    assert notes_of(tmp_path / "palette.png") == "palette expanded to RGB"
    assert notes_of(tmp_path / "cmyk.jpg") == "CMYK converted to RGB"
    for name in ("pages.tif", "animated.gif", "animated.webp", "animated.png"):
        assert "first of 3 frames or pages taken" in notes_of(tmp_path / name)
    np.testing.assert_array_equal(io.read_image(tmp_path / "pages.tif"), picture())


def test_limit_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with pytest.raises(
        InputError, match=r"a\.png has 60 x 40 pixels, 2,400 in all; the limit is 2,399 \(set the"
    ):
        io.read_image(tmp_path / "a.png", io.ReadOptions(max_pixels=2399))
    monkeypatch.setenv("THFR_MAX_PIXELS", "2399")
    with pytest.raises(InputError, match="THFR_MAX_PIXELS"):
        io.read_resized(tmp_path / "a.png", SIZE)
    monkeypatch.setenv("THFR_MAX_PIXELS", "2400")
    assert io.read_image(tmp_path / "a.png").shape == (40, 60, 3)
    monkeypatch.setenv("THFR_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="THFR_MAX_PIXELS: expected a number of pixels >= 1, got 'many'"):
        io.read_image(tmp_path / "a.png")


def test_line_scan_is_read_and_no_global_limit_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above Pillow's own limit, whose message and global variable stay out of it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert io.read_image(tmp_path / "a.png").shape == (40, 60, 3)
    assert io.image_size(tmp_path / "a.png") == (40, 60)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.slow
def test_memory_of_a_large_image_that_compresses_well(tmp_path: Path) -> None:
    """17 kB of PNG hold 12,000 x 12,000 pixels; eight at once must not take eight times their 144 MB."""
    Image.new("L", (12000, 12000), 90).save(tmp_path / "a.png", compress_level=9)
    code = (
        "import resource, sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from thfr.io import read_input\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    found = list(pool.map(lambda _: read_input(sys.argv[1], (256, 256)), range(8)))\n"
        "assert all((one.pixels == 90).all() and one.native == (12000, 12000) for one in found)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 900_000  # kB


def test_large_jpeg_is_decoded_at_a_lower_resolution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thfr.io.decoding.LARGE", 1000)
    smooth = np.tile(np.linspace(0, 255, 320, dtype=np.uint8), (160, 1))
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, exif=exif)
    full = io.decode(tmp_path / "a.jpg")
    assert full.pixels.shape == (160, 320)
    small = io.decode(tmp_path / "a.jpg", size=(20, 40))
    assert small.pixels.shape == (20, 40)
    assert small.native == (160, 320)
    turned = io.decode(tmp_path / "a.jpg", size=(40, 20), oriented=True)
    assert turned.pixels.shape == (40, 20)
    assert turned.native == (320, 160)


def test_truncation_stays_an_error(tmp_path: Path) -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cannot read .*a\.jpg"):
        io.read_image(tmp_path / "a.jpg")


def test_messages_escape_names(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[31m.png"
    path.write_bytes(b"none")
    with pytest.raises(InputError) as caught:
        io.read_image(path)
    assert r"a\nb\x1b[31m.png" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_what_is_no_file_is_said_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.png: the file is empty"):
        io.read_image(tmp_path / "empty.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "link.png", "device.png"):
        for reader in (io.read_image, io.read_mask, io.image_size):
            with pytest.raises(InputError, match=r"a pipe or device, not a file"):
                reader(tmp_path / name)
