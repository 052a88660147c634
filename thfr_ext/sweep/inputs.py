"""Turns what users pass to the sweeps into lists of tensors, with messages in their words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr_ext.core.tensors import as_tensor, describe, refuse_masked
from thfr_ext.sweep.checks import check_auroc, check_images, check_limits


def _tensors(operator: str, argument: str, value: Any, expected: str, dims: int) -> list[Tensor]:
    """One tensor of ``dims`` dimensions for each image: of a sequence, or of one array with an axis more."""
    if isinstance(value, (list, tuple)):
        return [as_tensor(operator, f"{argument}: image {i}", v).detach() for i, v in enumerate(value)]
    whole = as_tensor(operator, argument, value).detach()
    if whole.dim() != dims + 1:
        raise ValueError(f"{operator}: {argument}: expected {expected}, got {describe(whole)}")
    return list(whole.unbind(0))


def maps_and_masks(operator: str, maps: Any, masks: Any) -> tuple[list[Tensor], list[Tensor]]:
    expected = "[N,H,W], or a sequence of [H,W]"
    scores = _tensors(operator, "maps", maps, expected, 2)
    marks = _tensors(operator, "masks", masks, expected, 2)
    check_images(operator, scores, marks, "masks", 2)
    return scores, marks


def maps_and_regions(
    operator: str, maps: Any, regions: Any, saturations: Any
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    scores = _tensors(operator, "maps", maps, "a sequence of [H,W], or [N,H,W]", 2)
    masks = _tensors(operator, "regions", regions, "a sequence of bool [R_i,H,W], or [N,R,H,W]", 3)
    if isinstance(saturations, (str, bytes, dict)) or not hasattr(saturations, "__iter__"):
        raise TypeError(
            f"{operator}: saturations: expected a sequence of int [R_i], got {type(saturations).__name__}"
        )
    saturations = list(saturations)
    if len(saturations) != len(masks):
        raise ValueError(
            f"{operator}: saturations: expected int [R_i] for each of the {len(masks)} images, "
            f"got {len(saturations)}"
        )
    counts = [
        _saturations(operator, i, s, m.shape[0] if m.dim() == 3 else None)
        for i, (s, m) in enumerate(zip(saturations, masks, strict=True))
    ]
    check_images(operator, scores, masks, "regions", 3)
    flat, device = torch.cat(counts), scores[0].device
    if device.type == "cuda":  # from pinned memory, so that nothing waits
        return scores, masks, flat.pin_memory().to(device, non_blocking=True)
    return scores, masks, flat.to(device)


def _saturations(operator: str, image: int, value: Any, regions: int | None) -> Tensor:
    name = f"{operator}: saturations: image {image}"
    expected = f"{name}: expected whole numbers [{'R' if regions is None else regions}], one for each region"
    try:
        refuse_masked(operator, "saturations", value)
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{expected}, got lists of different lengths") from error
    if array.ndim != 1 or (regions is not None and len(array) != regions):
        raise ValueError(f"{expected}, got shape {list(array.shape)}")
    if array.size == 0:
        return torch.empty(0, dtype=torch.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{expected}, got {array.dtype}")
    if int(array.min()) < 1:
        region = int(array.argmin())
        raise ValueError(f"{name}: expected at least 1 pixel, got {array[region]} for region {region}")
    if int(array.max()) > torch.iinfo(torch.int64).max:
        raise ValueError(f"{name}: expected numbers below 2^63, got {array.max()}")
    return torch.from_numpy(array.astype(np.int64))


def limit_of(operator: str, argument: str, value: Any) -> float:
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{operator}: {argument}: expected a number in (0, 1], got {value!r}")
    try:
        limit = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{operator}: {argument}: expected a number in (0, 1], got {value!r}") from error
    check_limits(operator, argument, [limit])
    return limit


def limits_of(operator: str, value: Any) -> list[float]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{operator}: limits: expected a sequence of numbers in (0, 1], got {value!r}")
    limits = [limit_of(operator, "limits", v) for v in value]
    check_limits(operator, "limits", limits)
    return limits


def scores_and_labels(operator: str, scores: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Scores as they are, labels as bool."""
    values, marks = as_tensor(operator, "scores", scores).detach(), as_tensor(operator, "labels", labels)
    if marks.dtype != torch.bool:
        positive = marks == 1
        if not bool((positive | (marks == 0)).all()):
            raise ValueError(
                f"{operator}: labels: expected bool, or 0 and 1, got other numbers in {describe(marks)}"
            )
        marks = positive
    check_auroc(operator, values, marks)
    return values, marks
