"""The operators as torch sees them, and their plain PyTorch twins (which CUDA tensors run on)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import thfr_ext
from thfr_ext.sweep import torch_path

OPS = torch.ops.thfr_ext


def samples() -> dict[str, tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)
    maps = (torch.rand(3, 12, 14, generator=generator) * 30).floor() / 30
    masks = torch.rand(3, 12, 14, generator=generator) < 0.2
    masks[0] = False
    regions = [masks[0:0], torch.stack([masks[1], masks[2]]), masks[2:3]]
    saturations = torch.tensor([5, 40, 3])
    negatives, scores, offsets = OPS.region_samples(list(maps), regions)
    return {
        "label_regions": (masks,),
        "component_samples": (list(maps), list(masks)),
        "region_samples": (list(maps), regions),
        "au_pro": (list(maps), list(masks), 0.3),
        "au_spro": (list(maps), regions, saturations, [0.05, 0.3, 1.0]),
        "pro_curve": (list(maps), list(masks)),
        "spro_curve": (list(maps), regions, saturations),
        "spro_area": (negatives, scores, offsets, saturations, [0.05, 0.3, 1.0]),
        "auroc": (maps, masks),
    }


TWINS = {name: getattr(torch_path, name) for name in samples()}


@pytest.mark.parametrize("name", TWINS)
def test_opcheck(name: str) -> None:
    torch.library.opcheck(getattr(OPS, name).default, samples()[name])


def as_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    return [as_double(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("wide", [False, True], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", TWINS)
def test_the_plain_twin_gives_the_same(name: str, wide: bool) -> None:
    arguments = samples()[name]
    if wide:
        arguments = tuple(as_double(a) for a in arguments)
    given, expected = getattr(OPS, name)(*arguments), TWINS[name](*arguments)
    for left, right in zip(*([x] if isinstance(x, Tensor) else x for x in (given, expected)), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in TWINS if n not in ("label_regions", "spro_area", "auroc")])
def test_the_plain_twin_refuses_the_same(name: str) -> None:
    maps, *rest = samples()[name]
    bad = [m.clone() for m in maps]
    bad[1][0, 0] = torch.nan
    for kernel in (getattr(OPS, name), TWINS[name]):
        with pytest.raises(ValueError, match=rf"^{name}: maps: expected numbers, got NaN in image 1 of 3"):
            kernel(bad, *rest)


def test_spro_area_is_au_spro() -> None:
    assert torch.equal(OPS.spro_area(*samples()["spro_area"]), OPS.au_spro(*samples()["au_spro"]))


def change(index: int, value: Any) -> tuple[Any, ...]:
    arguments = list(samples()["spro_area"])
    arguments[index] = value(arguments[index])
    return tuple(arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (change(0, lambda x: x[:0]), ValueError, "spro_area: negatives: expected at least one"),
        (change(0, lambda x: x * torch.nan), ValueError, "spro_area: negatives: expected numbers, got NaN"),
        (
            change(0, lambda x: x.half()),
            TypeError,
            "spro_area: negatives: expected one of float32 and float64",
        ),
        (
            change(1, lambda x: x * torch.nan),
            ValueError,
            "spro_area: region_scores: expected numbers, got NaN",
        ),
        (change(1, lambda x: x[:0]), ValueError, "spro_area: region_offsets: expected to rise from 0 to the"),
        (change(2, lambda x: x + 1), ValueError, "spro_area: region_offsets: expected to rise from 0"),
        (
            change(2, lambda x: x[[0, 0, 2, 3]]),
            ValueError,
            "spro_area: region_offsets: expected to rise from 0",
        ),
        (change(1, lambda x: x.double()), TypeError, "spro_area: region_scores: expected one of"),
        (
            change(1, lambda x: x[:-1]),
            ValueError,
            "spro_area: region_offsets: expected to rise from 0 to the",
        ),
        (change(2, lambda x: x.flip(0)), ValueError, "spro_area: region_offsets: expected to rise from 0"),
        (change(2, lambda x: x[:-1]), ValueError, r"spro_area: saturations: expected \[R\]"),
        (change(2, lambda x: x * 2**40), ValueError, "spro_area: region_offsets: expected to rise from 0"),
        (change(3, lambda x: x * 0), ValueError, "spro_area: saturations: expected at least 1 pixel"),
        (change(3, lambda x: x.int()), TypeError, "spro_area: saturations: expected int64"),
        (change(4, lambda x: [2.0]), ValueError, r"spro_area: limits: expected a number in \(0, 1\]"),
    ],
)
@pytest.mark.usefixtures("device")
def test_spro_area_refuses(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OPS.spro_area(*arguments)


def test_the_module_itself_guards_memory() -> None:
    """Nobody should call _C, but what does must not read past an end."""
    from thfr_ext import _C
    from thfr_ext.core.tensors import view

    scores, offsets = torch.rand(4), torch.tensor([0, 2, 9])
    saturations, limits, areas = torch.tensor([1, 1]), torch.ones(1).double(), torch.ones(1).double()
    for bad in (
        offsets,
        torch.tensor([0, 4]),
        torch.tensor([0, 5, 4]),
        torch.tensor([-1, 0, 4]),
        torch.rand(3),
    ):
        with pytest.raises(ValueError, match="spro_area: arguments do not fit each other"):
            _C.spro_area(
                [view(torch.rand(2, 2))],
                [],
                view(scores),
                view(bad),
                view(saturations),
                view(limits),
                view(areas),
                1,
            )


def test_backends_are_told() -> None:
    backend = thfr_ext.build_info()["backend"]
    assert all(backend[name]["cpu"] == "native" for name in TWINS)
