"""A plain folder of good images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.data import ImageFolder, load_dataset
from thfr.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    for name in ("b.png", "a.jpg", "line 1/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("")
    return folder


def test_all_images_are_for_training(folder: Path) -> None:
    dataset = load_dataset("folder", folder)
    assert isinstance(dataset, ImageFolder)
    assert [sample.id for sample in dataset.train] == ["a", "b", "line 1/a"]
    assert {(sample.kind, sample.split) for sample in dataset.train} == {("good", "train")}
    assert dataset.validation == dataset.test == ()
    assert dataset.kinds == []
    assert dataset.folder == folder.resolve()
    assert dataset == load_dataset(dataset.name, dataset.root, dataset.category)
    dataset.verify()


def test_no_region(folder: Path) -> None:
    dataset = load_dataset("folder", folder)
    assert dataset.regions(dataset.train[0]).masks.shape == (0, 4, 6)
    assert not dataset.mask(dataset.train[0]).any()


def test_category_is_a_folder_in_it(folder: Path) -> None:
    assert len(load_dataset("folder", folder, "line 1").train) == 1
    with pytest.raises(InputError, match=r"no category 'line 2'.*found line 1"):
        load_dataset("folder", folder, "line 2")


def test_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder: no image"):
        load_dataset("folder", tmp_path)


def test_verify_names_unreadable_images(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"")
    (folder / "line 1" / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"2 problem\(s\)[^\0]*b\.png[^\0]*line 1/a\.png"):
        load_dataset("folder", folder).verify()
