"""Are this build's CUDA kernels right, and faster than PyTorch operations, on this very GPU?"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import torch

from thfr_ext.core import backends, verdicts
from thfr_ext.core.registration import CUDA_KERNELS

#: seconds for one operator, the start of the process among them
TIME_LIMIT = 120.0
CHILD = (sys.executable, "-m", "thfr_ext.core.self_check_child")


def self_check(device: Any = None, time_limit: float = TIME_LIMIT) -> dict[str, Any]:
    """Run every CUDA kernel of this build on a GPU, in child processes, and keep what is found.

    Each operator's results are compared with the fp64 reference (every dtype, edges of tiles, NaN, ties) and,
    for one large case, with PyTorch operations, against which it is timed. A crash or a hang costs a child
    process only. The verdicts go to the user's cache (``THFR_CACHE``, or the platform's place for caches);
    from then on ``THFR_CUDA_BACKEND=auto``, the default, takes the kernels that are right and faster. They
    hold for this build, GPU, driver and torch: change one, and the check must run again.

    Args:
        device: a CUDA device; None: the current one.
        time_limit: seconds for one operator, after which it counts as hanging.

    Returns:
        ``key`` (what the verdicts hold for), ``file`` (where they are), and ``operators``: for each a dict of
        ``verdict`` ("ok", "wrong", "raised", "crashed" or "hung"), ``detail``, ``case``, ``speedup`` (over
        PyTorch operations), ``native_s``, ``torch_s`` (seconds) and ``used`` (bool: what ``auto`` takes).

    Raises:
        RuntimeError: there is no CUDA device, or this build's kernels cannot run on it.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("self_check: torch sees no CUDA device here")
    chosen = torch.device("cuda" if device is None else device)
    if chosen.type != "cuda":
        raise ValueError(f"self_check: device: expected a CUDA device, got {chosen}")
    if chosen.index is None:
        chosen = torch.device("cuda", torch.cuda.current_device())
    why_not = backends.unusable(chosen)
    if why_not:
        raise RuntimeError(f"self_check: {why_not}")
    return check_with(CHILD, chosen, list(CUDA_KERNELS), time_limit)


def check_with(
    child: Sequence[str], device: torch.device, names: Sequence[str], time_limit: float, scale: float = 1.0
) -> dict[str, Any]:
    """:func:`self_check` with the command of the child process, for ``names``."""
    key = verdicts.key_of(device)
    found: dict[str, dict[str, Any]] = {}
    left = list(names)
    while left:
        found |= _run_child([*child, str(device), str(scale), *left], left[0], time_limit)
        left = [name for name in left if name not in found]
    for verdict in found.values():
        verdict["used"] = verdicts.good(verdict)
    path = verdicts.save(key, found)
    return {"key": key, "file": str(path), "operators": found}


def _run_child(command: Sequence[str], first: str, time_limit: float) -> dict[str, dict[str, Any]]:
    """Verdicts of one process: of those it has ended with, and of the one that ended it."""
    options: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    lines: queue.Queue[str | None] = queue.Queue()
    last_words: list[str] = []
    readers = [
        threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, last_words.append), daemon=True),
    ]
    for reader in readers:
        reader.start()
    found: dict[str, dict[str, Any]] = {}
    current: str | None = first  # also for a process that ends before it begins
    try:
        while True:
            try:
                line = lines.get(timeout=time_limit)
            except queue.Empty:
                _kill(process)
                if current is not None:
                    found[current] = {"verdict": "hung", "detail": f"not ended after {time_limit:g} s"}
                return found
            if line is None:
                break
            with contextlib.suppress(ValueError, KeyError, TypeError):
                said = json.loads(line)
                current = said.get("begin")
                if "name" in said:
                    found[said.pop("name")] = said
        code = process.wait(timeout=time_limit)
        readers[1].join(timeout=5)
    finally:
        _kill(process)
    if current is not None:
        detail = f"ended with {code}: {''.join(w for w in last_words if w)[-300:].strip()}"
        found[current] = {"verdict": "crashed", "detail": detail}
    return found


def _read(stream: Any, put: Any) -> None:
    for line in stream:
        put(line)
    put(None)


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
