"""8-connected labelling against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label
from support.device import examples

import thfr_ext
from thfr_ext import reference

pytestmark = pytest.mark.usefixtures("device")

SHAPES = {
    "spiral": ["xxxxxxx", "......x", "xxxxx.x", "x...x.x", "x.x.x.x", "x.xxx.x", "x.....x", "xxxxxxx"],
    "diagonals": ["x...x", ".x.x.", "..x..", ".x.x.", "x...x"],
    "comb": ["x.x.x.x", "x.x.x.x", "xxxxxxx"],
    "late merge": ["x...x...x", "x.x.x.x.x", ".x.x.x.x."],
    "anti-diagonal": ["....x", "...x.", "..x..", ".x...", "x...."],
    "touching corners": ["xx...", "xx...", "..xx.", "..xx.", "....."],
    "full": ["xxx", "xxx"],
    "empty": ["...", "..."],
    "column": ["x", ".", "x", "x"],
}


def check(masks: np.ndarray) -> None:
    labels, counts = thfr_ext.label_regions(masks)
    assert labels.dtype == np.int64
    for image, given_labels, count in zip(masks, labels, counts, strict=True):
        expected, number = label(image, connectivity=2, return_num=True)
        np.testing.assert_array_equal(given_labels, expected)
        assert count == number


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    mask = np.array([[c == "x" for c in line] for line in SHAPES[name]])
    check(mask[None])
    check(mask[None, ::-1, ::-1])
    check(np.stack([mask, ~mask]))


@examples(150)
@given(arrays(bool, st.tuples(st.integers(1, 3), st.integers(0, 20), st.integers(0, 20))))
def test_any_mask(masks: np.ndarray) -> None:
    check(masks)


@pytest.mark.parametrize("density", [0.01, 0.3, 0.41, 0.6, 0.97])
def test_random_masks(density: float) -> None:
    check(np.random.default_rng(0).random((3, 150, 211)) < density)


def test_many_images() -> None:
    check(np.random.default_rng(1).random((60, 13, 45)) < 0.3)


def test_strided_masks() -> None:
    masks = torch.rand(40, 90, 3, generator=torch.Generator().manual_seed(0)).permute(2, 1, 0)[:, ::2] < 0.4
    check(masks.numpy())


def test_the_plain_twin_labels_the_same() -> None:
    masks = torch.rand(3, 17, 23, generator=torch.Generator().manual_seed(1)) < 0.35
    for native, plain in zip(thfr_ext.label_regions(masks), reference.label_regions(masks), strict=True):
        assert torch.equal(native, plain)


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        (torch.zeros(3, 3, dtype=torch.bool), ValueError, r"label_regions: masks: expected shape \[N,H,W\]"),
        (torch.zeros(1, 3, 3, dtype=torch.uint8), TypeError, "label_regions: masks: expected bool"),
        ([[True]], TypeError, "label_regions: masks: expected a torch tensor"),
    ],
)
def test_wrong_masks(masks: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        thfr_ext.label_regions(masks)
