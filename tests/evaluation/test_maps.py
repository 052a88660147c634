"""Any method's maps: names are checked before anything is scored, pixels as files are read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from thfr.data import Dataset
from thfr.errors import InputError
from thfr.evaluation import evaluate_maps, open_maps

Write = Callable[[Dataset], Path]
SHAPE = (12, 20)


@pytest.mark.parametrize("name", ["mvtec_ad", "mvtec_loco"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_maps_come_back_as_written(
    name: str, dtype: type, write_maps: Write, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(name)
    folder = write_maps(dataset)
    written = {}
    for sample in dataset.test:
        path = folder / dataset.category / "test" / sample.kind / f"{sample.id}.tiff"
        written[sample] = tifffile.imread(path).astype(dtype)
        tifffile.imwrite(path, written[sample])
    maps = open_maps(folder, dataset)
    for sample, values in written.items():
        assert maps(sample).dtype == np.float32
        np.testing.assert_array_equal(maps(sample), values.astype(np.float32))
    assert evaluate_maps(dataset, maps) == evaluate_maps(dataset, written)


def test_missing_and_unexpected_maps_are_listed(mvtec_ad: Dataset, write_maps: Write) -> None:
    folder = write_maps(mvtec_ad) / "nut" / "test"
    (folder / "good" / "000.tiff").rename(folder / "good" / "000.tif")
    (folder / "hole").mkdir()
    (folder / "scratch" / "001.tiff").rename(folder / "hole" / "001.tiff")
    (folder / "good" / ".DS_Store").write_bytes(b"not a map")
    with pytest.raises(InputError) as caught:
        open_maps(folder.parents[1], mvtec_ad)
    message = str(caught.value)
    assert message.startswith("evaluate: maps: expected exactly one map for each of the 5 test images of nut")
    missing, unexpected = message.split("unexpected: 2")
    assert "missing: 2" in missing
    assert str(folder / "good" / "000.tiff") in missing
    assert str(folder / "scratch" / "001.tiff") in missing
    assert str(folder / "good" / "000.tif") in unexpected
    assert str(folder / "hole" / "001.tiff") in unexpected
    assert ".DS_Store" not in message


def test_a_long_list_is_cut(mvtec_ad: Dataset, write_maps: Write) -> None:
    folder = write_maps(mvtec_ad)
    for number in range(30):
        tifffile.imwrite(
            folder / "nut" / "test" / "good" / f"9{number:02d}.tiff", np.zeros(SHAPE, np.float32)
        )
    with pytest.raises(InputError, match=r"unexpected: 30\n(.*\n){10}    and 20 more"):
        open_maps(folder, mvtec_ad)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((20, 12), np.float32), r"000\.tiff is 12x20 \(W x H\), its image .*000\.png is 20x12"),
        (np.zeros(SHAPE, np.uint8), r"000\.tiff holds uint8, expected floating-point pixels"),
        (np.zeros(SHAPE, np.uint16), r"000\.tiff holds uint16, expected floating-point pixels"),
        (
            np.zeros((*SHAPE, 3), np.float32),
            r"000\.tiff holds shape \[12, 20, 3\], expected one channel \[12,20\]",
        ),
        (
            np.zeros((2, *SHAPE), np.float32),
            r"000\.tiff holds shape \[2, 12, 20\], expected one channel \[12,20\]",
        ),
    ],
)
def test_unusable_maps_are_named(
    mvtec_ad: Dataset, write_maps: Write, values: np.ndarray, message: str
) -> None:
    folder = write_maps(mvtec_ad)
    photometric = "rgb" if values.ndim == 3 and values.shape[2] == 3 else "minisblack"
    tifffile.imwrite(folder / "nut" / "test" / "dent" / "000.tiff", values, photometric=photometric)
    with pytest.raises(InputError, match=message):
        evaluate_maps(mvtec_ad, open_maps(folder, mvtec_ad))


def test_what_is_no_tiff_is_named(mvtec_ad: Dataset, write_maps: Write) -> None:
    folder = write_maps(mvtec_ad)
    path = folder / "nut" / "test" / "dent" / "000.tiff"
    path.write_bytes(b"no TIFF at all")
    with pytest.raises(InputError, match=r"dent.000\.tiff cannot be read as TIFF"):
        evaluate_maps(mvtec_ad, open_maps(folder, mvtec_ad))
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"dent.000\.tiff cannot be read as TIFF"):
        evaluate_maps(mvtec_ad, open_maps(folder, mvtec_ad))


def test_a_nan_names_the_file(mvtec_ad: Dataset, write_maps: Write) -> None:
    folder = write_maps(mvtec_ad)
    values = np.zeros(SHAPE, np.float32)
    values[3, 4] = np.nan
    path = folder / "nut" / "test" / "dent" / "000.tiff"
    tifffile.imwrite(path, values)
    with pytest.raises(InputError, match=rf"{path} holds 1 NaN"):
        evaluate_maps(mvtec_ad, open_maps(folder, mvtec_ad))


def test_the_folder_must_be_there(mvtec_ad: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^evaluate: maps: expected the folder .*nothing.nut.test"):
        open_maps(tmp_path / "nothing", mvtec_ad)


def test_every_unusable_map_is_told_by_several_threads(mvtec_ad: Dataset, write_maps: Write) -> None:
    folder = write_maps(mvtec_ad)
    for place in ("dent/000", "good/001"):
        tifffile.imwrite(folder / "nut" / "test" / f"{place}.tiff", np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match=r"unusable: 2\n(.*is 4x3 \(W x H\).*\n?){2}$"):
        evaluate_maps(mvtec_ad, open_maps(folder, mvtec_ad), threads=3)


@pytest.mark.parametrize("name", ["mvtec_ad", "mvtec_loco"])
def test_threads_change_no_bit_and_bounded_memory_stays_within_its_bounds(
    name: str, write_maps: Write, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(name)
    folder = write_maps(dataset)
    exact = evaluate_maps(dataset, open_maps(folder, dataset))
    assert evaluate_maps(dataset, open_maps(folder, dataset), threads=3) == exact
    bounded = evaluate_maps(dataset, open_maps(folder, dataset), threads=2, memory=5_000_000)
    bounds = bounded.pop("error_bounds")
    assert abs(bounded["pixel_auroc"] - exact["pixel_auroc"]) <= bounds["pixel_auroc"]
    assert abs(bounded["au_pro"] - exact["au_pro"]) <= bounds["au_pro"]
    for kind, areas in exact.get("localization", {}).get("auc_spro", {}).items():
        bound = 1e-3 if kind == "mean" else bounds[f"auc_spro.{kind}"]
        for limit, area in areas.items():
            assert abs(bounded["localization"]["auc_spro"][kind][limit] - area) <= bound
    with pytest.raises(InputError, match=r"^evaluate: memory: expected at least \d,000,000 bytes, got 1,000"):
        evaluate_maps(dataset, open_maps(folder, dataset), memory=1000)


def test_maps_are_evaluated_without_torch(mvtec_loco: Dataset, write_maps: Write, tmp_path: Path) -> None:
    """Importing torch takes longer than the figures of a whole category."""
    command = ["evaluate", "--maps", str(write_maps(mvtec_loco)), "--dataset", "mvtec_loco"]
    command += ["--data", str(mvtec_loco.root), "--category", mvtec_loco.category, "--json"]
    command += ["--out", str(tmp_path / "metrics.json")]
    code = "import sys; from thfr.cli import main; assert main(sys.argv[1:]) == 0; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "'tifffile'" in modules
    for heavy in ("torch", "timm", "scipy", "skimage", "matplotlib", "thfr_ext"):
        assert f"'{heavy}'" not in modules
    assert json.loads((tmp_path / "metrics.json").read_text())["pixel_auroc"] is not None
