"""Calls CMake; metadata is in pyproject.toml, sources and flags are in CMakeLists.txt.

Environment: THFR_CUDA=auto|on|off, THFR_CUDA_ARCHS="80;90", THFR_WERROR=1, THFR_SANITIZE=address,undefined,
CMAKE_BUILD_PARALLEL_LEVEL.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Build ``thfr_ext._C`` with CMake and put it where setuptools wants the extension."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / "cmake"
        build.mkdir(parents=True, exist_ok=True)
        # An isolated build's tools live in a new folder each time: a stale cache would point into an old one.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        cmake = shutil.which("cmake")
        if cmake is None:
            raise SystemExit(
                "setup.py: cmake not found; expected it from the build requirements (pip install cmake)"
            )
        kind = "Debug" if self.debug else "Release"
        configure = [
            cmake,
            "-S", str(ROOT),
            "-B", str(build),
            f"-DCMAKE_BUILD_TYPE={kind}",
            "-DTHFR_PYTHON=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DTHFR_CUDA={os.environ.get('THFR_CUDA', 'auto')}",
            f"-DTHFR_CUDA_ARCHS={os.environ.get('THFR_CUDA_ARCHS', '')}",
            f"-DTHFR_WERROR={os.environ.get('THFR_WERROR', 'OFF')}",
            f"-DTHFR_SANITIZE={os.environ.get('THFR_SANITIZE', '')}",
        ]  # fmt: skip
        if "CMAKE_GENERATOR" not in os.environ:
            # Visual Studio's own generator finds its compilers; the kernels need Clang's vector types.
            configure += ["-T", "ClangCL"] if sys.platform == "win32" else ["-G", "Ninja"]
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", str(build), "--config", kind, "--target", "_C"], check=True)
        built = next(path for suffix in ("so", "pyd") for path in sorted(build.rglob(f"_C*.{suffix}")))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        shutil.copy2(built, temporary)
        temporary.replace(target)  # never write into a module that a running Python has mapped


setup(
    packages=[
        "thfr_ext",
        *(f"thfr_ext.{p}" for p in find_packages("thfr_ext")),
        "thfr",
        *(f"thfr.{p}" for p in find_packages("python/thfr")),
    ],
    ext_modules=[Extension("thfr_ext._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
