"""An exported folder says what the run says, and needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from thfr.cli import main
from thfr.deploy import files
from thfr.deploy.exported import is_exported, load, open_detector, resampled
from thfr.errors import InputError
from thfr.io import file_sha256, read_resized, resize_for_model
from thfr.methods import Detector
from thfr.methods.thfr import THFRDetector
from torch.nn import functional as F

from .conftest import SIZE, pictures

_WITHOUT_TORCH = """
import sys, time
begun = time.process_time()
from thfr.deploy.exported import load
import onnxruntime
spent = time.process_time() - begun
import numpy as np
model = load(sys.argv[1], threads=1)
found = model.score([np.full((70, 90, 3), 128, np.uint8)])
assert found.maps[0].shape == (70, 90) and len(found.verdicts) == 1
heavy = {"torch", "scipy", "matplotlib", "timm"} & sys.modules.keys()
assert not heavy, heavy
assert spent < 1, spent
"""


@pytest.mark.parametrize("count", [1, 3, 10])
def test_scores_maps_and_verdicts_are_those_of_the_run(
    detector: THFRDetector, exported: Path, count: int
) -> None:
    images = [*pictures(9), np.zeros((33, 200, 3), np.uint8)][-count:]
    ours, theirs = detector.score(images), load(exported).score(images)
    assert detector.threshold is not None
    np.testing.assert_allclose(theirs.scores, ours.scores, rtol=1e-4)
    assert theirs.verdicts == [detector.threshold.verdict(score) for score in ours.scores.tolist()]
    for mine, other, image in zip(ours.maps, theirs.maps, images, strict=True):
        assert other.shape == image.shape[:2]
        assert other.dtype == np.float32
        np.testing.assert_allclose(other, mine, atol=1e-3 * float(mine.max()))


def test_both_verdicts_occur(detector: THFRDetector, exported: Path) -> None:
    """Else the comparison of verdicts would show nothing."""
    parity = json.loads((exported / files.PARITY).read_text())
    assert 0 < parity["bad"] < parity["images"] + parity["planted"]
    assert parity["passed"]
    assert parity["changed"] == []
    assert 0 < parity["score_difference"] <= parity["score_limit"]
    assert (parity["images"], parity["planted"]) == (10, 20)


def test_the_metadata(detector: THFRDetector, exported: Path) -> None:
    held = json.loads((exported / files.METADATA).read_text())
    assert detector.threshold is not None
    assert held["version"] == files.FORMAT_VERSION
    assert held["size"] == SIZE
    assert held["input"]["shape"] == ["batch", SIZE, SIZE, 3]
    assert held["preprocessing"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert held["preprocessing"]["resize"]["filter"] == "bilinear"
    above = [score for score in detector.threshold.scores if score > detector.threshold.value]
    assert detector.threshold.value < held["threshold"]["limit"] < min(above)
    assert held["digests"]["model.onnx"] == file_sha256(exported / "model.onnx")
    model = load(exported)
    assert model.threshold.value == model.limit == held["threshold"]["limit"]
    assert model.scale is not None
    assert sorted(path.name for path in exported.iterdir()) == ["export.json", "model.onnx", "parity.json"]


def test_the_graph_is_plain_onnx(exported: Path) -> None:
    import onnx

    model = onnx.load(exported / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [single.name for single in model.graph.input] == ["image"]
    assert [single.name for single in model.graph.output] == ["map", "score", "verdict"]
    for single in (*model.graph.input, *model.graph.output):
        assert single.type.tensor_type.shape.dim[0].dim_param


def test_needs_no_torch(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, str(exported)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_predict_takes_an_exported_folder(
    detector: THFRDetector,
    exported: Path,
    good_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", str(exported), str(good_folder), "--out", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["images"]
    ours = detector.score(pictures(10))
    assert detector.threshold is not None
    for row, score in zip(rows, ours.scores.tolist(), strict=True):
        assert row["score"] == pytest.approx(score, rel=1e-4)
        assert row["verdict"] == detector.threshold.verdict(score)


def test_evaluate_takes_an_exported_folder(
    exported: Path, plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its run was trained on ``plates``, were it a real one."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(exported / "model.onnx")
    held = json.loads((exported / files.METADATA).read_text())
    held["dataset"] = {"name": "mvtec_ad", "category": "plate"}
    (folder / files.METADATA).write_text(json.dumps(held))
    assert main(["evaluate", str(folder), "--json"]) == 2
    assert "give --data ROOT" in capsys.readouterr().err
    assert main(["evaluate", str(folder), "--data", str(plates), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["model"]["format"] == "onnx"
    assert 0 <= found["image_auroc"] <= 1
    assert json.loads((folder / "metrics.json").read_text()) == found


def test_bench_takes_an_exported_folder(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(exported), "--repeats", "2", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["batch"] for one in found["batches"]] == [1, 16]
    assert found["batches"][0]["milliseconds"]["total"]["p50"] > 0
    assert found["bytes"] > (exported / "model.onnx").stat().st_size
    with pytest.raises(SystemExit):
        main(["bench", str(exported), "--precision", "bf16"])


def test_open_detector_takes_either(exported: Path, run_folder: Path) -> None:
    assert is_exported(exported)
    assert not is_exported(run_folder)
    assert isinstance(open_detector(run_folder, "cpu"), Detector)
    with pytest.raises(InputError, match="fp32 on the CPU"):
        open_detector(exported, "cuda")
    with pytest.raises(InputError, match="fp32 on the CPU"):
        open_detector(exported, "cpu", "bf16")


def test_what_cannot_be_loaded(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of thfr export"):
        load(tmp_path)
    held = json.loads((exported / files.METADATA).read_text())
    (tmp_path / files.METADATA).write_text(json.dumps(held))
    with pytest.raises(InputError, match=r"holds no model\.onnx"):
        load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"model\.onnx cannot be read"):
        load(tmp_path)
    (tmp_path / files.METADATA).write_text(json.dumps({**held, "version": files.FORMAT_VERSION + 1}))
    with pytest.raises(InputError, match="reads up to"):
        load(tmp_path)
    (tmp_path / "model.onnx").write_bytes((exported / "model.onnx").read_bytes())
    for key in ("size", "threshold", "scale", "digests"):
        (tmp_path / files.METADATA).write_text(json.dumps({**held, key: {"unknown": 1}}))
        with pytest.raises(InputError, match=r"export\.json cannot be read"):
            load(tmp_path)
        (tmp_path / files.METADATA).write_text(json.dumps({k: v for k, v in held.items() if k != key}))
        with pytest.raises(InputError, match=rf"export\.json cannot be read.*{key}"):
            load(tmp_path)


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "image.png"])
def test_images_of_another_kind_are_refused(exported: Path, bad: object) -> None:
    with pytest.raises(InputError, match=r"images\[0\] must be a uint8 array"):
        load(exported).score([bad])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("source", "size"), [((64, 64), (640, 480)), ((64, 64), (33, 64)), ((7, 5), (1, 1)), ((1, 1), (9, 4))]
)
def test_maps_are_resampled_as_torch_does(source: tuple[int, int], size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=source).astype(np.float32)
    wanted = F.interpolate(torch.from_numpy(values)[None, None], size, mode="bilinear", align_corners=False)
    found = resampled(values, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[0, 0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(300, 70), (70, 300), (64, 64), (20, 200), (200, 20)])
def test_a_resize_goes_across_first(shape: tuple[int, int], tmp_path: Path) -> None:
    """Pillow 13 goes down first where an image is tall; older ones never do."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    across = image.resize((64, shape[0]), Image.Resampling.BILINEAR)
    wanted = np.asarray(across.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(resize_for_model(pixels, (64, 64)), wanted)
    path = tmp_path / "image.png"
    image.save(path)
    assert np.array_equal(read_resized(path, (64, 64)), wanted)
