"""Images of one's own: folders with good and bad, tables, orientation, notes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.data import ImageProfile, load_dataset, load_images, load_inputs
from thfr.errors import InputError
from thfr.io import read_input

SIZE = (40, 60)
MASK = np.zeros(SIZE, np.uint8)
MASK[5:9, 10:20] = 255


def save(path: Path, pixels: np.ndarray | None = None, orientation: int = 1) -> Path:
    if pixels is None:
        pixels = np.random.default_rng(len(path.name)).integers(20, 200, (*SIZE, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def ids(samples: tuple) -> list[str]:
    return [f"{sample.kind}:{sample.id}" for sample in samples]


def test_good_and_bad(tmp_path: Path) -> None:
    for number in range(11):
        save(tmp_path / "Good" / f"{number:02d}.png")
    save(tmp_path / "bad" / "x.png")
    save(tmp_path / "bad" / "scratch" / "y.png")
    dataset = load_dataset("folder", tmp_path)
    assert len(dataset.train) == 9
    assert ids(dataset.test) == ["good:04", "good:09", "scratch:y", "bad:x"]
    assert not dataset.has_masks
    assert any("each fifth good one" in note for note in dataset.notes)
    assert load_dataset("folder", dataset.root, dataset.category) == dataset


def test_train_and_test_with_masks(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "train" / "good" / f"{number}.png")
    save(tmp_path / "train" / "odd" / "1.png")
    save(tmp_path / "test" / "ok" / "a.png")
    save(tmp_path / "test" / "dent" / "a.jpg")
    save(tmp_path / "masks" / "dent" / "a.png", MASK)
    dataset = load_dataset("folder", tmp_path)
    assert ids(dataset.train) == ["good:0", "good:1", "good:2"]
    assert ids(dataset.test) == ["good:a", "dent:a"]
    assert dataset.has_masks
    assert dataset.mask(dataset.test[1]).sum() == 40
    assert "train/: only good is learnt from, not odd" in dataset.notes
    save(tmp_path / "test" / "loose.png")
    with pytest.raises(InputError, match=r"expected folders .* in .*test, got 1 image\(s\) \(loose\.png\)"):
        load_dataset("folder", tmp_path)


def test_two_images_that_differ_in_suffix_only(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg")
    save(tmp_path / "b.jpg")
    assert ids(load_dataset("folder", tmp_path).train) == ["good:a.jpg", "good:a.png", "good:b"]


def test_ignored_files_are_noted(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.heic").touch()
    (tmp_path / "Thumbs.db").touch()
    (note,) = load_dataset("folder", tmp_path).notes
    assert note.endswith("not read (no image by its suffix): b.heic")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_table(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / "day 1" / "a.png")
    save(tmp_path / "day 1" / "b.png")
    save(tmp_path / "c.png")
    save(tmp_path / "m.png", MASK)
    rows = [
        {"path": "day 1/a.png", "label": "good", "mask": "", "split": "train"},
        {"path": str(tmp_path / "day 1" / "b.png"), "label": "0", "mask": "", "split": "test"},
        {"path": "c.png", "label": "dent", "mask": "m.png", "split": "test"},
    ]
    path = tmp_path / f"parts{suffix}"
    if suffix == ".csv":
        lines = ["path,label,mask,split", *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    dataset = load_dataset("table", path)
    assert (ids(dataset.train), ids(dataset.test)) == (["good:day 1/a"], ["good:day 1/b", "dent:c"])
    assert dataset.has_masks
    assert dataset.folder == tmp_path
    assert load_dataset("table", dataset.root, dataset.category) == dataset == load_dataset("table", tmp_path)
    dataset.verify()
    (tmp_path / "other.csv").touch()
    with pytest.raises(
        InputError, match=r"expected one table, or its name, in .*; found other\.csv, parts\."
    ):
        load_dataset("table", tmp_path)


def test_table_without_split_or_mask(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text("path,label\na.png,ok\nb.png,OK\nc.png,1\n")
    dataset = load_dataset("table", tmp_path / "t.csv")
    assert (ids(dataset.train), ids(dataset.test)) == (["good:a", "good:b"], ["bad:c"])
    assert not dataset.has_masks


def test_all_wrong_rows_of_a_table_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    rows = [
        "a.png,bad,,train",
        "none.png,,,",
        "a.png,,,later",
        "a.png,dent,m.png,test",
        "a.png,../x,,test",
        ",,,",
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,mask,split", *rows]))
    with pytest.raises(InputError) as caught:
        load_dataset("table", tmp_path / "t.csv")
    for line, message in enumerate(
        (
            "a.png is bad, but for train",
            "no such image: none.png",
            "split must be train, validation or test, got 'later'",
            "no such mask: m.png",
            "label must be a word",
            "no such image: (empty)",
        ),
        2,
    ):
        assert f"line {line}: {message}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"file,label\na.png,0\n", b"\xff\xfe\x00", b"path\n"])
def test_table_of_another_shape(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"table: .*t\.csv"):
        load_dataset("table", tmp_path / "t.csv")
    (tmp_path / "t.jsonl").write_bytes(content + b"[")
    with pytest.raises(InputError, match=r"table: .*t\.jsonl"):
        load_dataset("table", tmp_path / "t.jsonl")


def test_orientation_is_applied_to_own_images(tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    save(tmp_path / "train" / "a.png", np.rot90(upright), orientation=6)
    save(tmp_path / "test" / "bad" / "a.png", np.rot90(upright), orientation=6)
    save(tmp_path / "ground_truth" / "bad" / "a.png", MASK)
    dataset = load_dataset("folder", tmp_path)
    np.testing.assert_array_equal(load_images(dataset.train, SIZE)[0].permute(1, 2, 0).numpy(), upright)
    assert dataset.mask(dataset.test[0]).shape == SIZE
    dataset.verify()
    save(tmp_path / "ground_truth" / "bad" / "a.png", np.rot90(MASK))
    with pytest.raises(InputError, match="as stored; its EXIF orientation turns it"):
        dataset.mask(dataset.test[0])


def test_notes_of_loading(tmp_path: Path) -> None:
    save(tmp_path / "a.png", orientation=3)
    save(tmp_path / "b.png")
    loaded = load_inputs(load_dataset("folder", tmp_path).train, (8, 8))
    assert loaded.sizes == (SIZE, SIZE)
    assert loaded.notes == (("a.png", "EXIF orientation 3 applied"),)


def test_profile_of_training_images(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png")
    size = (24, 24)
    profile = ImageProfile.of(load_inputs(load_dataset("folder", tmp_path).train, size))
    assert ImageProfile.from_dict(json.loads(json.dumps(profile.as_dict()))) == profile
    assert (profile.height, profile.width) == ((40, 40), (60, 60))

    def notes(pixels: np.ndarray) -> str:
        return "; ".join(profile.check(read_input(save(tmp_path / "new" / "x.png", pixels), size)))

    grey = np.random.default_rng(0).integers(30, 200, (*SIZE, 3), dtype=np.uint8)
    white = grey.copy()
    white[:, :30] = 255
    assert notes(grey) == ""
    assert "60 x 40" not in notes(grey)
    assert notes(np.full((*SIZE, 3), 7, np.uint8)) == "constant: every pixel is 7 of 255"
    assert notes(grey // 40).startswith("nearly black")
    assert notes(white).startswith("saturated: 4") or notes(white).startswith("saturated: 5")
    assert notes(np.tile(grey, (4, 4, 1))).startswith(
        "240 x 160 pixels; the training images have 60 to 60 x 40"
    )
    assert "width to height is 3.00; 1.50 to 1.50 at training" in notes(np.tile(grey, (1, 2, 1)))
    assert notes(grey[:20, :30]) == "30 x 20 pixels: an edge below 32"
    for wrong in (None, {}, {"height": 3}):
        with pytest.raises(InputError, match=r"ImageProfile: .* is damaged"):
            ImageProfile.from_dict(wrong)
