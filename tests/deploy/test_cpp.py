"""The C++ example says what Python says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import toy_method
from support.exporting import exporting
from support.methods import small_config
from thfr.data.synth import render, split_sizes
from thfr.deploy.export.run import export_run
from thfr.deploy.exported import load
from thfr.io import read_image
from thfr.methods.common.bank import TemplateBank
from thfr.methods.registry import config_from_values
from thfr.methods.thfr import THFRDetector
from thfr.training import train

from .conftest import pictures

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cpp"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openvino = pytest.importorskip("openvino", reason="the extra openvino is absent: no C++ runtime")
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no CMake or no C++ compiler")
    roots = [*os.environ.get("CMAKE_PREFIX_PATH", "").split(os.pathsep), "/usr", "/usr/local"]
    if not any((Path(root) / "include" / "stb" / "stb_image.h").is_file() for root in roots if root):
        pytest.skip("stb_image.h is absent: apt install libstb-dev")
    build = tmp_path_factory.mktemp("build")
    package = Path(openvino.__file__).parent / "cmake"
    for command in (
        ["cmake", "-S", str(EXAMPLE), "-B", str(build), f"-DOpenVINO_DIR={package}"],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "thfr_score"


def compared(binary: Path, folder: Path, paths: list[Path]) -> list[str]:
    """The verdicts, which with the scores must be those of Python."""
    command = [str(binary), str(folder), *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = load(folder).score([read_image(path) for path in paths])
    rows = [line.split("\t") for line in lines]
    assert [row[2] for row in rows] == list(map(str, paths))
    np.testing.assert_allclose([float(row[0]) for row in rows], wanted.scores, rtol=0, atol=1e-4)
    assert [row[1] for row in rows] == wanted.verdicts
    return [row[1] for row in rows]


def demo_images(folder: Path, split: str, most: int = 96) -> list[Path]:
    """Images of ``thfr demo``, of each kind at most so many; making all of its set takes twice as long."""
    paths = []
    for stream, ((of, kind), count) in enumerate(split_sizes(96).items()):
        for index in range(min(count, most) if of == split else 0):
            paths.append(folder / split / f"{kind}-{index}.png")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(kind, index, (0, stream, index))[0]).save(paths[-1])
    return paths


@exporting
def test_the_demos_images(binary: Path, detector: THFRDetector, tmp_path: Path) -> None:
    """The 96 that it tests with, by a run whose threshold lies among their scores."""
    train, validation, test = (
        demo_images(tmp_path, *some) for some in (("train", 6), ("validation",), ("test",))
    )
    good = [detector.prepare([read_image(path) for path in some]) for some in (train, validation)]
    other = detector.with_bank(TemplateBank.build([level.clone() for level in detector.features(good[0])]))
    other.calibrate(good[1], 0.2, "validation images")
    (tmp_path / "run").mkdir()
    other.save(tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "out", "onnx", validation[0].parent)
    assert len(test) == 96
    verdicts = compared(binary, tmp_path / "out", test)
    assert min(verdicts.count("good"), verdicts.count("bad")) >= 10


def test_images_of_every_size(binary: Path, exported: Path, tmp_path: Path) -> None:
    """Larger and smaller than the input, and of its own size."""
    paths = []
    for number, size in enumerate([(80, 100), (64, 64), (500, 321), (64, 40)]):
        for index, picture in enumerate(pictures(3, *size)):
            if index % 2:
                picture[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = (10, 200, 30)
            paths.append(tmp_path / f"{number}-{index}.png")
            Image.fromarray(picture).save(paths[-1])
    compared(binary, exported, paths)


@exporting
def test_a_letterboxed_rectangle(binary: Path, good_folder: Path, tmp_path: Path) -> None:
    values = small_config("padim", holdout=0.3).model_dump(mode="json")
    with toy_method.registered():
        model = {"size": "64x96", "tiles": "1x2", "fit": "letterbox"}
        config = config_from_values({"method": "toy", "training": values["training"], "model": model})
        train(config, sorted(good_folder.iterdir()), tmp_path / "run", progress=False, device="cpu")
        export_run(tmp_path / "run", tmp_path / "out", "onnx", good_folder)
    paths = []
    for number, size in enumerate([(80, 100), (60, 190), (300, 121)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pictures(1, *size)[0]).save(paths[-1])
    compared(binary, tmp_path / "out", paths)


def test_what_cannot_be_read(binary: Path, exported: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(binary), str(exported), str(tmp_path / "none.png")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "none.png" in done.stderr
    assert subprocess.run([str(binary)], capture_output=True, check=False).returncode == 2
