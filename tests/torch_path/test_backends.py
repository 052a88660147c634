"""THFR_CUDA_BACKEND: what is chosen at a call, with and without a verdict; shadow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import thfr_ext
from thfr_ext import _C
from thfr_ext.core import backends, verdicts

GPU = torch.device("cuda", 0)
GOOD = {"cosine_distance": {"verdict": "ok", "speedup": 2.0}}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine with one GPU; what it is like can be changed."""
    facts: dict[str, Any] = {
        "build": {**_C.build_info(), "cuda_built": True, "cuda_version": "12.4", "cuda_archs": "80 90"},
        "shown": {"problem": "", "devices": [{"name": "A", "capability": (9, 0), "runnable": True}]},
        "verdicts": GOOD,
    }
    native = SimpleNamespace(build_info=lambda: facts["build"], cuda_devices=lambda: facts["shown"])
    monkeypatch.setattr(backends, "_C", native)
    monkeypatch.setattr(backends, "_shown", lambda: facts["shown"])
    monkeypatch.setattr(backends, "_unusable", backends.unusable)
    monkeypatch.setattr(backends, "_said", set())
    monkeypatch.setattr(verdicts, "of", lambda device: facts["verdicts"])
    properties = SimpleNamespace(name="A", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A")
    monkeypatch.delenv("THFR_CUDA_BACKEND", raising=False)
    return facts


def choose(name: str = "cosine_distance", has_kernel: bool = True) -> str:
    return backends.choose(name, has_kernel, GPU)


def test_auto_takes_what_was_found_right_and_faster(card: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose() == "native"
        assert choose("auroc") == "torch"  # no verdict on it
        assert choose(has_kernel=False) == "torch"


@pytest.mark.parametrize("verdict", [{"verdict": "wrong"}, {"verdict": "ok", "speedup": 0.8}])
def test_auto_refuses_wrong_and_slow(card: dict[str, Any], verdict: dict[str, Any]) -> None:
    card["verdicts"] = {"cosine_distance": verdict}
    assert choose() == "torch"


def _says_once(message: str) -> None:
    with pytest.warns(UserWarning, match=message) as said:
        chosen = [choose(), choose()]
    assert chosen == ["torch", "torch"]
    assert len(said) == 1


def test_without_a_verdict_auto_says_once_how_to_get_one(card: dict[str, Any]) -> None:
    card["verdicts"] = None
    _says_once("thfr doctor --gpu")


PROBLEMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "driver version is insufficient": lambda card: card["shown"].update(
        problem="CUDA driver version is insufficient for CUDA runtime version"
    ),
    "kernels are for 80 90, not for": lambda card: card["shown"]["devices"][0].update(runnable=False),
    "no CUDA kernels": lambda card: card["build"].update(cuda_built=False),
}


@pytest.mark.parametrize("message", PROBLEMS)
@pytest.mark.parametrize("asked", ["native", "shadow"])
def test_kernels_that_cannot_run(
    card: dict[str, Any], message: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    PROBLEMS[message](card)
    _says_once(message)
    monkeypatch.setenv("THFR_CUDA_BACKEND", asked)
    with pytest.raises(ValueError, match=message):
        choose()
    monkeypatch.setenv("THFR_CUDA_BACKEND", "torch")
    assert choose() == "torch"


def test_the_variable_is_read_at_each_call(card: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    card["verdicts"] = None
    for asked in ("native", "torch", "shadow"):
        monkeypatch.setenv("THFR_CUDA_BACKEND", asked)
        assert choose() == asked


def test_other_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THFR_CUDA_BACKEND", "reference")
    with pytest.raises(ValueError, match="THFR_CUDA_BACKEND: expected one of auto, native, torch, shadow"):
        thfr_ext.build_info()


def both(native: Callable[..., Any], path: Callable[..., Any]) -> Any:
    return backends._both("cosine_distance", native, path, torch.ones(3))


def test_shadow_gives_the_result_where_both_agree() -> None:
    found = both(lambda x: x * 2 + 1e-9, lambda x: x * 2)
    assert torch.equal(found, torch.full((3,), 2.0))


def _raise(error: Exception) -> Callable[..., Any]:
    def call(x: torch.Tensor) -> None:
        raise error

    return call


OTHERS: dict[str, Callable[..., Any]] = {
    "numbers differ": lambda x: x * 2 + 0.01,
    "NaN": lambda x: torch.where(torch.arange(3) == 1, torch.nan, x * 2),
    "expected": lambda x: x[:2],
    "instead of": _raise(ValueError("no")),
}


@pytest.mark.parametrize("message", OTHERS)
def test_shadow_raises_where_they_do_not(message: str) -> None:
    with pytest.raises(RuntimeError, match=f"cosine_distance: .*disagree: .*{message}"):
        both(OTHERS[message], lambda x: x * 2)


def test_shadow_passes_errors_on() -> None:
    with pytest.raises(ValueError, match="of both"):
        both(_raise(ValueError("of both")), _raise(ValueError("of both")))


def test_self_check_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="self_check: torch sees no CUDA device"):
        thfr_ext.self_check()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/thfr_ext"),
        ("linux", {"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/thfr_ext"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Caches/thfr_ext"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/thfr_ext/Cache"),
        ("win32", {"LOCALAPPDATA": "/l", "THFR_CACHE": "/t"}, "/t"),
    ],
)
def test_cache_folder(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THFR_CACHE", raising=False)
    monkeypatch.setattr(verdicts.sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert verdicts.cache_folder().as_posix() == expected
