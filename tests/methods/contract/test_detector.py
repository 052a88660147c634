"""What every method's detector must do, whatever it is: a method that is added is held to all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import toy_method
from support.contract import (
    HOLDOUT,
    METHODS,
    OWN_SCORE,
    TRAINED,
    Run,
    every_method,
    same,
)
from support.images import products, spotted, write_images
from support.methods import SIZE
from thfr.deploy.export.graph import NOT_EXPORTABLE, trace
from thfr.errors import InputError
from thfr.evaluation.latency import measure_latency
from thfr.io import read_image
from thfr.methods import Detector
from thfr.methods.common.batches import held_out
from thfr.methods.registry import config_class, config_from_values, config_from_yaml
from thfr.runs import files
from thfr.runs.tensors import save_tensors


@every_method
def test_the_run_folder_is_complete(fitted: Run, method: str) -> None:
    names = {path.name for path in fitted.folder.iterdir()}
    needed = {files.CONFIG, files.RUN, files.MODEL, files.LOG, files.THRESHOLD}
    assert needed <= names
    assert (files.BACKBONE in names) == fitted.config.uses_backbone
    assert files.CHECKPOINT not in names
    assert not [name for name in names if name.startswith(".")]
    metadata = json.loads((fitted.folder / files.RUN).read_text())
    assert metadata["images"] == 7
    assert metadata["calibration_images"] == 3
    assert metadata["train_seconds"] > 0 or method == toy_method.NAME  # which takes microseconds
    assert metadata["steps"] == (4 if method in TRAINED else 0)
    if method in TRAINED and method != "cflow":
        assert metadata["precision"] == "fp32"


@every_method
def test_maps_and_scores(fitted: Run, method: str) -> None:
    maps, scores = fitted.detector.score_prepared(spotted(2, 5))
    assert maps.shape == (2, SIZE, SIZE)
    assert scores.shape == (2,)
    assert maps.dtype == scores.dtype == torch.float32
    assert maps.isfinite().all()
    assert scores.isfinite().all()
    assert maps.std() > 0
    if method not in OWN_SCORE:
        assert torch.equal(scores, maps.amax((1, 2)))


@every_method
def test_it_is_one_graph_or_says_why_not(fitted: Run, method: str) -> None:
    """``thfr export``: the graph gives the same maps and scores, for one image and for several."""
    if method in NOT_EXPORTABLE:
        with pytest.raises(InputError, match=f"export: {method} cannot be exported: "):
            trace(fitted.detector, 0.0)
        return
    graph = trace(fitted.detector, 0.0).module()
    for images in (spotted(1, 5), products(3, 5)):
        maps, scores = fitted.detector.score_prepared(images)
        found = graph(images.permute(0, 2, 3, 1).contiguous())
        torch.testing.assert_close(found[1], scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[0], maps, rtol=1e-3, atol=1e-3 * float(maps.abs().max()))


@every_method
def test_maps_at_each_images_own_size(fitted: Run) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (80, 100), (31, 50))]
    found = fitted.detector.score(images, batch_size=2)
    assert [single.shape for single in found.maps] == [(64, 64), (80, 100), (31, 50)]
    assert all(single.dtype == np.float32 for single in found.maps)
    assert found.scores.dtype == np.float32
    expected, _ = fitted.detector.score_prepared(fitted.detector.prepare(images[:1]))
    np.testing.assert_allclose(found.maps[0], expected[0].numpy(), rtol=1e-3, atol=1e-4)


@every_method
def test_wrong_images_are_named(fitted: Run) -> None:
    with pytest.raises(ValueError, match=rf"images must be uint8 \[B,3,{SIZE},{SIZE}\], got torch\.float32"):
        fitted.detector.score_prepared(torch.zeros(1, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match=r"got torch\.uint8 \[1, 3, 32, 32\]"):
        fitted.detector.score_prepared(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"images\[0\] must be a uint8 array"):
        fitted.detector.score([np.zeros((8, 8, 3), np.float32)])
    with pytest.raises(InputError, match="images is empty"):
        fitted.detector.score([])


@every_method
def test_an_image_is_scored_as_if_it_were_alone(fitted: Run) -> None:
    images = torch.cat([products(2, 9), spotted(1, 9)])
    maps, scores = fitted.detector.score_prepared(images)
    for index in range(3):
        alone = fitted.detector.score_prepared(images[index : index + 1])
        torch.testing.assert_close(alone[0][0], maps[index], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(alone[1][0], scores[index], rtol=1e-3, atol=1e-4)


@every_method
def test_two_threads_share_a_detector(fitted: Run) -> None:
    batches = [products(2, seed) for seed in range(3)] + [spotted(1, seed) for seed in range(3)]
    expected = [fitted.detector.score_prepared(batch) for batch in batches]
    loaded = Detector.load(fitted.folder, "cpu")  # with empty caches
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(loaded.score_prepared, batches))
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


@every_method
def test_stages_are_timed_in_one_thread_only(fitted: Run) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: [fitted.detector.score_prepared(products(1, 1)) for _ in range(3)])
        times = measure_latency(fitted.detector, 1, 1)["milliseconds"]
        other.result()
    named = sum(time["p50"] for stage, time in times.items() if stage != "total")
    assert 0 < named <= 1.001 * times["total"]["p50"]


@every_method
def test_files_give_the_same_bits(fitted: Run, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    loaded = Detector.load(fitted.folder, "cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(loaded) is type(fitted.detector)
    assert loaded.config == fitted.detector.config
    assert loaded.threshold == fitted.detector.threshold
    images = spotted(2, 3)
    assert same(loaded.score_prepared(images), fitted.detector.score_prepared(images))
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / files.MODEL).read_bytes() == fitted.model
    assert (tmp_path / "again" / files.CONFIG).read_text() == (fitted.folder / files.CONFIG).read_text()


def test_a_fresh_process_gives_the_same_bits(runs: Any, tmp_path: Path) -> None:
    folders = {method: runs(method).folder for method in METHODS}
    images = write_images(tmp_path / "images", spotted(2, 3))
    script = (
        "import json, sys, torch\n"
        "sys.path.append(sys.argv[1])\n"
        "from support import toy_method; toy_method.register()\n"
        "from thfr.io import read_image; from thfr.methods import Detector\n"
        "torch.set_num_threads(1)\n"
        "images = [read_image(path) for path in sys.argv[3:]]\n"
        "print(json.dumps({method: Detector.load(folder, 'cpu').score(images).scores.tolist()\n"
        "    for method, folder in json.loads(sys.argv[2]).items()}))\n"
    )
    tests = str(Path(toy_method.__file__).parents[1])
    given = json.dumps({method: str(folder) for method, folder in folders.items()})
    arguments = [sys.executable, "-c", script, tests, given, *map(str, images)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for method in METHODS:
        expected = runs(method).detector.score([read_image(path) for path in images]).scores
        assert found[method] == expected.tolist(), method


@every_method
def test_bf16_is_close(fitted: Run) -> None:
    images = spotted(2, 3)
    exact = fitted.detector.score_prepared(images)
    near = Detector.load(fitted.folder, "cpu", "bf16").score_prepared(images)
    assert near[0].dtype == near[1].dtype == torch.float32
    assert (near[0] - exact[0]).abs().mean() < 0.1 * (exact[0].max() - exact[0].min())
    torch.testing.assert_close(near[1], exact[1], rtol=0.1, atol=0.1)
    with pytest.raises(InputError, match="precision must be"):
        Detector.load(fitted.folder, "cpu", "fp16")


@every_method
def test_configurations(fitted: Run, method: str) -> None:
    config, method = fitted.detector.config, method.partition("+")[0]
    assert config.method == method
    assert type(config) is config_class(method)
    assert config_from_yaml(config.to_yaml()) == config
    assert config.title
    assert config.paper
    assert config.summary()["method"] == method
    for section in ("model", "training"):
        with pytest.raises(InputError, match=rf"{section}\.speed"):
            config_from_values({"method": method, section: {"speed": 3}})
    with pytest.raises(InputError, match=r"model\.size"):
        config_from_values({"method": method, "model": {"size": 32}})
    with pytest.raises(InputError, match=r"training\.holdout"):
        config_from_values({"method": method, "training": {"holdout": 1.0}})


@every_method
def test_damaged_files_are_refused(fitted: Run, tmp_path: Path) -> None:
    fitted.detector.save(tmp_path)
    state = fitted.detector.state()
    named = [name for name, tensor in state.items() if tensor.dim()]
    chosen = dict.fromkeys([named[0], named[len(named) // 2], *named[-5:]])
    for name in chosen:
        for damaged in (
            {**state, name: state[name][..., :-1]},
            {other: tensor for other, tensor in state.items() if other != name},
        ):
            save_tensors(damaged, tmp_path / files.MODEL)
            with pytest.raises(InputError, match=files.MODEL):
                Detector.load(tmp_path, "cpu")
    for name in (files.MODEL, files.CONFIG, *([files.BACKBONE] if fitted.config.uses_backbone else [])):
        fitted.detector.save(tmp_path)
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(InputError, match=name):
            Detector.load(tmp_path, "cpu")
    (tmp_path / files.CONFIG).unlink()
    with pytest.raises(InputError, match=f"no such file: .*{files.CONFIG}"):
        Detector.load(tmp_path, "cpu")


@every_method
def test_maps_of_good_images_are_maps(fitted: Run) -> None:
    maps = fitted.detector.good_maps()
    if maps is not None:
        joined = torch.cat(list(maps))
        assert 0 < len(joined) <= 64
        assert joined.shape[1:] == (SIZE, SIZE)
        assert joined.dtype == torch.float32
        assert joined.isfinite().all()


@every_method
def test_nearest_training_images(fitted: Run) -> None:
    nearest = fitted.detector.nearest_templates(products(3, 4))
    if fitted.detector.template_count == 0:
        assert nearest is None
    else:
        assert nearest is not None
        assert set(nearest.tolist()) <= set(range(10)) - set(held_out(10, HOLDOUT, 0).tolist())
