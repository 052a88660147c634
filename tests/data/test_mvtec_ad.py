"""MVTec AD's layout, and what every data set shares: lookup of categories, masks, verify, load_images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from thfr.data import MVTecAD, Sample, categories, load_dataset, load_images
from thfr.errors import InputError

SIZE = (12, 16)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def mask_of(*boxes: tuple[slice, slice], value: int = 255) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    for rows, columns in boxes:
        mask[rows, columns] = value
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories; cable has kinds good, bent and cut with two images each."""
    cable = tmp_path / "ad" / "cable"
    for index in range(3):
        save(cable / "train" / "good" / f"{index:03d}.png", picture(index))
    for kind in ("good", "bent", "cut"):
        for index in range(2):
            save(cable / "test" / kind / f"{index:03d}.png", picture(10 + index))
            if kind != "good":
                touching = mask_of((slice(2, 4), slice(2, 4)), (slice(4, 6), slice(4, 6)))  # at a corner
                touching[9, 10:13] = 255
                save(cable / "ground_truth" / kind / f"{index:03d}_mask.png", touching)
    shutil.copytree(cable, tmp_path / "ad" / "zipper")
    (tmp_path / "ad" / "notes").mkdir()
    return tmp_path / "ad"


def sample_of(dataset: MVTecAD, kind: str) -> Sample:
    return next(sample for sample in dataset.test if sample.kind == kind)


