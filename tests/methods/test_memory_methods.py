"""What SPADE, PaDiM and PatchCore have in common: fit, score, files, repeatability; their shared patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thfr.backbones import create_backbone
from thfr.errors import InputError
from thfr.methods import Detector, FitContext, config_class, detector_class
from thfr.methods.common.patches import averaged, concatenated, rows
from thfr.runs import files
from thfr.runs.tensors import save_tensors
from torch import Tensor

from .conftest import discs

SIZE = 96
SPOT = (slice(40, 56), slice(56, 72))  # of the planted defect
SMALL: dict[str, dict[str, Any]] = {
    "spade": {"model": {"image_neighbours": 4, "stride": 8}},
    "padim": {"model": {"dimension": 40}},
    "patchcore": {"model": {"bank_ratio": 0.2}, "training": {"projection": 32, "candidates": 1000}},
}


def product(count: int, seed: int) -> Tensor:  # uint8 [N,3,S,S]
    return discs(count, seed, SIZE, 1.5)


def make_config(method: str, backbone: str = "tf_efficientnet_lite0", **changes: Any) -> Any:
    values = {part: dict(fields) for part, fields in SMALL[method].items()}
    values["model"] = {"backbone": backbone, "size": SIZE, **values["model"], **changes.pop("model", {})}
    values["training"] = {**values.get("training", {}), **changes.pop("training", {})}
    return config_class(method).from_values({"method": method, **values, **changes})


def fit(config: Any, images: Tensor, out: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        extractor = create_backbone(config.model.backbone, pretrained=config.model.pretrained)
    context = FitContext(images, torch.arange(len(images)), out, torch.device("cpu"), **options)
    return detector_class(config.method).fit(config, extractor, context)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module", params=SMALL)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector[Any]:
    return fit(make_config(request.param), product(16, 0), tmp_path_factory.mktemp("out"))[0]


def test_finds_a_planted_defect(fitted: Detector[Any]) -> None:
    good, bad = product(6, 7), product(6, 8)
    bad[(..., *SPOT)] = torch.tensor([30, 90, 220], dtype=torch.uint8)[:, None, None]
    maps, scores = fitted.score_prepared(bad)
    assert maps.shape == (6, SIZE, SIZE)
    assert maps.dtype == scores.dtype == torch.float32
    assert scores.min() > fitted.score_prepared(good)[1].max()
    for place in maps.flatten(1).argmax(1).tolist():
        y, x = divmod(place, SIZE)
        assert SPOT[0].start - 4 <= y < SPOT[0].stop + 4
        assert SPOT[1].start - 4 <= x < SPOT[1].stop + 4


def test_an_image_is_scored_alone(fitted: Detector[Any]) -> None:
    images = product(3, 9)
    together = fitted.score_prepared(images)
    for index in range(3):
        alone = fitted.score_prepared(images[index : index + 1])
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[index], rtol=1e-4, atol=1e-4)


def test_files_give_the_same_detector(fitted: Detector[Any], tmp_path: Path) -> None:
    fitted.save(tmp_path)
    loaded = Detector.load(tmp_path, "cpu")
    assert type(loaded) is type(fitted)
    assert loaded.config == fitted.config
    assert same(loaded.state(), fitted.state())
    images = product(2, 3)
    for one, other in zip(fitted.score_prepared(images), loaded.score_prepared(images), strict=True):
        assert torch.equal(one, other)


def test_damaged_files_are_refused(fitted: Detector[Any], tmp_path: Path) -> None:
    fitted.save(tmp_path)
    state = fitted.state()
    for name, tensor in state.items():
        save_tensors({**state, name: tensor[..., :-1]}, tmp_path / files.MODEL)
        with pytest.raises(InputError, match=r"must be"):
            Detector.load(tmp_path, "cpu")
        save_tensors({key: value for key, value in state.items() if key != name}, tmp_path / files.MODEL)
        with pytest.raises(InputError, match=files.MODEL):
            Detector.load(tmp_path, "cpu")
    (tmp_path / files.MODEL).write_bytes(b"no tensors")
    with pytest.raises(InputError, match=files.MODEL):
        Detector.load(tmp_path, "cpu")
    assert (tmp_path / files.CONFIG).is_file()


@pytest.mark.parametrize("method", SMALL)
def test_equal_seeds_give_equal_detectors(method: str, tmp_path: Path) -> None:
    images = product(4, 1)
    runs = [fit(make_config(method, training={"seed": seed}), images, tmp_path)[0] for seed in (3, 3, 4)]
    assert same(runs[0].state(), runs[1].state())
    if method != "spade":  # which draws nothing
        assert not same(runs[0].state(), runs[2].state())


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("backbone", ["resnet18", "wide_resnet50_2"])
def test_other_backbones(method: str, backbone: str, tmp_path: Path) -> None:
    config = make_config(method, backbone, model={"pretrained": False, "size": 64})
    detector, _ = fit(config, product(3, 0)[:, :, :64, :64].contiguous(), tmp_path)
    maps, scores = detector.score_prepared(product(2, 5)[:, :, :64, :64].contiguous())
    assert maps.shape == (2, 64, 64)
    assert maps.isfinite().all()
    assert scores.isfinite().all()
    for precision in ("fp32", "bf16"):
        again = type(detector).from_state(
            config, detector.extractor, detector.state(), torch.device("cpu"), precision
        )
        assert again.score_prepared(product(1, 5)[:, :, :64, :64].contiguous())[1].isfinite().all()


@pytest.mark.parametrize(
    ("method", "section", "field", "value"),
    [
        ("spade", "model", "image_neighbours", 0),
        ("spade", "model", "stride", 2),
        ("spade", "training", "epochs", 3),
        ("padim", "model", "regularisation", 0),
        ("padim", "model", "dimension", 0),
        ("patchcore", "model", "neighbourhood", 4),
        ("patchcore", "model", "bank_ratio", 0),
        ("patchcore", "model", "dimension", 33),
        ("patchcore", "training", "candidates", 0),
    ],
)
def test_wrong_settings_are_named(method: str, section: str, field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{section}.{field}"):
        make_config(method, **{section: {field: value}})


def test_levels_at_one_stride() -> None:
    rng = torch.Generator().manual_seed(0)
    levels = [torch.rand(2, c, e, e, generator=rng) for c, e in ((3, 16), (4, 8), (5, 4))]
    coarse = averaged(levels, 8)
    wanted = levels[0].numpy().reshape(2, 3, 8, 2, 8, 2).mean((3, 5))
    np.testing.assert_allclose(coarse[0].numpy(), wanted, rtol=1e-6)
    assert coarse[1] is levels[1]
    assert coarse[2] is levels[2]
    repeated = concatenated(coarse, "nearest")
    assert repeated.shape == (2, 12, 8, 8)
    assert torch.equal(repeated[:, 7:], levels[2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    flat = rows(repeated)
    assert torch.equal(flat[64 + 3 * 8 + 5], repeated[1, :, 3, 5])
