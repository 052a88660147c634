"""Wrong input is refused in the user's words; arrays of other libraries go in and come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.device import NOT_CUDA

import thfr_ext

pytestmark = [pytest.mark.usefixtures("device"), NOT_CUDA]  # messages name the device of the operator

MAPS = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(3, 5, 6, dtype=torch.bool)
MASKS[1, 1:3, 1:4] = True
REGIONS = [MASKS[0:0], MASKS[1:2], MASKS[0:0]]
SATURATIONS = [[], [4], []]
NAN_MAPS = MAPS.clone()
NAN_MAPS[2, 0, 0] = torch.nan
NAN_REGION = MAPS.clone()
NAN_REGION[1, 1, 1] = -torch.nan


def pro(**changed: Any) -> Callable[[], Any]:
    return lambda: thfr_ext.au_pro(**{"maps": MAPS, "masks": MASKS, **changed})


def spro(**changed: Any) -> Callable[[], Any]:
    given = {"maps": list(MAPS), "regions": REGIONS, "saturations": SATURATIONS, **changed}
    return lambda: thfr_ext.au_spro(**given)


WRONG_VALUES = {
    r"au_pro: maps: expected \[N,H,W\], or a sequence of \[H,W\], got \[5, 6\]": pro(
        maps=MAPS[0], masks=MASKS[0]
    ),
    r"au_pro: maps: expected at least one image": pro(maps=MAPS[:0], masks=MASKS[:0]),
    r"au_pro: maps: expected at least one image, got none": pro(maps=[], masks=[]),
    r"au_pro: maps: image 0: expected pixels": pro(maps=MAPS[:, :0], masks=MASKS[:, :0]),
    r"au_pro: masks: expected one for each of the 3 images, got 2": pro(masks=MASKS[:2]),
    r"au_pro: masks: image 0: expected \[5,6\] bool on cpu, got \[5, 5\]": pro(masks=MASKS[:, :, :5]),
    r"au_pro: masks: expected at least one anomalous region, got none in 3 images": pro(masks=MASKS & False),
    r"au_pro: masks: expected at least one pixel outside of every region, got none": pro(masks=MASKS | True),
    r"au_pro: maps: expected numbers, got NaN in image 2 of 3": pro(maps=NAN_MAPS),
    r"au_pro: maps: expected numbers, got NaN in image 1 of 3": pro(maps=NAN_REGION),
    r"au_pro: limit: expected a number in \(0, 1\], got 0": pro(limit=0),
    r"au_pro: limit: expected a number in \(0, 1\], got 30": pro(limit=30),
    r"au_pro: limit: expected a number in \(0, 1\], got -": pro(limit=-0.3),
    r"au_pro: limit: expected a number in \(0, 1\], got nan": pro(limit=float("nan")),
    r"pro_curve: maps: expected numbers, got NaN": lambda: thfr_ext.pro_curve(NAN_REGION, MASKS),
    r"pro_curve: maps: expected numbers, got NaN in image 2": lambda: thfr_ext.pro_curve(NAN_MAPS, MASKS),
    r"pro_curve: masks: expected at least one anomalous region": lambda: thfr_ext.pro_curve(
        MAPS, MASKS & False
    ),
    r"pro_curve: masks: expected at least one pixel outside": lambda: thfr_ext.pro_curve(MAPS, MASKS | True),
    r"au_spro: maps: expected at least one image": spro(maps=[], regions=[], saturations=[]),
    r"au_spro: regions: expected one for each of the 3 images, got 2": spro(
        regions=REGIONS[:2], saturations=SATURATIONS[:2]
    ),
    r"au_spro: saturations: expected int \[R_i\] for each of the 3 images, got 1": spro(saturations=[[4]]),
    r"au_spro: saturations: image 1: expected whole numbers \[1\]": spro(saturations=[[], [4, 4], []]),
    r"au_spro: saturations: image 1: expected whole numbers \[1\], .* got shape \[\]": spro(
        saturations=[[], 4, []]
    ),
    r"au_spro: saturations: image 1: expected at least 1 pixel, got 0 for region 0": spro(
        saturations=[[], [0], []]
    ),
    r"au_spro: saturations: image 1: expected at least 1 pixel, got -3": spro(saturations=[[], [-3], []]),
    r"au_spro: regions: image 1: expected \[R,5,6\] bool on cpu, got \[5, 6\]": spro(
        regions=[MASKS[0:0], MASKS[1], MASKS[0:0]]
    ),
    r"au_spro: regions: image 0: expected a pixel in every region, got none in region 1": spro(
        regions=[torch.stack([~MASKS[0], MASKS[0]]), *REGIONS[1:]], saturations=[[1, 1], [4], []]
    ),
    r"au_spro: regions: expected at least one anomalous region": spro(
        regions=[MASKS[0:0]] * 3, saturations=[[], [], []]
    ),
    r"au_spro: regions: expected at least one pixel outside of every region": spro(
        regions=[~MASKS[:1]] * 3, saturations=[[1], [1], [1]]
    ),
    r"au_spro: maps: expected numbers, got NaN in image 2": spro(maps=list(NAN_MAPS)),
    r"au_spro: maps: expected numbers, got NaN in image 1": spro(maps=list(NAN_REGION)),
    r"au_spro: limits: expected at least one number": spro(limits=()),
    r"au_spro: limits: expected a number in \(0, 1\], got 1.5": spro(limits=(0.3, 1.5)),
    r"spro_curve: saturations: image 1: expected at least 1": lambda: thfr_ext.spro_curve(
        list(MAPS), REGIONS, [[], [0], []]
    ),
}

WRONG_TYPES = {
    r"au_pro: maps: image 0: expected float32, float64, float16 or bfloat16, got": pro(
        maps=(MAPS * 255).byte()
    ),
    r"au_pro: masks: image 0: expected bool \(as of `> 0`\), got \[5, 6\] uint8": pro(masks=MASKS.byte()),
    r"au_pro: masks: image 0: expected bool": pro(masks=MASKS.float()),
    r"au_pro: maps: image 0: expected a torch tensor, a NumPy array": pro(maps=MAPS.tolist()),
    r"au_pro: maps: expected a torch tensor, a NumPy array": pro(maps=None),
    r"au_pro: limit: expected a number in \(0, 1\], got '0.3'": pro(limit="0.3"),
    r"au_pro: limit: expected a number in \(0, 1\], got True": pro(limit=True),
    r"au_pro: limit: expected a number in \(0, 1\], got None": pro(limit=None),
    r"au_spro: regions: image 1: expected bool": spro(regions=[r.byte() if len(r) else r for r in REGIONS]),
    r"au_spro: saturations: image 1: expected whole numbers \[1\], .* got float64": spro(
        saturations=[[], [4.5], []]
    ),
    r"au_spro: saturations: image 1: expected whole numbers \[1\], .* got bool": spro(
        saturations=[[], [True], []]
    ),
    r"au_spro: saturations: expected a sequence of int \[R_i\], got int": spro(saturations=4),
    r"au_spro: limits: expected a sequence of numbers": spro(limits=0.3),
    r"au_spro: limits: expected a number in \(0, 1\], got 'all'": spro(limits=["all"]),
}


@pytest.mark.parametrize("message", WRONG_VALUES)
def test_wrong_values(message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}"):
        WRONG_VALUES[message]()


@pytest.mark.parametrize("message", WRONG_TYPES)
def test_wrong_types(message: str) -> None:
    with pytest.raises(TypeError, match=rf"^{message}"):
        WRONG_TYPES[message]()


class Foreign:
    """An array of another library: nothing but DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries() -> None:
    maps, masks = MAPS.numpy(), MASKS.numpy()
    expected = thfr_ext.au_pro(MAPS, MASKS)
    assert thfr_ext.au_pro(maps, masks) == expected
    assert thfr_ext.au_pro(list(maps), list(masks)) == expected
    assert thfr_ext.au_pro(tuple(MAPS), masks) == expected
    assert thfr_ext.au_pro(maps[:, ::-1, ::-1], masks[:, ::-1, ::-1]) == expected
    assert thfr_ext.au_pro(Foreign(maps), masks) == expected
    frozen = maps.copy()
    frozen.setflags(write=False)
    assert thfr_ext.au_pro(frozen, masks) == expected
    regions = [np.zeros((0, 5, 6), bool), masks[1:2], np.zeros((0, 5, 6), bool)]
    counts = [np.array([], np.int64), np.array([4], np.uint8), torch.tensor([], dtype=torch.int64)]
    assert thfr_ext.au_spro(maps, regions, counts) == thfr_ext.au_spro(list(MAPS), REGIONS, SATURATIONS)
    assert list(thfr_ext.au_spro(maps, regions, counts)) == [0.01, 0.05, 0.1, 0.3, 1.0]
    assert isinstance(thfr_ext.au_pro(maps, masks), float)
    assert all(isinstance(column, np.ndarray) for column in thfr_ext.pro_curve(maps, masks))
    assert all(isinstance(column, np.ndarray) for column in thfr_ext.spro_curve(list(maps), regions, counts))
    assert all(isinstance(column, torch.Tensor) for column in thfr_ext.pro_curve(MAPS, MASKS))
    assert thfr_ext.pro_curve(maps.astype(np.float64), masks)[2].dtype == np.float64
    assert isinstance(thfr_ext.label_regions(masks)[0], np.ndarray)


def test_maps_that_need_gradients() -> None:
    maps = MAPS.clone().requires_grad_()
    assert thfr_ext.au_pro(maps, MASKS) == thfr_ext.au_pro(MAPS, MASKS)
    assert thfr_ext.auroc(maps, MASKS) == thfr_ext.auroc(MAPS, MASKS)


def test_inputs_stay_as_they_are() -> None:
    maps, masks = MAPS.clone(), MASKS.clone()
    thfr_ext.au_pro(maps, masks)
    thfr_ext.pro_curve(maps, masks)
    thfr_ext.au_spro(list(maps), REGIONS, SATURATIONS)
    thfr_ext.auroc(maps, masks)
    assert torch.equal(maps, MAPS)
    assert torch.equal(masks, MASKS)
