"""Sizes at which the kernels change their ways: look-ups in batches, a guessed cut-off, rows in strips."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.device import REAL_DEVICES, Device

import thfr_ext
from thfr_ext import reference

SIDE = 600  # two images are more than 2^19 pixels: the cut-off is guessed


def sorted_areas(scores: np.ndarray, masks: np.ndarray, limits: list[float]) -> list[float]:
    """One region an image, by sorting every pixel in float64; scores may tie."""
    weights = masks / masks.sum((1, 2), keepdims=True) / len(masks)
    order = np.argsort(-scores.ravel(), kind="stable")
    last = np.append(np.diff(scores.ravel()[order]) != 0, True)
    fpr = np.append(0, np.cumsum(~masks.ravel()[order])[last] / (~masks).sum())
    overlap = np.append(0, np.cumsum(weights.ravel()[order])[last])
    areas = []
    for limit in limits:
        x = np.append(fpr[fpr < limit], limit)
        areas.append(np.trapezoid(np.append(overlap[fpr < limit], np.interp(limit, fpr, overlap)), x) / limit)
    return areas


def blobs(seed: int, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, SIDE, SIDE), bool)
    masks[:, 100:180, 300:390] = True
    return rng.standard_normal(masks.shape).astype(np.float32) + masks, masks


@REAL_DEVICES
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    "kind", ["normal", "skewed", "rounded", "constant", "two values", "float64", "strided"]
)
@pytest.mark.parametrize("limit", [0.02, 0.3, 1.0])
def test_many_values(kind: str, limit: float) -> None:
    scores, masks = blobs(0)
    if kind == "skewed":
        scores = np.abs(scores) ** 12
    elif kind == "rounded":
        scores = np.round(scores, 1)
    elif kind == "constant":
        scores[:] = 3
    elif kind == "two values":
        scores = (scores > 1).astype(np.float32)
    elif kind == "float64":
        scores = scores.astype(np.float64) + 1e-12 * np.arange(scores.size).reshape(scores.shape)
    given, marks = torch.from_numpy(scores), torch.from_numpy(masks)
    if kind == "strided":
        given, marks = given.mT.contiguous().mT, marks.repeat_interleave(2, 2)[:, :, ::2]
    area = thfr_ext.au_pro(given, marks, limit)
    assert area == pytest.approx(sorted_areas(scores, masks, [limit])[0], abs=1e-9)


@REAL_DEVICES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("power", [1, 12])
def test_many_regions(dtype: torch.dtype, power: int, device: Device) -> None:
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.random((6, 200, 300))).pow(power).to(dtype)
    masks = torch.zeros(6, 200, 300, dtype=torch.bool)
    for image in range(5):
        for _ in range(4):
            top, left = rng.integers(0, 180), rng.integers(0, 280)
            masks[image, top : top + 17, left : left + 13] = True
    maps[masks] *= 1.1
    images, marks, limits = list(maps), list(masks), [0.01, 0.3, 1.0]
    for limit in limits:
        expected = reference.au_pro(images, marks, limit)
        assert float(device.au_pro(images, marks, limit)) == pytest.approx(float(expected), abs=1e-12)
    regions, flat = [m[None][: int(m.any())] for m in masks], torch.tensor([30] * 5)
    found = device.au_spro(images, regions, flat, limits)
    np.testing.assert_allclose(found, reference.au_spro(images, regions, flat, limits), rtol=0, atol=1e-12)
    expected = float(reference.auroc(maps.double(), masks))
    assert float(device.auroc(maps, masks)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("high", [True, False])
def test_sample_is_not_like_the_rest(high: bool) -> None:
    """The guessed cut-off is too high, or far too low: the area is exact all the same."""
    scores, masks = blobs(1)
    # The sample is runs of 4 pixels, 41 apart (guess_cut in csrc/sweep/cpu/run.cpp); others, if that changes.
    place = np.arange(scores.size).reshape(scores.shape)
    for step in (41, 45, 49, 53):
        sampled = (place % step < 4) & ~masks
        odd = np.where(sampled, scores + (20 if high else -20), scores)
        area = thfr_ext.au_pro(odd, masks, 0.05)
        assert area == pytest.approx(sorted_areas(odd, masks, [0.05])[0], abs=1e-9)


def test_threads_share_a_long_row_and_agree() -> None:
    rng = np.random.default_rng(2)
    scores = torch.from_numpy(rng.standard_normal(700_001).astype(np.float32))
    labels = torch.from_numpy(rng.random(700_001) < 0.1)
    scores[labels] += 0.5
    values = set()
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        values.add(thfr_ext.auroc(scores, labels))
    torch.set_num_threads(1)
    assert len(values) == 1
    assert values.pop() == pytest.approx(float(reference.auroc(scores.double(), labels)), abs=1e-12)


@REAL_DEVICES
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("place", [(0, 5), (1, SIDE * SIDE - 1), (1, 777)])
def test_every_nan_is_found(bits: int, place: tuple[int, int]) -> None:
    scores, masks = blobs(3)
    scores.view(np.uint32).reshape(2, -1)[place] = bits
    with pytest.raises(ValueError, match=rf"^au_pro: maps: .*NaN in image {place[0]} of 2"):
        thfr_ext.au_pro(scores, masks)


PROGRAM = """
import numpy as np, thfr_ext
rng = np.random.default_rng(4)
masks = np.zeros((2, 601, 1003), bool)
masks[:, 100:180, 300:390] = True
scores = (rng.standard_normal((2, 601, 1003)) + masks).astype(np.float32)
scores[1] = scores[1].round(2)
scores[0, :9, :4] = [np.inf, -np.inf, 0.0, -0.0]
print([thfr_ext.au_pro(scores, masks, limit).hex() for limit in (0.01, 0.3, 1.0)],
      thfr_ext.auroc(scores, masks).hex(), thfr_ext.build_info()["simd"])
"""


def test_instruction_sets_agree() -> None:
    found = {}
    for level in ("baseline", "avx2", "avx512"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "THFR_SIMD": level},
            capture_output=True,
            text=True,
            check=True,
        )
        values, _, simd = done.stdout.strip().rpartition(" ")
        found[simd] = values
    assert len(set(found.values())) == 1, found
