"""``parts: all``: what the template method asks beside the restoration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.images import products, write_images
from support.methods import run, small_config
from thfr.errors import InputError
from thfr.methods.registry import config_from_values
from thfr.methods.thfr.detector import distances
from thfr.methods.thfr.references import References


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Any:
    paths = write_images(tmp_path_factory.mktemp("good"), products(9, 0))
    return run(small_config("thfr+all"), paths, tmp_path_factory.mktemp("all") / "run")


def test_what_varies_less_says_more(detector: Any) -> None:
    references = References(detector.references.detector, torch.ones(2))
    steady, unsteady = torch.tensor([1.8, 2.0, 2.2]), torch.tensor([8.0, 10.0, 12.0])
    references.weigh(steady, unsteady)
    torch.testing.assert_close(references.scale * torch.tensor([2.0, 10.0]), torch.tensor([0.8, 0.2]))
    references.weigh(unsteady, steady)
    torch.testing.assert_close(references.scale * torch.tensor([10.0, 2.0]), torch.tensor([0.2, 0.8]))


def test_the_map_is_the_sum_of_both(detector: Any) -> None:
    images = products(3, 7)
    features = detector.features(images)
    templates = detector.bank.gather(detector.bank.nearest(features, count=3))
    restored = detector.restored(features, templates)
    own, _ = detector._smoothed(distances(features, restored))
    beside, _ = detector._smoothed(detector.references.of(features, templates))
    scale = detector.references.scale
    found, scores = detector.score_prepared(images)
    torch.testing.assert_close(found, own * scale[0] + beside * scale[1])
    torch.testing.assert_close(scores, found.amax((1, 2)))
    only, _ = detector._map(features, restored)
    torch.testing.assert_close(only, own)


def test_good_images_peak_near_one(detector: Any) -> None:
    peaks = torch.cat([maps.amax((1, 2)) for maps in detector.good_maps()])
    assert len(peaks) == 9
    assert 0.7 < float(peaks.median()) <= 1.3


def test_the_bank_is_stored_once(detector: Any) -> None:
    names = [name for name in detector.state() if name.startswith("references.")]
    assert {name.removeprefix("references.") for name in names} >= {"scale", "peaks", "say"}
    assert not [name for name in names if "level" in name or "rows" in name]


def test_without_templates_there_is_nothing_beside() -> None:
    with pytest.raises(InputError, match="parts: expected restoration, since gl keeps no templates, got all"):
        config_from_values({"method": "thfr", "model": {"variant": "gl", "parts": "all"}})
