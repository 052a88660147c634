"""The framework-free C++ library: built and installed with CMake, used through find_package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import thfr_ext

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("ninja") is None, reason="cmake or ninja is absent"
)


@needs_cmake
def test_find_package_consumer(tmp_path: Path) -> None:
    build, prefix, consumer = tmp_path / "build", tmp_path / "prefix", tmp_path / "consumer"
    run("cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DTHFR_CUDA=off", "-DCMAKE_BUILD_TYPE=Debug")
    run("cmake", "--build", build)
    run("cmake", "--install", build, "--prefix", prefix)
    assert not list(prefix.rglob("*_simd.h")), "internal headers must not be installed"
    run("cmake", "-S", ROOT / "tests/cpp", "-B", consumer, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", consumer)
    assert run(consumer / "consumer").startswith(f"thfr {thfr_ext.__version__}, ")


@needs_cmake
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-DTHFR_CUDA=maybe", "THFR_CUDA: expected auto, on or off, got 'maybe'"),
        ("-DTHFR_CUDA=on", "THFR_CUDA=on: no nvcc found"),
    ],
)
def test_wrong_cuda_option_fails_clearly(tmp_path: Path, option: str, message: str) -> None:
    result = subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path), "-G", "Ninja", option],
        env={**os.environ, "CUDACXX": "/bin/false"},  # an nvcc that does not work, wherever the real one is
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode != 0
    assert message in " ".join(result.stderr.split())
