"""Student-teacher: receptive fields, errors and scales against plain arithmetic; what it shares with GCAD."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.ndimage import gaussian_filter
from thfr.backbones import create_backbone
from thfr.methods import FitContext
from thfr.methods.common.regression import MapScale, Standardiser
from thfr.methods.common.regression_detector import _Fitting
from thfr.methods.student_teacher import (
    Ensemble,
    PatchStudent,
    StudentTeacherConfig,
    StudentTeacherDetector,
    StudentTeacherModelConfig,
    StudentTeacherTrainingConfig,
)
from torch.nn import functional as F

SIZE = 64
MODEL = StudentTeacherModelConfig(
    backbone="tf_efficientnet_lite0", pretrained=False, size=SIZE, width=4, levels=(2, 3)
)
CHANNELS = (24, 40, 112)


def levels(batch: int = 2) -> list[torch.Tensor]:
    return [
        torch.randn(batch, count, SIZE // stride, SIZE // stride)
        for count, stride in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


@pytest.mark.parametrize(("stride", "field"), [(4, 45), (8, 93), (16, 189)])
def test_receptive_field(stride: int, field: int) -> None:
    torch.manual_seed(0)
    student = PatchStudent((stride,), (5,), 4).eval()
    image = torch.randn(1, 3, 320, 320, requires_grad=True)
    (output,) = student(image)
    middle = output.shape[2] // 2
    output[0, :, middle, middle].sum().backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(0).nonzero()
    extent = touched.amax(0) - touched.amin(0) + 1
    assert extent.tolist() == [field, field]


def test_errors_are_of_the_mean_student_and_among_the_students() -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(MODEL, CHANNELS).eval()
    for standardise in ensemble.standardise:
        standardise.set_statistics(
            torch.randn(len(standardise.mean)), torch.rand(len(standardise.mean)) + 0.5
        )  # type: ignore[operator,arg-type]
    images, features = torch.randn(2, 3, SIZE, SIZE), levels()
    with torch.inference_mode():
        maps = ensemble.errors(images, features)
        outputs = [[level.double() for level in student(images)] for student in ensemble.students]
    for index, level in enumerate((2, 3)):
        statistics = ensemble.standardise[index]
        mean, deviation = statistics.mean.double(), statistics.deviation.double()  # type: ignore[union-attr,operator]
        target = (features[level - 1].double() - mean[:, None, None]) / deviation[:, None, None]
        guesses = [output[index] for output in outputs]
        middle = sum(guesses) / len(guesses)
        error = (target - middle).pow(2).sum(1)
        # as the paper writes it: the mean squared norm minus the squared norm of the mean
        uncertainty = sum(guess.pow(2).sum(1) for guess in guesses) / len(guesses) - middle.pow(2).sum(1)  # type: ignore[union-attr]
        torch.testing.assert_close(maps[index].double(), error, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(maps[2 + index].double(), uncertainty, rtol=1e-3, atol=1e-3)


def test_a_student_learns_as_if_it_were_alone() -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(MODEL, CHANNELS)
    images, features = torch.randn(2, 3, SIZE, SIZE), levels()
    torch.stack(list(ensemble.losses(images, features).values())).sum().backward()
    student = ensemble.students[1]
    together = [parameter.grad.clone() for parameter in student.parameters()]  # type: ignore[union-attr]
    ensemble.zero_grad()
    outputs = student(images)
    sum(F.mse_loss(*pair) for pair in zip(outputs, features[1:], strict=True)).backward()  # type: ignore[union-attr]
    for parameter, gradient in zip(student.parameters(), together, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_standardised_levels_and_channels_that_never_change() -> None:
    torch.manual_seed(0)
    level = 3 * torch.randn(4, 3, 8, 8) + 5
    level[:, 1] = 0
    standardise = Standardiser(3)
    standardise.set_statistics(level.mean((0, 2, 3)), level.std((0, 2, 3)))
    result = standardise(level)
    assert result.isfinite().all()
    torch.testing.assert_close(result[:, 0].std(), torch.tensor(1.0))
    assert result[:, 1].abs().max() == 0
    dead = Standardiser(2)
    dead.set_statistics(torch.zeros(2), torch.zeros(2))
    assert torch.equal(dead(level[:, :2]), level[:, :2])


def test_map_scale_is_that_of_all_batches_together() -> None:
    torch.manual_seed(0)
    batches = [
        [7 * torch.rand(count, 4, 4), torch.rand(count, 2, 2) - 3] for count in (3, 1)
    ]  # unequal batches: a mean of means would differ
    scale = MapScale(2)
    scale.fit(batches)
    for index in range(2):
        result = torch.cat([scale(maps)[index].flatten() for maps in batches])
        torch.testing.assert_close(result.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(result.std(correction=0), torch.tensor(1.0))


def test_map_is_the_sum_of_its_standardised_parts() -> None:
    torch.manual_seed(0)
    extractor = create_backbone(MODEL.backbone, pretrained=False)
    ensemble = Ensemble(MODEL, extractor.channels)
    ensemble.scale.mean.copy_(torch.rand(4))
    ensemble.scale.deviation.copy_(torch.rand(4) + 0.5)
    detector = StudentTeacherDetector(StudentTeacherConfig(model=MODEL), extractor, ensemble)
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    maps, scores = detector.score_prepared(images)
    with torch.inference_mode():
        parts = ensemble.errors(extractor.normalise(images / 255), extractor(images / 255))
    total = torch.zeros(2, SIZE, SIZE, dtype=torch.float64)
    for index, part in enumerate(parts):
        mean, deviation = float(ensemble.scale.mean[index]), float(ensemble.scale.deviation[index])
        part = (part.double() - mean) / deviation
        total += F.interpolate(part[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]
    wanted = torch.from_numpy(gaussian_filter(total.numpy(), (0, 4, 4)))
    torch.testing.assert_close(maps.double(), wanted, rtol=1e-4, atol=1e-3)
    assert torch.equal(scores, maps.amax((1, 2)))


def test_maps_are_scaled_on_images_that_are_not_learnt_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (10, 3, SIZE, SIZE), dtype=torch.uint8)
    training = StudentTeacherTrainingConfig(normalisation_share=0.3, batch_size=3, epochs=1)
    extractor = create_backbone(MODEL.backbone, pretrained=False)
    config = StudentTeacherConfig(model=MODEL, training=training)
    context = FitContext(images, torch.arange(10), tmp_path, torch.device("cpu"))
    fitting = _Fitting(config, extractor, context, Ensemble(MODEL, extractor.channels))
    assert len(fitting.unseen) == 3
    assert sorted([*fitting.unseen.tolist(), *fitting.learnt.tolist()]) == list(range(10))
    seen: list[int] = []
    taken = fitting._taken
    fitting._taken = lambda chosen: (seen.extend(chosen.tolist()), taken(chosen))[1]  # type: ignore[method-assign,func-returns-value]
    for step in range(fitting.optimiser.total):
        fitting.losses(step)
    assert set(seen) == set(fitting.learnt.tolist())
    detector, facts = StudentTeacherDetector.fit(config, extractor, context)
    assert facts["normalisation_images"] == 3
    with torch.inference_mode():
        errors = detector._errors(images[fitting.unseen], detector.features(images[fitting.unseen]))
    scaled = detector.network.scale(errors)
    assert all(abs(float(part.mean())) < 1e-2 for part in scaled)
