"""What the self-check has found, kept in the user's cache: one file a GPU, build, driver and torch."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from thfr_ext import _C

#: of the file; an older one is not believed
FORMAT = 1
#: a kernel must be so many times as fast as PyTorch operations
FASTER = 1.0

Verdict = dict[str, Any]


def cache_folder() -> Path:
    """``THFR_CACHE``, or the platform's place for caches."""
    chosen = os.environ.get("THFR_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "thfr_ext" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/thfr_ext"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thfr_ext"


@functools.cache
def module_hash() -> str:
    """Of the native module and of the Python that calls it."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256(Path(_C.__file__).read_bytes())
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def key_of(device: torch.device) -> dict[str, str]:
    """All that a verdict depends on. For a CPU (the tests' emulator) the GPU's part is empty."""
    key = {"format": str(FORMAT), "module": module_hash(), "torch": torch.__version__}
    if device.type != "cuda":
        return {**key, "device": str(device)}
    properties = torch.cuda.get_device_properties(device)
    driver = getattr(torch._C, "_cuda_getDriverVersion", lambda: "unknown")()
    return {
        **key,
        "device": properties.name,
        "uuid": str(getattr(properties, "uuid", "")),
        "capability": f"{properties.major}.{properties.minor}",
        "driver": str(driver),
        "cuda": str(torch.version.cuda),
    }


def file_of(key: dict[str, str]) -> Path:
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"self-check-{name}.json"


def load(key: dict[str, str]) -> dict[str, Verdict] | None:
    """Verdicts, or None: no file, one that cannot be read, or one of something else."""
    try:
        record = json.loads(file_of(key).read_text(encoding="utf-8"))
        found = record["operators"] if record["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fits = isinstance(found, dict) and all(isinstance(v, dict) for v in found.values())
    return found if fits else None


def save(key: dict[str, str], operators: dict[str, Verdict]) -> Path:
    """Writes the file, whole or not at all."""
    path = file_of(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"key": key, "operators": operators}, file, indent=1)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    of.cache_clear()
    return path


@functools.cache
def of(device: torch.device) -> dict[str, Verdict] | None:
    """Verdicts for a device, read once."""
    return load(key_of(device))


def good(verdict: Verdict | None) -> bool:
    """Whether ``auto`` takes the kernel: found right, and faster."""
    if not verdict or verdict.get("verdict") != "ok":
        return False
    speedup = verdict.get("speedup")
    return isinstance(speedup, (int, float)) and speedup > FASTER