def test_splits_and_kinds(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    assert isinstance(dataset, MVTecAD)
    assert (dataset.name, dataset.root, dataset.category) == ("mvtec_ad", root.resolve(), "cable")
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [3, 0, 6]
    assert dataset.kinds == ["bent", "cut"]
    assert [sample.id for sample in dataset.train] == ["000", "001", "002"]
    assert {sample.kind for sample in dataset.train} == {"good"}
    first = sample_of(dataset, "cut")
    assert first.is_anomalous
    assert first.mask_paths == (root.resolve() / "cable/ground_truth/cut/000_mask.png",)
    assert dataset == load_dataset(dataset.name, dataset.root, dataset.category)


def test_regions_are_8_connected(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    regions = dataset.regions(sample_of(dataset, "bent"))
    assert regions.masks.shape == (2, *SIZE)
    assert regions.masks.dtype == bool
    assert sorted(regions.saturations) == [3, 8]
    assert [int(mask.sum()) for mask in regions.masks] == list(regions.saturations)
    np.testing.assert_array_equal(regions.masks.any(axis=0), dataset.mask(sample_of(dataset, "bent")))


def test_good_image_has_no_region(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    good = sample_of(dataset, "good")
    assert not good.is_anomalous
    assert dataset.regions(good).masks.shape == (0, *SIZE)
    assert dataset.regions(good).saturations == ()
    mask = dataset.mask(good)
    assert mask.shape == SIZE
    assert mask.dtype == bool
    assert not mask.any()


# Finding the category


def test_root_may_be_the_category(root: Path) -> None:
    expected = load_dataset("mvtec_ad", root, "cable")
    assert load_dataset("mvtec_ad", root / "cable") == expected
    assert load_dataset("mvtec_ad", root / "cable", "cable") == expected


def test_only_category_is_taken(root: Path) -> None:
    shutil.rmtree(root / "zipper")
    assert load_dataset("mvtec_ad", str(root)).category == "cable"


def test_several_categories_are_listed(root: Path) -> None:
    assert categories(root) == ["cable", "zipper"]
    with pytest.raises(InputError, match=r"category must be given.*cable, zipper"):
        load_dataset("mvtec_ad", root)


@pytest.mark.parametrize("category", ["bottle", "", ".", "..", "cable/train", "/"])
def test_missing_category_lists_what_is_there(root: Path, category: str) -> None:
    with pytest.raises(InputError, match=r"load_dataset: no category.*found cable, notes, zipper"):
        load_dataset("mvtec_ad", root, category)


def test_missing_root(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, what in (("none", "does not exist"), ("file", "a file")):
        with pytest.raises(InputError, match=f"load_dataset: expected a folder of data.*{name}.*{what}"):
            load_dataset("mvtec_ad", tmp_path / name, "cable")


def test_unknown_name(root: Path) -> None:
    with pytest.raises(InputError, match=r"name must be one of .*mvtec_ad, .*visa; got 'viza'"):
        load_dataset("viza", root)


# Layout errors, found without decoding


def test_wrong_layout(root: Path) -> None:
    with pytest.raises(InputError, match=r"mvtec_ad: expected the folder train/good in .*notes.*no folder"):
        load_dataset("mvtec_ad", root, "notes")
    with pytest.raises(InputError, match=r"expected .*train to be a category .* got good"):
        load_dataset("mvtec_ad", root / "cable" / "train")


def test_missing_test_split(root: Path) -> None:
    shutil.rmtree(root / "cable" / "test")
    with pytest.raises(InputError, match=r"expected the folder test in .*cable, got ground_truth, train"):
        load_dataset("mvtec_ad", root, "cable")
    (root / "cable" / "test").mkdir()
    with pytest.raises(InputError, match="the test split is empty"):
        load_dataset("mvtec_ad", root, "cable")


def test_empty_split(root: Path) -> None:
    for path in (root / "cable/train/good").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"mvtec_ad: the train split is empty: no image in .*good"):
        load_dataset("mvtec_ad", root, "cable")


@pytest.mark.parametrize("kind", ["good", "cut"])
def test_an_empty_folder_of_a_kind_counts_as_absent(root: Path, kind: str) -> None:
    for path in (root / "cable/test" / kind).iterdir():
        path.unlink()
    (root / "cable/test" / kind / "Thumbs.db").touch()
    dataset = load_dataset("mvtec_ad", root, "cable")
    assert dataset.kinds == (["bent", "cut"] if kind == "good" else ["bent"])
    assert dataset.notes == (f"test/{kind} is empty: kind {kind} counts as absent",)


def test_all_kinds_empty(root: Path) -> None:
    for path in (root / "cable/test").rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match="mvtec_ad: the test split is empty: no image in the folders of"):
        load_dataset("mvtec_ad", root, "cable")


def test_no_masks_at_all(root: Path) -> None:
    shutil.rmtree(root / "cable/ground_truth")
    dataset = load_dataset("mvtec_ad", root, "cable")
    assert not dataset.has_masks
    assert "no ground_truth" in dataset.notes[0]
    assert not dataset.mask(sample_of(dataset, "good")).any()
    with pytest.raises(InputError, match=r"the anomalous image .*000\.png has no mask"):
        dataset.mask(sample_of(dataset, "cut"))
    dataset.verify()
    assert load_dataset("mvtec_ad", root, "zipper").has_masks


def test_masks_of_any_case_and_extension(root: Path) -> None:
    truth = root / "cable/ground_truth/cut"
    (truth / "000_mask.png").rename(truth / "000_MASK.PNG")
    Image.open(truth / "001_mask.png").save(truth / "001.bmp")
    (truth / "001_mask.png").unlink()
    for number in ("000", "001"):
        image = root / f"cable/test/cut/{number}.png"
        image.rename(image.with_suffix(".PNG"))
    dataset = load_dataset("mvtec_ad", root, "cable")
    names = [sample.mask_paths[0].name for sample in dataset.test if sample.kind == "cut"]
    assert names == ["000_MASK.PNG", "001.bmp"]
    dataset.verify()


def test_all_missing_masks_are_named_with_what_looks_like_them(root: Path) -> None:
    truth = root / "cable/ground_truth/cut"
    (truth / "000_mask.png").rename(truth / "000-mask.png")
    (truth / "001_mask.png").unlink()
    with pytest.raises(InputError) as caught:
        load_dataset("mvtec_ad", root, "cable")
    first, second = str(caught.value).splitlines()
    assert "test/cut/000.png has no mask" in first
    assert "(is it 000-mask.png?)" in first
    assert "test/cut/001.png has no mask" in second


def test_two_masks_of_one_image(root: Path) -> None:
    truth = root / "cable/ground_truth/cut"
    shutil.copy(truth / "000_mask.png", truth / "000_mask.bmp")
    with pytest.raises(InputError, match=r"two masks for .*000\.png: 000_mask\.bmp and 000_mask\.png"):
        load_dataset("mvtec_ad", root, "cable")


def test_exif_orientation_is_not_applied_but_noted(root: Path) -> None:
    path = root / "cable/test/cut/000.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(path, exif=exif)
    dataset = load_dataset("mvtec_ad", root, "cable")
    assert dataset.size(sample_of(dataset, "cut")) == SIZE
    assert dataset.mask(sample_of(dataset, "cut")).shape == SIZE
    assert dataset.check().notes == ("EXIF orientation 6 not applied: pixels as stored: test/cut/000.png",)


def test_check_gathers_notes(root: Path) -> None:
    save(root / "cable/ground_truth/cut/000_mask.png", np.full(SIZE, 255, np.uint8))
    for number in range(3):
        path = root / f"cable/train/good/{number:03d}.png"
        Image.open(path).convert("P").save(path)
    found = load_dataset("mvtec_ad", root, "cable").check()
    assert found.problems == ()
    assert found.notes == (
        "palette expanded to RGB: train/good/000.png, train/good/001.png, train/good/002.png",
        "covers 100% of its image: inverted?: ground_truth/cut/000_mask.png",
    )


def test_all_unreadable_images_are_named(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    for index in (0, 2):
        dataset.train[index].path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"2 of 3 images cannot be read:[^\0]*000\.png[^\0]*002\.png"):
        load_images(dataset.train, SIZE)


def test_missing_mask_is_named(root: Path) -> None:
    (root / "cable/ground_truth/cut/001_mask.png").unlink()
    with pytest.raises(InputError, match=r"test/cut/001\.png has no mask: expected .*cut/001_mask\.png"):
        load_dataset("mvtec_ad", root, "cable")


def test_two_images_of_one_id(root: Path) -> None:
    save(root / "cable/test/good/000.bmp", picture())
    with pytest.raises(InputError, match=r"two images with the id 000: .*000\.bmp and .*000\.png"):
        load_dataset("mvtec_ad", root, "cable")


# Content errors, found on access and all at once by verify


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((16, 12), 255, np.uint8), r"000_mask\.png is 12x16 \(W x H\), its image .* is 16x12"),
        (np.zeros(SIZE, np.uint8), "has no anomalous pixel"),
        (np.arange(192, dtype=np.uint8).reshape(SIZE), r"one non-zero value, got 191: 1, 2, 3, .*\.\.\."),
    ],
)
def test_bad_mask(root: Path, mask: np.ndarray, message: str) -> None:
    save(root / "cable/ground_truth/cut/000_mask.png", mask)
    dataset = load_dataset("mvtec_ad", root, "cable")
    for access in (dataset.mask, dataset.regions):
        with pytest.raises(InputError, match=message):
            access(sample_of(dataset, "cut"))
    with pytest.raises(InputError, match=f"verify: 1 problem.*\n.*{message}"):
        dataset.verify()


