"""What every method must do, whatever it is: a method that is added is held to all of it.

One small run of each method is shared by the tests of a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import toy_method
from support.images import SPOT, products, spotted, write_images
from support.methods import SIZE, run, small_config
from thfr.config import RunConfig
from thfr.deploy.export.graph import NOT_EXPORTABLE, trace
from thfr.errors import InputError
from thfr.evaluation.latency import measure_latency
from thfr.io import read_image
from thfr.methods import Detector
from thfr.methods.common.batches import held_out
from thfr.methods.common.optimisation import Optimiser
from thfr.methods.registry import config_class, config_from_values, config_from_yaml, method_names
from thfr.runs import files
from thfr.runs.tensors import save_tensors
from thfr.training import is_finished

METHODS = (*method_names(), toy_method.NAME)
TRAINED = ("cflow", "draem", "gcad", "rd4ad", "student_teacher", "thfr")  # by gradient descent
SEEDLESS = ("spade", toy_method.NAME)  # which draw nothing
KEEPING = ("padim", "patchcore", "spade", "template", "thfr")  # good images, so that more can be taught
OWN_SCORE = ("patchcore", "spade")  # whose image score is not the largest value of the map
HOLDOUT = 0.3

every_method = pytest.mark.parametrize("method", METHODS)
every_trained_method = pytest.mark.parametrize("method", TRAINED)


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    with toy_method.registered():
        yield


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    detector: Detector[Any]
    config: RunConfig

    @property
    def model(self) -> bytes:
        return (self.folder / files.MODEL).read_bytes()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("good"), products(10, 0))


@pytest.fixture(scope="module")
def runs(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Method -> its run, made on first use."""

    @cache
    def made(method: str) -> Run:
        folder = tmp_path_factory.mktemp(method) / "run"
        config = small_config(method, holdout=HOLDOUT)
        return Run(folder, run(config, paths, folder), config)

    return made


@pytest.fixture
def fitted(method: str, runs: Any) -> Run:
    return runs(method)


