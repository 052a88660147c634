"""MVTec LOCO AD: channels, defects_config.json and saturation areas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from thfr.data import MVTecLOCO, Sample, load_dataset, read_defects_config
from thfr.data.formats.mvtec_loco import Defect
from thfr.errors import InputError

SIZE = (10, 20)
ABSOLUTE = {
    "defect_name": "extra",
    "pixel_value": 255,
    "saturation_threshold": 30,
    "relative_saturation": False,
}
RELATIVE = {
    "defect_name": "stain",
    "pixel_value": 7,
    "saturation_threshold": 0.5,
    "relative_saturation": True,
}
KINDS = ("logical_anomalies", "structural_anomalies")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def channel(value: int, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:rows, :columns] = value
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One category: a logical image with two overlapping regions, a structural one with one."""
    folder = tmp_path / "box"
    places = ["train/good/000", "train/good/001", "validation/good/000", "test/good/000"]
    for place in places + [f"test/{kind}/000" for kind in KINDS]:
        save(folder / f"{place}.png", np.zeros((*SIZE, 3), dtype=np.uint8))
    save(folder / "ground_truth/logical_anomalies/000/000.png", channel(255, 5, 10))
    save(folder / "ground_truth/logical_anomalies/000/001.png", channel(7, 3, 5))
    save(folder / "ground_truth/structural_anomalies/000/000.png", channel(255, 2, 10))
    write_config(folder, [ABSOLUTE, RELATIVE])
    return folder


def write_config(folder: Path, entries: Any) -> None:
    (folder / "defects_config.json").write_text(json.dumps(entries))


def opened(folder: Path) -> tuple[MVTecLOCO, dict[str, Sample]]:
    dataset = load_dataset("mvtec_loco", folder)
    assert isinstance(dataset, MVTecLOCO)
    return dataset, {sample.kind: sample for sample in dataset.test}


def test_splits(folder: Path) -> None:
    dataset, samples = opened(folder)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [2, 1, 3]
    assert dataset.kinds == list(KINDS)
    assert [path.name for path in samples["logical_anomalies"].mask_paths] == ["000.png", "001.png"]
    dataset.verify()


def test_each_png_is_one_region(folder: Path) -> None:
    dataset, samples = opened(folder)
    two = channel(255, 2, 2)
    two[8:, 15:] = 255  # apart, still one region
    save(folder / "ground_truth/structural_anomalies/000/000.png", two)
    assert dataset.regions(samples["structural_anomalies"]).masks.shape == (1, *SIZE)
    regions = dataset.regions(samples["logical_anomalies"])
    assert regions.masks.dtype == bool
    assert [int(mask.sum()) for mask in regions.masks] == [50, 15]  # overlap is kept
    assert regions.saturations == (30, 7)  # min(30, 50); int(0.5 * 15)
    assert dataset.defect_names(samples["logical_anomalies"]) == ("extra", "stain")
    assert dataset.mask(samples["logical_anomalies"]).sum() == 50


def test_absolute_threshold_is_cut_to_the_area(folder: Path) -> None:
    dataset, samples = opened(folder)
    assert dataset.regions(samples["structural_anomalies"]).saturations == (20,)


def test_good_image_has_no_region(folder: Path) -> None:
    dataset, samples = opened(folder)
    assert dataset.regions(samples["good"]).masks.shape == (0, *SIZE)
    assert dataset.mask(samples["good"]).shape == SIZE


@given(threshold=st.floats(0, 1, exclude_min=True), area=st.integers(1, 10**7))
def test_relative_saturation(threshold: float, area: int) -> None:
    result = Defect(
        defect_name="a", pixel_value=1, saturation_threshold=threshold, relative_saturation=True
    ).saturation(area)
    assert isinstance(result, int)
    assert 0 <= result <= area
    assert result <= threshold * area < result + 1


@given(threshold=st.integers(1, 10**7), area=st.integers(1, 10**7))
def test_absolute_saturation(threshold: int, area: int) -> None:
    defect = Defect(defect_name="a", pixel_value=1, saturation_threshold=threshold, relative_saturation=False)
    assert defect.saturation(area) == min(threshold, area)


