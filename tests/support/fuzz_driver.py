"""Every function and operator with its arguments and what its result must be; calls of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from support.fuzz_arguments import (
    area_arguments,
    auroc_arguments,
    backward_arguments,
    blur_arguments,
    coreset_arguments,
    distance_arguments,
    joined,
    limit,
    limits,
    map_arguments,
    mask_arguments,
    merge_arguments,
    nearest_arguments,
    pro_arguments,
    spro_arguments,
)
from support.fuzz_results import (
    anomaly,
    as_array,
    blurred,
    coreset,
    curve,
    distance,
    gradients,
    labels,
    merged,
    nearest,
    numbers,
    on_meta,
    samples,
    shares,
)
from support.fuzz_values import changed
from torch import Tensor

import thfr_ext

CASES = 200  # a function
OPERATORS = torch.ops.thfr_ext


Make = Callable[[random.Random], list[Any]]
Check = Callable[[Any, list[Any]], None]


def metric(make: Callable[[], Any]) -> Callable[..., Any]:
    """Both ways to feed a metric; the value, where it has one."""

    def feed(*arguments: Any) -> Any:
        made, other = make(), make()
        made.update(*arguments)
        other.merge_state(made)
        value = other.compute()
        batch = make()(*arguments)
        assert [as_array(v) for v in numbers(batch)] == [as_array(v) for v in numbers(value)]
        return value

    return feed


FUNCTIONS: dict[str, tuple[Callable[..., Any], Make, Check]] = {
    "cosine_distance": (thfr_ext.cosine_distance, distance_arguments, distance),
    "anomaly_map": (thfr_ext.anomaly_map, map_arguments, anomaly),
    "upsample_blur": (thfr_ext.upsample_blur, blur_arguments, blurred),
    "merge_nearest": (thfr_ext.merge_nearest, merge_arguments, merged),
    "nearest_templates": (thfr_ext.nearest_templates, nearest_arguments, nearest),
    "greedy_coreset": (thfr_ext.greedy_coreset, coreset_arguments, coreset),
    "label_regions": (thfr_ext.label_regions, mask_arguments, labels),
    "au_pro": (thfr_ext.au_pro, lambda rng: [*pro_arguments(rng), limit(rng)], shares),
    "pro_curve": (thfr_ext.pro_curve, pro_arguments, curve),
    "au_spro": (thfr_ext.au_spro, lambda rng: [*spro_arguments(rng), limits(rng)], shares),
    "spro_curve": (thfr_ext.spro_curve, spro_arguments, curve),
    "auroc": (thfr_ext.auroc, auroc_arguments, shares),
    "AUPRO": (metric(thfr_ext.metrics.AUPRO), pro_arguments, shares),
    "AUsPRO": (metric(thfr_ext.metrics.AUsPRO), spro_arguments, shares),
    "AUROC": (metric(thfr_ext.metrics.AUROC), auroc_arguments, shares),
}

REGISTERED: dict[str, tuple[Make, Check]] = {
    "cosine_distance": (distance_arguments, distance),
    "cosine_distance_backward": (backward_arguments, gradients),
    "anomaly_map": (map_arguments, anomaly),
    "upsample_blur": (blur_arguments, blurred),
    "nearest_templates": (nearest_arguments, nearest),
    "greedy_coreset": (coreset_arguments, coreset),
    "label_regions": (mask_arguments, labels),
    "component_samples": (pro_arguments, samples),
    "region_samples": (lambda rng: spro_arguments(rng)[:2], samples),
    "au_pro": (lambda rng: [*pro_arguments(rng), limit(rng)], shares),
    "pro_curve": (pro_arguments, curve),
    "au_spro": (lambda rng: [*joined(spro_arguments(rng)), limits(rng)], shares),
    "spro_curve": (lambda rng: joined(spro_arguments(rng)), curve),
    "spro_area": (area_arguments, shares),
    "auroc": (auroc_arguments, shares),
}


def brief(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(brief, value))}]"
    if isinstance(value, Tensor):
        strides = value.stride() if value.layout == torch.strided else value.layout
        return f"{list(value.shape)} {strides} {value.dtype} {value.device}"
    return f"{value.shape} {value.strides} {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


def attempt(name: str, call: Callable[..., Any], arguments: list[Any], check: Check, refusal: str) -> bool:
    """Whether there was a result, checked; a refusal must match."""
    problem: Exception
    try:
        result = call(*arguments)
    except (ValueError, TypeError) as error:
        refused, problem = bool(re.match(refusal, str(error))), error
    except (NotImplementedError, RuntimeError) as error:
        # In torch's words: meta tensors have no values; a schema refuses; no kernel for this kind of tensor.
        registered = call is getattr(OPERATORS, name, None) and f"thfr_ext::{name}" in str(error)
        refused, problem = registered or (on_meta(arguments) and "meta" in str(error)), error
    else:
        return checked(result, arguments, check)
    if not refused:
        raise AssertionError(f"{brief(arguments)}: {problem!r:.300}") from problem
    return False


def checked(result: Any, arguments: list[Any], check: Check) -> bool:
    if not on_meta(arguments):
        try:
            check(result, arguments)
        except AssertionError as error:
            raise AssertionError(f"{brief(arguments)} gave {result}") from error
    return True


def fuzz(name: str, call: Callable[..., Any], make: Make, check: Check, refusal: str) -> None:
    """A third of the cases as they are made, the others with one or two arguments changed."""
    results = 0
    for case in range(CASES):
        rng = random.Random(f"{name} {case}")
        arguments = make(rng)
        for _ in range(case % 3):
            i = rng.randrange(len(arguments))
            arguments[i] = changed(rng, arguments[i])
        results += attempt(name, call, arguments, check, refusal)
    assert CASES // 10 < results < CASES  # both sides of the checks have been seen
