"""Scores that lie very unevenly: the index is in parts then, and each look-up must still find its rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from thfr.data.base import Regions
from thfr.evaluation.localisation import Question, TestPixels

import thfr_ext
from thfr_ext import reference

pytestmark = pytest.mark.usefixtures("device")


def uneven(shape: tuple[int, ...], kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = {
        "tails": np.exp(np.clip(rng.normal(size=shape) * 30, -80, 80)) * rng.choice([-1, 1], shape),
        "outliers": np.where(rng.random(shape) < 0.001, 1e30, 0.5 + 1e-6 * rng.random(shape)),
        "infinite": np.where(rng.random(shape) < 0.01, np.inf, rng.normal(size=shape)),
        "ties": np.round(rng.normal(size=shape), 1),
        "tiny": rng.random(shape) * 1e-40,
    }[kind]
    return values.astype(np.float32)


@pytest.mark.parametrize("kind", ["tails", "outliers", "infinite", "ties", "tiny"])
def test_figures_are_those_of_the_specification(kind: str) -> None:
    maps = uneven((3, 150, 200), kind)
    masks = np.zeros((3, 2, 150, 200), bool)
    masks[0, 0, 10:80, 20:120] = masks[0, 1, 60:100, 90:150] = masks[1, 0, 5:140, 5:100] = True
    regions = [masks[0], masks[1, :1], masks[2, :0]]
    counts = [(1500, 2400), (12825,), ()]
    limits = (0.01, 0.3, 1.0)
    tensors = [torch.from_numpy(one) for one in maps], [torch.from_numpy(one) for one in regions]
    flat = torch.tensor([one for some in counts for one in some])
    expected = reference.au_spro(*tensors, flat, list(limits))
    np.testing.assert_allclose(
        list(thfr_ext.au_spro(*tensors, counts, limits).values()), expected, atol=1e-12
    )

    pixels = TestPixels()
    for number, (one, some, saturations) in enumerate(zip(maps, regions, counts, strict=True)):
        pixels.add(number, "good" if number == 2 else "bad", one, Regions(some, saturations))
    found = pixels.figures([Question(("good", "bad"), "own", limits), Question(("good",), "own", limits)])
    np.testing.assert_allclose(list(found.areas[0].values()), expected, atol=1e-12)
    assert found.areas[1] == dict.fromkeys(limits)
    covered = torch.from_numpy(np.stack([one.any(0) for one in regions]))
    assert found.auroc == pytest.approx(float(reference.auroc(torch.from_numpy(maps), covered)), abs=1e-12)