def test_saturation_of_no_pixel_is_refused(folder: Path) -> None:
    dataset, samples = opened(folder)
    save(folder / "ground_truth/logical_anomalies/000/001.png", channel(7, 1, 1))  # int(0.5 * 1) = 0
    with pytest.raises(InputError, match=r"001\.png has 1 pixel.*0\.5 of stain.*0 pixels"):
        dataset.regions(samples["logical_anomalies"])
    with pytest.raises(InputError, match="verify: 1 problem"):
        dataset.verify()


# Content errors


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (channel(9, 2, 2), r"000\.png holds the pixel value 9, .*does not list \(7, 255\)"),
        (channel(255, 0, 0), "no anomalous pixel"),
        (
            np.maximum(channel(7, 5, 5), channel(255, 2, 2)),
            "must hold one non-zero value, got 2",
        ),
        (np.full((20, 10), 255, np.uint8), r"is 10x20 \(W x H\), its image .* is 20x10"),
    ],
)
def test_bad_channel(folder: Path, mask: np.ndarray, message: str) -> None:
    save(folder / "ground_truth/logical_anomalies/000/000.png", mask)
    dataset, samples = opened(folder)
    for access in (dataset.mask, dataset.regions, dataset.defect_names):
        with pytest.raises(InputError, match=message):
            access(samples["logical_anomalies"])
    with pytest.raises(InputError, match=f"verify: 1 problem.*\n.*{message}"):
        dataset.verify()


def test_stray_channels_are_reported(folder: Path) -> None:
    save(folder / "ground_truth/logical_anomalies/031/000.png", channel(255, 2, 2))
    with pytest.raises(InputError, match=r"031/000\.png belongs to no test image"):
        opened(folder)[0].verify()


# Layout errors


def test_image_without_channel(folder: Path) -> None:
    for path in (folder / "ground_truth/structural_anomalies/000").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"structural_anomalies/000\.png has no mask"):
        opened(folder)
    (folder / "ground_truth/structural_anomalies/000").rmdir()
    with pytest.raises(InputError, match=r"structural_anomalies/000\.png has no mask"):
        opened(folder)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_empty_split(folder: Path, split: str) -> None:
    for path in (folder / split / "good").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=f"mvtec_loco: the {split} split is empty"):
        opened(folder)


def test_unknown_kind(folder: Path) -> None:
    save(folder / "test/scratches/000.png", np.zeros((*SIZE, 3), dtype=np.uint8))
    with pytest.raises(InputError, match=r"test/ may hold good, logical_anomalies, .*; got scratches"):
        opened(folder)


def test_mvtec_ad_folder_is_not_loco(folder: Path) -> None:
    with pytest.raises(InputError, match=r"mvtec_ad: the anomalous image .* has no mask"):
        load_dataset("mvtec_ad", folder)


def test_no_masks_at_all(folder: Path) -> None:
    shutil.rmtree(folder / "ground_truth")
    (folder / "defects_config.json").unlink()
    dataset, samples = opened(folder)
    assert not dataset.has_masks
    assert "no ground_truth" in dataset.notes[0]
    with pytest.raises(InputError, match="has no mask"):
        dataset.regions(samples["logical_anomalies"])


def test_an_empty_kind_is_noted(folder: Path) -> None:
    for path in (folder / "test/structural_anomalies").iterdir():
        path.unlink()
    dataset = load_dataset("mvtec_loco", folder)
    assert dataset.kinds == ["logical_anomalies"]
    assert "test/structural_anomalies is empty: kind structural_anomalies counts as absent" in dataset.notes


def test_channels_in_any_case_and_16_bits(folder: Path) -> None:
    path = folder / "ground_truth/structural_anomalies/000/000.png"
    values = np.asarray(Image.open(path)).astype(np.uint16)
    path.unlink()
    Image.fromarray(values).save(path.with_suffix(".PNG"))
    dataset, samples = opened(folder)
    assert dataset.regions(samples["structural_anomalies"]).saturations == (20,)


# defects_config.json


