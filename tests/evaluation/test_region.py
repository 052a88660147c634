"""Figures over a region of interest: those of the same data cut down to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from thfr.cli import main
from thfr.data import Dataset, load_dataset
from thfr.evaluation import evaluate_maps
from thfr.io import Region, write_map

ROWS, COLUMNS = slice(4, 30), slice(6, 40)


def write_category(root: Path, cut: bool, outside: str) -> Dataset:
    """Good and scratched images with their masks; ``cut``: only the region of them; ``outside``: whether the
    image whose scratch lies outside of it is a ``scratch``, is ``good``, or is ``left out``.
    """
    rng = np.random.default_rng(0)
    places = {"good": [None, None], "scratch": [(10, 20), (1, 37), (27, 2), (33, 44)]}
    for folder in ("train/good", "test/good", "test/scratch", "ground_truth/scratch"):
        (root / "nut" / folder).mkdir(parents=True)

    def save(name: str, pixels: np.ndarray) -> None:
        Image.fromarray(pixels[ROWS, COLUMNS] if cut else pixels).save(root / "nut" / name)

    save("train/good/0.png", rng.integers(0, 256, (40, 50), dtype=np.uint8))
    for kind, several in places.items():
        for number, place in enumerate(several):
            image = rng.integers(0, 256, (40, 50), dtype=np.uint8)
            if place is None:
                save(f"test/{kind}/{number}.png", image)
                continue
            mask = np.zeros((40, 50), dtype=np.uint8)
            mask[place[0] : place[0] + 5, place[1] : place[1] + 5] = 255
            if not mask[ROWS, COLUMNS].any() and outside != "scratch":
                if outside == "good":
                    save(f"test/good/{kind}{number}.png", image)
                continue
            save(f"test/{kind}/{number}.png", image)
            save(f"ground_truth/{kind}/{number}_mask.png", mask)
    return load_dataset("mvtec_ad", root, "nut")


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    names = [f"good/{number}" for number in range(2)] + [f"scratch/{number}" for number in range(4)]
    return {name: rng.random((40, 50)).astype(np.float32) for name in names}


def test_figures_within_a_region_are_those_of_the_cut_data(tmp_path: Path, maps: Any, capsys: Any) -> None:
    whole = write_category(tmp_path / "a", False, "scratch")
    mask = np.zeros((40, 50), dtype=bool)
    mask[ROWS, COLUMNS] = True
    found = evaluate_maps(whole, lambda one: maps[f"{one.kind}/{one.path.stem}"], region=Region.of_mask(mask))
    maps["good/scratch3"] = maps["scratch/3"]
    expected, of_pixels = (
        evaluate_maps(
            write_category(tmp_path / outside, True, outside),
            lambda one: maps[f"{one.kind}/{one.path.stem}"][ROWS, COLUMNS].copy(),
        )
        for outside in ("left out", "good")
    )
    assert found.pop("region") == {"share": mask.mean(), "images_left_out": 1}
    for name in ("au_pro", "pixel_auroc"):  # nothing is wrong with the pixels of that image
        assert found.pop(name) == pytest.approx(of_pixels[name])
        del expected[name]
    assert found == expected

    for sample in whole.test:
        path = tmp_path / "maps" / "nut" / "test" / sample.kind / f"{sample.path.stem}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_map(path, maps[f"{sample.kind}/{sample.path.stem}"])
    Image.fromarray(mask).save(tmp_path / "roi.png")
    options = ["--maps", str(tmp_path / "maps"), "--data", str(tmp_path / "a"), "--category", "nut"]
    where = ["--dataset", "mvtec_ad", "--out", str(tmp_path / "m.json"), "--roi", str(tmp_path / "roi.png")]
    assert main(["evaluate", *options, *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["image_auroc"] == expected["image_auroc"]
    assert main(["evaluate", *options, *where]) == 0
    assert "within the region of interest, 44% of the image" in capsys.readouterr().out
