"""The self-check's child process: runs kernels that may be wrong, and says what it finds, a line each.

    python -m thfr_ext.core.self_check_child DEVICE SCALE OPERATOR...

Each line of stdout is a JSON object: ``{"begin": name}``, then ``{"name": name, "verdict": ..., ...}``. After
a kernel that raised the process ends, since its CUDA context may be unusable; the parent starts another one.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thfr_ext.core.agreement import disagreement
from thfr_ext.core.registration import CUDA_KERNELS, REFERENCES, TORCH_PATHS
from thfr_ext.core.self_check_cases import SMALL, large

#: seconds for each side of a race
RACE_SECONDS = 0.5


def moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return [moved(v, device) for v in value] if isinstance(value, list) else value


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype.is_floating_point else value
    return [_wide(v) for v in value] if isinstance(value, list) else value


def _like(expected: Any, found: Any) -> Any:
    """fp64 results rounded to the dtypes of ``found``."""
    if isinstance(expected, Exception) or isinstance(found, Exception):
        return expected
    if isinstance(expected, Tensor):
        return expected.to(found.dtype)
    return [_like(e, f) for e, f in zip(expected, found, strict=True)]


def _outcome(call: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return call(*arguments)
    except (ValueError, TypeError) as error:
        return error


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Median of some runs after one to warm up."""
    call()
    _synchronize(device)
    times: list[float] = []
    end = time.perf_counter() + RACE_SECONDS
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 50):
        begin = time.perf_counter()
        call()
        _synchronize(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def check(name: str, device: torch.device, scale: float) -> dict[str, Any]:
    """The verdict on one operator."""
    kernel, path = CUDA_KERNELS[name], TORCH_PATHS[name]
    for case in SMALL[name]():
        arguments = moved(list(case.arguments), device)
        found = _outcome(kernel, arguments)
        expected = _like(_outcome(REFERENCES[name], _wide(list(case.arguments))), found)
        wrong = disagreement(name, found, expected, exact=case.exact)
        if wrong:
            return {"verdict": "wrong", "case": case.name, "detail": wrong}
    arguments = moved(list(large(name, scale)), device)
    wrong = disagreement(name, _outcome(kernel, arguments), _outcome(path, arguments))
    if wrong:
        return {"verdict": "wrong", "case": "large", "detail": wrong}
    native, plain = (_seconds(partial(call, *arguments), device) for call in (kernel, path))
    return {"verdict": "ok", "speedup": plain / native, "native_s": native, "torch_s": plain}


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main(arguments: Sequence[str]) -> int:
    device, scale, *names = arguments
    for name in names:
        say(begin=name)
        try:
            verdict = check(name, torch.device(device), float(scale))
        except Exception as error:
            say(name=name, verdict="raised", detail=f"{type(error).__name__}: {error}"[:400])
            return 3
        say(name=name, **verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