def test_config_with_a_byte_order_mark(folder: Path) -> None:
    path = folder / "defects_config.json"
    before = read_defects_config(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_defects_config(path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_value": 0}, "entry 0 pixel_value: .*greater than or equal to 1"),
        ({"pixel_value": 256}, "entry 0 pixel_value: .*less than or equal to 255"),
        ({"pixel_value": 1.0}, "entry 0 pixel_value"),
        ({"pixel_value": True}, "entry 0 pixel_value"),
        ({"defect_name": ""}, "entry 0 defect_name"),
        ({"defect_name": 3}, "entry 0 defect_name"),
        ({"saturation_threshold": 0}, "absolute saturation_threshold must be an integer >= 1, got 0"),
        ({"saturation_threshold": 3.0}, "must be an integer >= 1, got 3.0"),
        ({"saturation_threshold": True}, "entry 0 saturation_threshold"),
        ({"saturation_threshold": "3"}, "entry 0 saturation_threshold"),
        ({"relative_saturation": True}, r"must lie in \(0, 1\], got 30"),
        ({"relative_saturation": True, "saturation_threshold": 0.0}, r"must lie in \(0, 1\], got 0.0"),
        ({"relative_saturation": True, "saturation_threshold": float("nan")}, r"\(0, 1\], got nan"),
        ({"relative_saturation": 0}, "entry 0 relative_saturation"),
        ({"colour": 1}, "entry 0 colour: Extra"),
        ({"defect_name": "stain"}, r"defect_name must be unique, \['stain'\]"),
        ({"pixel_value": 7}, r"pixel_value must be unique, \[7\]"),
    ],
)
def test_bad_config_entry(folder: Path, change: dict[str, Any], message: str) -> None:
    write_config(folder, [ABSOLUTE | change, RELATIVE])
    with pytest.raises(InputError, match=rf"defects_config\.json: .*{message}"):
        opened(folder)


@pytest.mark.parametrize("missing", sorted(ABSOLUTE))
def test_config_field_missing(folder: Path, missing: str) -> None:
    write_config(folder, [RELATIVE, {key: value for key, value in ABSOLUTE.items() if key != missing}])
    with pytest.raises(InputError, match=f"entry 1 {missing}: Field required"):
        opened(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[3]", "null", "\udcff"])
def test_config_of_another_shape(folder: Path, content: str) -> None:
    (folder / "defects_config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"read_defects_config: .*defects_config\.json"):
        opened(folder)


def test_config_missing(folder: Path) -> None:
    (folder / "defects_config.json").unlink()
    with pytest.raises(InputError, match=r"read_defects_config: cannot read .*defects_config\.json"):
        opened(folder)


# Real data


@pytest.mark.shared
@pytest.mark.parametrize(
    ("category", "entries"),
    [
        ("juice_bottle", 19),
        ("breakfast_box", 22),
        ("pushpins", 8),
        ("screw_bag", 20),
        ("splicing_connectors", 21),
    ],
)
def test_real_configs(shared: Path, category: str, entries: int) -> None:
    path = shared / "data" / "mvtec_loco" / category / "defects_config.json"
    assert len(read_defects_config(path)) == entries


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder_name", "size", "counts"),
    [("mvtec_loco", (512, 256), (335, 27, 169)), ("mvtec_loco_native", (1600, 800), (6, 3, 9))],
)
def test_real_images(
    shared: Path, folder_name: str, size: tuple[int, int], counts: tuple[int, int, int]
) -> None:
    root = shared / "data" / folder_name
    if not (root / "juice_bottle").is_dir():
        pytest.skip(f"{root} is absent")
    dataset = load_dataset("mvtec_loco", root)  # the only category with images
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == counts
    assert dataset.kinds == ["logical_anomalies"]
    dataset.verify()
    anomalous = [sample for sample in dataset.test if sample.is_anomalous][:5]
    for sample in anomalous:
        regions = dataset.regions(sample)
        assert regions.masks.shape == (1, *size)
        assert regions.saturations == (int(regions.masks.sum()),)  # the union entry: 1.0, relative
        assert dataset.defect_names(sample) == ("logical_anomaly_union",)


@pytest.mark.shared
def test_category_without_images(shared: Path) -> None:
    with pytest.raises(InputError, match=r"expected the folder train/good in .*pushpins"):
        load_dataset("mvtec_loco", shared / "data" / "mvtec_loco", "pushpins")