def test_mask_may_be_0_and_1(root: Path) -> None:
    save(root / "cable/ground_truth/cut/000_mask.png", mask_of((slice(0, 2), slice(0, 2)), value=1))
    dataset = load_dataset("mvtec_ad", root, "cable")
    assert dataset.regions(sample_of(dataset, "cut")).saturations == (4,)


def test_verify_reports_every_problem(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    dataset.verify(progress=True)
    assert "verify" in capsys.readouterr().err
    cut = (root / "cable/train/good/001.png").read_bytes()[:300]
    (root / "cable/train/good/001.png").write_bytes(cut)
    save(root / "cable/ground_truth/bent/001_mask.png", np.zeros(SIZE, np.uint8))
    (root / "cable/ground_truth/cut/000_mask.png").write_bytes(b"no png")
    save(root / "cable/ground_truth/cut/077_mask.png", mask_of((slice(0, 2), slice(0, 2))))
    with pytest.raises(InputError) as caught:
        dataset.verify()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("verify: 4 problem(s)")
    for line, part in zip(
        lines[1:], ("good/001.png", "bent/001_mask", "cut/000_mask", "cut/077_mask"), strict=True
    ):
        assert part in line


# Loading for a network


def test_load_images(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    images = load_images(dataset.train, SIZE, threads=2)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 3, *SIZE)
    for index in range(3):  # same size: no resampling, order kept
        np.testing.assert_array_equal(images[index].permute(1, 2, 0).numpy(), picture(index))
    mixed = load_images([dataset.train[1], dataset.train[0].path, str(dataset.train[2].path)], (6, 5))
    assert mixed.shape == (3, 3, 6, 5)
    torch.testing.assert_close(mixed[1], load_images(dataset.train[:1], (6, 5))[0], rtol=0, atol=0)


def test_load_images_names_the_file(root: Path) -> None:
    dataset = load_dataset("mvtec_ad", root, "cable")
    dataset.train[1].path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"cannot read .*train/good/001\.png"):
        load_images(dataset.train, SIZE)


def test_load_images_checks_its_arguments(root: Path) -> None:
    path = root / "cable/train/good/000.png"
    for size in ((0, 4), (4, 4, 4), (4.0, 4), (-1, 1)):
        with pytest.raises(InputError, match="load_images: size"):
            load_images([path], size)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="load_images: sources is empty"):
        load_images([], SIZE)
    with pytest.raises(InputError, match="must be a sequence"):
        load_images(str(path), SIZE)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("category", "counts"), [("bottle", (209, 0, 83)), ("transistor_reduced", (50, 0, 10))]
)
def test_real_images(shared: Path, category: str, counts: tuple[int, int, int]) -> None:
    dataset = load_dataset("mvtec_ad", shared / "data" / "mvtec_ad", category)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == counts
    dataset.verify()
    areas = [
        sum(dataset.regions(sample).saturations) - int(dataset.mask(sample).sum())
        for sample in dataset.test
        if sample.is_anomalous
    ]
    assert areas == [0] * len(areas)
    assert load_images(dataset.test[:3], (64, 48)).shape == (3, 3, 64, 48)


def test_images_where_the_layout_has_none_are_noted(root: Path) -> None:
    cable = root / "cable"
    assert load_dataset("mvtec_ad", root, "cable").notes == ()
    for place in ("train/good/line2/x", "train/better/x", "train/x", "test/x", "test/bent/line2/x"):
        save(cable / f"{place}.png", picture(9))
    (cable / "test" / "bent" / "empty").mkdir()
    notes = "\n".join(load_dataset("mvtec_ad", root, "cable").notes)
    assert "train/good: the images in its folder(s) line2 are not read" in notes
    assert "train: the images in its folder(s) better are not read" in notes
    assert "train: 1 image(s) beside its folders are not read: x.png" in notes
    assert "test: 1 image(s) beside its folders are not read: x.png" in notes
    assert "bent: the images in its folder(s) line2 are not read" in notes
