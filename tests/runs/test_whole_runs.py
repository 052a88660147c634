"""Run folders as a whole: their files belong together, and bad ones end in one clear error, at once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from thfr.cli import main
from thfr.errors import InputError
from thfr.inference import calibrate
from thfr.methods import Detector
from thfr.runs import files
from thfr.runs.lock import locked
from thfr.training import train

from .conftest import tiny


def test_files_of_another_run_are_named(
    run: Path, images: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    train(tiny(holdout=0.34, seed=1), images, other, device="cpu", progress=False)
    for name in (files.CONFIG, files.MODEL, files.THRESHOLD):
        kept = (run / name).read_bytes()
        shutil.copy(other / name, run / name)
        with pytest.raises(InputError, match=rf"{name}"):
            Detector.load(run, "cpu")
        (run / name).write_bytes(kept)
    weights = load_file(run / files.BACKBONE)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    save_file({**weights, name: weights[name] + 1}, run / files.BACKBONE)
    with pytest.raises(InputError, match=rf"{files.BACKBONE} is not the file that its training wrote"):
        Detector.load(run, "cpu")
    (run / files.BACKBONE).unlink()
    with pytest.raises(InputError, match=rf"{files.BACKBONE} is missing"):
        Detector.load(run, "cpu")


def test_an_older_run_says_nothing_and_loads(run: Path) -> None:
    """Without digests, without a colour scale, and a threshold that does not say whose it is."""
    expected = Detector.load(run, "cpu").threshold
    for name, key in ((files.RUN, "digests"), (files.THRESHOLD, "run")):
        values = json.loads((run / name).read_text())
        del values[key]
        (run / name).write_text(json.dumps(values))
    (run / files.SCALE).unlink()
    detector = Detector.load(run, "cpu")
    assert detector.threshold == expected is not None
    assert detector.scale is None


def test_a_threshold_set_anew_belongs_to_the_run(run: Path, images: list[Path], tmp_path: Path) -> None:
    before = Detector.load(run, "cpu")
    new = calibrate(run, images[0].parent, 0.3, device="cpu")
    after = Detector.load(run, "cpu")
    assert after.threshold == new != before.threshold
    assert after.scale is not None
    assert after.scale != before.scale
    assert after.digest == before.digest


def test_the_scale_is_stored_by_held_out_images_or_by_templates(images: list[Path], tmp_path: Path) -> None:
    held = train(tiny(holdout=0.34), images, tmp_path / "held", device="cpu", progress=False)
    templates = train(tiny(), images, tmp_path / "templates", device="cpu", progress=False)
    assert held.scale is not None
    assert templates.scale is not None
    assert held.scale.source == "the highest score of 2 good images not learnt from"
    assert held.threshold is not None
    assert templates.scale.source.startswith("the highest score of 6 good training images")
    for detector, name in ((held, "held"), (templates, "templates")):
        assert Detector.load(tmp_path / name, "cpu").scale == detector.scale


def test_two_trainings_in_one_folder_are_one_too_many(images: list[Path], tmp_path: Path) -> None:
    with locked(tmp_path / "run", "other"), pytest.raises(InputError, match="^train: another process is at work"):
        train(tiny(), images, tmp_path / "run", device="cpu", progress=False)
    train(tiny(), images, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run" / files.LOCK).exists()


def put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content) and None


def not_finite(run: Path) -> None:
    """NaN among the weights, in a run that says nothing of its files."""
    tensors = load_file(run / files.MODEL)
    name = next(name for name in tensors if name.startswith("network.") and tensors[name].is_floating_point())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, run / files.MODEL)
    values = json.loads((run / files.RUN).read_text())
    (run / files.RUN).write_text(json.dumps({**values, "digests": {}}))


DEEP_JSON, DEEP_YAML = b'{"a":' * 100_000, b"[" * 100_000
BAD = {
    "config of bytes": (put(files.CONFIG, b"\xff\xfe\x00"), files.CONFIG),
    "config of a list": (put(files.CONFIG, b"[1, 2]"), files.CONFIG),
    "deep config": (put(files.CONFIG, DEEP_YAML), files.CONFIG),
    "config of wrong types": (put(files.CONFIG, b"method: thfr\nmodel: 3\n"), files.CONFIG),
    "config of an absurd size": (put(files.CONFIG, b"method: thfr\nmodel: {size: 1000000000}\n"), files.CONFIG),
    "config of an absurd width": (
        put(files.CONFIG, b"method: thfr\nmodel: {backbone: resnet18, bottleneck_channels: 16000000}\n"),
        files.CONFIG,
    ),
    "unknown method": (put(files.CONFIG, b"method: os.system\n"), files.CONFIG),
    "deep metadata": (put(files.RUN, DEEP_JSON), files.RUN),
    "metadata of wrong types": (put(files.RUN, b'{"steps": []}'), files.RUN),
    "threshold of wrong types": (put(files.THRESHOLD, b'{"scores": 3, "wanted_rate": "x"}'), files.THRESHOLD),
    "deep threshold": (put(files.THRESHOLD, DEEP_JSON), files.THRESHOLD),
    "threshold of huge numbers": (
        put(files.THRESHOLD, b'{"scores": [1e999], "wanted_rate": 0.1, "source": "x"}'),
        files.THRESHOLD,
    ),
    "scale of wrong types": (put(files.SCALE, b'{"low": null}'), files.SCALE),
    "scale upside down": (
        put(files.SCALE, b'{"low": 3, "threshold": 2, "high": 1, "source": "", "from_good": true}'),
        files.SCALE,
    ),
    "model of bytes": (put(files.MODEL, b"\x00" * 100), files.MODEL),
    "weights that are not finite": (not_finite, files.MODEL),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_run_folder_is_exit_2_with_its_file(
    name: str, run: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, file = BAD[name]
    spoil(run)
    started = time.process_time()
    code = main(["predict", str(run), str(images[0]), "--out", str(tmp_path / "out"), "--device", "cpu"])
    spent = time.process_time() - started
    said = capsys.readouterr()
    assert code == 2, said.err
    assert said.out == ""
    assert file in said.err
    assert "Traceback" not in said.err
    assert spent < 1.5
    assert not (tmp_path / "out").exists()
