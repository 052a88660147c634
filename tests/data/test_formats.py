"""Official layouts of the other data sets, made by generators: splits, kinds, masks, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thfr.data import categories, dataset_names, fingerprint, load_dataset
from thfr.data.base import Dataset
from thfr.errors import InputError

SIZE = (12, 16)


def save(path: Path, pixels: np.ndarray | None = None) -> Path:
    if pixels is None:
        seed = sum(map(ord, path.name))
        pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def mask(value: int = 255) -> np.ndarray:
    """Two components, 4 and 6 pixels."""
    pixels = np.zeros(SIZE, np.uint8)
    pixels[1:3, 1:3] = pixels[8:10, 4:7] = value
    return pixels


def make_mpdd(root: Path) -> None:
    for category in ("bracket_black", "metal_plate"):
        for number in range(3):
            save(root / category / f"train/good/{number:03d}.png")
        save(root / category / "test/good/000.png")
        for number in range(2):
            save(root / category / f"test/hole/{number:03d}.png")
            save(root / category / f"ground_truth/hole/{number:03d}_mask.png", mask())


def make_btad(root: Path) -> None:
    for category, suffix in (("01", "bmp"), ("02", "png"), ("03", "bmp")):
        for number in range(3):
            save(root / category / f"train/ok/{number:04d}.{suffix}")
        save(root / category / f"test/ok/0000.{suffix}")
        for number in range(2):
            save(root / category / f"test/ko/{number:04d}.{suffix}")
            kind = "bmp" if category == "03" else "png"
            save(root / category / f"ground_truth/ko/{number:04d}.{kind}", mask())


def make_mvtec_ad_2(root: Path) -> None:
    for category in ("can", "vial"):
        for number in range(3):
            save(root / category / f"train/good/{number:03d}_regular.png")
        save(root / category / "validation/good/000_regular.png")
        for light in ("regular", "underexposed"):
            save(root / category / f"test_public/good/000_{light}.png")
            save(root / category / f"test_public/bad/000_{light}.png")
            save(root / category / f"test_public/ground_truth/bad/000_{light}_mask.png", mask())
        save(root / category / "test_private/000_regular.png")
        save(root / category / "test_private_mixed/000_mixed.png")


def make_visa(root: Path) -> None:
    rows = []
    for category in ("candle", "pcb1"):
        images = f"{category}/Data/Images"
        for number in range(4):
            image = f"{images}/Normal/{number:04d}.JPG"
            save(root / image)
            rows.append((category, "train" if number < 3 else "test", "normal", image, ""))
        for number in range(2):
            image, label = (
                f"{images}/Anomaly/{number:03d}.JPG",
                f"{category}/Data/Masks/Anomaly/{number:03d}.png",
            )
            save(root / image)
            save(root / label, mask(number + 1))
            rows.append((category, "test", "anomaly", image, label))
    path = root / "split_csv" / "1cls.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])


def make_dagm(root: Path) -> None:
    for category in ("Class1", "Class2"):
        for split in ("Train", "Test"):
            for number in range(3):
                save(root / category / split / f"{number:04d}.PNG")
            save(root / category / split / "0576.PNG")
            save(root / category / split / "Label" / "0576_label.PNG", mask())
            (root / category / split / "Label" / "Labels.txt").write_text("1\n")


def make_kolektor(root: Path) -> None:
    for item in range(1, 5):
        for part in range(3):
            folder = root / "KolektorSDD" / f"kos{item:02d}"
            save(folder / f"Part{part}.jpg")
            save(folder / f"Part{part}_label.bmp", mask() if part == 2 else np.zeros(SIZE, np.uint8))


def make_kolektor_2(root: Path) -> None:
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(4):
            folder = root / "KolektorSDD2" / split
            save(folder / f"{first + number}.png")
            save(folder / f"{first + number}_GT.png", mask() if number == 3 else np.zeros(SIZE, np.uint8))
    for name in ("10000", "10000_GT"):  # the official archive holds such copies of one image
        shutil.copy(root / f"KolektorSDD2/train/{name}.png", root / f"KolektorSDD2/train/{name} (copy).png")


def make_real_iad(root: Path) -> None:
    for category in ("audiojack", "zipper"):
        entries: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}

        def add(split: str, kind: str, item: int, view: int, name: str, into: dict) -> None:
            place = f"{'OK' if kind == 'OK' else f'NG/{kind}'}/S{item:04d}"
            stem = f"{name}_{item:04d}_{kind}_C{view}_20230921"
            save(root / "realiad_1024" / name / place / f"{stem}.jpg")
            label = None
            if kind != "OK":
                label = f"{place}/{stem}.png"
                save(root / "realiad_1024" / name / label, mask())
            entry = {"category": name, "anomaly_class": kind, "image_path": f"{place}/{stem}.jpg"}
            into[split].append({**entry, "mask_path": label})

        for view in range(1, 6):
            add("train", "OK", 1, view, category, entries)
            add("test", "OK", 2, view, category, entries)
            add("test", "HS", 3, view, category, entries)
        entries["test"][-1]["mask_path"] = None  # the defect cannot be seen from here
        meta = {"normal_class": "OK", "prefix": f"{category}/", "pre_transform": []}
        path = root / "realiad_jsons" / "realiad_jsons" / f"{category}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"meta": meta, **entries}))


# format: generator, categories, (train, validation, test), kinds
LAYOUTS: dict[str, tuple[Callable[[Path], None], list[str], tuple[int, int, int], list[str]]] = {
    "mpdd": (make_mpdd, ["bracket_black", "metal_plate"], (3, 0, 3), ["hole"]),
    "btad": (make_btad, ["01", "02", "03"], (3, 0, 3), ["ko"]),
    "mvtec_ad_2": (make_mvtec_ad_2, ["can", "vial"], (3, 1, 4), ["bad"]),
    "visa": (make_visa, ["candle", "pcb1"], (3, 0, 3), ["anomaly"]),
    "dagm": (make_dagm, ["Class1", "Class2"], (3, 0, 4), ["defect"]),
    "kolektor": (make_kolektor, ["KolektorSDD"], (4, 0, 6), ["crack"]),
    "kolektor_2": (make_kolektor_2, ["KolektorSDD2"], (3, 0, 4), ["defect"]),
    "real_iad": (make_real_iad, ["audiojack", "zipper"], (5, 0, 10), ["scratch"]),
}


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    LAYOUTS[request.getfixturevalue("name")][0](tmp_path / "data")
    return tmp_path / "data"


def opened(name: str, root: Path) -> list[Dataset]:
    base = root / "realiad_1024" if name == "real_iad" else root
    found = [load_dataset(name, root, category) for category in LAYOUTS[name][1]]
    if not name.startswith("kolektor"):
        assert categories(base, name) == LAYOUTS[name][1]
    return found


def test_every_format_is_tested() -> None:
    assert set(dataset_names()) == {*LAYOUTS, "mvtec_ad", "mvtec_loco", "folder", "table"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_official_layout(name: str, root: Path) -> None:
    _, names, counts, kinds = LAYOUTS[name]
    for category, dataset in zip(names, opened(name, root), strict=True):
        assert (dataset.name, dataset.category) == (name, category)
        assert tuple(len(split) for split in (dataset.train, dataset.validation, dataset.test)) == counts
        assert dataset.kinds == kinds
        assert dataset.has_masks
        assert not any(sample.is_anomalous for sample in dataset.train + dataset.validation)
        ids = [(sample.split, sample.kind, sample.id) for sample in dataset.samples]
        assert len(set(ids)) == len(ids)
        dataset.verify()
        for sample in dataset.test:
            expected = [4, 6] if sample.is_anomalous else []
            assert sorted(dataset.regions(sample).saturations) == expected
            assert dataset.mask(sample).shape == SIZE
        assert load_dataset(dataset.name, dataset.root, dataset.category) == dataset
        assert load_dataset(name, dataset.folder) == dataset
        assert set(fingerprint(dataset)) >= {"train", "test"}


@pytest.mark.parametrize("name", [name for name in LAYOUTS if not name.startswith("kolektor")])
def test_a_missing_category_lists_what_is_there(name: str, root: Path) -> None:
    with pytest.raises(InputError, match=f"no category 'none'.*{LAYOUTS[name][1][0]}"):
        load_dataset(name, root, "none")
    with pytest.raises(InputError, match=f"category must be given.*{LAYOUTS[name][1][0]}"):
        load_dataset(name, root)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_or_broken_mask_is_named(name: str, root: Path) -> None:
    dataset = opened(name, root)[0]
    path = next(sample.mask_paths[0] for sample in dataset.test if sample.is_anomalous)
    path.write_bytes(b"broken")
    if name not in ("kolektor", "kolektor_2"):
        with pytest.raises(InputError, match=rf"verify: 1 problem.*\n.*{path.name}"):
            dataset.verify()
    path.unlink()
    if name == "dagm":  # the label is all that tells good from bad
        return
    with pytest.raises(InputError, match=rf"{name}: .*({path.name}|{path.stem.split('_')[0]})"):
        load_dataset(name, root, dataset.category)


@pytest.mark.parametrize("name", ["mpdd", "btad", "mvtec_ad_2"])
def test_without_masks(name: str, root: Path) -> None:
    for path in [*root.rglob("*_mask.png"), *root.rglob("ground_truth/ko/*")]:
        path.unlink()
    dataset = opened(name, root)[0]
    assert not dataset.has_masks
    assert any("no" in note and "ground_truth" in note for note in dataset.notes)


@pytest.mark.parametrize("name", ["mvtec_ad_2"])
def test_limits_of_the_protocol(name: str, root: Path) -> None:
    assert opened(name, root)[0].PRO_LIMIT == 0.05


@pytest.mark.parametrize("name", ["visa"])
def test_visa_split_file(name: str, root: Path) -> None:
    split = root / "split_csv" / "1cls.csv"
    before = split.read_text()
    split.write_text("\ufeff" + before, encoding="utf-8")  # as spreadsheets write it
    assert len(load_dataset("visa", root, "candle").train) == 3
    (root / "candle/Data/Images/Normal/0001.JPG").unlink()
    with pytest.raises(InputError, match=r"visa: 1 file\(s\) .* missing: .*0001\.JPG"):
        load_dataset("visa", root, "candle")
    for wrong, message in (
        (before.replace(",test,normal", ",later,normal"), "split must be train or test, got 'later'"),
        (before.replace("object,", "thing,"), "must have the columns object, split"),
        (before.replace("test,anomaly", "train,anomaly"), "expected a one-class split"),
    ):
        split.write_text(wrong)
        with pytest.raises(InputError, match=f"visa: .*{message}"):
            load_dataset("visa", root, "pcb1")
    split.unlink()
    with pytest.raises(InputError, match=r"visa: cannot read .*1cls\.csv"):
        load_dataset("visa", root, "candle")


@pytest.mark.parametrize("name", ["kolektor"])
def test_kolektor_has_no_item_on_both_sides(name: str, root: Path) -> None:
    (dataset,) = opened(name, root)
    items = [{sample.path.parent.name for sample in split} for split in (dataset.train, dataset.test)]
    assert items == [{"kos01", "kos02"}, {"kos03", "kos04"}]
    assert dataset.notes == ("2 defective training image(s) are left out",)


@pytest.mark.parametrize("name", ["real_iad"])
def test_real_iad_views_and_sizes(name: str, root: Path) -> None:
    dataset = load_dataset("real_iad", root / "realiad_1024", "zipper")
    assert {sample.product for sample in dataset.test} == {"OK/S0002", "NG/HS/S0003"}
    assert [sample.is_anomalous for sample in dataset.test if "NG" in sample.product] == [True] * 4 + [False]
    (root / "realiad_256" / "zipper" / "OK").mkdir(parents=True)
    with pytest.raises(InputError, match="images of several sizes; give one of realiad_1024, realiad_256"):
        load_dataset("real_iad", root, "zipper")
    path = root / "realiad_jsons/realiad_jsons/zipper.json"
    path.write_text("[]")
    with pytest.raises(InputError, match=r"real_iad: cannot read .*zipper\.json"):
        load_dataset("real_iad", root / "realiad_1024", "zipper")
    path.unlink()
    with pytest.raises(InputError, match=r"real_iad: no zipper\.json"):
        load_dataset("real_iad", root / "realiad_1024", "zipper")


@pytest.mark.parametrize("name", ["dagm"])
def test_dagm_label_without_image(name: str, root: Path) -> None:
    (root / "Class1/Test/0576.PNG").unlink()
    with pytest.raises(InputError, match=r"dagm: 1 label\(s\) .* belong to no image: 0576_label\.PNG"):
        load_dataset("dagm", root, "Class1")