def same(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


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
def test_equal_seeds_give_equal_bits_and_others_others(
    fitted: Run, method: str, paths: list[Path], tmp_path: Path
) -> None:
    torch.rand(1)  # the global generators' states must not matter
    np.random.random()
    run(fitted.config, paths, tmp_path / "same")
    assert (tmp_path / "same" / files.MODEL).read_bytes() == fitted.model
    if method not in SEEDLESS:
        state = torch.random.get_rng_state()
        # without a held-out part, which images are learnt from does not depend on the seed
        for seed in (0, 1):
            run(small_config(method, seed=seed), paths, tmp_path / str(seed))
        models = [(tmp_path / str(seed) / files.MODEL).read_bytes() for seed in (0, 1)]
        assert models[0] != models[1]
        if not fitted.config.uses_backbone:
            assert torch.equal(torch.random.get_rng_state(), state)


@every_method
def test_features_in_a_file_give_the_same_bits(fitted: Run, paths: list[Path], tmp_path: Path) -> None:
    run(fitted.config, paths, tmp_path / "run", cache_budget=0)
    assert (tmp_path / "run" / files.MODEL).read_bytes() == fitted.model
    assert not list((tmp_path / "run").glob(".*"))


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
    config = fitted.detector.config
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
def test_a_run_of_another_configuration_is_refused(fitted: Run, method: str, paths: list[Path]) -> None:
    before = fitted.model
    with pytest.raises(InputError, match=r"training\.seed \(3 here, 0 there\)"):
        run(small_config(method, holdout=HOLDOUT, seed=3), paths, fitted.folder)
    with pytest.raises(InputError, match=r"dataset\.images \(6 here, 7 there\)"):
        run(fitted.config, paths[:9], fitted.folder)
    other = "padim" if method != "padim" else "spade"
    with pytest.raises(InputError, match=f"holds a run of the method {method}, not {other}"):
        run(small_config(other), paths, fitted.folder)
    assert fitted.model == before


@every_method
def test_the_threshold_is_set_by_images_not_learnt_from(fitted: Run, paths: list[Path]) -> None:
    threshold = fitted.detector.threshold
    assert threshold is not None
    unseen = held_out(len(paths), HOLDOUT, 0).tolist()
    scores = fitted.detector.score([read_image(paths[index]) for index in unseen]).scores
    assert threshold.scores == pytest.approx(sorted(scores.tolist()), rel=1e-3)
    again = fitted.detector.calibrate(products(4, 7), 0.2, "products")
    try:
        assert len(again.scores) == 4
        assert again.expected_rate == pytest.approx(0.2)
        assert fitted.detector.threshold is again
    finally:
        fitted.detector.threshold = threshold


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


@every_trained_method
def test_a_stopped_training_resumes_exactly(
    fitted: Run, method: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, step = tmp_path / "run", Optimiser.step

    def breaks(self: Optimiser, number: int, losses: Any) -> None:
        if number == 2:
            raise KeyboardInterrupt
        step(self, number, losses)

    monkeypatch.setattr(Optimiser, "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(fitted.config, paths, out, checkpoint_seconds=0)
    monkeypatch.undo()
    assert (out / files.CHECKPOINT).is_file()
    assert not is_finished(out)
    run(fitted.config, paths, out, checkpoint_seconds=0)
    log = [json.loads(line) for line in (out / files.LOG).read_text().splitlines()]
    assert {"resumed_at": 2} in log
    assert (out / files.MODEL).read_bytes() == fitted.model
    assert not (out / files.CHECKPOINT).exists()


@every_trained_method
def test_the_log_holds_every_part_of_the_loss(fitted: Run) -> None:
    lines = [json.loads(line) for line in (fitted.folder / files.LOG).read_text().splitlines()]
    (line,) = [line for line in lines if "loss" in line]
    assert line["step"] == 4
    assert line["loss"] == pytest.approx(sum(line["parts"].values()))
    assert line["seconds"] > 0


@every_trained_method
def test_a_loss_that_is_not_finite_stops_the_training(
    method: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Optimiser.step

    def spoilt(self: Optimiser, number: int, losses: Any) -> None:
        step(self, number, losses)
        next(iter(losses.values())).data.fill_(float("nan"))

    monkeypatch.setattr(Optimiser, "step", spoilt)
    with pytest.raises(RuntimeError, match=r"^train: the loss is nan at step 4; try a lower learning rate"):
        run(small_config(method), paths, tmp_path / "run")
    assert not is_finished(tmp_path / "run")


@pytest.mark.parametrize("method", method_names())
def test_a_defect_is_found(method: str, paths: list[Path], tmp_path: Path) -> None:
    detector = run(small_config(method, enough=True), paths, tmp_path / "run")
    maps, bad = detector.score_prepared(spotted(6, 8))
    _, good = detector.score_prepared(products(6, 7))
    assert bad.min() > good.max()
    for place in maps.flatten(1).argmax(1).tolist():
        y, x = divmod(place, SIZE)
        assert SPOT[0].start - 6 <= y < SPOT[0].stop + 6
        assert SPOT[1].start - 6 <= x < SPOT[1].stop + 6


@every_method
def test_it_is_taught_or_says_why_not(fitted: Run, method: str, tmp_path: Path) -> None:
    detector, new = fitted.detector, spotted(2, 30)
    if method not in KEEPING:
        with pytest.raises(InputError, match=r"^teach: .* keeps no good images .* train it again with these"):
            detector.taught(new, 7)
        return
    before = detector.score_prepared(new)
    taught = detector.taught(new, 7)
    assert same(detector.score_prepared(new), before)  # the old one is as it was
    after = taught.score_prepared(new)
    assert (after[1] < before[1]).all()
    assert taught.threshold is taught.scale is None
    taught.save(tmp_path)
    assert same(Detector.load(tmp_path, "cpu").score_prepared(new), after)
