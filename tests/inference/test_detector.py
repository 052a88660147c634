"""What a detector knows beside its maps: scale of good images, threshold, templates, precision."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thfr.errors import InputError
from thfr.inference import GraphedScorer, calibrate, good_scale, predict
from thfr.methods.thfr.detector import THFRDetector

from .conftest import write_image


def test_the_scale_comes_from_good_images_where_there_are_templates(
    detector: THFRDetector, gl_detector: THFRDetector, tmp_path: Path
) -> None:
    one, two = write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png", seed=1)
    scales = [predict(detector, path, tmp_path / path.stem).scale for path in (one, two)]
    assert scales[0] == scales[1] == good_scale(detector)
    assert scales[0].from_good
    mixed = predict(gl_detector, one, tmp_path / "gl")
    assert not mixed.scale.from_good
    assert mixed.scale.high == pytest.approx(mixed.images[0].max)
    assert good_scale(gl_detector) is None


def test_the_good_scale_scores_each_image_without_itself(detector: THFRDetector) -> None:
    assert detector.bank is not None
    peaks = []
    for row in range(len(detector.bank)):
        features = detector.bank.gather(torch.tensor([row]))
        others = [other for other in range(len(detector.bank)) if other != row]
        keys = detector.bank.keys
        nearest = sorted(others, key=lambda other, row=row: -float(keys[row] @ keys[other]))[:3]
        with torch.inference_mode():
            restored = detector.network(features, detector.bank.gather(torch.tensor([nearest])))
        levels = [
            torch.nn.functional.interpolate(
                1 - torch.nn.functional.cosine_similarity(a, b)[:, None], (64, 64), mode="bilinear"
            )
            for a, b in zip(features, restored, strict=True)
        ]
        peaks.append(float(_blurred(sum(levels)[0, 0].numpy()).max()))
    assert good_scale(detector).threshold == pytest.approx(max(peaks), rel=1e-3)


def _blurred(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, 4.0)


def test_template_numbers_name_the_training_image(detector: THFRDetector, gl_detector: THFRDetector) -> None:
    assert detector.bank is not None
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8, generator=generator)
    bank = type(detector.bank).build(detector.features(images)).subsample(0.5, "random", seed=1)
    own = THFRDetector(detector.config, detector.extractor, detector.network, bank)
    kept = [int(row) for row in bank.indices]
    pictures = [images[row].permute(1, 2, 0).numpy() for row in kept]
    nearest = own.nearest_templates(own.prepare(pictures))
    assert nearest is not None
    assert nearest.tolist() == kept
    assert gl_detector.nearest_templates(own.prepare(pictures)) is None


def test_half_precision_is_close(detector: THFRDetector) -> None:
    """bf16 on the CPU: channels-last features, the same network; what it changes is small."""
    half = THFRDetector(
        detector.config,
        copy.deepcopy(detector.extractor),
        copy.deepcopy(detector.network),
        detector.bank,
        precision="bf16",
    )
    images = torch.randint(0, 256, (2, 3, *detector.size), dtype=torch.uint8)
    maps, scores = detector.score_prepared(images)
    half_maps, half_scores = half.score_prepared(images)
    assert all(level.dtype == torch.bfloat16 for level in half.features(images))
    assert half_maps.dtype == torch.float32
    assert not torch.equal(maps, half_maps)
    assert torch.allclose(maps, half_maps, atol=0.1)
    assert torch.allclose(scores, half_scores, atol=0.1)


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_precision_that_the_cpu_has_not(detector: THFRDetector, precision: Any) -> None:
    with pytest.raises(
        InputError, match=f"precision must be fp32, bf16 or, on CUDA, fp16, got '{precision}'"
    ):
        THFRDetector(detector.config, detector.extractor, detector.network, None, precision=precision)


def test_graph_needs_a_gpu(detector: THFRDetector) -> None:
    with pytest.raises(InputError, match=r"^GraphedScorer: needs a detector on CUDA"):
        GraphedScorer(detector, 1)


def test_calibrate_by_a_folder_then_for_another_rate(detector: THFRDetector, tmp_path: Path) -> None:
    detector.save(tmp_path / "run")
    with pytest.raises(InputError, match=r"calibrate: .* has no threshold yet"):
        calibrate(tmp_path / "run")
    for seed in range(4):
        write_image(tmp_path / "good" / f"{seed}.png", seed=seed)
    first = calibrate(tmp_path / "run", tmp_path / "good", 0.2)
    scores = [image.score for image in predict(detector, tmp_path / "good", tmp_path / "out").images]
    assert first.scores == pytest.approx(sorted(scores), rel=1e-5)
    assert first.value == first.scores[-1]
    assert THFRDetector.load(tmp_path / "run", "cpu").threshold == first
    second = calibrate(tmp_path / "run", rate=0.6)
    assert second.scores == first.scores
    assert second.value == first.scores[1]
    assert THFRDetector.load(tmp_path / "run", "cpu").threshold == second
