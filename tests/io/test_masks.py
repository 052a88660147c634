"""Masks as people draw and export them: taken where the meaning is clear, refused by name where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from thfr import io
from thfr.errors import InputError

TRUTH = np.zeros((40, 60), bool)
TRUTH[10:22, 20:45] = True


def save(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
@pytest.mark.parametrize("value", [1, 5, 128, 255])
def test_two_values(tmp_path: Path, suffix: str, value: int) -> None:
    path = save(tmp_path / f"a{suffix}", (TRUTH * value).astype(np.uint8))
    found = io.read_binary_mask(path)
    np.testing.assert_array_equal(found.pixels, TRUTH)
    assert found.notes == ()


@pytest.mark.parametrize("value", [1, 255, 4095, 65535])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits(tmp_path: Path, suffix: str, value: int) -> None:
    path = save(tmp_path / f"a{suffix}", (TRUTH * value).astype(np.uint16))
    np.testing.assert_array_equal(io.read_binary_mask(path).pixels, TRUTH)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "P"])
def test_modes(tmp_path: Path, mode: str) -> None:
    Image.fromarray((TRUTH * 255).astype(np.uint8)).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(io.read_binary_mask(tmp_path / "a.png").pixels, TRUTH)


def test_a_colour_on_black_and_a_palette(tmp_path: Path) -> None:
    red = TRUTH[..., None] * np.array([200, 0, 0])
    Image.fromarray(red.astype(np.uint8)).save(tmp_path / "red.png")
    image = Image.fromarray(TRUTH.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(tmp_path / "palette.png")
    for name in ("red.png", "palette.png"):
        np.testing.assert_array_equal(io.read_binary_mask(tmp_path / name).pixels, TRUTH)


def test_labels(tmp_path: Path) -> None:
    values = TRUTH.astype(np.uint8)
    values[30:35, :5] = 3
    found = io.read_binary_mask(save(tmp_path / "a.png", values))
    np.testing.assert_array_equal(found.pixels, values > 0)
    assert found.notes == ("labels 1, 3: all of them taken as anomalous",)


def test_anti_aliased_edges(tmp_path: Path) -> None:
    large = Image.fromarray((TRUTH * 255).astype(np.uint8)).resize((300, 200), Image.Resampling.NEAREST)
    soft = np.array(large.resize((47, 31), Image.Resampling.BILINEAR))
    assert len(np.unique(soft)) > 5
    found = io.read_binary_mask(save(tmp_path / "a.png", soft))
    np.testing.assert_array_equal(found.pixels, soft >= 128)
    assert "anti-aliased" in found.notes[0]
    assert "from 50% of white on" in found.notes[0]


def test_jpeg_is_cut_at_half(tmp_path: Path) -> None:
    Image.fromarray((TRUTH * 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=90)
    found = io.read_binary_mask(tmp_path / "a.jpg")
    np.testing.assert_array_equal(found.pixels, TRUTH)
    assert "JPEG (lossy)" in found.notes[0]


@pytest.mark.parametrize("value", [1, 3, 60])
def test_jpeg_of_small_values_is_refused(tmp_path: Path, value: int) -> None:
    Image.fromarray((TRUTH * value).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    with pytest.raises(InputError, match=r"read_mask: .*a\.jpg"):
        io.read_binary_mask(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(192, dtype=np.uint8).reshape(12, 16), r"one non-zero value.*got 191: 1, 2, 3, .*\.\.\."),
        (np.maximum(TRUTH * 255, ~TRUTH * 100).astype(np.uint8), "one non-zero value"),
        (
            (np.random.default_rng(0).random((9, 9, 3)) * 255).astype(np.uint8),
            "one other colour, got .* colours",
        ),
        (np.random.default_rng(0).random((9, 9)).astype(np.float32), "got floats"),
    ],
)
def test_unclear_masks_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = save(tmp_path / "a.tif", values)
    with pytest.raises(InputError, match=f"read_mask: .*{message}"):
        io.read_binary_mask(path)


def test_an_inverted_mask_is_noted(tmp_path: Path) -> None:
    found = io.read_binary_mask(save(tmp_path / "a.png", (~TRUTH * 255).astype(np.uint8)))
    assert found.notes == ("covers 88% of its image: inverted?",)


def test_labels_of_loco_come_as_they_are(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        io.read_mask(save(tmp_path / "a.png", (TRUTH * 237).astype(np.uint16))), TRUTH * 237
    )
    Image.fromarray((TRUTH * 255).astype(np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg is JPEG, which changes the values"):
        io.read_mask(tmp_path / "a.jpg")
