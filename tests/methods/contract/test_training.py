"""What every method's training must do, and teaching more good images afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.contract import (
    HOLDOUT,
    KEEPING,
    SEEDLESS,
    Run,
    every_method,
    every_trained_method,
    same,
)
from support.images import SPOT, products, spotted
from support.methods import SIZE, run, small_config
from thfr.errors import InputError
from thfr.io import read_image
from thfr.methods import Detector
from thfr.methods.common.batches import held_out
from thfr.methods.common.optimisation import Optimiser
from thfr.methods.registry import method_names
from thfr.runs import files
from thfr.training import is_finished


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
def test_a_run_of_another_configuration_is_refused(fitted: Run, method: str, paths: list[Path]) -> None:
    before = fitted.model
    with pytest.raises(InputError, match=r"training\.seed \(3 here, 0 there\)"):
        run(small_config(method, holdout=HOLDOUT, seed=3), paths, fitted.folder)
    with pytest.raises(InputError, match=r"dataset\.images \(6 here, 7 there\)"):
        run(fitted.config, paths[:9], fitted.folder)
    other = "padim" if method != "padim" else "spade"
    with pytest.raises(InputError, match=f"holds a run of the method {fitted.config.method}, not {other}"):
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
