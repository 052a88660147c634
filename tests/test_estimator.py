"""The estimator: parameters, fit on each kind of input, and a round trip through a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.base
from PIL import Image
from thfr import THFR, InputError, Prediction

HEIGHT, WIDTH = 48, 40
TINY = {
    "backbone": "tf_efficientnet_lite0",
    "size": 64,
    "epochs": 1,
    "bottleneck_channels": 16,
    "device": "cpu",
}


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Smooth stripes with noise, uint8 [N,H,W,3]."""
    rng = np.random.default_rng(seed)
    stripes = 128 + 80 * np.sin(np.arange(WIDTH) / 4)[None, None, :, None]
    return (stripes + rng.normal(0, 10, (count, HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("good")
    for index, image in enumerate(pictures(4)):
        Image.fromarray(image).save(base / f"{index:03d}.png")
    return base


@pytest.fixture(scope="module")
def fitted(folder: Path) -> THFR:
    return THFR(**TINY).fit(folder)


def test_importing_thfr_is_quick() -> None:
    script = (
        "import sys, thfr\n"
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)\n"
        "assert 'THFR' in dir(thfr) and thfr.THFR.__module__ == 'thfr.inference.estimator'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_constructor_only_stores() -> None:
    estimator = THFR(variant="no such variant", size=3)
    assert (estimator.variant, estimator.size) == ("no such variant", 3)
    assert estimator.get_params()["size"] == 3
    assert "variant='no such variant'" in repr(estimator)


def test_parameters_as_in_scikit_learn() -> None:
    estimator = THFR(seed=5)
    assert estimator.set_params(size=128, variant="gl") is estimator
    copy = sklearn.base.clone(estimator)
    assert copy is not estimator
    assert copy.get_params() == estimator.get_params()
    assert (copy.size, copy.variant, copy.seed) == (128, "gl", 5)
    with pytest.raises(InputError, match=r"^THFR\.set_params: no parameter colour; there are variant,"):
        estimator.set_params(colour="red")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "best"}, "model.variant"),
        ({"size": 100}, "model.size"),
        ({"epochs": 0}, "training.epochs"),
        ({"bank_ratio": 2.0}, "model.bank_ratio"),
        ({"weights": "missing.safetensors"}, "no such file: missing.safetensors"),
    ],
)
def test_wrong_parameters_are_found_by_fit(folder: Path, wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        THFR(**{**TINY, **wrong}).fit(folder)


def test_predict_gives_native_maps_and_scores(fitted: THFR, folder: Path) -> None:
    found = fitted.predict(folder)
    assert isinstance(found, Prediction)
    assert found.paths == sorted(folder.iterdir())
    assert found.scores.dtype == np.float32
    assert found.scores.shape == (4,)
    assert all(m.dtype == np.float32 and m.shape == (HEIGHT, WIDTH) for m in found.maps)
    assert all(0 < m.max() <= score + 1e-6 for m, score in zip(found.maps, found.scores, strict=True))
    np.testing.assert_array_equal(fitted.score_samples(folder), found.scores)


def test_all_kinds_of_input_agree(fitted: THFR, folder: Path) -> None:
    expected = fitted.predict(folder).scores
    paths = sorted(folder.iterdir())
    np.testing.assert_array_equal(fitted.predict([str(path) for path in paths]).scores, expected)
    from_array = fitted.predict(pictures(4))
    np.testing.assert_array_equal(from_array.scores, expected)
    assert from_array.paths is None
    np.testing.assert_allclose(fitted.predict(paths[1]).scores, expected[1:2], rtol=1e-4)


@pytest.mark.parametrize("form", ["list", "array"])
def test_fit_on_a_list_or_an_array_is_fit_on_the_folder(fitted: THFR, folder: Path, form: str) -> None:
    X = sorted(folder.iterdir()) if form == "list" else pictures(4)
    estimator = THFR(**TINY).fit(X)
    np.testing.assert_array_equal(estimator.score_samples(folder), fitted.score_samples(folder))


def test_save_and_load(fitted: THFR, folder: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    loaded = THFR.load(tmp_path / "saved", device="cpu")
    assert loaded.get_params() == fitted.get_params()
    before, after = fitted.predict(folder), loaded.predict(folder)
    np.testing.assert_array_equal(after.scores, before.scores)
    for one, other in zip(after.maps, before.maps, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fit_can_keep_its_run_folder(folder: Path, tmp_path: Path) -> None:
    estimator = THFR(**TINY, variant="gl").fit(folder, out=tmp_path / "run")
    assert (tmp_path / "run" / "run.json").is_file()
    loaded = THFR.load(tmp_path / "run", device="cpu")
    np.testing.assert_array_equal(loaded.score_samples(folder), estimator.score_samples(folder))


@pytest.mark.parametrize(
    "call", [lambda e: e.predict("x"), lambda e: e.score_samples("x"), lambda e: e.save("x")]
)
def test_before_fit_there_is_nothing(call: Callable[[THFR], object]) -> None:
    with pytest.raises(InputError, match=r"^THFR\.\w+: not fitted yet: call fit"):
        call(THFR())


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.int64), r"X must be an RGB array \[N,H,W,3\] of uint8, .* got int64"),
        (np.ma.zeros((2, 8, 8, 3), np.uint8), "X must not be a masked array"),
        (np.zeros((2, 8, 8), np.uint8), r"X must be an RGB array .* got uint8 \[2, 8, 8\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"got uint8 \[0, 8, 8, 3\]"),
        ([np.zeros((8, 8, 3), np.uint8)], "X must be a folder, a list of paths or an array, got ndarray"),
        ([], "no image in"),
        ("no/such/folder", "no/such/folder"),
    ],
)
def test_wrong_images_are_named(fitted: THFR, X: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted.predict(X)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        THFR(**TINY).fit(X)  # type: ignore[arg-type]
