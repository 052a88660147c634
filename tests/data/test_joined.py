"""Several categories of a data set, opened together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.data import JoinedDataset, load_dataset
from thfr.errors import InputError
from thfr.predictions.sources import collect


def write(path: Path, value: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, width, 3), value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories whose images have the same names, and another size."""
    for name, width in (("nut", 8), ("bolt", 12)):
        write(tmp_path / name / "train" / "good" / "000.png", 90, width)
        write(tmp_path / name / "test" / "good" / "000.png", 90, width)
        write(tmp_path / name / "test" / "dent" / "000.png", 10, width)
        mask = np.zeros((8, width), np.uint8)
        mask[2:4, 2 : width - 3] = 255
        path = tmp_path / name / "ground_truth" / "dent" / "000_mask.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(mask).save(path)
    return tmp_path


def test_each_sample_says_its_category_and_has_its_own_mask(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, ["nut", "bolt"])
    assert isinstance(dataset, JoinedDataset)
    assert [part.category for part in dataset.parts] == ["nut", "bolt"]
    assert [sample.category for sample in dataset.train] == ["nut", "bolt"]
    assert {sample.category for sample in dataset.test} == {"nut", "bolt"}
    assert dataset.category == "nut+bolt"
    assert dataset.has_masks
    dents = {sample.category: sample for sample in dataset.test if sample.is_anomalous}
    assert {name: int(dataset.mask(sample).sum()) for name, sample in dents.items()} == {"nut": 6, "bolt": 14}
    assert dataset.regions(dents["bolt"]).saturations == (14,)
    assert dataset.check().problems == ()
    write(root / "bolt" / "ground_truth" / "dent" / "999_mask.png", 255, 12)
    assert "belongs to no test image" in dataset.check().problems[0]


def test_results_of_equal_names_lie_apart(root: Path) -> None:
    items = collect(load_dataset("mvtec_ad", root, ["nut", "bolt"]), Path()).items
    assert [item.name for item in items if item.name.startswith("bolt/")] == [
        "bolt/dent/000.png",
        "bolt/good/000.png",
    ]
    assert "nut/test/dent/000.tiff" in {item.map for item in items}


def test_a_single_name_in_a_list_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="expected two different names or more, got nut"):
        load_dataset("mvtec_ad", root, ["nut"])
